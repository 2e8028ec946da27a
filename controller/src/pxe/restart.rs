//! Decides when a dead server is restarted, and when to give up.

use std::time::Duration;

/// A server that ran at least this long had started; an error in its configuration shows at once.
const QUICK: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const QUICK_DEATHS: u32 = 5;

/// The history of a server's deaths.
#[derive(Debug, Default)]
pub struct Restarts {
    quick_deaths: u32,
}

/// What to do after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Restart it after this pause.
    After(Duration),
    /// It dies repeatedly: a person must look.
    GiveUp {
        /// The number of consecutive deaths.
        deaths: u32,
    },
}

impl Restarts {
    /// Judges the death of a server that ran for `lived`.
    pub fn died(&mut self, lived: Duration) -> Verdict {
        if lived >= QUICK {
            self.quick_deaths = 0;
        }
        self.quick_deaths += 1;
        if self.quick_deaths >= QUICK_DEATHS {
            return Verdict::GiveUp { deaths: self.quick_deaths };
        }
        Verdict::After(FIRST_PAUSE * 2u32.pow(self.quick_deaths - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_deaths_are_given_up_and_rare_ones_never() {
        let mut restarts = Restarts::default();
        let verdicts: Vec<_> = (0..5).map(|_| restarts.died(Duration::from_millis(5))).collect();
        let after = |ms| Verdict::After(Duration::from_millis(ms));
        assert_eq!(
            verdicts,
            [after(250), after(500), after(1000), after(2000), Verdict::GiveUp { deaths: 5 }]
        );

        let mut restarts = Restarts::default();
        for _ in 0..100 {
            assert_eq!(restarts.died(QUICK), after(250));
        }
    }
}
