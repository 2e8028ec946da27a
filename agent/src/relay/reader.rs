//! The plain stream as the writer reads it: blocks come from the relay, chunks are unpacked, and the
//! end is only the end when length and hash prove it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};

use ka::chain::{Offset, Plain};
use ka::seal::Total;
use ka::seal::chunk::{ChunkError, ChunkReader, Kind};
use sha2::{Digest, Sha256};

use super::{Command, Handle};

/// The relay hears of this many written bytes at once at the latest. Each word to it wakes its thread; a window
/// has sixteen times as much at the least.
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
    /// The end came too early, or something else than what was sent.
    #[error("the stream is not what the golden node sent: {got:?}, not {sent:?}")]
    Differs {
        /// What arrived.
        got: Total,
        /// What the golden node says that it sent.
        sent: Total,
    },
}

/// Reads the plain stream.
pub struct StreamReader {
    plain: Receiver<Plain>,
    relay: Handle,
    /// Why the relay ended, if it did.
    aborted: Arc<Mutex<Option<String>>>,
    chunks: ChunkReader,
    decompressor: zstd::bulk::Decompressor<'static>,
    current: Vec<u8>,
    position: usize,
    hash: Sha256,
    length: u64,
    sent: Option<Total>,
    /// What has been taken, and how much of that the relay knows.
    written: Offset,
    told: Offset,
    /// Whether the writer has all that it wants.
    complete: bool,
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
        Ok(Self {
            plain,
            relay,
            aborted,
            chunks: ChunkReader::default(),
            decompressor: zstd::bulk::Decompressor::new()?,
            current: Vec::new(),
            position: 0,
            hash: Sha256::new(),
            length: 0,
            sent: None,
            written: Offset(0),
            told: Offset(0),
            complete: false,
        })
    }

    /// Reads what is left, and proves that all is what the golden node sent.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn finish(mut self) -> Result<Total, StreamError> {
        while self.advance()? {}
        let got = Total { length: self.length, sha256: self.hash.clone().finalize().into() };
        match self.sent {
            Some(sent) if sent == got && self.chunks.is_empty() => {
                self.complete = true;
                Ok(got)
            }
            Some(sent) => Err(StreamError::Differs { got, sent }),
            None => Err(self.aborted()),
        }
    }

    /// Plain bytes read so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes the next chunk current; false at the end.
    fn advance(&mut self) -> Result<bool, StreamError> {
        loop {
            if self.next_chunk()? {
                self.length += self.current.len() as u64;
                self.hash.update(&self.current);
                return Ok(true);
            }
            if self.sent.is_some() {
                self.tell();
                return Ok(false);
            }
            let plain = self.next_plain()?;
            match plain.total {
                Some(total) => self.sent = Some(total),
                None => self.chunks.push(&plain.bytes),
            }
            self.written = plain.end;
            if self.written.since(self.told) >= TELL_EVERY {
                self.tell();
            }
        }
    }

    /// Unpacks the next chunk, if one is whole, into the memory of the one before it.
    fn next_chunk(&mut self) -> Result<bool, StreamError> {
        let Some(chunk) = self.chunks.next_chunk()? else { return Ok(false) };
        self.current.clear();
        self.position = 0;
        match chunk.kind {
            Kind::Plain => self.current.extend_from_slice(chunk.bytes),
            Kind::Zstd => {
                self.current.reserve(chunk.plain_length);
                self.decompressor
                    .decompress_to_buffer(chunk.bytes, &mut self.current)
                    .map_err(StreamError::Decompress)?;
                if self.current.len() != chunk.plain_length {
                    // Nobody shall read it.
                    self.current.clear();
                    return Err(StreamError::Decompress(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
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
        plain.ok_or_else(|| self.aborted())
    }

    fn tell(&mut self) {
        if self.written != self.told {
            self.told = self.written;
            self.relay.tell(Command::Written(self.written));
        }
    }

    fn aborted(&self) -> StreamError {
        let reason = self.aborted.lock().ok().and_then(|reason| reason.clone());
        StreamError::Aborted(reason.unwrap_or_else(|| "the relay has ended".into()))
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            if !self.advance().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let length = buffer.len().min(self.current.len() - self.position);
        buffer[..length].copy_from_slice(&self.current[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}

impl Drop for StreamReader {
    /// A writer that leaves before the end has failed; its node goes on relaying.
    fn drop(&mut self) {
        if !self.complete {
            self.relay.tell(Command::WriterFailed);
        }
    }
}
