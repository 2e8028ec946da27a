//! The compression level: the highest for which the chain's rate leaves time, and no compression where bytes
//! travel faster than they are compressed.
//!
//! There are two regimes. If the compressors have spare time, a higher level is always better, and the
//! measured costs of the levels say which one still fits. If they are busy, the cost of a level alongside
//! everything else that this machine and the nodes do cannot be predicted. Then another level is tried for a
//! moment, and the result is how many uncompressed bytes per second the last node verified in that time.
//! [`Level`] has no clock of its own.

use std::time::Duration;

/// No compression.
pub(super) const NONE: i32 = 0;
/// The initial level. On a faster line it is briefly too slow, on a slower one too fast: either way the loss
/// is small.
pub(super) const FIRST: i32 = 1;
/// The levels in use, from the fastest, with the cost of each relative to level 1: measured with the files of
/// a Debian system in chunks of 2 MiB. Below the first, the line's own work costs more than compression;
/// above the last, time grows much and size shrinks little.
const LEVELS: [(i32, f64); 13] = [
    (-7, 0.50),
    (-4, 0.62),
    (-2, 0.72),
    (-1, 0.80),
    (1, 1.0),
    (2, 1.12),
    (3, 1.57),
    (4, 1.83),
    (5, 3.2),
    (6, 4.3),
    (7, 5.0),
    (8, 5.7),
    (9, 6.5),
];
/// The fastest level that compresses at all.
const FASTEST: i32 = -7;
const HIGHEST: i32 = 9;
/// The measurement period before the level changes. The first one is shorter, because nothing is known at
/// that point.
const PERIOD: Duration = Duration::from_millis(100);
const FIRST_PERIOD: Duration = Duration::from_millis(40);
/// The chain is the bottleneck if this much is queued for it, in seconds at its rate, or if it accepts
/// nothing for this share of the time.
const AHEAD: f64 = 0.08;
const BLOCKED: f64 = 0.3;
/// A trial of at most this many seconds costs little.
const QUICK: f64 = 0.3;
/// The share of the compressors' time that a level may need: reading and hashing need the processors, too.
const ENOUGH: f64 = 0.6;
/// If the fastest level needs at most this share, compression is worth a trial while it is off.
const MAX_SHARE: f64 = 0.85;
/// The number of periods for which a level that was too slow is not tried again.
const MEMORY: u32 = 100;
/// The factor by which a lower level must be better in a trial to be kept; a higher level may be worse by the
/// same factor, because the data always vary.
const BETTER: f64 = 1.03;
/// Trials of lower levels are rarer by this factor after a higher level was kept, and while the chain is the
/// bottleneck.
const RARER: u32 = 4;
/// The number of periods until the next trial, initially and at most.
const PATIENCE: (u32, u32) = (8, 256);

/// Chooses the level.
#[derive(Debug)]
pub(super) struct Level {
    level: i32,
    since: Duration,
    then: Seen,
    /// The chain's recent rate, in bytes per second.
    rate: Option<f64>,
    /// A level that was too slow, and the number of periods for which this still holds.
    too_slow: Option<(i32, u32)>,
    /// The compressor time per uncompressed byte at level 1, in seconds, if known.
    work: Option<f64>,
    trial: Option<Trial>,
    /// The number of periods until the next trial, and the number after the next trial that brings no gain.
    wait: u32,
    patience: u32,
    /// The index of the next candidate.
    turn: usize,
}

/// A level on trial.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The previous level, and the rate at which the chain took uncompressed bytes with it, per second.
    before: i32,
    achieved: f64,
    /// The offset up to which the stream was sealed before the trial: later bytes show the new level.
    from: u64,
}

/// The work done since the stream's start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The number of sealed bytes.
    pub(super) sealed: u64,
    /// The number of those that all members have.
    pub(super) taken: u64,
    /// The uncompressed bytes that the two correspond to.
    pub(super) uncompressed_sealed: u64,
    pub(super) uncompressed_taken: u64,
    /// How long a compressor worked, on average over all of them.
    pub(super) worked: Duration,
    /// How long the sealer held a block that the chain did not accept.
    pub(super) blocked: Duration,
    /// The number of uncompressed bytes in chunks that became smaller.
    pub(super) shrunk: u64,
}

/// The work done in one period.
struct Period {
    /// The chain's rate in sealed and in uncompressed bytes per second.
    rate: f64,
    achieved: f64,
    /// The share of the compressors' time that the chain's rate needs, and the share that they worked.
    needed: f64,
    busy: f64,
    /// The chain is the bottleneck.
    narrow: bool,
    /// The chain's queue drains soon, so a trial is short.
    quick: bool,
    random: bool,
}

impl Level {
    pub(super) fn new(level: i32) -> Self {
        Self {
            level,
            since: Duration::ZERO,
            then: Seen::default(),
            rate: None,
            too_slow: None,
            work: None,
            trial: None,
            wait: 0,
            patience: PATIENCE.0,
            turn: 0,
        }
    }

    /// The level from `now` on, a time since the stream's start.
    pub(super) fn next(&mut self, now: Duration, seen: Seen) -> i32 {
        let span = now.saturating_sub(self.since);
        let period = if self.since.is_zero() { FIRST_PERIOD } else { PERIOD };
        // Bytes that were sealed before a trial say nothing about it.
        let old = self.trial.is_some_and(|trial| self.then.taken < trial.from);
        if old && seen.taken >= self.trial.map_or(0, |trial| trial.from) {
            (self.since, self.then) = (now, seen);
        } else if span >= period && seen.taken > 0 && !old {
            let period = self.look(span.as_secs_f64(), seen);
            self.judge(&period, seen);
            (self.since, self.then) = (now, seen);
        }
        self.level
    }

    fn look(&mut self, span: f64, seen: Seen) -> Period {
        let then = self.then;
        let since = |now: u64, then: u64| float(now.saturating_sub(then));
        let rate = since(seen.taken, then.taken) / span;
        // Acks arrive in bursts.
        let rate = self.rate.map_or(rate, |before| (before + rate) / 2.0);
        self.rate = Some(rate);
        let (sealed, uncompressed) =
            (since(seen.sealed, then.sealed), since(seen.uncompressed_sealed, then.uncompressed_sealed));
        let worked = seen.worked.saturating_sub(then.worked).as_secs_f64();
        let random = self.level != NONE && 2.0 * since(seen.shrunk, then.shrunk) < uncompressed;
        if let Some(cost) = cost(self.level).filter(|_| uncompressed > 0.0 && !random) {
            self.work = Some(worked / uncompressed / cost);
        }
        let waiting = since(seen.sealed, seen.taken);
        let blocked = seen.blocked.saturating_sub(then.blocked).as_secs_f64();
        Period {
            rate,
            achieved: since(seen.uncompressed_taken, then.uncompressed_taken) / span,
            needed: if sealed > 0.0 { rate * worked / sealed } else { 0.0 },
            busy: worked / span,
            narrow: waiting > AHEAD * rate || blocked > BLOCKED * span,
            quick: waiting < QUICK * rate,
            random,
        }
    }

    fn judge(&mut self, period: &Period, seen: Seen) {
        self.too_slow = self.too_slow.and_then(|(level, left)| Some((level, left.checked_sub(1)?)));
        self.wait = self.wait.saturating_sub(1);
        let trial = self.trial.take();
        if period.random {
            // No level makes such data smaller, and if there is little time a sample detects them. The data
            // that follow are new.
            self.level = self.level.min(FIRST);
            (self.patience, self.wait) = (PATIENCE.0, 0);
        } else if let Some(trial) = trial {
            self.decide(trial, period);
        } else if self.level == NONE {
            self.after_no_data(period, seen);
        } else if period.busy > ENOUGH && period.needed > ENOUGH && !period.narrow {
            if self.wait == 0 {
                self.try_less(period, seen);
            }
        } else if period.narrow && self.wait == 0 {
            let most = self.too_slow.map_or(HIGHEST, |(level, _)| below(level));
            let higher = self.fitting(period.needed, self.level, most.max(self.level));
            if higher != self.level {
                self.begin(higher, period, seen);
            } else if period.quick {
                self.try_less(period, seen);
            }
        }
    }

    /// A lower level may be better: the compressors are busy, or they compete with the nodes for resources.
    /// The candidates take turns: no compression, a level that leaves time, and the next lower one.
    fn try_less(&mut self, period: &Period, seen: Seen) {
        let candidates = [NONE, self.fitting(period.needed, FASTEST, self.level), below(self.level)];
        let next = candidates[self.turn % candidates.len()];
        self.turn += 1;
        if next != self.level {
            self.begin(next, period, seen);
        }
    }

    /// Compression is off: whether there is time for it now.
    fn after_no_data(&mut self, period: &Period, seen: Seen) {
        let Some(work) = self.work.filter(|_| period.narrow && self.wait == 0) else { return };
        let needed = period.rate * work;
        let fastest = LEVELS[0].1;
        if needed * fastest <= MAX_SHARE {
            let fits = LEVELS.iter().rev().find(|(_, cost)| needed * cost <= ENOUGH);
            self.begin(fits.map_or(FASTEST, |(level, _)| *level), period, seen);
        }
    }

    fn begin(&mut self, level: i32, period: &Period, seen: Seen) {
        self.trial = Some(Trial { before: self.level, achieved: period.achieved, from: seen.sealed });
        self.level = level;
    }

    /// Evaluates a trial by the chain's rate during it.
    fn decide(&mut self, trial: Trial, period: &Period) {
        let higher = trial.before != NONE && self.level > trial.before;
        let wanted = if higher { trial.achieved / BETTER } else { BETTER * trial.achieved };
        let rarer = if period.narrow { RARER } else { 1 };
        if period.achieved > wanted {
            if trial.before > self.level && trial.before != NONE {
                self.too_slow = Some((trial.before, MEMORY));
            }
            (self.patience, self.wait) = (PATIENCE.0, if higher { RARER * PATIENCE.0 } else { 1 });
        } else {
            if higher {
                self.too_slow = Some((self.level, MEMORY));
            }
            self.level = trial.before;
            self.patience = (2 * self.patience).min(PATIENCE.1);
            self.wait = rarer * self.patience;
        }
    }

    /// The highest level from `least` to `most` that needs no more than `ENOUGH`, if this one needs `needed`.
    fn fitting(&self, needed: f64, least: i32, most: i32) -> i32 {
        let here = cost(self.level).unwrap_or(1.0);
        let within = LEVELS.iter().rev().filter(|(level, _)| (least..=most).contains(level));
        within
            .filter(|(_, cost)| needed * cost / here <= ENOUGH)
            .map(|(level, _)| *level)
            .next()
            .unwrap_or(least)
    }
}

/// The cost of a level; `None` without compression.
fn cost(level: i32) -> Option<f64> {
    LEVELS.iter().find(|(other, _)| *other == level).map(|(_, cost)| *cost)
}

/// The next lower level.
fn below(level: i32) -> i32 {
    LEVELS.iter().rev().map(|(other, _)| *other).find(|other| *other < level).unwrap_or(FASTEST)
}

/// Converts amounts that a stream can have, precisely enough for a ratio.
fn float(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    let rest = u32::try_from(bytes & 1023).unwrap_or_default();
    f64::from(kib).mul_add(1024.0, f64::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compressors that take `speed` MB of uncompressed bytes per second at level 1, before a chain that
    /// takes at most `line` MB of sealed bytes and `most` MB of uncompressed bytes per second.
    struct Setting {
        level: Level,
        chosen: i32,
        now: u64,
        seen: Seen,
        /// The sealed amounts, each with its number of uncompressed bytes.
        row: Vec<(f64, f64)>,
        ratio: fn(i32) -> f64,
    }

    /// The approximate savings of the levels for a real tree.
    fn tree(level: i32) -> f64 {
        match level {
            NONE => 1.0,
            -7 => 1.7,
            -4 => 1.9,
            ..0 => 2.1,
            1 => 2.5,
            _ => 2.9,
        }
    }

    impl Setting {
        fn new(first: i32, ratio: fn(i32) -> f64) -> Self {
            Self {
                level: Level::new(first),
                chosen: first,
                now: 0,
                seen: Seen::default(),
                row: Vec::new(),
                ratio,
            }
        }

        /// `count` times 10 ms; at most 4 MB are sealed and not yet accepted.
        fn steps(&mut self, count: usize, speed: f64, line: f64, most: f64) -> Vec<i32> {
            const MB: f64 = 10_000.0;
            // Seconds stand in for bytes: they round without a cast.
            let bytes = |amount: f64| Duration::from_secs_f64(amount.max(0.0)).as_secs();
            (0..count)
                .map(|_| {
                    let ratio = (self.ratio)(self.chosen);
                    let could = cost(self.chosen).map_or(f64::INFINITY, |cost| speed * MB / cost);
                    let room = (4e6 - float(self.seen.sealed - self.seen.taken)).max(0.0) + line * MB;
                    let could_read = could.min(3000.0 * MB);
                    let uncompressed = could_read.min(room * ratio);
                    self.seen.blocked += Duration::from_millis(10).mul_f64(1.0 - uncompressed / could_read);
                    self.row.push((uncompressed / ratio, uncompressed));
                    let (mut sealed, mut took) = (line * MB, most * MB);
                    let (mut taken, mut uncompressed_taken) = (0.0, 0.0);
                    while let Some((packed, whole)) =
                        self.row.first_mut().filter(|_| sealed > 1.0 && took > 1.0)
                    {
                        let share = (sealed / *packed).min(took / *whole).min(1.0);
                        let (now, now_uncompressed) = (*packed * share, *whole * share);
                        (sealed, took, taken, uncompressed_taken) = (
                            sealed - now,
                            took - now_uncompressed,
                            taken + now,
                            uncompressed_taken + now_uncompressed,
                        );
                        (*packed, *whole) = (*packed - now, *whole - now_uncompressed);
                        if *packed < 1.0 {
                            self.row.remove(0);
                        }
                    }
                    self.seen.sealed += bytes(uncompressed / ratio);
                    self.seen.uncompressed_sealed += bytes(uncompressed);
                    self.seen.taken = (self.seen.taken + bytes(taken)).min(self.seen.sealed);
                    self.seen.uncompressed_taken += bytes(uncompressed_taken);
                    let worked = if could.is_finite() { uncompressed / could } else { 0.0 };
                    self.seen.worked += Duration::from_millis(10).mul_f64(worked);
                    self.seen.shrunk += if ratio > 1.02 { bytes(uncompressed) } else { 0 };
                    self.now += 10;
                    self.chosen = self.level.next(Duration::from_millis(self.now), self.seen);
                    self.chosen
                })
                .collect()
        }
    }

    /// The chain's rate with this level alone and with the chosen levels, in MB of uncompressed bytes per
    /// second.
    fn achieved(first: i32, fixed: Option<i32>, speed: f64, line: f64, most: f64) -> u64 {
        let mut setting = Setting::new(fixed.unwrap_or(first), tree);
        for _ in 0..300 {
            setting.steps(1, speed, line, most);
            setting.chosen = fixed.unwrap_or(setting.chosen);
        }
        setting.seen.uncompressed_taken / 1_000_000
    }

    #[test]
    fn what_is_chosen_is_nearly_the_best_on_any_line() {
        // 100 Mbit/s to 25 Gbit/s, one to many processors, and nodes that take 80 MB per second.
        for line in [12.0, 60.0, 120.0, 400.0, 1100.0, 3000.0] {
            for speed in [300.0, 900.0, 4000.0] {
                for most in [80.0, 2500.0] {
                    let level = |fixed| achieved(FIRST, fixed, speed, line, most);
                    let best = LEVELS
                        .iter()
                        .map(|(l, _)| level(Some(*l)))
                        .max()
                        .max(Some(level(Some(NONE))))
                        .unwrap();
                    let chosen = level(None);
                    assert!(
                        chosen * 100 >= best * 93,
                        "line {line}, speed {speed}, {most}: {chosen} of {best}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_slow_line_is_met_with_hard_work_at_once() {
        assert_eq!(Setting::new(FIRST, tree).steps(20, 900.0, 12.0, 3000.0)[19], 9);
        assert!(Setting::new(FIRST, tree).steps(20, 900.0, 60.0, 3000.0)[19] >= 5);
    }

    #[test]
    fn a_line_that_is_faster_than_the_compressors_gets_raw_bytes() {
        let levels = Setting::new(FIRST, tree).steps(200, 500.0, 1200.0, 1200.0);
        assert!(levels[100..].iter().filter(|&&level| level == NONE).count() > 90, "{levels:?}");
    }

    #[test]
    fn a_level_that_was_too_slow_is_not_tried_again_for_a_while() {
        let mut setting = Setting::new(FIRST, tree);
        assert_eq!(setting.steps(100, 1500.0, 25.0, 3000.0)[99], 9);
        // The processors are busy with other work.
        assert!(setting.steps(400, 150.0, 25.0, 3000.0).last().is_some_and(|&level| level < 5));
        let after = setting.steps(200, 1500.0, 25.0, 3000.0);
        assert!(after.iter().all(|&level| level < 9), "{after:?}");
    }

    #[test]
    fn what_does_not_shrink_is_not_worked_on() {
        let mut setting = Setting::new(FIRST, tree);
        setting.steps(50, 1500.0, 12.0, 3000.0);
        setting.ratio = |_| 1.0;
        assert_eq!(setting.steps(50, 1500.0, 12.0, 3000.0)[49], FIRST);
        setting.ratio = tree;
        assert!(setting.steps(50, 1500.0, 12.0, 3000.0)[49] > FIRST);
    }

    #[test]
    fn before_the_chain_takes_anything_nothing_is_known() {
        let mut level = Level::new(FIRST);
        let seen = Seen { sealed: 1 << 24, uncompressed_sealed: 1 << 25, shrunk: 1 << 25, ..Seen::default() };
        assert_eq!(level.next(Duration::from_secs(9), seen), FIRST);
    }
}
