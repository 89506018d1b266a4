//! A stretch of execution on one shard, and the clock that times its commands.

use crate::caller::Caller;
use crate::misconf::Misconf;
use crate::observer::{Executed, Observer, Watch};
use crate::shard::{Core, Shard};
use crate::waiting::{self, Hands};
use moon_commands::blocking::Wait;
use moon_commands::context::{Counts, Origin};
use moon_commands::evict::OUT_OF_MEMORY;
use moon_commands::execute::Outcome;
use moon_commands::subcommands::row_of;
use moon_commands::{
    CommandId, CommandSpec, Cx, Effects, Flags, Scope, ShardSet, by_id, execute, stat_id,
};
use moon_core::{Lsn, UnixMs};
use moon_resp::{Args, Protocol, Reply};
use moon_store::{DbIndex, Key, ShardData, THIS_TURN};
use std::cell::RefMut;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A turn closes when its effects pass this, at a command boundary.
const TURN_BYTES_MAX: usize = 1 << 20;
/// Most keys touched ahead of execution.
pub const WARM_KEYS_MAX: usize = 64;

/// A stretch of execution on one shard: nothing else runs there until it is dropped.
pub struct Running<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) core: RefMut<'a, Core>,
    pub(crate) now: UnixMs,
    /// Between BEGIN and END of a transaction nothing is evicted.
    pub(crate) in_transaction: bool,
    refuses_writes: Option<Misconf>,
    caller: Caller,
    pub(crate) meter: Meter<'a>,
}

/// Light commands of a pipeline that share one reading of the clock. Reading it for each of them
/// would cost more than some of them do; their time is the mean of their group.
const GROUP_MAX: usize = 8;
/// The first command of a stretch is timed by itself: the one that comes alone, above all.
const ALONE: u32 = 1;
/// With a lower threshold for slow commands, each is timed by itself.
const ALONE_BELOW_NANOS: u64 = 1_000_000;
/// A command with more arguments, or a longer reply, is not light.
const LIGHT_ARGS_MAX: usize = 64;
const LIGHT_REPLY_MAX: usize = 16 << 10;

/// Times commands and counts what they did, for the observer.
///
/// A group has light commands only ([`CommandSpec::is_light`]): before and after any other the
/// clock is read, so its time is its own, and what takes long is found. Where a group of light
/// commands took long, something outside held up one of them; its last one is told.
pub(crate) struct Meter<'a> {
    observer: &'a dyn Observer,
    watch: Watch,
    last: Instant,
    group: [CommandId; GROUP_MAX],
    group_len: usize,
    seen: u32,
    counts: Counts,
    /// Commands were told one by one, and the turn has no effects: they can be shown.
    can_show: bool,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Meter<'a> {
        Meter {
            observer,
            watch: observer.watch(),
            last: Instant::now(),
            group: [0; GROUP_MAX],
            group_len: 0,
            seen: 0,
            counts: Counts::default(),
            can_show: false,
        }
    }

    /// A command is about to run. Returns whether it may share a reading of the clock.
    #[inline]
    pub(crate) fn runs(&mut self, spec: &CommandSpec, args: Args<'_>) -> bool {
        let is_light = spec.is_light()
            && args.len() <= LIGHT_ARGS_MAX
            && self.watch.slow_nanos >= ALONE_BELOW_NANOS;
        if !is_light && self.group_len > 0 {
            self.read_clock(None);
        }
        is_light
    }

    /// A command has run; `reply` is what it answered.
    #[inline]
    pub(crate) fn ran(
        &mut self,
        id: CommandId,
        is_light: bool,
        outcome: Outcome,
        counts: Counts,
        reply: &[u8],
        command: &Executed<'_>,
    ) {
        let id = stat_id(id, command.spec);
        self.group[self.group_len] = id;
        self.group_len += 1;
        self.seen += 1;
        self.counts.hits += counts.hits;
        self.counts.misses += counts.misses;
        self.counts.expired += counts.expired;
        self.counts.expired_fields += counts.expired_fields;
        self.counts.changes += counts.changes;
        if outcome == Outcome::Failed {
            self.observer.failed(id, error_text(reply));
        }
        if self.group_len == GROUP_MAX
            || self.seen <= ALONE
            || !is_light
            || reply.len() > LIGHT_REPLY_MAX
        {
            self.read_clock(Some(command));
        }
    }

    /// A command was refused with `text`, and has not run.
    #[cold]
    pub(crate) fn refused(&mut self, id: CommandId, spec: &CommandSpec, text: &str) {
        self.observer.refused(stat_id(id, spec), text);
    }

    /// Tells of a command that has run, if somebody wants to see each.
    #[inline]
    pub(crate) fn tell(&mut self, command: &Executed<'_>, depends_on: Lsn, turn_is_clean: bool) {
        if self.watch.is_monitored {
            self.observer.executed(command, depends_on);
            self.can_show = turn_is_clean;
        }
    }

    /// What was done since the last command is not part of the next one.
    pub(crate) fn leave_out(&mut self, work: Duration) {
        self.last += work;
    }

    fn read_clock(&mut self, command: Option<&Executed<'_>>) {
        let now = Instant::now();
        let nanos = now.saturating_duration_since(self.last).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let each = nanos / self.group_len as u64;
        self.observer.commands(&self.group[..self.group_len], each);
        if nanos >= self.watch.slow_nanos
            && let Some(command) = command
        {
            self.observer.slow(command, nanos);
        }
        self.last = now;
        self.group_len = 0;
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if self.group_len > 0 {
            self.read_clock(None);
        }
        if self.seen > 0 {
            self.observer.counts(self.counts);
        }
        if self.can_show {
            self.observer.show(Lsn::ZERO);
        }
    }
}

impl<'a> Running<'a> {
    pub(crate) fn new(
        shard: &'a Shard,
        core: RefMut<'a, Core>,
        now: UnixMs,
        refuses_writes: Option<Misconf>,
        meter: Meter<'a>,
    ) -> Running<'a> {
        Running {
            shard,
            core,
            now,
            in_transaction: false,
            refuses_writes,
            caller: Caller::default(),
            meter,
        }
    }

    /// Runs one data command whose keys are all here and writes its reply behind `replies`.
    /// Returns what the reply depends on.
    #[inline]
    pub fn execute(
        &mut self,
        id: CommandId,
        args: Args<'_>,
        db: DbIndex,
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> Lsn {
        self.execute_as(row_of(by_id(id), args), id, args, db, protocol, replies)
    }

    /// As [`Running::execute`], where `spec` is a subcommand of the command `id`.
    #[inline]
    pub fn execute_as(
        &mut self,
        spec: &CommandSpec,
        id: CommandId,
        args: Args<'_>,
        db: DbIndex,
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> Lsn {
        self.attempt(spec, id, args, db, protocol, replies).1
    }

    /// As [`Running::execute_as`], for who can wait: says how the command ended, too. If it would
    /// wait, [`Running::take_wait`] tells for what.
    #[inline]
    pub fn attempt(
        &mut self,
        spec: &CommandSpec,
        id: CommandId,
        args: Args<'_>,
        db: DbIndex,
        protocol: Protocol,
        replies: &mut Vec<u8>,
    ) -> (Outcome, Lsn) {
        let reply_start = replies.len();
        let misconf = self
            .refuses_writes
            .filter(|_| spec.is_write() && !spec.flags.contains(Flags::FREES_MEMORY));
        let has_memory =
            misconf.is_some() || !spec.flags.contains(Flags::DENYOOM) || self.has_memory();
        if misconf.is_some() || !has_memory {
            let text = misconf.map_or_else(|| OUT_OF_MEMORY.to_owned(), |m| m.to_string());
            Reply::new(replies, protocol).error(&text);
            self.meter.refused(id, spec, &text);
            return (Outcome::Failed, Lsn::ZERO);
        }
        let is_light = self.meter.runs(spec, args);
        let Core {
            data,
            effects,
            rng,
            limits,
            ..
        } = &mut *self.core;
        let data = data
            .as_mut()
            .expect("the data is at home while commands run");
        let before = effects.len();
        let mut cx = Cx {
            shards: ShardSet::One(data),
            shard_count: self.shard.config.count,
            db,
            now: self.now,
            origin: Origin::Client,
            reply: Reply::new(replies, protocol),
            effects,
            depends_on: Lsn::ZERO,
            rng,
            limits,
            counts: Counts::default(),
            keep_expired: self.shard.keeps_expired(),
        };
        let outcome = execute(&mut cx, spec, args);
        let (counts, looked_at) = (cx.counts, cx.depends_on);
        let wrote = effects.len() != before;
        let depends_on = if wrote { THIS_TURN } else { looked_at };
        let is_clean = effects.is_empty();
        if before == 0 && !is_clean {
            self.shard.open_turn();
        }
        tell_events(&*self.shard.observer, effects, depends_on);
        if self.caller.keeps(spec) {
            let (count, keys_max) = (self.shard.config.count, limits.tracking_table_max_keys);
            (self.caller).remember(spec, args, keys_max, ShardSet::One(data), count);
        }
        if data.tracking.has_stale() {
            let stale = data.tracking.take_stale();
            (self.shard.observer).stale(stale, self.caller.client, depends_on);
        }
        let has_ready = data.waits.has_ready();
        let command = Executed {
            spec,
            caller: self.caller,
            db,
            args,
        };
        let reply = &replies[reply_start..];
        self.meter
            .ran(id, is_light, outcome, counts, reply, &command);
        self.meter.tell(&command, depends_on, is_clean);
        if has_ready && !self.in_transaction {
            self.serve_waiting();
        }
        (outcome, depends_on)
    }

    /// What the command would wait for that was attempted last.
    pub fn take_wait(&mut self) -> Option<Box<Wait>> {
        self.core.effects.take_wait()
    }

    /// Serves those who wait for keys that have changed.
    #[cold]
    pub(crate) fn serve_waiting(&mut self) {
        let shard = self.shard;
        let Core {
            data,
            effects,
            rng,
            limits,
            ..
        } = &mut *self.core;
        let data = data
            .as_mut()
            .expect("the data is at home while commands run");
        let mut hands = Hands {
            shards: ShardSet::One(data),
            count: shard.config.count,
            now: self.now,
            effects,
            rng,
            limits,
            keep_expired: shard.keeps_expired(),
            observer: &*shard.observer,
        };
        let served = waiting::serve(&mut hands, VecDeque::new());
        if !effects.is_empty() {
            shard.open_turn();
        }
        if data.tracking.has_stale() {
            let stale = data.tracking.take_stale();
            let nobody = Caller::default().client;
            shard.observer.stale(stale, nobody, THIS_TURN);
        }
        shard.answer(served);
    }

    /// What is executed from here on is for this client.
    #[inline]
    pub fn set_caller(&mut self, caller: Caller) {
        self.caller = caller;
    }

    /// Whether a command must wait until a walk has encoded a huge value that it changes.
    #[inline]
    #[must_use]
    pub fn is_held(&self, id: CommandId, args: Args<'_>, db: DbIndex) -> bool {
        match &self.core.data {
            Some(data) if data.is_walking() => crate::huge::is_held(data, id, args, db),
            _ => false,
        }
    }

    /// Begins a transaction: what follows until [`Running::end_transaction`] is one unit of the
    /// history.
    pub fn begin_transaction(&mut self) {
        self.core.effects.begin_unit();
        self.core.effects.set_in_transaction(true);
        self.in_transaction = true;
    }

    /// Ends the transaction.
    pub fn end_transaction(&mut self) {
        self.core.effects.set_in_transaction(false);
        self.core.effects.end_unit();
        self.in_transaction = false;
        if self.data().waits.has_ready() {
            self.serve_waiting();
        }
    }

    /// Touches the memory that `commands` will look up first, so that their cache misses overlap.
    /// Worth it from two commands on; changes nothing.
    pub fn warm<'b>(&self, db: DbIndex, commands: impl Iterator<Item = (CommandId, Args<'b>)>) {
        let Some(data) = &self.core.data else { return };
        let mut keys = [Key {
            bytes: b"",
            hash: 0,
        }; WARM_KEYS_MAX];
        let mut members: [&[u8]; WARM_KEYS_MAX] = [b""; WARM_KEYS_MAX];
        // Where the members of each key end. Commands in a row on one key count as one key.
        let mut ends = [0; WARM_KEYS_MAX];
        let (mut key_count, mut member_count) = (0, 0);
        for (id, args) in commands.take(WARM_KEYS_MAX) {
            let spec = by_id(id);
            // Scripts have their first key behind its number.
            let at = if spec.group == "scripting" { 3 } else { 1 };
            let Some(key) = args.get(at).filter(|_| spec.scope == Scope::Keys) else {
                continue;
            };
            if key_count == 0 || keys[key_count - 1].bytes != key {
                if self.shard.config.count.shard_of_key(key) != self.shard.config.id {
                    continue;
                }
                keys[key_count] = Key::new(key);
                key_count += 1;
            }
            members[member_count] = args.get(at + 1).unwrap_or_default();
            member_count += 1;
            ends[key_count - 1] = member_count;
        }
        if member_count > 1 {
            let members_of = |number: usize| {
                let start = number.checked_sub(1).map_or(0, |before| ends[before]);
                &members[start..ends[number]]
            };
            data.dbs[usize::from(db)].warm(&keys[..key_count], members_of);
        }
    }

    /// The data itself, for what is no keyspace write, such as a watch.
    pub fn data(&mut self) -> &mut ShardData {
        self.core
            .data
            .as_mut()
            .expect("the data is at home while commands run")
    }

    /// The error with which writes are refused throughout this stretch, if they are.
    #[must_use]
    pub fn refuses_writes(&self) -> Option<Misconf> {
        self.refuses_writes
    }

    /// The time of this stretch.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.now
    }

    /// Whether the turn must end at this command boundary.
    #[inline]
    #[must_use]
    pub fn turn_is_full(&self) -> bool {
        self.core.effects.len() >= TURN_BYTES_MAX
    }

    /// Publishes the counts of keys, so that INFO is right as soon as the replies are out.
    pub fn finish(mut self) {
        let observer = Rc::clone(&self.shard.observer);
        observer.data(self.data());
    }
}

/// Hands on what was told of keys, which depends on `depends_on`.
#[inline]
pub(crate) fn tell_events(observer: &dyn Observer, effects: &mut Effects, depends_on: Lsn) {
    let events = &mut effects.events;
    if !events.is_empty() {
        observer.events(events.classes(), events.take(), depends_on);
    }
}

/// The text of an encoded error reply.
fn error_text(encoded: &[u8]) -> &str {
    let line = encoded.strip_prefix(b"-").unwrap_or(encoded);
    let end = line.iter().position(|&b| b == b'\r').unwrap_or(line.len());
    str::from_utf8(&line[..end]).unwrap_or("ERR")
}
