//! Packs a tree of files into a POSIX pax tar and back.
//!
//! The stream of a session is an ordinary tar, so that any root file system's tarball is a source and any tar
//! can open a capture. It is written in the pax format of POSIX.1-2008 (`pax`, "pax Interchange Format") with
//! the extensions of GNU tar and star: `SCHILY.xattr.*`, `SCHILY.acl.*`, `SCHILY.fflags` and `GNU.sparse.*`
//! 1.0. It reads that, ustar, Version 7 tar, and GNU's own format with long names and sparse files.
//!
//! Project ids have no keyword anywhere; ours are `KA.project`, `KA.extsize` and `KA.cowextsize`.
//!
//! A partition that is copied byte by byte is a regular file with holes and two records of our own:
//! `KA.partition`, its name, and `KA.holes`, the meaning of the holes. Another tar extracts an image file
//! from it.
//!
//! The `tar` crate provides the layout of the header block. Records, negative times, binary-safe attributes
//! and sparse maps are done here, because the crate lacks them.
//!
//! Paths are the archive's bytes; the unpacker decides what is allowed on a file system. Owners are numbers
//! only: a clone has the golden node's user table.

mod acl;
mod block;
mod decode;
mod encode;
mod entry;
mod error;
mod flags;
mod output;
mod pax;
mod report;
mod sparse;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;
pub use entry::{Entry, Kind, RawHoles, RawPartition, Segment, Time, Xattr};
pub use error::ArchiveError;
pub use flags::{Flags, Traits};
pub use output::{Output, Roomy};
pub use report::{Note, Notes, Progress, shown};

/// A tar's unit in bytes: a header is one block, and data is padded to whole blocks.
pub const BLOCK: usize = 512;

/// The maximum size of a pax header in bytes. It must hold an entry's path, link target and extended
/// attributes: the kernel lists 64 KiB of attribute names of at least 7 bytes, and each value may have 64
/// KiB. Memory is used as a header arrives, not as it is announced.
pub const MAX_PAX: usize = 1 << 30;

/// The maximum size of a long name in GNU's format, and of all global headers, in bytes.
pub const MAX_NAME: usize = 1 << 20;

/// The maximum number of data segments in a sparse file's map.
pub const MAX_SEGMENTS: usize = 1 << 20;

/// The maximum size of a file in bytes: the limit of Linux's `off_t`.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// The largest user or group id. The next one means "unchanged" to `chown(2)`.
pub const MAX_ID: u32 = u32::MAX - 1;

/// Parses an unsigned decimal number, digits only.
fn number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
