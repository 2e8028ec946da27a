//! What the order of writes is about: a disk that is written and flushed, or a record of it in a test.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A disk to write to. What is written is on the medium for sure after the next [`Medium::sync`] only, and until then
/// in any order.
pub(super) trait Medium {
    /// Writes all bytes at an offset.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until all that was written is on the medium.
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
