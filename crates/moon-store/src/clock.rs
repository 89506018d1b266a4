//! The 24 bits per key that remember its use, for eviction and OBJECT IDLETIME / FREQ.
//!
//! As in Redis they hold either seconds (LRU policies) or minutes and a logarithmic counter
//! (LFU policies); which one is the caller's knowledge, and a change of policy reads the old
//! bits in the new sense until the key is used again.

const BITS: u32 = 24;
const MASK: u32 = (1 << BITS) - 1;

/// When, or how often, a key was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessClock(u32);

impl AccessClock {
    /// The counter of a new key under LFU, so that it is not evicted at once.
    pub const LFU_INITIAL: u8 = 5;

    /// Used at this second of any clock that never goes back; wraps after 194 days.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> AccessClock {
        AccessClock((seconds & u64::from(MASK)) as u32)
    }

    /// Used `counter` times (logarithmically), last counted down at this minute.
    #[must_use]
    pub fn from_frequency(minutes: u64, counter: u8) -> AccessClock {
        AccessClock(((minutes & 0xffff) as u32) << 8 | u32::from(counter))
    }

    /// Seconds from this use to `now`, which is made by [`AccessClock::from_seconds`] too.
    #[must_use]
    pub fn idle_seconds(self, now: AccessClock) -> u32 {
        now.0.wrapping_sub(self.0) & MASK
    }

    /// The counter of uses after it was counted down by one for every `decay_minutes` since;
    /// 0 minutes means never.
    #[must_use]
    pub fn frequency(self, minutes: u64, decay_minutes: u32) -> u8 {
        let counter = (self.0 & 0xff) as u8;
        let elapsed = self.minutes_since(minutes);
        let periods = u32::from(elapsed).checked_div(decay_minutes).unwrap_or(0);
        counter.saturating_sub(periods.min(255) as u8)
    }

    /// The clock after one more use: the counter grows with probability
    /// `1 / ((counter - LFU_INITIAL) * log_factor + 1)`. `random` is uniform over all of u32.
    #[must_use]
    pub fn used(self, minutes: u64, decay_minutes: u32, log_factor: u32, random: u32) -> Self {
        let counter = self.frequency(minutes, decay_minutes);
        let base = u64::from(counter.saturating_sub(Self::LFU_INITIAL));
        let grows = u64::from(random) * (base * u64::from(log_factor) + 1) <= u64::from(u32::MAX);
        Self::from_frequency(minutes, counter.saturating_add(u8::from(grows)))
    }

    /// Minutes, modulo 2^16, since the counter was last counted down.
    fn minutes_since(self, minutes: u64) -> u16 {
        (minutes as u16).wrapping_sub((self.0 >> 8) as u16)
    }

    pub(crate) fn to_bytes(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }

    pub(crate) fn from_bytes([a, b, c]: [u8; 3]) -> AccessClock {
        AccessClock(u32::from_le_bytes([a, b, c, 0]))
    }
}

/// How uses of keys are remembered now: the policy's sense of the clock, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRule {
    /// The last use counts (LRU).
    Recency {
        /// Made by [`AccessClock::from_seconds`].
        now: AccessClock,
    },
    /// The number of uses counts (LFU).
    Frequency {
        /// Minutes of any clock.
        minutes: u64,
        /// `lfu-decay-time`.
        decay_minutes: u32,
        /// `lfu-log-factor`.
        log_factor: u32,
    },
}

impl Default for AccessRule {
    fn default() -> AccessRule {
        AccessRule::Recency {
            now: AccessClock::default(),
        }
    }
}

impl AccessRule {
    /// The clock of a key that is stored now.
    #[inline]
    #[must_use]
    pub fn created(self) -> AccessClock {
        match self {
            AccessRule::Recency { now } => now,
            AccessRule::Frequency { minutes, .. } => {
                AccessClock::from_frequency(minutes, AccessClock::LFU_INITIAL)
            }
        }
    }

    /// How much a key with this clock is out of use; the higher, the more.
    #[must_use]
    pub(crate) fn unused(self, clock: AccessClock) -> u64 {
        match self {
            AccessRule::Recency { now } => u64::from(clock.idle_seconds(now)),
            AccessRule::Frequency {
                minutes,
                decay_minutes,
                ..
            } => {
                let frequency = clock.frequency(minutes, decay_minutes);
                // Of equally frequent ones the longer unused.
                u64::from(u8::MAX - frequency) << 16 | u64::from(clock.minutes_since(minutes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_survives_the_wrap() {
        let used = AccessClock::from_seconds(u64::from(MASK));
        assert_eq!(used.idle_seconds(AccessClock::from_seconds(1 << 24)), 1);
        assert_eq!(used.idle_seconds(used), 0);
    }

    #[test]
    fn frequency_grows_with_use_and_decays_with_time() {
        let mut clock = AccessClock::from_frequency(100, AccessClock::LFU_INITIAL);
        clock = clock.used(100, 1, 10, u32::MAX);
        assert_eq!(clock.frequency(100, 1), 6, "a new key always grows");
        assert_eq!(clock.used(100, 1, 10, u32::MAX).frequency(100, 1), 6);
        assert_eq!(clock.used(100, 1, 10, 0).frequency(100, 1), 7);
        assert_eq!(clock.frequency(103, 1), 3);
        assert_eq!(clock.frequency(1000, 1), 0);
        assert_eq!(clock.frequency(1000, 0), 6, "no decay");
        assert_eq!(
            AccessClock::from_frequency(0, 255)
                .used(0, 1, 0, 0)
                .frequency(0, 1),
            255
        );
    }
}
