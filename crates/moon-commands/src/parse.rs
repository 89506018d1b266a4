//! Numbers and options out of arguments.

use crate::double::{is_space, strtod};
use crate::error::CommandError;
use moon_core::UnixMs;
use moon_resp::Args;
use moon_store::{DbIndex, parse_int};

/// A 64-bit integer in canonical decimal form: no plus sign, no leading zeros, no spaces.
///
/// # Errors
/// [`CommandError::NotAnInteger`].
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    canonical_integer(arg).ok_or(CommandError::NotAnInteger)
}

/// As [`integer`], for values that may be something else.
#[inline]
#[must_use]
pub fn canonical_integer(arg: &[u8]) -> Option<i64> {
    parse_int(arg)
}

/// An integer between the two bounds, both inclusive.
///
/// # Errors
/// [`CommandError::NotAnInteger`], or the text with the bounds.
pub fn integer_between(arg: &[u8], min: i64, max: i64) -> Result<i64, CommandError> {
    let value = integer(arg)?;
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(detailed(format!(
        "ERR value is out of range, value must between {min} and {max}"
    )))
}

/// A count of at least `min`.
///
/// # Errors
/// Whatever is wrong with it, the error is `text`.
pub fn at_least(min: i64, arg: &[u8], text: &'static str) -> Result<usize, CommandError> {
    canonical_integer(arg)
        .filter(|count| *count >= min)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(CommandError::Text(text))
}

/// A floating point number: decimal or hexadecimal, `inf` or `infinity`, as `strtod` reads it,
/// but without spaces, and not so large or small that it would read as infinity or 0.
///
/// # Errors
/// [`CommandError::NotAFloat`], also for NaN.
pub fn double(arg: &[u8]) -> Result<f64, CommandError> {
    let read = strtod(arg);
    let spaced = arg.first().is_none_or(|first| is_space(*first));
    if spaced || read.len != arg.len() || read.out_of_range || read.value.is_nan() {
        return Err(CommandError::NotAFloat);
    }
    Ok(read.value)
}

/// The number of one of `databases` databases.
///
/// # Errors
/// When it is no number, or there is no such database.
pub fn database(arg: &[u8], databases: usize) -> Result<DbIndex, CommandError> {
    let index = integer_between(arg, i64::from(i32::MIN), i64::from(i32::MAX))?;
    DbIndex::try_from(index)
        .ok()
        .filter(|index| usize::from(*index) < databases)
        .ok_or(CommandError::Text("ERR DB index is out of range"))
}

/// Whether `arg` is the option `name`, in any case.
#[inline]
#[must_use]
pub fn is(arg: &[u8], name: &str) -> bool {
    arg.eq_ignore_ascii_case(name.as_bytes())
}

/// An error text with details in it.
#[must_use]
pub fn detailed(text: String) -> CommandError {
    CommandError::Detailed(text.into())
}

/// The error for a wrong number of arguments; `name` in lower case.
#[must_use]
pub fn wrong_arity(name: &str) -> CommandError {
    detailed(format!(
        "ERR wrong number of arguments for '{name}' command"
    ))
}

/// The unit of an expire time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What an expire time counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The time of the command.
    Now,
    /// The Unix epoch.
    Epoch,
}

/// An expire time that may lie in the past, as EXPIRE takes it.
///
/// # Errors
/// When it is no integer, when milliseconds since the epoch would overflow, and for a time
/// relative to now where there is no now: the log has absolute times only.
pub fn expire_time(
    arg: &[u8],
    unit: Unit,
    basis: Basis,
    now: UnixMs,
    command: &str,
) -> Result<UnixMs, CommandError> {
    let time = integer(arg)?;
    let invalid = || detailed(format!("ERR invalid expire time in '{command}' command"));
    let time_ms = match unit {
        Unit::Seconds => time.checked_mul(1000).ok_or_else(invalid)?,
        Unit::Milliseconds => time,
    };
    match basis {
        Basis::Epoch => Ok(UnixMs(time_ms)),
        Basis::Now if now == UnixMs::BEFORE_ALL => Err(CommandError::Text(
            "ERR a relative expire time cannot be replayed",
        )),
        Basis::Now => now.0.checked_add(time_ms).map(UnixMs).ok_or_else(invalid),
    }
}

/// An expire time that must be positive, as SET takes it.
///
/// # Errors
/// As [`expire_time`], and when it is zero or negative.
pub fn positive_expire_time(
    arg: &[u8],
    unit: Unit,
    basis: Basis,
    now: UnixMs,
    command: &str,
) -> Result<UnixMs, CommandError> {
    if integer(arg)? <= 0 {
        return Err(detailed(format!(
            "ERR invalid expire time in '{command}' command"
        )));
    }
    expire_time(arg, unit, basis, now, command)
}

/// The option at `*at`, and moves behind it; `None` at the end.
pub fn next_option<'a>(args: Args<'a>, at: &mut usize) -> Option<&'a [u8]> {
    let option = args.get(*at)?;
    *at += 1;
    Some(option)
}

/// The argument of an option, as [`next_option`].
///
/// # Errors
/// [`CommandError::Syntax`] when there is none.
pub fn option_value<'a>(args: Args<'a>, at: &mut usize) -> Result<&'a [u8], CommandError> {
    next_option(args, at).ok_or(CommandError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical_decimal_numbers() {
        let valid: [(&[u8], i64); 5] = [
            (b"0", 0),
            (b"-1", -1),
            (b"10", 10),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
        ];
        for (text, value) in valid {
            assert_eq!(integer(text), Ok(value));
        }
        let invalid: [&[u8]; 10] = [
            b"",
            b"-",
            b"-0",
            b"+1",
            b"01",
            b" 1",
            b"1 ",
            b"1.0",
            b"9223372036854775808",
            b"-9223372036854775809",
        ];
        for text in invalid {
            assert_eq!(integer(text), Err(CommandError::NotAnInteger));
        }
    }

    #[test]
    fn floating_point_numbers_have_no_spaces_and_are_in_range() {
        for (text, value) in [("-3.5e1", -35.0), ("+inf", f64::INFINITY), ("0x1p-2", 0.25)] {
            assert_eq!(double(text.as_bytes()), Ok(value));
        }
        for text in ["", " 1", "1 ", "1e400", "1e-400", "nan", "x", "1\0", "1,5"] {
            assert_eq!(
                double(text.as_bytes()),
                Err(CommandError::NotAFloat),
                "{text}"
            );
        }
    }

    #[test]
    fn expire_times_overflow_with_the_text_of_redis() {
        let now = UnixMs(1_000);
        let text = "ERR invalid expire time in 'set' command";
        for (arg, unit, basis) in [
            (&b"0"[..], Unit::Seconds, Basis::Now),
            (b"-1", Unit::Milliseconds, Basis::Epoch),
            (b"9223372036854775807", Unit::Seconds, Basis::Epoch),
            (b"9223372036854775807", Unit::Milliseconds, Basis::Now),
        ] {
            let error = positive_expire_time(arg, unit, basis, now, "set").unwrap_err();
            assert_eq!(error.text(), text);
        }
        let at = positive_expire_time(b"5", Unit::Seconds, Basis::Now, now, "set");
        assert_eq!(at, Ok(UnixMs(6_000)));
        let at = expire_time(b"-5", Unit::Seconds, Basis::Now, now, "expire");
        assert_eq!(at, Ok(UnixMs(-4_000)));
    }
}
