//! The last check before a disk is made bootable: does the medium return what was written?
//!
//! A disk may accept writes, flush, and lose data without an error. A sample of every file system is
//! therefore hashed while it is mounted, mostly from the page cache. The file system is then unmounted, the
//! cache is dropped, and the same data is read again. The sample has all boot files up to a limit and, of
//! randomly chosen other files, the beginning, the end and a piece in between. It shows that the disk is not
//! a bad one; it does not verify every byte.

use super::error::DiskError;
use super::mkfs;
use super::{MadeFileSystem, RawPartition};
use crate::read_back::{Chance, Hash};
use crate::step::goes_on;
use ka::sha256::Sha256;
use ka_host::sys::block;
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The number of randomly chosen files in a file system's sample.
const FILES: usize = 256;
/// How much of such a file is read in each of three places.
const PIECE: u64 = 64 << 10;
/// The limit on boot files in a file system's sample, in bytes.
const BOOT_BYTES: u64 = 256 << 20;
/// The number of pieces in the sample of a partition that was copied byte by byte.
const RAW_PIECES: u64 = 64;

/// A byte range of a file or a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    length: u64,
    hash: Hash,
}

/// A file in a sample, by its path below the file system's mount point.
#[derive(Clone, Debug)]
struct Sampled {
    path: PathBuf,
    size: u64,
    pieces: Vec<Piece>,
}

/// The sample of a file system, taken while it was mounted.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    files: Vec<Sampled>,
}

impl Sample {
    /// Hashes a sample of the file system mounted at `at`, which the clone sees at `point`.
    pub(super) fn take(at: &Path, point: &Path, chance: Chance) -> Result<Self, DiskError> {
        let mut chosen = Chosen { boot: Vec::new(), room: BOOT_BYTES, others: Vec::new(), seen: 0, chance };
        let device = fs::metadata(at).map_err(|e| DiskError::io(at, "look at it", e))?.dev();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            let mut list = || -> io::Result<()> {
                for entry in fs::read_dir(at.join(&directory))? {
                    let entry = entry?;
                    let metadata = entry.metadata()?;
                    let path = directory.join(entry.file_name());
                    if metadata.is_dir() && metadata.dev() == device {
                        directories.push(path);
                    } else if metadata.is_file() && metadata.len() > 0 {
                        chosen.offer(path, metadata.len(), point);
                    }
                }
                Ok(())
            };
            match list() {
                // Too deep for a path: random choice finds other files.
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()) => {}
                listed => {
                    listed.map_err(|e| DiskError::io(at.join(&directory), "list it", e))?;
                }
            }
        }
        chosen.hash(at)
    }

    /// Reads the same sample from the file system now mounted at `at`.
    pub(super) fn compare(&self, at: &Path, device: &Path) -> Result<(), DiskError> {
        for Sampled { path, size, pieces } in &self.files {
            let lost = |what: String| DiskError::NotKept {
                device: device.to_owned(),
                what: format!("{}: {what}", Path::new("/").join(path).display()),
            };
            let read = || -> io::Result<Option<String>> {
                let file = open(&at.join(path))?;
                let now = file.metadata()?.len();
                if now != *size {
                    return Ok(Some(format!("it had {size} bytes, and has {now}")));
                }
                Ok(differing(&file, pieces)?.map(|offset| format!("other bytes from offset {offset} on")))
            };
            match read() {
                Ok(None) => {}
                Ok(Some(what)) => return Err(lost(what)),
                Err(error) => return Err(lost(ka_host::words::of_io(&error))),
            }
        }
        Ok(())
    }

    /// The number of files in it.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
}

/// The files of a sample.
struct Chosen {
    boot: Vec<(PathBuf, u64)>,
    room: u64,
    others: Vec<(PathBuf, u64)>,
    seen: u64,
    chance: Chance,
}

impl Chosen {
    /// Every file has the same chance of being chosen, however many there are.
    fn offer(&mut self, path: PathBuf, size: u64, point: &Path) {
        if point.join(&path).starts_with("/boot") && size <= self.room {
            self.room -= size;
            self.boot.push((path, size));
            return;
        }
        self.seen += 1;
        if self.others.len() < FILES {
            self.others.push((path, size));
            return;
        }
        let place = usize::try_from(self.chance.below(self.seen)).unwrap_or(usize::MAX);
        if let Some(chosen) = self.others.get_mut(place) {
            *chosen = (path, size);
        }
    }

    fn hash(mut self, at: &Path) -> Result<Sample, DiskError> {
        let whole = self.boot.into_iter().map(|(path, size)| (path, size, vec![(0, size)]));
        let chance = &mut self.chance;
        let parts = self.others.into_iter().map(|(path, size)| {
            let last = size.saturating_sub(PIECE);
            let places = [0, chance.below(last + 1), last].map(|offset| (offset, PIECE.min(size - offset)));
            (path, size, if last == 0 { vec![(0, size)] } else { places.to_vec() })
        });
        let mut files = Vec::new();
        for (path, size, places) in whole.chain(parts) {
            let full = at.join(&path);
            let pieces = open(&full)
                .and_then(|file| hashed(&file, &places))
                .map_err(|e| DiskError::io(full, "read it", e))?;
            files.push(Sampled { path, size, pieces });
        }
        Ok(Sample { files })
    }
}

/// A sample of a partition that was copied byte by byte, from the page cache. The medium is read later.
pub(super) fn raw(raw: &RawPartition) -> Result<(), DiskError> {
    let failed = |doing| move |e: io::Error| DiskError::io(&raw.device, doing, e);
    let mut chance = Chance::new();
    let last = raw.size.saturating_sub(PIECE);
    let by_chance = (0..RAW_PIECES).map(|_| chance.below(last + 1));
    let places: Vec<_> =
        [0, last].into_iter().chain(by_chance).map(|at| (at, PIECE.min(raw.size - at))).collect();
    let pieces = hashed(&raw.file, &places).map_err(failed("read it"))?;
    block::forget(&raw.file).map_err(|e| failed("read it back")(e.into()))?;
    match differing(&raw.file, &pieces).map_err(failed("read it back"))? {
        None => Ok(()),
        Some(offset) => {
            let what = format!("other bytes from offset {offset} on");
            Err(DiskError::NotKept { device: raw.device.clone(), what })
        }
    }
}

/// Checks that the medium has the superblock that was created.
pub(super) fn superblock(made: &MadeFileSystem) -> Result<(), DiskError> {
    goes_on(format_args!("read back {}", made.device.display()));
    forget(&made.device)?;
    let found = mkfs::superblock::read(made.plan.kind, &made.device)
        .map_err(|e| DiskError::io(&made.device, "read its superblock back", e))?;
    match found {
        Some(found) if found.uuid.eq_ignore_ascii_case(&made.uuid) => Ok(()),
        other => {
            let there = other.map_or_else(|| "none".to_owned(), |found| format!("one of {}", found.uuid));
            let what = format!("the superblock of {} was written, and {there} is there", made.uuid);
            Err(DiskError::NotKept { device: made.device.clone(), what })
        }
    }
}

/// Drops a partition's page cache.
pub(super) fn forget(device: &Path) -> Result<(), DiskError> {
    let failed = |e: io::Error| DiskError::io(device, "let the kernel forget what it has read of it", e);
    let file = File::open(device).map_err(failed)?;
    block::forget(&file).map_err(|e| failed(e.into()))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOATIME;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn hashed(file: &File, places: &[(u64, u64)]) -> io::Result<Vec<Piece>> {
    let piece = |&(offset, length)| Ok(Piece { offset, length, hash: hash(file, offset, length)? });
    places.iter().map(piece).collect()
}

/// The offset of the first piece whose bytes have changed.
fn differing(file: &File, pieces: &[Piece]) -> io::Result<Option<u64>> {
    for piece in pieces {
        if hash(file, piece.offset, piece.length)? != piece.hash {
            return Ok(Some(piece.offset));
        }
    }
    Ok(None)
}

fn hash(file: &File, mut offset: u64, mut length: u64) -> io::Result<Hash> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; usize::try_from(PIECE).unwrap_or(usize::MAX)];
    while length > 0 {
        let want = usize::try_from(length).map_or(buffer.len(), |length| length.min(buffer.len()));
        let buffer = buffer.get_mut(..want).unwrap_or_default();
        file.read_exact_at(buffer, offset)?;
        hash.update(&*buffer);
        (offset, length) = (offset + want as u64, length - want as u64);
    }
    Ok(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_found() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        fs::create_dir_all(at("boot/grub")).unwrap();
        fs::write(at("boot/grub/core"), vec![7; 1 << 20]).unwrap();
        fs::write(at("large"), vec![1; 1 << 20]).unwrap();
        fs::write(at("small"), "x").unwrap();
        fs::write(at("empty"), "").unwrap();
        std::os::unix::fs::symlink("small", at("link")).unwrap();
        let sample = Sample::take(tree.path(), Path::new("/"), Chance::from(1)).unwrap();
        assert_eq!(sample.len(), 3);
        let compare = || sample.compare(tree.path(), Path::new("/dev/sdz1"));
        compare().unwrap();
        let lose = |path: &str, offset: u64, bytes: &[u8]| {
            let file = OpenOptions::new().write(true).open(at(path)).unwrap();
            let mut before = vec![0; bytes.len()];
            File::open(at(path)).unwrap().read_exact_at(&mut before, offset).unwrap();
            file.write_all_at(bytes, offset).unwrap();
            let error = compare().unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("/dev/sdz1"), "{error}");
            file.write_all_at(&before, offset).unwrap();
            compare().unwrap();
        };
        lose("boot/grub/core", 500_000, &[0]);
        lose("large", (1 << 20) - 10, &[0; 10]);
        lose("small", 0, b"y");
        fs::write(at("small"), "").unwrap();
        assert!(compare().unwrap_err().to_string().contains("it had 1 bytes, and has 0"));
    }
}
