//! Bits of a slice of bytes. Offsets count from the highest bit of the first byte; bits behind the
//! end are 0. The long ways go word by word.

use std::ops::Range;

/// The bit at an offset.
#[must_use]
pub fn get(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at / 8)
        .is_some_and(|byte| byte << (at % 8) & 0x80 != 0)
}

/// How many bits are set.
#[must_use]
pub fn count(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words = words
        .iter()
        .map(|word| u64::from_le_bytes(*word).count_ones());
    let in_rest = rest.iter().map(|byte| byte.count_ones());
    in_words.chain(in_rest).map(u64::from).sum()
}

/// How many bits are set in a part; it lies within the slice.
#[must_use]
pub fn count_in(bytes: &[u8], part: Range<usize>) -> u64 {
    if part.is_empty() {
        return 0;
    }
    // All bytes that the part touches, less what lies in the first and the last one outside of it.
    let touched = &bytes[part.start / 8..part.end.div_ceil(8)];
    let (Some(first), Some(last)) = (touched.first(), touched.last()) else {
        return 0;
    };
    let before = first & !(0xFF >> (part.start % 8));
    let behind = match part.end % 8 {
        0 => 0,
        used => last & (0xFF >> used),
    };
    count(touched) - u64::from(before.count_ones() + behind.count_ones())
}

/// The first bit in a part that is set, or clear, as `wanted` says; the part lies within the slice.
#[must_use]
pub fn find(bytes: &[u8], wanted: bool, part: Range<usize>) -> Option<usize> {
    if part.is_empty() {
        return None;
    }
    // What is looked for is a one from here on.
    let flip: u8 = if wanted { 0 } else { 0xFF };
    let first = part.start / 8;
    let head = (bytes[first] ^ flip) & (0xFF >> (part.start % 8));
    let found = if head != 0 {
        first * 8 + head.leading_zeros() as usize
    } else {
        let rest = &bytes[first + 1..part.end.div_ceil(8)];
        (first + 1) * 8 + first_one(rest, flip)?
    };
    (found < part.end).then_some(found)
}

/// The first bit that is set after flipping the bits of every byte that `flip` has set.
fn first_one(bytes: &[u8], flip: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let flip_word = u64::from_ne_bytes([flip; 8]);
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_be_bytes(*word) ^ flip_word;
        if word != 0 {
            return Some(nth * 64 + word.leading_zeros() as usize);
        }
    }
    let nth = rest.iter().position(|byte| byte ^ flip != 0)?;
    let at = words.len() * 64 + nth * 8;
    Some(at + (rest[nth] ^ flip).leading_zeros() as usize)
}

/// Bytes that a field can touch.
const FIELD_BYTES: usize = 9;

/// The bytes around a field in one number, and how far the field's last bit is from its lowest.
fn around(bytes: &[u8], at: usize, width: usize) -> (u128, usize) {
    let first = at / 8;
    let mut window = 0;
    for nth in first..first + FIELD_BYTES {
        window = window << 8 | u128::from(bytes.get(nth).copied().unwrap_or(0));
    }
    (window, FIELD_BYTES * 8 - at % 8 - width)
}

/// The lowest `width` bits.
fn mask(width: usize) -> u64 {
    u64::MAX >> (64 - width)
}

/// The `width` bits from an offset on as a number; 1 to 64.
#[must_use]
pub fn read_field(bytes: &[u8], at: usize, width: usize) -> u64 {
    let (window, shift) = around(bytes, at, width);
    (window >> shift) as u64 & mask(width)
}

/// Writes the lowest `width` bits of a number from an offset on; 1 to 64. What would lie behind the
/// end is dropped.
pub fn write_field(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    let (window, shift) = around(bytes, at, width);
    let others = window & !(u128::from(mask(width)) << shift);
    let window = others | u128::from(value & mask(width)) << shift;
    let written = window.to_be_bytes();
    let written = &written[written.len() - FIELD_BYTES..];
    for (nth, byte) in (at / 8..).zip(written) {
        if let Some(to) = bytes.get_mut(nth) {
            *to = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0), Just(0xFF), any::<u8>()];
        prop_oneof![
            proptest::collection::vec(byte, 1..40),
            (0..2_u8, 1..40_usize).prop_map(|(bit, len)| vec![bit * 0xFF; len]),
        ]
    }

    /// The bits one by one, the slow and obvious way.
    fn model(bytes: &[u8]) -> Vec<bool> {
        let bits = |byte: &u8| {
            (0..8)
                .map(|at| byte & (1 << (7 - at)) != 0)
                .collect::<Vec<_>>()
        };
        bytes.iter().flat_map(bits).collect()
    }

    proptest! {
        #[test]
        fn bits_are_counted_and_found_as_one_by_one(bytes in bytes(), a in 0..320_usize, b in 0..320_usize) {
            let model = model(&bytes);
            let part = a.min(b).min(model.len())..a.max(b).min(model.len());
            let ones = |bits: &[bool]| bits.iter().filter(|bit| **bit).count() as u64;
            prop_assert_eq!(count(&bytes), ones(&model));
            prop_assert_eq!(count_in(&bytes, part.clone()), ones(&model[part.clone()]));
            prop_assert_eq!(get(&bytes, a), model.get(a).copied().unwrap_or(false));
            for wanted in [false, true] {
                let expected = model[part.clone()].iter().position(|bit| *bit == wanted);
                let expected = expected.map(|at| at + part.start);
                prop_assert_eq!(find(&bytes, wanted, part.clone()), expected);
            }
        }

        #[test]
        fn fields_hold_what_was_written_and_leave_the_rest(
            mut bytes in bytes(), at in 0..300_usize, width in 1..65_usize, value: u64,
        ) {
            let mut model = model(&bytes);
            let read = |model: &[bool]| (at..at + width).fold(0_u64, |value, at| {
                value << 1 | u64::from(model.get(at).copied().unwrap_or(false))
            });
            prop_assert_eq!(read_field(&bytes, at, width), read(&model));
            write_field(&mut bytes, at, width, value);
            for nth in 0..width {
                if let Some(bit) = model.get_mut(at + nth) {
                    *bit = value >> (width - 1 - nth) & 1 == 1;
                }
            }
            prop_assert_eq!(self::model(&bytes), model);
        }
    }
}
