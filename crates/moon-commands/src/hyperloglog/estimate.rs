//! From an element to a register, and from the registers to an estimate.
//!
//! The estimate follows Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog
//! sketches" (arXiv:1702.01284), as Redis does from version 4 on.

use super::sketch::REGISTERS;

/// Bits of a hash that say which register; the others say the rank.
const REGISTER_BITS: u32 = REGISTERS.trailing_zeros();
const RANK_BITS: u32 = 64 - REGISTER_BITS;

/// The register of an element, and its rank there: how far from the right the lowest bit stands
/// that is set in the rest of its hash, from 1 to 51.
pub(super) fn place_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur_hash_64a(element, 0xadc8_3b19);
    let register = hash as usize & (REGISTERS - 1);
    let rest = hash >> REGISTER_BITS | 1 << RANK_BITS;
    (register, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash2 for 64 bits, variant A, of Austin Appleby.
fn murmur_hash_64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mixed = |word: u64| {
        let word = word.wrapping_mul(M);
        (word ^ word >> 47).wrapping_mul(M)
    };
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ mixed(u64::from_le_bytes(*word))).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// How many registers have which value.
pub(super) struct Histogram([usize; 64]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; 64])
    }
}

impl Histogram {
    /// Counts `len` registers of a value below 64.
    pub(super) fn add(&mut self, value: u8, len: usize) {
        self.0[usize::from(value & 63)] += len;
    }

    /// The estimated number of distinct elements.
    pub(super) fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2), the bias of infinitely many registers.
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let registers = REGISTERS as f64;
        let highest = RANK_BITS as usize + 1;
        let mut z = registers * tau((registers - self.0[highest] as f64) / registers);
        for count in self.0[1..highest].iter().rev() {
            z = (z + *count as f64) * 0.5;
        }
        z += registers * sigma(self.0[0] as f64 / registers);
        (ALPHA * registers * registers / z).round() as u64
    }
}

/// The part of the registers that were never raised.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// The part of the registers that are as high as they can be.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_lie_within_four_standard_errors() {
        let mut registers = vec![0; REGISTERS];
        let mut next = 1;
        for count in 1..=200_000_u64 {
            let (register, rank) = place_of(count.to_string().as_bytes());
            registers[register] = rank.max(registers[register]);
            if count == next {
                next = next * 3 / 2 + 1;
                let mut histogram = Histogram::default();
                registers.iter().for_each(|value| histogram.add(*value, 1));
                let error = histogram.estimate().abs_diff(count) as f64 / count as f64;
                assert!(error < 4.0 * 0.0081, "{count}: {error}");
            }
        }
    }

    /// Values that no elements lead to, but a string can have.
    #[test]
    fn every_histogram_has_an_estimate() {
        for value in 0..64 {
            let mut histogram = Histogram::default();
            histogram.add(value, REGISTERS);
            histogram.estimate();
        }
        Histogram::default().estimate();
    }
}
