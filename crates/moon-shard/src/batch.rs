//! Commands that run on another shard than their connection's: one message per shard and read
//! buffer there, one message back.

use crate::caller::Caller;
use crate::gate::Ticket;
use crate::shard::SessionId;
use bytes::Bytes;
use moon_commands::CommandId;
use moon_core::{Lsn, ShardId};
use moon_resp::{Args, Protocol, Span};
use moon_store::DbIndex;

/// One command of a batch: `spans[first..first + count]` are its arguments.
#[derive(Clone, Copy, Debug)]
pub struct BatchCommand {
    /// Which command.
    pub id: CommandId,
    /// Index of its first span.
    pub first: u32,
    /// Number of its spans.
    pub count: u32,
    /// Where its reply belongs; neighbours may share a ticket.
    pub ticket: Ticket,
}

/// Commands of one connection for one shard, in order.
#[derive(Debug)]
pub struct Batch {
    /// The connection's shard.
    pub from: ShardId,
    /// The connection.
    pub session: SessionId,
    /// Its database.
    pub db: DbIndex,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether it keeps copies of what it reads.
    pub remembers: bool,
    /// The bytes that the spans point into.
    pub buf: Bytes,
    /// Arguments of all commands.
    pub spans: Vec<Span>,
    /// The commands.
    pub commands: Vec<BatchCommand>,
}

impl Batch {
    /// The connection.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            client: self.session,
            shard: self.from,
            remembers: self.remembers,
            in_script: false,
        }
    }

    /// The arguments of one of its commands.
    #[must_use]
    pub fn args(&self, command: &BatchCommand) -> Args<'_> {
        let first = command.first as usize;
        Args::new(
            &self.buf,
            &self.spans[first..first + command.count as usize],
        )
    }
}

/// Replies of neighbouring commands with one ticket.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Where they belong.
    pub ticket: Ticket,
    /// Where they end in the reply's bytes.
    pub end: usize,
    /// What they depend on.
    pub depends_on: Lsn,
}

/// The replies to one batch.
#[derive(Debug)]
pub struct BatchReply {
    /// The connection.
    pub session: SessionId,
    /// All replies, one behind the other.
    pub bytes: Bytes,
    /// How they divide.
    pub runs: Vec<Run>,
}
