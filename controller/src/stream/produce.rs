//! From a source to sealed blocks: read into chunks, compress on several threads, hash, seal in order.
//!
//! The memory goes round: a chunk is read into memory that an earlier one had, and one that is not compressed stays
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
use crate::stream::compress::{Effort, Job, Plain, Stored, compress_all};
use crate::stream::content::Content;
use crate::stream::level::{self, Level, Seen};
use crate::stream::source::{Source, SourceError};

/// Chunks that may be on their way for each worker.
const AHEAD: usize = 2;
/// A chunk where the last one was not compressed: small enough to stay in a processor's cache until it is sealed.
const RAW_CHUNK: usize = 512 * 1024;

/// How a stream is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The level of compression.
    pub level: Choice,
    /// The plain stream's SHA-256 is computed, for receivers that compare it.
    pub check_sum: bool,
}

/// Who chooses the level of compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// It follows what the chain takes.
    #[default]
    Auto,
    /// It is always this one of zstd's; 0 does not compress at all.
    Fixed(i32),
}

/// Why a stream could not be produced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nobody takes the blocks any more.
    #[error("the stream was given up")]
    GivenUp,
    /// Compressing failed.
    #[error("zstd failed: {0}")]
    Compress(io::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What has been read from the source so far, for whoever watches.
#[derive(Debug, Default)]
pub struct Account {
    /// Bytes.
    pub plain: AtomicU64,
    /// What a person must know of them, before the final block is handed over.
    notes: Mutex<Tally>,
}

impl Account {
    /// What a person must know of the source as it was read; nothing before it was read to its end.
    #[must_use]
    pub fn notes(&self) -> Tally {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The chain that takes the blocks, as far as the producer knows it. A function that wakes it will do.
pub trait Chain: Sync {
    /// There is another block.
    fn wake(&self);

    /// Up to where every member has the sealed stream, in bytes. None if nobody knows: then the stream is
    /// compressed as quickly as can be.
    fn taken(&self) -> Option<u64> {
        None
    }

    /// The golden node's root, for the nodes to compare with.
    fn prove(&self, _root: Root) {}

    /// The bytes of a TCP segment on the chain's first link; 0 if nobody knows.
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

/// Produces the whole stream of `source` under `key` into `blocks`, and wakes the chain for each; returns the last
/// proof.
///
/// # Errors
/// [`ProduceError`]; then no final block was sent, and nobody takes the stream for complete.
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
    let (hashed, to_hash) = sync_channel::<Arc<Plain>>(workers * AHEAD);
    let most = (workers * AHEAD + workers + 2) * MAX_CHUNK;
    let (plain, packed) = (Pool::keeping(most), Pool::keeping(most));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| compress_all(&queue, effort, &packed));
        }
        let hash = settings.check_sum.then(|| scope.spawn(move || hash_all(to_hash)));
        let mut sealing = Sealing::new(Sealer::new(key), blocks, chain, effort, settings);
        let sealer = scope.spawn(move || sealing.all(replies).map(|()| sealing));
        let hashed = settings.check_sum.then_some(hashed);
        let mut cutter =
            Cutter { chunk: Plain::default(), room: 0, pool: plain, jobs, ordered, hashed, account, effort };
        let read = source.write(&mut cutter).and_then(|notes| {
            cutter.hand_over().map_err(SourceError::Stream)?;
            Ok(notes)
        });
        // Closes the queues, so that all threads come to their end.
        drop(cutter);
        let sealed = sealer.join().unwrap_or(Err(ProduceError::GivenUp));
        let sum = hash.map(|hash| hash.join().map_err(|_| ProduceError::GivenUp));
        match (read, sealed) {
            // The sealer's error is the cause when the source only says that nobody listens.
            (Err(SourceError::Stream(_)), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(notes), sealed) => {
                let sha256 = sum.transpose()?;
                *account.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
                sealed?.finish(account.plain.load(Ordering::Relaxed), sha256)
            }
        }
    })
}

/// Takes the plain stream and cuts it into chunks.
struct Cutter<'a> {
    chunk: Plain,
    /// So many bytes the chunk will have; 0 while there is none.
    room: usize,
    pool: Pool,
    jobs: SyncSender<Job>,
    ordered: SyncSender<Receiver<io::Result<Stored>>>,
    hashed: Option<SyncSender<Arc<Plain>>>,
    account: &'a Account,
    effort: &'a Effort,
}

impl Cutter<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.length == 0 {
            return Ok(());
        }
        self.room = 0;
        let plain = Arc::new(std::mem::take(&mut self.chunk));
        self.account.plain.fetch_add(plain.length as u64, Ordering::Relaxed);
        let (reply, replied) = sync_channel(1);
        let gone = |()| io::Error::from(io::ErrorKind::BrokenPipe);
        self.ordered.send(replied).map_err(|_| gone(()))?;
        if let Some(hashed) = &self.hashed {
            hashed.send(Arc::clone(&plain)).map_err(|_| gone(()))?;
        }
        self.jobs.send(Job { plain, reply }).map_err(|_| gone(()))
    }
}

impl Output for Cutter<'_> {
    fn room(&mut self) -> &mut [u8] {
        if self.room == 0 {
            self.room = if self.effort.raw.load(Ordering::Relaxed) { RAW_CHUNK } else { MAX_CHUNK };
            self.chunk = Plain { bytes: self.pool.take(MAX_CHUNK), length: 0 };
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

fn hash_all(chunks: Receiver<Arc<Plain>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    while let Ok(chunk) = chunks.recv() {
        hash.update(chunk.used());
    }
    hash.finalize()
}

/// Seals the chunks in their order, in blocks of the size, and at the level, that the chain's rate allows.
struct Sealing<'a> {
    sealer: Sealer,
    blocks: &'a SyncSender<(Block, Option<Total>)>,
    chain: &'a dyn Chain,
    effort: &'a Effort,
    content: Content,
    start: Instant,
    size: BlockSize,
    /// None if it is fixed, or if nobody knows what the chain takes.
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

    /// Owned: when the sealer ends early, the cutter's next chunk must find nobody.
    fn all(&mut self, chunks: Receiver<Receiver<io::Result<Stored>>>) -> Result<(), ProduceError> {
        let mut sealed = 0;
        while let Ok(chunk) = chunks.recv() {
            let chunk = chunk.recv().map_err(|_| ProduceError::GivenUp)?.map_err(ProduceError::Compress)?;
            let (plain, shrunk) = (chunk.plain_length() as u64, chunk.kind() == Kind::Zstd);
            self.seen.plain_sealed += plain;
            self.seen.shrunk += if shrunk { plain } else { 0 };
            self.effort.raw.store(!shrunk, Ordering::Relaxed);
            self.content.push(chunk, |root| self.chain.prove(root));
            let most = self.size.next(self.start.elapsed(), sealed, self.chain.segment());
            sealed = self.content.length() / most * most;
            while self.content.length() >= most {
                self.block(most)?;
            }
            self.follow();
        }
        // Less than a block of any size, or a part of one that has become smaller since.
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

    /// Looks how far the chain is, and chooses the level.
    fn follow(&mut self) {
        if let (Some(level), Some(taken)) = (&mut self.level, self.chain.taken()) {
            self.marks.set(self.seen.sealed, self.seen.plain_sealed);
            (self.seen.taken, self.seen.plain_taken) = (taken, self.marks.plain(taken));
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

/// Which places of the plain stream are which of the sealed one, for what the chain does not have yet.
#[derive(Default)]
struct Marks {
    ahead: VecDeque<(u64, u64)>,
    last: (u64, u64),
}

impl Marks {
    fn set(&mut self, sealed: u64, plain: u64) {
        self.ahead.push_back((sealed, plain));
    }

    /// How many plain bytes the first `sealed` bytes are, about.
    fn plain(&mut self, sealed: u64) -> u64 {
        while let Some(mark) = self.ahead.front().copied().filter(|mark| mark.0 <= sealed) {
            self.last = mark;
            self.ahead.pop_front();
        }
        let (start, plain) = self.last;
        let Some((end, plain_end)) = self.ahead.front() else { return plain };
        let (here, all) = (sealed.saturating_sub(start), (end - start).max(1));
        plain
            + u64::try_from(u128::from(plain_end - plain) * u128::from(here) / u128::from(all))
                .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ka::seal::Cipher;

    use super::*;

    /// Pieces that compress, or do not, and where they were read to.
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

    /// How many places in memory the blocks, and what was read, have had; and how many blocks there were.
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
                assert_eq!(account.plain.load(Ordering::Relaxed), (source.count * PIECE) as u64);
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
    fn places_of_the_sealed_stream_are_places_of_the_plain_one() {
        let mut marks = Marks::default();
        [(100, 1000), (200, 1000), (300, 4000)]
            .into_iter()
            .for_each(|(sealed, plain)| marks.set(sealed, plain));
        for (sealed, plain) in
            [(0, 0), (50, 500), (100, 1000), (150, 1000), (250, 2500), (300, 4000), (300, 4000)]
        {
            assert_eq!(marks.plain(sealed), plain, "{sealed}");
        }
    }
}
