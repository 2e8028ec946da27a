//! Whether nobody writes to a partition: only then its bytes are those of one moment.
//!
//! Asked when the plan is made, and again when the partition is read, which may be hours later. That nothing was
//! written in between the first byte and the last is told by the kernel's own count.

use ka_host::mountinfo;
use ka_host::sysfs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Who may write to a partition.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// It is mounted, and neither read-only nor frozen.
    #[error(
        "it is mounted at {at}, and what is written while it is read would make a broken copy: unmount it, or \
         remount it read-only (mount -o remount,ro {at}), or freeze it (fsfreeze -f {at})",
        at = .0.display()
    )]
    Mounted(PathBuf),
    /// It is mounted, and the kernel doesn't say whether it is frozen.
    #[error("whether {at} is frozen cannot be told: {error}", at = .at.display())]
    Unknown {
        /// Where it is mounted.
        at: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// It is swapped to.
    #[error("it is swapped to: copy it as `swap`, or end that with swapoff")]
    Swap,
    /// Another device is made of it.
    #[error("it is part of {0}, which writes to it")]
    Held(String),
    /// Somebody has it for himself.
    #[error("an unknown program has it open exclusively")]
    Exclusive,
    /// Sectors of 512 bytes that were written while it was read.
    #[error("{0} sectors were written to it while it was read: stop whoever does that, and run again")]
    Written(u64),
    /// It cannot be looked at.
    #[error("who uses it cannot be told: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Busy {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What is mounted must be frozen, or read-only as a whole.
///
/// # Errors
/// It is neither, or that cannot be told.
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

/// Whether the file system that is mounted there is frozen.
///
/// # Errors
/// What the kernel says.
pub fn is_frozen(at: &Path) -> io::Result<bool> {
    Ok(ka_host::sys::freeze::is_frozen(&File::open(at)?)?)
}

/// A partition that nobody writes to while this is held; [`Quiet::end`] tells whether that was so.
#[derive(Debug)]
pub struct Quiet {
    device: PathBuf,
    written: u64,
}

impl Quiet {
    /// Makes sure that nobody writes to the partition with this device node.
    ///
    /// # Errors
    /// Who may.
    pub fn begin(device: &Path) -> Result<Self, Busy> {
        check(device)?;
        // What is still on its way to it was written before.
        File::open(device)?.sync_all()?;
        Ok(Self { device: device.to_owned(), written: written(device)? })
    }

    /// Makes sure that nobody has, and still nobody may.
    ///
    /// # Errors
    /// Somebody has written, or may have.
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

/// Whether somebody has a block device for himself.
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

/// Sectors that were ever written to a disk or partition: the seventh figure of its `stat`
/// (the kernel's `Documentation/block/stat.rst`). Writes by way of the whole disk don't count for a partition.
fn written(device: &Path) -> io::Result<u64> {
    let number = sysfs::block_number(device).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let stat = sysfs::attribute(&sysfs::name_of(number)?, "stat")?;
    let figure = stat.split_whitespace().nth(6).and_then(|figure| figure.parse().ok());
    figure.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("its statistics are `{stat}`")))
}
