//! The stream that a simulated golden node sends: generated, really sealed, and known in full, so
//! that every byte of every writer can be judged.

use std::collections::BTreeSet;

use ka::chain::Offset;
use ka::seal::{Block, Cipher, MAX_PLAIN, Sealer, StreamKey, Total};

use super::random::Random;

/// What sealing adds to a block's plain bytes.
pub(super) const OVERHEAD: u64 = 32;

/// A whole stream.
pub(super) struct Stream {
    /// How it is sealed.
    pub(super) key: StreamKey,
    /// All blocks, the final one included.
    pub(super) blocks: Vec<Block>,
    /// Where each block ends.
    pub(super) ends: Vec<Offset>,
    /// All plain bytes, and where each block but the last ends in them.
    pub(super) plain: Vec<u8>,
    plain_ends: Vec<usize>,
    /// What the final block tells.
    pub(super) total: Total,
}

impl Stream {
    /// A stream of at least `length` sealed bytes in blocks of at most `largest`, most of them full.
    ///
    /// # Panics
    /// When the system has no randomness for a key.
    #[must_use]
    pub(super) fn generate(random: &mut Random, length: u64, largest: u64) -> Self {
        let key = StreamKey::generate(Cipher::preferred()).expect("the system has randomness");
        let mut sealer = Sealer::new(&key);
        let (mut plain, mut blocks, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut plain_ends = Vec::new();
        let mut end = Offset(0);
        while end.0 < length {
            let full = largest - OVERHEAD;
            let size = if random.chance(80) { full } else { random.between(0, full) };
            let start = plain.len();
            let size = usize::try_from(size).unwrap_or(MAX_PLAIN);
            while plain.len() < start + size {
                plain.extend_from_slice(&random.bits().to_le_bytes());
            }
            plain.truncate(start + size);
            let block = sealer.seal(&plain[start..]).expect("a block of this size is possible");
            end = end.plus(block.size());
            ends.push(end);
            blocks.push(block);
            plain_ends.push(plain.len());
        }
        let mut hash = [0; 32];
        hash.fill_with(|| random.bits().to_le_bytes()[0]);
        let total = Total { length: plain.len() as u64, hash, sha256: None };
        let last = sealer.finish(&total).expect("the final block has a fixed size");
        ends.push(end.plus(last.size()));
        blocks.push(last);
        Self { key, blocks, ends, plain, plain_ends, total }
    }

    /// What the block with this number holds; nothing for the final one.
    #[must_use]
    pub(super) fn content(&self, number: usize) -> &[u8] {
        let start =
            number.checked_sub(1).and_then(|before| self.plain_ends.get(before)).copied().unwrap_or(0);
        self.plain_ends.get(number).map_or(&[], |end| &self.plain[start..*end])
    }

    /// Blocks of these numbers that somebody with the key made, as long as the true ones and well sealed.
    ///
    /// # Panics
    /// Never: they are as long as blocks that were sealed.
    #[must_use]
    pub(super) fn forge(&self, numbers: &BTreeSet<usize>, random: &mut Random) -> Vec<(usize, Block)> {
        let mut sealer = Sealer::new(&self.key);
        let mut forged = Vec::new();
        for number in 0..self.plain_ends.len() {
            let mut plain = self.content(number).to_vec();
            if numbers.contains(&number) && !plain.is_empty() {
                let at = random.index(plain.len());
                plain[at] ^= 1 << random.index(8);
                forged.push((number, sealer.seal(&plain).expect("as long as the true one")));
            } else {
                sealer.seal(&plain).expect("the true one");
            }
        }
        if numbers.contains(&self.plain_ends.len()) {
            let total = Total { length: self.total.length + 1, ..self.total };
            forged.push((self.plain_ends.len(), sealer.finish(&total).expect("of a fixed size")));
        }
        forged
    }

    /// Where the stream ends.
    #[must_use]
    pub(super) fn end(&self) -> Offset {
        self.ends.last().copied().unwrap_or_default()
    }
}
