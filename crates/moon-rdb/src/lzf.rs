//! LZF, which Redis uses for longer strings.
//!
//! A control byte below 32 leads that many literal bytes plus one. Any other holds a length in
//! its top three bits (seven: one more length byte follows) and, with the next byte, a distance
//! back into the output.

/// A reference of three bytes gives at most this many; nothing in the format expands more.
const EXPANSION_MAX: u64 = 264;

/// Whether `compressed_len` bytes can expand to `expanded_len`. Asked before any is allocated.
pub(crate) fn can_expand(compressed_len: u64, expanded_len: u64) -> bool {
    expanded_len <= compressed_len.saturating_mul(EXPANSION_MAX)
}

/// Appends the expanded bytes; `None` unless they are exactly `expanded_len`. What was appended
/// is not to be used then.
pub fn decompress(mut input: &[u8], expanded_len: usize, output: &mut Vec<u8>) -> Option<()> {
    let start = output.len();
    output.reserve(expanded_len);
    while let Some(control) = take_byte(&mut input) {
        if control < 32 {
            let literal = input.get(..usize::from(control) + 1)?;
            input = &input[literal.len()..];
            output.extend_from_slice(literal);
        } else {
            let mut len = usize::from(control >> 5);
            if len == 7 {
                len += usize::from(take_byte(&mut input)?);
            }
            let near = usize::from(take_byte(&mut input)?);
            let distance = (usize::from(control & 0x1f) << 8) + near + 1;
            copy_back(output, start, distance, len + 2)?;
        }
        if output.len() - start > expanded_len {
            return None;
        }
    }
    (output.len() - start == expanded_len).then_some(())
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

/// Repeats `len` bytes from `distance` before the end, but none from before `start`. They may
/// overlap what is being written, so a short pattern repeats itself.
fn copy_back(output: &mut Vec<u8>, start: usize, distance: usize, len: usize) -> Option<()> {
    let from = output.len().checked_sub(distance)?;
    if from < start {
        return None;
    }
    if distance >= len {
        output.extend_from_within(from..from + len);
        return Some(());
    }
    for at in from..from + len {
        output.push(output[at]);
    }
    Some(())
}

/// Longest run of literal bytes behind one control byte.
const LITERALS_MAX: usize = 32;

/// Longest match: what a reference can say.
const MATCH_MAX: usize = 264;

/// Shortest match worth a reference.
const MATCH_MIN: usize = 3;

/// Farthest that a reference reaches back.
const DISTANCE_MAX: usize = 1 << 13;

const TABLE_BITS: u32 = 16;

/// Compresses one string after another.
///
/// Which of several valid forms comes out is that of the LZF in Redis, which finds the same matches:
/// a string dumped here and one dumped there are the same bytes.
///
/// It remembers where each group of three bytes was seen last. Positions count on from string to
/// string, so what earlier ones left in the table lies before the present one's start and is
/// never taken for a match: nothing is cleared in between.
#[derive(Debug)]
pub struct Compressor {
    /// Position behind the last place of each hash.
    seen: Box<[u32]>,
    /// Position of the next string's first byte.
    base: u32,
}

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor {
            seen: vec![0; 1 << TABLE_BITS].into_boxed_slice(),
            base: 0,
        }
    }
}

impl Compressor {
    /// Appends `input` in compressed form, if that is at most `len_max` bytes; else `false`, and
    /// `out` is as it was.
    pub fn compress(&mut self, input: &[u8], len_max: usize, out: &mut Vec<u8>) -> bool {
        let Some(base) = self.enter(input.len()) else {
            return false;
        };
        let start = out.len();
        let done = self.matches(input, base, start.saturating_add(len_max), out);
        if done.is_none() {
            out.truncate(start);
        }
        done.is_some()
    }

    /// Positions for a string of `len` bytes; `None` if there are not as many.
    fn enter(&mut self, len: usize) -> Option<u32> {
        let len = u32::try_from(len).ok()?;
        if self.base.checked_add(len).is_none() {
            self.seen.fill(0);
            self.base = 0;
        }
        let base = self.base;
        self.base = base.checked_add(len)?;
        Some(base)
    }

    /// `None` as soon as `out` might become longer than `end_max`. How early that is seen is part
    /// of what makes the bytes those of Redis.
    fn matches(
        &mut self,
        input: &[u8],
        base: u32,
        end_max: usize,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let (mut at, mut literals_from) = (0, 0);
        while at + MATCH_MIN <= input.len() {
            let pending = at - literals_from;
            let earlier = self.exchange(input, base, at);
            let Some((distance, len)) = earlier.and_then(|at_0| reference(input, at_0, at)) else {
                if end_with(out, pending) >= end_max {
                    return None;
                }
                at += 1;
                continue;
            };
            let open_run = usize::from(pending.is_multiple_of(LITERALS_MAX));
            if end_with(out, pending) - open_run + REFERENCE_ROOM >= end_max {
                return None;
            }
            put_literals(&input[literals_from..at], out);
            put_reference(distance, len, out);
            // The last places of what was matched, for matches that go on from there.
            for inside in (at + len - 2)..(at + len) {
                if inside + MATCH_MIN <= input.len() {
                    self.exchange(input, base, inside);
                }
            }
            at += len;
            literals_from = at;
        }
        if end_with(out, at - literals_from) + LAST_LITERALS_ROOM > end_max {
            return None;
        }
        put_literals(&input[literals_from..], out);
        Some(())
    }

    /// Notes that the three bytes at `at` are there, and returns where the same three, or others
    /// with their hash, were seen before in this string.
    #[inline]
    fn exchange(&mut self, input: &[u8], base: u32, at: usize) -> Option<usize> {
        let [a, b, c] = [input[at], input[at + 1], input[at + 2]].map(u32::from);
        let three = a << 16 | b << 8 | c;
        let hash = (three >> 8).wrapping_sub(three.wrapping_mul(5)) & ((1 << TABLE_BITS) - 1);
        // `enter` made sure that all positions of the string fit.
        let position = base + u32::try_from(at).ok()?;
        let before = std::mem::replace(&mut self.seen[hash as usize], position + 1);
        // Before this string, or never.
        let earlier = before.checked_sub(base + 1)?;
        usize::try_from(earlier).ok()
    }
}

/// Bytes that a reference must leave free behind it.
const REFERENCE_ROOM: usize = 4;

/// Bytes that must be free before the literals that no group of three begins with.
const LAST_LITERALS_ROOM: usize = 3;

/// Where `out` would end with `pending` literals: a control byte leads each run of them, and the
/// run that comes next has its control byte already.
fn end_with(out: &[u8], pending: usize) -> usize {
    out.len() + pending + pending / LITERALS_MAX + 1
}

/// Distance and length of the match at `at` with what begins at `earlier`, if it is one. The very
/// first byte of a string is never referred to.
fn reference(input: &[u8], earlier: usize, at: usize) -> Option<(usize, usize)> {
    let distance = at - earlier;
    if earlier == 0 || distance > DISTANCE_MAX {
        return None;
    }
    let rest = &input[at..];
    let len_max = (rest.len() - 2).min(MATCH_MAX);
    let common = input[earlier..].iter().zip(rest);
    let common = common.take(MATCH_MAX).take_while(|(a, b)| a == b).count();
    if common < MATCH_MIN {
        return None;
    }
    // A match ends two bytes before the string does, except that its first bytes are compared
    // without looking for the end.
    let compared_at_once = if len_max > 16 { 19 } else { MATCH_MIN };
    Some((distance, common.min(len_max.max(compared_at_once))))
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        // At most 31.
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

/// `distance` and `len` are within their bounds.
fn put_reference(distance: usize, len: usize, out: &mut Vec<u8>) {
    let [high, low] = ((distance - 1) as u16).to_be_bytes();
    match len - 2 {
        short @ 1..7 => out.push((short as u8) << 5 | high),
        long => out.extend_from_slice(&[7 << 5 | high, (long - 7) as u8]),
    }
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decompress(input: &[u8], expanded_len: usize) -> Option<Vec<u8>> {
        // What stands in the buffer already is out of reach for references.
        let mut out = b"before".to_vec();
        super::decompress(input, expanded_len, &mut out)?;
        Some(out.split_off(6))
    }

    /// Strings with repetition: a few words, drawn again and again, with noise between them.
    fn compressible() -> impl Strategy<Value = Vec<u8>> {
        let word = prop::collection::vec(any::<u8>(), 1..40);
        (
            prop::collection::vec(word, 1..6),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..400),
        )
            .prop_map(|(words, picks)| {
                let mut text = Vec::new();
                for (pick, noise) in picks {
                    text.extend_from_slice(pick.get::<Vec<u8>>(&words));
                    text.extend(std::iter::repeat_n(noise, usize::from(noise % 3)));
                }
                text
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_compressed_expands_to_what_it_was(
            texts in prop::collection::vec(compressible(), 1..4),
            base in prop_oneof![Just(0), (u32::MAX - 20_000)..=u32::MAX],
        ) {
            let mut compressor = Compressor { base, ..Compressor::default() };
            for text in texts {
                let mut out = b"x".to_vec();
                if compressor.compress(&text, usize::MAX, &mut out) {
                    prop_assert_eq!(decompress(&out[1..], text.len()), Some(text));
                } else {
                    prop_assert!(false, "any length is allowed");
                }
            }
        }

        #[test]
        fn no_bytes_expand_to_more_than_asked_for(input: Vec<u8>, len in 0..2000_usize) {
            if let Some(out) = decompress(&input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }

    #[test]
    fn repetition_is_found_at_every_distance_and_length() {
        for (unit, count) in [(1, 10_000), (3, 4000), (255, 40), (8192, 2), (8193, 2)] {
            let unit: Vec<u8> = (0..unit).map(|i: u32| (i * i / 7) as u8).collect();
            let text = unit.repeat(count);
            let mut out = Vec::new();
            assert!(Compressor::default().compress(&text, usize::MAX, &mut out));
            assert_eq!(decompress(&out, text.len()), Some(text));
        }
        let mut out = Vec::new();
        assert!(Compressor::default().compress(&[b'z'; 100_000], 1200, &mut out));
    }

    #[test]
    fn what_does_not_become_short_enough_is_left_alone() {
        let text: Vec<u8> = (0..=255).collect();
        let mut out = b"kept".to_vec();
        assert!(!Compressor::default().compress(&text, 252, &mut out));
        assert_eq!(out, b"kept");
    }

    #[test]
    fn literals_and_overlapping_references_expand() {
        // "ab", then 2 + 2 bytes from distance 2, then 7 + 3 + 2 bytes from distance 1.
        let input = [1, b'a', b'b', 0x40, 1, 0xe0, 3, 0];
        let expected = b"ababab".iter().chain([b'b'; 12].iter()).copied();
        let expected: Vec<u8> = expected.collect();
        assert_eq!(decompress(&input, expected.len()), Some(expected));
    }

    #[test]
    fn damaged_input_is_refused() {
        assert_eq!(decompress(&[1, b'a'], 2), None, "literal cut off");
        assert_eq!(decompress(&[0, b'a', 0x20], 4), None, "reference cut off");
        assert_eq!(decompress(&[0, b'a', 0xe0], 4), None, "length cut off");
        assert_eq!(
            decompress(&[0, b'a', 0x20, 1], 4),
            None,
            "before the output"
        );
        assert_eq!(decompress(&[1, b'a', b'b'], 1), None, "longer than it says");
        assert_eq!(
            decompress(&[1, b'a', b'b'], 3),
            None,
            "shorter than it says"
        );
        assert!(!can_expand(3, 1000));
    }
}
