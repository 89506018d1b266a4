//! The commands that the server itself runs, because they concern the connection or the process.

use super::pipeline::{Close, Connection};
use super::session::{ReplyMode, SessionState, Trouble};
use super::{
    blocking, client_command, debug, memory_command, migrate, pause, pubsub_command,
    tracking_command, transaction, watch_commands,
};
use crate::clients::{Flags as ClientFlags, filter};
use crate::info;
use crate::server::ShutdownRequest;
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::{CommandId, CommandSpec, Flags, Run, by_id, docs, stat_id, subcommands};
use moon_core::Lsn;
use moon_resp::{Args, Protocol, Reply};
use moon_shard::Misconf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Texts that more than one command answers with.
pub(super) const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const SYNTAX: &str = "ERR syntax error";

/// Checks that come before every command, in Redis's order: known, arity, authenticated, allowed
/// here and now. Returns the row that tells of the request, that of its subcommand if it has one.
///
/// # Errors
/// The error reply.
pub(super) fn admit(
    connection: &Connection,
    command: Option<CommandId>,
    args: Args<'_>,
) -> Result<(CommandId, &'static CommandSpec), String> {
    let Some(id) = command else {
        return Err(unknown_command(args));
    };
    let mut spec = by_id(id);
    if !spec.accepts(args.len()) {
        return Err(format!(
            "ERR wrong number of arguments for '{}' command",
            spec.name
        ));
    }
    if !subcommands::of(spec.name).is_empty() {
        spec = subcommands::resolve(spec.name, args).map_err(|e| e.text().to_owned())?;
    }
    if !connection.state.authenticated && !spec.flags.contains(Flags::NO_AUTH) {
        return Err("NOAUTH Authentication required.".to_owned());
    }
    let in_transaction = connection.state.transaction.is_some();
    // MIGRATE waits for another server, and nothing can wait inside EXEC.
    if in_transaction && (spec.flags.contains(Flags::NO_MULTI) || spec.name == "migrate") {
        return Err("ERR Command not allowed inside a transaction".to_owned());
    }
    // What is queued takes memory too, whatever it will do.
    if in_transaction && !transaction::runs_at_once(spec) && !connection.shard.has_memory() {
        return Err(OUT_OF_MEMORY.to_owned());
    }
    if let Some(misconf) = refuses(connection, spec) {
        return Err(misconf.to_string());
    }
    if connection.state.only_listens() && !pubsub_command::is_for_listeners(spec.name) {
        return Err(pubsub_command::only_listens(spec.name));
    }
    if let Some(text) = connection.server.scripts.busy.refuses(spec) {
        return Err(text.to_owned());
    }
    if connection.state.monitoring
        && (spec.flags.intersects(Flags::READONLY) || pause::may_write(connection, spec))
    {
        // Redis takes a monitor for a kind of replica.
        return Err("ERR Replica can't interact with the keyspace".to_owned());
    }
    Ok((id, spec))
}

/// The error with which a data command must be refused now, if its effects may not be kept.
pub(super) fn refuses(connection: &Connection, spec: &CommandSpec) -> Option<Misconf> {
    if grows(spec) {
        connection.shard.refuses_writes()
    } else {
        None
    }
}

/// Whether a command is one that is refused while the disk fails.
pub(super) fn grows(spec: &CommandSpec) -> bool {
    spec.is_write() && !spec.flags.contains(Flags::FREES_MEMORY)
}

/// Longest part of an unknown command that its error repeats, in bytes.
const UNKNOWN_SHOWN_MAX: usize = 128;

fn unknown_command(args: Args<'_>) -> String {
    let shown = |bytes: &[u8], max: usize| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
    };
    let mut beginning = String::new();
    for arg in args.from(1).iter() {
        if beginning.len() >= UNKNOWN_SHOWN_MAX {
            break;
        }
        let room = UNKNOWN_SHOWN_MAX - beginning.len();
        beginning.push_str(&format!("'{}' ", shown(arg, room)));
    }
    let name = shown(args.at(0), UNKNOWN_SHOWN_MAX);
    format!("ERR unknown command '{name}', with args beginning with: {beginning}")
}

/// The row that tells of a request which was admitted.
pub(super) fn row(id: CommandId, args: Args<'_>) -> &'static CommandSpec {
    subcommands::row_of(by_id(id), args)
}

/// The row to run a request by that was admitted, if it runs against data.
pub(super) fn data_spec(id: CommandId, args: Args<'_>) -> Option<&'static CommandSpec> {
    Some(row(id, args)).filter(|spec| matches!(spec.run, Run::Data(_)))
}

/// Runs one server command.
pub(super) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    let spec = by_id(id);
    if let Some(change) = pubsub_command::change_of(id) {
        pubsub_command::run(connection, change, id, args);
        return Ok(());
    }
    match spec.name {
        "multi" | "discard" | "exec" | "watch" | "shutdown" | "monitor" => {
            return run_by_itself(connection, id, args).await;
        }
        "save" => return Box::pin(save(connection, id)).await,
        "debug" => return Box::pin(debug::run(connection, id, args)).await,
        "migrate" => return Box::pin(migrate::run(connection, id, args)).await,
        "wait" | "waitaof" => return Box::pin(blocking::run_wait(connection, id, args)).await,
        _ => {
            if matches!(spec.name, "info" | "config") {
                // What it shows, or makes durable, must not lag behind this connection.
                connection.barrier().await?;
                connection.shard.end_turn();
            }
            if matches!(spec.name, "publish" | "spublish") {
                pubsub_command::wait_to_publish(connection).await?;
            }
            if spec.name == "client" && client_command::shows_memory(args) || spec.name == "memory"
            {
                Box::pin(client_command::measure_all(connection)).await;
            }
            if spec.name == "config"
                && let Err(text) = Box::pin(switch_log(connection, args)).await
            {
                connection.write_reply(|reply| reply.error(&text));
                let counted = stat_id(id, row(id, args));
                connection.server.note_command(
                    &connection.shard,
                    counted,
                    Duration::ZERO,
                    Some(text),
                );
                return Ok(());
            }
            let mut out = Vec::new();
            let depends_on = run_in_transaction(connection, id, args, &mut out);
            connection.durable_first().await?;
            pause::settle(connection).await;
            connection.write_dependent_reply(depends_on, |reply| reply.raw(&out));
        }
    }
    Ok(())
}

/// Runs one of the commands that write their replies themselves, and notes what came of it.
async fn run_by_itself(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    connection.state.began = std::time::Instant::now();
    connection.state.trouble = None;
    match by_id(id).name {
        "multi" => transaction::multi(connection),
        "discard" => transaction::discard(connection),
        "exec" => transaction::exec(connection).await?,
        "watch" => Box::pin(transaction::watch(connection, args)).await?,
        "shutdown" => shutdown(connection, args)?,
        _ => watch_commands::monitor(connection),
    }
    let (server, shard) = (&connection.server, &connection.shard);
    let error = match connection.state.trouble.take() {
        Some(Trouble::Refused(text)) => {
            server.note_refusal(shard, Some(id), &text);
            return Ok(());
        }
        Some(Trouble::Failed(text)) => Some(text),
        None => None,
    };
    server.note_command(shard, id, connection.state.began.elapsed(), error);
    Ok(())
}

/// Runs one server command that needs no waiting, alone or inside EXEC, and writes its reply to
/// `out`. Returns what the reply depends on.
pub(crate) fn run_in_transaction(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Lsn {
    let started = std::time::Instant::now();
    let name = by_id(id).name;
    let depends_on = match name {
        // Only the counts of keys tell of data. What says how the disk is must not wait for it.
        "info" if info::shows_data(&info_sections(connection, args)) => {
            connection.shard.clock().head()
        }
        _ => Lsn::ZERO,
    };
    let start = out.len();
    let result = answer(connection, name, args, out);
    if let Err(text) = &result {
        out.truncate(start);
        Reply::new(out, connection.state.protocol).error(text);
    }
    connection.server.note_command(
        &connection.shard,
        stat_id(id, row(id, args)),
        started.elapsed(),
        result.err(),
    );
    depends_on
}

fn answer(
    connection: &mut Connection,
    name: &'static str,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    match name {
        // These change the protocol, so they make their reply themselves.
        "hello" => return hello(connection, args, out),
        "reset" => {
            reset(connection);
            Reply::new(out, Protocol::Resp2).simple("RESET");
            return Ok(());
        }
        "client" => return client_command::run(connection, args, out),
        _ => {}
    }
    if let Some(change) = pubsub_command::Change::named(name) {
        return pubsub_command::run_in_transaction(connection, change, args, out);
    }
    let mut reply = Reply::new(out, connection.state.protocol);
    match name {
        "ping" => match args.len() {
            1 | 2 if connection.state.only_listens() => pubsub_command::pong(args, &mut reply),
            1 => reply.simple("PONG"),
            2 => reply.bulk(args.at(1)),
            _ => return Err("ERR wrong number of arguments for 'ping' command".to_owned()),
        },
        "echo" => reply.bulk(args.at(1)),
        "select" => {
            select(connection, args.at(1))?;
            reply.ok();
        }
        "auth" => {
            auth(connection, args)?;
            reply.ok();
        }
        "quit" => {
            connection.state.closing = true;
            reply.ok();
        }
        "unwatch" => {
            transaction::unwatch(connection);
            reply.ok();
        }
        "publish" | "spublish" => pubsub_command::publish(connection, name, args, &mut reply),
        "pubsub" => pubsub_command::pubsub(connection, args, &mut reply)?,
        "memory" => memory_command::run(connection, args, &mut reply)?,
        "slowlog" => watch_commands::slowlog(&connection.server, args, &mut reply)?,
        "latency" => watch_commands::latency(&connection.server, args, &mut reply)?,
        // Alone it never comes here.
        "monitor" => {
            return Err("ERR MONITOR isn't allowed for DENY BLOCKING client".to_owned());
        }
        "command" => docs::command_reply(&mut reply, args).map_err(|e| e.text().to_owned())?,
        "config" => config(connection, args, &mut reply)?,
        "info" => {
            let sections = info_sections(connection, args);
            let text = connection.server.info(&sections);
            reply.verbatim("txt", text.as_bytes());
        }
        "time" => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            reply.array(2);
            reply.bulk(now.as_secs().to_string().as_bytes());
            reply.bulk(now.subsec_micros().to_string().as_bytes());
        }
        "lastsave" => {
            let seconds = connection.server.stats.last_save_s.load(Relaxed);
            reply.integer(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
        "role" => {
            reply.array(3);
            reply.bulk(b"master");
            let offset = connection.shard.clock().head().0;
            reply.integer(i64::try_from(offset).unwrap_or(i64::MAX));
            reply.array(0);
        }
        "bgrewriteaof" => reply.simple(connection.server.persistence.rewrite_in_background()?),
        "bgsave" => {
            let schedule = match args.get(1) {
                None => false,
                Some(word) if args.len() == 2 && word.eq_ignore_ascii_case(b"schedule") => true,
                Some(_) => return Err(SYNTAX.to_owned()),
            };
            reply.simple(connection.server.persistence.save_in_background(schedule)?);
        }
        "debug" => debug::answer(connection, args, &mut reply)?,
        "wait" | "waitaof" => blocking::answer_at_once(connection, name, args, &mut reply)?,
        other => unreachable!("{other} is in the command table without code in the server"),
    }
    Ok(())
}

/// The sections of INFO that can be answered now: the one that tells of data would have to wait
/// for a log that fails, and everything else with it.
fn info_sections(connection: &Connection, args: Args<'_>) -> Vec<info::Section> {
    let names: Vec<&[u8]> = args.from(1).iter().collect();
    let mut sections = info::sections(&names);
    if connection.shard.log_fails() {
        sections.retain(|section| !info::shows_data(&[*section]));
    }
    sections
}

fn select(connection: &mut Connection, arg: &[u8]) -> Result<(), String> {
    let databases = usize::from(connection.server.databases());
    let index = moon_commands::parse::database(arg, databases).map_err(|e| e.text().to_owned())?;
    connection.state.db = index;
    connection.client.db.store(u32::from(index), Relaxed);
    Ok(())
}

fn auth(connection: &mut Connection, args: Args<'_>) -> Result<(), String> {
    let (user, password) = match args.len() {
        2 => (&b"default"[..], args.at(1)),
        3 => (args.at(1), args.at(2)),
        _ => return Err(SYNTAX.to_owned()),
    };
    if args.len() == 2 && !connection.server.requires_password() {
        return Err(
            "ERR AUTH <password> called without any password configured for the default \
                    user. Are you sure your configuration is correct?"
                .to_owned(),
        );
    }
    if !connection.server.accepts(user, password) {
        return Err(WRONGPASS.to_owned());
    }
    connection.state.authenticated = true;
    Ok(())
}

fn hello(connection: &mut Connection, args: Args<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let mut protocol = connection.state.protocol;
    if let Some(version) = args.get(1) {
        let version = moon_commands::parse::canonical_integer(version)
            .ok_or_else(|| "ERR Protocol version is not an integer or out of range".to_owned())?;
        protocol = match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err("NOPROTO unsupported protocol version".to_owned()),
        };
    }
    let mut credentials = None;
    let mut name = None;
    let mut at = 2;
    while let Some(option) = args.get(at) {
        match (
            option.to_ascii_lowercase().as_slice(),
            args.get(at + 1),
            args.get(at + 2),
        ) {
            (b"auth", Some(user), Some(password)) => {
                credentials = Some((user, password));
                at += 3;
            }
            (b"setname", Some(text), _) => {
                name = Some(filter::check_name(text).map_err(|e| e.to_string())?);
                at += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    if let Some((user, password)) = credentials {
        if !connection.server.accepts(user, password) {
            return Err(WRONGPASS.to_owned());
        }
        connection.state.authenticated = true;
    }
    if !connection.state.authenticated {
        return Err(
            "NOAUTH HELLO must be called with the client already authenticated, \
                    otherwise the HELLO <proto> AUTH <user> <pass> option can be used to \
                    authenticate the client and select the RESP protocol version at the same time"
                .to_owned(),
        );
    }
    if let Some(name) = name {
        connection.client.set_name(name);
    }
    connection.state.protocol = protocol;
    connection
        .client
        .resp
        .store(if protocol == Protocol::Resp3 { 3 } else { 2 }, Relaxed);
    let mut reply = Reply::new(out, protocol);
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", crate::info::REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(i64::try_from(connection.client.id).unwrap_or(i64::MAX));
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn reset(connection: &mut Connection) {
    connection.state.transaction = None;
    transaction::unwatch(connection);
    connection.hub.unsubscribe_all(connection.client.id);
    tracking_command::end(connection);
    watch_commands::end_monitor(connection);
    connection.state = SessionState::new(!connection.server.requires_password());
    connection.client.reset();
}

fn config(
    connection: &mut Connection,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let spec = subcommands::resolve("config", args).map_err(|e| e.text().to_owned())?;
    match subcommands::own_name(spec) {
        "get" => {
            let patterns: Vec<&[u8]> = args.from(2).iter().collect();
            let found = connection.server.config.get(&patterns);
            reply.map(found.len());
            for (name, value) in found {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            }
        }
        "set" => {
            let pairs: Vec<&[u8]> = args.from(2).iter().collect();
            let durable_first = connection.server.config_set(&pairs)?;
            connection.state.durable_first = connection.state.durable_first.max(durable_first);
            connection.state.everywhere_first = true;
            reply.ok();
        }
        "resetstat" => {
            let server = &connection.server;
            let freed = server.memory.lazy_free().freed_objects();
            server.stats.reset(freed);
            reply.ok();
        }
        "rewrite" => {
            return Err(
                "ERR CONFIG REWRITE is not available in this version; change the \
                        configuration file by hand"
                    .to_owned(),
            );
        }
        "help" => subcommands::help_reply(reply, "config"),
        other => unreachable!("config|{other} is in the table without code here"),
    }
    Ok(())
}

/// CONFIG SET appendonly: the log begins or ends before the setting is noted.
async fn switch_log(connection: &mut Connection, args: Args<'_>) -> Result<(), String> {
    let is_set = args
        .get(1)
        .is_some_and(|word| word.eq_ignore_ascii_case(b"set"));
    let mut at = 2;
    while let (true, Some(name), Some(value)) = (is_set, args.get(at), args.get(at + 1)) {
        at += 2;
        let on = match value.to_ascii_lowercase().as_slice() {
            b"yes" => true,
            b"no" => false,
            // The setting itself says what is wrong.
            _ => continue,
        };
        let persistence = &connection.server.persistence;
        if !name.eq_ignore_ascii_case(b"appendonly") || persistence.aof().is_some() == on {
            continue;
        }
        let outcome = match persistence.switch_log(on) {
            Ok(outcome) => outcome
                .await
                .unwrap_or_else(|_| Err("the server stops".to_owned())),
            Err(text) => Err(text),
        };
        outcome.map_err(|text| {
            format!("ERR CONFIG SET failed (possibly related to argument 'appendonly') - {text}")
        })?;
    }
    Ok(())
}

/// SAVE: other clients are served meanwhile, this one waits.
async fn save(connection: &mut Connection, id: CommandId) -> Result<(), Close> {
    connection.barrier().await?;
    let started = std::time::Instant::now();
    let result = match connection.server.persistence.save() {
        Ok(outcome) => match outcome.await {
            Ok(Ok(())) => Ok(()),
            // What went wrong is in the log of the server, as in Redis.
            Ok(Err(())) | Err(_) => Err("ERR".to_owned()),
        },
        Err(text) => Err(text),
    };
    connection.write_reply(|reply| match &result {
        Ok(()) => reply.ok(),
        Err(text) => reply.error(text),
    });
    connection
        .server
        .note_command(&connection.shard, id, started.elapsed(), result.err());
    Ok(())
}

fn shutdown(connection: &mut Connection, args: Args<'_>) -> Result<(), Close> {
    let mut request = ShutdownRequest::default();
    for option in args.from(1).iter() {
        match option.to_ascii_lowercase().as_slice() {
            b"nosave" => request.save = Some(false),
            b"now" => request.now = true,
            b"force" => request.force = true,
            b"save" => request.save = Some(true),
            b"abort" if args.len() == 2 => {
                transaction::answer_error(connection, "ERR No shutdown in progress.");
                return Ok(());
            }
            _ => {
                transaction::answer_error(connection, SYNTAX);
                return Ok(());
            }
        }
    }
    let busy = &connection.server.scripts.busy;
    if let Some(text) = busy.text() {
        if request.save != Some(false) {
            connection.write_reply(|reply| reply.error(text));
            return Ok(());
        }
        busy.abandon();
    }
    connection.server.request_shutdown(request);
    // As in Redis, the connection closes without a reply when the server has stopped.
    connection
        .client
        .set_flag(ClientFlags::CloseAfterReply, true);
    connection.state.reply_mode = ReplyMode::Off;
    Ok(())
}
