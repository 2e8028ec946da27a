//! The medium whose writes are ordered: a disk that is written and flushed, or a recording in a test.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A disk to write to. Writes may reach the medium in any order, and are guaranteed to be on it only after
/// the next [`Medium::sync`].
pub(super) trait Medium {
    /// Writes all bytes at an offset.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until everything written is on the medium.
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
