//! How hard the stream is compressed: as hard as the chain's slowness leaves time for.
//!
//! When the producer waits for the chain, fewer bytes on the line are worth more work; when the chain waits
//! for the producer, less work. It has no clock of its own.

use std::time::Duration;

/// zstd's levels that are used: above the last one, time grows much and size shrinks little.
pub(super) const LOWEST: i32 = 1;
const HIGHEST: i32 = 9;
/// How long is watched before the level changes by one.
const PERIOD: Duration = Duration::from_millis(500);
/// For so many periods a level that was too slow is not tried again.
const MEMORY: u32 = 40;

/// Chooses the level.
#[derive(Debug)]
pub(super) struct Level {
    level: i32,
    since: Duration,
    seen: Seen,
    /// A level that was too slow, and for how many periods it still counts.
    too_slow: Option<(i32, u32)>,
}

/// Where the time went since the last change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The sealer waited for the chain.
    pub(super) chain: Duration,
    /// The sealer waited for source and compressors.
    pub(super) producer: Duration,
    /// A compressor worked, on average over all of them.
    pub(super) compressors: Duration,
    /// Chunks that became smaller, and chunks in all.
    pub(super) shrunk: u32,
    pub(super) chunks: u32,
}

impl Level {
    pub(super) fn new() -> Self {
        Self { level: LOWEST, since: Duration::ZERO, seen: Seen::default(), too_slow: None }
    }

    /// The level from `now` on, a time since the stream's start; `more` is what was seen since the last call.
    pub(super) fn next(&mut self, now: Duration, more: Seen) -> i32 {
        self.seen.chain += more.chain;
        self.seen.producer += more.producer;
        self.seen.compressors += more.compressors;
        self.seen.shrunk += more.shrunk;
        self.seen.chunks += more.chunks;
        let span = now.saturating_sub(self.since);
        if span >= PERIOD {
            self.judge(span);
            self.since = now;
            self.seen = Seen::default();
        }
        self.level
    }

    fn judge(&mut self, span: Duration) {
        self.too_slow = self.too_slow.and_then(|(level, left)| Some((level, left.checked_sub(1)?)));
        let Seen { chain, producer, compressors, shrunk, chunks } = self.seen;
        if shrunk * 2 < chunks {
            // No level makes such data smaller.
            self.level = LOWEST;
        } else if producer > span / 4 {
            if self.level > LOWEST {
                self.too_slow = Some((self.level, MEMORY));
                self.level -= 1;
            }
        } else if chain > span / 2 && compressors < span / 4 {
            let next = (self.level + 1).min(HIGHEST);
            if self.too_slow.is_none_or(|(level, _)| next < level) {
                self.level = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Periods in which the sealer waits for chain and producer, and compressors work, for these shares of
    /// 500 ms.
    fn periods(level: &mut Level, from: u64, count: u64, shares: [u64; 3], shrunk: u32) -> Vec<i32> {
        let [chain, producer, compressors] = shares.map(ms);
        (from + 1..=from + count)
            .map(|i| level.next(ms(i * 500), Seen { chain, producer, compressors, shrunk, chunks: 10 }))
            .collect()
    }

    #[test]
    fn who_waits_for_the_chain_compresses_harder() {
        let mut level = Level::new();
        let levels = periods(&mut level, 0, 10, [450, 0, 50], 10);
        assert_eq!(levels, [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]);
    }

    #[test]
    fn a_level_holds_where_the_compressors_are_busy_or_nobody_waits() {
        for shares in [[450, 0, 200], [100, 50, 50]] {
            assert_eq!(periods(&mut Level::new(), 0, 4, shares, 10), [1; 4], "{shares:?}");
        }
    }

    #[test]
    fn a_level_that_is_too_slow_is_left_and_not_tried_again_for_a_while() {
        let mut level = Level::new();
        assert_eq!(periods(&mut level, 0, 3, [450, 0, 50], 10), [2, 3, 4]);
        assert_eq!(periods(&mut level, 3, 1, [0, 300, 50], 10), [3]);
        let quick = periods(&mut level, 4, u64::from(MEMORY), [450, 0, 50], 10);
        assert!(quick.iter().all(|level| *level == 3), "{quick:?}");
        assert_eq!(periods(&mut level, 4 + u64::from(MEMORY), 1, [450, 0, 50], 10), [4]);
        assert_eq!(periods(&mut level, 5 + u64::from(MEMORY), 5, [0, 500, 50], 10), [3, 2, 1, 1, 1]);
    }

    #[test]
    fn what_does_not_shrink_is_not_worked_on() {
        let mut level = Level::new();
        periods(&mut level, 0, 3, [450, 0, 50], 10);
        assert_eq!(periods(&mut level, 3, 2, [450, 0, 50], 4), [1, 1]);
    }

    #[test]
    fn what_is_seen_in_parts_counts_as_a_whole() {
        let mut level = Level::new();
        let part = Seen { chain: ms(90), shrunk: 1, chunks: 1, ..Seen::default() };
        let levels: Vec<i32> = (1..=5).map(|i| level.next(ms(i * 100), part)).collect();
        assert_eq!(levels, [1, 1, 1, 1, 2]);
    }
}
