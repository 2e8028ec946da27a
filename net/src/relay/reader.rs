//! The plain stream as the writer reads it: bytes come from the relay, chunks are unpacked, and the end is only
//! the end when the final block has come and its length is right.
//!
//! Every byte was verified by the seal of its block, and the blocks' numbers leave no gap. That proves that a member of
//! the chain sent it; that it is the golden node's, the controller's proofs show ([`ka::proof`]), and the end is no end
//! before the last of them has come. Whoever wants the plain stream's own hash too, against faults of the machine
//! itself, asks for it with [`StreamReader::check_sum`].

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ka::chain::{Offset, Plain};
use ka::proof::{Checker, Forged, Proof};
use ka::seal::chunk::{ChunkError, ChunkReader, Part};
use ka::seal::{Bytes, Total};
use ka::sha256::Sha256;

use super::{FromWriter, Handle};

/// The relay hears of this many written bytes at once at the latest; a window has sixteen times as much at the
/// least.
const TELL_EVERY: u64 = 512 * 1024;

/// Why the stream cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The controller or the relay gave it up.
    #[error("the stream was given up: {0}")]
    Aborted(String),
    /// The chunks make no sense.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A chunk cannot be decompressed.
    #[error("a part of the stream cannot be decompressed: {0}")]
    Decompress(io::Error),
    /// The end came too early.
    #[error("the stream has {got} bytes, and the golden node sent {}", sent.length)]
    Length {
        /// What arrived.
        got: u64,
        /// What the golden node says that it sent.
        sent: Total,
    },
    /// A relay before this node lied, or its memory is bad.
    #[error(transparent)]
    Forged(#[from] Forged),
    /// The hash that was asked for is another one: the golden node's memory or this one's is bad.
    #[error(
        "the stream's SHA-256 is not the golden node's: the memory of one of the two machines may be bad"
    )]
    Sum,
    /// There is no hash to compare with.
    #[error("the stream has no SHA-256 to compare with: start 'kactl send' with --check-sum, too")]
    NoSum,
}

/// How often a reader that waits for the relay looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// Tells the relay something.
type Tell = Box<dyn Fn(FromWriter) + Send>;

/// Reads the plain stream.
pub struct StreamReader {
    plain: Receiver<Plain>,
    to_relay: Tell,
    /// Why the relay ended, if it did.
    aborted: Arc<Mutex<Option<String>>>,
    /// Nobody wants the rest.
    left: Arc<AtomicBool>,
    /// What came last from the relay, and from where on it is not taken apart yet.
    piece: Bytes,
    position: usize,
    /// Where it ends in the sealed stream.
    end: Offset,
    chunks: ChunkReader,
    decompressor: zstd::bulk::Decompressor<'static>,
    unpacked: Vec<u8>,
    current: Current,
    hash: Option<Sha256>,
    /// What the controller says of the stream, if anybody does.
    proofs: Option<Receiver<Proof>>,
    checker: Checker,
    length: u64,
    sent: Option<Total>,
    /// What has been taken, and how much of that the relay knows.
    written: Offset,
    told: Offset,
    /// Whether the writer has all that it wants.
    complete: bool,
}

/// Where the bytes are that are read next, from one place to another.
#[derive(Clone, Copy)]
enum Current {
    /// In the piece: they were not compressed.
    Piece(usize, usize),
    Unpacked(usize, usize),
}

impl StreamReader {
    /// Reads what the relay behind `relay` hands out through `plain`.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn new(
        plain: Receiver<Plain>,
        relay: Handle,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        Self::without_relay(plain, move |news| relay.hear(news), aborted)
    }

    /// Reads what comes through `plain`, and tells `tell` what a relay would be told.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn without_relay(
        plain: Receiver<Plain>,
        tell: impl Fn(FromWriter) + Send + 'static,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        Ok(Self {
            plain,
            to_relay: Box::new(tell),
            aborted,
            left: Arc::default(),
            piece: Bytes::default(),
            position: 0,
            end: Offset(0),
            chunks: ChunkReader::default(),
            decompressor: zstd::bulk::Decompressor::new()?,
            unpacked: Vec::new(),
            current: Current::Piece(0, 0),
            hash: None,
            proofs: None,
            checker: Checker::default(),
            length: 0,
            sent: None,
            written: Offset(0),
            told: Offset(0),
            complete: false,
        })
    }

    /// Compares the SHA-256 of all that is read with the golden node's, too; call it before anything is read. It
    /// costs about half a CPU second a GiB.
    pub fn check_sum(&mut self) {
        self.hash = Some(Sha256::new());
    }

    /// Compares all that comes with what the controller says of it; call it before anything is read.
    pub fn expect_proofs(&mut self, proofs: Receiver<Proof>) {
        self.proofs = Some(proofs);
    }

    /// Reads what is left, and proves that all is what the golden node sent.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn finish(mut self) -> Result<Total, StreamError> {
        let sent = self.prove()?;
        self.complete = true;
        Ok(sent)
    }

    /// The same, for whoever must know it before the last user of the bytes sees their end.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn prove(&mut self) -> Result<Total, StreamError> {
        while self.advance()? {}
        let Some(sent) = self.sent else { return Err(self.cut_off()) };
        if self.length != sent.length || !self.chunks.is_empty() {
            return Err(StreamError::Length { got: self.length, sent });
        }
        self.compare_sums(sent)?;
        self.wait_for_proof(sent)?;
        Ok(sent)
    }

    /// The stream was given up, and why: what is read from now on is that error.
    #[must_use]
    pub fn aborted(&self) -> Option<StreamError> {
        let reason = self.aborted.lock().ok()?.clone()?;
        Some(StreamError::Aborted(reason))
    }

    /// Plain bytes read so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes the next bytes current; false at the end.
    fn advance(&mut self) -> Result<bool, StreamError> {
        loop {
            if self.next_part()? {
                let (current, hash) = (bytes(self.current, &self.piece, &self.unpacked), &mut self.hash);
                self.length += current.len() as u64;
                if let Some(hash) = hash {
                    hash.update(current);
                }
                return Ok(true);
            }
            // The bytes of the last piece are taken by now.
            self.written = self.end;
            if self.sent.is_some() {
                self.tell();
                return Ok(false);
            }
            if self.written.since(self.told) >= TELL_EVERY {
                self.tell();
            }
            let plain = self.next_plain()?;
            self.compare(&plain)?;
            self.sent = plain.total;
            (self.piece, self.position, self.end) = (plain.bytes, 0, plain.end);
            self.current = Current::Piece(0, 0);
        }
    }

    /// Compares content with the proofs that have come.
    fn compare(&mut self, plain: &Plain) -> Result<(), Forged> {
        let Some(proofs) = &self.proofs else { return Ok(()) };
        while let Ok(proof) = proofs.try_recv() {
            self.checker.on_proof(proof)?;
        }
        self.checker.on_content(&plain.bytes, plain.from)
    }

    /// The plain stream's SHA-256, if that was asked for.
    fn compare_sums(&self, sent: Total) -> Result<(), StreamError> {
        match (&self.hash, sent.sha256) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(StreamError::NoSum),
            (Some(hash), Some(sum)) if hash.clone().finalize() == sum => Ok(()),
            (Some(_), Some(_)) => Err(StreamError::Sum),
        }
    }

    /// Waits for the last proof, which the controller sends as soon as the golden node has read everything.
    fn wait_for_proof(&mut self, sent: Total) -> Result<(), StreamError> {
        let Some(proofs) = &self.proofs else { return Ok(()) };
        while !self.checker.on_end(sent)? {
            match proofs.recv_timeout(LOOK) {
                Ok(proof) => self.checker.on_proof(proof)?,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(aborted) = self.aborted() {
                        return Err(aborted);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.cut_off()),
            }
        }
        Ok(())
    }

    /// Makes the next part of the piece current, unpacked if need be.
    fn next_part(&mut self) -> Result<bool, StreamError> {
        let mut rest = &self.piece[self.position..];
        let part = self.chunks.next_part(&mut rest)?;
        let position = self.piece.len() - rest.len();
        self.current = match part {
            None => {
                self.position = position;
                return Ok(false);
            }
            Some(Part::Plain(bytes)) => Current::Piece(position - bytes.len(), position),
            Some(Part::Zstd { plain_length, bytes }) => {
                self.unpacked.clear();
                self.unpacked.reserve(plain_length);
                self.decompressor
                    .decompress_to_buffer(bytes, &mut self.unpacked)
                    .map_err(StreamError::Decompress)?;
                if self.unpacked.len() != plain_length {
                    return Err(StreamError::Decompress(io::ErrorKind::UnexpectedEof.into()));
                }
                Current::Unpacked(0, plain_length)
            }
        };
        self.position = position;
        Ok(true)
    }

    /// Waits for the relay, after it has been told all: it may be waiting for that.
    fn next_plain(&mut self) -> Result<Plain, StreamError> {
        let plain = match self.plain.try_recv() {
            Err(TryRecvError::Empty) => {
                self.tell();
                self.wait_for_plain()
            }
            received => received.ok(),
        };
        plain.ok_or_else(|| self.cut_off())
    }

    fn wait_for_plain(&self) -> Option<Plain> {
        loop {
            match self.plain.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if !self.left.load(Ordering::Acquire) => {}
                received => return received.ok(),
            }
        }
    }

    /// What tells this reader, from another thread, that nobody wants the rest.
    pub(super) fn leaver(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.left)
    }

    /// Fills `chunk` with the next bytes, without a copy where they were compressed; it stays empty at the end.
    pub(super) fn next_chunk(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        chunk.clear();
        self.fill_buf()?;
        match self.current {
            Current::Unpacked(0, to) => {
                std::mem::swap(chunk, &mut self.unpacked);
                chunk.truncate(to);
            }
            current => chunk.extend_from_slice(bytes(current, &self.piece, &self.unpacked)),
        }
        self.current = Current::Piece(0, 0);
        Ok(())
    }

    fn tell(&mut self) {
        if self.written != self.told {
            self.told = self.written;
            (self.to_relay)(FromWriter::Written(self.written));
        }
    }

    fn cut_off(&self) -> StreamError {
        self.aborted().unwrap_or_else(|| StreamError::Aborted("the relay has ended".into()))
    }
}

fn bytes<'a>(current: Current, piece: &'a [u8], unpacked: &'a [u8]) -> &'a [u8] {
    match current {
        Current::Piece(from, to) => &piece[from..to],
        Current::Unpacked(from, to) => &unpacked[from..to],
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let current = self.fill_buf()?;
        let length = buffer.len().min(current.len());
        buffer[..length].copy_from_slice(&current[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Without a copy, for writers that take what there is.
impl BufRead for StreamReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while bytes(self.current, &self.piece, &self.unpacked).is_empty() {
            if !self.advance().map_err(io::Error::other)? {
                return Ok(&[]);
            }
        }
        Ok(bytes(self.current, &self.piece, &self.unpacked))
    }

    fn consume(&mut self, count: usize) {
        let (Current::Piece(from, to) | Current::Unpacked(from, to)) = &mut self.current;
        *from = (*from + count).min(*to);
    }
}

impl Drop for StreamReader {
    /// A writer that leaves before the end has failed; its node goes on relaying.
    fn drop(&mut self) {
        if !self.complete {
            (self.to_relay)(FromWriter::Failed);
        }
    }
}
