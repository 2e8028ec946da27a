//! The plain stream as the writer reads it: the end is only the end when length and hash prove it.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use ka::chain::Plain;
use ka::seal::Total;
use ka::seal::chunk::ChunkError;

use super::inflate::{Inflated, Inflater, Proof, Tell};
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
    inflater: Inflater,
    tell: Tell,
    current: Inflated,
    position: usize,
    length: u64,
    /// Whether the writer has all that it wants.
    complete: bool,
}

impl StreamReader {
    /// Reads what the relay behind `relay` hands out through `plain`.
    ///
    /// # Errors
    /// When zstd has no memory, or the system no thread.
    pub fn new(
        plain: Receiver<Plain>,
        relay: Handle,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        Self::without_relay(plain, move |command| relay.tell(command), aborted)
    }

    /// Reads what comes through `plain`; what a relay would be told is told to `tell`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_relay(
        plain: Receiver<Plain>,
        tell: impl Fn(Command) + Send + Sync + 'static,
        aborted: Arc<Mutex<Option<String>>>,
    ) -> io::Result<Self> {
        let tell: Tell = Arc::new(tell);
        Ok(Self {
            inflater: Inflater::start(plain, Arc::clone(&tell), aborted)?,
            tell,
            current: Inflated::default(),
            position: 0,
            length: 0,
            complete: false,
        })
    }

    /// Reads what is left, and proves that all is what the golden node sent.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn finish(mut self) -> Result<Total, StreamError> {
        while self.advance()? {}
        let Proof { sent, got, whole } = self.inflater.proof()?;
        if !whole || sent != got {
            return Err(StreamError::Differs { got, sent });
        }
        self.complete = true;
        Ok(got)
    }

    /// Plain bytes that the writer was given so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes the next chunk current; false at the end.
    fn advance(&mut self) -> Result<bool, StreamError> {
        self.position = 0;
        self.inflater.give_back(std::mem::take(&mut self.current));
        let Some(chunk) = self.inflater.next()? else { return Ok(false) };
        self.length += chunk.len() as u64;
        self.current = chunk;
        Ok(true)
    }
}

impl BufRead for StreamReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position >= self.current.len() {
            if !self.advance().map_err(io::Error::other)? {
                break;
            }
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = buffer.len().min(there.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), there.get(..length)) {
            to.copy_from_slice(from);
        }
        self.consume(length);
        Ok(length)
    }
}

impl Drop for StreamReader {
    /// A writer that leaves before the end has failed; its node goes on relaying.
    fn drop(&mut self) {
        if !self.complete {
            (self.tell)(Command::WriterFailed);
        }
    }
}
