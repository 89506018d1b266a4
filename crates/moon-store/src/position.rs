//! The order of keys in a table.
//!
//! A key's *position* is a monotone function of its hash, so the order by position is the hash
//! order. The function is an approximation of `log2(1 + hash)`, both scaled to 0..1, which makes
//! keys twice as dense at one end as at the other. Equal parts of the position space then hold
//! between n and 2n keys, all sizes being equally frequent on a logarithmic scale, so segments
//! split one after the other while the table grows, not all at once, and the memory per key is
//! about the same at every size of the table.

/// Bits of the hash that choose the linear piece.
const PIECE_BITS: u32 = 4;
const REST_BITS: u32 = 64 - PIECE_BITS;
const REST: u64 = (1 << REST_BITS) - 1;

/// `log2(1 + i / 16)` in units of 2^-64.
const STARTS: [u64; 1 << PIECE_BITS] = [
    0,
    0x1663_f6fa_c913_1600,
    0x2b80_3473_f7ad_1000,
    0x3f78_2d72_04d0_1400,
    0x5269_e12f_346e_2c00,
    0x646e_ea24_7c5c_2400,
    0x759d_4f80_cba8_3c00,
    0x8608_2806_b1d5_3000,
    0x95c0_1a39_fbd6_8800,
    0xa4d3_c25e_68dc_5800,
    0xb350_0472_3c46_6000,
    0xc140_4ead_f383_9800,
    0xceae_cfea_8085_9800,
    0xdba4_a47a_a996_d000,
    0xe829_fb69_3044_b000,
    0xf446_359b_1353_9800,
];

const WIDTHS: [u64; 1 << PIECE_BITS] = {
    let mut widths = [0; 1 << PIECE_BITS];
    let mut i = 0;
    while i < STARTS.len() {
        // The last piece ends at 2^64, which wraps to 0.
        let end = if i + 1 < STARTS.len() {
            STARTS[i + 1]
        } else {
            0
        };
        widths[i] = end.wrapping_sub(STARTS[i]);
        i += 1;
    }
    widths
};

/// The position of a hash. Monotone; different hashes may share a position.
#[inline]
pub(crate) fn position(hash: u64) -> u64 {
    let piece = (hash >> REST_BITS) as usize;
    let rest = u128::from(hash & REST) * u128::from(WIDTHS[piece]);
    STARTS[piece] + (rest >> REST_BITS) as u64
}

/// The part of all keys that lies below a position, from 0 to 1.
pub(crate) fn share_below(position: u64) -> f64 {
    (position as f64 / 2f64.powi(64)).exp2() - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_monotone_and_covers_the_space() {
        assert_eq!(position(0), 0);
        assert!(position(u64::MAX) > u64::MAX - 4);
        let mut last = 0;
        for i in 0..=0xffff_u64 {
            for hash in [i << 48, (i << 48) | 0xffff_ffff_ffff] {
                assert!(position(hash) >= last, "{hash:x}");
                last = position(hash);
                let share = hash as f64 / 2f64.powi(64);
                assert!((share_below(last) - share).abs() < 0.001, "{hash:x}");
            }
        }
    }
}
