//! Decompression of LZF, which Redis uses for longer strings.
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

/// The expanded bytes; `None` unless they are exactly `expanded_len`.
pub(crate) fn decompress(mut input: &[u8], expanded_len: usize) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(expanded_len);
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
            copy_back(&mut output, distance, len + 2)?;
        }
        if output.len() > expanded_len {
            return None;
        }
    }
    (output.len() == expanded_len).then_some(output)
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

/// Repeats `len` bytes from `distance` before the end. They may overlap what is being written,
/// so a short pattern repeats itself.
fn copy_back(output: &mut Vec<u8>, distance: usize, len: usize) -> Option<()> {
    let start = output.len().checked_sub(distance)?;
    for at in start..start + len {
        output.push(output[at]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
