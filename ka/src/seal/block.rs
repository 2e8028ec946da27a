//! One block: its kind, the sealed bytes, the tag.
//!
//! ```text
//! kind u8 (0 a part of the stream, 1 its end) | ciphertext | tag (16 bytes)
//! ```
//! A block's number is its place in the stream, which both sides know, so that it does not travel: it is the
//! nonce, and with the stream's id and the kind the associated data. A block that was altered, or that
//! belongs to another place or stream, does not open.

use std::sync::Arc;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use serde::{Deserialize, Serialize};

use super::key::{StreamId, StreamKey};
use super::pool::{Bytes, Pool};

/// The largest size of a sealed block in bytes. Few windows allow it: see [`max_block`].
pub const MAX_BLOCK: usize = 1024 * 1024;
/// The largest size that every window allows.
const LEAST_MAX_BLOCK: usize = 64 * 1024;
/// At least this many of the largest blocks fit into a window: with fewer, the stream would stall at each
/// hop.
const IN_WINDOW: u64 = 32;
const HEADER: usize = 1;
const TAG: usize = 16;
/// The maximum length of the plaintext in a block.
pub const MAX_PLAINTEXT: usize = MAX_BLOCK - HEADER - TAG;
/// The plain length of the final block: the total, the content's hash, and the SHA-256 if it was requested.
pub const FINAL_LEN: usize = 8 + 32;
const SUM: usize = 32;

const PART: u8 = 0;
const END: u8 = 1;

/// A sealed block as it travels. Cheap to clone: the bytes are shared, and stay where they were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block(Arc<Bytes>);

/// A block that is being received: its bytes go straight to their final place.
pub struct Arrival {
    memory: Bytes,
    filled: usize,
}

/// The largest block of a stream whose members have windows of `window` bytes.
#[must_use]
pub fn max_block(window: u64) -> usize {
    usize::try_from(window / IN_WINDOW).unwrap_or(MAX_BLOCK).clamp(LEAST_MAX_BLOCK, MAX_BLOCK)
}

/// The summary of the whole stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// The uncompressed stream's length in bytes.
    pub length: u64,
    /// The BLAKE3 hash of the content of all blocks before the final one: the root of [`crate::proof`].
    pub hash: [u8; 32],
    /// The uncompressed stream's SHA-256, if the golden node was asked for it.
    pub sha256: Option<[u8; SUM]>,
}

/// Why a block was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Its length is impossible for a block.
    #[error("a block of {0} bytes; a block has {HEADER} + {TAG} to {MAX_BLOCK}")]
    Length(usize),
    /// It does not verify: it is damaged, forged, or from another place or stream.
    #[error("the block does not verify")]
    Forged,
}

impl Block {
    /// Takes bytes from a link. Only their length has been checked.
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn from_wire(bytes: &[u8]) -> Result<Self, SealError> {
        let mut arrival = Arrival::new(bytes.len(), &Pool::default())?;
        arrival.room().copy_from_slice(bytes);
        arrival.fill(bytes.len());
        Ok(Self(Arc::new(arrival.memory)))
    }

    /// The bytes as they travel.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The length in bytes, as it travels and counts for offsets.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Arrival {
    /// Starts receiving a block of `length` bytes, in memory from `pool`.
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn new(length: usize, pool: &Pool) -> Result<Self, SealError> {
        if !(HEADER + TAG..=MAX_BLOCK).contains(&length) {
            return Err(SealError::Length(length));
        }
        Ok(Self { memory: pool.take(length), filled: 0 })
    }

    /// The buffer for the missing bytes.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.memory.vec()[self.filled..]
    }

    /// Records that this many more bytes have been received.
    pub fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.memory.len());
    }

    /// The number of missing bytes.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.memory.len() - self.filled
    }

    /// The block, once no byte is missing. Only its length has been checked.
    ///
    /// # Errors
    /// The arrival itself if bytes are missing.
    pub fn finish(self) -> Result<Block, Self> {
        if self.missing() == 0 { Ok(Block(Arc::new(self.memory))) } else { Err(self) }
    }
}

/// Seals a stream's blocks in order.
pub struct Sealer {
    key: LessSafeKey,
    stream: StreamId,
    next: u64,
    pool: Pool,
}

impl Sealer {
    /// Starts the stream of `key`. A key must have only one sealer, ever.
    #[must_use]
    pub fn new(key: &StreamKey) -> Self {
        Self { key: key.aead(), stream: key.stream, next: 0, pool: Pool::default() }
    }

    /// Seals the next block.
    ///
    /// # Errors
    /// [`SealError::Length`] when `plaintext` is longer than [`MAX_PLAINTEXT`].
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Block, SealError> {
        self.seal_with(&[plaintext], PART)
    }

    /// Seals the next block from several pieces of content.
    ///
    /// # Errors
    /// [`SealError::Length`] when the pieces together are longer than [`MAX_PLAINTEXT`].
    pub fn seal_pieces(&mut self, pieces: &[&[u8]]) -> Result<Block, SealError> {
        self.seal_with(pieces, PART)
    }

    /// Seals the final block.
    ///
    /// # Errors
    /// None in practice: the content has a fixed length.
    pub fn finish(mut self, total: &Total) -> Result<Block, SealError> {
        let sha256 = total.sha256.as_ref().map_or(&[][..], |sum| sum);
        self.seal_with(&[&total.length.to_le_bytes(), &total.hash, sha256], END)
    }

    fn seal_with(&mut self, pieces: &[&[u8]], kind: u8) -> Result<Block, SealError> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if length > MAX_PLAINTEXT {
            return Err(SealError::Length(length));
        }
        let mut memory = self.pool.take(HEADER + length + TAG);
        let (header, rest) = memory.vec().split_at_mut(HEADER);
        let (sealed, at_tag) = rest.split_at_mut(length);
        header.fill(kind);
        let mut room = &mut *sealed;
        for piece in pieces {
            let (here, behind) = room.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            room = behind;
        }
        let aad = associated(self.stream, self.next, kind);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.next), Aad::from(aad), sealed)
            .map_err(|_| SealError::Length(length))?;
        at_tag.copy_from_slice(tag.as_ref());
        self.next += 1;
        Ok(Block(Arc::new(memory)))
    }
}

/// Verifies and opens a stream's blocks.
pub struct Opener {
    key: LessSafeKey,
    stream: StreamId,
}

impl Opener {
    /// Opens blocks of the stream of `key`.
    #[must_use]
    pub fn new(key: &StreamKey) -> Self {
        Self { key: key.aead(), stream: key.stream }
    }

    /// Opens `block`, which must be block `number`: appends its content to `plaintext`, or returns the
    /// content of the final block and appends nothing.
    ///
    /// # Errors
    /// [`SealError::Forged`] when it is damaged, forged, or another block. `plaintext` is then unchanged.
    pub fn open(
        &self,
        block: &Block,
        number: u64,
        plaintext: &mut Vec<u8>,
    ) -> Result<Option<Total>, SealError> {
        let Some((&kind, sealed)) = block.bytes().split_first() else { return Err(SealError::Forged) };
        let start = plaintext.len();
        // The block itself is forwarded unchanged, so a copy is opened, in the place where the plaintext is
        // wanted.
        plaintext.extend_from_slice(sealed);
        let aad = associated(self.stream, number, kind);
        let opened = self.key.open_in_place(nonce(number), Aad::from(aad), &mut plaintext[start..]);
        let (length, opened) = match (opened, kind) {
            (Ok(plaintext), PART) => (plaintext.len(), Ok(None)),
            (Ok(plaintext), END) => (0, total(plaintext).map(Some)),
            _ => (0, Err(SealError::Forged)),
        };
        plaintext.truncate(start + length);
        opened
    }
}

fn total(plaintext: &[u8]) -> Result<Total, SealError> {
    let (length, rest) = plaintext.split_first_chunk().ok_or(SealError::Forged)?;
    let (hash, rest) = rest.split_first_chunk().ok_or(SealError::Forged)?;
    let sha256 = match rest {
        [] => None,
        sum => Some(sum.try_into().map_err(|_| SealError::Forged)?),
    };
    Ok(Total { length: u64::from_le_bytes(*length), hash: *hash, sha256 })
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn associated(stream: StreamId, number: u64, kind: u8) -> [u8; 25] {
    let mut bytes = [kind; 25];
    bytes[..16].copy_from_slice(&stream.0);
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::key::Cipher;
    use super::*;

    fn stream(cipher: Cipher) -> (StreamKey, Vec<Block>) {
        let key = StreamKey::generate(cipher).unwrap();
        let mut sealer = Sealer::new(&key);
        let mut blocks = vec![
            sealer.seal(b"one").unwrap(),
            sealer.seal(&[7; MAX_PLAINTEXT]).unwrap(),
            sealer.seal(b"").unwrap(),
        ];
        blocks.push(sealer.finish(&Total { length: 3, hash: [9; 32], sha256: None }).unwrap());
        (key, blocks)
    }

    fn open(opener: &Opener, block: &Block, expected: u64) -> Result<(Vec<u8>, Option<Total>), SealError> {
        let mut plaintext = b"before".to_vec();
        let total = opener.open(block, expected, &mut plaintext);
        assert!(plaintext.starts_with(b"before") && (total.is_ok() || plaintext.len() == 6));
        total.map(|total| (plaintext.split_off(6), total))
    }

    #[test]
    fn what_was_sealed_opens() {
        for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let (key, blocks) = stream(cipher);
            let opener = Opener::new(&key);
            assert_eq!(open(&opener, &blocks[0], 0), Ok((b"one".to_vec(), None)));
            assert_eq!(open(&opener, &blocks[1], 1), Ok((vec![7; MAX_PLAINTEXT], None)));
            assert_eq!(blocks[1].bytes().len(), MAX_BLOCK);
            assert_eq!(open(&opener, &blocks[2], 2), Ok((Vec::new(), None)));
            let total = Total { length: 3, hash: [9; 32], sha256: None };
            assert_eq!(open(&opener, &blocks[3], 3), Ok((Vec::new(), Some(total))));
        }
    }

    #[test]
    fn pieces_are_one_content_and_a_sum_travels_only_if_there_is_one() {
        let key = StreamKey::generate(Cipher::Aes256Gcm).unwrap();
        let (mut sealer, opener) = (Sealer::new(&key), Opener::new(&key));
        let block = sealer.seal_pieces(&[b"one", b"", b", two"]).unwrap();
        assert_eq!(open(&opener, &block, 0), Ok((b"one, two".to_vec(), None)));
        let halves = [[0; MAX_PLAINTEXT / 2].as_slice(), &[0; MAX_PLAINTEXT / 2 + 2]];
        assert_eq!(sealer.seal_pieces(&halves), Err(SealError::Length(2 * (MAX_PLAINTEXT / 2) + 2)));
        let total = Total { length: 8, hash: [1; 32], sha256: Some([2; 32]) };
        let last = sealer.finish(&total).unwrap();
        assert_eq!(open(&opener, &last, 1), Ok((Vec::new(), Some(total))));
        assert_eq!(last.bytes().len(), HEADER + FINAL_LEN + SUM + TAG);
    }

    #[test]
    fn a_window_holds_many_of_its_largest_blocks() {
        for (window, largest) in [(0, 64), (8, 256), (1, 64), (16, 512), (32, 1024), (256, 1024)] {
            assert_eq!(max_block(window << 20), largest << 10, "{window} MiB");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let (key, blocks) = stream(Cipher::Aes256Gcm);
        let opener = Opener::new(&key);
        for (number, block) in (0..).zip([&blocks[0], &blocks[3]]) {
            for bit in 0..block.bytes().len() * 8 {
                let mut bytes = block.bytes().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let damaged = Block::from_wire(&bytes).unwrap();
                assert!(open(&opener, &damaged, number * 3).is_err(), "bit {bit} of block {number}");
            }
        }
    }

    #[test]
    fn blocks_of_another_place_or_stream_are_refused() {
        let (key, blocks) = stream(Cipher::Aes256Gcm);
        let opener = Opener::new(&key);
        assert_eq!(open(&opener, &blocks[1], 0), Err(SealError::Forged));
        assert_eq!(open(&opener, &blocks[3], 2), Err(SealError::Forged));
        let (_, others) = stream(Cipher::Aes256Gcm);
        assert_eq!(open(&opener, &others[0], 0), Err(SealError::Forged));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0, HEADER + TAG - 1, MAX_BLOCK + 1] {
            assert_eq!(Block::from_wire(&vec![0; length]), Err(SealError::Length(length)));
        }
    }
}
