//! The dense encoding: 16384 registers of six bits, the lowest bits of the first byte first.

use super::sketch::REGISTERS;

const BITS: usize = 6;
const MASK: u16 = (1 << BITS) - 1;

/// Bytes of all registers.
pub(super) const LEN: usize = REGISTERS * BITS / 8;

/// The two bytes that a register lies in, of which the last one may be missing, and its lowest bit.
fn window(registers: &[u8], at: usize) -> (u16, usize) {
    let first = at * BITS / 8;
    let second = registers.get(first + 1).copied().unwrap_or(0);
    (
        u16::from_le_bytes([registers[first], second]),
        at * BITS % 8,
    )
}

/// The register at an index.
pub(super) fn get(registers: &[u8], at: usize) -> u8 {
    let (window, shift) = window(registers, at);
    (window >> shift & MASK) as u8
}

/// Sets the register at an index.
pub(super) fn set(registers: &mut [u8], at: usize, value: u8) {
    let (window, shift) = window(registers, at);
    let [first, second] = (window & !(MASK << shift) | u16::from(value) << shift).to_le_bytes();
    registers[at * BITS / 8] = first;
    if let Some(byte) = registers.get_mut(at * BITS / 8 + 1) {
        *byte = second;
    }
}

/// Shows every register with its index.
pub(super) fn each(registers: &[u8], mut show: impl FnMut(usize, u8)) {
    // Four registers fill three bytes.
    let (groups, _) = registers.as_chunks::<3>();
    for (nth, group) in groups.iter().enumerate() {
        let bits = u32::from_le_bytes([group[0], group[1], group[2], 0]);
        for within in 0..4 {
            let value = bits >> (within * BITS) & u32::from(MASK);
            show(nth * 4 + within, value as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn registers_hold_what_was_set(
            sets in proptest::collection::vec((0..REGISTERS, 0..64_u8), 0..200),
        ) {
            let mut registers = vec![0; LEN];
            let mut model = vec![0; REGISTERS];
            for (at, value) in sets.into_iter().chain([(0, 63), (REGISTERS - 1, 62)]) {
                set(&mut registers, at, value);
                model[at] = value;
            }
            let mut shown = vec![0; REGISTERS];
            each(&registers, |at, value| shown[at] = value);
            prop_assert!(shown == model);
            prop_assert!((0..REGISTERS).all(|at| get(&registers, at) == model[at]));
        }
    }
}
