//! Commands on HyperLogLogs: strings from which the number of distinct elements added to them can
//! be estimated, in 12 KiB at most and with a standard error of 0.81 %.
//!
//! The strings are those of Redis byte for byte, so that they can be read, dumped and restored
//! either way.
//!
//! * [`sketch`]: the string: its header and its two encodings, of which [`dense`] and [`sparse`]
//!   know the registers.
//! * [`estimate`]: from an element to a register, from the registers to a number.
//! * [`debug`]: PFDEBUG, which shows the inside.
//! * [`self_test`]: the checks of PFSELFTEST.

mod debug;
mod dense;
mod estimate;
mod self_test;
mod sketch;
mod sparse;

use crate::context::{CommandResult, Cx, Origin};
use crate::error::CommandError;
use crate::notify::Class;
use crate::spec::{ALL_KEYS, FIRST_KEY, Keys, commands};
use estimate::{Histogram, place_of};
use moon_resp::Args;
use moon_store::{Key, Str, Value};
use sketch::{Corrupted, Encoding};

const SECOND_ARGUMENT: Keys = Keys::Range {
    first: 2,
    last: 2,
    step: 1,
};

commands! { "hyperloglog":
    "pfadd" -2 [WRITE DENYOOM FAST] FIRST_KEY, Keys, pfadd,
        "write hyperloglog fast", "2.8.9", "O(1) for each element.",
        "Adds elements to a HyperLogLog, which is created if needed.";
    "pfcount" -2 [READONLY] ALL_KEYS, Keys, pfcount,
        "read hyperloglog slow", "2.8.9", "O(N) for N keys.",
        "Estimates how many distinct elements were added to HyperLogLogs.";
    "pfmerge" -2 [WRITE DENYOOM] ALL_KEYS, Keys, pfmerge,
        "write hyperloglog slow", "2.8.9", "O(N) for N keys.",
        "Merges HyperLogLogs into one.";
    "pfdebug" 3 [WRITE DENYOOM ADMIN] SECOND_ARGUMENT, Keys, debug::pfdebug,
        "write hyperloglog admin dangerous slow", "2.8.9", "O(1)",
        "Shows the inside of a HyperLogLog.";
    "pfselftest" 1 [ADMIN] Keys::None, None, self_test::pfselftest,
        "hyperloglog admin dangerous slow", "2.8.9", "O(1), about a tenth of a second.",
        "Checks the registers of HyperLogLogs and the estimates made from them.";
}

impl From<Corrupted> for CommandError {
    fn from(_: Corrupted) -> CommandError {
        CommandError::Text("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The string of a HyperLogLog.
fn sketch_of(value: &Value) -> Result<(&[u8], Encoding), CommandError> {
    let bytes = match value {
        Value::Str(string) => string.as_bytes(),
        Value::Int(_) => b"",
        _ => return Err(CommandError::WrongType),
    };
    let encoding = sketch::encoding(bytes).ok_or(CommandError::Text(
        "WRONGTYPE Key is not a valid HyperLogLog string value.",
    ))?;
    Ok((bytes, encoding))
}

/// How long a sparse string may become. The log must be readable whatever the directive says then,
/// also where a string is damaged, which only shows when all of it is read: so in replay nothing
/// becomes dense for its length, and [`log_dense`] logs what did.
fn sparse_len_max(cx: &Cx<'_>) -> usize {
    match cx.origin {
        Origin::Client => cx.limits.hll_sparse_max_bytes,
        Origin::Replay => usize::MAX,
    }
}

/// A string became dense: its effect is the string.
fn log_dense(cx: &mut Cx<'_>, key: Key<'_>, bytes: &[u8], has_deadline: bool) {
    if has_deadline {
        cx.changed(&[key], &[b"SET", key.bytes, bytes, b"KEEPTTL"]);
    } else {
        cx.changed(&[key], &[b"SET", key.bytes, bytes]);
    }
}

fn pfadd(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let key = Key::new(args.at(1));
    let len_max = sparse_len_max(cx);
    let elements = args.from(2);
    // The string and whether it has a deadline, if this makes it dense.
    let mut dense: Option<(Vec<u8>, bool)> = None;
    let is_dense = |bytes: &[u8]| sketch::encoding(bytes) == Some(Encoding::Dense);
    let changed = match cx.write(key) {
        None => {
            let mut bytes = sketch::empty();
            add_sparse(&mut bytes, elements, len_max)?;
            sketch::invalidate_count(&mut bytes);
            cx.store(key, Value::string_raw(&bytes), None);
            dense = is_dense(&bytes).then_some((bytes, false));
            true
        }
        Some((value, deadline)) => {
            let (bytes, encoding) = sketch_of(value)?;
            match encoding {
                Encoding::Dense => value
                    .to_mut_str()
                    .is_some_and(|string| add_dense(string, elements)),
                Encoding::Sparse => {
                    // A copy, so that one that turns out to be corrupted stays as it is.
                    let mut bytes = bytes.to_vec();
                    let changed = add_sparse(&mut bytes, elements, len_max)?;
                    if changed {
                        sketch::invalidate_count(&mut bytes);
                        *value = Value::string_raw(&bytes);
                        dense = is_dense(&bytes).then_some((bytes, deadline.is_some()));
                    }
                    changed
                }
            }
        }
    };
    match dense {
        Some((bytes, has_deadline)) => log_dense(cx, key, &bytes, has_deadline),
        None if changed => cx.changed_as_sent(&[key], args),
        None => {}
    }
    if changed {
        cx.notify(Class::STRING, "pfadd", key);
    }
    cx.reply.count(usize::from(changed));
    Ok(())
}

/// Adds elements to a string in the dense encoding; whether that changed it.
fn add_dense(string: &mut Str, elements: Args<'_>) -> bool {
    let mut changed = false;
    for (register, rank) in elements.iter().map(place_of) {
        if dense::get(&string[sketch::HEADER_LEN..], register) < rank {
            let bytes = string.as_mut_bytes();
            dense::set(&mut bytes[sketch::HEADER_LEN..], register, rank);
            changed = true;
        }
    }
    if changed {
        sketch::invalidate_count(string.as_mut_bytes());
    }
    changed
}

/// Adds elements to a string in the sparse encoding, which may become dense; whether that changed
/// it.
fn add_sparse(bytes: &mut Vec<u8>, elements: Args<'_>, len_max: usize) -> Result<bool, Corrupted> {
    let mut changed = false;
    for (register, rank) in elements.iter().map(place_of) {
        changed |= sketch::raise(bytes, register, rank, len_max)?;
    }
    Ok(changed)
}

fn pfcount(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let keys = args.from(1);
    if keys.len() == 1 {
        let count = match cx.read(Key::new(keys.at(0))) {
            None => 0,
            Some(value) => {
                let (bytes, encoding) = sketch_of(value)?;
                match sketch::count_kept(bytes) {
                    Some(count) => count,
                    None => sketch::histogram(bytes, encoding)?.estimate(),
                }
            }
        };
        cx.reply.integer(count.cast_signed());
        return Ok(());
    }
    let mut highest = sketch::no_registers();
    for key in keys.iter() {
        if let Some(value) = cx.read(Key::new(key)) {
            let (bytes, encoding) = sketch_of(value)?;
            sketch::merge_into(&mut highest, bytes, encoding)?;
        }
    }
    let mut histogram = Histogram::default();
    for register in highest {
        histogram.add(register, 1);
    }
    cx.reply.integer(histogram.estimate().cast_signed());
    Ok(())
}

fn pfmerge(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let len_max = sparse_len_max(cx);
    let mut highest = sketch::no_registers();
    let mut any_dense = false;
    for key in args.from(1).iter().map(Key::new) {
        if !cx.is_source_there(key) {
            continue;
        }
        if let Some(value) = cx.peek(cx.db, key) {
            let (bytes, encoding) = sketch_of(value)?;
            any_dense |= encoding == Encoding::Dense;
            sketch::merge_into(&mut highest, bytes, encoding)?;
        }
    }
    let destination = Key::new(args.at(1));
    let old = cx.write(destination);
    let mut bytes = match &old {
        None => sketch::empty(),
        Some((value, _)) => sketch_of(value)?.0.to_vec(),
    };
    if any_dense {
        sketch::make_dense(&mut bytes)?;
    }
    for (register, rank) in highest.iter().enumerate().filter(|(_, rank)| **rank > 0) {
        sketch::raise(&mut bytes, register, *rank, len_max)?;
    }
    sketch::invalidate_count(&mut bytes);
    let merged = Value::string_raw(&bytes);
    let has_deadline = match old {
        Some((value, deadline)) => {
            *value = merged;
            deadline.is_some()
        }
        None => {
            cx.store(destination, merged, None);
            false
        }
    };
    if !any_dense && sketch::encoding(&bytes) == Some(Encoding::Dense) {
        log_dense(cx, destination, &bytes, has_deadline);
    } else {
        cx.changed_as_sent(&[destination], args);
    }
    cx.notify(Class::STRING, "pfadd", destination);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests;
