//! The subscriptions of one shard's connections: by client, for what the client asks, and by name,
//! for what comes in.

use super::registry::{Kind, Moment};
use crate::clients::{ClientHandle, Flags};
use moon_resp::Protocol;
use moon_shard::{Session, SessionId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A connection of this shard.
pub(super) struct Member {
    pub(super) session: Rc<dyn Session>,
    pub(super) client: Arc<ClientHandle>,
    /// Something was put into its gate in the present round.
    pub(super) touched: Cell<bool>,
    /// What it has subscribed to, by [`Kind`].
    names: RefCell<[BTreeSet<Arc<[u8]>>; 3]>,
    /// Bytes that its subscriptions take, about.
    bytes: Cell<usize>,
}

impl Member {
    /// The protocol that it speaks now.
    pub(super) fn protocol(&self) -> Protocol {
        match self.client.resp.load(Relaxed) {
            3 => Protocol::Resp3,
            _ => Protocol::Resp2,
        }
    }

    fn count(&self, kind: Kind) -> usize {
        self.names.borrow()[kind as usize].len()
    }

    /// Tells the client's handle how many subscriptions it has.
    fn show(&self) {
        let names = self.names.borrow();
        let shown = [&self.client.sub, &self.client.psub, &self.client.ssub];
        for (names, shown) in names.iter().zip(shown) {
            shown.store(u32::try_from(names.len()).unwrap_or(u32::MAX), Relaxed);
        }
        let is_subscriber = names.iter().any(|names| !names.is_empty());
        self.client.set_flag(Flags::PubSub, is_subscriber);
        self.client.sub_mem.store(self.bytes.get() as u64, Relaxed);
    }
}

/// What one subscription takes besides its name: its places in two tables here and in the
/// registry, about.
const ENTRY_BYTES: usize = 128;

/// One subscription to a name.
pub(super) struct Subscriber {
    pub(super) member: Rc<Member>,
    pub(super) since: Moment,
}

type Subscribers = HashMap<SessionId, Subscriber>;

/// All connections of one shard and their subscriptions.
#[derive(Default)]
pub(super) struct Local {
    members: HashMap<SessionId, Rc<Member>>,
    by_name: [HashMap<Arc<[u8]>, Subscribers>; 3],
}

impl Local {
    /// Enters a connection.
    pub(super) fn enter(&mut self, session: Rc<dyn Session>, client: Arc<ClientHandle>) {
        let member = Member {
            session,
            client,
            touched: Cell::new(false),
            names: RefCell::default(),
            bytes: Cell::new(0),
        };
        self.members.insert(member.session.id(), Rc::new(member));
    }

    /// Forgets a connection that has no subscriptions any more.
    pub(super) fn leave(&mut self, id: SessionId) {
        self.members.remove(&id);
    }

    /// One connection.
    pub(super) fn member(&self, id: SessionId) -> Option<&Rc<Member>> {
        self.members.get(&id)
    }

    /// The subscribers of a name.
    pub(super) fn subscribers<'a>(
        &'a self,
        kind: Kind,
        name: &[u8],
    ) -> impl Iterator<Item = &'a Subscriber> + use<'a> {
        let found = self.by_name[kind as usize].get(name);
        found.into_iter().flat_map(HashMap::values)
    }

    /// Subscribes to a name; `enter` tells the registry, and is not called if the subscription is
    /// there already.
    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        kind: Kind,
        name: &[u8],
        enter: impl FnOnce(&Arc<[u8]>) -> Moment,
    ) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        if member.names.borrow()[kind as usize].contains(name) {
            return;
        }
        let of_kind = &mut self.by_name[kind as usize];
        let name: Arc<[u8]> = match of_kind.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => name.into(),
        };
        let subscriber = Subscriber {
            member: Rc::clone(member),
            since: enter(&name),
        };
        let subscribers = of_kind.entry(Arc::clone(&name)).or_default();
        subscribers.insert(id, subscriber);
        member
            .bytes
            .set(member.bytes.get() + name.len() + ENTRY_BYTES);
        member.names.borrow_mut()[kind as usize].insert(name);
    }

    /// Ends a subscription; whether there was one.
    pub(super) fn unsubscribe(&mut self, id: SessionId, kind: Kind, name: &[u8]) -> bool {
        let Some(member) = self.members.get(&id) else {
            return false;
        };
        if !member.names.borrow_mut()[kind as usize].remove(name) {
            return false;
        }
        member
            .bytes
            .set(member.bytes.get() - name.len() - ENTRY_BYTES);
        let of_kind = &mut self.by_name[kind as usize];
        if let Some(subscribers) = of_kind.get_mut(name) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                of_kind.remove(name);
            }
        }
        true
    }

    /// What a connection has subscribed to, in the order of the names.
    pub(super) fn names(&self, id: SessionId, kind: Kind) -> Vec<Arc<[u8]>> {
        self.members.get(&id).map_or_else(Vec::new, |member| {
            let names = member.names.borrow();
            names[kind as usize].iter().cloned().collect()
        })
    }

    /// How many subscriptions of one kind a connection has.
    pub(super) fn count(&self, id: SessionId, kind: Kind) -> usize {
        self.members.get(&id).map_or(0, |member| member.count(kind))
    }

    /// Brings what CLIENT LIST says of a connection up to date.
    pub(super) fn show(&self, id: SessionId) {
        if let Some(member) = self.members.get(&id) {
            member.show();
        }
    }
}
