//! The 80-bit floating point numbers in which INCRBYFLOAT and HINCRBYFLOAT count.
//!
//! Redis adds in the x87 `long double` and prints with 17 decimals, so `0.1 + 0.2` is `0.3`; in
//! 64 bits it is not. The few operations needed (read, add, print) are done here in integers, with
//! the rounding of the hardware: to nearest, ties to even. Unlike the hardware's, a number too
//! small for a normal exponent keeps its full precision; that shows only below 10^-4900, which
//! prints as 0.

/// A finite or infinite number: `mantissa * 2^exponent`.
///
/// # Invariants
/// The mantissa of a finite number is 0 or has its top bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    /// Ignored when infinite.
    mantissa: u64,
    exponent: i32,
    infinite: bool,
}

/// Numbers of `2^EXPONENT_END` and above are infinite.
const EXPONENT_END: i32 = 16_384;
/// The exponent of the smallest number above zero.
const EXPONENT_MIN: i32 = -16_445;
/// Redis reads no longer texts.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
/// Decimal places that are printed.
const DECIMALS: usize = 17;

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble = LongDouble {
        negative: false,
        mantissa: 0,
        exponent: 0,
        infinite: false,
    };

    /// Whether it is one of the two infinities.
    #[must_use]
    pub fn is_infinite(self) -> bool {
        self.infinite
    }

    /// Reads what `strtold` reads: decimal and hexadecimal numbers, `inf` and `infinity`. `None`
    /// for anything else, NaN, and numbers too large or too small to be told from infinity or 0.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::infinity(negative));
        }
        match digits {
            [b'0', b'x' | b'X', hex @ ..] => parse_hexadecimal(negative, hex),
            _ => parse_decimal(negative, digits),
        }
    }

    /// The sum, rounded; `None` when it is infinite or no number.
    #[must_use]
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        if self.infinite || other.infinite {
            return None;
        }
        if self.mantissa == 0 {
            return Some(other);
        }
        if other.mantissa == 0 {
            return Some(self);
        }
        let (large, small) = if (self.exponent, self.mantissa) >= (other.exponent, other.mantissa) {
            (self, other)
        } else {
            (other, self)
        };
        // 60 bits below the mantissa of the larger one; what the smaller one has below them only
        // matters as "something", which its last bit keeps.
        const BELOW: u32 = 60;
        let wide = u128::from(large.mantissa) << BELOW;
        let narrow = u128::from(small.mantissa) << BELOW;
        let distance = large.exponent.abs_diff(small.exponent);
        let narrow = shift_right_sticky(narrow, distance);
        let sum = if large.negative == small.negative {
            wide + narrow
        } else {
            wide - narrow
        };
        let sum = Self::rounded(large.negative && sum != 0, sum, large.exponent - 60);
        (!sum.infinite).then_some(sum)
    }

    /// As `%.17Lf` prints it, without trailing zeros and without the sign of zero.
    #[must_use]
    pub fn to_text(self) -> Vec<u8> {
        if self.infinite {
            return if self.negative {
                b"-inf"
            } else {
                b"inf".as_slice()
            }
            .to_vec();
        }
        let mut digits = if self.exponent >= 0 {
            let mut integer = Natural::from(u128::from(self.mantissa));
            integer.shift_left(self.exponent.unsigned_abs());
            let mut digits = integer.decimal();
            digits.resize(digits.len() + DECIMALS, b'0');
            digits
        } else {
            // Below 2^64 * 10^17 < 2^121.
            let scaled = u128::from(self.mantissa) * 10u128.pow(17);
            let rounded = shift_right_rounding(scaled, self.exponent.unsigned_abs());
            format!("{rounded:018}").into_bytes()
        };
        let point = digits.len() - DECIMALS;
        let significant = digits[point..]
            .iter()
            .rposition(|&d| d != b'0')
            .map_or(0, |last| last + 1);
        digits.truncate(point + significant);
        if significant > 0 {
            digits.insert(point, b'.');
        }
        if self.negative && digits != b"0" {
            digits.insert(0, b'-');
        }
        digits
    }

    fn zero(negative: bool) -> LongDouble {
        LongDouble {
            negative,
            ..Self::ZERO
        }
    }

    fn infinity(negative: bool) -> LongDouble {
        LongDouble {
            infinite: true,
            ..Self::zero(negative)
        }
    }

    /// `value * 2^exponent`, rounded to 64 bits. The last bit of `value` may be sticky.
    fn rounded(negative: bool, value: u128, exponent: i32) -> LongDouble {
        if value == 0 {
            return Self::zero(negative);
        }
        let bits = 128 - value.leading_zeros();
        let (mantissa, exponent) = if bits <= 64 {
            let up = 64 - bits;
            (value << up, exponent - up.cast_signed())
        } else {
            let down = bits - 64;
            let mantissa = shift_right_rounding(value, down);
            let exponent = exponent + down.cast_signed();
            if mantissa >> 64 == 0 {
                (mantissa, exponent)
            } else {
                (mantissa >> 1, exponent + 1)
            }
        };
        if exponent + 64 > EXPONENT_END {
            return Self::infinity(negative);
        }
        LongDouble {
            negative,
            mantissa: u64::try_from(mantissa).expect("the mantissa was brought to 64 bits"),
            exponent,
            infinite: false,
        }
    }

    /// As `strtold` reports overflow and underflow.
    fn in_range(self) -> Option<LongDouble> {
        let vanishes = self.mantissa != 0 && self.exponent + 63 < EXPONENT_MIN;
        (!self.infinite && !vanishes).then_some(self)
    }
}

/// `value >> by`; the last bit of the result is set if any bit was lost.
fn shift_right_sticky(value: u128, by: u32) -> u128 {
    if by >= 128 {
        return u128::from(value != 0);
    }
    let shifted = value >> by;
    shifted | u128::from(shifted << by != value)
}

/// `value >> by`, to nearest, ties to even.
fn shift_right_rounding(value: u128, by: u32) -> u128 {
    if by == 0 {
        return value;
    }
    if by > 128 {
        return 0;
    }
    let floor = if by == 128 { 0 } else { value >> by };
    let rest = if by == 128 {
        value
    } else {
        value - (floor << by)
    };
    let half = 1u128 << (by - 1);
    let up = rest > half || (rest == half && floor & 1 == 1);
    floor + u128::from(up)
}

/// The digits of `<digits>[.<digits>]` without leading zeros, how many stand behind the point,
/// and what follows them. `None` without a digit.
fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64, &[u8])> {
    let end_of = |from: &[u8]| from.iter().take_while(|b| is_digit(b)).count();
    let (integer, rest) = text.split_at(end_of(text));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(end_of(rest)),
        _ => (&[][..], rest),
    };
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = integer.iter().chain(fraction).copied();
    let digits = digits.skip_while(|&d| d == b'0').collect();
    Some((digits, i64::try_from(fraction.len()).ok()?, rest))
}

/// The exponent behind `marker`, 0 if there is none; far beyond all limits it is only a bound.
fn split_exponent(text: &[u8], marker: u8) -> Option<i64> {
    const FAR: i64 = 1_000_000_000;
    let [first, rest @ ..] = text else {
        return Some(0);
    };
    if first.to_ascii_lowercase() != marker {
        return None;
    }
    let (negative, digits) = match rest {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value: i64, d| {
        (value * 10 + i64::from(d - b'0')).min(FAR)
    });
    Some(if negative { -value } else { value })
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, places, rest) = split_digits(text, u8::is_ascii_digit)?;
    let exponent = split_exponent(rest, b'e')? - places;
    if digits.is_empty() {
        return Some(LongDouble::zero(negative));
    }
    // The position of the first digit decides what is hopeless, before any long arithmetic.
    let magnitude = exponent + i64::try_from(digits.len()).ok()?;
    if !(-5_000..=5_000).contains(&magnitude) {
        return None;
    }
    let mut value = Natural::from_decimal(&digits);
    if exponent >= 0 {
        value.multiply_by_power_of_ten(exponent.unsigned_abs());
        let (top, dropped) = value.top_bits();
        return LongDouble::rounded(negative, top, dropped).in_range();
    }
    // Enough bits that at least 66 remain above the point after the division: 10^n < 2^(4 n).
    let power = exponent.unsigned_abs();
    let up = u32::try_from(power * 4 + 66).ok()?;
    value.shift_left(up);
    let inexact = value.divide_by_power_of_ten(power);
    let (top, dropped) = value.top_bits();
    let exponent = dropped - up.cast_signed();
    LongDouble::rounded(negative, top | u128::from(inexact), exponent).in_range()
}

fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, places, rest) = split_digits(text, u8::is_ascii_hexdigit)?;
    let mut exponent = split_exponent(rest, b'p')? - places * 4;
    let mut value = 0u128;
    for digit in digits {
        let digit = char::from(digit).to_digit(16)?;
        if value >> 120 == 0 {
            value = value << 4 | u128::from(digit);
        } else {
            value |= u128::from(digit != 0);
            exponent += 4;
        }
    }
    if value == 0 {
        return Some(LongDouble::zero(negative));
    }
    if !(-20_000..=20_000).contains(&exponent) {
        return None;
    }
    LongDouble::rounded(negative, value, i32::try_from(exponent).ok()?).in_range()
}

/// A natural number of any size: 32-bit limbs, least significant first, no leading zero limb.
struct Natural(Vec<u32>);

impl From<u128> for Natural {
    fn from(mut value: u128) -> Self {
        let mut limbs = Vec::new();
        while value != 0 {
            limbs.push(low_limb(value));
            value >>= 32;
        }
        Natural(limbs)
    }
}

/// The low 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only the low bits are wanted"
)]
fn low_limb(value: u128) -> u32 {
    value as u32
}

impl Natural {
    fn from_decimal(digits: &[u8]) -> Natural {
        let mut value = Natural(Vec::with_capacity(digits.len() / 9 + 1));
        for chunk in digits.chunks(9) {
            let (mut scale, mut part) = (1u32, 0u32);
            for digit in chunk {
                scale *= 10;
                part = part * 10 + u32::from(digit - b'0');
            }
            value.multiply_add(scale, part);
        }
        value
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u128::from(addend);
        for limb in &mut self.0 {
            carry += u128::from(*limb) * u128::from(factor);
            *limb = low_limb(carry);
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(low_limb(carry));
        }
    }

    fn multiply_by_power_of_ten(&mut self, mut power: u64) {
        while power > 0 {
            let step = power.min(9);
            self.multiply_add(10u32.pow(u32::try_from(step).unwrap_or(9)), 0);
            power -= step;
        }
    }

    /// Divides, rounding down; returns the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u128;
        for limb in self.0.iter_mut().rev() {
            rest = rest << 32 | u128::from(*limb);
            *limb = low_limb(rest / u128::from(divisor));
            rest %= u128::from(divisor);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        low_limb(rest)
    }

    /// Divides, rounding down; whether there was a remainder.
    fn divide_by_power_of_ten(&mut self, mut power: u64) -> bool {
        let mut inexact = false;
        while power > 0 {
            let step = power.min(9);
            inexact |= self.divide(10u32.pow(u32::try_from(step).unwrap_or(9))) != 0;
            power -= step;
        }
        inexact
    }

    fn shift_left(&mut self, by: u32) {
        self.multiply_add(1 << (by % 32), 0);
        let limbs = usize::try_from(by / 32).unwrap_or(usize::MAX);
        self.0.splice(0..0, std::iter::repeat_n(0, limbs));
    }

    /// The top 96 to 128 bits, the last one sticky, and how many bits lie below them.
    fn top_bits(&self) -> (u128, i32) {
        let below = self.0.len().saturating_sub(4);
        let top = self.0[below..]
            .iter()
            .rev()
            .fold(0u128, |top, limb| top << 32 | u128::from(*limb));
        let sticky = self.0[..below].iter().any(|limb| *limb != 0);
        let bits_below = i32::try_from(below * 32).unwrap_or(i32::MAX);
        (top | u128::from(sticky), bits_below)
    }

    fn decimal(mut self) -> Vec<u8> {
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            chunks.push(self.divide(1_000_000_000));
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:09}"));
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(text: &str) -> Option<String> {
        let number = LongDouble::parse(text.as_bytes())?;
        Some(String::from_utf8(number.to_text()).expect("digits are text"))
    }

    fn sum(a: &str, b: &str) -> String {
        let a = LongDouble::parse(a.as_bytes()).expect("a number");
        let b = LongDouble::parse(b.as_bytes()).expect("a number");
        let sum = a.checked_add(b).expect("a finite sum");
        String::from_utf8(sum.to_text()).expect("digits are text")
    }

    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-1.5", "1.25", "-0.25"),
            ("1", "1e-20", "1"),
            ("1e20", "1", "100000000000000000000"),
            ("1e19", "1", "10000000000000000001"),
            ("3.0e3", "1.1", "3001.10000000000000009"),
            ("17179869184", "1.5", "17179869185.5"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn reading_takes_what_strtold_takes() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("+1", "1"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e2", "100"),
            ("1E-2", "0.01"),
            ("0x10", "16"),
            ("0x1.8p1", "3"),
            ("inf", "inf"),
            ("-Infinity", "-inf"),
            ("1e-4940", "0"),
            (
                "123456789012345678901234567890",
                "123456789012345678899921813504",
            ),
        ] {
            assert_eq!(text_of(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "1 ",
            " 1",
            "abc",
            "nan",
            "1e5000",
            "1e-5000",
            "0x",
            "1_0",
            "--1",
            "1e99999999999999999999",
        ] {
            assert_eq!(text_of(text), None, "{text:?}");
        }
    }

    #[test]
    fn infinity_has_no_sum() {
        let inf = LongDouble::parse(b"inf").expect("infinity is read");
        assert_eq!(inf.checked_add(inf), None);
        let large = LongDouble::parse(b"1.1e4932").expect("finite");
        assert_eq!(large.checked_add(large), None);
    }
}
