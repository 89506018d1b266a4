//! Numbers with one writer and any number of readers: [`Counter`] and [`Histogram`].
//!
//! With one writer an increment is a relaxed load and a relaxed store, never a locked
//! instruction; a reader sees a value that was true a moment ago.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the one writer may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Subtracts `n`. Only the one writer may call it.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Replaces the value. Only the one writer may call it.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Number of buckets of a [`Histogram`].
pub const BUCKETS: usize = 32;

/// Counts of values by power of two, with their sum. One writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Histogram {
    /// Counts `times` values whose mean is `value`.
    #[inline]
    pub fn record(&self, value: u64, times: u64) {
        self.buckets[bucket_of(value)].add(times);
        self.sum.add(value.saturating_mul(times));
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> HistogramValue {
        HistogramValue {
            buckets: std::array::from_fn(|i| self.buckets[i].get()),
            sum: self.sum.get(),
        }
    }
}

/// The counts of a [`Histogram`] at one time, or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramValue {
    /// Values per bucket; [`bucket_end`] tells where each ends.
    pub buckets: [u64; BUCKETS],
    /// Sum of all values.
    pub sum: u64,
}

impl HistogramValue {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &HistogramValue) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.wrapping_add(theirs);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &HistogramValue) -> HistogramValue {
        HistogramValue {
            buckets: std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i])),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The value below which `percent` of all values lie, read from the buckets: at most twice
    /// the true one. 0 without values.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among counts, where a rounding error does not matter"
    )]
    pub fn percentile(&self, percent: f64) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        let rank = ((count as f64 * percent / 100.0).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (i, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return bucket_end(i).unwrap_or(self.sum);
            }
        }
        self.sum
    }
}

/// The first bucket holds values below this power of two.
const FIRST_BUCKET_BITS: u32 = 7;

/// The bucket that counts `value`.
#[inline]
fn bucket_of(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    (bits.saturating_sub(FIRST_BUCKET_BITS) as usize).min(BUCKETS - 1)
}

/// The end of bucket `index`, not included; `None` for the last one, which has no end.
#[must_use]
pub fn bucket_end(index: usize) -> Option<u64> {
    (index + 1 < BUCKETS).then(|| 1 << (FIRST_BUCKET_BITS as usize + index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_value_and_end_where_they_say() {
        for value in [0, 1, 127, 128, 255, 256, 1 << 20, u64::MAX] {
            let i = bucket_of(value);
            assert!(bucket_end(i).is_none_or(|end| value < end), "{value}");
            if i > 0 {
                assert!(bucket_end(i - 1).unwrap() <= value, "{value}");
            }
        }
        assert_eq!(bucket_end(BUCKETS - 1), None);
    }

    #[test]
    fn percentiles_are_at_most_twice_the_truth() {
        let h = Histogram::default();
        for us in 1..=1000u64 {
            h.record(us * 1000, 1);
        }
        let value = h.read();
        assert_eq!(value.count(), 1000);
        for (percent, truth) in [(50.0, 500_000), (99.0, 990_000), (99.9, 999_000)] {
            let got = value.percentile(percent);
            assert!((truth..=2 * truth).contains(&got), "{percent}: {got}");
        }
        assert_eq!(HistogramValue::default().percentile(50.0), 0);
    }
}
