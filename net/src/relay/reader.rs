//! The uncompressed stream as the writer reads it: takes bytes from the relay and decompresses chunks. The
//! stream ends only when the final block has arrived with the right length.
//!
//! Every byte was verified by the seal of its block, and the blocks' numbers have no gaps. That proves that a
//! member of the chain sent it. The controller's proofs show that it is the golden node's ([`ka::proof`]),
//! and the stream does not end before the last of them has arrived. A caller that also wants the uncompressed
//! stream's own hash, against faults of the machine itself, requests it with [`StreamReader::check_sum`].

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ka::chain::{Offset, Plaintext};
use ka::proof::{Checker, Forged, Proof};
use ka::seal::chunk::{ChunkError, ChunkReader, Part};
use ka::seal::{Bytes, Total};
use ka::sha256::Sha256;

use super::{FromWriter, Handle};

/// The maximum number of written bytes between two reports to the relay; a window has at least sixteen times
/// as much.
const TELL_EVERY: u64 = 512 * 1024;

/// Why the stream cannot be read further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The controller or the relay abandoned it.
    #[error("the stream was aborted: {0}")]
    Aborted(String),
    /// The chunks are malformed.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A chunk cannot be decompressed.
    #[error("a part of the stream cannot be decompressed: {0}")]
    Decompress(io::Error),
    /// The stream ended too early.
    #[error("the stream has {got} bytes, and the golden node sent {}", sent.length)]
    Length {
        /// The bytes received.
        got: u64,
        /// The bytes sent, according to the golden node.
        sent: Total,
    },
    /// A relay before this node sent false data, or its memory is bad.
    #[error(transparent)]
    Forged(#[from] Forged),
    /// The requested hash differs: the golden node's memory or this one's is bad.
    #[error(
        "the stream's SHA-256 is not the golden node's: the memory of one of the two machines may be faulty"
    )]
    Sum,
    /// There is no hash to compare with.
    #[error("the stream has no SHA-256 to compare with: start 'kactl send' with --check-sum, too")]
    NoSum,
}

/// How often a reader that waits for the relay checks whether its caller still waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// Sends a report to the relay.
type Tell = Box<dyn Fn(FromWriter) + Send>;

/// Reads the uncompressed stream.
pub struct StreamReader {
    plaintext: Receiver<Plaintext>,
    to_relay: Tell,
    /// Why the relay ended, if it did.
    aborted: Arc<Mutex<Option<String>>>,
    /// The rest is no longer wanted.
    left: Arc<AtomicBool>,
    /// The latest data from the relay, and the position up to which it is processed.
    piece: Bytes,
    position: usize,
    /// The offset of its end in the sealed stream.
    end: Offset,
    chunks: ChunkReader,
    decompressor: zstd::bulk::Decompressor<'static>,
    unpacked: Vec<u8>,
    current: Current,
    hash: Option<Sha256>,
    /// The controller's proofs of the stream, if there are any.
    proofs: Option<Receiver<Proof>>,
    checker: Checker,
    length: u64,
    sent: Option<Total>,
    /// The offset consumed, and how much of that was reported to the relay.
    written: Offset,
    told: Offset,
    /// Whether the writer has everything that it wants.
    complete: bool,
}

/// The location of the bytes that are read next, from start to end.
#[derive(Clone, Copy)]
enum Current {
    /// In the piece: they were not compressed.
    Piece(usize, usize),
    Unpacked(usize, usize),
}

impl StreamReader {
    /// Reads what the relay behind `relay` sends through `plaintext`.
    ///
    /// # Errors
    /// zstd has no memory.
    pub fn new(
        plaintext: Receiver<Plaintext>,
        relay: Handle,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        Self::without_relay(plaintext, move |news| relay.hear(news), aborted)
    }

    /// Reads from `plaintext`, and calls `tell` with the reports for a relay.
    ///
    /// # Errors
    /// zstd has no memory.
    pub fn without_relay(
        plaintext: Receiver<Plaintext>,
        tell: impl Fn(FromWriter) + Send + 'static,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        Ok(Self {
            plaintext,
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

    /// Also compares the SHA-256 of everything read with the golden node's. Call this before reading. It
    /// costs about half a CPU second per GiB.
    pub fn check_sum(&mut self) {
        self.hash = Some(Sha256::new());
    }

    /// Compares everything received with the controller's proofs. Call this before reading.
    pub fn expect_proofs(&mut self, proofs: Receiver<Proof>) {
        self.proofs = Some(proofs);
    }

    /// Reads the rest, and verifies that everything is what the golden node sent.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn finish(mut self) -> Result<Total, StreamError> {
        let sent = self.prove()?;
        self.complete = true;
        Ok(sent)
    }

    /// Does the same, for a caller that must know it before the last user of the bytes sees their end.
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

    /// Abandons the stream for a reason: all further reads return that error.
    #[must_use]
    pub fn aborted(&self) -> Option<StreamError> {
        let reason = self.aborted.lock().ok()?.clone()?;
        Some(StreamError::Aborted(reason))
    }

    /// Plaintext read so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes the next bytes current; returns false at the end.
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
            // The bytes of the last piece are consumed by now.
            self.written = self.end;
            if self.sent.is_some() {
                self.tell();
                return Ok(false);
            }
            if self.written.since(self.told) >= TELL_EVERY {
                self.tell();
            }
            let plaintext = self.next_plaintext()?;
            self.compare(&plaintext)?;
            self.sent = plaintext.total;
            (self.piece, self.position, self.end) = (plaintext.bytes, 0, plaintext.end);
            self.current = Current::Piece(0, 0);
        }
    }

    /// Compares contents with the proofs received so far.
    fn compare(&mut self, plaintext: &Plaintext) -> Result<(), Forged> {
        let Some(proofs) = &self.proofs else { return Ok(()) };
        while let Ok(proof) = proofs.try_recv() {
            self.checker.on_proof(proof)?;
        }
        self.checker.on_content(&plaintext.bytes, plaintext.from)
    }

    /// The uncompressed stream's SHA-256, if it was requested.
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

    /// Makes the next part of the piece current, decompressed if necessary.
    fn next_part(&mut self) -> Result<bool, StreamError> {
        let mut rest = &self.piece[self.position..];
        let part = self.chunks.next_part(&mut rest)?;
        let position = self.piece.len() - rest.len();
        self.current = match part {
            None => {
                self.position = position;
                return Ok(false);
            }
            Some(Part::Uncompressed(bytes)) => Current::Piece(position - bytes.len(), position),
            Some(Part::Zstd { uncompressed_length, bytes }) => {
                self.unpacked.clear();
                self.unpacked.reserve(uncompressed_length);
                self.decompressor
                    .decompress_to_buffer(bytes, &mut self.unpacked)
                    .map_err(StreamError::Decompress)?;
                if self.unpacked.len() != uncompressed_length {
                    return Err(StreamError::Decompress(io::ErrorKind::UnexpectedEof.into()));
                }
                Current::Unpacked(0, uncompressed_length)
            }
        };
        self.position = position;
        Ok(true)
    }

    /// Waits for the relay, after reporting everything to it: it may be waiting for the report.
    fn next_plaintext(&mut self) -> Result<Plaintext, StreamError> {
        let plaintext = match self.plaintext.try_recv() {
            Err(TryRecvError::Empty) => {
                self.tell();
                self.wait_for_plaintext()
            }
            received => received.ok(),
        };
        plaintext.ok_or_else(|| self.cut_off())
    }

    fn wait_for_plaintext(&self) -> Option<Plaintext> {
        loop {
            match self.plaintext.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if !self.left.load(Ordering::Acquire) => {}
                received => return received.ok(),
            }
        }
    }

    /// A handle that reports to this reader, from another thread, that the rest is not wanted.
    pub(super) fn leaver(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.left)
    }

    /// Fills `chunk` with the next bytes, without a copy if they were compressed; it stays empty at the end.
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

/// Without a copy, for writers that accept partial data.
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
    /// A writer that leaves before the end has failed; its node continues relaying.
    fn drop(&mut self) {
        if !self.complete {
            (self.to_relay)(FromWriter::Failed);
        }
    }
}
