//! Golden partitions in an archive, whose bytes go to the node's own partitions.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use ka::archive::{Decoder, Entry, Kind, RawHoles, RawPartition, Segment};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::UnpackError;
use super::write_out::WriteOut;
use super::writers::{NewFile, Writers};

/// The number of zeros per write, where the device has no faster way.
const ZEROS: usize = 256 << 10;

/// A partition of this node that waits for a golden partition's bytes.
#[derive(Clone, Debug)]
pub struct Partition {
    /// The golden partition's name.
    pub name: String,
    /// The node's device, for messages.
    pub device: PathBuf,
    /// The device, open for writing.
    pub file: Arc<File>,
    /// Its size in bytes. Space beyond the golden partition's size is not changed.
    pub size: u64,
}

impl Partition {
    /// Waits until everything is on disk.
    pub(super) fn sync(&self) -> Result<(), UnpackError> {
        rustix::fs::fsync(&self.file).map_err(|errno| self.system("sync", errno))
    }

    fn system(&self, action: &'static str, errno: Errno) -> UnpackError {
        UnpackError::system(action, self.device.as_os_str().as_bytes(), errno)
    }
}

/// The partitions that an archive must contain.
pub(super) struct Partitions<'a> {
    wanted: &'a [Partition],
    came: BTreeSet<String>,
}

impl<'a> Partitions<'a> {
    pub(super) fn new(wanted: &'a [Partition]) -> Self {
        Self { wanted, came: BTreeSet::new() }
    }

    /// Writes an entry that holds a partition.
    pub(super) fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        golden: &RawPartition,
        decoder: &mut Decoder<R>,
        writers: &mut Writers<'_>,
    ) -> Result<(), UnpackError> {
        let name = &golden.name;
        let found = self.wanted.iter().find(|partition| partition.name == *name);
        let to = found.ok_or_else(|| {
            UnpackError::Partitions(format!(
                "the archive contains the golden partition {name}, which is not in the plan"
            ))
        })?;
        if !self.came.insert(name.clone()) {
            return Err(UnpackError::Partitions(format!(
                "the archive contains the golden partition {name} twice"
            )));
        }
        // The decoder accepts nothing else for a partition.
        let Kind::File { size, segments } = &entry.kind else { return Ok(()) };
        if *size > to.size {
            let (device, room) = (to.device.clone(), to.size);
            return Err(UnpackError::PartitionSize { name: name.clone(), size: *size, device, room });
        }
        let fd =
            to.file.as_fd().try_clone_to_owned().map_err(|error| {
                to.system("open again", Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
            })?;
        let path = to.device.as_os_str().as_bytes().to_vec();
        let file = Arc::new(NewFile { fd, path, attributes: None, sync: WriteOut::Not, sampled: false });
        let whole = [Segment { offset: 0, len: *size }];
        let mut end = 0;
        for &Segment { offset, len } in segments.as_deref().unwrap_or(&whole) {
            hole(to, golden.holes, end, offset)?;
            writers.data(&file, offset, len, |buffer| decoder.read_data(buffer))?;
            end = offset + len;
        }
        hole(to, golden.holes, end, *size)?;
        writers.end(file)
    }

    /// Checks that no planned partition is missing.
    pub(super) fn all_came(&self) -> Result<(), UnpackError> {
        match self.wanted.iter().find(|partition| !self.came.contains(&partition.name)) {
            None => Ok(()),
            Some(Partition { name, .. }) => Err(UnpackError::Partitions(format!(
                "the archive does not contain the golden partition {name}"
            ))),
        }
    }
}

/// Makes the range from `start` to `end` read as zeros.
fn hole(to: &Partition, holes: RawHoles, start: u64, end: u64) -> Result<(), UnpackError> {
    if holes == RawHoles::Unused || start >= end {
        return Ok(());
    }
    zero(to.file.as_fd(), start, end).map_err(|errno| to.system("zero a part of", errno))
}

fn zero(fd: BorrowedFd<'_>, start: u64, end: u64) -> rustix::io::Result<()> {
    // On a block device, the first is a discard that guarantees zeros, the second leaves the writing to the
    // disk.
    for way in [FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, FallocateFlags::ZERO_RANGE] {
        match rustix::fs::fallocate(fd, way, start, end - start) {
            // Not supported here, or not for a range that is not aligned to the device's sectors.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::NODEV) => {}
            done => return done,
        }
    }
    let zeros = vec![0; ZEROS];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).map_or(ZEROS, |left| left.min(ZEROS));
        match rustix::io::pwrite(fd, zeros.get(..want).unwrap_or_default(), at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
