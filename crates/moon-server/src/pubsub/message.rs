//! What is sent to subscribers, encoded once however many there are.
//!
//! A message differs between its receivers only in its first bytes: the protocol decides about the
//! type byte, a pattern stands between the word and the channel. Everything behind that is the
//! same for all, and is copied as it is.

use super::registry::{Kind, Moment};
use bytes::Bytes;
use moon_resp::{Protocol, Reply};
use std::sync::Arc;

/// One published message on its way.
#[derive(Debug)]
pub struct Message {
    /// What kind of channel it was published to.
    pub kind: Kind,
    /// The channel.
    pub channel: Box<[u8]>,
    /// The patterns that fit the channel, as the registry knew them.
    pub patterns: Vec<Arc<[u8]>>,
    /// When the channel's subscribers were counted: later ones do not get it.
    pub moment: Moment,
    /// The same of the patterns' subscribers.
    pub pattern_moment: Moment,
    /// Channel and payload as bulk strings.
    tail: Vec<u8>,
}

impl Message {
    /// A message to `channel`.
    #[must_use]
    pub fn new(kind: Kind, channel: &[u8], payload: &[u8]) -> Message {
        let mut tail = Vec::with_capacity(channel.len() + payload.len() + BULK_HEADS);
        let mut reply = Reply::new(&mut tail, Protocol::Resp2);
        reply.bulk(channel);
        reply.bulk(payload);
        Message {
            kind,
            channel: channel.into(),
            patterns: Vec::new(),
            moment: Moment::default(),
            pattern_moment: Moment::default(),
            tail,
        }
    }

    /// Appends what a subscriber of the channel reads.
    pub fn write(&self, out: &mut Vec<u8>, protocol: Protocol) {
        let mut reply = Reply::new(out, protocol);
        reply.push(3);
        reply.bulk(match self.kind {
            Kind::ShardChannel => b"smessage",
            Kind::Channel | Kind::Pattern => b"message",
        });
        reply.raw(&self.tail);
    }

    /// Appends what a subscriber of `pattern` reads.
    pub fn write_for_pattern(&self, pattern: &[u8], out: &mut Vec<u8>, protocol: Protocol) {
        let mut reply = Reply::new(out, protocol);
        reply.push(4);
        reply.bulk(b"pmessage");
        reply.bulk(pattern);
        reply.raw(&self.tail);
    }

    /// Bytes that it takes while it is under way.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Message>() + self.channel.len() + self.tail.len()
    }
}

/// Room for the heads and ends of two bulk strings.
const BULK_HEADS: usize = 32;

/// Something for one client alone, in each protocol; empty for what that protocol lacks.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// Sent if the client speaks RESP2 when it is delivered.
    pub resp2: Bytes,
    /// Sent if the client speaks RESP3 then.
    pub resp3: Bytes,
}

impl Push {
    /// What `write` writes in each protocol.
    #[must_use]
    pub fn new(write: impl Fn(&mut Reply<'_>)) -> Push {
        let encode = |protocol| {
            let mut bytes = Vec::new();
            write(&mut Reply::new(&mut bytes, protocol));
            Bytes::from(bytes)
        };
        Push {
            resp2: encode(Protocol::Resp2),
            resp3: encode(Protocol::Resp3),
        }
    }

    /// What a client of `protocol` reads.
    #[must_use]
    pub fn bytes(&self, protocol: Protocol) -> &[u8] {
        match protocol {
            Protocol::Resp2 => &self.resp2,
            Protocol::Resp3 => &self.resp3,
        }
    }

    /// Bytes that it takes while it is under way.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Push>() + self.resp2.len() + self.resp3.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_look_as_those_of_redis() {
        let message = Message::new(Kind::Channel, b"ch", b"hi");
        assert_eq!(
            text(|out| message.write(out, Protocol::Resp2)),
            "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            text(|out| message.write_for_pattern(b"c*", out, Protocol::Resp3)),
            ">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nch\r\n$2\r\nhi\r\n"
        );
        let message = Message::new(Kind::ShardChannel, b"ch", b"");
        assert_eq!(
            text(|out| message.write(out, Protocol::Resp3)),
            ">3\r\n$8\r\nsmessage\r\n$2\r\nch\r\n$0\r\n\r\n"
        );
    }
}
