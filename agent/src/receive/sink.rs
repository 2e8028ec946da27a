//! Where a received stream goes: a directory, a file, or a command.

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ka::archive::ArchiveError;

use super::command;
use crate::disk::overwrite;
use crate::relay::{StreamError, StreamReader};
use crate::unpack::{self, Options, UnpackError};

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

/// Why the stream did not get where it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The stream itself.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Unpacking.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The file.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The command.
    #[error("the command '{command}' failed: {reason}")]
    Command {
        /// The command.
        command: String,
        /// How.
        reason: String,
    },
}

impl SinkError {
    /// The stream's errors stay the stream's.
    fn of_unpacking(error: UnpackError) -> Self {
        match error {
            UnpackError::Archive(ArchiveError::Read { offset, source }) => {
                match source.downcast::<StreamError>() {
                    Ok(stream) => stream.into(),
                    Err(source) => UnpackError::Archive(ArchiveError::Read { offset, source }).into(),
                }
            }
            error => error.into(),
        }
    }

    /// Whether the cause was not this node's own.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Stream(StreamError::Aborted(_)))
    }
}

impl Sink {
    /// Takes the stream to its end; whether it was whole, [`StreamReader::finish`] tells.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn receive(&self, stream: &mut StreamReader) -> Result<(), SinkError> {
        match self {
            Self::Dir(directory) => unpack_into(stream, directory, &Options::default()),
            Self::File(path) => {
                let error = |error| SinkError::File { path: path.clone(), error };
                let mut file = create(path).map_err(error)?;
                copy(stream, &mut file, error)?;
                file.sync_all().or_else(not_for_devices).map_err(error)
            }
            Self::Command(command) => command::run(command, stream),
        }
    }

    /// Gives the data its name, now that it is proven.
    pub(super) fn settle(&self) -> Result<(), SinkError> {
        match self {
            Self::File(path) if partial(path) != *path => fs::rename(partial(path), path)
                .and_then(|()| sync_directory(path))
                .map_err(|error| SinkError::File { path: path.clone(), error }),
            _ => Ok(()),
        }
    }

    /// Removes what has no name yet.
    pub(super) fn discard(&self) {
        if let Self::File(path) = self
            && partial(path) != *path
            && let Err(error) = fs::remove_file(partial(path))
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}", partial(path).display());
        }
    }
}

/// Unpacks the stream's tar; whether it was whole, [`StreamReader::finish`] tells.
///
/// # Errors
/// [`SinkError`].
pub fn unpack_into(stream: &mut StreamReader, directory: &Path, options: &Options) -> Result<(), SinkError> {
    let error = |error| SinkError::File { path: directory.to_owned(), error };
    fs::create_dir_all(directory).map_err(error)?;
    let summary =
        stream.ahead(|stream| unpack::unpack(stream, directory, options)).map_err(SinkError::of_unpacking)?;
    summary.notes.log();
    Ok(())
}

/// The name until all is proven; devices and pipes are written as they are.
fn partial(path: &Path) -> PathBuf {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".ka-partial");
    name.into()
}

/// Creates the partial file, with the mode of the one whose place it will take.
fn create(path: &Path) -> io::Result<File> {
    let old = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    if old.as_ref().is_some_and(|old| old.file_type().is_block_device()) {
        return overwrite::open(path).map_err(io::Error::other);
    }
    let partial = partial(path);
    if partial == path {
        return File::create(path);
    }
    // One that an earlier attempt has left may have another mode.
    match fs::remove_file(&partial) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let Some(old) = old else { return File::create(partial) };
    // Nobody reads it before it has the right mode.
    let file = File::options().write(true).create_new(true).mode(0o600).open(partial)?;
    file.set_permissions(old.permissions())?;
    Ok(file)
}

/// The new name is on the disk when this is (fsync(2)).
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all().or_else(not_for_devices)
}

/// Pipes and character devices have nothing to sync.
fn not_for_devices(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}

/// Copies all; the stream's errors stay the stream's.
fn copy(
    stream: &mut StreamReader,
    to: &mut impl Write,
    error: impl Fn(io::Error) -> SinkError,
) -> Result<(), SinkError> {
    loop {
        let bytes = match stream.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(bytes) => bytes,
            Err(e) => {
                return Err(match e.downcast::<StreamError>() {
                    Ok(stream) => stream.into(),
                    Err(e) => error(e),
                });
            }
        };
        to.write_all(bytes).map_err(&error)?;
        let length = bytes.len();
        stream.consume(length);
    }
}
