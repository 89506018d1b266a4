//! The hub of one shard thread: what is said here leaves through it, what is for clients here
//! arrives at it.
//!
//! On the way out, a message is kept while its place in the history is not known: until the end of
//! the turn whose effects it depends on, or of the transaction that it belongs to. On the way in,
//! everything joins one queue, which a task empties into the gates of the receivers; each of them
//! is then sent to once.
//!
//! What a command makes known lies in the mailboxes of all shards that it concerns before its reply
//! leaves. So that nobody who has seen that reply can find somebody who was not told, a connection
//! that is told things has what lies there put into its gate before it executes what it read, see
//! [`Hub::catch_up`].

use super::local::{Local, Member};
use super::message::{Message, Push};
use super::registry::{Kind, Registry};
use crate::clients::ClientHandle;
use crate::stats::ServerStats;
use moon_core::{Lsn, ShardId};
use moon_resp::Protocol;
use moon_shard::mailbox::{ControlMessage, Directory, Errand};
use moon_shard::{Session, SessionId, Shard};
use moon_store::THIS_TURN;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Where a client is: its home shard and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The shard of its connection.
    pub shard: ShardId,
    /// Its id.
    pub client: u64,
}

/// What is sent.
#[derive(Clone)]
enum Item {
    Message(Arc<Message>),
    Push(SessionId, Arc<Push>),
}

impl Item {
    fn memory(&self) -> usize {
        match self {
            Item::Message(message) => message.memory(),
            Item::Push(_, push) => push.memory(),
        }
    }
}

/// Something on its way to one shard's clients.
struct Delivery {
    item: Item,
    depends_on: Lsn,
}

/// Something that waits for its place in the history.
struct Kept {
    shards: moon_shard::ShardMask,
    item: Item,
    depends_on: Lsn,
}

#[derive(Default)]
struct Outgoing {
    /// Waits for the frame that the turn becomes.
    turn: Vec<Kept>,
    unit: Unit,
}

/// What EXEC or a script says to others, until it is over.
#[derive(Default)]
pub struct Unit {
    kept: Vec<Kept>,
    /// How many units within each other have begun.
    depth: u32,
    /// What the inner ones that have ended depend on.
    depends_on: Lsn,
}

/// See the [module](self). One per shard thread.
pub struct Hub {
    shard: ShardId,
    registry: Arc<Registry>,
    directory: Directory,
    local: RefCell<Local>,
    inbox: RefCell<VecDeque<Delivery>>,
    /// How much has ever joined the inbox.
    received: Cell<u64>,
    filled: Notify,
    /// Clients here whose replies leave with the next round of deliveries.
    held_back: RefCell<Vec<Rc<dyn Session>>>,
    outgoing: RefCell<Outgoing>,
    stats: Arc<ServerStats>,
}

thread_local! {
    static HUB: OnceCell<Rc<Hub>> = const { OnceCell::new() };
}

/// Writes into gates between two looks at what else there is to do.
const WRITES_PER_ROUND: usize = 8192;
/// A gate with more open bytes is sent from before more is added: what a burst brings is not held
/// against a client that reads.
const SEND_EARLY_BYTES: usize = 64 << 10;

impl Hub {
    /// Makes the hub of this thread, that of `shard`. Once per thread.
    ///
    /// # Panics
    /// When the thread has a hub.
    pub fn install(
        shard: ShardId,
        registry: Arc<Registry>,
        directory: Directory,
        stats: Arc<ServerStats>,
    ) -> Rc<Hub> {
        let hub = Rc::new(Hub {
            shard,
            registry,
            directory,
            local: RefCell::default(),
            inbox: RefCell::default(),
            received: Cell::default(),
            filled: Notify::new(),
            held_back: RefCell::default(),
            outgoing: RefCell::default(),
            stats,
        });
        let is_first = HUB.with(|slot| slot.set(Rc::clone(&hub)).is_ok());
        assert!(is_first, "a thread serves one shard");
        hub
    }

    /// The hub of this thread.
    ///
    /// # Panics
    /// On a thread that serves no shard.
    #[must_use]
    pub fn of_this_thread() -> Rc<Hub> {
        HUB.with(|slot| slot.get().cloned())
            .expect("a shard's thread has a hub before it serves anybody")
    }

    /// The numbers that all threads share.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The address of a client of this shard.
    #[must_use]
    pub fn address_of(&self, client: u64) -> Address {
        Address {
            shard: self.shard,
            client,
        }
    }

    // What is said here.

    /// Publishes `payload` to `channel`, of `kind` channel or shard channel. Returns how many
    /// subscriptions get it. It is shown when `depends_on` is committed; see the
    /// [parent](super) for its values.
    pub fn publish(&self, kind: Kind, channel: &[u8], payload: &[u8], depends_on: Lsn) -> usize {
        let stats = self.stats.shard(self.shard.index());
        stats.pubsub_messages.add(1);
        if kind == Kind::Channel && self.registry.is_silent() {
            return 0;
        }
        let mut message = Message::new(kind, channel, payload);
        let found = self.registry.find(&mut message);
        if found.receivers > 0 {
            self.emit(Kept {
                shards: found.shards,
                item: Item::Message(Arc::new(message)),
                depends_on,
            });
        }
        found.receivers
    }

    /// Sends `push` to one client, if it is still there when it arrives.
    pub fn push_to(&self, to: Address, push: Push, depends_on: Lsn) {
        self.emit(Kept {
            shards: moon_shard::ShardMask::default().with(to.shard),
            item: Item::Push(to.client, Arc::new(push)),
            depends_on,
        });
    }

    /// What is said from here on belongs together, until [`Hub::end_unit`].
    pub fn begin_unit(&self) {
        self.outgoing.borrow_mut().unit.depth += 1;
    }

    /// The unit is over; all of it depends on `depends_on`, besides what was given with each. An
    /// inner unit waits for the one around it.
    pub fn end_unit(&self, depends_on: Lsn) {
        let (kept, depends_on) = {
            let mut outgoing = self.outgoing.borrow_mut();
            let unit = &mut outgoing.unit;
            unit.depth -= 1;
            unit.depends_on = unit.depends_on.max(depends_on);
            if unit.depth > 0 {
                return;
            }
            let unit = std::mem::take(unit);
            (unit.kept, unit.depends_on)
        };
        for mut item in kept {
            item.depends_on = item.depends_on.max(depends_on);
            self.emit(item);
        }
    }

    /// The unit steps aside while others run here: what they say is no part of it. To be given
    /// back with [`Hub::take_unit_back`]; dropped, nothing of it is ever said.
    #[must_use]
    pub fn set_unit_aside(&self) -> Unit {
        std::mem::take(&mut self.outgoing.borrow_mut().unit)
    }

    /// The unit goes on.
    pub fn take_unit_back(&self, unit: Unit) {
        let before = std::mem::replace(&mut self.outgoing.borrow_mut().unit, unit);
        debug_assert_eq!(before.depth, 0, "whoever awaits in a unit sets it aside");
    }

    /// Whether something waits for the frame that the turn becomes. What must not come before it, waits
    /// with it as [`THIS_TURN`].
    pub(crate) fn waits_for_turn(&self) -> bool {
        !self.outgoing.borrow().turn.is_empty()
    }

    /// The turn, or a transaction executed here, became a frame that ends at `end`.
    pub fn frame_ended(&self, end: Lsn) {
        let kept = {
            let mut outgoing = self.outgoing.borrow_mut();
            // A transaction becomes a frame before its unit ends, and behind the units of its scripts.
            if outgoing.unit.depends_on == THIS_TURN {
                outgoing.unit.depends_on = end;
            }
            for item in &mut outgoing.unit.kept {
                if item.depends_on == THIS_TURN {
                    item.depends_on = end;
                }
            }
            std::mem::take(&mut outgoing.turn)
        };
        for mut item in kept {
            item.depends_on = end;
            self.send(item);
        }
    }

    fn emit(&self, item: Kept) {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.unit.depth > 0 {
            outgoing.unit.kept.push(item);
        } else if item.depends_on == THIS_TURN {
            outgoing.turn.push(item);
        } else {
            drop(outgoing);
            self.send(item);
        }
    }

    fn send(&self, item: Kept) {
        let Kept {
            shards,
            item,
            depends_on,
        } = item;
        for shard in shards.iter() {
            self.registry.departed(item.memory());
            let item = item.clone();
            let delivery = Delivery { item, depends_on };
            let mailbox = self.directory.of(shard);
            // Also to this shard, unless nothing lies there: what came from others before may be
            // what made this publisher speak.
            if shard == self.shard && mailbox.has_no_control() {
                self.receive(delivery);
                continue;
            }
            let errand = Box::new(move |_: &Rc<Shard>| Hub::of_this_thread().receive(delivery));
            mailbox.send_control(ControlMessage::Run(errand));
        }
    }

    // What is for clients here.

    fn receive(&self, delivery: Delivery) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.is_empty() {
            self.filled.notify_one();
        }
        inbox.push_back(delivery);
        self.received.set(self.received.get() + 1);
    }

    /// If what a client said goes to clients here, its reply leaves with that and not before: so it
    /// says more only then, and what many say at once goes out together. Redis sends both at the
    /// end of a round of its event loop.
    pub fn answer_with_delivery(&self, client: SessionId) {
        if self.inbox.borrow().is_empty() {
            return;
        }
        if let Some(member) = self.local.borrow().member(client)
            && !member.session.gate().borrow_mut().hold_back(true)
        {
            let session = Rc::clone(&member.session);
            self.held_back.borrow_mut().push(session);
        }
    }

    /// Whether something may be on its way to clients here.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.directory.of(self.shard).has_no_control() || !self.inbox.borrow().is_empty()
    }

    /// Returns when all that lay in the mailbox of this shard, or behind it, is in the gates of the
    /// clients here. What comes later is not waited for.
    ///
    /// Not so what is redirected from a client of one shard to a client of another: it goes through
    /// two mailboxes.
    pub async fn catch_up(&self, shard: &Shard) {
        let (done, is_done) = oneshot::channel();
        // Twice through the mailbox: news about a copy are sent on from there once they have come.
        let second: Errand = Box::new(move |_| done.send(()).unwrap_or_default());
        let first: Errand = Box::new(move |shard| {
            let mailbox = shard.directory().of(shard.id());
            mailbox.send_control(ControlMessage::Run(second));
        });
        let mailbox = self.directory.of(self.shard);
        mailbox.send_control(ControlMessage::Run(first));
        // The mailbox drops no message, so there always is an answer.
        drop(is_done.await);
        let wanted = self.received.get();
        let delivered = || self.received.get() - self.inbox.borrow().len() as u64;
        while delivered() < wanted {
            self.deliver(shard);
            if delivered() < wanted {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Delivers what comes in, for as long as the thread lives.
    pub async fn run(self: Rc<Self>, shard: Rc<Shard>) {
        loop {
            self.filled.notified().await;
            // What publishers say whose requests have arrived meanwhile goes out with it: one
            // system call per receiver, not one per message.
            tokio::task::yield_now().await;
            while self.deliver(&shard) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Puts what came in into the gates of its receivers, and sends to each of them once. Returns
    /// whether there is more.
    fn deliver(&self, shard: &Shard) -> bool {
        let committed = shard.clock().committed();
        let local = self.local.borrow();
        let mut round = Round {
            shard,
            depends_on: Lsn::ZERO,
            touched: Vec::new(),
            writes: 0,
        };
        while round.writes < WRITES_PER_ROUND {
            // Taken one by one: what is sent may make something come in.
            let Some(delivery) = self.inbox.borrow_mut().pop_front() else {
                break;
            };
            let Delivery { item, depends_on } = delivery;
            round.depends_on = match depends_on {
                lsn if lsn <= committed => Lsn::ZERO,
                lsn => lsn,
            };
            match &item {
                Item::Message(message) => round.deliver_message(&local, message),
                Item::Push(client, push) => {
                    if let Some(member) = local.member(*client)
                        && !push.bytes(member.protocol()).is_empty()
                    {
                        round.write(member, |out, protocol| {
                            out.extend_from_slice(push.bytes(protocol));
                        });
                    }
                }
            }
            self.registry.arrived(item.memory());
        }
        for member in round.touched {
            member.touched.set(false);
            shard.settle(&member.session);
        }
        for session in self.held_back.take() {
            session.gate().borrow_mut().hold_back(false);
            shard.settle(&session);
        }
        !self.inbox.borrow().is_empty()
    }

    // The connections here.

    /// A connection has come.
    pub fn enter(&self, session: Rc<dyn Session>, client: Arc<ClientHandle>) {
        self.local.borrow_mut().enter(session, client);
    }

    /// A connection has gone, and its subscriptions with it.
    pub fn leave(&self, client: SessionId) {
        self.unsubscribe_all(client);
        self.local.borrow_mut().leave(client);
    }

    /// Subscribes a client of this shard; one that has that subscription keeps it.
    pub fn subscribe(&self, client: SessionId, kind: Kind, name: &[u8]) {
        let enter = |name: &Arc<[u8]>| self.registry.add(kind, name, self.shard);
        let mut local = self.local.borrow_mut();
        local.subscribe(client, kind, name, enter);
    }

    /// Ends a subscription, if there is that one.
    pub fn unsubscribe(&self, client: SessionId, kind: Kind, name: &[u8]) {
        if self.local.borrow_mut().unsubscribe(client, kind, name) {
            self.registry.remove(kind, name, self.shard);
        }
    }

    /// Ends all subscriptions of a client, of every kind.
    pub fn unsubscribe_all(&self, client: SessionId) {
        for kind in Kind::ALL {
            for name in self.names(client, kind) {
                self.unsubscribe(client, kind, &name);
            }
        }
        self.show(client);
    }

    /// What a client has subscribed to.
    #[must_use]
    pub fn names(&self, client: SessionId, kind: Kind) -> Vec<Arc<[u8]>> {
        self.local.borrow().names(client, kind)
    }

    /// How many subscriptions of one kind a client has.
    #[must_use]
    pub fn count(&self, client: SessionId, kind: Kind) -> usize {
        self.local.borrow().count(client, kind)
    }

    /// Brings what CLIENT LIST says of a client's subscriptions up to date.
    pub fn show(&self, client: SessionId) {
        self.local.borrow().show(client);
    }
}

/// One round of deliveries.
struct Round<'a> {
    shard: &'a Shard,
    /// Of the present delivery.
    depends_on: Lsn,
    touched: Vec<Rc<Member>>,
    writes: usize,
}

impl Round<'_> {
    fn deliver_message(&mut self, local: &Local, message: &Message) {
        for subscriber in local.subscribers(message.kind, &message.channel) {
            if message.moment.reaches(subscriber.since) {
                let write = |out: &mut Vec<u8>, protocol| message.write(out, protocol);
                self.write(&subscriber.member, write);
            }
        }
        for pattern in &message.patterns {
            for subscriber in local.subscribers(Kind::Pattern, pattern) {
                if message.pattern_moment.reaches(subscriber.since) {
                    self.write(&subscriber.member, |out, protocol| {
                        message.write_for_pattern(pattern, out, protocol);
                    });
                }
            }
        }
    }

    fn write(&mut self, member: &Rc<Member>, write: impl FnOnce(&mut Vec<u8>, Protocol)) {
        // Whoever is about to be closed has no use for more.
        if member.client.is_killed() {
            return;
        }
        self.writes += 1;
        let is_long = {
            let mut gate = member.session.gate().borrow_mut();
            let tail = gate.tail();
            let start = tail.len();
            write(tail, member.protocol());
            gate.settle(start, self.depends_on);
            gate.open().len() > SEND_EARLY_BYTES
        };
        if is_long {
            self.shard.settle(&member.session);
        }
        if !member.touched.replace(true) {
            self.touched.push(Rc::clone(member));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_core::ShardCount;

    const HERE: ShardId = ShardId(0);
    const THERE: ShardId = ShardId(1);

    /// A hub with a subscriber of `c` on this shard and on another.
    fn hub() -> Rc<Hub> {
        let registry = Arc::new(Registry::default());
        for shard in [HERE, THERE] {
            registry.add(Kind::Channel, &Arc::from(&b"c"[..]), shard);
        }
        let count = ShardCount::new(2).expect("two is a number of shards");
        let stats = Arc::new(ServerStats::new(2, 1, 0));
        Hub::install(HERE, registry, Directory::new(count), stats)
    }

    fn publish(hub: &Hub, depends_on: Lsn) {
        assert_eq!(hub.publish(Kind::Channel, b"c", b"m", depends_on), 2);
    }

    /// How much has left for each of the two shards. What is for this one comes by no mailbox.
    fn left(hub: &Hub) -> [usize; 2] {
        let there = hub.directory.of(THERE);
        let there = std::iter::from_fn(|| there.take_control()).count();
        assert!(hub.directory.of(HERE).has_no_control());
        [hub.inbox.take().len(), there]
    }

    #[test]
    fn what_others_sent_before_comes_before_what_is_said_here() {
        let hub = hub();
        let before: Errand = Box::new(|_| ());
        let mailbox = hub.directory.of(HERE);
        mailbox.send_control(ControlMessage::Run(before));
        publish(&hub, Lsn(5));
        assert!(hub.inbox.borrow().is_empty());
        assert_eq!(std::iter::from_fn(|| mailbox.take_control()).count(), 2);
    }

    #[test]
    fn what_depends_on_the_turn_leaves_with_its_frame() {
        let hub = hub();
        publish(&hub, Lsn(5));
        assert_eq!(left(&hub), [1, 1]);
        publish(&hub, THIS_TURN);
        assert_eq!(left(&hub), [0, 0]);
        hub.frame_ended(Lsn(9));
        assert_eq!(left(&hub), [1, 1]);
        hub.frame_ended(Lsn(12));
        assert_eq!(left(&hub), [0, 0]);
    }

    #[test]
    fn a_unit_leaves_as_one_with_the_dependency_of_the_outermost() {
        let hub = hub();
        hub.begin_unit();
        publish(&hub, Lsn(3));
        hub.begin_unit();
        publish(&hub, Lsn(20));
        hub.end_unit(Lsn(7));
        // The transaction itself becomes a frame before its unit ends.
        hub.frame_ended(Lsn(10));
        assert_eq!(left(&hub), [0, 0]);
        hub.end_unit(Lsn(10));
        assert_eq!(left(&hub), [2, 2]);

        hub.begin_unit();
        publish(&hub, Lsn::ZERO);
        hub.end_unit(THIS_TURN);
        assert_eq!(left(&hub), [0, 0]);
        hub.frame_ended(Lsn(30));
        assert_eq!(left(&hub), [1, 1]);

        // A script in a transaction, whose frame it joins.
        hub.begin_unit();
        hub.begin_unit();
        publish(&hub, Lsn::ZERO);
        hub.end_unit(THIS_TURN);
        hub.frame_ended(Lsn(40));
        hub.end_unit(Lsn(40));
        assert_eq!(left(&hub), [1, 1]);
    }

    #[test]
    fn what_a_transaction_says_of_its_own_frame_leaves_with_its_unit() {
        let hub = hub();
        hub.begin_unit();
        publish(&hub, THIS_TURN);
        hub.frame_ended(Lsn(10));
        assert_eq!(left(&hub), [0, 0]);
        hub.end_unit(Lsn(10));
        assert_eq!(left(&hub), [1, 1]);
    }

    #[test]
    fn others_do_not_wait_for_a_unit_that_is_set_aside() {
        let hub = hub();
        hub.begin_unit();
        publish(&hub, THIS_TURN);
        let unit = hub.set_unit_aside();
        publish(&hub, Lsn(1));
        hub.begin_unit();
        publish(&hub, Lsn(2));
        hub.end_unit(Lsn(2));
        hub.frame_ended(Lsn(5));
        assert_eq!(left(&hub), [2, 2]);
        hub.take_unit_back(unit);
        hub.frame_ended(Lsn(8));
        hub.end_unit(Lsn(8));
        assert_eq!(left(&hub), [1, 1]);
    }

    #[test]
    fn nobody_is_looked_for_where_nobody_listens() {
        let hub = hub();
        assert_eq!(hub.publish(Kind::ShardChannel, b"c", b"m", Lsn::ZERO), 0);
        assert_eq!(hub.publish(Kind::Channel, b"d", b"m", Lsn::ZERO), 0);
        assert_eq!(left(&hub), [0, 0]);
    }
}
