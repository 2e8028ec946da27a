//! Writing out the data of one file (sync_file_range(2)), without its file system's journal.

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// Writes the file's data out and waits for it; what went wrong is an error here.
///
/// # Errors
/// What the kernel says: EIO, ENOSPC; ESPIPE for what has no data of its own.
pub fn write_out(file: impl AsFd) -> Result<(), Errno> {
    const ALL: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open for the whole call, which takes numbers only; 0 bytes are all to the end.
    let done = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, ALL) };
    Errno::result(done).map(drop)
}
