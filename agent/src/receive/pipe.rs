//! Copies a stream into a pipe, and waits until the reader has really taken it.
//!
//! A write into a pipe succeeds when the bytes are in the kernel. The pipe itself shows whether the last of
//! them are read: how much is in it, and whether it has a reader.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::error::SinkError;
use ka_net::relay::{StreamError, StreamReader};

/// How often to check whether the stream continues while there is no reading.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How often to check whether the rest has been read.
const DRAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// The first poll does not wait.
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// How long a process that still holds the pipe's end, after the command itself has ended, may take for its
/// next read.
const LAST_READ: Duration = Duration::from_secs(10);

/// Copies everything into a writer that may stall; the stream's errors keep their type. An abandoned stream
/// is noticed even while the reader stalls. The writing end must not block.
pub(super) fn copy<W: AsFd>(
    stream: &mut StreamReader,
    to: &W,
    error: impl Fn(io::Error) -> SinkError,
) -> Result<(), SinkError>
where
    for<'a> &'a W: Write,
{
    let mut writer = to;
    loop {
        let written = match stream.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(bytes) => writer.write(bytes),
            Err(e) => {
                return Err(match e.downcast::<StreamError>() {
                    Ok(stream) => stream.into(),
                    Err(e) => error(e),
                });
            }
        };
        match written {
            Ok(length) => stream.consume(length),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if let Some(aborted) = stream.aborted() {
                    return Err(aborted.into());
                }
                wait(to, PollFlags::OUT, &LOOK).map_err(&error)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(error(e)),
        }
    }
}

/// Waits until everything in the pipe is read. `ended` reports whether the expected reader has ended.
pub(super) fn drained<W: AsFd>(
    stream: &StreamReader,
    to: &W,
    error: impl Fn(io::Error) -> SinkError,
    mut ended: impl FnMut() -> io::Result<bool>,
) -> Result<(), SinkError> {
    let (mut before, mut since) = (u64::MAX, Instant::now());
    let mut time = &NOW;
    loop {
        // Checked first: a reader may take the rest and close between the two checks.
        let no_reader = wait(to, PollFlags::empty(), time).map_err(&error)?.contains(PollFlags::ERR);
        let gone = ended().map_err(&error)?;
        let unread = rustix::io::ioctl_fionread(to).map_err(|e| error(e.into()))?;
        if unread == 0 {
            return Ok(());
        }
        if unread != before {
            (before, since) = (unread, Instant::now());
        }
        if no_reader || gone && since.elapsed() > LAST_READ {
            let what = format!("it did not read the last {unread} bytes");
            return Err(error(io::Error::new(io::ErrorKind::BrokenPipe, what)));
        }
        if let Some(aborted) = stream.aborted() {
            return Err(aborted.into());
        }
        time = &DRAIN;
    }
}

fn wait(to: &impl AsFd, events: PollFlags, time: &Timespec) -> io::Result<PollFlags> {
    let mut waits = [PollFd::from_borrowed_fd(to.as_fd(), events)];
    match poll(&mut waits, Some(time)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(PollFlags::empty()),
        Err(e) => return Err(e.into()),
    }
    let [waited] = waits;
    Ok(waited.revents())
}
