//! PFSELFTEST: the registers hold what is written to them, and the estimates are as good as promised.
//!
//! What is checked is the code that the other commands run, on strings of its own; no key is looked
//! at. As all commands do, it holds up its shard while it runs.

use super::dense;
use super::estimate::place_of;
use super::sketch::{self, Encoding, HEADER_LEN, REGISTERS};
use crate::context::{CommandResult, Cx};
use crate::parse::detailed;
use moon_resp::Args;

/// Rounds of writing every register.
const ROUNDS: u64 = 50;
/// Elements that are added; their number is estimated at each power of ten on the way.
const ELEMENTS: u64 = 1_000_000;
/// Bytes that the sparse string may grow to.
const SPARSE_LEN_MAX: usize = 3000;
/// Up to this many elements a sparse string must still be sparse.
const SPARSE_ELEMENTS: u64 = SPARSE_LEN_MAX as u64 / 4;
/// How wrong an estimate may be: this many standard errors.
const ERRORS_MAX: f64 = 6.0;
const STANDARD_ERROR: f64 = 0.0081;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("register {register} should be {expected} but is {found}")]
    Register {
        register: usize,
        expected: u8,
        found: u8,
    },
    #[error("the sparse string of {added} elements is dense, or cannot be read")]
    NotSparse { added: u64 },
    #[error("dense and sparse strings of {added} elements are estimated to {dense} and {sparse}")]
    Disagree { added: u64, dense: u64, sparse: u64 },
    #[error("the number of {added} elements is estimated to {estimated}")]
    Estimate { added: u64, estimated: u64 },
}

pub(super) fn pfselftest(cx: &mut Cx<'_>, _: Args<'_>) -> CommandResult {
    check_registers(dense::set)
        .and_then(|()| check_estimates(place_of))
        .map_err(|failure| detailed(format!("TESTFAILED {failure}")))?;
    cx.reply.ok();
    Ok(())
}

/// Numbers without a pattern, the same in every run.
fn scrambled(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// Every value in every register, and none of them in its neighbours.
fn check_registers(set: impl Fn(&mut [u8], usize, u8)) -> Result<(), Failure> {
    let mut registers = vec![0; dense::LEN];
    let mut expected = vec![0; REGISTERS];
    for round in 0..ROUNDS {
        for (at, value) in (0..).zip(&mut expected) {
            *value = (scrambled(round * REGISTERS as u64 + at as u64) >> 58) as u8;
            set(&mut registers, at, *value);
        }
        for (register, expected) in (0..).zip(expected.iter().copied()) {
            let found = dense::get(&registers, register);
            if found != expected {
                return Err(Failure::Register {
                    register,
                    expected,
                    found,
                });
            }
        }
    }
    Ok(())
}

/// Elements are added to a dense string and to one that begins sparse. Both must say the same, and
/// it must be near the truth.
fn check_estimates(place_of: impl Fn(&[u8]) -> (usize, u8)) -> Result<(), Failure> {
    let mut sparse_string = sketch::empty();
    let mut dense_string = sketch::empty();
    let unreadable = |added| Failure::NotSparse { added };
    sketch::make_dense(&mut dense_string).map_err(|_| unreadable(0))?;
    let mut checkpoint = 1;
    for added in 1..=ELEMENTS {
        let (register, rank) = place_of(&scrambled(added).to_le_bytes());
        sketch::raise(&mut sparse_string, register, rank, SPARSE_LEN_MAX)
            .map_err(|_| unreadable(added))?;
        let registers = &mut dense_string[HEADER_LEN..];
        if dense::get(registers, register) < rank {
            dense::set(registers, register, rank);
        }
        if added == checkpoint {
            checkpoint *= 10;
            check_estimate(added, &dense_string, &sparse_string)?;
        }
    }
    Ok(())
}

fn check_estimate(added: u64, dense_string: &[u8], sparse_string: &[u8]) -> Result<(), Failure> {
    let encoding = sketch::encoding(sparse_string).ok_or(Failure::NotSparse { added })?;
    if added <= SPARSE_ELEMENTS && encoding != Encoding::Sparse {
        return Err(Failure::NotSparse { added });
    }
    let estimate = |string: &[u8], encoding| {
        let histogram = sketch::histogram(string, encoding);
        histogram.map(|histogram| histogram.estimate())
    };
    let unreadable = |_| Failure::NotSparse { added };
    let dense = estimate(dense_string, Encoding::Dense).map_err(unreadable)?;
    let sparse = estimate(sparse_string, encoding).map_err(unreadable)?;
    if dense != sparse {
        return Err(Failure::Disagree {
            added,
            dense,
            sparse,
        });
    }
    let error_max = (ERRORS_MAX * STANDARD_ERROR * added as f64).ceil();
    // Two of ten elements may meet in one register.
    let error_max = if added == 10 { 1.0 } else { error_max };
    if dense.abs_diff(added) as f64 > error_max {
        return Err(Failure::Estimate {
            added,
            estimated: dense,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_passes() {
        check_registers(dense::set).expect("registers are right");
        check_estimates(place_of).expect("estimates are right");
    }

    #[test]
    fn a_register_that_loses_a_bit_is_found() {
        let failure = check_registers(|registers, at, value| dense::set(registers, at, value & 31));
        assert!(matches!(failure, Err(Failure::Register { .. })));
    }

    #[test]
    fn a_hash_that_does_not_spread_is_found() {
        let failure = check_estimates(|element| {
            let (register, rank) = place_of(element);
            (register & 0xFFF, rank)
        });
        assert!(matches!(failure, Err(Failure::Estimate { .. })));
        let failure = check_estimates(|element| (place_of(element).0, 1));
        assert!(matches!(failure, Err(Failure::Estimate { .. })));
    }
}
