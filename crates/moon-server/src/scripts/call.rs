//! EVAL, EVALSHA, FCALL and their forms that only read: from the request to the reply.
//!
//! A script is one step of the history, like a transaction. It runs against the shards of the
//! keys that it declares; alone on its connection's own shard it needs no message and joins the
//! turn. What has never run gets all shards, and what it touches is remembered. One that asks for
//! another shard's key later, before it has written anything, begins again with all shards.

use super::busy::{BusyGuard, BusyScript, Fate};
use super::cache::Origin;
use super::engine::{Found, ShardEngine};
use super::fiber::{Fiber, Step, on_own_stack};
use super::host::{Answer, Ask, Conditions, ScriptHost};
use super::refused::{How, Refused};
use super::{Kind, Scripts};
use crate::config::UndeclaredKeys;
use crate::connection::busy::{self, Busy};
use crate::connection::pause;
use crate::connection::{Close, Connection, run_server_command};
use moon_commands::{CommandId, Flags, by_id, parse};
use moon_core::{Lsn, ShardCount};
use moon_resp::{Args, OwnedArgs, Reply};
use moon_script::{Flags as ScriptFlags, RunError, ScriptSha, Stop};
use moon_shard::mailbox::ControlMessage;
use moon_shard::{Borrowed, Caller, ShardMask};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What is to run.
#[derive(Clone, Debug)]
enum Target {
    Script(ScriptSha),
    Function(String),
}

impl Target {
    fn kind(&self) -> Kind {
        match self {
            Target::Script(_) => Kind::Script,
            Target::Function(_) => Kind::Function,
        }
    }

    fn name(&self) -> &str {
        match self {
            Target::Script(sha) => sha.as_str(),
            Target::Function(name) => name,
        }
    }
}

/// A request that was read and may run.
struct Prepared {
    target: Target,
    flags: ScriptFlags,
    key_count: usize,
    /// Whether the request names a script and does not bring it.
    by_sha: bool,
}

/// How one run ended.
struct Ended {
    engine: Box<ShardEngine>,
    data: Box<Borrowed>,
    depends_on: Lsn,
    reply: Vec<u8>,
    /// Whether it asked for keys of shards that it did not declare.
    strayed: bool,
    result: Result<(), RunError>,
}

const NOSCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";
const READ_ONLY_COMMAND: &str = "ERR Can not execute a script with write flag using *_ro command.";
const OUT_OF_MEMORY: &str = "OOM allow-oom flag is not set on the script, can not run it when used \
                             memory > 'maxmemory'";

/// Runs a request and appends its reply to `out`. `data` is what a transaction has in hand, which
/// is given back; alone, the script gets its own. Returns what the reply depends on;
/// [`moon_store::THIS_TURN`] for a write of a transaction.
pub(super) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    data: &mut Option<Box<Borrowed>>,
    out: &mut Vec<u8>,
) -> Result<Lsn, Close> {
    let started = Instant::now();
    let start = out.len();
    let depends_on = match run_request(connection, id, args, data, out).await? {
        Ok(depends_on) => depends_on,
        Err(refused) => return Ok(refused.answer(connection, id, started, out, start)),
    };
    let server = &connection.server;
    server.note_command(&connection.shard, id, started.elapsed(), None);
    Ok(depends_on)
}

async fn run_request(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
    data: &mut Option<Box<Borrowed>>,
    out: &mut Vec<u8>,
) -> Result<Result<Lsn, Refused>, Close> {
    let scripts = Arc::clone(&connection.server.scripts);
    let mut engine = match ShardEngine::take() {
        Ok(engine) => engine,
        Err(text) => return Ok(Err(text.into())),
    };
    engine.follow_flush(&scripts);
    let (engine, prepared) = prepare(engine, &scripts, id, args);
    let prepared = prepared.and_then(|prepared| {
        may_run(connection, id, &prepared)?;
        Ok(prepared)
    });
    let keeps_to_its_keys = prepared.as_ref().is_ok_and(|prepared| {
        let name = prepared.target.name().as_bytes();
        engine.keeps_to_its_keys(prepared.target.kind(), name)
    });
    // Others may run something before the data is in hand.
    engine.put_back();
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(text) => {
            let depends_on = match by_id(id).name {
                // That there is no such function, or one with such flags, shows the libraries.
                "fcall" | "fcall_ro" => shown_libraries(connection),
                _ => Lsn::ZERO,
            };
            return Ok(Err(Refused {
                depends_on,
                ..text.into()
            }));
        }
    };
    let kind = prepared.target.kind();
    let declared = declared(connection, args, prepared.key_count);
    let all = ShardMask::all(connection.shard.count());
    let mut mask = match connection.server.settings.script_undeclared_keys() {
        UndeclaredKeys::Refuse => declared,
        // The first run has all shards: once something is written it is too late to ask for more.
        UndeclaredKeys::Retry if keeps_to_its_keys => declared,
        UndeclaredKeys::Retry | UndeclaredKeys::All => all,
    };
    if data.is_none() && !is_read_only(id) && !prepared.flags.contains(ScriptFlags::NO_WRITES) {
        // As EXEC does; a key that it does not declare is encoded when it is written to.
        let keys = args.from(3);
        let keys = keys.iter().take(prepared.key_count);
        connection.wait_for_walk_of(keys).await;
    }
    let request: Rc<OwnedArgs> = Rc::new(args.into());
    loop {
        let out_of_memory = !connection.shard.has_memory();
        let (mut in_hand, alone) = match data.take() {
            Some(in_hand) => (in_hand, false),
            None => match acquire(connection, mask, !is_read_only(id)).await? {
                Ok(in_hand) => (in_hand, true),
                Err(busy) => return Ok(Err(busy.into())),
            },
        };
        in_hand.set_caller(Caller {
            in_script: true,
            ..connection.caller()
        });
        // What a script says to others is said when it is over.
        connection.hub.begin_unit();
        let depends_on_libraries = match kind {
            Kind::Script => Lsn::ZERO,
            Kind::Function => shown_libraries(connection),
        };
        let conditions = conditions(connection, id, &prepared, declared, out_of_memory);
        let Ended {
            mut engine,
            data: in_hand,
            depends_on,
            reply,
            strayed,
            result,
        } = drive(connection, in_hand, conditions, &prepared, &request).await?;
        let again = matches!(
            result,
            Err(RunError::Stopped {
                stop: Stop::RunAgain,
                ..
            })
        );
        if connection.shard.count() != ShardCount::ONE {
            engine.learn(kind, prepared.target.name().as_bytes(), strayed);
        }
        if again {
            mask = all;
        }
        connection
            .server
            .scripts
            .note_memory(&connection.shard, &engine);
        engine.put_back();
        let end = if alone {
            in_hand.commit()
        } else {
            *data = Some(in_hand);
            moon_store::THIS_TURN
        };
        let depends_on = match depends_on {
            moon_store::THIS_TURN => end,
            depends_on => depends_on.max(depends_on_libraries),
        };
        if again && alone {
            // Nothing has happened yet; what was told of misses is told by the next run.
            drop(connection.hub.set_unit_aside());
            continue;
        }
        connection.hub.end_unit(depends_on);
        return Ok(match result {
            Ok(()) => {
                out.extend_from_slice(&reply);
                Ok(depends_on)
            }
            Err(RunError::NotFound) if kind == Kind::Script => Err(NOSCRIPT.into()),
            Err(error) => Err(Refused {
                text: error.text().to_vec(),
                how: match error {
                    RunError::Failed { counted: true, .. } => How::FailedInside,
                    _ => How::Failed,
                },
                depends_on,
            }),
        });
    }
}

/// Reads the request and finds what it names, which may have to be compiled.
fn prepare(
    engine: Box<ShardEngine>,
    scripts: &Arc<Scripts>,
    id: CommandId,
    args: Args<'_>,
) -> (Box<ShardEngine>, Result<Prepared, String>) {
    match by_id(id).name {
        "fcall" | "fcall_ro" => prepare_function(engine, scripts, args),
        name => prepare_script(engine, scripts, args, name.starts_with("evalsha")),
    }
}

fn key_count(args: Args<'_>, not_a_number: &str) -> Result<usize, String> {
    let count = parse::canonical_integer(args.at(2)).ok_or(not_a_number)?;
    let behind = args.len() - 3;
    if count < 0 {
        return Err("ERR Number of keys can't be negative".to_owned());
    }
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= behind)
        .ok_or_else(|| "ERR Number of keys can't be greater than number of args".to_owned())
}

fn prepare_script(
    mut engine: Box<ShardEngine>,
    scripts: &Arc<Scripts>,
    args: Args<'_>,
    by_sha: bool,
) -> (Box<ShardEngine>, Result<Prepared, String>) {
    let sha = match by_sha {
        true => ScriptSha::parse(args.at(1)),
        false => Some(ScriptSha::of(args.at(1))),
    };
    // A digest of another length is none before anything else is looked at.
    if by_sha && args.at(1).len() != 40 {
        return (engine, Err(NOSCRIPT.to_owned()));
    }
    let key_count = match key_count(args, "ERR value is not an integer or out of range") {
        Ok(count) => count,
        Err(text) => return (engine, Err(text)),
    };
    let Some(sha) = sha else {
        return (engine, Err(NOSCRIPT.to_owned()));
    };
    let to_load = match engine.find(scripts, &sha) {
        Found::Here => None,
        Found::Elsewhere(body, origin) => Some((body, origin)),
        Found::Nowhere if by_sha => return (engine, Err(NOSCRIPT.to_owned())),
        Found::Nowhere => Some((args.at(1).into(), Origin::Evaluated)),
    };
    if let Some((body, origin)) = to_load {
        let scripts = Arc::clone(scripts);
        let load = move || {
            let loaded = engine.load(&scripts, &body, origin);
            (engine, loaded)
        };
        let (back, loaded) = on_own_stack(load);
        engine = back;
        if let Err(error) = loaded {
            return (engine, Err(format!("ERR {error}")));
        }
    }
    let flags = engine.lua.flags(&sha).unwrap_or_default();
    let target = Target::Script(sha);
    let prepared = Prepared {
        target,
        flags,
        key_count,
        by_sha,
    };
    (engine, Ok(prepared))
}

fn prepare_function(
    engine: Box<ShardEngine>,
    scripts: &Arc<Scripts>,
    args: Args<'_>,
) -> (Box<ShardEngine>, Result<Prepared, String>) {
    let engine = current(engine, scripts);
    let name = String::from_utf8_lossy(args.at(1)).into_owned();
    let Some(function) = engine.lua.function(&name) else {
        return (engine, Err("ERR Function not found".to_owned()));
    };
    let flags = function.flags;
    let prepared = key_count(args, "ERR Bad number of keys provided").map(|key_count| Prepared {
        target: Target::Function(name),
        flags,
        key_count,
        by_sha: false,
    });
    (engine, prepared)
}

/// The engine with the libraries of the process.
pub(super) fn current(mut engine: Box<ShardEngine>, scripts: &Arc<Scripts>) -> Box<ShardEngine> {
    if engine.is_current(scripts) {
        return engine;
    }
    let scripts = Arc::clone(scripts);
    on_own_stack(move || {
        engine.follow_libraries(&scripts);
        engine
    })
}

/// What a reply depends on that shows the libraries. Asked while this shard's data is at home or in
/// hand.
pub(super) fn shown_libraries(connection: &Connection) -> Lsn {
    let functions = &connection.server.scripts.functions;
    functions.depends_on(|| connection.shard.clock().head())
}

fn is_read_only(id: CommandId) -> bool {
    by_id(id).flags.contains(Flags::READONLY)
}

/// What is known before it runs, of a script that says what it does. One that says nothing is
/// looked at command by command.
fn may_run(connection: &Connection, id: CommandId, prepared: &Prepared) -> Result<(), String> {
    let flags = prepared.flags;
    if flags.contains(ScriptFlags::COMPATIBLE) || flags.contains(ScriptFlags::NO_WRITES) {
        return Ok(());
    }
    if let Some(misconf) = connection.shard.refuses_writes() {
        return Err(misconf.to_string());
    }
    if is_read_only(id) {
        return Err(READ_ONLY_COMMAND.to_owned());
    }
    if !flags.contains(ScriptFlags::ALLOW_OOM) && !connection.shard.has_memory() {
        return Err(OUT_OF_MEMORY.to_owned());
    }
    Ok(())
}

/// The shards of the declared keys, with the connection's own.
fn declared(connection: &Connection, args: Args<'_>, key_count: usize) -> ShardMask {
    let count = connection.shard.count();
    let own = ShardMask::default().with(connection.shard.id());
    if count == ShardCount::ONE {
        return own;
    }
    let keys = args.from(3).iter().take(key_count);
    keys.fold(own, |mask, key| mask.with(count.shard_of_key(key)))
}

/// The data of the shards in `mask`, in a box because it passes through many hands: taken out of its
/// place where it is this shard's alone. What `writes` waits for the end of a pause of writes.
/// Nothing waits for a script that takes long.
pub(crate) async fn acquire(
    connection: &mut Connection,
    mask: ShardMask,
    writes: bool,
) -> Result<Result<Box<Borrowed>, Busy>, Close> {
    let own = ShardMask::default().with(connection.shard.id());
    let shard = Rc::clone(&connection.shard);
    if mask.union(own) != own {
        connection.barrier().await?;
        pause::wait(connection, writes).await?;
        return Ok(busy::borrow(connection, mask).await.map(Box::new));
    }
    loop {
        pause::wait(connection, writes).await?;
        if let Some(data) = shard.take() {
            return Ok(Ok(Box::new(data)));
        }
        if let Err(busy) = busy::ready(connection).await {
            return Ok(Err(busy));
        }
    }
}

fn conditions(
    connection: &Connection,
    id: CommandId,
    prepared: &Prepared,
    declared: ShardMask,
    out_of_memory: bool,
) -> Conditions {
    let settings = &connection.server.settings;
    let flags = prepared.flags;
    let says = !flags.contains(ScriptFlags::COMPATIBLE);
    let threshold_ms = settings.busy_reply_threshold_ms.load(Relaxed);
    let misconf = connection.shard.refuses_writes();
    Conditions {
        shards: connection.shard.count(),
        declared,
        db: connection.state.db,
        read_only: is_read_only(id) || says && flags.contains(ScriptFlags::NO_WRITES),
        allow_oom: says && flags.contains(ScriptFlags::ALLOW_OOM),
        out_of_memory,
        misconf: misconf.map(|misconf| misconf.to_string()),
        undeclared: settings.script_undeclared_keys(),
        threshold: (threshold_ms > 0).then(|| Duration::from_millis(threshold_ms)),
        fate: Arc::new(Fate::default()),
    }
}

/// Runs it on the second stack to its end, and answers what it asks meanwhile. Unless the process
/// ends first.
async fn drive(
    connection: &mut Connection,
    data: Box<Borrowed>,
    conditions: Conditions,
    prepared: &Prepared,
    request: &Rc<OwnedArgs>,
) -> Result<Ended, Close> {
    let fate = Arc::clone(&conditions.fate);
    let scripts = Arc::clone(&connection.server.scripts);
    let since = Instant::now();
    let mut busy: Option<BusyGuard> = None;
    let mut woken = since;
    let mut fiber = start(connection, data, conditions, prepared, Rc::clone(request));
    let mut answer = Answer::GoOn;
    loop {
        let ask = match fiber.resume(answer) {
            Step::Done(ended) => return Ok(ended),
            Step::Asks(ask) => ask,
        };
        answer = match ask {
            Ask::Command {
                id,
                request,
                db,
                protocol,
            } => {
                let mut reply = Vec::new();
                let before = (connection.state.db, connection.state.protocol);
                (connection.state.db, connection.state.protocol) = (db, protocol);
                let args = request.as_args();
                let depends_on = run_server_command(connection, id, args, &mut reply);
                (connection.state.db, connection.state.protocol) = before;
                Answer::Reply(reply, depends_on)
            }
            Ask::LetOthersRun => {
                if busy.is_none() {
                    let target = &prepared.target;
                    tracing::warn!(
                        "Slow script detected: still in execution after {} milliseconds. You can \
                         try killing the script using the {} command. Script name is: {}.",
                        since.elapsed().as_millis(),
                        match target.kind() {
                            Kind::Script => "SCRIPT KILL",
                            Kind::Function => "FUNCTION KILL",
                        },
                        target.name()
                    );
                    busy = Some(scripts.busy.enter(BusyScript {
                        kind: target.kind(),
                        name: target.name().to_owned(),
                        request: request.as_args().into(),
                        since,
                        fate: Arc::clone(&fate),
                    }));
                    wake_all(connection);
                    woken = Instant::now();
                } else if woken.elapsed() >= WAKE_AGAIN {
                    wake_all(connection);
                    woken = Instant::now();
                }
                let unit = connection.hub.set_unit_aside();
                tokio::task::yield_now().await;
                if scripts.busy.is_abandoned() {
                    // The process ends. The data stays with the script, so that nothing of what
                    // it did is ever issued or shown.
                    return Err(Close::Now);
                }
                connection.hub.take_unit_back(unit);
                match fate.is_killed() {
                    true => Answer::Kill,
                    false => Answer::GoOn,
                }
            }
        };
    }
}

/// How often those who wait are woken again: a command may have been sent to another shard in the
/// moment in which it became known that the script takes long.
const WAKE_AGAIN: Duration = Duration::from_millis(100);

/// Connections that wait for data look again, and answer BUSY.
fn wake_all(connection: &Connection) {
    let directory = connection.shard.directory();
    for shard in connection.shard.count().ids() {
        let look = Box::new(|shard: &Rc<moon_shard::Shard>| shard.look_again());
        directory.of(shard).send_control(ControlMessage::Run(look));
    }
}

fn start(
    connection: &Connection,
    data: Box<Borrowed>,
    conditions: Conditions,
    prepared: &Prepared,
    request: Rc<OwnedArgs>,
) -> Fiber<Ended> {
    let scripts = Arc::clone(&connection.server.scripts);
    let protocol = connection.state.protocol;
    let target = prepared.target.clone();
    let key_count = prepared.key_count;
    // Others may have run in between, and emptied or changed what the engine had.
    let mut engine = ShardEngine::take().expect("whoever has data in hand has left the engine");
    let by_sha = prepared.by_sha;
    Fiber::new(move |asks| {
        let mut host = ScriptHost::new(asks, data, conditions);
        host.data.begin_transaction();
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, protocol);
        let args = request.as_args();
        let keys = args.from(3).iter().take(key_count);
        let rest = args.from(3 + key_count).iter();
        let result = match &target {
            Target::Script(sha) => {
                if !by_sha && !engine.lua.exists(sha) {
                    // It was flushed since. It can be compiled, so that is no error now.
                    drop(engine.load(&scripts, args.at(1), Origin::Evaluated));
                }
                engine.lua.run(sha, keys, rest, &mut host, &mut reply)
            }
            Target::Function(name) => {
                // Whoever changes libraries holds all data, so now none is on its way.
                engine.follow_libraries(&scripts);
                engine.lua.call(name, keys, rest, &mut host, &mut reply)
            }
        };
        Ended {
            engine,
            depends_on: host.depends_on,
            strayed: host.strayed,
            data: host.data,
            reply: out,
            result,
        }
    })
}
