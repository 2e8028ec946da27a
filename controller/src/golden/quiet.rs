//! Ensures that nothing writes to a partition: only then do its bytes belong to one moment.
//!
//! Checked when the plan is made, and again when the partition is read, which may be hours later. The
//! kernel's own counter shows that nothing was written between the first byte and the last.

use ka_host::mountinfo;
use ka_host::sysfs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The possible writers of a partition.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// It is mounted, and neither read-only nor frozen.
    #[error(
        "it is mounted at {at}, and what is written while it is read would make a broken copy: unmount it, or \
         remount it read-only (mount -o remount,ro {at}), or freeze it (fsfreeze -f {at})",
        at = .0.display()
    )]
    Mounted(PathBuf),
    /// It is mounted, and the kernel does not report whether it is frozen.
    #[error("cannot determine whether {at} is frozen: {error}", at = .at.display())]
    Unknown {
        /// The mount point.
        at: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// It is in use as swap.
    #[error("it is in use as swap: copy it as `swap`, or stop that with swapoff")]
    Swap,
    /// Another device is built on it.
    #[error("it is part of {0}, which writes to it")]
    Held(String),
    /// A process holds it exclusively.
    #[error("an unknown program has it open exclusively")]
    Exclusive,
    /// The number of 512-byte sectors that were written while it was read.
    #[error("{0} sectors were written to it while it was read: stop the program that does so, and run again")]
    Written(u64),
    /// It cannot be examined.
    #[error("cannot determine what uses it: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Busy {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A mounted file system must be frozen, or read-only as a whole.
///
/// # Errors
/// It is neither, or its state is unknown.
pub fn check_mounted(
    at: &Path,
    read_only: bool,
    is_frozen: impl Fn(&Path) -> io::Result<bool>,
) -> Result<(), Busy> {
    if read_only {
        return Ok(());
    }
    match is_frozen(at) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Busy::Mounted(at.to_owned())),
        Err(error) => Err(Busy::Unknown { at: at.to_owned(), error }),
    }
}

/// Whether the file system mounted there is frozen.
///
/// # Errors
/// The kernel's error.
pub fn is_frozen(at: &Path) -> io::Result<bool> {
    Ok(ka_host::sys::freeze::is_frozen(&File::open(at)?)?)
}

/// A partition that must not be written to while this is held; [`Quiet::end`] checks that it was not.
#[derive(Debug)]
pub struct Quiet {
    device: PathBuf,
    written: u64,
}

impl Quiet {
    /// Makes sure that nothing can write to the partition with this device node.
    ///
    /// # Errors
    /// The possible writer.
    pub fn begin(device: &Path) -> Result<Self, Busy> {
        check(device)?;
        // Pending data were written earlier, so they are flushed before counting.
        File::open(device)?.sync_all()?;
        Ok(Self { device: device.to_owned(), written: written(device)? })
    }

    /// Makes sure that nothing was written, and that nothing can write now.
    ///
    /// # Errors
    /// Data were written, or may have been.
    pub fn end(self) -> Result<(), Busy> {
        check(&self.device)?;
        match written(&self.device)?.checked_sub(self.written) {
            Some(0) => Ok(()),
            more => Err(Busy::Written(more.unwrap_or_default())),
        }
    }
}

fn check(device: &Path) -> Result<(), Busy> {
    let number = sysfs::block_number(device).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mounts = mountinfo::read()?;
    if let Some(mount) = sysfs::mounts_of(&mounts, number).first() {
        return check_mounted(&mount.mount_point, mount.read_only, is_frozen);
    }
    if sysfs::swaps()?.contains(&number) {
        return Err(Busy::Swap);
    }
    if let Some(by) = sysfs::holders(&sysfs::name_of(number)?)?.into_iter().next() {
        return Err(Busy::Held(by));
    }
    if is_exclusive(device)? { Err(Busy::Exclusive) } else { Ok(()) }
}

/// Whether a process holds a block device exclusively.
///
/// # Errors
/// It cannot be opened at all.
pub fn is_exclusive(device: &Path) -> io::Result<bool> {
    let exclusively = rustix::fs::OFlags::EXCL.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(exclusively).open(device) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Ok(true),
        Err(e) => Err(e),
    }
}

/// The number of sectors ever written to a disk or partition: the seventh figure of its `stat` (the kernel's
/// `Documentation/block/stat.rst`). Writes through the whole disk do not count for a partition.
fn written(device: &Path) -> io::Result<u64> {
    let number = sysfs::block_number(device).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let stat = sysfs::attribute(&sysfs::name_of(number)?, "stat")?;
    let figure = stat.split_whitespace().nth(6).and_then(|figure| figure.parse().ok());
    figure.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("its statistics are `{stat}`")))
}
