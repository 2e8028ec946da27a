//! Local time in this machine's time zone.

use std::mem::MaybeUninit;

use nix::libc;

/// A local time with a resolution of one minute.
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

/// Converts a local time to seconds since 1970 (UTC), mktime(3); `None` if the system cannot convert it.
#[must_use]
pub fn to_unix(time: LocalTime) -> Option<i64> {
    // SAFETY: a zeroed tm is valid: its fields are integers and a pointer that is only written.
    let mut tm: libc::tm = unsafe { MaybeUninit::zeroed().assume_init() };
    tm.tm_year = time.year - 1900;
    tm.tm_mon = i32::from(time.month) - 1;
    tm.tm_mday = time.day.into();
    tm.tm_hour = time.hour.into();
    tm.tm_min = time.minute.into();
    // The system determines daylight saving time.
    tm.tm_isdst = -1;
    // SAFETY: the pointer is to a local tm; mktime changes it and does not keep the pointer.
    let seconds = unsafe { libc::mktime(&raw mut tm) };
    (seconds != -1).then_some(seconds)
}

/// Converts seconds since 1970 (UTC) to local time, localtime_r(3); `None` if the system cannot convert them.
#[must_use]
pub fn from_unix(seconds: i64) -> Option<LocalTime> {
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to local values that live for the whole call.
    let known = unsafe { libc::localtime_r(&raw const seconds, tm.as_mut_ptr()) };
    if known.is_null() {
        return None;
    }
    // SAFETY: it was zeroed, which is a valid tm, and localtime_r has filled it in.
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
