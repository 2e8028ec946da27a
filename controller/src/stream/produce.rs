//! From a source to sealed blocks: cut into chunks, compress on several threads, hash in a thread of
//! its own, seal in order.

use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ka::notes::Tally;
use ka::proof::{Proof, Root, Roots};
use ka::seal::chunk::{Chunk, Kind, MAX_CHUNK};
use ka::seal::{Block, SealError, Sealer, StreamKey, Total};
use sha2::{Digest, Sha256};

use crate::stream::block_size::BlockSize;
use crate::stream::level::{self, Level, Seen};
use crate::stream::source::{Source, SourceError};

/// Chunks that may be on their way for each worker.
const AHEAD: usize = 2;

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
}

impl<F: Fn() + Sync> Chain for F {
    fn wake(&self) {
        self();
    }
}

/// What compressors and sealer share.
struct Effort {
    level: AtomicI32,
    /// Nanoseconds of work of all compressors.
    worked: AtomicU64,
    workers: u32,
}

struct Job {
    plain: Arc<Vec<u8>>,
    reply: SyncSender<io::Result<Chunk>>,
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
    account: &Account,
) -> Result<Proof, ProduceError> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let effort = Effort {
        level: AtomicI32::new(if chain.taken().is_some() { level::FIRST } else { level::LOWEST }),
        worked: AtomicU64::new(0),
        workers: u32::try_from(workers).unwrap_or(1),
    };
    let effort = &effort;
    let (jobs, queue) = sync_channel::<Job>(workers * AHEAD);
    let queue = Mutex::new(queue);
    let (ordered, replies) = sync_channel(workers * AHEAD);
    let (hashed, to_hash) = sync_channel::<Arc<Vec<u8>>>(workers * AHEAD);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| compress_all(&queue, effort));
        }
        let hash = scope.spawn(move || hash_all(to_hash));
        let sealer = scope.spawn(move || seal_all(Sealer::new(key), replies, blocks, chain, effort));
        let mut cutter = Cutter { chunk: Vec::new(), jobs, ordered, hashed, account };
        let read = source.write(&mut cutter).and_then(|notes| {
            cutter.hand_over().map_err(SourceError::Stream)?;
            Ok(notes)
        });
        // Closes the queues, so that all threads come to their end.
        drop(cutter);
        let sealed = sealer.join().unwrap_or(Err(ProduceError::GivenUp));
        let total = hash.join().map_err(|_| ProduceError::GivenUp);
        match (read, sealed) {
            // The sealer's error is the cause when the source only says that nobody listens.
            (Err(SourceError::Stream(_)), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(notes), sealed) => {
                let total = total?;
                *account.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
                let (sealer, root) = sealed?;
                blocks.send((sealer.finish(&total)?, Some(total))).map_err(|_| ProduceError::GivenUp)?;
                chain.wake();
                Ok(Proof { root, last: Some(total) })
            }
        }
    })
}

/// Takes the plain stream and cuts it into chunks.
struct Cutter<'a> {
    chunk: Vec<u8>,
    jobs: SyncSender<Job>,
    ordered: SyncSender<Receiver<io::Result<Chunk>>>,
    hashed: SyncSender<Arc<Vec<u8>>>,
    account: &'a Account,
}

impl Cutter<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let plain = Arc::new(std::mem::take(&mut self.chunk));
        self.account.plain.fetch_add(plain.len() as u64, Ordering::Relaxed);
        let (reply, replied) = sync_channel(1);
        let gone = |()| io::Error::from(io::ErrorKind::BrokenPipe);
        self.ordered.send(replied).map_err(|_| gone(()))?;
        self.hashed.send(Arc::clone(&plain)).map_err(|_| gone(()))?;
        self.jobs.send(Job { plain, reply }).map_err(|_| gone(()))
    }
}

impl Write for Cutter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(MAX_CHUNK);
        }
        let taken = bytes.len().min(MAX_CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == MAX_CHUNK {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compress_all(queue: &Mutex<Receiver<Job>>, effort: &Effort) {
    let mut compressor = None;
    loop {
        let Ok(job) = queue.lock().map(|queue| queue.recv()) else { return };
        let Ok(job) = job else { return };
        let start = Instant::now();
        let chunk = compress(&mut compressor, effort.level.load(Ordering::Relaxed), &job.plain);
        let worked = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        effort.worked.fetch_add(worked, Ordering::Relaxed);
        // The sealer is gone when nobody takes the reply: then the cutter will notice as well.
        let _ = job.reply.send(chunk);
    }
}

fn compress(
    compressor: &mut Option<zstd::bulk::Compressor<'static>>,
    level: i32,
    plain: &[u8],
) -> io::Result<Chunk> {
    let compressor = match compressor {
        Some(compressor) => compressor,
        none => none.insert(zstd::bulk::Compressor::new(level)?),
    };
    compressor.set_compression_level(level)?;
    let bytes = compressor.compress(plain)?;
    // What hardly shrinks costs the nodes more than it saves the line.
    if bytes.len() + plain.len() / 64 < plain.len() {
        Ok(Chunk { kind: Kind::Zstd, plain_length: plain.len(), bytes })
    } else {
        Ok(Chunk { kind: Kind::Plain, plain_length: plain.len(), bytes: plain.to_vec() })
    }
}

fn hash_all(chunks: Receiver<Arc<Vec<u8>>>) -> Total {
    let mut hash = Sha256::new();
    let mut length = 0;
    while let Ok(chunk) = chunks.recv() {
        hash.update(chunk.as_slice());
        length += chunk.len() as u64;
    }
    Total { length, sha256: hash.finalize().into() }
}

/// Seals the chunks in their order; returns the sealer for the final block, and the root of all before it.
fn seal_all(
    mut sealer: Sealer,
    // Owned: when the sealer ends early, the cutter's next chunk must find nobody.
    replies: Receiver<Receiver<io::Result<Chunk>>>,
    blocks: &SyncSender<(Block, Option<Total>)>,
    chain: &dyn Chain,
    effort: &Effort,
) -> Result<(Sealer, Root), ProduceError> {
    let mut pending: Vec<u8> = Vec::new();
    let mut seen = Seen::default();
    let mut roots = Roots::default();
    let mut seal = |plain: &[u8], sealer: &mut Sealer| -> Result<u64, ProduceError> {
        roots.update(plain, |root| chain.prove(root));
        let block = sealer.seal(plain)?;
        let size = block.size();
        blocks.send((block, None)).map_err(|_| ProduceError::GivenUp)?;
        chain.wake();
        Ok(size)
    };
    let (start, mut level) = (Instant::now(), Level::new(effort.level.load(Ordering::Relaxed)));
    let (mut size, mut sealed) = (BlockSize::new(), 0);
    while let Ok(reply) = replies.recv() {
        let chunk = reply.recv().map_err(|_| ProduceError::GivenUp)?.map_err(ProduceError::Compress)?;
        seen.chunks += 1;
        seen.shrunk += u32::from(chunk.kind == Kind::Zstd);
        chunk.append_to(&mut pending);
        let most = size.next(start.elapsed(), sealed, chain.segment());
        sealed = pending.len() / most * most;
        for plain in pending[..sealed].chunks(most) {
            seen.sealed += seal(plain, &mut sealer)?;
        }
        pending.drain(..sealed);
        if let Some(taken) = chain.taken() {
            seen.taken = taken;
            seen.worked = Duration::from_nanos(effort.worked.load(Ordering::Relaxed)) / effort.workers;
            effort.level.store(level.next(start.elapsed(), seen), Ordering::Relaxed);
        }
    }
    // Less than a block of any size, or a part of one that has become smaller since.
    for plain in pending.chunks(size.next(start.elapsed(), sealed, chain.segment())) {
        seal(plain, &mut sealer)?;
    }
    Ok((sealer, roots.root()))
}
