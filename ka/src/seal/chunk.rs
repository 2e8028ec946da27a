//! Chunks: the unit of compression.
//!
//! The uncompressed stream is compressed in pieces of up to [`MAX_CHUNK`] bytes, each independently, so that
//! several threads can compress in parallel. A piece that does not shrink is stored as it is. In the sealed
//! stream a chunk is
//!
//! ```text
//! kind u8 (0 as it is, 1 zstd) | uncompressed length u32 | length u32 | bytes          all little-endian
//! ```

/// The most uncompressed bytes in a chunk.
pub const MAX_CHUNK: usize = 2 * 1024 * 1024;
/// The length of a chunk's header.
pub const HEADER: usize = 9;

/// How a chunk's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Uncompressed.
    Uncompressed,
    /// As one zstd frame.
    Zstd,
}

/// A chunk, still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How `bytes` are stored.
    pub kind: Kind,
    /// Its uncompressed length, in bytes.
    pub uncompressed_length: usize,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

/// A piece of the stream, as [`ChunkReader`] finds it. It is not copied more than necessary: a chunk is as
/// large as a processor's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes of the uncompressed stream.
    Uncompressed(&'a [u8]),
    /// A whole zstd frame that decompresses to `uncompressed_length` bytes.
    Zstd {
        /// Its uncompressed length, in bytes.
        uncompressed_length: usize,
        /// The stored bytes.
        bytes: &'a [u8],
    },
}

/// Bytes that are not a chunk from ka's sealer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream contains an invalid chunk (kind {kind}, {uncompressed} bytes stored in {stored})")]
pub struct ChunkError {
    kind: u8,
    uncompressed: u32,
    stored: u32,
}

impl Chunk {
    /// Appends the chunk to `out`.
    ///
    /// # Panics
    /// Never for chunks within [`MAX_CHUNK`].
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&header(self.kind, self.uncompressed_length, self.bytes.len()));
        out.extend_from_slice(&self.bytes);
    }
}

/// The header of a chunk with `stored` stored and `uncompressed` uncompressed bytes; neither exceeds
/// [`MAX_CHUNK`].
#[must_use]
pub fn header(kind: Kind, uncompressed: usize, stored: usize) -> [u8; HEADER] {
    let kind = match kind {
        Kind::Uncompressed => 0,
        Kind::Zstd => 1,
    };
    let [p0, p1, p2, p3] = u32::try_from(uncompressed).unwrap_or(u32::MAX).to_le_bytes();
    let [s0, s1, s2, s3] = u32::try_from(stored).unwrap_or(u32::MAX).to_le_bytes();
    [kind, p0, p1, p2, p3, s0, s1, s2, s3]
}

/// Splits the stream back into chunks, from input pieces of any size.
#[derive(Default)]
pub struct ChunkReader {
    /// The next chunk's header, as far as it has been received.
    header: Vec<u8>,
    /// The current chunk: its storage, its uncompressed length and its missing bytes.
    due: Option<(Kind, usize, usize)>,
    /// A compressed chunk that has been received in part.
    stored: Vec<u8>,
}

impl ChunkReader {
    /// The next part of the stream from the start of `input`, which is advanced past it; `None` when `input`
    /// is used up.
    ///
    /// # Errors
    /// [`ChunkError`] when the bytes are not a chunk.
    pub fn next_part<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8]) -> Result<Option<Part<'a>>, ChunkError> {
        loop {
            let Some((kind, uncompressed_length, due)) = self.due.take() else {
                if !self.read_header(input)? {
                    return Ok(None);
                }
                continue;
            };
            let here = due.min(input.len());
            let bytes = take(input, here);
            match kind {
                _ if here == 0 && due > 0 => {
                    self.due = Some((kind, uncompressed_length, due));
                    return Ok(None);
                }
                Kind::Uncompressed => {
                    self.due = (here < due).then_some((kind, uncompressed_length, due - here));
                    if here > 0 {
                        return Ok(Some(Part::Uncompressed(bytes)));
                    }
                }
                Kind::Zstd if here < due => {
                    self.stored.extend_from_slice(bytes);
                    self.due = Some((kind, uncompressed_length, due - here));
                }
                Kind::Zstd if self.stored.is_empty() => {
                    return Ok(Some(Part::Zstd { uncompressed_length, bytes }));
                }
                Kind::Zstd => {
                    self.stored.extend_from_slice(bytes);
                    return Ok(Some(Part::Zstd { uncompressed_length, bytes: &self.stored }));
                }
            }
        }
    }

    /// Whether no partial chunk is left over: at the stream's end, this must be true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.is_empty() && self.due.is_none()
    }

    /// Reads the next chunk's header. Returns whether it is complete.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        self.stored.clear();
        self.header.extend_from_slice(take(input, (HEADER - self.header.len()).min(input.len())));
        let Some(&[kind, p0, p1, p2, p3, s0, s1, s2, s3]) = self.header.first_chunk::<HEADER>() else {
            return Ok(false);
        };
        self.header.clear();
        let uncompressed = u32::from_le_bytes([p0, p1, p2, p3]);
        let stored = u32::from_le_bytes([s0, s1, s2, s3]);
        let error = ChunkError { kind, uncompressed, stored };
        let kind = match kind {
            0 if uncompressed == stored => Kind::Uncompressed,
            1 => Kind::Zstd,
            _ => return Err(error),
        };
        let (uncompressed_length, length) = (uncompressed as usize, stored as usize);
        if uncompressed_length > MAX_CHUNK || length > MAX_CHUNK {
            return Err(error);
        }
        self.due = Some((kind, uncompressed_length, length));
        Ok(true)
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_survive_any_cut(
            bytes in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 1..20),
            cut in 1usize..97,
        ) {
            let (mut stream, mut plain, mut frames) = (Vec::new(), Vec::new(), Vec::new());
            for (compressed, bytes) in bytes {
                if compressed {
                    frames.push((plain.len(), bytes.clone()));
                    Chunk { kind: Kind::Zstd, uncompressed_length: 7, bytes }.append_to(&mut stream);
                } else {
                    plain.extend_from_slice(&bytes);
                    Chunk { kind: Kind::Uncompressed, uncompressed_length: bytes.len(), bytes }.append_to(&mut stream);
                }
            }
            let mut reader = ChunkReader::default();
            let (mut read, mut found) = (Vec::new(), Vec::new());
            for mut piece in stream.chunks(cut) {
                while let Some(part) = reader.next_part(&mut piece).unwrap() {
                    match part {
                        Part::Uncompressed(bytes) => read.extend_from_slice(bytes),
                        Part::Zstd { uncompressed_length, bytes } => {
                            prop_assert_eq!(uncompressed_length, 7);
                            found.push((read.len(), bytes.to_vec()));
                        }
                    }
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert_eq!((read, found), (plain, frames));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = ChunkReader::default();
            let mut rest = &bytes[..];
            while let Ok(Some(_)) = reader.next_part(&mut rest) {}
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_chunk_is_not_empty() {
        let mut stream = Vec::new();
        Chunk { kind: Kind::Uncompressed, uncompressed_length: 3, bytes: b"abc".to_vec() }
            .append_to(&mut stream);
        for length in 1..stream.len() {
            let mut reader = ChunkReader::default();
            let mut rest = &stream[..length];
            while reader.next_part(&mut rest).unwrap().is_some() {}
            assert!(!reader.is_empty(), "{length}");
        }
    }

    #[test]
    fn impossible_chunks_are_refused() {
        let huge = u32::try_from(MAX_CHUNK + 1).unwrap();
        for (kind, uncompressed, stored) in [(2, 1, 1), (0, 2, 1), (1, huge, 1), (1, 1, huge)] {
            let mut bytes = vec![kind];
            bytes.extend_from_slice(&u32::to_le_bytes(uncompressed));
            bytes.extend_from_slice(&u32::to_le_bytes(stored));
            let mut reader = ChunkReader::default();
            assert_eq!(reader.next_part(&mut &bytes[..]), Err(ChunkError { kind, uncompressed, stored }));
        }
    }
}
