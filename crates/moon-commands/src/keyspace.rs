//! Commands on whole databases: DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHDB, FLUSHALL, SWAPDB.

use crate::context::{CommandResult, Cx, has_expired};
use crate::error::CommandError;
use crate::glob::{self, Case};
use crate::parse;
use crate::scan;
use crate::spec::{Keys, commands};
use moon_resp::Args;
use moon_store::{DbIndex, Key};
use rand::RngExt;

commands! { "generic":
    "keys" 2 [READONLY] Keys::None, AllShards, keys,
        "keyspace read slow dangerous", "1.0.0", "O(N) where N is the number of keys.",
        "Returns all key names that match a pattern.";
    "scan" -2 [READONLY] Keys::None, Cursor, scan::scan,
        "keyspace read slow", "2.8.0", "O(1) per call, O(N) for a whole iteration.",
        "Iterates over the key names in the database.";
    "randomkey" 1 [READONLY] Keys::None, AllShards, randomkey,
        "keyspace read slow", "1.0.0", "O(1)", "Returns a random key name from the database.";
    "dbsize" 1 [READONLY FAST] Keys::None, AllShards, dbsize,
        "keyspace read fast", "1.0.0", "O(1)", "Returns the number of keys in the database.";
    "flushdb" -1 [WRITE FREES_MEMORY] Keys::None, AllShards, flushdb,
        "keyspace write slow dangerous", "1.0.0", "O(N) where N is the number of keys.",
        "Removes all keys from the current database.";
    "flushall" -1 [WRITE FREES_MEMORY] Keys::None, AllShards, flushall,
        "keyspace write slow dangerous", "1.0.0", "O(N) where N is the number of keys.",
        "Removes all keys from all databases.";
    "swapdb" 3 [WRITE FAST] Keys::None, AllShards, swapdb,
        "keyspace write fast dangerous", "4.0.0", "O(1)", "Swaps two databases.";
}

fn dbsize(cx: &mut Cx<'_>, _: Args<'_>) -> CommandResult {
    cx.depends_on_all();
    let db = cx.db;
    let len = cx.shards.iter().map(|shard| shard.db(db).len()).sum();
    cx.reply.count(len);
    Ok(())
}

fn keys(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    cx.depends_on_all();
    let (db, now, pattern) = (cx.db, cx.now, args.at(1));
    let mut found: Vec<Box<[u8]>> = Vec::new();
    let is_everything = glob::is_everything(pattern);
    for shard in cx.shards.iter() {
        shard.db(db).for_each(&mut |key, value, deadline| {
            let shown = !has_expired(value, deadline, now);
            if shown && (is_everything || glob::matches(pattern, key, Case::Sensitive)) {
                found.push(key.into());
            }
        });
    }
    cx.reply.array(found.len());
    for key in found {
        cx.reply.bulk(&key);
    }
    Ok(())
}

/// Every key is equally likely: the shard is drawn by its share of the keys.
fn randomkey(cx: &mut Cx<'_>, _: Args<'_>) -> CommandResult {
    /// So often a key past its deadline is drawn again; then the answer is that there is none.
    const DRAWS_MAX: usize = 100;
    cx.depends_on_all();
    for _ in 0..DRAWS_MAX {
        let Some(key) = draw(cx) else {
            break;
        };
        if cx.is_live(Key::new(&key)) {
            cx.reply.bulk(&key);
            return Ok(());
        }
    }
    cx.reply.null();
    Ok(())
}

fn draw(cx: &mut Cx<'_>) -> Option<Box<[u8]>> {
    let db = cx.db;
    let total: usize = cx.shards.iter().map(|shard| shard.db(db).len()).sum();
    if total == 0 {
        return None;
    }
    let mut at = cx.rng.random_range(0..total);
    let random = cx.rng.random();
    for shard in cx.shards.iter() {
        let len = shard.db(db).len();
        if at < len {
            return shard.db(db).random(random).map(|(key, ..)| key.into());
        }
        at -= len;
    }
    None
}

/// Checks `[ASYNC | SYNC]`. Both free memory the same way here.
fn check_flush_mode(args: Args<'_>) -> CommandResult {
    match args.get(1) {
        None => Ok(()),
        Some(mode) if args.len() == 2 && (parse::is(mode, "sync") || parse::is(mode, "async")) => {
            Ok(())
        }
        Some(_) => Err(CommandError::Syntax),
    }
}

fn flushdb(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    check_flush_mode(args)?;
    // Where nothing is left to remove, the answer rests on what removed it.
    cx.depends_on_all();
    let db = cx.db;
    if flush(cx, db) {
        cx.effects.push(db, &[b"FLUSHDB"]);
    }
    cx.reply.ok();
    Ok(())
}

fn flushall(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    check_flush_mode(args)?;
    cx.depends_on_all();
    let mut flushed = false;
    for db in 0..DbIndex::try_from(cx.databases()).unwrap_or(DbIndex::MAX) {
        flushed |= flush(cx, db);
    }
    if flushed {
        cx.effects.push(cx.db, &[b"FLUSHALL"]);
    }
    cx.reply.ok();
    Ok(())
}

/// Removes every key of one database; whether there were any.
fn flush(cx: &mut Cx<'_>, db: DbIndex) -> bool {
    let mut flushed = false;
    for shard in cx.shards.iter() {
        if !shard.db(db).is_empty() {
            flushed = true;
            shard.flush(db);
        }
        // As in Redis, also where nothing was.
        shard.make_copies_stale();
    }
    flushed
}

fn swapdb(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let first = swapped(args.at(1), "ERR invalid first DB index")?;
    let second = swapped(args.at(2), "ERR invalid second DB index")?;
    let databases = cx.databases();
    let in_range = |index: i64| {
        DbIndex::try_from(index)
            .ok()
            .filter(|index| usize::from(*index) < databases)
            .ok_or(CommandError::Text("ERR DB index is out of range"))
    };
    let (first, second) = (in_range(first)?, in_range(second)?);
    if first != second {
        for shard in cx.shards.iter() {
            shard.swap_dbs(first, second);
        }
        cx.effects.push(cx.db, &[b"SWAPDB", args.at(1), args.at(2)]);
    }
    cx.reply.ok();
    Ok(())
}

fn swapped(arg: &[u8], error: &'static str) -> Result<i64, CommandError> {
    parse::integer_between(arg, i64::from(i32::MIN), i64::from(i32::MAX))
        .map_err(|_| CommandError::Text(error))
}
