//! The commands on subscriptions, PUBLISH, and PUBSUB.
//!
//! A change of subscriptions is confirmed by one push per name, which comes whatever CLIENT REPLY
//! says: it is no reply. Inside EXEC the confirmations stand among the replies, as in Redis.

use super::pipeline::{Close, Connection};
use super::told;
use crate::pubsub::Kind;
use moon_commands::{CommandId, CommandSpec, by_id, subcommands};
use moon_resp::{Args, Reply};
use moon_shard::Session as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A command that changes subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    kind: Kind,
    begins: bool,
    /// Its name, which confirmations repeat.
    word: &'static str,
}

impl Change {
    /// The command called `name`, if it is one.
    pub(super) fn named(name: &'static str) -> Option<Change> {
        let (kind, begins) = match name {
            "subscribe" => (Kind::Channel, true),
            "psubscribe" => (Kind::Pattern, true),
            "ssubscribe" => (Kind::ShardChannel, true),
            "unsubscribe" => (Kind::Channel, false),
            "punsubscribe" => (Kind::Pattern, false),
            "sunsubscribe" => (Kind::ShardChannel, false),
            _ => return None,
        };
        Some(Change {
            kind,
            begins,
            word: name,
        })
    }
}

/// Whether a client that only listens may run it.
pub(super) fn is_for_listeners(name: &'static str) -> bool {
    matches!(name, "ping" | "quit" | "reset") || Change::named(name).is_some()
}

/// What a client that only listens hears about the command `name`.
pub(super) fn only_listens(name: &str) -> String {
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
         RESET are allowed in this context"
    )
}

/// Runs a change outside of EXEC.
pub(super) fn run(connection: &mut Connection, change: Change, id: CommandId, args: Args<'_>) {
    let started = Instant::now();
    let mut confirmations = Vec::new();
    apply(connection, change, args, &mut confirmations);
    connection.write_unasked(&confirmations);
    let taken = started.elapsed();
    connection
        .server
        .note_command(&connection.shard, id, taken, None);
}

/// Runs a change inside EXEC.
///
/// # Errors
/// The error reply.
pub(super) fn run_in_transaction(
    connection: &mut Connection,
    change: Change,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if change.begins && change.kind == Kind::ShardChannel {
        return Err("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client".to_owned());
    }
    apply(connection, change, args, out);
    Ok(())
}

fn apply(connection: &mut Connection, change: Change, args: Args<'_>, out: &mut Vec<u8>) {
    let Change { kind, begins, word } = change;
    let (hub, client) = (&connection.hub, connection.client.id);
    let all: Vec<Arc<[u8]>>;
    let mut names: Vec<Option<&[u8]>> = args.from(1).iter().map(Some).collect();
    if names.is_empty() {
        all = hub.names(client, kind);
        names.extend(all.iter().map(|name| Some(&**name)));
    }
    if names.is_empty() {
        // There was nothing to end, and that is confirmed as well.
        names.push(None);
    }
    for name in names {
        match name {
            Some(name) if begins => hub.subscribe(client, kind, name),
            Some(name) => hub.unsubscribe(client, kind, name),
            None => {}
        }
        let count = match kind {
            Kind::ShardChannel => hub.count(client, kind),
            Kind::Channel | Kind::Pattern => {
                hub.count(client, Kind::Channel) + hub.count(client, Kind::Pattern)
            }
        };
        let mut reply = Reply::new(out, connection.state.protocol);
        reply.push(3);
        reply.bulk(word.as_bytes());
        match name {
            Some(name) => reply.bulk(name),
            None => reply.null(),
        }
        reply.count(count);
    }
    hub.show(client);
    let counts = Kind::ALL.map(|kind| hub.count(client, kind));
    connection.state.subscriptions = counts.iter().sum();
}

/// How long a publisher rests while too much is under way.
const CROWDED_PAUSE: Duration = Duration::from_millis(1);

/// What comes before PUBLISH outside of EXEC: what the client sent before must be executed and
/// logged, and there must be room for another message.
pub(super) async fn wait_to_publish(connection: &mut Connection) -> Result<(), Close> {
    connection.barrier().await?;
    while !connection.hub.registry().has_room() {
        if connection.client.is_killed() {
            return Err(Close::Now);
        }
        connection.flush();
        tokio::time::sleep(CROWDED_PAUSE).await;
    }
    Ok(())
}

/// Whether a request is a PUBLISH that needs no waiting, so that it can run in a row with others
/// of its pipeline: nothing of this connection is under way on other shards.
#[inline]
pub(super) fn publishes_now(connection: &Connection, spec: &CommandSpec, args: Args<'_>) -> bool {
    matches!(spec.name, "publish" | "spublish")
        && connection.state.runs_plainly()
        && spec.accepts(args.len())
        && connection.outlet.gate().borrow().holes() == 0
        && connection.hub.registry().has_room()
        // Monitors are shown commands of the server when each is over.
        && !connection.server.monitors.any()
}

/// Runs such a request.
pub(super) fn publish_now(connection: &mut Connection, id: CommandId, args: Args<'_>) {
    let mut out = Vec::new();
    let depends_on = told::run_inside(connection, id, args, &mut out);
    connection.write_dependent_reply(depends_on, |reply| reply.raw(&out));
}

/// PUBLISH and SPUBLISH. The message is shown when the reply may leave.
pub(super) fn publish(connection: &Connection, name: &str, args: Args<'_>, reply: &mut Reply<'_>) {
    let kind = match name {
        "spublish" => Kind::ShardChannel,
        _ => Kind::Channel,
    };
    let depends_on = connection.outlet.gate().borrow().dependency();
    let hub = &connection.hub;
    reply.count(hub.publish(kind, args.at(1), args.at(2), depends_on));
    hub.answer_with_delivery(connection.client.id);
}

/// PUBSUB.
///
/// # Errors
/// The error reply.
pub(super) fn pubsub(
    connection: &Connection,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let spec = subcommands::resolve("pubsub", args).map_err(|e| e.text().to_owned())?;
    let registry = connection.hub.registry();
    let own_name = subcommands::own_name(spec);
    let kind = match own_name {
        "shardchannels" | "shardnumsub" => Kind::ShardChannel,
        _ => Kind::Channel,
    };
    match own_name {
        "channels" | "shardchannels" => {
            if args.len() > 3 {
                let error = subcommands::wrong_arguments(args, "PUBSUB");
                return Err(error.text().to_owned());
            }
            let names = registry.channels(kind, args.get(2));
            reply.array(names.len());
            for name in names {
                reply.bulk(&name);
            }
        }
        "numsub" | "shardnumsub" => {
            let asked = args.from(2);
            reply.array(asked.len() * 2);
            for name in asked.iter() {
                reply.bulk(name);
                reply.count(registry.subscribers(kind, name));
            }
        }
        "numpat" => reply.count(registry.names(Kind::Pattern)),
        "help" => subcommands::help_reply(reply, "pubsub"),
        other => unreachable!("pubsub|{other} is in the table without code here"),
    }
    Ok(())
}

/// PING of a client that only listens: in the form of a message.
pub(super) fn pong(args: Args<'_>, reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk(b"pong");
    reply.bulk(args.get(1).unwrap_or_default());
}

/// The command with this id, if it changes subscriptions.
pub(super) fn change_of(id: CommandId) -> Option<Change> {
    Change::named(by_id(id).name)
}
