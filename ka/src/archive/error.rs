//! What can be wrong with an archive, and where.

use std::io;

/// Why an archive cannot be read or written any further. Offsets are bytes from the start of the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The stream ended before the archive did.
    #[error("the archive is cut off at byte {offset}, in {inside}")]
    Truncated {
        /// Where it ended.
        offset: u64,
        /// What was being read: the entry's name, or the part of the archive.
        inside: String,
    },
    /// The bytes are not a tar, or contain an impossible value.
    #[error("byte {offset} of the archive, {entry}: {problem}")]
    Malformed {
        /// The offset of the header, or how far the data was read.
        offset: u64,
        /// The entry's name, or the part of the archive.
        entry: String,
        /// The problem.
        problem: String,
    },
    /// Something follows the end of the archive.
    #[error("byte {offset} of the archive: data after its end")]
    Trailing {
        /// Its offset.
        offset: u64,
    },
    /// The entry cannot be archived as it is given.
    #[error("{entry} does not fit into an archive: {problem}")]
    Unfit {
        /// The entry's name.
        entry: String,
        /// The problem.
        problem: String,
    },
    /// The stream cannot be read.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// How far it was read.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The stream cannot be written.
    #[error("cannot write the archive at byte {offset}")]
    Write {
        /// How far it was written.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
}
