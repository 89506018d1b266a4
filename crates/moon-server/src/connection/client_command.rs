//! CLIENT and its subcommands.

use super::blocking;
use super::pause;
use super::pipeline::Connection;
use super::read_buffer;
use super::session::ReplyMode;
use super::tracking_command;
use crate::clients::filter::{self, LibAttribute};
use crate::clients::{Flags, KillRequest, ListFilter};
use crate::server::Server;
use moon_commands::{by_stat_id, parse, subcommands};
use moon_resp::{Args, Reply};
use moon_shard::Shard;
use moon_shard::mailbox::ControlMessage;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Adds up what the clients of a shard hold, on its thread, and with it brings up to date what is
/// known of each.
pub fn measure_clients(shard: &Shard, server: &Server) {
    let bytes = shard.client_bytes() + read_buffer::shared_bytes() as u64;
    server
        .stats
        .shard(shard.id().index())
        .client_bytes
        .set(bytes);
}

/// As [`measure_clients`], on all shards, before this returns.
pub(super) async fn measure_all(connection: &Connection) {
    let mut done = Vec::new();
    for shard in connection.shard.count().ids() {
        let (told, heard) = oneshot::channel::<()>();
        done.push(heard);
        let server = Arc::clone(&connection.server);
        let measure = Box::new(move |shard: &Rc<Shard>| {
            measure_clients(shard, &server);
            drop(told);
        });
        let mailbox = connection.shard.directory().of(shard);
        mailbox.send_control(ControlMessage::Run(measure));
    }
    for heard in done {
        // It ends with an error, because nothing is ever sent but that it is done.
        drop(heard.await);
    }
}

/// Whether a request answers what clients hold.
pub(super) fn shows_memory(args: Args<'_>) -> bool {
    let asks = |name: &str| {
        args.get(1)
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    ["list", "info"].into_iter().any(asks)
}

/// Runs `CLIENT ...` and writes its reply to `out`.
///
/// # Errors
/// The error reply.
pub(super) fn run(
    connection: &mut Connection,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let spec = subcommands::resolve("client", args).map_err(|e| e.text().to_owned())?;
    let rest: Vec<&[u8]> = args.from(2).iter().collect();
    let mut reply = Reply::new(out, connection.state.protocol);
    let client = &connection.client;
    match subcommands::own_name(spec) {
        "id" => reply.integer(i64::try_from(client.id).unwrap_or(i64::MAX)),
        "getname" => match client.name() {
            name if name.is_empty() => reply.null(),
            name => reply.bulk(name.as_bytes()),
        },
        "setname" => {
            client.set_name(filter::check_name(rest[0]).map_err(|e| e.to_string())?);
            reply.ok();
        }
        "setinfo" => {
            let checked = filter::check_lib_attribute(rest[0], rest[1]);
            match checked.map_err(|e| e.to_string())? {
                (LibAttribute::Name, text) => client.set_lib_name(text),
                (LibAttribute::Version, text) => client.set_lib_ver(text),
            }
            reply.ok();
        }
        "info" => {
            let mut line = client.line(connection.server.clients.now_ms(), &command_name);
            line.push('\n');
            reply.verbatim("txt", line.as_bytes());
        }
        "list" => {
            let filter = ListFilter::parse(&rest).map_err(|e| e.to_string())?;
            let text = connection.server.clients.list(&filter, command_name);
            reply.verbatim("txt", text.as_bytes());
        }
        "kill" => kill(connection, &rest, out)?,
        "no-evict" => {
            client.set_flag(Flags::NoEvict, on_or_off(rest[0])?);
            reply.ok();
        }
        "no-touch" => {
            client.set_flag(Flags::NoTouch, on_or_off(rest[0])?);
            reply.ok();
        }
        "reply" => reply_mode(connection, rest[0], out)?,
        "tracking" => return tracking_command::tracking(connection, args, &mut reply),
        "caching" => tracking_command::caching(connection, rest[0], &mut reply)?,
        "trackinginfo" => tracking_command::info(connection, &mut reply),
        "getredir" => tracking_command::getredir(connection, &mut reply),
        "unblock" => {
            if rest.len() > 2 {
                let name = String::from_utf8_lossy(args.at(1));
                return Err(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{name}'. Try CLIENT \
                     HELP."
                ));
            }
            let id = parse::integer(rest[0]).map_err(|error| error.text().to_owned());
            let named = id.clone().ok().and_then(|id| u64::try_from(id).ok());
            let other = named.and_then(|id| connection.server.clients.get(id));
            let unblocked = blocking::unblock(other.as_deref(), rest.get(1).copied())?;
            id?;
            reply.integer(i64::from(unblocked));
        }
        "pause" => {
            pause::begin(connection, &rest)?;
            reply.ok();
        }
        "unpause" => {
            connection.server.pause.end();
            reply.ok();
        }
        "help" => subcommands::help_reply(&mut reply, "client"),
        other => unreachable!("client|{other} is in the table without code here"),
    }
    Ok(())
}

fn command_name(id: u16) -> Option<&'static str> {
    by_stat_id(id).map(|spec| spec.name)
}

fn on_or_off(arg: &[u8]) -> Result<bool, String> {
    match arg.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err("ERR syntax error".to_owned()),
    }
}

fn kill(connection: &mut Connection, rest: &[&[u8]], out: &mut Vec<u8>) -> Result<(), String> {
    let request = KillRequest::parse(rest, |user| user == "default").map_err(|e| e.to_string())?;
    let (filter, old) = match request {
        KillRequest::Old(filter) => (filter, true),
        KillRequest::New(filter) => (filter, false),
    };
    let (killed, myself) = connection
        .server
        .clients
        .kill(&filter, connection.client.id);
    connection.state.closing |= myself;
    let mut reply = Reply::new(out, connection.state.protocol);
    match (old, killed) {
        (true, 0) => return Err(filter::ClientError::NoSuchClient.to_string()),
        (true, _) => reply.ok(),
        (false, _) => reply.count(killed),
    }
    Ok(())
}

fn reply_mode(connection: &mut Connection, arg: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    match arg.to_ascii_lowercase().as_slice() {
        b"on" => {
            connection.state.reply_mode = ReplyMode::On;
            Reply::new(out, connection.state.protocol).ok();
        }
        b"off" => connection.state.reply_mode = ReplyMode::Off,
        b"skip" if connection.state.reply_mode == ReplyMode::Off => {}
        b"skip" => connection.state.reply_mode = ReplyMode::SkipNext,
        _ => return Err("ERR syntax error".to_owned()),
    }
    Ok(())
}
