//! The plain stream as the writer reads it: blocks come from the relay, chunks are unpacked, and the
//! end is only the end when length and hash prove it.

use std::io::{self, Read};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use ka::chain::{Offset, Plain};
use ka::seal::Total;
use ka::seal::chunk::{Chunk, ChunkError, ChunkReader, Kind};
use sha2::{Digest, Sha256};

use super::{Command, Handle};

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
            if let Some(chunk) = self.chunks.next_chunk()? {
                self.current = self.unpack(chunk)?;
                self.position = 0;
                self.length += self.current.len() as u64;
                self.hash.update(&self.current);
                return Ok(true);
            }
            if self.sent.is_some() {
                return Ok(false);
            }
            let Ok(plain) = self.plain.recv() else { return Err(self.aborted()) };
            match plain.total {
                Some(total) => self.sent = Some(total),
                None => self.chunks.push(&plain.bytes),
            }
            self.written(plain.end);
        }
    }

    fn unpack(&mut self, chunk: Chunk) -> Result<Vec<u8>, StreamError> {
        match chunk.kind {
            Kind::Plain => Ok(chunk.bytes),
            Kind::Zstd => {
                let plain = self
                    .decompressor
                    .decompress(&chunk.bytes, chunk.plain_length)
                    .map_err(StreamError::Decompress)?;
                if plain.len() == chunk.plain_length {
                    Ok(plain)
                } else {
                    Err(StreamError::Decompress(io::ErrorKind::UnexpectedEof.into()))
                }
            }
        }
    }

    fn written(&self, end: Offset) {
        self.relay.tell(Command::Written(end));
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
