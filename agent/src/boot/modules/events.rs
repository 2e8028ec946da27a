//! Kernel events for new devices, so that no one has to guess how long a bus takes.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The kernel's own events; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;

/// Listens as soon as it is opened.
pub(super) struct Events(Socket);

impl Events {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
        socket.bind(&SocketAddr::new(0, KERNEL_GROUP))?;
        Ok(Self(socket))
    }

    /// Waits until a device with a modalias appears, then drains all pending events. Returns false if none
    /// came within `patience`.
    pub(super) fn wait(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        let mut appeared = false;
        loop {
            let left =
                if appeared { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut ready, Some(&timeout)) {
                Ok(0) => return Ok(appeared),
                Ok(_) => appeared |= self.take()?,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// `ACTION@PATH\0KEY=value\0…`
    fn take(&self) -> io::Result<bool> {
        match self.0.recv_from_full() {
            Ok((event, _)) => Ok(event.starts_with(b"add@")
                && event.split(|&b| b == 0).any(|field| field.starts_with(b"MODALIAS="))),
            // The socket overflowed and events were lost, so look again.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => Ok(true),
            Err(e) => Err(e),
        }
    }
}
