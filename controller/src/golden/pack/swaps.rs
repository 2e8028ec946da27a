//! Finds the machine's swap files: their contents are this machine's memory, and irrelevant to a clone.
//!
//! A clone allocates new ones, and needs only their first page.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::PackError;

/// The page that mkswap(8) writes. x86 has no other page size.
pub(super) const PAGE: u64 = 4096;

/// The device number and the inode number.
pub(super) type FileId = (u64, u64);

/// The regular files that this machine swaps to.
pub(super) fn in_use() -> Result<HashSet<FileId>, PackError> {
    let table = Path::new("/proc/swaps");
    let text = match fs::read(table) {
        Ok(text) => text,
        // A kernel without swap support has none.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(e) => {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            return Err(PackError::Source { action: "read", path: table.to_owned(), errno });
        }
    };
    // A file that was removed while in use is not packed either.
    let metadata = files(&text).into_iter().filter_map(|file| fs::metadata(file).ok());
    Ok(metadata.filter(fs::Metadata::is_file).map(|found| (found.dev(), found.ino())).collect())
}

/// The entries of type `file`. Blanks in their names are escaped as in fstab(5).
fn files(table: &[u8]) -> Vec<PathBuf> {
    let entry = |line: &[u8]| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (name, kind) = (words.next()?, words.next()?);
        (kind == b"file").then(|| unescaped(name))
    };
    table.split(|b| *b == b'\n').filter_map(entry).collect()
}

fn unescaped(name: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = b"Filename\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/vda2                               partition\t999420\t\t0\t\t-2\n\
            /swap\\040a                              file\t\t1048572\t\t0\t\t-3\n";
        assert_eq!(files(table), [PathBuf::from("/swap a")]);
        assert!(files(b"Filename Type Size Used Priority\n").is_empty());
    }
}
