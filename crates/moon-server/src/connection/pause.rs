//! CLIENT PAUSE and CLIENT UNPAUSE, and how a connection waits while the server is paused.
//!
//! A command that may write, or any command in a pause of all, waits before it does anything; the
//! connection executes nothing behind it. When CLIENT PAUSE answers, everything that was let
//! through before has been executed on every shard ([`moon_shard::pause`]).

use super::busy::{self, Busy};
use super::pipeline::{Close, Connection};
use crate::clients::Flags as ClientFlags;
use moon_commands::CommandSpec;
use moon_commands::parse::canonical_integer;
use moon_shard::{Pause, PauseMode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commands without the flag of a write that must not run either while writes are paused: what they
/// do may reach replicas.
const MAY_REPLICATE: &[&str] = &[
    "publish", "spublish", "eval", "evalsha", "fcall", "pfcount", "migrate",
];

/// Runs what follows CLIENT PAUSE; its reply waits for [`settle`].
///
/// # Errors
/// The error reply.
pub(super) fn begin(connection: &mut Connection, rest: &[&[u8]]) -> Result<(), String> {
    let mode = match rest.get(1).map(|word| word.to_ascii_lowercase()) {
        None => PauseMode::All,
        Some(word) if rest.len() == 2 && word == b"all" => PauseMode::All,
        Some(word) if rest.len() == 2 && word == b"write" => PauseMode::Write,
        Some(_) if rest.len() == 2 => {
            return Err("ERR CLIENT PAUSE mode must be WRITE or ALL".to_owned());
        }
        Some(_) => return Err("ERR syntax error".to_owned()),
    };
    let millis = rest
        .first()
        .and_then(|arg| canonical_integer(arg))
        .ok_or("ERR timeout is not an integer or out of range")?;
    let millis = u64::try_from(millis).map_err(|_| "ERR timeout is negative")?;
    let time = Duration::from_millis(millis);
    if !connection.server.pause.begin(mode, time, Instant::now()) {
        return Err("ERR timeout is out of range".to_owned());
    }
    connection.state.quiesce_first = true;
    Ok(())
}

/// Waits, if the present command has paused the server, until everything is executed that was let
/// through before; if it has changed settings, until all shards follow them.
pub(super) async fn settle(connection: &mut Connection) {
    if std::mem::take(&mut connection.state.everywhere_first) {
        connection.flush();
        connection.shard.visit_threads(|_| ()).await;
    }
    if std::mem::take(&mut connection.state.quiesce_first) {
        connection.flush();
        connection.shard.quiesce().await;
    }
}

/// Whether a command by itself may write.
pub(crate) fn writes(spec: &CommandSpec) -> bool {
    spec.is_write() || MAY_REPLICATE.contains(&spec.name)
}

/// Whether a command may write: itself, or what EXEC would run.
pub(super) fn may_write(connection: &Connection, spec: &CommandSpec) -> bool {
    let queue = match &connection.state.transaction {
        Some(transaction) if spec.name == "exec" => &transaction.queue[..],
        _ => &[],
    };
    writes(spec) || queue.iter().any(|queued| writes(queued.row()))
}

/// Whether a command must wait now.
pub(crate) fn blocks(connection: &Connection, may_write: bool) -> bool {
    let pause = &connection.server.pause;
    pause.is_on() && pause.blocks(may_write, Instant::now()).is_some()
}

/// Waits until the data is at home, there is room and no pause is in the way of what may write; or
/// until a script takes long. Nothing else happens on this thread between its return and what the
/// caller does next without waiting.
///
/// # Errors
/// The connection is to end.
pub(crate) async fn ready(
    connection: &mut Connection,
    may_write: bool,
) -> Result<Result<(), Busy>, Close> {
    loop {
        wait(connection, may_write).await?;
        let ready = busy::ready(connection).await;
        if ready.is_err() || !blocks(connection, may_write) {
            return Ok(ready);
        }
    }
}

/// Returns when no pause is in the way of what may write, or of anything else.
pub(super) async fn ended(pause: &Pause, may_write: bool) {
    loop {
        // Made first, so that an end between the look and the wait is not missed.
        let changed = pause.changed();
        let Some(until) = pause.blocks(may_write, Instant::now()) else {
            return;
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

/// Waits while a pause is in the way.
///
/// # Errors
/// The connection is to end.
pub(crate) async fn wait(connection: &mut Connection, may_write: bool) -> Result<(), Close> {
    if !blocks(connection, may_write) {
        return Ok(());
    }
    connection.flush();
    let server = Arc::clone(&connection.server);
    let client = Arc::clone(&connection.client);
    client.set_flag(ClientFlags::Blocked, true);
    let ended = tokio::select! {
        () = ended(&server.pause, may_write) => Ok(()),
        _ = connection.outlet.wait_until(|_| client.is_killed()) => {
            let stopping = server.is_stopping();
            Err(if stopping { Close::AfterReplies } else { Close::Now })
        }
    };
    client.set_flag(ClientFlags::Blocked, false);
    ended
}
