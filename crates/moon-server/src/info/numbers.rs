//! Numbers as INFO prints them.

use std::time::Duration;

/// `a - b`, which may be negative.
pub(super) fn difference(a: u64, b: u64) -> i64 {
    a.cast_signed().saturating_sub(b.cast_signed())
}

/// Whole seconds, or -1 for none, as Redis prints them.
pub(super) fn seconds_or_none(taken: Option<Duration>) -> i64 {
    taken.map_or(-1, |taken| {
        i64::try_from(taken.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Milliseconds as seconds.
pub(super) fn thousandths(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

pub(super) fn status(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

pub(super) fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// `a / b` with two digits; 0.00 if `b` is 0.
#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
pub(super) fn ratio(a: u64, b: u64) -> String {
    let value = if b == 0 { 0.0 } else { a as f64 / b as f64 };
    format!("{value:.2}")
}

#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
pub(super) fn percent(a: u64, b: u64) -> String {
    let value = if b == 0 {
        0.0
    } else {
        a as f64 * 100.0 / b as f64
    };
    format!("{value:.2}%")
}

/// A size as Redis prints it for people: `1.00K`, `23.54G`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}
