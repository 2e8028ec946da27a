//! What can be wrong with an archive, and where.

use std::io;

/// An archive that cannot be read or written any further. Offsets are bytes from the stream's start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The stream ended before the archive did.
    #[error("the archive is cut off at byte {offset}, in {inside}")]
    Truncated {
        /// Where it ended.
        offset: u64,
        /// What was being read: an entry's name, or the part of the archive.
        inside: String,
    },
    /// The bytes are not a tar, or say something that cannot be.
    #[error("byte {offset} of the archive, {entry}: {problem}")]
    Malformed {
        /// Where the header begins, or how far the data was read.
        offset: u64,
        /// The entry's name, or the part of the archive.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// Something follows the end of the archive.
    #[error("byte {offset} of the archive: data after its end")]
    Trailing {
        /// Where it is.
        offset: u64,
    },
    /// The entry cannot be written as it is given.
    #[error("{entry} does not fit into an archive: {problem}")]
    Unfit {
        /// The entry's name.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// The stream could not be read.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// How far it was read.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The stream could not be written.
    #[error("cannot write the archive at byte {offset}")]
    Write {
        /// How far it was written.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}
