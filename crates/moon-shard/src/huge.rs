//! Writes to huge values while a walk is on: they wait until the value is encoded in slices.
//!
//! A change of a value that the walk has not reached encodes it first, which for a huge one takes
//! longer than a shard may pause. So whoever is about to run a write asks here before, and waits
//! while the walk takes the value out of turn. It is a courtesy to the other clients only: a
//! write that does not ask is as correct, and slow.

use crate::batch::Batch;
use crate::mailbox::ControlMessage;
use crate::shard::Shard;
use moon_commands::subcommands::row_of;
use moon_commands::{CommandId, Scope, by_id};
use moon_core::ShardId;
use moon_resp::Args;
use moon_store::{DbIndex, Key, ShardData};
use std::rc::Rc;
use tokio::sync::oneshot;

/// Keys, each with its database.
pub type Keys = Vec<(DbIndex, Box<[u8]>)>;

impl Shard {
    /// Whether a walk is on here. Without one nothing is held.
    #[inline]
    #[must_use]
    pub fn is_walking(&self) -> bool {
        self.core
            .borrow()
            .data
            .as_ref()
            .is_some_and(|data| data.is_walking())
    }

    /// The keys that a write would change and that the walk must encode first: those of this
    /// shard that are held, and those of other shards, which know.
    #[must_use]
    pub fn held_keys(&self, id: CommandId, args: Args<'_>, db: DbIndex) -> Keys {
        let spec = row_of(by_id(id), args);
        if !spec.is_write() || !spec.accepts(args.len()) || spec.scope_of(args) != Scope::Keys {
            return Keys::new();
        }
        let mut positions = Vec::new();
        spec.key_positions(args, &mut positions);
        self.held_of(positions.iter().filter_map(|at| args.get(*at)), db)
    }

    /// As [`Shard::held_keys`], for a script that may write to `keys`.
    #[must_use]
    pub fn held_of<'k>(&self, keys: impl Iterator<Item = &'k [u8]>, db: DbIndex) -> Keys {
        let core = self.core.borrow();
        let may_be_held = |key: &&[u8]| {
            let is_own = self.count().shard_of_key(key) == self.id();
            match &core.data {
                Some(data) if is_own => data.is_held(db, Key::new(key)),
                _ => true,
            }
        };
        let held = keys.filter(may_be_held);
        held.map(|key| (db, key.into())).collect()
    }

    /// Waits until none of `keys`, which may be those of any shard, is held.
    pub async fn written_out(self: &Rc<Self>, keys: Keys) {
        let mut answers = Vec::new();
        for shard in self.count().ids() {
            let owned = |(_, key): &&(DbIndex, Box<[u8]>)| self.count().shard_of_key(key) == shard;
            let of_shard: Keys = keys.iter().filter(owned).cloned().collect();
            if of_shard.is_empty() {
                continue;
            }
            if shard == self.id() {
                self.own_written_out(of_shard).await;
            } else {
                answers.push(self.ask(shard, of_shard));
            }
        }
        for answer in answers {
            // A shard that is gone holds nothing.
            drop(answer.await);
        }
    }

    fn ask(&self, shard: ShardId, keys: Keys) -> oneshot::Receiver<()> {
        let (to, answer) = oneshot::channel();
        let errand = Box::new(move |shard: &Rc<Shard>| {
            let shard = Rc::clone(shard);
            tokio::task::spawn_local(async move {
                shard.own_written_out(keys).await;
                // Whoever asked may have gone.
                to.send(()).ok();
            });
        });
        self.directory()
            .of(shard)
            .send_control(ControlMessage::Run(errand));
        answer
    }

    async fn own_written_out(&self, keys: Keys) {
        loop {
            let walked = self.walked.notified();
            let held = self.with_data(|data| walk_first(data, &keys)).await;
            if !held {
                return;
            }
            walked.await;
        }
    }

    /// Whether a batch must wait; if so, the walk takes its keys next.
    pub(crate) fn holds(&self, batch: &Batch) -> bool {
        if !self.is_walking() {
            return false;
        }
        let mut keys = Keys::new();
        for command in &batch.commands {
            keys.extend(self.held_keys(command.id, batch.args(command), batch.db));
        }
        let mut core = self.core.borrow_mut();
        core.data
            .as_mut()
            .is_some_and(|data| walk_first(data, &keys))
    }
}

/// Whether the walk holds a key that a write to this shard would change.
pub(crate) fn is_held(data: &ShardData, id: CommandId, args: Args<'_>, db: DbIndex) -> bool {
    let spec = row_of(by_id(id), args);
    if !spec.is_write() || spec.scope_of(args) != Scope::Keys {
        return false;
    }
    let mut positions = Vec::new();
    spec.key_positions(args, &mut positions);
    let mut keys = positions.iter().filter_map(|at| args.get(*at));
    keys.any(|key| data.is_held(db, Key::new(key)))
}

/// Asks the walk for what it holds of `keys`; whether there is any.
fn walk_first(data: &mut ShardData, keys: &Keys) -> bool {
    let mut held = false;
    for (db, key) in keys {
        let key = Key::new(key);
        if data.is_held(*db, key) {
            data.walk_first(*db, key);
            held = true;
        }
    }
    held
}
