//! Compresses chunks on several threads, each at the level that is current when its compression starts.
//!
//! Incompressible chunks are sent unchanged, from the memory into which they were read. On a fast line, a
//! sample detects them: compressing random bytes costs more than all other work on them, for no gain.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ka::seal::chunk::{Kind, MAX_CHUNK};
use ka::seal::{Bytes, Pool};

use super::level::{FIRST, NONE};

/// The fraction of a chunk that is sampled, in pieces of this many bytes, with at least two pieces.
const SAMPLED: usize = 64;
const PIECE: usize = 4096;
/// A chunk that saves less than this fraction of its size is sent unchanged: it would cost the nodes more
/// than it saves on the line.
const WORTH: usize = 64;

/// A part of the uncompressed stream, in recycled memory.
#[derive(Default)]
pub(super) struct Uncompressed {
    pub(super) bytes: Bytes,
    /// The number of bytes used.
    pub(super) length: usize,
}

impl Uncompressed {
    pub(super) fn used(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A chunk as it is stored.
pub(super) enum Stored {
    Uncompressed(Arc<Uncompressed>),
    /// Compressed, with the original length.
    Packed(Bytes, usize),
}

impl Stored {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Uncompressed(_) => Kind::Uncompressed,
            Self::Packed(..) => Kind::Zstd,
        }
    }

    pub(super) fn uncompressed_length(&self) -> usize {
        match self {
            Self::Uncompressed(uncompressed) => uncompressed.length,
            Self::Packed(_, length) => *length,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Uncompressed(uncompressed) => uncompressed.used(),
            Self::Packed(bytes, _) => bytes,
        }
    }
}

/// The state shared by the compressors and the sealer.
pub(super) struct Effort {
    pub(super) level: AtomicI32,
    /// The last chunk was not compressed.
    pub(super) raw: AtomicBool,
    /// The total working time of all compressors, in nanoseconds.
    worked: AtomicU64,
    pub(super) workers: u32,
}

impl Effort {
    pub(super) fn new(level: i32, workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(1);
        Self {
            level: AtomicI32::new(level),
            raw: AtomicBool::new(level == NONE),
            worked: AtomicU64::new(0),
            workers,
        }
    }

    /// How long a compressor has worked, on average over all of them.
    pub(super) fn worked(&self) -> Duration {
        Duration::from_nanos(self.worked.load(Ordering::Relaxed)) / self.workers
    }
}

/// A chunk to compress, and the channel for the result.
pub(super) struct Job {
    pub(super) uncompressed: Arc<Uncompressed>,
    pub(super) reply: SyncSender<io::Result<Stored>>,
}

/// Compresses chunks until there are no more.
pub(super) fn compress_all(queue: &Mutex<Receiver<Job>>, effort: &Effort, pool: &Pool) {
    let mut compressor = Compressor { zstd: None, level: NONE, sample: Vec::new() };
    loop {
        let Ok(job) = queue.lock().map(|queue| queue.recv()) else { return };
        let Ok(Job { uncompressed, reply }) = job else { return };
        let start = Instant::now();
        let level = effort.level.load(Ordering::Relaxed);
        let stored = if level == NONE {
            Ok(Stored::Uncompressed(uncompressed))
        } else {
            compressor.chunk(level, uncompressed, pool)
        };
        let worked = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        effort.worked.fetch_add(worked, Ordering::Relaxed);
        // A failed send means that the sealer has ended; the cutter will notice, too.
        let _ = reply.send(stored);
    }
}

struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    level: i32,
    sample: Vec<u8>,
}

impl Compressor {
    fn chunk(&mut self, level: i32, uncompressed: Arc<Uncompressed>, pool: &Pool) -> io::Result<Stored> {
        // Where the line leaves time for a higher level, the whole chunk is tried.
        if level <= FIRST && self.is_random(uncompressed.used())? {
            return Ok(Stored::Uncompressed(uncompressed));
        }
        let mut packed = pool.empty(zstd::compress_bound(MAX_CHUNK));
        self.at(level)?.compress_to_buffer(uncompressed.used(), packed.vec())?;
        if packed.len() + uncompressed.length / WORTH < uncompressed.length {
            Ok(Stored::Packed(packed, uncompressed.length))
        } else {
            Ok(Stored::Uncompressed(uncompressed))
        }
    }

    /// Whether a sample shows that the bytes are incompressible.
    fn is_random(&mut self, uncompressed: &[u8]) -> io::Result<bool> {
        let count = uncompressed.len() / SAMPLED / PIECE;
        if count < 2 {
            return Ok(false);
        }
        let mut sample = std::mem::take(&mut self.sample);
        sample.clear();
        for start in (0..count).map(|i| uncompressed.len() / count * i) {
            sample.extend_from_slice(&uncompressed[start..start + PIECE]);
        }
        let packed = self.at(FIRST)?.compress(&sample);
        self.sample = sample;
        Ok(packed?.len() + count * PIECE / WORTH >= count * PIECE)
    }

    fn at(&mut self, level: i32) -> io::Result<&mut zstd::bulk::Compressor<'static>> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(level)?),
        };
        if self.level != level {
            self.level = level;
            zstd.set_compression_level(level)?;
        }
        Ok(zstd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that no level makes smaller.
    fn random(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn stored(level: i32, bytes: Vec<u8>) -> Stored {
        let mut compressor = Compressor { zstd: None, level: NONE, sample: Vec::new() };
        let length = bytes.len();
        let uncompressed = Arc::new(Uncompressed { bytes: bytes.into(), length });
        compressor.chunk(level, uncompressed, &Pool::default()).unwrap()
    }

    #[test]
    fn what_does_not_shrink_goes_as_it_is_in_the_memory_that_it_has() {
        for level in [-7, 1, 9] {
            let bytes = random(MAX_CHUNK);
            let place = bytes.as_ptr();
            let Stored::Uncompressed(uncompressed) = stored(level, bytes) else {
                panic!("it has been compressed")
            };
            assert_eq!(uncompressed.used().as_ptr(), place);
        }
    }

    #[test]
    fn what_shrinks_is_found_wherever_it_is() {
        for level in [-7, 1, 9] {
            // Short inputs, a text, and a chunk of which an eighth is compressible.
            let mut part = random(MAX_CHUNK);
            part[..MAX_CHUNK / 8].fill(b'x');
            for bytes in [vec![b'a'; 100], b"text ".repeat(10_000), part] {
                let before = bytes.clone();
                let Stored::Packed(packed, length) = stored(level, bytes) else { panic!("it is as it was") };
                assert_eq!(zstd::bulk::decompress(&packed, length).unwrap(), before);
            }
        }
    }
}
