//! Where a member's time goes.
//!
//! Back-pressure makes all members of a chain equally slow, so a rate alone never tells who is at fault. What
//! tells it is what each one waits for: the one that has no room because its own writer takes nothing, or the
//! link whose sender cannot write while its receiver has nothing to read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a member waits for at one moment; it may be several things, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// It has room for a block, and none comes: from the predecessor, or the golden node's producer.
    pub starved: bool,
    /// It has bytes for its successor, and the link takes none.
    pub output: bool,
    /// Its window has no room for want of its own writer.
    pub writer: bool,
}

/// How long a member has waited for what, since it entered its stream.
///
/// Sums only grow, so the difference of any two reports tells the shares in between, whether others were lost
/// or late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// In all, by the member's own clock.
    pub running: Duration,
    /// See [`Waiting::starved`].
    pub starved: Duration,
    /// See [`Waiting::output`].
    pub output: Duration,
    /// See [`Waiting::writer`].
    pub writer: Duration,
}

/// What parts of a period were spent waiting, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// The period.
    pub over: Duration,
    /// See [`Waiting::starved`].
    pub starved: f64,
    /// See [`Waiting::output`].
    pub output: f64,
    /// See [`Waiting::writer`].
    pub writer: f64,
}

impl Spent {
    /// The time from the last call until `now`, on the member's clock, was spent `waiting`.
    pub fn add(&mut self, waiting: Waiting, now: Duration) {
        let passed = now.saturating_sub(self.running);
        self.running = self.running.max(now);
        let sums = [
            (waiting.starved, &mut self.starved),
            (waiting.output, &mut self.output),
            (waiting.writer, &mut self.writer),
        ];
        for (waits, sum) in sums {
            if waits {
                *sum += passed;
            }
        }
    }

    /// The shares of the time since an earlier report; none if it is not earlier.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Shares> {
        let over = self.running.checked_sub(earlier.running).filter(|over| !over.is_zero())?;
        let share = |now: Duration, then: Duration| now.saturating_sub(then).div_duration_f64(over).min(1.0);
        Some(Shares {
            over,
            starved: share(self.starved, earlier.starved),
            output: share(self.output, earlier.output),
            writer: share(self.writer, earlier.writer),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between_two_reports() {
        let s = Duration::from_secs;
        let mut spent = Spent::default();
        spent.add(Waiting { starved: true, ..Waiting::default() }, s(10));
        let before = spent;
        spent.add(Waiting { writer: true, output: true, starved: false }, s(13));
        spent.add(Waiting::default(), s(14));
        let shares = spent.since(&before).unwrap();
        assert_eq!(shares, Shares { over: s(4), starved: 0.0, output: 0.75, writer: 0.75 });
        assert_eq!(before.since(&spent), None);
        assert_eq!(spent.since(&spent), None);
    }
}
