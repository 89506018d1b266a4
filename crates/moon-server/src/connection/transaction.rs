//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use super::pipeline::{Close, Connection};
use super::session::{Queued, Transaction, Trouble, Watch};
use super::{commands, pause, told};
use crate::scripts;
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::{CommandId, CommandSpec, Flags, by_id};
use moon_core::{Lsn, ShardId, UnixMs};
use moon_resp::{Args, Reply, Span};
use moon_shard::mailbox::DataMessage;
use moon_shard::{Borrowed, Misconf, ShardMask};
use moon_store::{DbIndex, Key, ShardData, THIS_TURN};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Whether a command runs inside MULTI instead of being queued.
pub(super) fn runs_at_once(spec: &CommandSpec) -> bool {
    matches!(
        spec.name,
        "exec" | "discard" | "multi" | "watch" | "quit" | "reset"
    )
}

/// Adds a command to the open transaction.
pub(super) fn queue(connection: &mut Connection, id: CommandId, args: Args<'_>) {
    if let Some(transaction) = &mut connection.state.transaction {
        transaction.bytes += args.bytes() + args.len() * size_of::<Span>();
        transaction.queue.push(Queued {
            id,
            args: args.into(),
        });
        let table = transaction.queue.capacity() * size_of::<Queued>();
        let queued = u32::try_from(transaction.queue.len()).unwrap_or(u32::MAX);
        connection.client.set_multi(Some(queued));
        connection
            .client
            .multi_mem
            .store((transaction.bytes + table) as u64, Relaxed);
        connection.check_growth();
    }
    connection.write_reply(|reply| reply.simple("QUEUED"));
}

/// A command was refused with `text` before it ran. Returns the text for the client: EXEC says that
/// the transaction, if there is one, is discarded; after any other command the next EXEC will.
pub(super) fn refuse(
    connection: &mut Connection,
    command: Option<CommandId>,
    text: String,
) -> String {
    if command.is_some_and(|id| by_id(id).name == "exec") {
        if connection.state.transaction.take().is_some() {
            end_multi(connection);
            unwatch(connection);
        }
        let cause = text.strip_prefix("ERR ").unwrap_or(&text);
        return format!("EXECABORT Transaction discarded because of: {cause}");
    }
    if let Some(transaction) = &mut connection.state.transaction {
        transaction.refused = true;
    }
    text
}

/// Answers the present command with an error, which is noted with it.
pub(super) fn answer_error(connection: &mut Connection, text: &str) {
    connection.write_reply(|reply| reply.error(text));
    connection.state.trouble = Some(Trouble::Failed(text.to_owned()));
}

/// MULTI.
pub(super) fn multi(connection: &mut Connection) {
    if connection.state.transaction.is_some() {
        answer_error(connection, "ERR MULTI calls can not be nested");
        return;
    }
    connection.state.transaction = Some(Transaction::default());
    connection.client.set_multi(Some(0));
    connection.write_reply(|reply| reply.ok());
}

fn end_multi(connection: &Connection) {
    connection.client.set_multi(None);
    connection.client.multi_mem.store(0, Relaxed);
}

/// DISCARD.
pub(super) fn discard(connection: &mut Connection) {
    if connection.state.transaction.take().is_none() {
        answer_error(connection, "ERR DISCARD without MULTI");
        return;
    }
    end_multi(connection);
    unwatch(connection);
    connection.write_reply(|reply| reply.ok());
}

/// Forgets all watches.
pub(super) fn unwatch(connection: &mut Connection) {
    let watches = std::mem::take(&mut connection.state.watches);
    forget(connection, watches.into_iter());
    connection.client.watch.store(0, Relaxed);
    connection.client.watch_mem.store(0, Relaxed);
}

/// Ends watches. Those of each shard go by message, which nobody waits for.
pub(super) fn forget(connection: &Connection, watches: impl Iterator<Item = Watch>) {
    type OfShard = (ShardId, Vec<(DbIndex, Box<[u8]>)>);
    let mut by_shard: Vec<OfShard> = Vec::new();
    for watch in watches {
        match by_shard.iter_mut().find(|(shard, _)| *shard == watch.shard) {
            Some((_, keys)) => keys.push((watch.db, watch.key)),
            None => by_shard.push((watch.shard, vec![(watch.db, watch.key)])),
        }
    }
    for (shard, keys) in by_shard {
        let visit = move |data: &mut ShardData| {
            for (db, key) in keys {
                data.watches.unwatch(db, &key);
            }
        };
        connection
            .shard
            .directory()
            .of(shard)
            .send_data(DataMessage::Visit(Box::new(visit)));
    }
}

/// WATCH.
pub(super) async fn watch(connection: &mut Connection, args: Args<'_>) -> Result<(), Close> {
    if connection.state.transaction.is_some() {
        answer_error(connection, "ERR WATCH inside MULTI is not allowed");
        return Ok(());
    }
    connection.barrier().await?;
    let count = connection.shard.count();
    let db = connection.state.db;
    let mut new: Vec<&[u8]> = Vec::new();
    for key in args.from(1).iter() {
        let known = connection
            .state
            .watches
            .iter()
            .any(|w| w.db == db && *w.key == *key);
        if !known && !new.contains(&key) {
            new.push(key);
        }
    }
    let mask = new.iter().fold(ShardMask::default(), |m, key| {
        m.with(count.shard_of_key(key))
    });
    let own = ShardMask::default().with(connection.shard.id());
    if mask.is_empty() || mask == own {
        let shard = Rc::clone(&connection.shard);
        // The barrier may have let another executor borrow the data.
        shard.ready().await;
        connection.state.began = Instant::now();
        let mut running = shard
            .begin()
            .expect("the data is home and nothing awaited since");
        let now = running.now();
        for key in new {
            connection
                .state
                .watches
                .push(begin_watch(running.data(), db, key, now));
        }
    } else {
        let mut borrowed = connection.shard.borrow(mask).await;
        connection.state.began = Instant::now();
        let now = borrowed.now();
        for key in new {
            let data = borrowed
                .data(count.shard_of_key(key))
                .expect("its shard was borrowed");
            connection
                .state
                .watches
                .push(begin_watch(data, db, key, now));
        }
        borrowed.commit();
    }
    let watched = u32::try_from(connection.state.watches.len()).unwrap_or(u32::MAX);
    connection.client.watch.store(watched, Relaxed);
    let table = connection.state.watches.capacity() * size_of::<Watch>();
    let keys: usize = connection.state.watches.iter().map(|w| w.key.len()).sum();
    let client = &connection.client;
    client.watch_mem.store((table + keys) as u64, Relaxed);
    connection.check_growth();
    connection.write_reply(|reply| reply.ok());
    Ok(())
}

/// Begins to watch a key.
pub(super) fn begin_watch(data: &mut ShardData, db: DbIndex, key: &[u8], now: UnixMs) -> Watch {
    Watch {
        db,
        key: key.into(),
        shard: data.id,
        version: data.watches.watch(db, key),
        was_expired: is_expired(data, db, key, now),
        changes: data.watches.changes(db, key),
    }
}

fn is_expired(data: &ShardData, db: DbIndex, key: &[u8], now: UnixMs) -> bool {
    let found = data.dbs[usize::from(db)].get(Key::new(key));
    found
        .and_then(|(_, deadline)| deadline)
        .is_some_and(|deadline| deadline <= now)
}

/// Whether a key is as it was when the watch began.
pub(super) fn is_unchanged(watch: &Watch, data: &ShardData, now: UnixMs) -> bool {
    let (db, key) = (watch.db, &*watch.key);
    if watch.was_expired && data.watches.changes(db, key) == watch.changes + 1 {
        // The one change was its removal, unless it is there.
        return data.dbs[usize::from(db)].get(Key::new(key)).is_none();
    }
    data.watches.version(db, key) == Some(watch.version)
        && (watch.was_expired || !is_expired(data, db, key, now))
}

/// EXEC.
pub(super) async fn exec(connection: &mut Connection) -> Result<(), Close> {
    let Some(transaction) = connection.state.transaction.take() else {
        answer_error(connection, "ERR EXEC without MULTI");
        return Ok(());
    };
    end_multi(connection);
    if transaction.refused {
        unwatch(connection);
        let text = "EXECABORT Transaction discarded because of previous errors.";
        answer_error(connection, text);
        return Ok(());
    }
    connection.barrier().await?;
    let queued = transaction.queue.iter().map(|q| (q.id, q.args.as_args()));
    connection.wait_for_walk(queued).await;
    let refused = transaction
        .queue
        .iter()
        .find_map(|q| commands::refuses(connection, q.row()));
    if let Some(misconf) = refused {
        unwatch(connection);
        let reply = refusal(connection, misconf);
        connection.write_reply(|out| out.raw(&reply));
        return Ok(());
    }
    let writes = transaction.queue.iter().any(|q| pause::writes(q.row()));
    if !has_memory(connection, &transaction) {
        return refuse_exec(connection, OUT_OF_MEMORY);
    }
    let mut mask = ShardMask::default();
    for watch in &connection.state.watches {
        mask = mask.with(watch.shard);
    }
    for queued in &transaction.queue {
        let args = queued.args.as_args();
        if let Some(spec) = commands::data_spec(queued.id, args) {
            mask = mask.union(connection.shards_of(spec, args));
        }
    }
    let has_scripts = transaction.queue.iter().any(|q| scripts::runs(q.id));
    if has_scripts {
        // Which keys a script touches is known only while it runs, and EXEC runs once.
        mask = ShardMask::all(connection.shard.count());
    }
    let own = ShardMask::default().with(connection.shard.id());
    let (reply, mut depends_on) = if has_scripts || !mask.is_empty() && mask != own {
        pause::wait(connection, writes).await?;
        match scripts::acquire(connection, mask, writes).await? {
            Ok(borrowed) => Box::pin(exec_borrowed(connection, &transaction, borrowed)).await?,
            Err(busy) => return refuse_exec(connection, busy.0),
        }
    } else {
        // The barrier may have let another executor borrow the data.
        match pause::ready(connection, writes).await? {
            Ok(()) => exec_here(connection, &transaction),
            Err(busy) => return refuse_exec(connection, busy.0),
        }
    };
    unwatch(connection);
    if connection.state.holds_reply() {
        // The turn may end while this waits, so the reply takes its LSN before.
        let end = connection.shard.end_turn();
        if depends_on == THIS_TURN {
            depends_on = end;
        }
        connection.durable_first().await?;
    }
    pause::settle(connection).await;
    // It leaves when monitors have been told of EXEC itself.
    connection.write_dependent_reply(depends_on, |out| out.raw(&reply));
    Ok(())
}

/// Whether a transaction can run, as far as memory goes: asked before it begins and before any
/// data is borrowed, because within it nothing is evicted.
fn has_memory(connection: &Connection, transaction: &Transaction) -> bool {
    let grows = |queued: &Queued| queued.row().flags.contains(Flags::DENYOOM);
    !transaction.queue.iter().any(grows) || connection.shard.has_memory()
}

/// EXEC does not run, because of `cause`.
fn refuse_exec(connection: &mut Connection, cause: &str) -> Result<(), Close> {
    unwatch(connection);
    let text = format!("EXECABORT Transaction discarded because of: {cause}");
    connection.write_reply(|reply| reply.error(&text));
    connection.state.trouble = Some(Trouble::Refused(text));
    Ok(())
}

/// What the fate of the transaction itself shows: that watched keys have changed, or not.
fn shown_by_watch(watch: &Watch, data: &ShardData) -> Lsn {
    data.dirty.dependency(watch.db, Key::new(&watch.key).hash)
}

fn refusal(connection: &mut Connection, misconf: Misconf) -> Vec<u8> {
    let mut reply = Vec::new();
    let text = format!("EXECABORT Transaction discarded because of: {misconf}");
    Reply::new(&mut reply, connection.state.protocol).error(&text);
    connection.state.trouble = Some(Trouble::Refused(text));
    reply
}

fn null_reply(connection: &Connection) -> Vec<u8> {
    let mut reply = Vec::new();
    Reply::new(&mut reply, connection.state.protocol).null_array();
    reply
}

fn exec_here(connection: &mut Connection, transaction: &Transaction) -> (Vec<u8>, Lsn) {
    let shard = Rc::clone(&connection.shard);
    let mut running = shard
        .begin()
        .expect("the data is home and nothing awaited since");
    connection.state.began = Instant::now();
    let now = running.now();
    // As in the check before, which an await may have aged.
    if let Some(misconf) = running.refuses_writes()
        && transaction
            .queue
            .iter()
            .any(|queued| commands::grows(queued.row()))
    {
        return (refusal(connection, misconf), Lsn::ZERO);
    }
    let (mut unchanged, mut depends_on) = (true, Lsn::ZERO);
    for watch in &connection.state.watches {
        unchanged &= is_unchanged(watch, running.data(), now);
        depends_on = depends_on.max(shown_by_watch(watch, running.data()));
    }
    if !unchanged {
        return (null_reply(connection), depends_on);
    }
    let mut replies = Vec::new();
    Reply::new(&mut replies, connection.state.protocol).array(transaction.queue.len());
    running.begin_transaction();
    connection.hub.begin_unit();
    for queued in &transaction.queue {
        let args = queued.args.as_args();
        let dependency = match commands::data_spec(queued.id, args) {
            None => told::run_inside(connection, queued.id, args, &mut replies),
            Some(spec) => {
                let (db, protocol) = (connection.state.db, connection.state.protocol);
                running.set_caller(connection.caller());
                running.execute_as(spec, queued.id, args, db, protocol, &mut replies)
            }
        };
        depends_on = depends_on.max(dependency);
    }
    running.end_transaction();
    running.finish();
    connection.hub.end_unit(depends_on);
    (replies, depends_on)
}

async fn exec_borrowed(
    connection: &mut Connection,
    transaction: &Transaction,
    mut borrowed: Box<Borrowed>,
) -> Result<(Vec<u8>, Lsn), Close> {
    connection.state.began = Instant::now();
    let now = borrowed.now();
    let (mut unchanged, mut depends_on) = (true, Lsn::ZERO);
    for watch in &connection.state.watches {
        let data = borrowed
            .data(watch.shard)
            .expect("the shards of watched keys were borrowed");
        unchanged &= is_unchanged(watch, data, now);
        depends_on = depends_on.max(shown_by_watch(watch, data));
    }
    if !unchanged {
        return Ok((null_reply(connection), depends_on));
    }
    let mut replies = Vec::new();
    Reply::new(&mut replies, connection.state.protocol).array(transaction.queue.len());
    borrowed.begin_transaction();
    connection.hub.begin_unit();
    // A script takes it away and brings it back.
    let mut in_hand = Some(borrowed);
    let mut has_scripts = false;
    for queued in &transaction.queue {
        let args = queued.args.as_args();
        let dependency = if scripts::runs(queued.id) {
            has_scripts = true;
            told::run_script_inside(connection, queued.id, args, &mut in_hand, &mut replies).await?
        } else if let Some(spec) = commands::data_spec(queued.id, args) {
            let (db, protocol) = (connection.state.db, connection.state.protocol);
            let borrowed = in_hand.as_mut().expect("a script brings the data back");
            borrowed.set_caller(connection.caller());
            borrowed.execute_as(spec, queued.id, args, db, protocol, &mut replies)
        } else {
            told::run_inside(connection, queued.id, args, &mut replies)
        };
        #[cfg(feature = "break-borrow-order")]
        if let Some(whole) = in_hand.take() {
            let mask = whole.mask();
            in_hand = Some(whole.give_back_between(mask).await);
        }
        depends_on = depends_on.max(dependency);
    }
    let end = in_hand.map_or(Lsn::ZERO, |borrowed| borrowed.commit());
    let end = match end {
        // Libraries may have changed, which others may show before the turn is over.
        THIS_TURN if has_scripts => connection.shard.end_turn(),
        end => end,
    };
    if has_scripts {
        scripts::transaction_ended(&connection.server.scripts, end);
    }
    if depends_on == THIS_TURN {
        depends_on = end;
    }
    connection.hub.end_unit(depends_on);
    Ok((replies, depends_on))
}
