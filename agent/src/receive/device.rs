//! `--file` with a target that is not a regular file: a device or a pipe. It is written in place.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::copy::copy;
use super::error::SinkError;
use super::pipe;
use crate::disk::overwrite;
use crate::read_back::{self, Sample};
use ka_host::sys::block;
use ka_net::relay::StreamReader;

/// How often to check whether a pipe has a reader.
const LOOK: Duration = Duration::from_millis(100);

/// Reads the stream to its end.
pub(super) fn receive(path: &Path, kind: &Metadata, stream: &mut StreamReader) -> Result<(), SinkError> {
    let failed = |error| SinkError::File { path: path.to_owned(), error };
    if kind.file_type().is_fifo() {
        return into_pipe(path, stream);
    }
    let mut file = open(path, kind).map_err(failed)?;
    let is_disk = kind.file_type().is_block_device();
    let (mut length, mut sample) = (0, Sample::new(read_back::PIECES));
    copy(stream, failed, |bytes| {
        file.write_all(bytes)?;
        // No other kind of target stores the data.
        if is_disk {
            sample.offer(length, bytes, || Some(()));
        }
        length += bytes.len() as u64;
        Ok(())
    })?;
    file.sync_all().or_else(not_for_devices).map_err(failed)?;
    if is_disk {
        prove(path, &file, &sample)?;
    }
    Ok(())
}

/// Checks that the device returns what was written to it, after its cache is dropped.
fn prove(path: &Path, file: &File, sample: &Sample<()>) -> Result<(), SinkError> {
    let failed = |error| SinkError::File { path: path.to_owned(), error };
    block::forget(file).map_err(|errno| failed(errno.into()))?;
    for piece in sample.pieces() {
        if !piece.is_in(file).map_err(failed)? {
            return Err(SinkError::NotKept { path: path.to_owned(), offset: piece.offset });
        }
    }
    Ok(())
}

/// The only place where a device is opened for writing. A disk must not be in use.
fn open(path: &Path, kind: &Metadata) -> io::Result<File> {
    if kind.file_type().is_block_device() {
        return overwrite::open(path).map_err(io::Error::other);
    }
    File::options().write(true).open(path)
}

/// Opens a pipe once it has a reader, unless the stream is abandoned before.
fn open_pipe(path: &Path, stream: &StreamReader) -> Result<File, SinkError> {
    let mut options = File::options();
    options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut is_told = false;
    loop {
        match options.open(path) {
            Err(e) if e.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
            outcome => return outcome.map_err(|error| SinkError::File { path: path.to_owned(), error }),
        }
        if let Some(aborted) = stream.aborted() {
            return Err(aborted.into());
        }
        if !is_told {
            log::info!("{}: waiting for a reader of this pipe", path.display());
            is_told = true;
        }
        thread::sleep(LOOK);
    }
}

/// The reader of a named pipe must read it to its end: data left in it when the reader closes is lost.
fn into_pipe(path: &Path, stream: &mut StreamReader) -> Result<(), SinkError> {
    let failed = |error| SinkError::File { path: path.to_owned(), error };
    let file = open_pipe(path, stream)?;
    pipe::copy(stream, &file, failed)?;
    pipe::drained(stream, &file, failed, || Ok(false))?;
    stream.prove()?;
    Ok(())
}

/// Pipes and character devices have nothing to sync.
fn not_for_devices(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}
