//! Sets the node's clock from the controller's. A machine's own clock may be years off, and the times of
//! copied files and log lines are useful only if the clock is right.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_settime};

/// Sets the system clock to `unix_ns` nanoseconds after 1970-01-01 00:00 UTC, and logs the change.
///
/// # Errors
/// The kernel's error, such as `EPERM`.
pub fn set(unix_ns: u64) -> io::Result<()> {
    let now = Duration::from_nanos(unix_ns);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    clock_settime(ClockId::Realtime, timespec(now)?)?;
    let way = if now >= before { "forward" } else { "back" };
    log::info!("clock: set {way} by {:.3} s", now.abs_diff(before).as_secs_f64());
    Ok(())
}

fn timespec(time: Duration) -> io::Result<Timespec> {
    Timespec::try_from(time).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_split() {
        let spec = timespec(Duration::from_nanos(1_700_000_000_123_456_789)).unwrap();
        assert_eq!((spec.tv_sec, spec.tv_nsec), (1_700_000_000, 123_456_789));
        assert!(timespec(Duration::from_nanos(u64::MAX)).is_ok());
    }
}
