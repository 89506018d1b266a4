//! Every command there is, and the look-up by name.

use crate::spec::{CommandId, CommandSpec};
use crate::{hashes, lists, server_commands, sets, strings};
use std::collections::HashMap;
use std::sync::LazyLock;

static FAMILIES: &[&[CommandSpec]] = &[
    strings::COMMANDS,
    hashes::COMMANDS,
    lists::COMMANDS,
    sets::COMMANDS,
    server_commands::COMMANDS,
];

static ALL: LazyLock<Vec<&'static CommandSpec>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(|family| family.iter()).collect());

static BY_NAME: LazyLock<HashMap<&'static str, CommandId>> = LazyLock::new(|| {
    let ids = 0..CommandId::MAX;
    ALL.iter()
        .zip(ids)
        .map(|(spec, id)| (spec.name, id))
        .collect()
});

/// Every command, by its id.
#[must_use]
pub fn all() -> &'static [&'static CommandSpec] {
    &ALL
}

/// The command with this id.
#[must_use]
pub fn by_id(id: CommandId) -> &'static CommandSpec {
    ALL[usize::from(id)]
}

/// The command called `name`, in any case.
#[must_use]
pub fn lookup(name: &[u8]) -> Option<(CommandId, &'static CommandSpec)> {
    let name = str::from_utf8(name).ok()?.to_ascii_lowercase();
    let id = *BY_NAME.get(name.as_str())?;
    Some((id, by_id(id)))
}
