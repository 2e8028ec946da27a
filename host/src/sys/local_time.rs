//! This machine's local time, by its time zone.

use std::mem::MaybeUninit;

use nix::libc;

/// A local time, to the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The year.
    pub year: i32,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour.
    pub hour: u8,
    /// The minute.
    pub minute: u8,
}

/// Seconds since 1970 (UTC) of a local time, mktime(3); none if the system cannot tell.
#[must_use]
pub fn to_unix(time: LocalTime) -> Option<i64> {
    // SAFETY: a tm of zeros is a valid one; all of its fields are integers and a pointer that is only written.
    let mut tm: libc::tm = unsafe { MaybeUninit::zeroed().assume_init() };
    tm.tm_year = time.year - 1900;
    tm.tm_mon = i32::from(time.month) - 1;
    tm.tm_mday = time.day.into();
    tm.tm_hour = time.hour.into();
    tm.tm_min = time.minute.into();
    // The system knows whether it is summer.
    tm.tm_isdst = -1;
    // SAFETY: the pointer is to a tm of our own; mktime changes it, and keeps nothing of it.
    let seconds = unsafe { libc::mktime(&raw mut tm) };
    (seconds != -1).then_some(seconds)
}

/// The local time of seconds since 1970 (UTC), localtime_r(3); none if the system cannot tell.
#[must_use]
pub fn from_unix(seconds: i64) -> Option<LocalTime> {
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of our own, and live for the call.
    let known = unsafe { libc::localtime_r(&raw const seconds, tm.as_mut_ptr()) };
    if known.is_null() {
        return None;
    }
    // SAFETY: it was zeroed, which is a valid tm, and localtime_r has filled it.
    let tm = unsafe { tm.assume_init() };
    let byte = |number: i32| u8::try_from(number).ok();
    Some(LocalTime {
        year: tm.tm_year.checked_add(1900)?,
        month: byte(tm.tm_mon + 1)?,
        day: byte(tm.tm_mday)?,
        hour: byte(tm.tm_hour)?,
        minute: byte(tm.tm_min)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        for seconds in [0_i64, 1_780_000_000, 4_000_000_020] {
            let minute = seconds - seconds.rem_euclid(60);
            assert_eq!(to_unix(from_unix(minute).unwrap()), Some(minute));
        }
    }
}
