//! The text of a floating point number, as clients get it.
//!
//! Redis 7.2 and later print the shortest digits that read back as the same number. Integers up
//! to 2^62 have all their digits; other numbers have an exponent where the plain form would need
//! many zeros. This is the only place that decides so: replies, the log and snapshots all show
//! a number alike.

use std::ops::Deref;

/// A formatted number; derefs to `str`.
#[derive(Clone, Copy)]
pub struct DoubleText {
    /// ASCII only.
    bytes: [u8; DoubleText::LEN_MAX],
    len: usize,
}

impl DoubleText {
    /// Sign, 17 digits, and either a point with up to six zeros, seven zeros behind, or an
    /// exponent: all below this.
    const LEN_MAX: usize = 32;

    fn new(text: &[u8]) -> Self {
        let mut number = DoubleText {
            bytes: [0; Self::LEN_MAX],
            len: 0,
        };
        number.push(text);
        number
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    fn push_zeros(&mut self, count: usize) {
        self.bytes[self.len..][..count].fill(b'0');
        self.len += count;
    }

    /// The text as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only ASCII is ever pushed")
    }
}

impl Deref for DoubleText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for DoubleText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for DoubleText {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl std::fmt::Debug for DoubleText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl std::fmt::Display for DoubleText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The text of `value`: `3`, `0.1`, `1e+21`, `1.5e-7`, `-0`, `inf`, `-inf`, `nan`.
#[must_use]
pub fn format_double(value: f64) -> DoubleText {
    if value.is_nan() {
        return DoubleText::new(b"nan");
    }
    if value.is_infinite() {
        return DoubleText::new(if value > 0.0 { b"inf" } else { b"-inf" });
    }
    if value == 0.0 {
        return DoubleText::new(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    }
    // The bound of Redis: half the range of 64 bits, where the conversion is exact.
    const INTEGER_MAX: f64 = (1_i64 << 62) as f64;
    if value.abs() <= INTEGER_MAX && value.trunc() == value {
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        let integer = value as i64;
        return DoubleText::new(itoa::Buffer::new().format(integer).as_bytes());
    }
    let mut buffer = ryu::Buffer::new();
    layout(&Decimal::parse(buffer.format_finite(value)))
}

/// A number as `0.d1d2d3... * 10^(len + exponent)`: the digits as one integer, without zeros at
/// either end, times a power of ten.
struct Decimal {
    negative: bool,
    digits: [u8; 17],
    len: usize,
    exponent: i32,
}

impl Decimal {
    /// Takes the digits from the shortest form, whatever its notation.
    fn parse(text: &str) -> Decimal {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut decimal = Decimal {
            negative,
            digits: [0; 17],
            len: 0,
            exponent: exponent
                .parse()
                .expect("the exponent of a shortest form is a number"),
        };
        // Zeros wait until a digit follows, so those at the end fall away.
        let mut zeros = 0;
        let is_fraction = std::iter::repeat_n(false, whole.len()).chain(std::iter::repeat(true));
        for (digit, in_fraction) in whole.bytes().chain(fraction.bytes()).zip(is_fraction) {
            decimal.exponent -= i32::from(in_fraction);
            if digit == b'0' {
                zeros += usize::from(decimal.len > 0);
                continue;
            }
            decimal.digits[decimal.len..][..zeros].fill(b'0');
            decimal.len += zeros;
            zeros = 0;
            decimal.digits[decimal.len] = digit;
            decimal.len += 1;
        }
        decimal.exponent += i32::try_from(zeros).expect("a shortest form is short");
        decimal
    }
}

/// Chooses between the plain and the scientific form by the same bounds as Redis.
fn layout(number: &Decimal) -> DoubleText {
    let digits = &number.digits[..number.len];
    let len = i32::try_from(number.len).expect("at most 17 digits");
    // The exponent if there is one digit before the point.
    let scientific = number.exponent + len - 1;
    let mut text = DoubleText::new(if number.negative { b"-" } else { b"" });
    if number.exponent >= 0 && scientific < len + 7 {
        text.push(digits);
        text.push_zeros(number.exponent.unsigned_abs() as usize);
    } else if number.exponent < 0 && (number.exponent > -7 || scientific.abs() < 4) {
        let fraction = number.exponent.unsigned_abs() as usize;
        match number.len.checked_sub(fraction) {
            None | Some(0) => {
                text.push(b"0.");
                text.push_zeros(fraction - number.len);
                text.push(digits);
            }
            Some(whole) => {
                text.push(&digits[..whole]);
                text.push(b".");
                text.push(&digits[whole..]);
            }
        }
    } else {
        text.push(&digits[..1]);
        if number.len > 1 {
            text.push(b".");
            text.push(&digits[1..]);
        }
        text.push(if scientific < 0 { b"e-" } else { b"e+" });
        let exponent = scientific.unsigned_abs();
        text.push(itoa::Buffer::new().format(exponent).as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_read_as_in_redis_7_2() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-3.5, "-3.5"),
            (0.1, "0.1"),
            (0.001, "0.001"),
            (1e-4, "0.0001"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (0.001_234_567_891, "0.001234567891"),
            (0.000_012_345_678, "1.2345678e-5"),
            (1.234_567_8e-10, "1.2345678e-10"),
            (100_000.5, "100000.5"),
            (12_345_678.9, "12345678.9"),
            (2.345_678_901_234_567, "2.345678901234567"),
            // Seven digits behind the point are plain only below 10^4.
            (1_690_000_000.123_456, "1690000000.123456"),
            (1_690_000_000.123_456_7, "1.6900000001234567e+9"),
            (1_234.123_456_789, "1234.123456789"),
            (12_345.123_456_7, "1.23451234567e+4"),
            (1e15, "1000000000000000"),
            (1e17, "100000000000000000"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (4_611_686_018_427_388_928.0, "4611686018427389000"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (-1e21, "-1e+21"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1.25e100, "1.25e+100"),
            (1.5e-300, "1.5e-300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(&*format_double(value), text);
        }
    }

    proptest! {
        #[test]
        fn doubles_read_back_as_they_were(bits: u64, decimals in -1e9..1e9_f64, scale in 0..9) {
            let rounded = (decimals * 10_f64.powi(scale)).round() / 10_f64.powi(scale);
            for value in [f64::from_bits(bits), decimals, rounded, bits as f64] {
                let back: f64 = format_double(value).parse().expect("a number");
                prop_assert!(back.to_bits() == value.to_bits() || value.is_nan());
            }
        }
    }
}
