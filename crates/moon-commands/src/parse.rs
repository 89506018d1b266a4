//! Numbers and options out of arguments.

use crate::error::CommandError;

/// A 64-bit integer in canonical decimal form: no plus sign, no leading zeros, no spaces.
///
/// # Errors
/// [`CommandError::NotAnInteger`].
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    canonical_integer(arg).ok_or(CommandError::NotAnInteger)
}

/// As [`integer`], for values that may be something else.
#[must_use]
pub fn canonical_integer(arg: &[u8]) -> Option<i64> {
    let (negative, digits) = match arg {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, arg),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if negative {
            value.checked_sub(digit)?
        } else {
            value.checked_add(digit)?
        };
    }
    Some(value)
}
