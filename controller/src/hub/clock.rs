//! Time as the sessions see it: the machine's, to which a test can add.

#[cfg(not(test))]
use std::time::Instant;

/// Now.
#[cfg(not(test))]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
pub(super) use in_tests::{now, pass};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(in crate::hub) fn now() -> Instant {
        Instant::now() + PASSED.get()
    }

    /// Lets time pass for all sessions of this thread.
    pub(in crate::hub) fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }
}
