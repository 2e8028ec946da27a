//! Why a stream did not reach its destination.

use std::io;
use std::path::PathBuf;

use ka::archive::ArchiveError;
use ka::failure::{Failure, FailureKind};
use ka::proof::Forged;
use ka::seal::StreamId;
use ka::step::Step;
use ka_host::health::Lost;
use ka_host::words;
use ka_net::relay::StreamError;

use crate::unpack::UnpackError;

/// Why the stream did not reach its destination.
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
        /// The system's error.
        error: io::Error,
    },
    /// Two receivers for one destination.
    #[error(
        "another receiver is writing to {} ({} is locked): wait for it, or choose another name",
        path.display(),
        by.display()
    )]
    InUse {
        /// The requested path.
        path: PathBuf,
        /// The path that the other one has locked.
        by: PathBuf,
    },
    /// The file system has lost some of the data.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The medium has not kept what was written.
    #[error("{}: {}", path.display(), words::not_kept(*offset))]
    NotKept {
        /// The file or device.
        path: PathBuf,
        /// The offset of the first difference.
        offset: u64,
    },
    /// The command failed.
    #[error("the command '{command}' failed: {reason}")]
    Command {
        /// The command.
        command: String,
        /// Its exit status.
        reason: String,
    },
}

impl SinkError {
    /// The stream's errors keep their type.
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

    /// The failure for the run's report, with the step and the stream.
    #[must_use]
    pub fn failure(&self, step: Step, stream: StreamId) -> Failure {
        Failure { step, kind: self.kind(), transient: self.is_transient(), stream: Some(stream) }
    }

    fn kind(&self) -> FailureKind {
        let reason = self.to_string();
        match self {
            Self::Stream(StreamError::Aborted(_)) => FailureKind::Aborted { reason },
            Self::Stream(StreamError::Forged(forged)) => FailureKind::Forged(*forged),
            Self::Stream(_) | Self::Unpack(UnpackError::Archive(_)) => FailureKind::Stream { reason },
            Self::Unpack(_) | Self::File { .. } => FailureKind::Disk { reason },
            Self::InUse { .. } => FailureKind::System { reason },
            Self::Lost(_) | Self::NotKept { .. } => FailureKind::NotKept { reason },
            Self::Command { .. } => FailureKind::Tool { reason },
        }
    }

    /// Whether the cause was outside this node.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Stream(StreamError::Aborted(_) | StreamError::Forged(_)))
    }

    /// The offset at which the stream differed from the golden node's, if that is the cause.
    #[must_use]
    pub fn forged(&self) -> Option<Forged> {
        if let Self::Stream(StreamError::Forged(forged)) = self { Some(*forged) } else { None }
    }
}
