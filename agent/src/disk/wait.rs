//! Waiting for what the kernel or another process does in a moment of its own.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(10);

/// Tries until something is done or fails for good, or the time is over: then the last reason to wait
/// is the error.
pub(super) fn retry<T, E>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
    is_transient: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Err(e) if is_transient(&e) && Instant::now() < deadline => std::thread::sleep(INTERVAL),
            other => return other,
        }
    }
}
