//! Ways to break borrowing on purpose, to see that the isolation checker finds them.
//!
//! Compiled only with the cargo feature `break-borrow-order`, never in a release, and in force only
//! when `MOON_BREAK_BORROW_ORDER` names one.

use std::sync::LazyLock;
use std::time::Duration;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// A transaction gives the data back after each of its commands: others see it half done.
    Split,
    /// The requests of one borrow do not enter all mailboxes as one step: two borrows that meet in
    /// different orders wait for each other.
    Unordered,
    /// The data goes home before what was executed has its LSN: the log has another order than the
    /// memory, which a crash shows.
    EarlyReturn,
}

static BREACH: LazyLock<Option<Breach>> =
    LazyLock::new(
        || match std::env::var("MOON_BREAK_BORROW_ORDER").as_deref() {
            Ok("split") => Some(Breach::Split),
            Ok("unordered") => Some(Breach::Unordered),
            Ok("early-return") => Some(Breach::EarlyReturn),
            _ => None,
        },
    );

/// Whether `breach` is in force.
#[must_use]
pub fn is(breach: Breach) -> bool {
    *BREACH == Some(breach)
}

/// Leaves time, up to a millisecond, for others to come in between.
pub(crate) fn dawdle() {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let spread = u64::from(now.subsec_nanos()) % 1000;
    std::thread::sleep(Duration::from_micros(spread));
}
