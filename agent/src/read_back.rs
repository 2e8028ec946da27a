//! A sample of the written data, hashed during the write and read back from the medium after the sync.
//!
//! A disk may accept writes, flush, and lose data without reporting it. A process that reads what it has just
//! written gets it from the page cache, so the cache is dropped first. For a stream of up to 16 MiB the
//! sample has nearly everything; in a longer one each piece has the same chance. The sample finds a medium
//! that loses a part of its writes, but not one that has lost a few blocks, and it does not cover the file
//! system's own tables.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use ka::sha256::Sha256;
use rustix::fs::Advice;

/// The maximum size of one read.
pub(crate) const PIECE: usize = 64 << 10;
/// The number of pieces in a sample.
pub(crate) const PIECES: usize = 256;
/// The kernel drops only whole folios, which may be as large as this.
const STRETCH: u64 = 4 << 20;

pub(crate) type Hash = [u8; 32];

/// A sample of the pieces of files `F`.
#[derive(Debug)]
pub(crate) struct Sample<F> {
    kept: Vec<Kept<F>>,
    most: usize,
    seen: u64,
    chance: Chance,
}

/// A piece of a file.
#[derive(Debug)]
pub(crate) struct Kept<F> {
    /// The file.
    pub(crate) file: F,
    /// Its offset.
    pub(crate) offset: u64,
    length: usize,
    hash: Hash,
}

impl<F> Sample<F> {
    /// An empty sample, for this number of pieces.
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, seen: 0, chance: Chance::new() }
    }

    /// Offers bytes that were written to a file at `offset`. All pieces have the same chance. `file` is
    /// called for each piece that is kept, and may decline to be sampled.
    pub(crate) fn offer(&mut self, offset: u64, bytes: &[u8], mut file: impl FnMut() -> Option<F>) {
        let mut at = offset;
        for bytes in bytes.chunks(PIECE) {
            self.seen += 1;
            let place = if self.kept.len() < self.most {
                self.kept.len()
            } else {
                usize::try_from(self.chance.below(self.seen)).unwrap_or(usize::MAX)
            };
            if place < self.most
                && let Some(file) = file()
            {
                let (hash, length) = (Sha256::digest(bytes), bytes.len());
                let new = Kept { file, offset: at, length, hash };
                match self.kept.get_mut(place) {
                    Some(old) => *old = new,
                    None => self.kept.push(new),
                }
            }
            at += bytes.len() as u64;
        }
    }

    /// The pieces in it.
    pub(crate) fn pieces(&self) -> &[Kept<F>] {
        &self.kept
    }
}

impl<F> Kept<F> {
    /// Whether the medium below `file`, which is readable and synced, has this piece.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn is_in(&self, file: &File) -> io::Result<bool> {
        let start = self.offset.saturating_sub(STRETCH);
        let end = self.offset + self.length as u64 + STRETCH;
        // Pages in use stay in memory, which is no worse than before.
        rustix::fs::fadvise(file, start, NonZeroU64::new(end - start), Advice::DontNeed)
            .or_else(|errno| if errno == rustix::io::Errno::SPIPE { Ok(()) } else { Err(errno) })?;
        let mut bytes = vec![0; self.length];
        match file.read_exact_at(&mut bytes, self.offset) {
            Ok(()) => Ok(Sha256::digest(&bytes) == self.hash),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A generator of well-spread numbers, not for secrets (splitmix64).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Seeded from the clock, which is good enough to differ between runs.
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::from(u64::from(now.subsec_nanos()) ^ now.as_secs())
    }

    /// A random number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

impl From<u64> for Chance {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_sample_has_all_of_little_and_some_of_much() {
        let mut sample = Sample::new(10);
        sample.offer(0, &[1; 3 * PIECE + 1], || Some(()));
        assert_eq!(
            sample.pieces().iter().map(|kept| kept.length).collect::<Vec<_>>(),
            [PIECE, PIECE, PIECE, 1]
        );
        for i in 1..1000 {
            sample.offer(i << 20, &[1; PIECE], || Some(()));
        }
        assert_eq!(sample.pieces().len(), 10);
        let late = sample.pieces().iter().filter(|kept| kept.offset > 100 << 20).count();
        assert!(late >= 5, "all have the same chance: {late}");
        sample.offer(0, &[1; 100], || None);
        assert_eq!(sample.pieces().len(), 10);
    }

    #[test]
    fn what_is_other_bytes_or_gone_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        fs::write(&path, &bytes).unwrap();
        let mut sample = Sample::new(PIECES);
        sample.offer(0, &bytes, || Some(()));
        let missing = || {
            let file = File::open(&path).unwrap();
            sample.pieces().iter().filter(|kept| !kept.is_in(&file).unwrap()).count()
        };
        assert_eq!((sample.pieces().len(), missing()), (4, 0));
        let mut other = bytes.clone();
        other[100_000] ^= 1;
        fs::write(&path, &other).unwrap();
        assert_eq!(missing(), 1);
        fs::write(&path, &bytes[..150_000]).unwrap();
        assert_eq!(missing(), 2);
    }
}
