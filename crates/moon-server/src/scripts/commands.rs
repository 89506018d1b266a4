//! SCRIPT and FUNCTION.
//!
//! What changes libraries is a step over all shards: the code is tried in the engine of this shard
//! while all data is in hand, then it becomes data and effect, then all shards see it.

use super::cache::Origin;
use super::engine::ShardEngine;
use super::fiber::on_own_stack;
use super::host::LoadHost;
use super::refused::Refused;
use super::{Kind, Scripts, call, changes_libraries};
use crate::connection::busy;
use crate::connection::{Close, Connection};
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::libraries::{LoadRequest, RestoreRequest, dump_payload};
use moon_commands::{CommandId, Flags, by_id, glob, subcommands};
use moon_core::{Lsn, ShardId};
use moon_resp::{Args, Reply};
use moon_script::{Library, ScriptSha};
use moon_shard::mailbox::ControlMessage;
use moon_shard::{Borrowed, Shard, ShardMask};
use moon_store::{Libraries, THIS_TURN};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Runs a subcommand and appends its reply to `out`. As [`super::run_in`].
pub(super) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    data: &mut Option<Box<Borrowed>>,
    out: &mut Vec<u8>,
) -> Result<Lsn, Close> {
    let started = Instant::now();
    let start = out.len();
    if changes_libraries(id, args) {
        return Ok(match change(connection, id, args, data, out).await? {
            // The command itself has told of its run.
            Ok(depends_on) => depends_on,
            Err(refused) => refused.answer(connection, id, started, out, start),
        });
    }
    if data.is_none() {
        // While the data is at home nobody is changing libraries. What may run beside a script that
        // takes long does not wait for it.
        let _ready = busy::ready(connection).await;
    }
    let depends_on = match answer(connection, id, args, out) {
        Ok(depends_on) => depends_on,
        Err(text) => {
            let refused = Refused::from(text);
            return Ok(refused.answer(connection, id, started, out, start));
        }
    };
    let server = &connection.server;
    server.note_command(&connection.shard, id, started.elapsed(), None);
    Ok(depends_on)
}

fn answer(
    connection: &Connection,
    id: CommandId,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Result<Lsn, String> {
    let scripts = &connection.server.scripts;
    let container = by_id(id).name;
    let spec = subcommands::resolve(container, args).map_err(|e| e.text().to_owned())?;
    let mut reply = Reply::new(out, connection.state.protocol);
    let reply = &mut reply;
    match spec.name {
        "script|load" => {
            let sha = load_script(scripts, &connection.shard, args.at(2))?;
            reply.bulk(sha.as_bytes());
        }
        "script|exists" => {
            reply.array(args.len() - 2);
            for digest in args.from(2).iter() {
                let sha = ScriptSha::parse(digest);
                reply.integer(sha.is_some_and(|sha| scripts.cache.contains(&sha)).into());
            }
        }
        "script|flush" => {
            flush_mode(args, "SCRIPT FLUSH only support SYNC|ASYNC option")?;
            scripts.cache.flush();
            forget_everywhere(connection);
            reply.ok();
        }
        "script|kill" => {
            scripts.busy.kill(Kind::Script)?;
            reply.ok();
        }
        "function|kill" => {
            scripts.busy.kill(Kind::Function)?;
            reply.ok();
        }
        "script|debug" => match args.at(2).to_ascii_lowercase().as_slice() {
            b"no" => reply.ok(),
            b"yes" | b"sync" => return Err("ERR There is no debugger of scripts here".to_owned()),
            _ => return Err("ERR Use SCRIPT DEBUG YES/SYNC/NO".to_owned()),
        },
        "function|dump" => {
            let (libraries, _) = scripts.functions.get();
            reply.bulk(&dump_payload(&libraries));
            return Ok(call::shown_libraries(connection));
        }
        "function|list" => {
            list(connection, args, reply)?;
            return Ok(call::shown_libraries(connection));
        }
        "function|stats" => {
            stats(scripts, reply)?;
            return Ok(call::shown_libraries(connection));
        }
        _ => subcommands::help_reply(reply, container),
    }
    Ok(Lsn::ZERO)
}

fn flush_mode(args: Args<'_>, text: &str) -> Result<(), String> {
    let is_mode =
        |word: &[u8]| word.eq_ignore_ascii_case(b"sync") || word.eq_ignore_ascii_case(b"async");
    match args.get(2) {
        None => Ok(()),
        Some(word) if args.len() == 3 && is_mode(word) => Ok(()),
        Some(_) => Err(format!("ERR {text}")),
    }
}

fn load_script(scripts: &Arc<Scripts>, shard: &Shard, body: &[u8]) -> Result<ScriptSha, String> {
    let mut engine = ShardEngine::take()?;
    engine.follow_flush(scripts);
    let (body, for_engine) = (body.to_vec(), Arc::clone(scripts));
    let (engine, loaded) = on_own_stack(move || {
        let loaded = engine.load(&for_engine, &body, Origin::Loaded);
        (engine, loaded)
    });
    scripts.note_memory(shard, &engine);
    engine.put_back();
    loaded.map_err(|error| format!("ERR {error}"))
}

/// Has the engines of all shards forget their scripts soon; before they run one, they do so in any
/// case.
fn forget_everywhere(connection: &Connection) {
    for shard in connection.shard.count().ids() {
        let scripts = Arc::clone(&connection.server.scripts);
        let forget = move |shard: &Rc<Shard>| {
            if let Some(mut engine) = ShardEngine::take_made() {
                engine.follow_flush(&scripts);
                scripts.note_memory(shard, &engine);
                engine.put_back();
            }
        };
        let mailbox = connection.shard.directory().of(shard);
        mailbox.send_control(ControlMessage::Run(Box::new(forget)));
    }
}

/// What FUNCTION LIST was asked for.
#[derive(Default)]
struct ListOptions<'a> {
    pattern: Option<&'a [u8]>,
    with_code: bool,
}

impl<'a> ListOptions<'a> {
    fn parse(args: Args<'a>) -> Result<ListOptions<'a>, String> {
        let mut options = ListOptions::default();
        let mut at = 2;
        while let Some(option) = args.get(at) {
            at += 1;
            if !options.with_code && option.eq_ignore_ascii_case(b"withcode") {
                options.with_code = true;
            } else if options.pattern.is_none() && option.eq_ignore_ascii_case(b"libraryname") {
                let pattern = args.get(at);
                let missing = "ERR library name argument was not given";
                options.pattern = Some(pattern.ok_or(missing)?);
                at += 1;
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Unknown argument {option}"));
            }
        }
        Ok(options)
    }
}

fn list(connection: &Connection, args: Args<'_>, reply: &mut Reply<'_>) -> Result<(), String> {
    let options = ListOptions::parse(args)?;
    let engine = call::current(ShardEngine::take()?, &connection.server.scripts);
    let is_meant = |library: &&Library| {
        options.pattern.is_none_or(|pattern| {
            glob::matches(pattern, library.name.as_bytes(), glob::Case::Insensitive)
        })
    };
    let found: Vec<&Library> = engine.lua.libraries().filter(is_meant).collect();
    reply.array(found.len());
    for library in found {
        write_library(reply, library, options.with_code);
    }
    engine.put_back();
    Ok(())
}

fn write_library(reply: &mut Reply<'_>, library: &Library, with_code: bool) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(library.name.as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        match &function.description {
            Some(text) => reply.bulk(text),
            None => reply.null(),
        }
        reply.bulk(b"flags");
        reply.set(function.flags.names().count());
        for flag in function.flags.names() {
            reply.simple(flag);
        }
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.code);
    }
}

fn stats(scripts: &Scripts, reply: &mut Reply<'_>) -> Result<(), String> {
    let running = scripts.busy.first();
    if running
        .as_ref()
        .is_some_and(|script| script.kind == Kind::Script)
        && let Some(text) = scripts.busy.text()
    {
        return Err(text.to_owned());
    }
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(script) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(script.name.as_bytes());
            reply.bulk(b"command");
            let request = script.request.as_args();
            reply.array(request.len());
            for arg in request.iter() {
                reply.bulk(arg);
            }
            reply.bulk(b"duration_ms");
            let taken = script.since.elapsed().as_millis();
            reply.integer(i64::try_from(taken).unwrap_or(i64::MAX));
        }
    }
    let (libraries, functions, _) = scripts.functions.counts();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    for (name, count) in [
        ("libraries_count", libraries),
        ("functions_count", functions),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
    Ok(())
}

/// FUNCTION LOAD, DELETE, FLUSH and RESTORE.
async fn change(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    data: &mut Option<Box<Borrowed>>,
    out: &mut Vec<u8>,
) -> Result<Result<Lsn, Refused>, Close> {
    let spec = subcommands::row_of(by_id(id), args);
    let grows = spec.flags.contains(Flags::DENYOOM);
    if data.is_none() && grows && !connection.shard.has_memory() {
        return Ok(Err(Refused::rejected(OUT_OF_MEMORY)));
    }
    let all = ShardMask::all(connection.shard.count());
    let (mut in_hand, alone) = match data.take() {
        Some(in_hand) => (in_hand, false),
        None => match call::acquire(connection, all, spec.is_write()).await? {
            Ok(in_hand) => (in_hand, true),
            Err(busy) => return Ok(Err(busy.into())),
        },
    };
    let scripts = Arc::clone(&connection.server.scripts);
    let (db, protocol) = (connection.state.db, connection.state.protocol);
    // An error shows which libraries there are, too.
    let shown = call::shown_libraries(connection);
    let tried = try_out(&scripts, spec.name, args, libraries(&mut in_hand));
    let done = match tried {
        Ok(mut engine) => {
            let depends_on = in_hand.execute_as(spec, id, args, db, protocol, out);
            let mut version = scripts.functions.version();
            if depends_on == THIS_TURN {
                version = scripts.functions.replace(libraries(&mut in_hand).clone());
                engine.note_version(&scripts, version);
            } else {
                engine.forget_version();
            }
            scripts.note_memory(&connection.shard, &engine);
            engine.put_back();
            // What is written is above all of it: THIS_TURN stays what it is.
            Ok((depends_on.max(shown), version))
        }
        Err(text) => Err(Refused {
            depends_on: shown,
            ..text.into()
        }),
    };
    if !alone {
        *data = Some(in_hand);
        return Ok(done.map(|(depends_on, _)| depends_on));
    }
    let end = match in_hand.commit() {
        // Others may show the libraries before this turn is over.
        THIS_TURN => connection.shard.end_turn(),
        end => end,
    };
    Ok(done.map(|(depends_on, version)| {
        if depends_on != THIS_TURN {
            return depends_on;
        }
        scripts.functions.ended(version, end);
        end
    }))
}

fn libraries(data: &mut Borrowed) -> &mut Libraries {
    let first = data.data(ShardId(0));
    &mut first.expect("all shards are in hand").libraries
}

/// Has the engine take over what the request makes of `libraries`.
fn try_out(
    scripts: &Arc<Scripts>,
    name: &str,
    args: Args<'_>,
    libraries: &Libraries,
) -> Result<Box<ShardEngine>, String> {
    let engine = call::current(ShardEngine::take()?, scripts);
    let (engine, tried) = match name {
        "function|load" => match LoadRequest::parse(args) {
            Ok(request) => try_load(engine, request),
            Err(error) => (engine, Err(error.text().to_owned())),
        },
        "function|restore" => {
            let request = RestoreRequest::parse(args);
            match request.and_then(|request| request.applied_to(libraries)) {
                Ok(wanted) => try_all(engine, wanted),
                Err(error) => (engine, Err(error.text().to_owned())),
            }
        }
        "function|delete" => {
            let mut engine = engine;
            engine
                .lua
                .delete_library(&String::from_utf8_lossy(args.at(2)));
            (engine, Ok(()))
        }
        // If the words behind it are wrong, the version says that the engine has others.
        _ => {
            let mut engine = engine;
            engine.lua.flush_libraries();
            (engine, Ok(()))
        }
    };
    match tried {
        Ok(()) => Ok(engine),
        Err(text) => {
            engine.put_back();
            Err(text)
        }
    }
}

type Tried = (Box<ShardEngine>, Result<(), String>);

fn try_load(mut engine: Box<ShardEngine>, request: LoadRequest<'_>) -> Tried {
    let LoadRequest { replace, code } = request;
    let code = code.to_vec();
    on_own_stack(move || {
        let loaded = engine
            .lua
            .load_library(&code, replace, &mut LoadHost::new());
        let tried = loaded.map(drop).map_err(|error| format!("ERR {error}"));
        (engine, tried)
    })
}

fn try_all(mut engine: Box<ShardEngine>, wanted: Libraries) -> Tried {
    on_own_stack(move || {
        let failed = engine.change_to(&wanted, &mut LoadHost::new());
        let tried = match failed.first() {
            None => Ok(()),
            Some((_, error)) => {
                engine.forget_version();
                Err(format!("ERR {error}"))
            }
        };
        (engine, tried)
    })
}
