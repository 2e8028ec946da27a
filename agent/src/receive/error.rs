//! Why a stream did not get where it should.

use std::io;
use std::path::PathBuf;

use ka::archive::ArchiveError;
use ka::proof::Forged;
use ka_host::health::Lost;
use ka_host::words;
use ka_net::relay::StreamError;

use crate::unpack::UnpackError;

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
    #[error("{}: {}", path.display(), words::of_io(error))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Two receivers for one place.
    #[error(
        "another receiver writes to {} at this moment ({} is locked): wait for it, or give another name",
        path.display(),
        by.display()
    )]
    InUse {
        /// What was asked for.
        path: PathBuf,
        /// What the other one has locked.
        by: PathBuf,
    },
    /// The file system has lost something.
    #[error(transparent)]
    Lost(#[from] Lost),
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
    pub(super) fn of_unpacking(error: UnpackError) -> Self {
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
        matches!(self, Self::Stream(StreamError::Aborted(_) | StreamError::Forged(_)))
    }

    /// Where the stream was not the golden node's, if that is why.
    #[must_use]
    pub fn forged(&self) -> Option<Forged> {
        if let Self::Stream(StreamError::Forged(forged)) = self { Some(*forged) } else { None }
    }
}
