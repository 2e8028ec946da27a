//! Where a member spends its time.
//!
//! Back-pressure makes all members of a chain equally slow, so a rate alone never shows which one is at
//! fault. What each one waits for does: the slow one has a full window because its own writer takes nothing,
//! or it is the link whose sender cannot write while its receiver has nothing to read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a member waits for at one moment: several things, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// It has room for a block, and none comes from the predecessor or from the golden node's producer.
    pub starved: bool,
    /// It has bytes for its successor, and the link takes none.
    pub output: bool,
    /// Its window is full because of its own writer.
    pub writer: bool,
}

/// How long a member has waited for each thing since it entered its stream.
///
/// The sums only grow, so the difference of any two reports gives the shares in between, even if others were
/// lost or late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The total, by the member's own clock.
    pub running: Duration,
    /// See [`Waiting::starved`].
    pub starved: Duration,
    /// See [`Waiting::output`].
    pub output: Duration,
    /// See [`Waiting::writer`].
    pub writer: Duration,
}

/// The fractions of a period spent waiting, each from 0 to 1.
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
    /// Adds the time from the last call until `now`, on the member's clock, as spent `waiting`.
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

    /// The shares since an earlier report; `None` if it is not earlier.
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
