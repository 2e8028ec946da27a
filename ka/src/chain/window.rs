//! The last blocks of the stream that a member keeps for those behind it.

use std::collections::VecDeque;

use super::ids::Offset;
use crate::seal::{Block, max_block};

/// The smallest window, in bytes, with which a node takes part.
pub const MIN_WINDOW: u64 = 8 * 1024 * 1024;

/// Blocks from `floor` to `end`, never more than `size` bytes.
pub struct Window {
    size: u64,
    floor: Offset,
    end: Offset,
    /// The number of the first block kept.
    first: u64,
    blocks: VecDeque<(Offset, Block)>,
}

impl Window {
    /// An empty window of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size, floor: Offset(0), end: Offset(0), first: 0, blocks: VecDeque::new() }
    }

    /// The oldest byte kept.
    #[must_use]
    pub fn floor(&self) -> Offset {
        self.floor
    }

    /// The end of the newest block.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The number that the next block must have.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.first + self.blocks.len() as u64
    }

    /// Whether a block of any size still fits. A block is at most a quarter of the window.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.end.since(self.floor) + (max_block(self.size) as u64).min(self.size / 4) <= self.size
    }

    /// Keeps the next block.
    pub fn push(&mut self, block: Block) {
        let start = self.end;
        self.end = start.plus(block.size());
        self.blocks.push_back((start, block));
    }

    /// The block that starts at `offset`, with its number.
    #[must_use]
    pub fn get(&self, offset: Offset) -> Option<(u64, &Block)> {
        let index = self.blocks.binary_search_by_key(&offset, |(start, _)| *start).ok()?;
        self.blocks.get(index).map(|(_, block)| (self.first + index as u64, block))
    }

    /// Whether `offset` is the start of a kept block, or the end of all.
    #[must_use]
    pub fn is_boundary(&self, offset: Offset) -> bool {
        offset == self.end || self.get(offset).is_some()
    }

    /// Forgets all blocks that end at or before `offset`.
    pub fn forget_before(&mut self, offset: Offset) {
        while let Some((start, block)) = self.blocks.front() {
            let end = start.plus(block.size());
            if end > offset {
                break;
            }
            self.floor = end;
            self.first += 1;
            self.blocks.pop_front();
        }
    }
}
