//! One block: a header in the clear, the sealed bytes, the tag.
//!
//! ```text
//! number u64 | plain length u32 | flags u32 | ciphertext | tag (16 bytes)      all little-endian
//! ```
//! Stream id and header are associated data, and the number is the nonce: a block that was altered,
//! renumbered, or taken from another stream does not open.

use std::sync::Arc;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use serde::{Deserialize, Serialize};

use super::key::{StreamId, StreamKey};
use super::pool::{Memory, Pool};

/// A sealed block's largest size in bytes.
pub const MAX_BLOCK: usize = 64 * 1024;
const HEADER: usize = 16;
const TAG: usize = 16;
/// The most plain bytes that fit into a block.
pub const MAX_PLAIN: usize = MAX_BLOCK - HEADER - TAG;
/// The plain length of the final block: the total, then the SHA-256.
pub const FINAL_LEN: usize = 8 + 32;

const FLAG_FINAL: u32 = 1;

/// A sealed block as it travels. Cheap to clone: the bytes are shared, and stay where they were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block(Arc<Memory>);

/// A block that is on its way in: its bytes go at once to where they stay.
pub struct Arrival {
    memory: Memory,
    filled: usize,
}

/// What the plain stream was, all told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// Why a block was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Its length fits no block.
    #[error("a block of {0} bytes; a block has {HEADER} + {TAG} to {MAX_BLOCK}")]
    Length(usize),
    /// Its header contradicts itself.
    #[error("the block's header is damaged")]
    Header,
    /// It does not verify: damaged, forged, or of another stream.
    #[error("the block does not verify")]
    Forged,
    /// It verifies, but is not the next one.
    #[error("block {found} arrived where {expected} was due")]
    Order {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

impl Block {
    /// Takes bytes from a link; nothing is known of them but that their length is possible.
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn from_wire(bytes: &[u8]) -> Result<Self, SealError> {
        let mut arrival = Arrival::new(bytes.len(), &Pool::default())?;
        arrival.room().copy_from_slice(bytes);
        arrival.fill(bytes.len());
        Ok(Self(Arc::new(arrival.memory)))
    }

    /// The bytes that travel.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Length in bytes as it travels and counts for offsets.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.bytes().len() as u64
    }
}

impl Arrival {
    /// Waits for a block of `length` bytes, with memory of `pool`.
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn new(length: usize, pool: &Pool) -> Result<Self, SealError> {
        if !(HEADER + TAG..=MAX_BLOCK).contains(&length) {
            return Err(SealError::Length(length));
        }
        Ok(Self { memory: pool.take(length), filled: 0 })
    }

    /// Where the bytes go that are still missing.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[self.filled..]
    }

    /// So many of them are there now.
    pub fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.memory.bytes().len());
    }

    /// How many bytes are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.memory.bytes().len() - self.filled
    }

    /// The block, when nothing is missing any more. Nothing is known of it but that its length is possible.
    ///
    /// # Errors
    /// The arrival itself while bytes are missing.
    pub fn finish(self) -> Result<Block, Self> {
        if self.missing() == 0 { Ok(Block(Arc::new(self.memory))) } else { Err(self) }
    }
}

/// Seals a stream's blocks, one after the other.
pub struct Sealer {
    key: LessSafeKey,
    stream: StreamId,
    next: u64,
    pool: Pool,
}

impl Sealer {
    /// Starts the stream of `key`. A key has one sealer, ever.
    #[must_use]
    pub fn new(key: &StreamKey) -> Self {
        Self { key: key.aead(), stream: key.stream, next: 0, pool: Pool::default() }
    }

    /// Seals the next block.
    ///
    /// # Errors
    /// [`SealError::Length`] when `plain` is longer than [`MAX_PLAIN`].
    pub fn seal(&mut self, plain: &[u8]) -> Result<Block, SealError> {
        self.seal_with(plain, 0)
    }

    /// Seals the final block.
    ///
    /// # Errors
    /// None in practice: the content has a fixed length.
    pub fn finish(mut self, total: &Total) -> Result<Block, SealError> {
        let mut plain = Vec::with_capacity(FINAL_LEN);
        plain.extend_from_slice(&total.length.to_le_bytes());
        plain.extend_from_slice(&total.sha256);
        self.seal_with(&plain, FLAG_FINAL)
    }

    fn seal_with(&mut self, plain: &[u8], flags: u32) -> Result<Block, SealError> {
        let length = u32::try_from(plain.len()).ok().filter(|_| plain.len() <= MAX_PLAIN);
        let length = length.ok_or(SealError::Length(plain.len()))?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&self.next.to_le_bytes());
        header[8..12].copy_from_slice(&length.to_le_bytes());
        header[12..].copy_from_slice(&flags.to_le_bytes());
        let mut memory = self.pool.take(HEADER + plain.len() + TAG);
        let (at_header, rest) = memory.bytes_mut().split_at_mut(HEADER);
        let (sealed, at_tag) = rest.split_at_mut(plain.len());
        at_header.copy_from_slice(&header);
        sealed.copy_from_slice(plain);
        let aad = associated(self.stream, &header);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.next), Aad::from(aad), sealed)
            .map_err(|_| SealError::Length(plain.len()))?;
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

    /// Opens `block`, which must be number `expected`: appends what it holds to `plain`, or returns what the
    /// final block tells and appends nothing.
    ///
    /// # Errors
    /// [`SealError`] when it is damaged, forged, or another one; then `plain` is as it was.
    pub fn open(
        &self,
        block: &Block,
        expected: u64,
        plain: &mut Vec<u8>,
    ) -> Result<Option<Total>, SealError> {
        let (header, sealed) = block.bytes().split_first_chunk::<HEADER>().ok_or(SealError::Header)?;
        let found = u64::from_le_bytes(field(header, 0));
        let length = u32::from_le_bytes(field(header, 8));
        let flags = u32::from_le_bytes(field(header, 12));
        if length as usize + TAG != sealed.len() {
            return Err(SealError::Header);
        }
        let start = plain.len();
        // The block itself travels on as it came, so it is opened in a copy: where the plain bytes are wanted.
        plain.extend_from_slice(sealed);
        let aad = associated(self.stream, header);
        let opened = self.key.open_in_place(nonce(found), Aad::from(aad), &mut plain[start..]);
        let opened = match opened {
            Err(_) => Err(SealError::Forged),
            Ok(_) if found != expected => Err(SealError::Order { expected, found }),
            Ok(plain) if flags & FLAG_FINAL != 0 => total(plain).map(Some),
            Ok(_) => Ok(None),
        };
        let kept = if matches!(opened, Ok(None)) { length as usize } else { 0 };
        plain.truncate(start + kept);
        opened
    }
}

fn total(plain: &[u8]) -> Result<Total, SealError> {
    let (length, sha256) = plain.split_first_chunk().ok_or(SealError::Header)?;
    let sha256 = sha256.try_into().map_err(|_| SealError::Header)?;
    Ok(Total { length: u64::from_le_bytes(*length), sha256 })
}

fn field<const N: usize>(header: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn associated(stream: StreamId, header: &[u8; HEADER]) -> [u8; 16 + HEADER] {
    let mut bytes = [0; 16 + HEADER];
    bytes[..16].copy_from_slice(&stream.0);
    bytes[16..].copy_from_slice(header);
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
            sealer.seal(&[7; MAX_PLAIN]).unwrap(),
            sealer.seal(b"").unwrap(),
        ];
        blocks.push(sealer.finish(&Total { length: 3, sha256: [9; 32] }).unwrap());
        (key, blocks)
    }

    fn open(opener: &Opener, block: &Block, expected: u64) -> Result<(Vec<u8>, Option<Total>), SealError> {
        let mut plain = b"before".to_vec();
        let total = opener.open(block, expected, &mut plain);
        assert!(plain.starts_with(b"before") && (total.is_ok() || plain.len() == 6));
        total.map(|total| (plain.split_off(6), total))
    }

    #[test]
    fn what_was_sealed_opens() {
        for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let (key, blocks) = stream(cipher);
            let opener = Opener::new(&key);
            assert_eq!(open(&opener, &blocks[0], 0), Ok((b"one".to_vec(), None)));
            assert_eq!(open(&opener, &blocks[1], 1), Ok((vec![7; MAX_PLAIN], None)));
            assert_eq!(blocks[1].bytes().len(), MAX_BLOCK);
            assert_eq!(open(&opener, &blocks[2], 2), Ok((Vec::new(), None)));
            let total = Total { length: 3, sha256: [9; 32] };
            assert_eq!(open(&opener, &blocks[3], 3), Ok((Vec::new(), Some(total))));
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
        assert_eq!(open(&opener, &blocks[1], 0), Err(SealError::Order { expected: 0, found: 1 }));
        assert_eq!(open(&opener, &blocks[3], 2), Err(SealError::Order { expected: 2, found: 3 }));
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
