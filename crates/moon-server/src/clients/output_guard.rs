//! When a client has left too much unread.

use super::{ClientHandle, ClientType, Flags};
use crate::config::{OutputClass, OutputLimit, OutputLimitsInForce};
use std::time::{Duration, Instant};

/// Remembers since when a client has been beyond its soft limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputGuard {
    beyond_since: Option<Instant>,
}

impl OutputGuard {
    /// Whether a client that has not read `unread` bytes must be closed. Asked whenever there is
    /// more, and now and then.
    pub fn is_exceeded(&mut self, unread: u64, limit: OutputLimit, now: Instant) -> bool {
        if limit.hard_bytes > 0 && unread >= limit.hard_bytes {
            return true;
        }
        if limit.soft_bytes == 0 || unread < limit.soft_bytes {
            self.beyond_since = None;
            return false;
        }
        let since = *self.beyond_since.get_or_insert(now);
        now.duration_since(since) > Duration::from_secs(limit.soft_seconds)
    }
}

/// The limit that a client falls under. A monitor falls under that of normal clients, as in Redis;
/// where that is none, under that of replicas, because what it is sent it has not asked for one by
/// one, and one that does not read would take all memory.
#[must_use]
pub fn output_limit(client: &ClientHandle, limits: &OutputLimitsInForce) -> OutputLimit {
    let normal = limits.of(OutputClass::Normal);
    match ClientType::of(client) {
        ClientType::Normal if client.has_flag(Flags::Monitor) && !normal.is_any() => {
            limits.of(OutputClass::Replica)
        }
        ClientType::Normal | ClientType::Master => normal,
        ClientType::Replica => limits.of(OutputClass::Replica),
        ClientType::PubSub => limits.of(OutputClass::PubSub),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OutputLimits;

    #[test]
    fn the_hard_limit_holds_at_once_and_the_soft_one_after_its_time() {
        let limit = OutputLimit {
            hard_bytes: 100,
            soft_bytes: 10,
            soft_seconds: 5,
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut guard = OutputGuard::default();
        assert!(!guard.is_exceeded(9, limit, at(0)));
        assert!(guard.is_exceeded(100, limit, at(0)));
        assert!(!guard.is_exceeded(50, limit, at(1)));
        assert!(!guard.is_exceeded(10, limit, at(6)));
        assert!(guard.is_exceeded(10, limit, at(7)));
        // It has read in between, so its time begins again.
        assert!(!guard.is_exceeded(9, limit, at(8)));
        assert!(!guard.is_exceeded(50, limit, at(20)));
        assert!(guard.is_exceeded(50, limit, at(26)));
    }

    #[test]
    fn a_monitor_has_the_limit_of_normal_clients_or_else_that_of_replicas() {
        let clients = crate::clients::Clients::new();
        let registration = clients.connect(crate::clients::Peer {
            addr: "127.0.0.1:1".to_owned(),
            laddr: String::new(),
            fd: 8,
            unix: false,
        });
        let client = registration.handle();
        let (mut limits, in_force) = (OutputLimits::default(), OutputLimitsInForce::default());
        in_force.store(&limits);
        assert_eq!(output_limit(client, &in_force), OutputLimit::default());
        client.set_flag(Flags::Monitor, true);
        assert_eq!(output_limit(client, &in_force), limits.0[1]);
        limits.set(&["normal 0 100 60"]).unwrap();
        in_force.store(&limits);
        assert_eq!(output_limit(client, &in_force), limits.0[0]);
        client.set_flag(Flags::PubSub, true);
        assert_eq!(output_limit(client, &in_force), limits.0[2]);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut guard = OutputGuard::default();
        let now = Instant::now();
        assert!(!guard.is_exceeded(u64::MAX, OutputLimit::default(), now));
        assert!(!guard.is_exceeded(
            u64::MAX,
            OutputLimit::default(),
            now + Duration::from_secs(99)
        ));
    }
}
