//! Numbers as C prints and converts them.

/// `value` as `printf("%.{precision}g")` prints it.
pub(crate) fn format_general(value: f64, precision: usize) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() {
            "-nan"
        } else {
            "nan"
        }
        .to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("the scientific form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let digits = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let fraction = usize::try_from(digits - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{value:.fraction$}")).to_owned()
}

/// Without the zeros at the end of the fraction.
fn without_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

/// The conversion of C on this kind of machine: towards zero, and the smallest integer for what
/// does not fit.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(crate) fn to_i64(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match value {
        value if (-LIMIT..LIMIT).contains(&value) => value as i64,
        _ => i64::MIN,
    }
}

/// The same for 32 bits, by way of 64 as the compiler does it.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
pub(crate) fn to_i32(value: f64) -> i32 {
    to_i64(value) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_in_c() {
        for (value, precision, text) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 14, "1"),
            (0.1, 14, "0.1"),
            (0.1, 17, "0.10000000000000001"),
            (1e14, 14, "1e+14"),
            (99_999_999_999_999.0, 14, "99999999999999"),
            (123_456_789_012_345.0, 14, "1.2345678901234e+14"),
            (1e-5, 14, "1e-05"),
            (1e-4, 14, "0.0001"),
            (1.5e300, 14, "1.5e+300"),
            (2.5, 1, "2"),
            (f64::INFINITY, 14, "inf"),
            (-f64::NAN, 14, "-nan"),
        ] {
            assert_eq!(format_general(value, precision), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_the_smallest_integer() {
        assert_eq!(to_i64(3.99), 3);
        assert_eq!(to_i64(-3.99), -3);
        assert_eq!(to_i64(1e300), i64::MIN);
        assert_eq!(to_i64(f64::NAN), i64::MIN);
        assert_eq!(to_i32(4_294_967_301.0), 5);
    }
}
