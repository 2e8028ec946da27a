//! The stream of a simulated golden node: generated, really sealed, and known in full, so that every byte of
//! every writer can be judged.

use std::collections::BTreeSet;

use ka::chain::Offset;
use ka::seal::{Block, Cipher, MAX_PLAINTEXT, Sealer, StreamKey, Total};

use super::random::Random;

/// The bytes that sealing adds to a block.
pub(super) const OVERHEAD: u64 = 32;

/// A whole stream.
pub(super) struct Stream {
    /// Its sealing key.
    pub(super) key: StreamKey,
    /// All blocks, including the final one.
    pub(super) blocks: Vec<Block>,
    /// The end offset of each block.
    pub(super) ends: Vec<Offset>,
    /// All plaintext, and the end offset in them of each block but the last.
    pub(super) plaintext: Vec<u8>,
    plaintext_ends: Vec<usize>,
    /// The contents of the final block.
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
        let (mut plaintext, mut blocks, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut plaintext_ends = Vec::new();
        let mut end = Offset(0);
        while end.0 < length {
            let full = largest - OVERHEAD;
            let size = if random.chance(80) { full } else { random.between(0, full) };
            let start = plaintext.len();
            let size = usize::try_from(size).unwrap_or(MAX_PLAINTEXT);
            while plaintext.len() < start + size {
                plaintext.extend_from_slice(&random.bits().to_le_bytes());
            }
            plaintext.truncate(start + size);
            let block = sealer.seal(&plaintext[start..]).expect("a block of this size is possible");
            end = end.plus(block.size());
            ends.push(end);
            blocks.push(block);
            plaintext_ends.push(plaintext.len());
        }
        let mut hash = [0; 32];
        hash.fill_with(|| random.bits().to_le_bytes()[0]);
        let total = Total { length: plaintext.len() as u64, hash, sha256: None };
        let last = sealer.finish(&total).expect("the final block has a fixed size");
        ends.push(end.plus(last.size()));
        blocks.push(last);
        Self { key, blocks, ends, plaintext, plaintext_ends, total }
    }

    /// The contents of the block with this number; empty for the final one.
    #[must_use]
    pub(super) fn content(&self, number: usize) -> &[u8] {
        let start =
            number.checked_sub(1).and_then(|before| self.plaintext_ends.get(before)).copied().unwrap_or(0);
        self.plaintext_ends.get(number).map_or(&[], |end| &self.plaintext[start..*end])
    }

    /// Forged blocks with these numbers, made by a holder of the key: as long as the true ones and validly
    /// sealed.
    ///
    /// # Panics
    /// Never: they are as long as sealed blocks.
    #[must_use]
    pub(super) fn forge(&self, numbers: &BTreeSet<usize>, random: &mut Random) -> Vec<(usize, Block)> {
        let mut sealer = Sealer::new(&self.key);
        let mut forged = Vec::new();
        for number in 0..self.plaintext_ends.len() {
            let mut plaintext = self.content(number).to_vec();
            if numbers.contains(&number) && !plaintext.is_empty() {
                let at = random.index(plaintext.len());
                plaintext[at] ^= 1 << random.index(8);
                forged.push((number, sealer.seal(&plaintext).expect("as long as the true one")));
            } else {
                sealer.seal(&plaintext).expect("the true one");
            }
        }
        if numbers.contains(&self.plaintext_ends.len()) {
            let total = Total { length: self.total.length + 1, ..self.total };
            forged.push((self.plaintext_ends.len(), sealer.finish(&total).expect("of a fixed size")));
        }
        forged
    }

    /// The end offset of the stream.
    #[must_use]
    pub(super) fn end(&self) -> Offset {
        self.ends.last().copied().unwrap_or_default()
    }
}
