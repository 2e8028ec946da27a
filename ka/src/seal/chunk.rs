//! Chunks: the unit of compression.
//!
//! The plain stream is compressed in pieces of up to [`MAX_CHUNK`] bytes, each for itself, so that
//! several threads can work on several pieces; a piece that does not get smaller goes as it is. In the
//! sealed stream a chunk is
//!
//! ```text
//! kind u8 (0 as it is, 1 zstd) | plain length u32 | length u32 | bytes          all little-endian
//! ```

/// The most plain bytes of a chunk.
pub const MAX_CHUNK: usize = 2 * 1024 * 1024;
const HEADER: usize = 9;

/// How a chunk's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As they are.
    Plain,
    /// As one zstd frame.
    Zstd,
}

/// A chunk, still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How `bytes` are stored.
    pub kind: Kind,
    /// Its length when unpacked, in bytes.
    pub plain_length: usize,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

/// A chunk as it lies in a [`ChunkReader`]: not copied, for it is as large as a processor's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredChunk<'a> {
    /// How `bytes` are stored.
    pub kind: Kind,
    /// Its length when unpacked, in bytes.
    pub plain_length: usize,
    /// The stored bytes.
    pub bytes: &'a [u8],
}

/// A chunk that no sealer made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream holds an impossible chunk (kind {kind}, {plain} bytes stored in {stored})")]
pub struct ChunkError {
    kind: u8,
    plain: u32,
    stored: u32,
}

impl Chunk {
    /// Appends the chunk to `out`.
    ///
    /// # Panics
    /// Never for chunks within [`MAX_CHUNK`].
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            Kind::Plain => 0,
            Kind::Zstd => 1,
        });
        for length in [self.plain_length, self.bytes.len()] {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Puts chunks together again from pieces of any size.
#[derive(Default)]
pub struct ChunkReader {
    buffer: Vec<u8>,
    start: usize,
}

impl ChunkReader {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > self.buffer.len() / 2 {
            // Less is moved than was read since the last time.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole chunk, or none until more bytes come.
    ///
    /// # Errors
    /// [`ChunkError`] when the bytes are no chunk.
    pub fn next_chunk(&mut self) -> Result<Option<StoredChunk<'_>>, ChunkError> {
        let Some((header, rest)) = self.buffer[self.start..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, p0, p1, p2, p3, s0, s1, s2, s3] = *header;
        let plain = u32::from_le_bytes([p0, p1, p2, p3]);
        let stored = u32::from_le_bytes([s0, s1, s2, s3]);
        let error = ChunkError { kind, plain, stored };
        let kind = match kind {
            0 if plain == stored => Kind::Plain,
            1 => Kind::Zstd,
            _ => return Err(error),
        };
        let (plain_length, length) = (plain as usize, stored as usize);
        if plain_length > MAX_CHUNK || length > MAX_CHUNK {
            return Err(error);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.start + HEADER;
        self.start = start + length;
        Ok(Some(StoredChunk { kind, plain_length, bytes: &self.buffer[start..self.start] }))
    }

    /// Whether nothing is left over: at the stream's end, all must be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_survive_any_cut(
            bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
            cut in 1usize..97,
        ) {
            let chunks: Vec<Chunk> = bytes
                .into_iter()
                .map(|bytes| Chunk { kind: Kind::Plain, plain_length: bytes.len(), bytes })
                .collect();
            let mut stream = Vec::new();
            chunks.iter().for_each(|chunk| chunk.append_to(&mut stream));
            let mut reader = ChunkReader::default();
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                reader.push(piece);
                while let Some(StoredChunk { kind, plain_length, bytes }) = reader.next_chunk().unwrap() {
                    read.push(Chunk { kind, plain_length, bytes: bytes.to_vec() });
                }
            }
            prop_assert_eq!(read, chunks);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = ChunkReader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_chunk() {}
        }
    }

    #[test]
    fn impossible_chunks_are_refused() {
        let huge = u32::try_from(MAX_CHUNK + 1).unwrap();
        for (kind, plain, stored) in [(2, 1, 1), (0, 2, 1), (1, huge, 1), (1, 1, huge)] {
            let mut bytes = vec![kind];
            bytes.extend_from_slice(&u32::to_le_bytes(plain));
            bytes.extend_from_slice(&u32::to_le_bytes(stored));
            let mut reader = ChunkReader::default();
            reader.push(&bytes);
            assert_eq!(reader.next_chunk(), Err(ChunkError { kind, plain, stored }));
        }
    }
}
