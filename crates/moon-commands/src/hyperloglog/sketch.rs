//! The string of a HyperLogLog.
//!
//! ```text
//! "HYLL"  encoding  0 0 0  count, 8 bytes, little-endian  registers
//! ```
//!
//! The encoding is 0 for [`dense`], 1 for [`sparse`]. The count is the last estimate; its highest
//! bit says that registers have changed since.

use super::estimate::Histogram;
use super::{dense, sparse};

/// Bytes in front of the registers.
pub(super) const HEADER_LEN: usize = 16;
/// How many registers there are.
pub(super) const REGISTERS: usize = 1 << 14;

const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const COUNT_AT: usize = 8;
const DENSE_LEN: usize = HEADER_LEN + dense::LEN;

/// The registers do not add up: the string was written by something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupted;

/// How the registers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Each in six bits.
    Dense,
    /// Runs of equal ones.
    Sparse,
}

/// The encoding of a string; `None` if it is no HyperLogLog. A dense one has its full length.
pub(super) fn encoding(bytes: &[u8]) -> Option<Encoding> {
    if bytes.len() < HEADER_LEN || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes[ENCODING_AT] {
        0 if bytes.len() == DENSE_LEN => Some(Encoding::Dense),
        1 => Some(Encoding::Sparse),
        _ => None,
    }
}

/// One to which nothing was added.
pub(super) fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = 1;
    sparse::push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// The count in the header, if it is that of the registers.
pub(super) fn count_kept(bytes: &[u8]) -> Option<u64> {
    let count = bytes.get(COUNT_AT..HEADER_LEN)?.try_into().ok()?;
    let count = u64::from_le_bytes(count);
    (count >> 63 == 0).then_some(count)
}

/// A register has changed.
pub(super) fn invalidate_count(bytes: &mut [u8]) {
    bytes[HEADER_LEN - 1] |= 0x80;
}

/// How many registers have which value.
pub(super) fn histogram(bytes: &[u8], encoding: Encoding) -> Result<Histogram, Corrupted> {
    let mut histogram = Histogram::default();
    let registers = &bytes[HEADER_LEN..];
    match encoding {
        Encoding::Dense => dense::each(registers, |_, value| histogram.add(value, 1)),
        Encoding::Sparse => {
            for run in sparse::runs(registers) {
                histogram.add(run.value, run.len);
            }
            // A sum of lengths that is right by chance counts as right, as in Redis.
            if sparse::runs(registers).map(|run| run.len).sum::<usize>() != REGISTERS {
                return Err(Corrupted);
            }
        }
    }
    Ok(histogram)
}

/// Registers of value 0, one in each byte.
pub(super) fn no_registers() -> Vec<u8> {
    vec![0; REGISTERS]
}

/// Raises each of `highest` to the register of this string, if that is higher.
pub(super) fn merge_into(
    highest: &mut [u8],
    bytes: &[u8],
    encoding: Encoding,
) -> Result<(), Corrupted> {
    let registers = &bytes[HEADER_LEN..];
    match encoding {
        Encoding::Dense => dense::each(registers, |at, value| {
            highest[at] = highest[at].max(value);
        }),
        Encoding::Sparse => {
            let mut at = 0;
            for run in sparse::runs(registers) {
                let covered = highest.get_mut(at..at + run.len).ok_or(Corrupted)?;
                for register in covered {
                    *register = (*register).max(run.value);
                }
                at += run.len;
            }
            if at != REGISTERS {
                return Err(Corrupted);
            }
        }
    }
    Ok(())
}

/// Changes the encoding to dense, if it is sparse.
pub(super) fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    if bytes[ENCODING_AT] == 0 {
        return Ok(());
    }
    let mut changed = vec![0; DENSE_LEN];
    changed[..HEADER_LEN].copy_from_slice(&bytes[..HEADER_LEN]);
    changed[ENCODING_AT] = 0;
    let mut at = 0;
    for run in sparse::runs(&bytes[HEADER_LEN..]) {
        if at + run.len > REGISTERS {
            return Err(Corrupted);
        }
        if run.value > 0 {
            for register in at..at + run.len {
                dense::set(&mut changed[HEADER_LEN..], register, run.value);
            }
        }
        at += run.len;
    }
    if at != REGISTERS {
        return Err(Corrupted);
    }
    *bytes = changed;
    Ok(())
}

/// Raises a register to `rank`, if it is lower; whether it was. A sparse string that would become
/// longer than `len_max`, or cannot hold the rank, becomes dense.
///
/// After an error the string must not be kept.
pub(super) fn raise(
    bytes: &mut Vec<u8>,
    register: usize,
    rank: u8,
    len_max: usize,
) -> Result<bool, Corrupted> {
    if bytes[ENCODING_AT] != 0 {
        match sparse::raise(bytes, HEADER_LEN, register, rank, len_max)? {
            sparse::Raised::Yes => return Ok(true),
            sparse::Raised::No => return Ok(false),
            sparse::Raised::NoRoom => make_dense(bytes)?,
        }
    }
    let registers = &mut bytes[HEADER_LEN..];
    let raises = dense::get(registers, register) < rank;
    if raises {
        dense::set(registers, register, rank);
    }
    Ok(raises)
}
