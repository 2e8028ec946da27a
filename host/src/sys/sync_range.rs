//! Writes out the data of one file (sync_file_range(2)), without the file system's journal.

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// Writes out the file's data and waits for it. A write error is returned here.
///
/// # Errors
/// The kernel's error: EIO, ENOSPC; ESPIPE for a file without data of its own.
pub fn write_out(file: impl AsFd) -> Result<(), Errno> {
    const ALL: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open for the whole call, which takes only numbers. A length of 0 means up to
    // the end.
    let done = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, ALL) };
    Errno::result(done).map(drop)
}

/// Starts writing out a part of the file's data, without waiting for it.
///
/// # Errors
/// The kernel's error; ESPIPE for a file without data of its own.
pub fn begin(file: impl AsFd, offset: u64, length: u64) -> Result<(), Errno> {
    let number = |number: u64| libc::off64_t::try_from(number).map_err(|_| Errno::EINVAL);
    let (offset, length) = (number(offset)?, number(length)?);
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the whole call, which takes only numbers.
    let done = unsafe { libc::sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    Errno::result(done).map(drop)
}
