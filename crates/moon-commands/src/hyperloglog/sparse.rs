//! The sparse encoding: runs of registers with the same value, in order.
//!
//! | bytes | run |
//! |---|---|
//! | `00llllll` | `l` + 1 registers of value 0 |
//! | `01llllll llllllll` | `l` + 1 registers of value 0, high byte first |
//! | `1vvvvvll` | `l` + 1 registers of value `v` + 1 |
//!
//! Which of the several ways to write the same registers a string has depends on its history. The
//! steps of [`raise`] are those of Redis, so that the same history makes the same bytes.

use super::sketch::{Corrupted, REGISTERS};

/// Longest run of zeros in one byte.
const ZEROS_SHORT_MAX: usize = 64;
/// Longest run of another value.
const VALUE_RUN_MAX: usize = 4;
/// Highest value of a run.
const VALUE_MAX: u8 = 32;
/// So many runs are looked at for neighbours of the same value after a change.
const MERGE_RUNS_MAX: usize = 5;

/// Registers with the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) value: u8,
    pub(super) len: usize,
    /// Bytes that it takes.
    size: usize,
}

/// The run that begins with the first of these bytes. One that is cut off has
/// more registers than there are.
fn first_run(bytes: &[u8]) -> Option<Run> {
    let byte = *bytes.first()?;
    let (value, len, size) = if byte & 0x80 != 0 {
        ((byte >> 2 & 0x1F) + 1, usize::from(byte & 3) + 1, 1)
    } else if byte & 0x40 == 0 {
        (0, usize::from(byte) + 1, 1)
    } else if let Some(low) = bytes.get(1) {
        let coded = usize::from(byte & 0x3F) << 8 | usize::from(*low);
        (0, coded + 1, 2)
    } else {
        (0, REGISTERS + 1, 1)
    };
    Some(Run { value, len, size })
}

/// The runs in these bytes.
pub(super) fn runs(mut bytes: &[u8]) -> impl Iterator<Item = Run> {
    std::iter::from_fn(move || {
        let run = first_run(bytes)?;
        bytes = &bytes[run.size..];
        Some(run)
    })
}

/// Appends a run of zeros, of 1 to 16384 registers.
pub(super) fn push_zeros(out: &mut Vec<u8>, len: usize) {
    let coded = len - 1;
    if len > ZEROS_SHORT_MAX {
        out.push(0x40 | (coded >> 8) as u8);
    }
    out.push(coded as u8);
}

/// The byte of a run of a value from 1 to 32, of 1 to 4 registers.
fn value_run(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

/// What became of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raised {
    /// It was lower.
    Yes,
    /// It was as high already.
    No,
    /// This encoding cannot hold it; nothing was changed.
    NoRoom,
}

/// Raises a register. The runs begin at `start` of `bytes`, which may become `len_max` long.
pub(super) fn raise(
    bytes: &mut Vec<u8>,
    start: usize,
    register: usize,
    rank: u8,
    len_max: usize,
) -> Result<Raised, Corrupted> {
    if rank > VALUE_MAX {
        return Ok(Raised::NoRoom);
    }
    // The run that covers the register, its first register, and where the one before it begins.
    let (mut at, mut first, mut merge_from) = (start, 0, start);
    let run = loop {
        let run = first_run(&bytes[at..]).ok_or(Corrupted)?;
        if run.len > REGISTERS {
            return Err(Corrupted);
        }
        if register < first + run.len {
            break run;
        }
        merge_from = at;
        at += run.size;
        first += run.len;
    };
    if run.value >= rank {
        return Ok(Raised::No);
    }
    let (before, behind) = (register - first, first + run.len - 1 - register);
    let mut replacement = Vec::with_capacity(5);
    let push_rest = |out: &mut Vec<u8>, len: usize| match (run.value, len) {
        (_, 0) => {}
        (0, len) => push_zeros(out, len),
        (value, len) => out.push(value_run(value, len)),
    };
    push_rest(&mut replacement, before);
    replacement.push(value_run(rank, 1));
    push_rest(&mut replacement, behind);
    if replacement.len() > run.size && bytes.len() + replacement.len() - run.size > len_max {
        return Ok(Raised::NoRoom);
    }
    bytes.splice(at..at + run.size, replacement);
    merge_neighbours(bytes, merge_from);
    Ok(Raised::Yes)
}

/// Joins runs of the same value from a place on, as far as Redis looks.
fn merge_neighbours(bytes: &mut Vec<u8>, from: usize) {
    let mut at = from;
    for _ in 0..MERGE_RUNS_MAX {
        let Some(run) = bytes.get(at..).and_then(first_run) else {
            return;
        };
        if run.value > 0
            && let Some(next) = first_run(&bytes[at + 1..])
            && next.value == run.value
            && run.len + next.len <= VALUE_RUN_MAX
        {
            bytes[at] = value_run(run.value, run.len + next.len);
            bytes.remove(at + 1);
            continue;
        }
        at += run.size;
    }
}

const _: () = assert!(
    REGISTERS <= 1 << 14,
    "two bytes hold the longest run of zeros"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registers(bytes: &[u8]) -> Vec<u8> {
        runs(bytes)
            .flat_map(|run| std::iter::repeat_n(run.value, run.len))
            .collect()
    }

    proptest! {
        #[test]
        fn registers_hold_the_highest_rank(
            raises in proptest::collection::vec(
                (prop_oneof![0..40_usize, 0..REGISTERS], 1..8_u8), 0..300),
        ) {
            let mut bytes = Vec::new();
            push_zeros(&mut bytes, REGISTERS);
            let mut model = vec![0; REGISTERS];
            for (register, rank) in raises {
                let expected = if model[register] < rank { Raised::Yes } else { Raised::No };
                prop_assert_eq!(raise(&mut bytes, 0, register, rank, 10_000), Ok(expected));
                model[register] = model[register].max(rank);
            }
            prop_assert!(registers(&bytes) == model);
        }

        /// What anyone may have SET.
        #[test]
        fn any_bytes_are_read_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
            register in 0..REGISTERS,
            rank in 1..64_u8,
        ) {
            let before = runs(&bytes).map(|run| run.len).sum::<usize>();
            if let Ok(Raised::Yes) = raise(&mut bytes, 0, register, rank, 50) {
                prop_assert_eq!(runs(&bytes).map(|run| run.len).sum::<usize>(), before);
            }
        }
    }
}
