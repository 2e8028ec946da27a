//! What `--file` names and is no regular file: a device, or a pipe. It is written as it is, without another name.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::pipe;
use super::sink::{SinkError, copy};
use crate::relay::StreamReader;

/// Takes the stream to its end.
pub(super) fn receive(path: &Path, kind: &Metadata, stream: &mut StreamReader) -> Result<(), SinkError> {
    let failed = |error| SinkError::File { path: path.to_owned(), error };
    if kind.file_type().is_fifo() {
        return into_pipe(path, stream);
    }
    let mut file = open(path).map_err(failed)?;
    copy(stream, &mut file, failed)?;
    file.sync_all().or_else(not_for_devices).map_err(failed)
}

/// The one place where a device is opened to be written to.
fn open(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// Whoever reads a named pipe must read it to its end: what is still in it when the reader leaves is lost.
fn into_pipe(path: &Path, stream: &mut StreamReader) -> Result<(), SinkError> {
    let failed = |error| SinkError::File { path: path.to_owned(), error };
    // Waits for a reader.
    let file = File::options().write(true).open(path).map_err(failed)?;
    rustix::fs::fcntl_setfl(&file, OFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
    pipe::copy(stream, &file, failed)?;
    pipe::drained(stream, &file, failed, || Ok(false))?;
    stream.prove()?;
    Ok(())
}

/// Pipes and character devices have nothing to sync.
fn not_for_devices(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}
