//! Reading 64-bit floating point numbers as the C function `strtod` does, in Redis's locale.

/// What stands at the front of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strtod {
    /// The nearest number; 0 if there is none.
    pub(crate) value: f64,
    /// Bytes that it takes, leading spaces included; 0 if there is none.
    pub(crate) len: usize,
    /// The text says a finite number that is not 0, and `value` is infinite or 0.
    pub(crate) out_of_range: bool,
}

/// Reads the longest number at the front: spaces, a sign, and a decimal or hexadecimal number,
/// `inf`, `infinity` or `nan`.
pub(crate) fn strtod(text: &[u8]) -> Strtod {
    let spaces = text.iter().take_while(|b| is_space(**b)).count();
    let unsigned = &text[spaces..];
    let (negative, unsigned) = match unsigned {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, unsigned),
    };
    let read = match unsigned {
        [b'0', b'x' | b'X', hex @ ..] => hexadecimal(hex).map(|(value, len, nonzero)| {
            let digits = 2 + len;
            (value, digits, nonzero)
        }),
        _ => None,
    };
    let read = read.or_else(|| decimal(unsigned));
    let read = read.or_else(|| word(unsigned).map(|(value, len)| (value, len, false)));
    let Some((value, len, nonzero)) = read else {
        return Strtod {
            value: 0.0,
            len: 0,
            out_of_range: false,
        };
    };
    Strtod {
        value: if negative { -value } else { value },
        len: text.len() - unsigned.len() + len,
        out_of_range: nonzero && (value == 0.0 || value.is_infinite()),
    }
}

/// As C's `isspace`.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Length of the longest prefix of `digits [. digits]` with at least one digit, and whether any
/// digit is not 0.
fn digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(usize, bool)> {
    let whole = text.iter().take_while(|b| is_digit(b)).count();
    let mut len = whole;
    if text.get(whole) == Some(&b'.') {
        let fraction = text[whole + 1..].iter().take_while(|b| is_digit(b)).count();
        if whole + fraction == 0 {
            return None;
        }
        len += 1 + fraction;
    }
    let nonzero = text[..len].iter().any(|b| *b != b'0' && *b != b'.');
    (len > 0).then_some((len, nonzero))
}

/// Length of an exponent that begins with `mark`, if it has digits.
fn exponent_len(text: &[u8], mark: u8) -> usize {
    let sign = match text {
        [m, b'-' | b'+', ..] if m.eq_ignore_ascii_case(&mark) => 2,
        [m, ..] if m.eq_ignore_ascii_case(&mark) => 1,
        _ => return 0,
    };
    match text[sign..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count()
    {
        0 => 0,
        digits => sign + digits,
    }
}

fn decimal(text: &[u8]) -> Option<(f64, usize, bool)> {
    let (len, nonzero) = digits(text, u8::is_ascii_digit)?;
    let len = len + exponent_len(&text[len..], b'e');
    let value = str::from_utf8(&text[..len]).ok()?.parse().ok()?;
    Some((value, len, nonzero))
}

fn word(text: &[u8]) -> Option<(f64, usize)> {
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    if begins(b"infinity") {
        return Some((f64::INFINITY, 8));
    }
    if begins(b"inf") {
        return Some((f64::INFINITY, 3));
    }
    if !begins(b"nan") {
        return None;
    }
    // What may stand behind it in parentheses changes bits that nobody looks at.
    let inside = text[3..].iter().skip(1);
    let inside = inside.take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
    let close = 4 + inside.count();
    let has_tail = text.get(3) == Some(&b'(') && text.get(close) == Some(&b')');
    Some((f64::NAN, if has_tail { close + 1 } else { 3 }))
}

/// What stands behind `0x`.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize, bool)> {
    let (mantissa_len, nonzero) = digits(text, u8::is_ascii_hexdigit)?;
    let exponent_len = exponent_len(&text[mantissa_len..], b'p');
    let exponent = &text[mantissa_len..mantissa_len + exponent_len];
    let mut binary = match exponent {
        [] => 0,
        [_, number @ ..] => parse_exponent(number),
    };
    // Sixteen digits, and whether anything follows them that is not 0.
    let (mut mantissa, mut rest, mut is_fraction) = (0_u64, false, false);
    for byte in &text[..mantissa_len] {
        let Some(digit) = char::from(*byte).to_digit(16) else {
            is_fraction = true;
            continue;
        };
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            binary -= if is_fraction { 4 } else { 0 };
        } else {
            rest |= digit != 0;
            binary += if is_fraction { 0 } else { 4 };
        }
    }
    let value = nearest(mantissa, rest, binary);
    Some((value, mantissa_len + exponent_len, nonzero))
}

/// An exponent in decimal digits; one beyond all bounds is just large.
fn parse_exponent(text: &[u8]) -> i64 {
    const LARGE: i64 = 1 << 40;
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let number = digits.iter().fold(0_i64, |number, digit| {
        (number * 10 + i64::from(digit - b'0')).min(LARGE)
    });
    if negative { -number } else { number }
}

/// The number nearest to `mantissa * 2^exponent`, ties to even; `rest` says that the mantissa is
/// a little more than that.
fn nearest(mantissa: u64, rest: bool, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let shift = i64::from(mantissa.leading_zeros());
    let (mantissa, exponent) = (mantissa << shift, exponent - shift);
    // The exponent of the top bit decides how many bits there are: 53, or fewer near 0.
    let top = exponent + 63;
    if top > 1023 {
        return f64::INFINITY;
    }
    let bits = (top + 1075).clamp(-1, 53);
    if bits < 0 {
        return 0.0;
    }
    let dropped = 64 - bits;
    let wide = u128::from(mantissa);
    let half = 1_u128 << (dropped - 1);
    let below = wide & ((half << 1) - 1);
    let mut kept = wide >> dropped;
    if below > half || (below == half && (rest || kept & 1 == 1)) {
        kept += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "it has 53 bits, or is 2^53")]
    let kept = kept as f64;
    // In two steps, because the smallest power of two is smaller than the inverse of the largest.
    let scale = exponent + dropped;
    let half_scale = scale / 2;
    kept * power_of_two(half_scale) * power_of_two(scale - half_scale)
}

fn power_of_two(exponent: i64) -> f64 {
    let biased = u64::try_from(exponent + 1023).unwrap_or(0);
    f64::from_bits(biased << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        for (text, value, len) in [
            ("3", 3.0, 1),
            ("-0.5x", -0.5, 4),
            ("+.5", 0.5, 3),
            ("5.", 5.0, 2),
            ("5.e1", 50.0, 4),
            ("1e", 1.0, 1),
            ("1e+", 1.0, 1),
            ("1e5", 1e5, 3),
            ("1E-5 ", 1e-5, 4),
            (" \t7", 7.0, 3),
            ("", 0.0, 0),
            (" ", 0.0, 0),
            (".", 0.0, 0),
            ("-", 0.0, 0),
            ("e5", 0.0, 0),
            ("--1", 0.0, 0),
            ("inf", f64::INFINITY, 3),
            ("-INFINITY", f64::NEG_INFINITY, 9),
            ("infinit", f64::INFINITY, 3),
            ("0x", 0.0, 1),
            ("0xg", 0.0, 1),
            ("0x10", 16.0, 4),
            ("0X1.8p1", 3.0, 7),
            ("0x1p", 1.0, 3),
            ("0x.8", 0.5, 4),
            ("0x.p1", 0.0, 1),
            ("0x1p-1074", 5e-324, 9),
            ("0x1p-1075", 0.0, 9),
            ("0x1.8p-1075", 5e-324, 11),
            ("0x1.fffffffffffffp1023", f64::MAX, 22),
            ("0x1.fffffffffffff8p1023", f64::INFINITY, 23),
            ("0x20000000000001", 9_007_199_254_740_992.0, 16),
            ("0x20000000000003", 9_007_199_254_740_996.0, 16),
            ("0x200000000000010000000001", 9.903520314283044e27, 26),
            ("0x1p99999999999999999999", f64::INFINITY, 24),
            ("1e999", f64::INFINITY, 5),
        ] {
            let read = strtod(text.as_bytes());
            assert_eq!((read.value, read.len), (value, len), "{text}");
        }
        for (text, len) in [("nan", 3), ("-NaN(a_1)", 9), ("nan(", 3), ("nan(-)", 3)] {
            let read = strtod(text.as_bytes());
            assert!(read.value.is_nan(), "{text}");
            assert_eq!(read.len, len, "{text}");
        }
        assert!(strtod(b"-0").value.is_sign_negative());
    }

    #[test]
    fn only_numbers_that_are_lost_are_out_of_range() {
        for text in ["1e400", "-1e400", "1e-400", "0x1p-9999", "0x1p9999"] {
            assert!(strtod(text.as_bytes()).out_of_range, "{text}");
        }
        for text in ["inf", "0", "0e999", "0.0", "5e-324", "0x0p9999", "x"] {
            assert!(!strtod(text.as_bytes()).out_of_range, "{text}");
        }
    }

    /// Decimal digits of many numbers, against hexadecimal ones of the same.
    #[test]
    fn hexadecimal_numbers_are_exact() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..2000 {
            bits = bits.wrapping_mul(0xD129_0D3C_1C2F_4C05).rotate_left(17) ^ 0x51;
            let value = f64::from_bits(bits & !(1 << 63));
            if !value.is_finite() {
                continue;
            }
            let (mantissa, exponent) = match value.to_bits() >> 52 {
                0 => (value.to_bits(), -1074),
                biased => (
                    value.to_bits() & ((1 << 52) - 1) | 1 << 52,
                    i64::try_from(biased).expect("11 bits") - 1075,
                ),
            };
            let text = format!("0x{mantissa:x}p{exponent}");
            assert_eq!(
                strtod(text.as_bytes()).value.to_bits(),
                value.to_bits(),
                "{text}"
            );
        }
    }
}
