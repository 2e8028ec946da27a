//! Waiting for something that the kernel or another process completes within moments.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(10);

/// Retries until the operation succeeds, fails for good, or times out; on timeout the error is the last
/// reason to wait.
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
