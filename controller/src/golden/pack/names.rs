//! What is in a directory, in the order of its names' bytes.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, RawDir};

/// What is read of a directory at once.
const BUFFER: usize = 64 << 10;

/// Reads directories.
pub(super) struct Listing {
    buffer: Vec<MaybeUninit<u8>>,
}

/// The names in a directory, sorted; one allocation for all.
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Start and length in `bytes`, and what the directory says that it is.
    list: Vec<(usize, usize, FileType)>,
    next: usize,
}

impl Listing {
    pub(super) fn new() -> Self {
        Self { buffer: vec![MaybeUninit::uninit(); BUFFER] }
    }

    /// Reads all names of an open directory.
    pub(super) fn read(&mut self, directory: &OwnedFd) -> rustix::io::Result<Names> {
        let (mut bytes, mut list) = (Vec::new(), Vec::new());
        let mut entries = RawDir::new(directory, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                list.push((bytes.len(), name.len(), entry.file_type()));
                bytes.extend(name);
            }
        }
        let name = |&(start, len, _): &(usize, usize, FileType)| bytes.get(start..start + len);
        list.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
        Ok(Names { bytes, list, next: 0 })
    }
}

impl Names {
    /// Goes on behind `name`, and tells what it is, if it is still to come.
    pub(super) fn skip_to(&mut self, wanted: &[u8]) -> Option<FileType> {
        while let Some((name, kind)) = self.next() {
            match name.cmp(wanted) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(kind),
                std::cmp::Ordering::Greater => {
                    self.next -= 1;
                    break;
                }
            }
        }
        None
    }

    /// The next name, and what it is as far as the directory knows.
    pub(super) fn next(&mut self) -> Option<(&[u8], FileType)> {
        let &(start, len, kind) = self.list.get(self.next)?;
        self.next += 1;
        Some((self.bytes.get(start..start + len)?, kind))
    }
}
