//! The node's log for one viewer. The file is the queue: a slow viewer reads it later, and loses nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ka::wire::console::MAX_PIECE;

/// A viewer's position in the log.
pub(super) struct LogTail {
    file: File,
    offset: u64,
    /// The viewer also wants lines that are not yet written.
    pub(super) follow: bool,
}

impl LogTail {
    /// The last `last` bytes of the log, starting at the beginning of a line.
    pub(super) fn open(path: &Path, last: Option<u64>, follow: bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut tail = Self { file, offset: length.saturating_sub(last.unwrap_or(length)), follow };
        if tail.offset > 0 {
            tail.skip_to_line()?;
        }
        Ok(tail)
    }

    /// The rest of a line without its beginning is useless.
    fn skip_to_line(&mut self) -> io::Result<()> {
        self.offset -= 1;
        while let Some(piece) = self.piece()? {
            if let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
                self.offset -= (piece.len() - end - 1) as u64;
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next piece, if there is one.
    pub(super) fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; MAX_PIECE];
        let length = self.file.read_at(&mut bytes, self.offset)?;
        bytes.truncate(length);
        self.offset += length as u64;
        Ok((length > 0).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_tail_begins_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(LogTail::open(&path, None, false).is_err());
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        for (last, expected) in [
            (None, Some("one\ntwo\nthree\n")),
            (Some(0), None),
            (Some(6), Some("three\n")),
            (Some(7), Some("three\n")),
            (Some(10), Some("two\nthree\n")),
            (Some(99), Some("one\ntwo\nthree\n")),
        ] {
            let mut tail = LogTail::open(&path, last, false).unwrap();
            assert_eq!(tail.piece().unwrap().as_deref(), expected.map(str::as_bytes), "{last:?}");
            assert_eq!(tail.piece().unwrap(), None);
        }
        let mut tail = LogTail::open(&path, Some(0), true).unwrap();
        assert_eq!(tail.piece().unwrap(), None);
        File::options().append(true).open(&path).unwrap().write_all(b"four\n").unwrap();
        assert_eq!(tail.piece().unwrap().as_deref(), Some(&b"four\n"[..]));
    }
}
