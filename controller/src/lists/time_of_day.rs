//! A local time at which something begins.

use std::str::FromStr;

use ka_host::sys::local_time::{self, LocalTime};

/// A time of day, or of a certain day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Year, month and day; the next time that it is so late if none.
    day: Option<(i32, u8, u8)>,
    hour: u8,
    minute: u8,
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a local time such as 02:00, or 2026-12-01 02:00";
        let (day, time) = match text.trim().rsplit_once([' ', 'T']) {
            Some((day, time)) => (Some(day.trim()), time),
            None => (None, text.trim()),
        };
        let number = |digits: &str, length: usize| {
            let good = digits.len() == length && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| good).ok_or(EXPECTED)
        };
        let byte = |digits: &str, most: u16| {
            number(digits, 2).and_then(|n| u8::try_from(n).ok().filter(|_| n <= most).ok_or(EXPECTED))
        };
        let (hour, minute) = time.split_once(':').ok_or(EXPECTED)?;
        let (hour, minute) = (byte(hour, 23)?, byte(minute, 59)?);
        let day = day.map(|day| {
            let mut parts = day.split('-');
            let mut next = || parts.next().ok_or(EXPECTED);
            let (year, month, day) = (number(next()?, 4)?, byte(next()?, 12)?, byte(next()?, 31)?);
            if parts.next().is_some() || month == 0 || day == 0 {
                return Err(EXPECTED);
            }
            Ok((i32::from(year), month, day))
        });
        Ok(Self { day: day.transpose()?, hour, minute })
    }
}

impl Moment {
    /// In seconds since 1970 (UTC): the first such time that is not before `now`.
    ///
    /// # Errors
    /// It is over, or there is no such day.
    pub fn after(self, now: i64) -> Result<i64, String> {
        let at = |(year, month, day)| {
            let time = LocalTime { year, month, day, hour: self.hour, minute: self.minute };
            let seconds = local_time::to_unix(time).ok_or("the system does not know that time")?;
            let back = local_time::from_unix(seconds).ok_or("the system does not know that time")?;
            // The system makes the 2nd of March of a 30th of February.
            if (back.month, back.day) != (month, day) {
                Err(format!("there is no day {day}.{month}.{year}"))
            } else {
                Ok(seconds)
            }
        };
        if let Some(day) = self.day {
            let seconds = at(day)?;
            return if seconds < now { Err("that time is over".into()) } else { Ok(seconds) };
        }
        let today = local_time::from_unix(now).ok_or("the system does not know the time")?;
        let today_at = at((today.year, today.month, today.day))?;
        if today_at >= now {
            return Ok(today_at);
        }
        // Noon is on the next day whatever the clocks do in the night.
        let noon = at_noon(&today).ok_or("the system does not know the time")?;
        let next = local_time::from_unix(noon + 24 * 3600).ok_or("the system does not know the time")?;
        at((next.year, next.month, next.day))
    }
}

fn at_noon(day: &LocalTime) -> Option<i64> {
    local_time::to_unix(LocalTime { hour: 12, minute: 0, ..*day })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        for good in ["02:00", "23:59", "2026-12-01 02:00", "2026-12-01T02:00", " 02:00 "] {
            assert!(good.parse::<Moment>().is_ok(), "{good}");
        }
        for bad in
            ["", "2:00", "24:00", "02:60", "02", "tomorrow", "2026-13-01 02:00", "1.12. 02:00", "2026-12-01"]
        {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let moment: Moment = "02:00".parse().unwrap();
        let now = 1_780_000_000;
        let at = moment.after(now).unwrap();
        assert!(at >= now && at - now <= 25 * 3600, "{at}");
        let local = local_time::from_unix(at).unwrap();
        assert_eq!((local.hour, local.minute), (2, 0));
        assert_eq!(moment.after(at), Ok(at));
        let later = moment.after(at + 1).unwrap();
        assert!(later - at > 22 * 3600 && later - at <= 25 * 3600, "{later}");
        assert_eq!(local_time::from_unix(later).unwrap().hour, 2);
    }

    #[test]
    fn a_day_that_is_over_or_is_none_is_told() {
        let after = |text: &str| text.parse::<Moment>().unwrap().after(1_780_000_000);
        assert!(after("2020-01-01 02:00").unwrap_err().contains("over"));
        assert!(after("2030-02-30 02:00").unwrap_err().contains("no day"));
        assert!(after("2030-01-01 02:00").is_ok());
    }
}
