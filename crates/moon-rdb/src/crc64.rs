//! CRC-64 with the Jones polynomial, as Redis puts it at the end of a file: reflected, starting
//! from 0, without a final inversion.
//!
//! Eight tables let eight bytes be taken at once; bases are large, and a byte-wise loop would
//! cost as much as everything else in writing them.

/// The polynomial with its bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// `TABLES[k][b]` is what byte `b` contributes once `k` further bytes have followed it.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The checksum of what `crc` covers, followed by `bytes`. Start with 0.
#[must_use]
pub fn update(mut crc: u64, bytes: &[u8]) -> u64 {
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let word = (crc ^ u64::from_le_bytes(*eight)).to_le_bytes();
        crc = 0;
        for (table, byte) in TABLES.iter().rev().zip(word) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        let [low, ..] = crc.to_le_bytes();
        crc = TABLES[0][usize::from(low ^ byte)] ^ (crc >> 8);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_jones_polynomial_comes_out() {
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn any_split_gives_the_same_checksum() {
        let bytes: Vec<u8> = (0..100u8).map(|byte| byte.wrapping_mul(37)).collect();
        let bytewise = bytes
            .iter()
            .fold(0, |crc, byte| update(crc, std::slice::from_ref(byte)));
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(update(update(0, head), tail), bytewise);
        }
    }
}
