//! Turns a source into sealed blocks: reads it into chunks, compresses them on several threads, hashes them,
//! and seals them in order.
//!
//! Memory is recycled: a chunk is read into the memory of an earlier one, and an uncompressed chunk stays
//! there until its bytes are copied to where they are sealed. Once a stream flows, nothing is allocated.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use ka::archive::Output;
use ka::notes::Tally;
use ka::proof::{Proof, Root};
use ka::seal::chunk::{Kind, MAX_CHUNK};
use ka::seal::{Block, Pool, SealError, Sealer, StreamKey, Total, max_block};
use ka::sha256::Sha256;

use crate::stream::block_size::BlockSize;
use crate::stream::compress::{Effort, Job, Stored, Uncompressed, compress_all};
use crate::stream::content::Content;
use crate::stream::level::{self, Level, Seen};
use crate::stream::settings::{Choice, Settings};
use crate::stream::source::{Source, SourceError};

/// The number of chunks in flight per worker.
const AHEAD: usize = 2;
/// The chunk size after an uncompressed chunk: small enough to stay in a processor's cache until it is
/// sealed.
const RAW_CHUNK: usize = 512 * 1024;

/// Why a stream could not be produced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The receiver of the blocks has ended.
    #[error("the stream was aborted")]
    GivenUp,
    /// Compression failed.
    #[error("zstd failed: {0}")]
    Compress(io::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Shows what has been read from the source so far.
#[derive(Debug, Default)]
pub struct Account {
    /// The number of bytes.
    pub uncompressed: AtomicU64,
    /// The notes about them, available before the final block is handed over.
    notes: Mutex<Tally>,
}

impl Account {
    /// The notes about the source; empty until it has been read completely.
    #[must_use]
    pub fn notes(&self) -> Tally {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The producer's view of the chain that takes the blocks. A function that wakes the chain is enough.
pub trait Chain: Sync {
    /// Signals that another block is available.
    fn wake(&self);

    /// The offset in bytes up to which every member has the sealed stream; `None` if unknown. In that case,
    /// compression is as fast as possible.
    fn taken(&self) -> Option<u64> {
        None
    }

    /// Sets the golden node's root hash, for the nodes to compare with.
    fn prove(&self, _root: Root) {}

    /// The size of a TCP segment on the chain's first link, in bytes; 0 if unknown.
    fn segment(&self) -> usize {
        0
    }

    /// The largest block that the members' windows allow.
    fn largest(&self) -> usize {
        max_block(0)
    }
}

impl<F: Fn() + Sync> Chain for F {
    fn wake(&self) {
        self();
    }
}

/// Produces the whole stream of `source` under `key` into `blocks`, and wakes the chain for each block;
/// returns the last proof.
///
/// # Errors
/// [`ProduceError`]; no final block was sent then, so no receiver takes the stream for complete.
pub fn produce(
    source: &dyn Source,
    key: &StreamKey,
    blocks: &SyncSender<(Block, Option<Total>)>,
    chain: &dyn Chain,
    (account, settings): (&Account, Settings),
) -> Result<Proof, ProduceError> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let first = match settings.level {
        Choice::Auto => level::FIRST,
        Choice::Fixed(level) => level,
    };
    let effort = &Effort::new(first, workers);
    let (jobs, queue) = sync_channel::<Job>(workers * AHEAD);
    let queue = Mutex::new(queue);
    let (ordered, replies) = sync_channel(workers * AHEAD);
    let (hashed, to_hash) = sync_channel::<Arc<Uncompressed>>(workers * AHEAD);
    let most = (workers * AHEAD + workers + 2) * MAX_CHUNK;
    let (uncompressed, packed) = (Pool::keeping(most), Pool::keeping(most));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| compress_all(&queue, effort, &packed));
        }
        let hash = settings.check_sum.then(|| scope.spawn(move || hash_all(to_hash)));
        let mut sealing = Sealing::new(Sealer::new(key), blocks, chain, effort, settings);
        let sealer = scope.spawn(move || sealing.all(replies).map(|()| sealing));
        let hashed = settings.check_sum.then_some(hashed);
        let mut cutter = Cutter {
            chunk: Uncompressed::default(),
            room: 0,
            pool: uncompressed,
            jobs,
            ordered,
            hashed,
            account,
            effort,
        };
        let read = source.write(&mut cutter).and_then(|notes| {
            cutter.hand_over().map_err(SourceError::Stream)?;
            Ok(notes)
        });
        // Closes the queues, so that all threads end.
        drop(cutter);
        let sealed = sealer.join().unwrap_or(Err(ProduceError::GivenUp));
        let sum = hash.map(|hash| hash.join().map_err(|_| ProduceError::GivenUp));
        match (read, sealed) {
            // If the source reports only that its reader has gone, the sealer's error is the cause.
            (Err(SourceError::Stream(_)), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(notes), sealed) => {
                let sha256 = sum.transpose()?;
                *account.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
                sealed?.finish(account.uncompressed.load(Ordering::Relaxed), sha256)
            }
        }
    })
}

/// Receives the uncompressed stream and cuts it into chunks.
struct Cutter<'a> {
    chunk: Uncompressed,
    /// The size of the current chunk in bytes; 0 if there is none.
    room: usize,
    pool: Pool,
    jobs: SyncSender<Job>,
    ordered: SyncSender<Receiver<io::Result<Stored>>>,
    hashed: Option<SyncSender<Arc<Uncompressed>>>,
    account: &'a Account,
    effort: &'a Effort,
}

impl Cutter<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.length == 0 {
            return Ok(());
        }
        self.room = 0;
        let uncompressed = Arc::new(std::mem::take(&mut self.chunk));
        self.account.uncompressed.fetch_add(uncompressed.length as u64, Ordering::Relaxed);
        let (reply, replied) = sync_channel(1);
        let gone = |()| io::Error::from(io::ErrorKind::BrokenPipe);
        self.ordered.send(replied).map_err(|_| gone(()))?;
        if let Some(hashed) = &self.hashed {
            hashed.send(Arc::clone(&uncompressed)).map_err(|_| gone(()))?;
        }
        self.jobs.send(Job { uncompressed, reply }).map_err(|_| gone(()))
    }
}

impl Output for Cutter<'_> {
    fn room(&mut self) -> &mut [u8] {
        if self.room == 0 {
            self.room = if self.effort.raw.load(Ordering::Relaxed) { RAW_CHUNK } else { MAX_CHUNK };
            self.chunk = Uncompressed { bytes: self.pool.take(MAX_CHUNK), length: 0 };
        }
        &mut self.chunk.bytes.vec()[self.chunk.length..self.room]
    }

    fn fill(&mut self, count: usize) -> io::Result<()> {
        self.chunk.length = (self.chunk.length + count).min(self.room);
        if self.chunk.length == self.room { self.hand_over() } else { Ok(()) }
    }
}

impl Write for Cutter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room();
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.fill(taken)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash_all(chunks: Receiver<Arc<Uncompressed>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    while let Ok(chunk) = chunks.recv() {
        hash.update(chunk.used());
    }
    hash.finalize()
}

/// Seals the chunks in order, with the block size and level that the chain's rate allows.
struct Sealing<'a> {
    sealer: Sealer,
    blocks: &'a SyncSender<(Block, Option<Total>)>,
    chain: &'a dyn Chain,
    effort: &'a Effort,
    content: Content,
    start: Instant,
    size: BlockSize,
    /// `None` if the level is fixed, or if the chain's rate is unknown.
    level: Option<Level>,
    seen: Seen,
    marks: Marks,
}

impl<'a> Sealing<'a> {
    fn new(
        sealer: Sealer,
        blocks: &'a SyncSender<(Block, Option<Total>)>,
        chain: &'a dyn Chain,
        effort: &'a Effort,
        settings: Settings,
    ) -> Self {
        let chosen = settings.level == Choice::Auto && chain.taken().is_some();
        Self {
            sealer,
            blocks,
            chain,
            effort,
            content: Content::default(),
            start: Instant::now(),
            size: BlockSize::new(chain.largest()),
            level: chosen.then(|| Level::new(level::FIRST)),
            seen: Seen::default(),
            marks: Marks::default(),
        }
    }

    /// Owned: when the sealer ends early, sending the cutter's next chunk must fail.
    fn all(&mut self, chunks: Receiver<Receiver<io::Result<Stored>>>) -> Result<(), ProduceError> {
        let mut sealed = 0;
        while let Ok(chunk) = chunks.recv() {
            let chunk = chunk.recv().map_err(|_| ProduceError::GivenUp)?.map_err(ProduceError::Compress)?;
            let (uncompressed, shrunk) = (chunk.uncompressed_length() as u64, chunk.kind() == Kind::Zstd);
            self.seen.uncompressed_sealed += uncompressed;
            self.seen.shrunk += if shrunk { uncompressed } else { 0 };
            self.effort.raw.store(!shrunk, Ordering::Relaxed);
            self.content.push(chunk, |root| self.chain.prove(root));
            let most = self.size.next(self.start.elapsed(), sealed, self.chain.segment());
            sealed = self.content.length() / most * most;
            while self.content.length() >= most {
                self.block(most)?;
            }
            self.follow();
        }
        // Less than a block of any size, or the rest of one that has become smaller since.
        let most = self.size.next(self.start.elapsed(), sealed, self.chain.segment());
        while self.content.length() > 0 {
            self.block(most)?;
        }
        Ok(())
    }

    fn block(&mut self, most: usize) -> Result<(), ProduceError> {
        let sealer = &mut self.sealer;
        let block = self.content.take(most, |pieces| sealer.seal_pieces(pieces))?;
        self.seen.sealed += block.size();
        match self.blocks.try_send((block, None)) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => return Err(ProduceError::GivenUp),
            Err(TrySendError::Full(block)) => {
                let since = Instant::now();
                self.blocks.send(block).map_err(|_| ProduceError::GivenUp)?;
                self.seen.blocked += since.elapsed();
            }
        }
        self.chain.wake();
        Ok(())
    }

    /// Measures the chain's progress, and chooses the level.
    fn follow(&mut self) {
        if let (Some(level), Some(taken)) = (&mut self.level, self.chain.taken()) {
            self.marks.set(self.seen.sealed, self.seen.uncompressed_sealed);
            (self.seen.taken, self.seen.uncompressed_taken) = (taken, self.marks.uncompressed(taken));
            self.seen.worked = self.effort.worked();
            self.effort.level.store(level.next(self.start.elapsed(), self.seen), Ordering::Relaxed);
        }
    }

    /// Seals the final block; returns the last proof.
    fn finish(self, length: u64, sha256: Option<[u8; 32]>) -> Result<Proof, ProduceError> {
        let root = self.content.root();
        let total = Total { length, hash: root.hash, sha256 };
        let last = self.sealer.finish(&total)?;
        self.blocks.send((last, Some(total))).map_err(|_| ProduceError::GivenUp)?;
        self.chain.wake();
        Ok(Proof { root, last: Some(total) })
    }
}

/// Maps offsets in the sealed stream to offsets in the uncompressed stream, for the part that the chain does
/// not have yet.
#[derive(Default)]
struct Marks {
    ahead: VecDeque<(u64, u64)>,
    last: (u64, u64),
}

impl Marks {
    fn set(&mut self, sealed: u64, uncompressed: u64) {
        self.ahead.push_back((sealed, uncompressed));
    }

    /// The approximate number of uncompressed bytes in the first `sealed` bytes.
    fn uncompressed(&mut self, sealed: u64) -> u64 {
        while let Some(mark) = self.ahead.front().copied().filter(|mark| mark.0 <= sealed) {
            self.last = mark;
            self.ahead.pop_front();
        }
        let (start, uncompressed) = self.last;
        let Some((end, uncompressed_end)) = self.ahead.front() else { return uncompressed };
        let (here, all) = (sealed.saturating_sub(start), (end - start).max(1));
        uncompressed
            + u64::try_from(u128::from(uncompressed_end - uncompressed) * u128::from(here) / u128::from(all))
                .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ka::seal::Cipher;

    use super::*;

    /// Compressible and incompressible pieces, and the addresses that they were read to.
    struct Pieces {
        count: usize,
        random: bool,
        places: Mutex<BTreeSet<usize>>,
    }

    const PIECE: usize = 128 << 10;

    impl Source for Pieces {
        fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
            let mut state = 88_172_645_463_325_252_u64;
            for _ in 0..self.count {
                let room = out.room();
                let length = room.len().min(PIECE);
                self.places.lock().unwrap().insert(room.as_ptr().addr() / MAX_CHUNK);
                for word in room[..length].chunks_mut(8) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let bytes = if self.random { state.to_le_bytes() } else { *b"the same" };
                    word.copy_from_slice(&bytes[..word.len()]);
                }
                out.fill(length).map_err(SourceError::Stream)?;
            }
            Ok(Tally::default())
        }
    }

    /// The number of distinct memory addresses of blocks and of read data, and the number of blocks.
    fn places(random: bool) -> (usize, usize, usize) {
        let source = Pieces { count: 512, random, places: Mutex::default() };
        let key = StreamKey::generate(Cipher::preferred()).unwrap();
        let (to, blocks) = sync_channel(4);
        let (mut seen, mut count) = (BTreeSet::new(), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let account = Account::default();
                let to = to;
                produce(&source, &key, &to, &|| (), (&account, Settings::default())).unwrap();
                assert_eq!(account.uncompressed.load(Ordering::Relaxed), (source.count * PIECE) as u64);
            });
            for (block, _) in blocks {
                seen.insert(block.bytes().as_ptr().addr());
                count += 1;
            }
        });
        (source.places.into_inner().unwrap().len(), seen.len(), count)
    }

    #[test]
    fn a_stream_that_flows_allocates_nothing() {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
        // A chunk's memory begins anywhere between two multiples of its size.
        let chunks = 2 * (workers * AHEAD + workers + 4);
        let (read, sealed, blocks) = places(true);
        assert!(read <= chunks && sealed <= 16 && blocks > 4000, "{read}, {sealed} of {blocks}");
        let (read, ..) = places(false);
        assert!(read <= chunks, "{read}");
    }

    #[test]
    fn places_of_the_sealed_stream_are_places_of_the_uncompressed_one() {
        let mut marks = Marks::default();
        [(100, 1000), (200, 1000), (300, 4000)]
            .into_iter()
            .for_each(|(sealed, uncompressed)| marks.set(sealed, uncompressed));
        for (sealed, uncompressed) in
            [(0, 0), (50, 500), (100, 1000), (150, 1000), (250, 2500), (300, 4000), (300, 4000)]
        {
            assert_eq!(marks.uncompressed(sealed), uncompressed, "{sealed}");
        }
    }
}
