//! How hard the stream is compressed: as hard as the line's slowness leaves time for.
//!
//! Golden node and chain take blocks into their windows long before the line has carried them, so that nobody
//! needs to wait for a slow line to be one. What counts is how much is sealed and not taken by the whole
//! chain yet, and which share of the compressors' time the line needs to be kept busy. It has no clock of its own.

use std::time::Duration;

/// zstd's levels that are used: above the last one, time grows much and size shrinks little.
pub(super) const LOWEST: i32 = 1;
/// The first guess, where the chain says how far it is: right for 1 Gbit/s and two processors.
pub(super) const FIRST: i32 = 3;
/// What the levels from [`LOWEST`] on cost, over the lowest: measured with a Debian's files in chunks of 2 MiB.
const COSTS: [f64; 9] = [1.0, 1.12, 1.57, 1.83, 3.2, 4.3, 5.0, 5.7, 6.5];
/// How long is watched before the level changes.
const PERIOD: Duration = Duration::from_millis(100);
/// The line is the narrow place when so much of it waits, in seconds of its rate.
const AHEAD: f64 = 0.08;
/// A level may need this share of the compressors' time: reading and hashing want the processors too.
const ENOUGH: f64 = 0.6;
/// From this share on the line is about to wait for the compressors.
const TOO_MUCH: f64 = 0.85;
/// For so many periods a level that was too slow is not tried again.
const MEMORY: u32 = 100;

/// Chooses the level.
#[derive(Debug)]
pub(super) struct Level {
    level: i32,
    since: Duration,
    then: Seen,
    /// Bytes a second that the chain has taken lately.
    rate: Option<f64>,
    /// A level that was too slow, and for how many periods it still counts.
    too_slow: Option<(i32, u32)>,
}

/// What was done since the stream's start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Bytes that were sealed.
    pub(super) sealed: u64,
    /// Bytes of them that everybody has.
    pub(super) taken: u64,
    /// How long a compressor worked, on average over all of them.
    pub(super) worked: Duration,
    /// Chunks that became smaller, and chunks in all.
    pub(super) shrunk: u32,
    pub(super) chunks: u32,
}

impl Level {
    pub(super) fn new(level: i32) -> Self {
        Self { level, since: Duration::ZERO, then: Seen::default(), rate: None, too_slow: None }
    }

    /// The level from `now` on, a time since the stream's start.
    pub(super) fn next(&mut self, now: Duration, seen: Seen) -> i32 {
        let span = now.saturating_sub(self.since);
        if span >= PERIOD && seen.taken > 0 {
            self.judge(span.as_secs_f64(), seen);
            self.since = now;
            self.then = seen;
        }
        self.level
    }

    fn judge(&mut self, span: f64, seen: Seen) {
        self.too_slow = self.too_slow.and_then(|(level, left)| Some((level, left.checked_sub(1)?)));
        let rate = float(seen.taken.saturating_sub(self.then.taken)) / span;
        // Acks come in steps.
        let rate = self.rate.map_or(rate, |before| (before + rate) / 2.0);
        self.rate = Some(rate);
        let sealed = float(seen.sealed.saturating_sub(self.then.sealed));
        let worked = seen.worked.saturating_sub(self.then.worked).as_secs_f64();
        let (shrunk, chunks) = (seen.shrunk - self.then.shrunk, seen.chunks - self.then.chunks);
        if shrunk * 2 < chunks {
            // No level makes such data smaller.
            self.level = LOWEST;
        } else if sealed > 0.0 {
            let needed = rate * worked / sealed;
            let waiting = float(seen.sealed.saturating_sub(seen.taken));
            if needed > TOO_MUCH {
                if self.level > LOWEST {
                    self.too_slow = Some((self.level, MEMORY));
                    self.level = self.fitting(needed, LOWEST, self.level - 1);
                }
            } else if waiting > AHEAD * rate {
                let below = self.too_slow.map_or(i32::MAX, |(level, _)| level) - 1;
                self.level = self.fitting(needed, self.level, below.max(self.level));
            }
        }
    }

    /// The highest level from `least` to `most` that needs no more than enough, if this one needs `needed`.
    fn fitting(&self, needed: f64, least: i32, most: i32) -> i32 {
        let here = cost(self.level).unwrap_or(1.0);
        let fits = |level: &i32| cost(*level).is_some_and(|cost| needed * cost / here <= ENOUGH);
        (least..=most.min(HIGHEST)).rev().find(fits).unwrap_or(least)
    }
}

const HIGHEST: i32 = LOWEST + 8;

fn cost(level: i32) -> Option<f64> {
    COSTS.get(usize::try_from(level - LOWEST).ok()?).copied()
}

/// Of amounts that a stream can have, exact enough for a ratio.
fn float(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    let rest = u32::try_from(bytes & 1023).unwrap_or_default();
    f64::from(kib).mul_add(1024.0, f64::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A producer whose compressors make `speed` bytes per second of sealed stream at the lowest level, before a line
    /// of `line` bytes per second; both in MB.
    struct Setting {
        level: Level,
        chosen: i32,
        now: u64,
        seen: Seen,
    }

    impl Setting {
        fn new(first: i32) -> Self {
            Self { level: Level::new(first), chosen: first, now: 0, seen: Seen::default() }
        }

        /// `count` periods of 100 ms; at most 50 MB lie in the windows.
        fn periods(&mut self, count: u64, speed: u32, line: u32, compressible: bool) -> Vec<i32> {
            (0..count)
                .map(|_| {
                    let (speed, line) = (u64::from(speed) * 100_000, u64::from(line) * 100_000);
                    let cost = cost(self.chosen).unwrap();
                    let could = (float(speed) / cost).round();
                    let could = (0..).map(|mb| mb * 1000).find(|&bytes| float(bytes) >= could).unwrap();
                    let room = 50_000_000 - (self.seen.sealed - self.seen.taken);
                    let made = could.min(room + line);
                    self.seen.sealed += made;
                    self.seen.taken = (self.seen.taken + line).min(self.seen.sealed);
                    self.seen.worked += Duration::from_millis(100).mul_f64(float(made) / float(could));
                    self.seen.chunks += 10;
                    self.seen.shrunk += if compressible { 10 } else { 0 };
                    self.now += 100;
                    self.chosen = self.level.next(Duration::from_millis(self.now), self.seen);
                    self.chosen
                })
                .collect()
        }
    }

    #[test]
    fn a_slow_line_is_met_with_hard_work_at_once() {
        // Two processors before 1 Gbit/s, 500 Mbit/s, and 200 Mbit/s; many before 10 Gbit/s.
        assert_eq!(Setting::new(FIRST).periods(5, 400, 120, true)[4], 4);
        assert_eq!(Setting::new(FIRST).periods(3, 400, 60, true), [5, 5, 5]);
        assert_eq!(Setting::new(FIRST).periods(3, 400, 25, true), [9, 9, 9]);
        assert_eq!(Setting::new(FIRST).periods(3, 4000, 600, true), [5, 5, 5]);
    }

    #[test]
    fn a_fast_line_is_not_kept_waiting() {
        assert_eq!(Setting::new(FIRST).periods(4, 400, 1200, true), [1, 1, 1, 1]);
        assert_eq!(Setting::new(9).periods(4, 400, 70, true)[3], 5);
    }

    #[test]
    fn a_level_that_was_too_slow_is_not_tried_again_for_a_while() {
        let mut setting = Setting::new(FIRST);
        assert_eq!(setting.periods(10, 400, 25, true)[9], 9);
        // The processors have something else to do.
        assert!(setting.periods(20, 90, 25, true).last().is_some_and(|&level| level < 5));
        let after = setting.periods(u64::from(MEMORY) / 2, 400, 25, true);
        assert!(after.iter().all(|&level| level < 9), "{after:?}");
        let later = setting.periods(u64::from(MEMORY), 400, 25, true);
        assert_eq!(later.last(), Some(&9));
    }

    #[test]
    fn what_does_not_shrink_is_not_worked_on() {
        let mut setting = Setting::new(FIRST);
        setting.periods(5, 400, 12, true);
        assert_eq!(setting.periods(2, 400, 12, false), [1, 1]);
        assert!(setting.periods(2, 400, 12, true)[1] > FIRST);
    }

    #[test]
    fn before_the_chain_takes_anything_nothing_is_known() {
        let mut level = Level::new(FIRST);
        let seen = Seen { sealed: 1 << 24, chunks: 8, shrunk: 8, ..Seen::default() };
        assert_eq!(level.next(Duration::from_secs(9), seen), FIRST);
    }
}
