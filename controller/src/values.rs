//! The values that options take, each checked where it is read so that nothing later meets a wrong one.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ka::wire::session_names;

use crate::stream::produce::Choice;

/// A run's or a session's name: it becomes a file's name and a word of a kernel command line.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<String, String> {
    if session_names::is_valid(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a name is 1 to {} letters, digits and '-', '_', '.', and begins with none of '-' and '.'",
        session_names::MAX_LENGTH
    ))
}

/// A level of compression.
///
/// # Errors
/// What is wrong with it.
pub fn level(text: &str) -> Result<Choice, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Choice::Auto),
        ("none", _) => Ok(Choice::Fixed(0)),
        (_, Ok(level)) if (-7..=9).contains(&level) && level != 0 => Ok(Choice::Fixed(level)),
        _ => Err("a level is auto, none, -7 to -1, or 1 to 9".into()),
    }
}

/// A disk by its kernel name, with or without `/dev/`.
///
/// # Errors
/// What is wrong with it.
pub fn disk(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("/dev/").unwrap_or(text);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(good) {
        return Err("a disk is named as the kernel names it: sda, nvme0n1".into());
    }
    Ok(name.to_owned())
}

/// A partition of the golden node by its kernel name, with or without `/dev/`, or by another path in `/dev`.
///
/// # Errors
/// What is wrong with it.
pub fn partition(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("/dev/").unwrap_or(text);
    if name.is_empty() || name.starts_with('/') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(
            "a partition is named as the kernel names it: sda3, nvme0n1p3; or by a path in /dev".into()
        );
    }
    Ok(name.to_owned())
}

/// A directory of the golden node, from its root.
///
/// # Errors
/// What is wrong with it.
pub fn directory(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path == Path::new("/") {
        return Err("a directory below / is given by its whole path, without '..'".into());
    }
    Ok(path.to_owned())
}

/// Nobody waits for longer than a year; and sums of times stay far from overflowing.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A time: seconds, or with a unit `s`, `m`, `h`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, scale) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .into_iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))
        .unwrap_or((text, 1.0));
    digits
        .parse::<f64>()
        .ok()
        .filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))
        .and_then(|n| Duration::try_from_secs_f64(n * scale).ok())
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| "a time is a number of seconds, or 1.5, 500ms, 90s, 10m, 2h".into())
}

/// A silence that means death, as [`duration`] takes it: below 100 ms a busy machine is dead, and no user waits for
/// more than an hour.
///
/// # Errors
/// What is wrong with it.
pub fn silence(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        let sensible = Duration::from_millis(100)..=Duration::from_secs(3600);
        if sensible.contains(&time) { Ok(time) } else { Err("the time must be from 100ms to 1h".into()) }
    })
}

/// A time that is not zero, as [`duration`] takes it.
///
/// # Errors
/// What is wrong with it.
pub fn lasting(text: &str) -> Result<Duration, String> {
    duration(text)
        .and_then(|time| if time.is_zero() { Err("the time must not be zero".into()) } else { Ok(time) })
}

/// A share: a number from 0 to 1.
///
/// # Errors
/// What is wrong with it.
pub fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1, such as 0.1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["kainstall", "room-2.a_b", "0"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "../x", "-n", "a b", "a/b", "ä", "a\n", &long] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(
            (silence("0.1").is_ok(), silence("0").is_ok(), silence("2h").is_ok()),
            (true, false, false)
        );
        for bad in ["", "s", "-1", "1d", "inf", "nan", ".", "1e99", "1e18", "9000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_and_disks() {
        assert!(directory("/var/tmp").is_ok());
        for bad in ["", "/", "tmp", "/a/../b", "./a"] {
            assert!(directory(bad).is_err(), "{bad}");
        }
        assert_eq!(disk("/dev/nvme0n1").as_deref(), Ok("nvme0n1"));
        for bad in ["", "/dev/", "../sda", "/dev/disk/by-id/x", "sda|"] {
            assert!(disk(bad).is_err(), "{bad}");
        }
    }
}
