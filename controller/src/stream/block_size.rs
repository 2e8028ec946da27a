//! The block size: as large as the chain's rate allows.
//!
//! A member forwards a block once it has all of it, so each member adds one block's time to the stream's
//! latency. On a slow line, blocks are therefore small; on a fast line they are large, because each block
//! costs some work on every node. The windows also limit the size: a chain of many members needs many blocks
//! in flight.
//!
//! A member forwards a block immediately, so its last segment leaves only partly filled. Blocks are therefore
//! cut to fill whole segments; otherwise each block would cost every link up to one more packet.

use std::time::Duration;

use ka::seal::{MAX_BLOCK, MAX_PLAINTEXT};
use ka::wire::BLOCK_OVERHEAD;

/// The longest time for one block. Blocks of more than 64 KiB are for fast lines, where less latency per
/// block is worthwhile.
const TIME: Duration = Duration::from_micros(1500);
const TIME_OF_LARGE: Duration = Duration::from_micros(850);
/// Block sizes on the wire, in bytes.
const SIZES: [usize; 7] = [16 << 10, 32 << 10, LARGE, 128 << 10, 256 << 10, 512 << 10, MAX_BLOCK];
const LARGE: usize = 64 << 10;
/// How long the rate is measured before the size changes.
const PERIOD: Duration = Duration::from_millis(250);

/// Chooses the block size. It has no clock of its own.
#[derive(Debug)]
pub(super) struct BlockSize {
    most: usize,
    size: usize,
    since: Duration,
    sealed: usize,
    /// The candidate from the previous period: the first blocks of a stream only fill queues.
    before: usize,
}

impl BlockSize {
    /// A chooser for blocks of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, size: SIZES[0], since: Duration::ZERO, sealed: 0, before: SIZES[0] }
    }

    /// The uncompressed bytes per block from `now` on, a time since the stream's start. The chain has taken
    /// `sealed` more bytes since the last call, and its first link has TCP segments of `segment` bytes, or 0
    /// if that is unknown.
    pub(super) fn next(&mut self, now: Duration, sealed: usize, segment: usize) -> usize {
        self.sealed += sealed;
        let span = now.saturating_sub(self.since);
        if span >= PERIOD {
            let fits = |size: &&usize| {
                let time = if **size > LARGE { TIME_OF_LARGE } else { TIME };
                **size <= self.most
                    && **size as u128 * span.as_nanos() <= self.sealed as u128 * time.as_nanos()
            };
            let possible = SIZES.iter().rev().find(fits).copied().unwrap_or(SIZES[0]);
            self.size = possible.min(self.before);
            *self = Self { size: self.size, since: now, sealed: 0, before: possible, most: self.most };
        }
        whole_segments(self.size, segment) - (MAX_BLOCK - MAX_PLAINTEXT)
    }
}

/// The largest block up to `size` whose frame fills segments of `segment` bytes, if such segments are
/// smaller.
fn whole_segments(size: usize, segment: usize) -> usize {
    let frame = size + BLOCK_OVERHEAD;
    match frame.checked_div(segment) {
        None | Some(0) => size,
        Some(segments) => (segments * segment).max(SIZES[0] / 2) - BLOCK_OVERHEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The block sizes on the wire, for periods with these rates in Mbit/s.
    fn sizes(rates: &[usize]) -> Vec<usize> {
        let mut size = BlockSize::new(MAX_BLOCK);
        let periods = (1..).zip(rates);
        periods
            .map(|(i, rate)| size.next(PERIOD * i, rate * 125_000 / 4, 0) + MAX_BLOCK - MAX_PLAINTEXT)
            .collect()
    }

    #[test]
    fn a_block_takes_the_same_time_on_slow_and_fast_lines() {
        for (rate, size) in
            [(10, 16), (100, 16), (200, 32), (400, 64), (1000, 64), (2000, 128), (5000, 512), (11_000, 1024)]
        {
            assert_eq!(sizes(&[rate; 3])[2], size * 1024, "{rate} Mbit/s");
        }
    }

    #[test]
    fn windows_bound_a_block() {
        let mut size = BlockSize::new(LARGE);
        let taken = |i: u32| size.next(PERIOD * i, 1 << 30, 0);
        assert_eq!((1..4).map(taken).last(), Some(LARGE - (MAX_BLOCK - MAX_PLAINTEXT)));
    }

    #[test]
    fn a_block_fills_its_segments() {
        for (segment, frame) in
            [(0, 65_540), (1448, 65_160), (8948, 62_636), (65_483, 65_483), (70_000, 65_540)]
        {
            assert_eq!(whole_segments(LARGE, segment) + BLOCK_OVERHEAD, frame, "{segment}");
        }
    }

    #[test]
    fn one_fast_period_proves_nothing() {
        assert_eq!(sizes(&[1000, 100, 100, 1000, 1000, 100]), [16, 16, 16, 16, 64, 16].map(|k| k * 1024));
    }
}
