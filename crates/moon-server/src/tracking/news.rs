//! What clients are told about stale copies, encoded once.
//!
//! In RESP3 it is a push. A client that speaks RESP2 can be told only on another connection: one
//! that has subscribed to something gets a message of the channel `__redis__:invalidate`.

use crate::pubsub::Push;
use bytes::Bytes;
use moon_resp::{Protocol, Reply};

const CHANNEL: &[u8] = b"__redis__:invalidate";

/// That copies are stale.
pub(super) struct News {
    push: Bytes,
    message: Bytes,
}

impl News {
    fn new(write_keys: impl Fn(&mut Reply<'_>)) -> News {
        let encode = |protocol: Protocol, head: &[&[u8]]| {
            let mut bytes = Vec::new();
            let mut reply = Reply::new(&mut bytes, protocol);
            reply.push(head.len() + 1);
            head.iter().for_each(|part| reply.bulk(part));
            write_keys(&mut reply);
            Bytes::from(bytes)
        };
        News {
            push: encode(Protocol::Resp3, &[b"invalidate"]),
            message: encode(Protocol::Resp2, &[b"message", CHANNEL]),
        }
    }

    /// For the client that has the copies.
    pub(super) fn direct(&self) -> Push {
        Push {
            resp2: Bytes::new(),
            resp3: self.push.clone(),
        }
    }

    /// For a client that is told in the place of another; `listens`: whether it has subscribed to
    /// anything.
    pub(super) fn redirected(&self, listens: bool) -> Push {
        Push {
            resp2: match listens {
                true => self.message.clone(),
                false => Bytes::new(),
            },
            resp3: self.push.clone(),
        }
    }
}

/// Copies of these keys are stale.
pub(super) fn stale(keys: &[&[u8]]) -> News {
    News::new(|reply| {
        reply.array(keys.len());
        keys.iter().for_each(|key| reply.bulk(key));
    })
}

/// All copies are stale.
pub(super) fn all_stale() -> News {
    News::new(|reply| reply.null())
}

/// The client that news were redirected to is gone.
pub(super) fn broken(redirect: u64) -> Push {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, Protocol::Resp3);
    reply.push(2);
    reply.bulk(b"tracking-redir-broken");
    reply.integer(i64::try_from(redirect).unwrap_or(i64::MAX));
    Push {
        resp2: Bytes::new(),
        resp3: Bytes::from(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_look_as_those_of_redis() {
        let news = stale(&[b"k"]);
        assert!(news.direct().resp2.is_empty());
        assert!(news.redirected(false).resp2.is_empty());
        assert_eq!(
            news.direct().resp3,
            ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
        );
        assert_eq!(
            news.redirected(true).resp2,
            "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n"
        );
        assert_eq!(
            all_stale().direct().resp3,
            ">2\r\n$10\r\ninvalidate\r\n_\r\n"
        );
        assert_eq!(
            broken(7).resp3,
            ">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n"
        );
    }
}
