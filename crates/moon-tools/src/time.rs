//! Points in time as people write them, and back: Unix seconds or milliseconds, or RFC 3339.
//!
//! An RFC 3339 time needs its offset (`Z` or `+01:00`): what hour a time without one means depends
//! on where and when it is read, and is no base for deciding what to restore.

use std::fmt;

/// A point in time, Unix milliseconds in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointInTime(pub u64);

/// Why a text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// A date and a time of day, but no offset.
    #[error(
        "the time {text:?} has no offset, so it could mean any of 26 hours; add Z for UTC, or an \
         offset such as +01:00"
    )]
    NoOffset {
        /// What was given.
        text: String,
    },
    /// A field that no calendar or clock shows.
    #[error("the time {text:?} does not exist: its {field} is out of range")]
    OutOfRange {
        /// What was given.
        text: String,
        /// Which field.
        field: &'static str,
    },
    /// Neither form.
    #[error(
        "{text:?} is no time; give Unix seconds, Unix milliseconds, or RFC 3339 such as \
         2026-11-23T10:00:00Z"
    )]
    Form {
        /// What was given.
        text: String,
    },
}

/// Numbers from here on are milliseconds: as seconds they would lie in the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

impl std::str::FromStr for PointInTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<PointInTime, TimeError> {
        let trimmed = text.trim();
        if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
            let number: u64 = trimmed.parse().map_err(|_| TimeError::OutOfRange {
                text: text.to_owned(),
                field: "number",
            })?;
            return Ok(PointInTime(if number < MILLISECONDS_FROM {
                number * 1000
            } else {
                number
            }));
        }
        rfc3339(trimmed)
    }
}

/// `2026-11-23T10:00:00[.123](Z|+01:00)`, with a blank or `t` for the `T` and `z` for the `Z`, as
/// the standard allows.
fn rfc3339(text: &str) -> Result<PointInTime, TimeError> {
    let form = || TimeError::Form {
        text: text.to_owned(),
    };
    let out_of_range = |field| TimeError::OutOfRange {
        text: text.to_owned(),
        field,
    };
    let mut rest = Cursor(text.as_bytes());
    let year = rest.number(4).ok_or_else(form)?;
    rest.one_of(b"-").ok_or_else(form)?;
    let month = rest.number(2).ok_or_else(form)?;
    rest.one_of(b"-").ok_or_else(form)?;
    let day = rest.number(2).ok_or_else(form)?;
    rest.one_of(b"Tt ").ok_or_else(form)?;
    let hour = rest.number(2).ok_or_else(form)?;
    rest.one_of(b":").ok_or_else(form)?;
    let minute = rest.number(2).ok_or_else(form)?;
    rest.one_of(b":").ok_or_else(form)?;
    let second = rest.number(2).ok_or_else(form)?;
    let mut millisecond = 0;
    if rest.one_of(b".").is_some() {
        millisecond = rest.fraction().ok_or_else(form)?;
    }
    let offset_minutes = match rest.0 {
        [] => {
            return Err(TimeError::NoOffset {
                text: text.to_owned(),
            });
        }
        b"Z" | b"z" => 0,
        _ => {
            let sign = match rest.one_of(b"+-").ok_or_else(form)? {
                b'-' => -1,
                _ => 1,
            };
            let hours = rest.number(2).ok_or_else(form)?;
            rest.one_of(b":").ok_or_else(form)?;
            let minutes = rest.number(2).ok_or_else(form)?;
            if !rest.0.is_empty() {
                return Err(form());
            }
            if hours > 23 || minutes > 59 {
                return Err(out_of_range("offset"));
            }
            sign * (hours * 60 + minutes)
        }
    };
    if !(1..=12).contains(&month) {
        return Err(out_of_range("month"));
    }
    if day < 1 || day > days_in_month(year, month) {
        return Err(out_of_range("day"));
    }
    if hour > 23 {
        return Err(out_of_range("hour"));
    }
    if minute > 59 {
        return Err(out_of_range("minute"));
    }
    // A leap second has no Unix time of its own.
    if second > 59 {
        return Err(out_of_range("second"));
    }
    let minutes = (days_from_epoch(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    let milliseconds = (minutes * 60 + second) * 1000 + millisecond;
    u64::try_from(milliseconds)
        .map(PointInTime)
        .map_err(|_| out_of_range("year"))
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        if !head.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(
            head.iter()
                .fold(0, |n, digit| n * 10 + i64::from(digit - b'0')),
        )
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        wanted.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// One or more digits; what is finer than a millisecond is dropped.
    fn fraction(&mut self) -> Option<i64> {
        let len = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        let digit = |at: usize| digits.get(at).map_or(0, |digit| i64::from(digit - b'0'));
        (len > 0).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let years = year - 1;
    let before_year = years * 365 + years / 4 - years / 100 + years / 400;
    let before_month: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    // 719162 days lie between 0001-01-01 and the epoch.
    before_year - 719_162 + before_month + day - 1
}

impl fmt::Display for PointInTime {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let mut days = seconds / 86_400;
        // Whole cycles of 400 years first, so that the loop below is short for any number.
        let cycles = days / 146_097;
        days %= 146_097;
        let mut year = 1970 + 400 * i64::try_from(cycles).unwrap_or(0);
        let days_in_year = |year| if is_leap(year) { 366 } else { 365 };
        while days >= days_in_year(year) {
            days -= days_in_year(year);
            year += 1;
        }
        let mut month = 1;
        let mut day = i64::try_from(days).unwrap_or(0) + 1;
        while day > days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let milli = self.0 % 1000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PointInTime, TimeError> {
        text.parse()
    }

    /// Scenario 200: the formats.
    #[test]
    fn the_same_moment_in_all_its_forms() {
        let moment = Ok(PointInTime(1_795_428_000_000));
        for text in [
            "1795428000",
            "1795428000000",
            "2026-11-23T10:00:00Z",
            "2026-11-23t10:00:00.000z",
            "2026-11-23 11:00:00+01:00",
            "2026-11-23T04:30:00-05:30",
            "2026-11-24T09:59:00.0009+23:59",
        ] {
            assert_eq!(parse(text), moment, "{text}");
        }
        assert_eq!(
            parse("2026-11-23T10:00:00.5Z"),
            Ok(PointInTime(1_795_428_000_500))
        );
        assert_eq!(parse("1970-01-01T00:00:00Z"), Ok(PointInTime(0)));
        assert_eq!(
            parse("2000-02-29T00:00:00Z"),
            Ok(PointInTime(951_782_400_000))
        );
    }

    /// Scenario 200: a time without an offset is refused, and what does not exist is.
    #[test]
    fn what_is_no_moment_is_refused_by_its_fault() {
        assert!(matches!(
            parse("2026-11-23T10:00:00"),
            Err(TimeError::NoOffset { .. })
        ));
        for (text, wrong) in [
            ("2026-13-23T10:00:00Z", "month"),
            ("2026-02-29T10:00:00Z", "day"),
            ("2100-02-29T10:00:00Z", "day"),
            ("2026-11-00T10:00:00Z", "day"),
            ("2026-11-23T24:00:00Z", "hour"),
            ("2026-11-23T10:60:00Z", "minute"),
            ("2016-12-31T23:59:60Z", "second"),
            ("2026-11-23T10:00:00+24:00", "offset"),
            ("1969-12-31T23:59:59Z", "year"),
            ("99999999999999999999999", "number"),
        ] {
            match parse(text) {
                Err(TimeError::OutOfRange { field, .. }) => assert_eq!(field, wrong, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in [
            "",
            "yesterday",
            "2026-11-23",
            "2026-11-23T10:00Z",
            "-5",
            "1e9",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00+0100",
            "2026-11-23T10:00:00Zx",
            "2026-11-23T10:00:00 Europe/Berlin",
        ] {
            assert!(matches!(parse(text), Err(TimeError::Form { .. })), "{text}");
        }
    }

    #[test]
    fn every_day_prints_as_what_it_was_read_from() {
        let mut at = 0u64;
        while at < 40_000_000_000_000 {
            let shown = PointInTime(at).to_string();
            assert_eq!(parse(&shown), Ok(PointInTime(at)), "{shown}");
            at += 86_400_000 * 13 + 3_661_007;
        }
        assert!(PointInTime(u64::MAX).to_string().ends_with('Z'));
    }
}
