//! The expiry cycle: finding keys past their deadline without looking at the others.

use super::Db;
use crate::table::Keyed;
use moon_core::UnixMs;

/// Empty stretches of the table that one call passes over besides its budget.
const EMPTY_SEGMENTS_MAX: usize = 16;

/// Deadlines looked at for an average.
const TTL_SAMPLE_LEN: usize = 64;

/// What one call of [`Db::pop_expired`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireScan {
    /// Keys with a deadline that were looked at.
    pub examined: usize,
    /// How many of them were past it.
    pub expired: usize,
}

impl Db {
    /// Finds keys that are gone at `now` and adds them to `expired`, at most `budget` of them.
    /// The caller removes them and logs that. Looks at `budget` keys with a deadline or somewhat
    /// more (up to about a thousand) and goes on from there next time; worth repeating at once
    /// while more than a tenth of the examined were expired.
    ///
    /// What was found and is not removed is found again.
    pub fn pop_expired(
        &mut self,
        now: UnixMs,
        budget: usize,
        expired: &mut Vec<Box<[u8]>>,
    ) -> ExpireScan {
        let mut scan = ExpireScan::default();
        if self.expires.is_empty() {
            return scan;
        }
        for _ in 0..budget / 16 + EMPTY_SEGMENTS_MAX {
            let (_, entries, next) = self.expires.segment_from(self.expire_position);
            for expire in entries {
                if scan.expired == budget {
                    // The position stays: the rest of the segment was not looked at.
                    return scan;
                }
                scan.examined += 1;
                if expire.at <= now {
                    scan.expired += 1;
                    expired.push(expire.key().into());
                }
            }
            self.expire_position = next.unwrap_or(0);
            if next.is_none() || scan.examined >= budget {
                break;
            }
        }
        scan
    }

    /// Mean time to live of a sample of the keys with a deadline, in milliseconds; those past it
    /// count as 0. 0 if there are none.
    #[must_use]
    pub fn average_ttl(&self, now: UnixMs) -> u64 {
        let (mut sum, mut len) = (0u128, 0u128);
        // From the scan's position on, so that repeated calls see different keys.
        let mut at = self.expire_position;
        for _ in 0..EMPTY_SEGMENTS_MAX {
            let (_, entries, next) = self.expires.segment_from(at);
            for expire in entries.take(TTL_SAMPLE_LEN - len as usize) {
                sum += u128::try_from(i128::from(expire.at.0) - i128::from(now.0)).unwrap_or(0);
                len += 1;
            }
            at = next.unwrap_or(0);
            if len as usize == TTL_SAMPLE_LEN || at == self.expire_position {
                break;
            }
        }
        u64::try_from(sum.checked_div(len).unwrap_or(0)).unwrap_or(u64::MAX)
    }
}
