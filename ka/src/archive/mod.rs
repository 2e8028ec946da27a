//! The rules by which a tree of files becomes a POSIX pax tar, and a tar a tree.
//!
//! The stream of a session is an ordinary tar, so that any root file system's tarball is a source and
//! any tar can open what was captured. Written is the pax format of POSIX.1-2008 (`pax`, "pax
//! Interchange Format") with the records by which GNU tar and star extend it: `SCHILY.xattr.*`,
//! `SCHILY.acl.*`, `SCHILY.fflags` and `GNU.sparse.*` 1.0. Read is that, ustar, the tar of Version 7, and GNU's own
//! format with its long names and its sparse files.
//!
//! Projects have no keyword anywhere; ours are `KA.project`, `KA.extsize` and `KA.cowextsize`.
//!
//! A partition that is copied byte by byte is a regular file with holes and two records of our own
//! (`KA.partition`, its name, and `KA.holes`, what the holes are). Another tar makes an image file of it.
//!
//! The `tar` crate knows the header block's layout and is used for it. Records, negative times,
//! binary-safe attributes and sparse maps are done here, because it lacks them.
//!
//! Paths are bytes as they are in the archive; what they may be on a file system is decided by who
//! unpacks them. Owners are numbers only: a clone has the golden node's own user table.

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

/// A tar's unit in bytes: headers are one block, data is padded to whole blocks.
pub const BLOCK: usize = 512;

/// The largest pax header in bytes. An entry's path, link target and extended attributes together must fit: the kernel
/// lists 64 KiB of attributes' names, of 7 bytes at least, and each may have 64 KiB. A header takes memory as it comes,
/// not as it is announced.
pub const MAX_PAX: usize = 1 << 30;

/// The largest long name of GNU's format, and the most that global headers may say, in bytes.
pub const MAX_NAME: usize = 1 << 20;

/// The most data segments that a sparse file's map may have.
pub const MAX_SEGMENTS: usize = 1 << 20;

/// The largest file in bytes: what Linux's `off_t` can say.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// The largest number of an owner or group. The one above it means "nobody" to `chown(2)`.
pub const MAX_ID: u32 = u32::MAX - 1;

/// Reads an unsigned decimal number, digits only.
fn number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
