//! From blocks to the plain stream: one thread puts chunks together and decompresses them, another one hashes
//! them, and the writer reads them in its own at the same time.
//!
//! A chunk's memory goes round: who is the last to need it gives it back. So there are never more than
//! [`CHUNKS`] of them, and the kernel has to find their pages only once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use ka::chain::{Offset, Plain};
use ka::seal::Total;
use ka::seal::chunk::{ChunkReader, Kind, MAX_CHUNK};
use sha2::{Digest, Sha256};

use super::Command;
use super::reader::StreamError;

/// One is being decompressed, one is hashed, one is written.
const CHUNKS: usize = 3;

/// The relay hears of this many written bytes at once at the latest. Each word to it wakes its thread; a window
/// has sixteen times as much at the least.
const TELL_EVERY: u64 = 512 * 1024;

/// A chunk's plain bytes, for the hash and the writer.
pub(super) type Inflated = Arc<Vec<u8>>;

/// Tells the relay something.
pub(super) type Tell = Arc<dyn Fn(Command) + Send + Sync>;

/// What the golden node says that it sent, and what arrived.
pub(super) struct Proof {
    pub(super) sent: Total,
    pub(super) got: Total,
    /// Nothing is left that is no whole chunk.
    pub(super) whole: bool,
}

/// What came before the final block's total was whole chunks, or not.
type Ended = (Total, bool);

/// The two threads, and what they hand out.
pub(super) struct Inflater {
    chunks: Receiver<Inflated>,
    spare: Sender<Vec<u8>>,
    /// Nobody reads any more.
    left: Arc<AtomicBool>,
    inflate: Option<JoinHandle<Result<Ended, StreamError>>>,
    hash: Option<JoinHandle<Total>>,
    ended: Option<Ended>,
}

impl Inflater {
    pub(super) fn start(
        plain: Receiver<Plain>,
        tell: Tell,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        let (to_writer, chunks) = channel();
        let (to_hash, to_be_hashed) = channel();
        let (spare, empty) = channel();
        for _ in 0..CHUNKS {
            give(Vec::new(), &spare);
        }
        let left = Arc::new(AtomicBool::new(false));
        let inflate = Inflate {
            plain,
            tell,
            aborted,
            left: Arc::clone(&left),
            stored: ChunkReader::default(),
            decompressor: zstd::bulk::Decompressor::new()?,
            to_writer,
            to_hash,
            empty,
            written: Offset(0),
            told: Offset(0),
        };
        let back = spare.clone();
        let named = |name: &str| thread::Builder::new().name(name.into());
        let hash = named("hash").spawn(move || hash_all(&to_be_hashed, &back))?;
        let inflate = named("inflate").spawn(move || inflate.run())?;
        Ok(Self { chunks, spare, left, inflate: Some(inflate), hash: Some(hash), ended: None })
    }

    /// The next chunk; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Inflated>, StreamError> {
        if let Ok(chunk) = self.chunks.recv() {
            return Ok(Some(chunk));
        }
        if let Some(thread) = self.inflate.take() {
            self.ended = Some(thread.join().map_err(|_| broken())??);
        }
        if self.ended.is_some() { Ok(None) } else { Err(broken()) }
    }

    /// Gives back a chunk that was read.
    pub(super) fn give_back(&self, chunk: Inflated) {
        give_back(chunk, &self.spare);
    }

    /// What was proven, once [`Self::next`] has come to the end.
    pub(super) fn proof(&mut self) -> Result<Proof, StreamError> {
        let (Some((sent, whole)), Some(hash)) = (self.ended, self.hash.take()) else { return Err(broken()) };
        let got = hash.join().map_err(|_| broken())?;
        Ok(Proof { sent, got, whole })
    }
}

impl Drop for Inflater {
    /// The threads end by themselves, at the latest with the relay.
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
        // In case that one waits for it.
        give(Vec::new(), &self.spare);
    }
}

/// What the decompressing thread works with.
struct Inflate {
    plain: Receiver<Plain>,
    tell: Tell,
    /// Why the relay ended, if it did.
    aborted: Arc<Mutex<Option<String>>>,
    left: Arc<AtomicBool>,
    stored: ChunkReader,
    decompressor: zstd::bulk::Decompressor<'static>,
    to_writer: Sender<Inflated>,
    to_hash: Sender<Inflated>,
    empty: Receiver<Vec<u8>>,
    /// What has been taken, and how much of that the relay knows.
    written: Offset,
    told: Offset,
}

impl Inflate {
    fn run(mut self) -> Result<Ended, StreamError> {
        loop {
            while self.chunk()? {}
            let plain = self.next_plain()?;
            self.written = plain.end;
            if let Some(total) = plain.total {
                self.tell();
                return Ok((total, self.stored.is_empty()));
            }
            self.stored.push(&plain.bytes);
            if self.written.since(self.told) >= TELL_EVERY {
                self.tell();
            }
        }
    }

    /// Decompresses the next chunk, if one is whole.
    fn chunk(&mut self) -> Result<bool, StreamError> {
        let Some(chunk) = self.stored.next_chunk()? else { return Ok(false) };
        let mut bytes = self.empty.recv().map_err(|_| broken())?;
        if self.left.load(Ordering::Acquire) {
            return Err(broken());
        }
        bytes.clear();
        bytes.reserve_exact(MAX_CHUNK);
        match chunk.kind {
            Kind::Plain => bytes.extend_from_slice(chunk.bytes),
            Kind::Zstd => {
                self.decompressor
                    .decompress_to_buffer(chunk.bytes, &mut bytes)
                    .map_err(StreamError::Decompress)?;
                if bytes.len() != chunk.plain_length {
                    return Err(StreamError::Decompress(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        let bytes = Arc::new(bytes);
        self.to_hash.send(Arc::clone(&bytes)).map_err(|_| broken())?;
        self.to_writer.send(bytes).map_err(|_| broken())?;
        Ok(true)
    }

    /// Waits for the relay, after it has been told all: it may be waiting for that.
    fn next_plain(&mut self) -> Result<Plain, StreamError> {
        let plain = match self.plain.try_recv() {
            Err(TryRecvError::Empty) => {
                self.tell();
                self.plain.recv().ok()
            }
            received => received.ok(),
        };
        match plain {
            Some(_) if self.left.load(Ordering::Acquire) => Err(broken()),
            Some(plain) => Ok(plain),
            None => {
                let reason = self.aborted.lock().ok().and_then(|reason| reason.clone());
                Err(StreamError::Aborted(reason.unwrap_or_else(|| "the relay has ended".into())))
            }
        }
    }

    fn tell(&mut self) {
        if self.written != self.told {
            self.told = self.written;
            (self.tell)(Command::Written(self.written));
        }
    }
}

fn hash_all(chunks: &Receiver<Inflated>, spare: &Sender<Vec<u8>>) -> Total {
    let mut hash = Sha256::new();
    let mut length = 0;
    while let Ok(chunk) = chunks.recv() {
        hash.update(chunk.as_slice());
        length += chunk.len() as u64;
        give_back(chunk, spare);
    }
    Total { length, sha256: hash.finalize().into() }
}

/// Only the last one to have the chunk gives it back.
fn give_back(chunk: Inflated, spare: &Sender<Vec<u8>>) {
    if let Some(bytes) = Arc::into_inner(chunk) {
        give(bytes, spare);
    }
}

/// Whoever takes it may have ended.
fn give(bytes: Vec<u8>, spare: &Sender<Vec<u8>>) {
    let _ = spare.send(bytes);
}

/// A thread has panicked, or the stream is read on after an error.
fn broken() -> StreamError {
    StreamError::Aborted("this node's own reading of it has ended".into())
}
