//! How many bytes a TCP peer has yet to acknowledge (tcp(7)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// The bytes in a socket's send queue that its peer has not acknowledged yet. The queue shrinks whenever the
/// peer takes something, while a write succeeds only once a good part of the queue is free.
///
/// # Errors
/// The kernel's error: EINVAL for a listening socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has TIOCOUTQ's number, writes one int, and `bytes` lives until the call
    // returns.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// The peer takes 4 KiB at a time: too little for the next write, but still visible.
    #[test]
    fn what_the_peer_takes_leaves_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        assert_eq!(unacknowledged(stream.as_fd()).unwrap(), 0);
        // Until both sides' buffers are full and everything in flight has arrived.
        let (piece, mut same) = (vec![7; 1 << 16], 0);
        while same < 1000 {
            let before = unacknowledged(stream.as_fd()).unwrap();
            let full = stream.write(&piece).is_err();
            same = if full && before == unacknowledged(stream.as_fd()).unwrap() { same + 1 } else { 0 };
        }
        let full = unacknowledged(stream.as_fd()).unwrap();
        assert!(full > 0);
        let mut sip = [0; 4096];
        while unacknowledged(stream.as_fd()).unwrap() >= full {
            peer.read_exact(&mut sip).unwrap();
        }
        assert!(unacknowledged(listener.as_fd()).is_err(), "it only listens");
    }
}
