//! DEBUG: what suites that test clients or servers ask for. Only with `enable-debug-command`.
//!
//! Subcommands that need no data answer at once, also inside MULTI; the others borrow the data of
//! the shards they look at.
//! * [`plain`]: the former.
//! * [`protocol`]: DEBUG PROTOCOL, a reply of each type.

mod plain;
mod protocol;

use super::commands::refuses;
use super::pipeline::{Close, Connection};
use crate::config::DebugCommand;
use moon_commands::debug::{self as data, digest::Digest};
use moon_commands::{CommandId, lookup};
use moon_core::Lsn;
use moon_resp::{Args, OwnedArgs, Reply};
use moon_shard::mailbox::ControlMessage;
use moon_shard::{Borrowed, ShardMask};
use moon_store::{DbIndex, Key, ShardData, Value};
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::oneshot;

const NOT_ALLOWED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is \
    set to \"local\", you can run it from a local connection, otherwise you need to set this \
    option in the configuration file, and then restart the server.";
const NO_SUCH_KEY: &str = "ERR no such key";

/// Whether this client may use DEBUG.
///
/// # Errors
/// The error reply.
fn allow(connection: &Connection) -> Result<(), String> {
    let allowed = match connection.server.config.snapshot().enable_debug_command {
        DebugCommand::No => false,
        DebugCommand::Yes => true,
        DebugCommand::Local => connection.client.peer.is_local(),
    };
    allowed.then_some(()).ok_or_else(|| NOT_ALLOWED.to_owned())
}

/// Runs DEBUG inside EXEC, where nothing can be waited for.
///
/// # Errors
/// The error reply.
pub(super) fn answer(
    connection: &Connection,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    allow(connection)?;
    if plain::answer(args, reply)? {
        return Ok(());
    }
    Err(format!(
        "ERR DEBUG {} is not available inside a transaction",
        String::from_utf8_lossy(args.at(1)).to_ascii_uppercase()
    ))
}

/// Runs DEBUG.
pub(super) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    connection.barrier().await?;
    let started = Instant::now();
    let mut out = Vec::new();
    let (depends_on, result) = dispatch(connection, args, &mut out).await;
    if let Err(text) = &result {
        out.clear();
        Reply::new(&mut out, connection.state.protocol).error(text);
    }
    connection.write_dependent_reply(depends_on, |reply| reply.raw(&out));
    connection
        .server
        .note_command(&connection.shard, id, started.elapsed(), result.err());
    connection.flush();
    Ok(())
}

/// A subcommand that looks at data which it borrows.
enum Look<'a> {
    Object(&'a [u8]),
    Listpack(&'a [u8]),
    TableOf(&'a [u8]),
    DigestOf(Args<'a>),
    Tables(DbIndex),
    Digest,
    Reload,
}

impl<'a> Look<'a> {
    /// `None` for another subcommand.
    fn parse(connection: &Connection, args: Args<'a>) -> Result<Option<Look<'a>>, String> {
        let subcommand = args.at(1).to_ascii_lowercase();
        Ok(Some(match (subcommand.as_slice(), args.get(2)) {
            (b"object", Some(key)) if args.len() == 3 => Look::Object(key),
            (b"listpack", Some(key)) if args.len() == 3 => Look::Listpack(key),
            (b"htstats-key", Some(key)) if args.len() == 3 => Look::TableOf(key),
            (b"htstats", Some(db)) => Look::Tables(database(connection, db)?),
            (b"digest-value", _) => Look::DigestOf(args.from(2)),
            (b"digest", None) => Look::Digest,
            (b"reload", _) => {
                check_reload_options(args)?;
                Look::Reload
            }
            _ => return Ok(None),
        }))
    }

    /// The shards whose data it looks at.
    fn shards(&self, connection: &Connection) -> ShardMask {
        let count = connection.shard.count();
        let with = |mask: ShardMask, key: &[u8]| mask.with(count.shard_of_key(key));
        match self {
            Look::Object(key) | Look::Listpack(key) | Look::TableOf(key) => {
                with(ShardMask::default(), key)
            }
            Look::DigestOf(keys) => keys.iter().fold(ShardMask::default(), with),
            Look::Tables(_) | Look::Digest | Look::Reload => ShardMask::all(count),
        }
    }

    fn answer(
        &self,
        connection: &Connection,
        borrowed: &mut Borrowed,
        reply: &mut Reply<'_>,
    ) -> Result<(), String> {
        let db = connection.state.db;
        match self {
            Look::Object(key) => {
                let now_s = u64::try_from(borrowed.now().0 / 1000).unwrap_or(0);
                let key = Key::new(key);
                let limits = borrowed.limits();
                let shard = shard_of(borrowed, connection, key);
                let text = data::object(shard, db, key, now_s, &limits);
                reply.simple(&text.ok_or(NO_SUCH_KEY)?);
            }
            Look::Listpack(key) => {
                if found(borrowed, connection, key)?.encoding() != "listpack" {
                    return Err("ERR Not a listpack encoded object.".to_owned());
                }
                reply.simple("Listpack structure printed on stdout");
            }
            Look::TableOf(key) => {
                let text = table_of(found(borrowed, connection, key)?)?;
                reply.verbatim("txt", text.as_bytes());
            }
            Look::DigestOf(keys) => {
                reply.array(keys.len());
                for key in keys.iter() {
                    let key = Key::new(key);
                    let found = shard_of(borrowed, connection, key).db(db).get(key);
                    let digest = found.map(|(value, at)| Digest::of_value(value, at));
                    reply.simple(&digest.unwrap_or_default().to_string());
                }
            }
            Look::Tables(db) => {
                let text = data::table_stats(borrowed.all(), *db);
                reply.verbatim("txt", text.as_bytes());
            }
            Look::Digest => {
                let shards: Vec<&ShardData> = borrowed.all().collect();
                reply.simple(&Digest::of_keyspace(&shards).to_string());
            }
            Look::Reload => {
                reload(borrowed, connection)?;
                reply.ok();
            }
        }
        Ok(())
    }
}

/// Writes the reply, unless it is an error, and returns what it depends on.
async fn dispatch(
    connection: &Connection,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> (Lsn, Result<(), String>) {
    if let Err(text) = allow(connection) {
        return (Lsn::ZERO, Err(text));
    }
    let mut reply = Reply::new(out, connection.state.protocol);
    let look = match Look::parse(connection, args) {
        Ok(Some(look)) => look,
        Ok(None) => {
            let result = act(connection, args, &mut reply).await;
            return match result {
                Ok(depends_on) => (depends_on, Ok(())),
                Err(text) => (Lsn::ZERO, Err(text)),
            };
        }
        Err(text) => return (Lsn::ZERO, Err(text)),
    };
    let mask = look.shards(connection);
    let mut borrowed = connection.shard.borrow(mask).await;
    // Everything that the answer may show, that of an error too, has been issued.
    let depends_on = connection.shard.clock().head();
    (
        depends_on,
        look.answer(connection, &mut borrowed, &mut reply),
    )
}

/// Runs a subcommand that does not look at data, and returns what its reply depends on.
async fn act(
    connection: &Connection,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Lsn, String> {
    let subcommand = args.at(1).to_ascii_lowercase();
    let mut depends_on = Lsn::ZERO;
    match (subcommand.as_slice(), args.len()) {
        (b"set-active-expire", 3) => {
            set_active_expire(connection, args.at(2) != b"0").await;
            reply.ok();
        }
        (b"populate", 3..=5) => {
            depends_on = populate(connection, args).await?;
            reply.ok();
        }
        _ if plain::answer(args, reply)? => {}
        _ => return Err(unknown(args)),
    }
    Ok(depends_on)
}

fn unknown(args: Args<'_>) -> String {
    const SHOWN_MAX: usize = 128;
    let name = args.at(1);
    let name = String::from_utf8_lossy(&name[..name.len().min(SHOWN_MAX)]);
    format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP.")
}

/// The shard of a key, which was borrowed.
fn shard_of<'b>(
    borrowed: &'b mut Borrowed,
    connection: &Connection,
    key: Key<'_>,
) -> &'b mut ShardData {
    let shard = connection.shard.count().shard_of_key(key.bytes);
    borrowed
        .data(shard)
        .expect("the shards of the keys were borrowed")
}

fn found<'b>(
    borrowed: &'b mut Borrowed,
    connection: &Connection,
    key: &[u8],
) -> Result<&'b Value, String> {
    let key = Key::new(key);
    let shard = shard_of(borrowed, connection, key);
    let found = shard.db(connection.state.db).get(key);
    found
        .map(|(value, _)| value)
        .ok_or_else(|| NO_SUCH_KEY.to_owned())
}

/// HTSTATS-KEY: how many elements a value in the large form has.
fn table_of(value: &Value) -> Result<String, String> {
    let len = match value {
        Value::Set(set) if value.encoding() == "hashtable" => set.len(),
        Value::Hash(hash) if value.encoding() == "hashtable" => hash.len(),
        Value::ZSet(zset) if value.encoding() == "skiplist" => zset.len(),
        _ => {
            return Err(
                "ERR The value stored at the specified key is not represented using an \
                        hash table"
                    .to_owned(),
            );
        }
    };
    Ok(format!(
        "Hash table 0 stats (main hash table):\n number of elements: {len}\n"
    ))
}

fn database(connection: &Connection, index: &[u8]) -> Result<DbIndex, String> {
    let index = moon_commands::parse::integer(index).map_err(|e| e.text().to_owned())?;
    DbIndex::try_from(index)
        .ok()
        .filter(|db| *db < connection.server.databases())
        .ok_or_else(|| "ERR Out of range database".to_owned())
}

/// On every shard, before this returns.
async fn set_active_expire(connection: &Connection, on: bool) {
    let mut done = Vec::new();
    for shard in connection.shard.count().ids() {
        let (told, heard) = oneshot::channel::<()>();
        done.push(heard);
        let set = Box::new(move |shard: &Rc<moon_shard::Shard>| {
            shard.set_active_expire(on);
            drop(told);
        });
        let mailbox = connection.shard.directory().of(shard);
        mailbox.send_control(ControlMessage::Run(set));
    }
    for heard in done {
        // It ends with an error, because nothing is ever sent but that it is done.
        drop(heard.await);
    }
}

/// What is loaded is what was saved a moment before, so that it makes no difference whether it
/// merges. NOSAVE would load something else, which the log knows nothing of.
fn check_reload_options(args: Args<'_>) -> Result<(), String> {
    for option in args.from(2).iter() {
        match option.to_ascii_lowercase().as_slice() {
            b"merge" | b"noflush" => {}
            b"nosave" => {
                return Err(
                    "ERR DEBUG RELOAD NOSAVE is not available: the log says what the data \
                            is, not a dump"
                        .to_owned(),
                );
            }
            _ => {
                return Err(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE \
                            options."
                        .to_owned(),
                );
            }
        }
    }
    Ok(())
}

fn reload(borrowed: &mut Borrowed, connection: &Connection) -> Result<(), String> {
    let count = connection.shard.count();
    let limits = borrowed.limits();
    let access = limits.access_rule(borrowed.now());
    for shard in count.ids() {
        let Some(shard) = borrowed.data(shard) else {
            continue;
        };
        data::reload::reload(shard, count, &limits, access).map_err(|error| {
            tracing::warn!("DEBUG RELOAD: {}", anyhow::Error::new(error).to_string());
            "ERR Error trying to load the RDB dump, check server logs.".to_owned()
        })?;
    }
    Ok(())
}

/// Keys and bytes that POPULATE writes in one frame.
const POPULATE_KEYS: u64 = 1000;
const POPULATE_BYTES: u64 = 1 << 20;

/// POPULATE: keys that are not there are written as SETNX writes them. Returns what the reply
/// depends on.
async fn populate(connection: &Connection, args: Args<'_>) -> Result<Lsn, String> {
    let count = positive(args.at(2))?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = match args.get(4) {
        None => 0,
        Some(size) => positive(size)?,
    };
    let size_max = connection
        .shard
        .borrow(own(connection))
        .await
        .limits()
        .max_bulk_len;
    let size = usize::try_from(size).ok().filter(|size| *size <= size_max);
    let size = size.ok_or("ERR value is out of range")?;
    let (setnx, spec) = lookup(b"setnx").expect("a command");
    let per_frame = (POPULATE_BYTES / (size as u64 + 64)).clamp(1, POPULATE_KEYS);
    let (mut next, mut end) = (0, Lsn::ZERO);
    while next < count {
        if connection.client.is_killed() {
            break;
        }
        connection.shard.ready().await;
        if let Some(misconf) = refuses(connection, spec) {
            return Err(misconf.to_string());
        }
        let mut borrowed = connection
            .shard
            .borrow(ShardMask::all(connection.shard.count()))
            .await;
        let stop = count.min(next + per_frame);
        for number in next..stop {
            let (key, value) = populated(prefix, number, size);
            let request = OwnedArgs::new([&b"SETNX"[..], &key, &value]);
            let (db, protocol) = (connection.state.db, connection.state.protocol);
            borrowed.execute(setnx, request.as_args(), db, protocol, &mut Vec::new());
        }
        next = stop;
        end = end.max(borrowed.commit());
    }
    Ok(end)
}

fn own(connection: &Connection) -> ShardMask {
    ShardMask::default().with(connection.shard.id())
}

fn populated(prefix: &[u8], number: u64, size: usize) -> (Vec<u8>, Vec<u8>) {
    let key = [prefix, format!(":{number}").as_bytes()].concat();
    let mut value = format!("value:{number}").into_bytes();
    if size > 0 {
        value.resize(size, 0);
    }
    (key, value)
}

fn positive(arg: &[u8]) -> Result<u64, String> {
    moon_commands::parse::canonical_integer(arg)
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| "ERR value is out of range, must be positive".to_owned())
}
