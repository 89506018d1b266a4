//! BITOP: strings combined bit by bit.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{detailed, is};
use moon_resp::Args;
use moon_store::{IntText, Key, Value};

/// How the bits of the sources make one of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Set in all.
    And,
    /// Set in any.
    Or,
    /// Set in an odd number.
    Xor,
    /// Not set in the only one.
    Not,
    /// Set in the first and in no other.
    Diff,
    /// Set in another and not in the first.
    Diff1,
    /// Set in the first and in another.
    AndOr,
    /// Set in exactly one.
    One,
}

const OPERATIONS: [(&str, Operation); 8] = [
    ("AND", Operation::And),
    ("OR", Operation::Or),
    ("XOR", Operation::Xor),
    ("NOT", Operation::Not),
    ("DIFF", Operation::Diff),
    ("DIFF1", Operation::Diff1),
    ("ANDOR", Operation::AndOr),
    ("ONE", Operation::One),
];

impl Operation {
    /// The operation of this name for so many sources.
    fn parse(arg: &[u8], sources: usize) -> Result<Operation, CommandError> {
        let found = OPERATIONS.iter().find(|(name, _)| is(arg, name));
        let (name, operation) = found.ok_or(CommandError::Syntax)?;
        match operation {
            Operation::Not if sources != 1 => Err(CommandError::Text(
                "ERR BITOP NOT must be called with a single source key.",
            )),
            Operation::Diff | Operation::Diff1 | Operation::AndOr if sources < 2 => Err(detailed(
                format!("ERR BITOP {name} must be called with at least two source keys."),
            )),
            operation => Ok(*operation),
        }
    }
}

/// The result of an operation, taking in one source after the other. Sources count as filled up
/// with zeros to the longest one.
#[derive(Default)]
struct Combined {
    sources: usize,
    /// What the sources so far make: for operations in which the first one is special, all others
    /// joined.
    result: Vec<u8>,
    /// The first source, where it is special; or, for [`Operation::One`], what is set in several.
    aside: Vec<u8>,
}

impl Combined {
    fn take_in(&mut self, operation: Operation, source: &[u8]) {
        use Operation::{And, AndOr, Diff, Diff1, Not, One, Or, Xor};
        let is_first = self.sources == 0;
        self.sources += 1;
        match operation {
            Diff | Diff1 | AndOr if is_first => self.aside = source.to_vec(),
            _ if is_first => self.result = source.to_vec(),
            Or | Diff | Diff1 | AndOr => join(&mut self.result, source, |a, b| a | b),
            Xor => join(&mut self.result, source, |a, b| a ^ b),
            And => {
                join(&mut self.result, source, |a, b| a & b);
                clear_from(&mut self.result, source.len());
            }
            One => {
                let twice: Vec<u8> = self.result.iter().zip(source).map(|(a, b)| a & b).collect();
                join(&mut self.aside, &twice, |a, b| a | b);
                join(&mut self.result, source, |a, b| a | b);
            }
            Not => {}
        }
    }

    fn finish(mut self, operation: Operation) -> Vec<u8> {
        use Operation::{And, AndOr, Diff, Diff1, Not, One, Or, Xor};
        match operation {
            And | Or | Xor => {}
            Not => self.result.iter_mut().for_each(|byte| *byte = !*byte),
            One => join(&mut self.result, &self.aside, |any, twice| any & !twice),
            Diff1 => join(&mut self.result, &self.aside, |others, first| {
                others & !first
            }),
            Diff | AndOr => {
                join(&mut self.result, &self.aside, |others, first| {
                    first & if operation == Diff { !others } else { others }
                });
                // Nothing is set where the first one has ended.
                clear_from(&mut self.result, self.aside.len());
            }
        }
        self.result
    }
}

/// Combines `to` with `from` byte by byte; the shorter one counts as filled up with zeros. What
/// lies behind the end of `from` stays.
fn join(to: &mut Vec<u8>, from: &[u8], combine: impl Fn(u8, u8) -> u8) {
    if to.len() < from.len() {
        to.resize(from.len(), 0);
    }
    for (to, from) in to.iter_mut().zip(from) {
        *to = combine(*to, *from);
    }
}

/// Clears what lies at `start` and behind.
fn clear_from(bytes: &mut [u8], start: usize) {
    if let Some(rest) = bytes.get_mut(start..) {
        rest.fill(0);
    }
}

pub(super) fn bitop(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let sources = args.from(3);
    let operation = Operation::parse(args.at(1), sources.len())?;
    let mut combined = Combined::default();
    for key in sources.iter().map(Key::new) {
        let mut digits = IntText::new();
        let source = match cx.is_source_there(key) {
            false => b"".as_slice(),
            true => cx
                .peek(cx.db, key)
                .and_then(|value| value.as_bytes(&mut digits))
                .ok_or(CommandError::WrongType)?,
        };
        combined.take_in(operation, source);
    }
    let result = combined.finish(operation);
    let destination = Key::new(args.at(2));
    let existed = cx.live(cx.db, destination).is_some();
    if !result.is_empty() {
        cx.store(destination, Value::string_raw(&result), None);
        cx.changed_as_sent(&[destination], args);
        cx.notify(Class::STRING, "set", destination);
    } else if existed {
        cx.remove(destination);
        cx.changed_as_sent(&[destination], args);
        cx.notify(Class::GENERIC, "del", destination);
    }
    cx.reply.count(result.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether the bit is set in the result, by the definition of the operation.
    fn model(operation: Operation, bits: &[bool]) -> bool {
        let ones = bits.iter().filter(|bit| **bit).count();
        let in_others = bits[1..].contains(&true);
        match operation {
            Operation::And => ones == bits.len(),
            Operation::Or => ones > 0,
            Operation::Xor => ones % 2 == 1,
            Operation::Not => ones == 0,
            Operation::Diff => bits[0] && !in_others,
            Operation::Diff1 => !bits[0] && in_others,
            Operation::AndOr => bits[0] && in_others,
            Operation::One => ones == 1,
        }
    }

    proptest! {
        #[test]
        fn every_bit_of_a_result_is_what_the_operation_says(
            sources in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6),
        ) {
            let len = sources.iter().map(Vec::len).max().unwrap_or(0);
            for (name, operation) in OPERATIONS {
                let Ok(operation) = Operation::parse(name.as_bytes(), sources.len()) else {
                    prop_assert!(sources.len() == 1 || operation == Operation::Not);
                    continue;
                };
                let mut combined = Combined::default();
                for source in &sources {
                    combined.take_in(operation, source);
                }
                let result = combined.finish(operation);
                prop_assert_eq!(result.len(), len, "{}", name);
                for at in 0..len * 8 {
                    let bits: Vec<bool> =
                        sources.iter().map(|source| crate::bitmaps::bits::get(source, at)).collect();
                    let found = crate::bitmaps::bits::get(&result, at);
                    prop_assert_eq!(found, model(operation, &bits), "{} {}", name, at);
                }
            }
        }
    }
}
