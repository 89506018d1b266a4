//! Server commands, told to the slow log and to monitors as data commands are by their shard.

use super::commands;
use super::pipeline::{Close, Connection};
use crate::histogram::Counter;
use crate::scripts;
use moon_commands::{CommandId, by_id, stat_id, subcommands};
use moon_core::Lsn;
use moon_resp::Args;
use moon_shard::{Borrowed, Executed};

/// The number under which a request is counted; `None` if it asks for a subcommand that there is
/// not.
pub(super) fn counted_as(id: CommandId, args: Args<'_>) -> Option<CommandId> {
    let spec = by_id(id);
    let row = commands::row(id, args);
    let is_unknown =
        std::ptr::eq(row, spec) && args.len() > 1 && !subcommands::of(spec.name).is_empty();
    (!is_unknown).then(|| stat_id(id, row))
}

/// Runs a server command, and tells of it.
pub(super) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    begin(connection);
    let result = commands::run(connection, id, args).await;
    tell(connection, id, args);
    connection.shard.show();
    result
}

/// Runs a script or a function, and tells of it: monitors before what it calls.
pub(super) async fn run_script(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    begin(connection);
    show(connection, id, args);
    let result = scripts::run(connection, id, args).await;
    note_slow(connection, id, args);
    connection.shard.show();
    result
}

/// As [`run_script`], for one inside EXEC that has `data` in hand.
pub(super) async fn run_script_inside(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    data: &mut Option<Box<Borrowed>>,
    replies: &mut Vec<u8>,
) -> Result<Lsn, Close> {
    begin(connection);
    show(connection, id, args);
    let result = scripts::run_in(connection, id, args, data, replies).await;
    note_slow(connection, id, args);
    result
}

/// As [`run`], for a command inside EXEC: it is shown when the transaction is over.
pub(super) fn run_inside(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    replies: &mut Vec<u8>,
) -> Lsn {
    begin(connection);
    let depends_on = commands::run_in_transaction(connection, id, args, replies);
    tell(connection, id, args);
    depends_on
}

/// What the command itself will note: waiting for other shards is no part of it.
fn noted(connection: &Connection) -> &Counter {
    let index = connection.shard.id().index();
    &connection.server.stats.shard(index).noted_nanos
}

fn begin(connection: &Connection) {
    noted(connection).set(0);
}

fn tell(connection: &Connection, id: CommandId, args: Args<'_>) {
    note_slow(connection, id, args);
    show(connection, id, args);
}

fn executed<'a>(connection: &Connection, id: CommandId, args: Args<'a>) -> Executed<'a> {
    Executed {
        spec: commands::row(id, args),
        caller: connection.caller(),
        db: connection.state.db,
        args,
    }
}

fn note_slow(connection: &Connection, id: CommandId, args: Args<'_>) {
    let nanos = noted(connection).get();
    if connection.server.is_slow(nanos) {
        let command = executed(connection, id, args);
        connection.server.note_slow(&command, nanos);
    }
}

fn show(connection: &Connection, id: CommandId, args: Args<'_>) {
    connection.shard.executed(&executed(connection, id, args));
}
