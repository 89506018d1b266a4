//! Client-side caching: clients that keep copies of what they read are told when it changes.
//!
//! ```text
//!  shard of the key                                     shard of the client
//!  read   ─▶ ShardData::tracking: key ─▶ readers
//!  change ─▶ StaleKeys ─▶ Tracking::stale ─▶ mailbox ─▶ is it still tracking? NOLOOP? REDIRECT?
//!                          (kept until the frame)        └▶ Hub::push_to ─▶ gate ─▶ socket
//! ```
//!
//! Who has read what is in [`moon_store::TrackTable`], with the data. Here is the rest: how each
//! client wants to be told ([`Tracked`], on its own shard), which prefixes are broadcast
//! ([`Shared`]), and the way of the news between them ([`Tracking`], one per shard thread).
//!
//! * What became stale is on its way when the change has its place in the history, which is before
//!   any reply that shows the change can leave; and it waits in the gate of the client like any
//!   message until the change is committed.
//! * The reply to a read has its place in the client's gate before the read is executed, so news
//!   about a later change always comes behind the reply that they make stale.
//! * Whoever has seen such a reply finds nobody who was not told: a client that tracks has what is
//!   in its shard's mailbox put into its gate before its next request is executed
//!   ([`Hub::catch_up`]).
//! * Broadcasts are joined: one message per prefix, client and turn.
//!
//! In reading order:
//! * [`tracked`]: [`Tracked`]: what one client has asked for.
//! * [`shared`]: [`Shared`]: what all threads share.
//! * [`news`]: what the news look like on the wire.

mod news;
pub mod shared;
pub mod tracked;

pub use shared::Shared;
pub use tracked::{Mode, Tracked};

use crate::clients::{ClientHandle, Clients, Flags};
use crate::pubsub::{Address, Hub};
use moon_core::{Lsn, ShardId};
use moon_shard::mailbox::{ControlMessage, Directory};
use moon_shard::{SessionId, Shard};
use moon_store::{StaleKeys, THIS_TURN};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A key, and the client that changed it: `None` if that was nobody, or several.
type ChangedKey = (Arc<[u8]>, Option<SessionId>);

/// What one shard's clients are told.
enum Notice {
    /// All copies of everything are stale.
    All,
    /// A client's copy of a key is stale, by what the client `by` did.
    Key {
        reader: SessionId,
        key: Arc<[u8]>,
        by: SessionId,
    },
}

/// The clients of one shard that track, and by the prefixes that they want broadcast.
#[derive(Default)]
struct Local {
    by_client: HashMap<SessionId, Rc<Tracked>>,
    by_prefix: BTreeMap<Arc<[u8]>, Vec<Rc<Tracked>>>,
}

/// See the [module](self). One per shard thread.
pub struct Tracking {
    shard: ShardId,
    hub: Rc<Hub>,
    shared: Arc<Shared>,
    clients: Arc<Clients>,
    directory: Directory,
    local: RefCell<Local>,
    /// Waits for the frame that the turn becomes.
    turn: RefCell<Vec<(StaleKeys, SessionId)>>,
}

thread_local! {
    static TRACKING: OnceCell<Rc<Tracking>> = const { OnceCell::new() };
}

impl Tracking {
    /// Makes that of this thread, which serves `shard`. Once per thread.
    ///
    /// # Panics
    /// When the thread has one.
    pub fn install(
        shard: ShardId,
        hub: Rc<Hub>,
        shared: Arc<Shared>,
        clients: Arc<Clients>,
        directory: Directory,
    ) -> Rc<Tracking> {
        let tracking = Rc::new(Tracking {
            shard,
            hub,
            shared,
            clients,
            directory,
            local: RefCell::default(),
            turn: RefCell::default(),
        });
        let is_first = TRACKING.with(|slot| slot.set(Rc::clone(&tracking)).is_ok());
        assert!(is_first, "a thread serves one shard");
        tracking
    }

    /// That of this thread.
    ///
    /// # Panics
    /// On a thread that serves no shard.
    #[must_use]
    pub fn of_this_thread() -> Rc<Tracking> {
        TRACKING
            .with(|slot| slot.get().cloned())
            .expect("a shard's thread has one before it serves anybody")
    }

    // What happens here.

    /// Copies of keys are stale, by what the client `by` did, or 0. Those who have them are told
    /// when `depends_on` is committed; [`THIS_TURN`] is the frame that is told of next.
    pub fn stale(&self, keys: StaleKeys, by: SessionId, depends_on: Lsn) {
        if self.shared.clients() == 0 {
            return;
        }
        if depends_on == THIS_TURN {
            self.turn.borrow_mut().push((keys, by));
        } else {
            self.send(vec![(keys, by)], depends_on);
        }
    }

    /// The turn, or a transaction executed here, became a frame that ends at `end`.
    pub fn frame_ended(&self, end: Lsn) {
        let turn = std::mem::take(&mut *self.turn.borrow_mut());
        if !turn.is_empty() {
            self.send(turn, end);
        }
    }

    fn send(&self, stale: Vec<(StaleKeys, SessionId)>, depends_on: Lsn) {
        let mut notices: BTreeMap<ShardId, Vec<Notice>> = BTreeMap::new();
        let mut changed: BTreeMap<Arc<[u8]>, Option<SessionId>> = BTreeMap::new();
        let broadcasts = self.shared.broadcasts();
        for (StaleKeys { all, keys }, by) in stale {
            if all {
                for shard in self.shared.shards_with_clients() {
                    notices.entry(shard).or_default().push(Notice::All);
                }
            }
            for stale in keys {
                let key: Arc<[u8]> = stale.key.into();
                for reader in stale.readers {
                    let key = Arc::clone(&key);
                    let notices = notices.entry(reader.shard).or_default();
                    let reader = reader.client;
                    notices.push(Notice::Key { reader, key, by });
                }
                if broadcasts && stale.is_changed {
                    let by = Some(by).filter(|by| *by != 0);
                    let only = changed.entry(key).or_insert(by);
                    *only = only.filter(|only| Some(*only) == by);
                }
            }
        }
        for (shard, notices) in notices {
            self.at(shard, move |tracking| tracking.take(&notices, depends_on));
        }
        for (prefix, shards) in self.shared.prefixes_of(&changed) {
            let fitting: Vec<ChangedKey> = shared::range_of(&changed, &prefix)
                .map(|(key, by)| (Arc::clone(key), *by))
                .collect();
            let fitting: Arc<[ChangedKey]> = fitting.into();
            for shard in shards {
                let (prefix, keys) = (Arc::clone(&prefix), Arc::clone(&fitting));
                self.at(shard, move |tracking| {
                    tracking.take_broadcast(&prefix, &keys, depends_on);
                });
            }
        }
    }

    /// Runs `then` on the thread of `shard`, behind what was sent there before.
    fn at(&self, shard: ShardId, then: impl FnOnce(&Tracking) + Send + 'static) {
        if shard == self.shard {
            return then(self);
        }
        let errand = Box::new(move |_: &Rc<Shard>| then(&Tracking::of_this_thread()));
        let mailbox = self.directory.of(shard);
        mailbox.send_control(ControlMessage::Run(errand));
    }

    // What is for clients here.

    fn take(&self, notices: &[Notice], depends_on: Lsn) {
        let local = self.local.borrow();
        for notice in notices {
            match notice {
                Notice::All => {
                    for tracked in local.by_client.values() {
                        self.tell(tracked, &news::all_stale(), depends_on);
                    }
                }
                Notice::Key { reader, key, by } => {
                    // One that has changed to broadcasts since has forgotten its copies.
                    let tracked = local.by_client.get(reader);
                    let wants = |tracked: &&Rc<Tracked>| {
                        !(tracked.has(Mode::BCAST) || tracked.has(Mode::NOLOOP) && by == reader)
                    };
                    if let Some(tracked) = tracked.filter(wants) {
                        self.tell(tracked, &news::stale(&[&**key]), depends_on);
                    }
                }
            }
        }
    }

    fn take_broadcast(&self, prefix: &Arc<[u8]>, keys: &[ChangedKey], depends_on: Lsn) {
        let local = self.local.borrow();
        // Nearly all clients get the same.
        let everything = OnceCell::new();
        for tracked in local.by_prefix.get(prefix).into_iter().flatten() {
            let own = Some(tracked.client.id).filter(|_| tracked.has(Mode::NOLOOP));
            if own.is_some() && keys.iter().any(|(_, by)| *by == own) {
                let others = keys.iter().filter(|(_, by)| *by != own);
                let others: Vec<&[u8]> = others.map(|(key, _)| &**key).collect();
                if !others.is_empty() {
                    self.tell(tracked, &news::stale(&others), depends_on);
                }
                continue;
            }
            let news = everything.get_or_init(|| {
                let keys: Vec<&[u8]> = keys.iter().map(|(key, _)| &**key).collect();
                news::stale(&keys)
            });
            self.tell(tracked, news, depends_on);
        }
    }

    /// Sends news to a client of this shard, or to the one that it has them redirected to.
    fn tell(&self, tracked: &Tracked, news: &news::News, depends_on: Lsn) {
        let own = self.hub.address_of(tracked.client.id);
        let redirect = tracked.redirect.get();
        if redirect == 0 {
            self.hub.push_to(own, news.direct(), depends_on);
            return;
        }
        let Some(target) = self.clients.get(redirect) else {
            tracked.is_broken.set(true);
            tracked.client.set_flag(Flags::BrokenRedirect, true);
            self.hub.push_to(own, news::broken(redirect), depends_on);
            return;
        };
        let to = Address {
            shard: ShardId(target.shard.load(Relaxed)),
            client: redirect,
        };
        let listens = target.has_flag(Flags::PubSub);
        self.hub.push_to(to, news.redirected(listens), depends_on);
    }

    // The clients here.

    /// The client of this shard begins to track or changes how it does, which was checked with
    /// [`Tracked::check`]. `prefixes` add to those that it has.
    pub fn begin(
        &self,
        client: &Arc<ClientHandle>,
        mode: Mode,
        redirect: SessionId,
        prefixes: &[&[u8]],
    ) -> Rc<Tracked> {
        let mut local = self.local.borrow_mut();
        let Local {
            by_client,
            by_prefix,
        } = &mut *local;
        let tracked = by_client.entry(client.id).or_insert_with(|| {
            self.shared.client_came(self.shard);
            Rc::new(Tracked::new(Arc::clone(client)))
        });
        tracked.change(mode, redirect);
        let everything: &[&[u8]] = &[b""];
        let prefixes = match prefixes.is_empty() && mode.contains(Mode::BCAST) {
            true => everything,
            false => prefixes,
        };
        for prefix in prefixes {
            let prefix: Arc<[u8]> = Arc::from(*prefix);
            if tracked.add_prefix(&prefix) {
                self.shared.add_prefix(&prefix, self.shard);
                by_prefix
                    .entry(prefix)
                    .or_default()
                    .push(Rc::clone(tracked));
            }
        }
        Rc::clone(tracked)
    }

    /// The client tracks no more, or is gone. What is on its way to it is dropped.
    pub fn end(&self, client: SessionId) {
        let mut local = self.local.borrow_mut();
        let Some(tracked) = local.by_client.remove(&client) else {
            return;
        };
        for prefix in tracked.prefixes() {
            if let Some(clients) = local.by_prefix.get_mut(&prefix) {
                clients.retain(|other| other.client.id != client);
                if clients.is_empty() {
                    local.by_prefix.remove(&prefix);
                }
            }
            self.shared.remove_prefix(&prefix, self.shard);
        }
        tracked.show_end();
        self.shared.client_went(self.shard);
    }

    /// Tells others about the table of this shard.
    pub fn note_table(&self, shard: ShardId, keys: usize, items: usize) {
        self.shared.note_table(shard, keys, items);
    }
}
