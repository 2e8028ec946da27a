//! Where a received stream goes: a directory, a file, or a command.

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
    /// A number by which the controller tells a receiver that is started again from another one on the same machine. It
    /// says nothing of names.
    #[must_use]
    pub fn place(&self) -> u64 {
        let here = std::env::current_dir().unwrap_or_default();
        let (kind, path) = match self {
            Self::Dir(path) => ("dir", here.join(path)),
            Self::File(path) => ("file", here.join(path)),
            // Where a command writes, it alone knows; often below the working directory.
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

    /// Takes the stream to its end; whether it was whole, [`StreamReader::finish`] tells.
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
