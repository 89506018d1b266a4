//! Every command there is, and the look-up by name.
//!
//! The look-up runs once per request, so it allocates nothing and compares words: a name is
//! lower-cased in three 64-bit words, which also are what the open-addressing table holds.

use crate::spec::{CommandId, CommandSpec};
use crate::{
    bitmaps, dump, geo, hashes, hyperloglog, keys, keyspace, lists, pubsub, scripting,
    server_commands, sets, sort, streams, strings, subcommands, zsets,
};
use std::sync::LazyLock;

static FAMILIES: &[&[CommandSpec]] = &[
    strings::COMMANDS,
    keys::COMMANDS,
    keyspace::COMMANDS,
    hashes::COMMANDS,
    lists::COMMANDS,
    sets::COMMANDS,
    bitmaps::COMMANDS,
    hyperloglog::COMMANDS,
    geo::COMMANDS,
    sort::COMMANDS,
    zsets::COMMANDS,
    dump::COMMANDS,
    streams::COMMANDS,
    scripting::COMMANDS,
    subcommands::CONTAINERS,
    server_commands::COMMANDS,
    pubsub::COMMANDS,
];

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

/// Every command, by its id.
#[must_use]
pub fn all() -> &'static [&'static CommandSpec] {
    &TABLE.all
}

/// The command with this id.
#[inline]
#[must_use]
pub fn by_id(id: CommandId) -> &'static CommandSpec {
    TABLE.all[usize::from(id)]
}

/// The command called `name`, in any case.
#[inline]
#[must_use]
pub fn lookup(name: &[u8]) -> Option<(CommandId, &'static CommandSpec)> {
    TABLE.find(Name::folded(name)?)
}

/// How many numbers [`stat_id`] gives.
#[must_use]
pub fn stat_count() -> usize {
    TABLE.all.len() + TABLE.subcommands.len()
}

/// The number under which a command or subcommand is counted: that of a command is its id, those
/// of subcommands come behind them. `spec` is a row of this table or of [`subcommands`].
#[inline]
#[must_use]
pub fn stat_id(id: CommandId, spec: &CommandSpec) -> CommandId {
    if std::ptr::eq(by_id(id), spec) {
        return id;
    }
    TABLE.stat_id_of_subcommand(spec).unwrap_or(id)
}

/// The row that is counted under `stat_id`; `None` beyond [`stat_count`].
#[must_use]
pub fn by_stat_id(stat_id: CommandId) -> Option<&'static CommandSpec> {
    let at = usize::from(stat_id);
    let commands = TABLE.all.len();
    let found = TABLE.all.get(at);
    found
        .or_else(|| TABLE.subcommands.get(at - commands))
        .copied()
}

/// A lower-case name, padded with zeros, its length in the last byte.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name([u64; 3]);

impl Name {
    /// Names are shorter than this.
    const LEN_MAX: usize = 23;
    /// No command is called so: a name of length zero.
    const NONE: Name = Name([0; 3]);

    #[inline]
    fn folded(name: &[u8]) -> Option<Name> {
        if name.is_empty() || name.len() > Self::LEN_MAX {
            return None;
        }
        let mut folded = [0u64; 3];
        for (to, part) in folded.iter_mut().zip(name.chunks(8)) {
            *to = lower_case(word(part));
        }
        folded[2] |= (name.len() as u64) << 56;
        Some(Name(folded))
    }

    #[inline]
    fn hash(self) -> u64 {
        let [a, b, c] = self.0;
        let mixed = (a ^ b.rotate_left(29) ^ c.rotate_left(43)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    }
}

/// Up to eight bytes as one word, padded with zeros: two loads that may overlap instead of a copy
/// of variable length.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let Ok(eight) = bytes.try_into() {
        return u64::from_le_bytes(eight);
    }
    if let (Some(head), Some(tail)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
        return u64::from(head) | u64::from(tail) << ((len - 4) * 8);
    }
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Lower-cases the ASCII letters among eight bytes.
#[inline]
fn lower_case(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low_bits = word & (EACH * 0x7F);
    let at_least_a = low_bits + EACH * (0x80 - b'A' as u64);
    let beyond_z = low_bits + EACH * (0x7F - b'Z' as u64);
    let is_upper = (at_least_a & !beyond_z) & !word & (EACH * 0x80);
    word | (is_upper >> 2)
}

struct Table {
    all: Vec<&'static CommandSpec>,
    /// The rows of all containers, in the order of these.
    subcommands: Vec<&'static CommandSpec>,
    /// Open addressing with linear probing; at most a quarter is in use.
    slots: Box<[(Name, CommandId)]>,
}

impl Table {
    fn build() -> Table {
        let all: Vec<&'static CommandSpec> =
            FAMILIES.iter().flat_map(|family| family.iter()).collect();
        let size = (all.len() * 4).next_power_of_two();
        let mut slots = vec![(Name::NONE, 0); size].into_boxed_slice();
        for (id, spec) in (0..).zip(&all) {
            let name = Name::folded(spec.name.as_bytes())
                .expect("command names are shorter than the longest that is looked up");
            let mut at = Self::start(name, size);
            while slots[at].0 != Name::NONE {
                assert!(slots[at].0 != name, "{} is described twice", spec.name);
                at = (at + 1) & (size - 1);
            }
            slots[at] = (name, id);
        }
        let containers = all.iter().map(|spec| subcommands::of(spec.name));
        let subcommands = containers.flatten().collect();
        Table {
            all,
            subcommands,
            slots,
        }
    }

    /// Subcommands are few and rare: a walk over their rows will do.
    fn stat_id_of_subcommand(&self, spec: &CommandSpec) -> Option<CommandId> {
        let found = |row: &&CommandSpec| std::ptr::eq(*row, spec);
        let at = self.all.len() + self.subcommands.iter().position(found)?;
        CommandId::try_from(at).ok()
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the mask keeps the index below the size"
    )]
    fn start(name: Name, size: usize) -> usize {
        name.hash() as usize & (size - 1)
    }

    #[inline]
    fn find(&self, name: Name) -> Option<(CommandId, &'static CommandSpec)> {
        let mut at = Self::start(name, self.slots.len());
        loop {
            let (found, id) = self.slots[at];
            if found == name {
                return Some((id, self.all[usize::from(id)]));
            }
            if found == Name::NONE {
                return None;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        for (id, spec) in all().iter().enumerate() {
            let upper = spec.name.to_ascii_uppercase();
            for name in [spec.name, upper.as_str()] {
                let (found, by_name) = lookup(name.as_bytes()).expect(name);
                assert_eq!((usize::from(found), by_name.name), (id, spec.name));
            }
            assert!(lookup(format!("{}_", spec.name).as_bytes()).is_none());
            assert!(lookup(format!("{}\0", spec.name).as_bytes()).is_none());
        }
        assert!(lookup(b"").is_none());
        assert!(lookup(&[b'g'; 100]).is_none());
        assert!(lookup(b"G\xC5T").is_none());
    }

    #[test]
    fn commands_and_subcommands_are_counted_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for (id, spec) in (0..).zip(all()) {
            for row in std::iter::once(*spec).chain(subcommands::of(spec.name)) {
                let number = stat_id(id, row);
                assert!(seen.insert(number), "{} shares its number", row.name);
                assert!(std::ptr::eq(by_stat_id(number).expect(row.name), row));
            }
        }
        assert_eq!(seen.len(), stat_count());
        let beyond = CommandId::try_from(stat_count()).expect("few commands");
        assert!(by_stat_id(beyond).is_none());
    }

    #[test]
    fn words_of_every_length_are_padded_with_zeros() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        for len in 1..=8 {
            let mut padded = [0; 8];
            padded[..len].copy_from_slice(&bytes[..len]);
            assert_eq!(
                word(&bytes[..len]),
                u64::from_le_bytes(padded),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn only_ascii_letters_change_case() {
        for byte in 0..=255u8 {
            let word = u64::from_le_bytes([byte; 8]);
            let expected = u64::from_le_bytes([byte.to_ascii_lowercase(); 8]);
            assert_eq!(lower_case(word), expected, "{byte:#x}");
        }
    }
}
