//! Which bucket a position belongs to: spiral hashing.
//!
//! `n` buckets have the *numbers* from `n` to `2n - 1`. The next one to be split is `n`, into `2n`
//! and `2n + 1`, after which the numbers go from `n + 1` to `2n + 1`: growing means that the lowest
//! number is taken away and two are added at the upper end.
//!
//! ```text
//! n = 3:   3 |    4    |   5   |          bucket 3 is the widest
//! n = 4:   6 | 7 |  4  |   5   |          6 and 7 are its halves, now 4 is the widest
//! n = 5:   6 | 7 | 8|9 |   5   |
//! ```
//!
//! A position, as a fraction from 0 to 1, becomes a number by a curve close to `2^position`: that
//! times the power of two that leads into the range. The curve makes the width of a bucket the
//! reciprocal of its number, so the widest is always twice as wide as the narrowest, and those in
//! between are spread alike at every size. (With a straight line instead, this would be linear
//! hashing, where at times all buckets have the same width.)

/// Bits of a position.
pub(super) const POSITION_BITS: u32 = 48;

/// One more than the highest position.
pub(super) const POSITION_END: u64 = 1 << POSITION_BITS;

/// The curve is `1 + p - BEND * (p - p²)` for a position `p` as a fraction. This is within half a
/// percent of `2^p` everywhere, but any value leaves positions in order.
const BEND: u64 = POSITION_END / 1000 * 343;

/// The curve at a position, from 1 to 2, times [`POSITION_END`]. Never falls.
#[inline]
fn curve(position: u64) -> u64 {
    let slope = POSITION_END - BEND + product(position, BEND);
    POSITION_END + product(position, slope)
}

/// Product of two fractions.
#[inline]
fn product(a: u64, b: u64) -> u64 {
    let product = (u128::from(a) * u128::from(b)) >> POSITION_BITS;
    u64::try_from(product).expect("both are at most POSITION_END")
}

/// The number of the bucket of a position, where there are so many `buckets`; at least one.
#[inline]
pub(super) fn number(position: u64, buckets: usize) -> usize {
    let level = buckets.ilog2();
    let curve = curve(position);
    let number = (curve >> (POSITION_BITS - level)) as usize;
    if number >= buckets {
        number
    } else {
        (curve >> (POSITION_BITS - level - 1)) as usize
    }
}

/// The end of the positions of a bucket: the first one behind them.
pub(super) fn end_of(number: usize) -> u64 {
    let end = (number as u64 + 1) << (POSITION_BITS - number.ilog2());
    let (mut low, mut high) = (0, POSITION_END);
    while low < high {
        let middle = low.midpoint(high);
        if curve(middle) < end {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Where a bucket is in the array. The lower half of one that is split stays, and the upper half
/// comes last.
#[inline]
pub(super) fn place(number: usize) -> usize {
    (number >> number.trailing_zeros()) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some thousand positions in order, with the first and the last.
    fn positions() -> impl Iterator<Item = u64> {
        (0..=4096).map(|part| (part * (POSITION_END / 4096)).min(POSITION_END - 1))
    }

    #[test]
    fn numbers_rise_with_the_position_and_fill_the_array() {
        for buckets in (1..200).chain([1023, 1024, 1025]) {
            let mut before = 0;
            let mut seen = vec![false; buckets];
            for position in positions() {
                let number = number(position, buckets);
                assert!(
                    (buckets..2 * buckets).contains(&number),
                    "{number} of {buckets}"
                );
                // In order: by the fraction that is left of the power of two.
                let fraction = (number as u64) << (POSITION_BITS - number.ilog2());
                assert!(before <= fraction, "{position} of {buckets}");
                before = fraction;
                seen[place(number)] = true;
            }
            assert!(seen.into_iter().all(|seen| seen), "{buckets}");
        }
    }

    #[test]
    fn growing_moves_the_upper_half_of_one_bucket_to_the_end() {
        for buckets in 1..200 {
            for position in positions() {
                let (old, new) = (number(position, buckets), number(position, buckets + 1));
                if old == buckets {
                    assert_eq!(new / 2, old);
                    assert_eq!(place(new), if new % 2 == 0 { place(old) } else { buckets });
                } else {
                    assert_eq!(new, old);
                }
            }
        }
    }

    #[test]
    fn a_bucket_ends_where_the_next_one_begins() {
        for buckets in (1..200).chain([1 << 20, (1 << 20) + 77_777]) {
            let (mut at, mut walked) = (0, 0);
            while at < POSITION_END && walked < 500 {
                let here = number(at, buckets);
                let end = end_of(here);
                assert_eq!(number(end - 1, buckets), here);
                assert!(end == POSITION_END || number(end, buckets) != here);
                (at, walked) = (end, walked + 1);
            }
            assert!(at == POSITION_END && walked == buckets || walked == 500);
        }
    }

    #[test]
    fn the_widest_bucket_is_twice_as_wide_as_the_narrowest_at_every_size() {
        for buckets in 8..300 {
            let mut widths = Vec::new();
            let mut at = 0;
            while at < POSITION_END {
                let end = end_of(number(at, buckets));
                widths.push((end - at) as f64 * buckets as f64 / POSITION_END as f64);
                at = end;
            }
            let of = |choose: fn(f64, f64) -> f64| widths.iter().copied().reduce(choose);
            let (least, most) = (of(f64::min), of(f64::max));
            assert!(least > Some(0.66), "{least:?} of {buckets}");
            assert!(most < Some(1.56), "{most:?} of {buckets}");
        }
    }
}
