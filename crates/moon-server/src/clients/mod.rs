//! The registry of connected clients: touched when a client comes and goes, and by CLIENT
//! commands; never by the path of a command.
//!
//! * [`handle`]: what is known about one client, written by its connection, read by anyone.
//! * [`output_guard`]: when a client has left too much unread.
//! * [`filter`]: the arguments of CLIENT LIST, KILL, SETNAME and SETINFO, without I/O.

pub mod filter;
pub mod handle;
pub mod output_guard;

pub use filter::{ClientError, ClientType, KillFilter, KillRequest, ListFilter};
pub use handle::{CMD_NONE, ClientHandle, Flags, Peer};
pub use output_guard::{OutputGuard, output_limit};

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// All clients of one server.
#[derive(Debug)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<ClientHandle>>>,
    next_id: AtomicU64,
    started: Instant,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            by_id: Mutex::default(),
            next_id: AtomicU64::new(1),
            started: Instant::now(),
        }
    }
}

/// A client's place in the registry; dropping it takes the client out.
#[derive(Debug)]
pub struct Registration {
    clients: Arc<Clients>,
    handle: Arc<ClientHandle>,
}

impl Registration {
    /// The client.
    #[must_use]
    pub fn handle(&self) -> &Arc<ClientHandle> {
        &self.handle
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.handle.id);
    }
}

impl Clients {
    /// An empty registry. Ids start at 1 and are never used twice.
    #[must_use]
    pub fn new() -> Arc<Clients> {
        Arc::default()
    }

    /// Milliseconds on the registry's clock, for [`ClientHandle::touch`].
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Enters a client that has just connected.
    #[must_use]
    pub fn connect(self: &Arc<Clients>, peer: Peer) -> Registration {
        let mut by_id = self.lock();
        self.enter(&mut by_id, peer)
    }

    /// Enters a client only if fewer than `maxclients` are connected.
    #[must_use]
    pub fn connect_below(self: &Arc<Clients>, maxclients: u32, peer: Peer) -> Option<Registration> {
        let mut by_id = self.lock();
        ((by_id.len() as u64) < u64::from(maxclients)).then(|| self.enter(&mut by_id, peer))
    }

    fn enter(
        self: &Arc<Clients>,
        by_id: &mut BTreeMap<u64, Arc<ClientHandle>>,
        peer: Peer,
    ) -> Registration {
        let id = self.next_id.fetch_add(1, Relaxed);
        let handle = Arc::new(ClientHandle::new(id, peer, self.now_ms()));
        by_id.insert(id, Arc::clone(&handle));
        Registration {
            clients: Arc::clone(self),
            handle,
        }
    }

    /// Clients connected now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no client is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// One client by its id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Arc<ClientHandle>> {
        self.lock().get(&id).map(Arc::clone)
    }

    /// All clients, in the order of their ids.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ClientHandle>> {
        self.lock().values().map(Arc::clone).collect()
    }

    /// CLIENT LIST: one line per client that passes the filter. `command_name` gives the name
    /// of a command id, such as `client|list`.
    #[must_use]
    pub fn list<'a>(
        &self,
        filter: &ListFilter,
        command_name: impl Fn(u16) -> Option<&'a str>,
    ) -> String {
        let now = self.now_ms();
        let mut out = String::new();
        for client in self.all().iter().filter(|c| filter.matches(c)) {
            let line = client.line(now, &command_name);
            // Writing to a String cannot fail.
            let _infallible = writeln!(out, "{line}");
        }
        out
    }

    /// CLIENT KILL: marks the clients that pass the filter and wakes their tasks. Returns how
    /// many, and whether the caller is among them: it then closes after its reply.
    pub fn kill(&self, filter: &KillFilter, caller: u64) -> (usize, bool) {
        let now = self.now_ms();
        let (mut killed, mut myself) = (0, false);
        for client in self.all() {
            if !filter.matches(&client, caller, now) {
                continue;
            }
            killed += 1;
            if client.id == caller {
                myself = true;
            } else {
                client.kill();
            }
        }
        (killed, myself)
    }

    /// Ends clients, the largest first, until what is left of them holds at most `limit` bytes.
    /// Returns how many. Those that asked not to be ended count, but stay.
    pub fn evict(&self, limit: u64) -> u64 {
        let all = self.all();
        let mut held: Vec<(u64, &Arc<ClientHandle>)> = all
            .iter()
            .filter(|client| !client.is_killed())
            .map(|client| (client.total_memory(), client))
            .collect();
        let mut sum: u64 = held.iter().map(|(bytes, _)| bytes).sum();
        if sum <= limit {
            return 0;
        }
        held.retain(|(_, client)| !client.has_flag(Flags::NoEvict));
        held.sort_unstable_by_key(|(bytes, client)| (std::cmp::Reverse(*bytes), client.id));
        let mut evicted = 0;
        for (bytes, client) in held {
            if sum <= limit {
                break;
            }
            tracing::info!(
                "Evicting client {} with {bytes} bytes: all clients hold {sum}, more than \
                 maxmemory-clients",
                client.id
            );
            client.kill();
            sum -= bytes;
            evicted += 1;
        }
        evicted
    }

    /// Marks and wakes all clients, at shutdown.
    pub fn kill_all(&self) {
        for client in self.all() {
            client.kill();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<ClientHandle>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addr: &str) -> Peer {
        Peer {
            addr: addr.to_owned(),
            laddr: "127.0.0.1:6379".to_owned(),
            fd: 8,
            unix: false,
        }
    }

    #[test]
    fn a_client_is_listed_until_its_registration_is_dropped() {
        let clients = Clients::new();
        let a = clients.connect(peer("127.0.0.1:1"));
        let b = clients.connect(peer("127.0.0.1:2"));
        assert_eq!((a.handle().id, b.handle().id), (1, 2));
        assert_eq!(clients.list(&ListFilter::All, |_| None).lines().count(), 2);
        drop(a);
        assert_eq!(clients.len(), 1);
        assert!(clients.get(1).is_none());
        assert_eq!(clients.connect(peer("127.0.0.1:3")).handle().id, 3);
    }

    #[test]
    fn maxclients_is_a_bound() {
        let clients = Clients::new();
        let first = clients.connect_below(1, peer("127.0.0.1:1"));
        assert!(first.is_some());
        assert!(clients.connect_below(1, peer("127.0.0.1:2")).is_none());
        drop(first);
        assert!(clients.connect_below(1, peer("127.0.0.1:3")).is_some());
    }

    #[test]
    fn a_killed_client_is_woken_even_if_it_waits_later() {
        let clients = Clients::new();
        let a = clients.connect(peer("127.0.0.1:1"));
        let b = clients.connect(peer("127.0.0.1:2"));
        let filter = KillFilter {
            addr: Some("127.0.0.1:2".to_owned()),
            ..KillFilter::default()
        };
        assert_eq!(clients.kill(&filter, a.handle().id), (1, false));
        assert!(b.handle().is_killed() && !a.handle().is_killed());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(b.handle().killed());
    }

    #[test]
    fn the_largest_clients_are_evicted_first_and_only_as_many_as_needed() {
        let clients = Clients::new();
        let all: Vec<Registration> = (1..=5)
            .map(|port| clients.connect(peer(&format!("127.0.0.1:{port}"))))
            .collect();
        for (client, size) in all.iter().zip([10, 5000, 90_000, 3000, 70_000]) {
            client.handle().qbuf.store(size, Relaxed);
            client.handle().note_total();
        }
        all[2].handle().set_flag(Flags::NoEvict, true);
        let killed = || {
            let killed = |client: &Registration| client.handle().is_killed();
            all.iter().map(killed).collect::<Vec<_>>()
        };
        let sum: u64 = all
            .iter()
            .map(|client| client.handle().total_memory())
            .sum();
        assert_eq!(clients.evict(sum), 0);
        assert_eq!(clients.evict(sum - 1), 1);
        assert_eq!(killed(), [false, false, false, false, true]);
        assert_eq!(clients.evict(sum - 70_000), 0);
        assert_eq!(clients.evict(0), 3);
        assert_eq!(killed(), [true, true, false, true, true]);
    }

    #[test]
    fn the_caller_is_skipped_unless_it_says_otherwise() {
        let clients = Clients::new();
        let a = clients.connect(peer("127.0.0.1:1"));
        let _b = clients.connect(peer("127.0.0.1:2"));
        let mut filter = KillFilter {
            kind: Some(ClientType::Normal),
            ..KillFilter::default()
        };
        assert_eq!(clients.kill(&filter, a.handle().id), (1, false));
        filter.skip_me = false;
        assert_eq!(clients.kill(&filter, a.handle().id), (2, true));
        assert!(!a.handle().is_killed());
    }
}
