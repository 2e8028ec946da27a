//! Formats quantities for people. MB is 10^6 bytes and MB/s is 10^6 bytes per second, as the makers of disks
//! and networks count, in every output of ka.

use ka::disk::units::Decimal;
use std::time::Duration;

/// A size with three or four digits: `512 B`, `3.5 GB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    Decimal(count).to_string()
}

/// A rate in MB/s.
#[must_use]
pub fn rate(bytes_per_second: u64) -> String {
    format!("{:.1} MB/s", as_f64(bytes_per_second) / 1e6)
}

/// Bytes over a time, in 10^6 bytes per second; zero for a zero time.
#[must_use]
pub fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { as_f64(bytes) / 1e6 / seconds } else { 0.0 }
}

/// A duration: `4.0 s`, `12 min 3 s`, `2 h 5 min`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64().min(59.9)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Exact up to 2^53, and above that more precise than needed.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (80_026_361_856, "80.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(rate(11_340_000), "11.3 MB/s");
        for (ms, text) in [
            (0, "0.0 s"),
            (4040, "4.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 0 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert!((megabytes_per_second(792_000_000, Duration::from_millis(69_900)) - 11.330).abs() < 0.001);
        assert!(megabytes_per_second(1, Duration::ZERO).abs() < f64::EPSILON);
    }
}
