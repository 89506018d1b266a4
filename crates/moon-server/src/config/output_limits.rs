//! `client-output-buffer-limit`: how much a client may leave unread before it is closed.

use super::value::{Invalid, memory};
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Which limit a client falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputClass {
    /// Clients that ask and are answered.
    Normal,
    /// Replicas.
    Replica,
    /// Clients with subscriptions.
    PubSub,
}

/// Bounds on what waits to be read by one client. 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// From so many bytes on, the client is closed.
    pub hard_bytes: u64,
    /// From so many bytes on, it is closed after [`OutputLimit::soft_seconds`] without a break.
    pub soft_bytes: u64,
    /// See [`OutputLimit::soft_bytes`].
    pub soft_seconds: u64,
}

impl OutputLimit {
    /// Whether it bounds anything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.hard_bytes > 0 || self.soft_bytes > 0
    }
}

/// The limits of all classes, by [`OutputClass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits(pub [OutputLimit; 3]);

/// Printed names of the classes.
const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

impl Default for OutputLimits {
    fn default() -> OutputLimits {
        let limit = |hard_bytes, soft_bytes| OutputLimit {
            hard_bytes,
            soft_bytes,
            soft_seconds: 60,
        };
        OutputLimits([
            OutputLimit::default(),
            limit(256 << 20, 64 << 20),
            limit(32 << 20, 8 << 20),
        ])
    }
}

impl OutputLimits {
    /// Reads groups of class, hard limit, soft limit and seconds; classes that are not named keep
    /// what they have.
    ///
    /// # Errors
    /// The first group that is not understood; nothing has changed.
    pub fn set(&mut self, words: &[&str]) -> Result<(), Invalid> {
        const COUNT: Invalid =
            Invalid::Unsupported("Wrong number of arguments in buffer limit configuration.");
        const CLASS: Invalid =
            Invalid::Unsupported("Invalid client class specified in buffer limit configuration.");
        const NUMBER: Invalid = Invalid::Unsupported(
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        );
        let words: Vec<&str> = words
            .iter()
            .flat_map(|word| word.split_ascii_whitespace())
            .collect();
        let mut next = *self;
        let (groups, rest) = words.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(COUNT);
        }
        for [class, hard, soft, seconds] in groups {
            let class = match class.to_ascii_lowercase().as_str() {
                "normal" => OutputClass::Normal,
                "slave" | "replica" => OutputClass::Replica,
                "pubsub" => OutputClass::PubSub,
                _ => return Err(CLASS),
            };
            let bytes = |word: &str| memory(word, 0, i64::MAX.unsigned_abs()).map_err(|_| NUMBER);
            next.0[class as usize] = OutputLimit {
                hard_bytes: bytes(hard)?,
                soft_bytes: bytes(soft)?,
                soft_seconds: seconds.parse().map_err(|_| NUMBER)?,
            };
        }
        *self = next;
        Ok(())
    }

    /// As CONFIG GET prints them.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = String::new();
        for (class, limit) in CLASSES.iter().zip(self.0) {
            let OutputLimit {
                hard_bytes,
                soft_bytes,
                soft_seconds,
            } = limit;
            // Writing to a String cannot fail.
            let _infallible = write!(text, " {class} {hard_bytes} {soft_bytes} {soft_seconds}");
        }
        text.split_off(1)
    }
}

/// The limits in force, for whoever writes to clients.
#[derive(Debug, Default)]
pub struct OutputLimitsInForce([[AtomicU64; 3]; 3]);

impl OutputLimitsInForce {
    /// Takes over new limits.
    pub fn store(&self, limits: &OutputLimits) {
        for (kept, limit) in self.0.iter().zip(limits.0) {
            let values = [limit.hard_bytes, limit.soft_bytes, limit.soft_seconds];
            for (kept, value) in kept.iter().zip(values) {
                kept.store(value, Relaxed);
            }
        }
    }

    /// The limit of one class.
    #[must_use]
    pub fn of(&self, class: OutputClass) -> OutputLimit {
        let [hard, soft, seconds] = &self.0[class as usize];
        OutputLimit {
            hard_bytes: hard.load(Relaxed),
            soft_bytes: soft.load(Relaxed),
            soft_seconds: seconds.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_are_not_named_keep_their_limits() {
        let mut limits = OutputLimits::default();
        limits
            .set(&["normal 1mb 2mb 60", "PUBSUB", "1", "2", "3"])
            .unwrap();
        assert_eq!(
            limits.show(),
            "normal 1048576 2097152 60 slave 268435456 67108864 60 pubsub 1 2 3"
        );
        limits.set(&[""]).unwrap();
        limits.set(&["replica 0 0 0"]).unwrap();
        assert!(limits.show().contains(" slave 0 0 0 "));
        let in_force = OutputLimitsInForce::default();
        in_force.store(&limits);
        assert_eq!(in_force.of(OutputClass::PubSub), limits.0[2]);
    }

    #[test]
    fn a_bad_group_changes_nothing() {
        for (words, text) in [
            ("normal 1mb 2mb", "Wrong number"),
            ("normal 1 1 1 pubsub", "Wrong number"),
            ("foo 1mb 2mb 3", "Invalid client class"),
            ("master 1 1 1", "Invalid client class"),
            ("normal -1 2mb 3", "Error in hard"),
            ("normal 1 2mb -3", "Error in hard"),
            ("pubsub 0 0 0 normal 1 x 3", "Error in hard"),
        ] {
            let mut limits = OutputLimits::default();
            let error = limits.set(&[words]).unwrap_err().to_string();
            assert!(error.starts_with(text), "{words}: {error}");
            assert_eq!(limits, OutputLimits::default(), "{words}");
        }
    }
}
