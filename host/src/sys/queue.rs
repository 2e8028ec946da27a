//! What a TCP connection's peer has still to acknowledge (tcp(7)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// Bytes in the send queue of a socket: those that its peer has not acknowledged yet. It shrinks whenever the peer takes
/// something, while a write goes on only once a good part of the queue is free.
///
/// # Errors
/// The kernel's: EINVAL for a socket that listens.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has TIOCOUTQ's number, writes one int, and `bytes` lives until the call returns.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(bytes).map_err(io::Error::other)
}
