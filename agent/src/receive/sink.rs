//! The destination of a received stream: a directory, a file, or a command.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ka::notes::Tally;
use ka::sha256::Sha256;
use ka_net::relay::StreamReader;

use super::copy::copy;
use super::error::SinkError;
use super::partial::Partial;
use super::{command, device, directory};
use crate::unpack::{self, Options};

/// The destination of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The stream is a tar archive, unpacked into this directory.
    Dir(PathBuf),
    /// The bytes become this file, which has a temporary name until everything is verified.
    File(PathBuf),
    /// The bytes are the input of this shell command.
    Command(String),
}

impl Sink {
    /// A number by which the controller distinguishes a restarted receiver from another one on the same
    /// machine. It reveals no names.
    #[must_use]
    pub fn place(&self) -> u64 {
        let here = std::env::current_dir().unwrap_or_default();
        let (kind, path) = match self {
            Self::Dir(path) => ("dir", here.join(path)),
            Self::File(path) => ("file", here.join(path)),
            // Only the command knows where it writes; often that is below the working directory.
            Self::Command(command) => (command.as_str(), here),
        };
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update([0]);
        hash.update(path.as_os_str().as_bytes());
        let mut number = [0; 8];
        number.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        // 0 is a machine that becomes a copy itself.
        u64::from_le_bytes(number).max(1)
    }

    /// Reads the stream to its end; [`StreamReader::finish`] reports whether it was complete.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn receive(&self, stream: &mut StreamReader) -> Result<Received, SinkError> {
        match self {
            Self::Dir(path) => {
                let error = |error| SinkError::File { path: path.clone(), error };
                fs::create_dir_all(path).map_err(error)?;
                let _claimed = directory::claim(path)?;
                let options = Options { tolerant: true, ..Options::default() };
                let notes = unpack_into(stream, path, &options)?;
                Ok(Received { notes, file: None })
            }
            Self::File(path) => match path.metadata() {
                Ok(kind) if !kind.is_file() => {
                    device::receive(path, &kind, stream).map(|()| Received::default())
                }
                _ => {
                    let mut file = Partial::create(path)?;
                    let failed = |error| SinkError::File { path: path.clone(), error };
                    copy(stream, failed, |bytes| file.write(bytes))?;
                    Ok(Received { notes: Tally::default(), file: Some(file) })
                }
            },
            Self::Command(command) => command::run(command, stream).map(|()| Received::default()),
        }
    }
}

/// The received data. A file has only its temporary name, and is removed when this is dropped.
#[derive(Debug, Default)]
pub struct Received {
    notes: Tally,
    file: Option<Partial>,
}

impl Received {
    /// Gives the verified data its name; returns the notes.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn settle(self) -> Result<Tally, SinkError> {
        self.file.map_or(Ok(()), Partial::settle)?;
        Ok(self.notes)
    }
}

/// Unpacks the stream's tar archive and returns the notes; [`StreamReader::finish`] reports whether it was
/// complete.
///
/// # Errors
/// [`SinkError`].
pub fn unpack_into(
    stream: &mut StreamReader,
    directory: &Path,
    options: &Options,
) -> Result<Tally, SinkError> {
    let error = |error| SinkError::File { path: directory.to_owned(), error };
    fs::create_dir_all(directory).map_err(error)?;
    let summary =
        stream.ahead(|stream| unpack::unpack(stream, directory, options)).map_err(SinkError::of_unpacking)?;
    summary.notes.log();
    Ok(summary.notes.tally().clone())
}
