//! Where a received stream goes: a directory, a file, or a command.

use std::fs;
use std::path::{Path, PathBuf};

use ka::notes::Tally;
use ka_net::relay::StreamReader;

use super::copy::copy;
use super::error::SinkError;
use super::partial::{self, Partial};
use super::{command, device};
use crate::unpack::{self, Options};

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A tar is unpacked into this directory.
    Dir(PathBuf),
    /// The bytes become this file; they have a name of their own until all are proven.
    File(PathBuf),
    /// The bytes are the input of this shell command.
    Command(String),
}

impl Sink {
    /// Takes the stream to its end; whether it was whole, [`StreamReader::finish`] tells.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn receive(&self, stream: &mut StreamReader) -> Result<Received, SinkError> {
        match self {
            Self::Dir(directory) => {
                let error = |error| SinkError::File { path: directory.clone(), error };
                fs::create_dir_all(directory).map_err(error)?;
                let _lock = partial::lock_directory(directory)?;
                let options = Options { tolerant: true, ..Options::default() };
                let notes = unpack_into(stream, directory, &options)?;
                Ok(Received { notes, file: None })
            }
            Self::File(path) => match path.metadata() {
                Ok(kind) if !kind.is_file() => {
                    device::receive(path, &kind, stream).map(|()| Received::default())
                }
                _ => {
                    let mut file = Partial::create(path)?;
                    copy(stream, file.file(), |error| SinkError::File { path: path.clone(), error })?;
                    Ok(Received { notes: Tally::default(), file: Some(file) })
                }
            },
            Self::Command(command) => command::run(command, stream).map(|()| Received::default()),
        }
    }
}

/// What was received. A file has no name yet, and is removed when this is dropped.
#[derive(Debug, Default)]
pub struct Received {
    notes: Tally,
    file: Option<Partial>,
}

impl Received {
    /// Gives the data its name, now that it is proven; returns what was noted.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn settle(self) -> Result<Tally, SinkError> {
        self.file.map_or(Ok(()), Partial::settle)?;
        Ok(self.notes)
    }
}

/// Unpacks the stream's tar and returns what was noted; whether it was whole, [`StreamReader::finish`] tells.
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
