//! How hard the stream is compressed: as hard as what the chain can take leaves time for, and not at all where bytes
//! travel faster than they are compressed.
//!
//! Two regimes. Where the compressors have time to spare, a higher level is better for certain, and which one still fits
//! is known from what the levels cost. Where they are busy, nobody can say what a level costs beside all else that this
//! machine and the nodes do: then another level is tried for a moment, and what counts is how many plain bytes per second
//! the last node has verified meanwhile. It has no clock of its own.

use std::time::Duration;

/// Nothing is compressed.
pub(super) const NONE: i32 = 0;
/// The first guess. On a faster line it is too slow for a moment, and on a slower one too quick: little is lost either way.
pub(super) const FIRST: i32 = 1;
/// The levels that are used, from the fastest on, with what each costs, over level 1: measured with a Debian's files in
/// chunks of 2 MiB. Below the first, the line's own work costs more than compressing; above the last, time grows much and
/// size shrinks little.
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
/// The fastest level that makes anything smaller.
const FASTEST: i32 = -7;
const HIGHEST: i32 = 9;
/// How long is watched before the level changes; the first time is shorter, for nothing is known then.
const PERIOD: Duration = Duration::from_millis(100);
const FIRST_PERIOD: Duration = Duration::from_millis(40);
/// The chain is the narrow place when so much of it waits, in seconds of its rate, or if it takes nothing for this share
/// of the time.
const AHEAD: f64 = 0.08;
const BLOCKED: f64 = 0.3;
/// A level may need this share of the compressors' time: reading and hashing want the processors too.
const ENOUGH: f64 = 0.6;
/// With this share at the fastest level, compressing is worth a trial where nothing is compressed.
const MOST: f64 = 0.85;
/// For so many periods a level that was too slow is not tried again.
const MEMORY: u32 = 100;
/// A level that is tried must be better by this share to be kept.
const BETTER: f64 = 1.03;
/// After so many periods something is tried again, at first and at the most.
const PATIENCE: (u32, u32) = (8, 256);

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
    /// Seconds of a compressor for a plain byte at level 1, as far as that is known.
    work: Option<f64>,
    trial: Option<Trial>,
    /// Periods until something may be tried, and how many it will be after the next one that is no better.
    wait: u32,
    patience: u32,
    /// Which of the candidates is next.
    turn: usize,
}

/// A level that is tried.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// What it was before, and how many plain bytes per second the chain took then.
    before: i32,
    achieved: f64,
    /// Up to here the stream was sealed before: what comes later shows the new level.
    from: u64,
}

/// What was done since the stream's start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Bytes that were sealed.
    pub(super) sealed: u64,
    /// Bytes of them that everybody has.
    pub(super) taken: u64,
    /// How many bytes of the plain stream the two are.
    pub(super) plain_sealed: u64,
    pub(super) plain_taken: u64,
    /// How long a compressor worked, on average over all of them.
    pub(super) worked: Duration,
    /// How long the sealer had a block that the chain did not take.
    pub(super) blocked: Duration,
    /// How many of the plain bytes were in chunks that became smaller.
    pub(super) shrunk: u64,
}

/// What was done in one period.
struct Period {
    /// Bytes a second that the chain has taken, sealed and plain.
    rate: f64,
    achieved: f64,
    /// The share of the compressors' time that the chain's rate needs, and the share that they worked.
    needed: f64,
    busy: f64,
    /// The chain is the narrow place.
    narrow: bool,
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
        // What was sealed before a trial shows nothing of it.
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
        // Acks come in steps.
        let rate = self.rate.map_or(rate, |before| (before + rate) / 2.0);
        self.rate = Some(rate);
        let (sealed, plain) = (since(seen.sealed, then.sealed), since(seen.plain_sealed, then.plain_sealed));
        let worked = seen.worked.saturating_sub(then.worked).as_secs_f64();
        let random = self.level != NONE && 2.0 * since(seen.shrunk, then.shrunk) < plain;
        if let Some(cost) = cost(self.level).filter(|_| plain > 0.0 && !random) {
            self.work = Some(worked / plain / cost);
        }
        let blocked = seen.blocked.saturating_sub(then.blocked).as_secs_f64();
        Period {
            rate,
            achieved: since(seen.plain_taken, then.plain_taken) / span,
            needed: if sealed > 0.0 { rate * worked / sealed } else { 0.0 },
            busy: worked / span,
            narrow: since(seen.sealed, seen.taken) > AHEAD * rate || blocked > BLOCKED * span,
            random,
        }
    }

    fn judge(&mut self, period: &Period, seen: Seen) {
        self.too_slow = self.too_slow.and_then(|(level, left)| Some((level, left.checked_sub(1)?)));
        self.wait = self.wait.saturating_sub(1);
        if let Some(trial) = self.trial.take() {
            self.decide(trial, period);
        } else if period.random {
            // No level makes such data smaller, and a sample shows it where little time is left.
            self.level = self.level.min(FIRST);
        } else if self.level == NONE {
            self.from_nothing(period, seen);
        } else if period.busy > ENOUGH && period.needed > ENOUGH && !period.narrow {
            if self.wait == 0 {
                self.try_less(period, seen);
            }
        } else if period.narrow {
            let most = self.too_slow.map_or(HIGHEST, |(level, _)| below(level));
            self.level = self.fitting(period.needed, self.level, most.max(self.level));
        }
    }

    /// The compressors are busy, and the chain takes all that they make. The candidates take turns: nothing, a level that
    /// leaves time, and the next lower one.
    fn try_less(&mut self, period: &Period, seen: Seen) {
        let candidates = [NONE, self.fitting(period.needed, FASTEST, self.level), below(self.level)];
        let next = candidates[self.turn % candidates.len()];
        self.turn += 1;
        if next != self.level {
            self.begin(next, period, seen);
        }
    }

    /// Nothing is compressed: whether there is time for it now.
    fn from_nothing(&mut self, period: &Period, seen: Seen) {
        let Some(work) = self.work.filter(|_| period.narrow && self.wait == 0) else { return };
        let needed = period.rate * work;
        let fastest = LEVELS[0].1;
        if needed * fastest <= MOST {
            let fits = LEVELS.iter().rev().find(|(_, cost)| needed * cost <= ENOUGH);
            self.begin(fits.map_or(FASTEST, |(level, _)| *level), period, seen);
        }
    }

    fn begin(&mut self, level: i32, period: &Period, seen: Seen) {
        self.trial = Some(Trial { before: self.level, achieved: period.achieved, from: seen.sealed });
        self.level = level;
    }

    /// A level was tried, and this is what the chain has achieved with it.
    fn decide(&mut self, trial: Trial, period: &Period) {
        if period.achieved > BETTER * trial.achieved {
            if trial.before != NONE {
                self.too_slow = Some((trial.before, MEMORY));
            }
            (self.patience, self.wait) = (PATIENCE.0, 1);
        } else {
            self.level = trial.before;
            self.patience = (2 * self.patience).min(PATIENCE.1);
            self.wait = self.patience;
        }
    }

    /// The highest level from `least` to `most` that needs no more than enough, if this one needs `needed`.
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

/// What a level costs; none if nothing is compressed.
fn cost(level: i32) -> Option<f64> {
    LEVELS.iter().find(|(other, _)| *other == level).map(|(_, cost)| *cost)
}

/// The next lower level.
fn below(level: i32) -> i32 {
    LEVELS.iter().rev().map(|(other, _)| *other).find(|other| *other < level).unwrap_or(FASTEST)
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

    /// Compressors that take `speed` MB of plain bytes per second at level 1, before a chain that takes `line` MB of
    /// sealed bytes per second, and `most` MB of plain ones.
    struct Setting {
        level: Level,
        chosen: i32,
        now: u64,
        seen: Seen,
        /// What was sealed, and how many plain bytes each of it is.
        row: Vec<(f64, f64)>,
        ratio: fn(i32) -> f64,
    }

    /// About what a real tree's levels save.
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

        /// `count` times 10 ms; at most 4 MB are sealed and not taken yet.
        fn steps(&mut self, count: usize, speed: f64, line: f64, most: f64) -> Vec<i32> {
            const MB: f64 = 10_000.0;
            // Seconds stand in for bytes: they are rounded without a cast.
            let bytes = |amount: f64| Duration::from_secs_f64(amount.max(0.0)).as_secs();
            (0..count)
                .map(|_| {
                    let ratio = (self.ratio)(self.chosen);
                    let could = cost(self.chosen).map_or(f64::INFINITY, |cost| speed * MB / cost);
                    let room = (4e6 - float(self.seen.sealed - self.seen.taken)).max(0.0) + line * MB;
                    let could_read = could.min(3000.0 * MB);
                    let plain = could_read.min(room * ratio);
                    self.seen.blocked += Duration::from_millis(10).mul_f64(1.0 - plain / could_read);
                    self.row.push((plain / ratio, plain));
                    let (mut sealed, mut took) = (line * MB, most * MB);
                    let (mut taken, mut plain_taken) = (0.0, 0.0);
                    while let Some((packed, whole)) =
                        self.row.first_mut().filter(|_| sealed > 1.0 && took > 1.0)
                    {
                        let share = (sealed / *packed).min(took / *whole).min(1.0);
                        let (now, now_plain) = (*packed * share, *whole * share);
                        (sealed, took, taken, plain_taken) =
                            (sealed - now, took - now_plain, taken + now, plain_taken + now_plain);
                        (*packed, *whole) = (*packed - now, *whole - now_plain);
                        if *packed < 1.0 {
                            self.row.remove(0);
                        }
                    }
                    self.seen.sealed += bytes(plain / ratio);
                    self.seen.plain_sealed += bytes(plain);
                    self.seen.taken = (self.seen.taken + bytes(taken)).min(self.seen.sealed);
                    self.seen.plain_taken += bytes(plain_taken);
                    let worked = if could.is_finite() { plain / could } else { 0.0 };
                    self.seen.worked += Duration::from_millis(10).mul_f64(worked);
                    self.seen.shrunk += if ratio > 1.02 { bytes(plain) } else { 0 };
                    self.now += 10;
                    self.chosen = self.level.next(Duration::from_millis(self.now), self.seen);
                    self.chosen
                })
                .collect()
        }
    }

    /// What the chain achieves with this level alone, and with what is chosen, in MB of plain bytes.
    fn achieved(first: i32, fixed: Option<i32>, speed: f64, line: f64, most: f64) -> u64 {
        let mut setting = Setting::new(fixed.unwrap_or(first), tree);
        for _ in 0..300 {
            setting.steps(1, speed, line, most);
            setting.chosen = fixed.unwrap_or(setting.chosen);
        }
        setting.seen.plain_taken / 1_000_000
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
        // The processors have something else to do.
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
        let seen = Seen { sealed: 1 << 24, plain_sealed: 1 << 25, shrunk: 1 << 25, ..Seen::default() };
        assert_eq!(level.next(Duration::from_secs(9), seen), FIRST);
    }
}
