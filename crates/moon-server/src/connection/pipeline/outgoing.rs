//! Commands for other shards: collected while a read buffer is executed, and sent as one message
//! to each.

use super::Connection;
use bytes::Bytes;
use moon_commands::CommandId;
use moon_core::ShardId;
use moon_resp::{Args, Span};
use moon_shard::mailbox::DataMessage;
use moon_shard::{Batch, BatchCommand, Session as _};

/// Room that a message for another shard gets at once: enough for a pipeline of 16.
const OUTGOING_BYTES: usize = 2048;
const OUTGOING_SPANS: usize = 48;
const OUTGOING_COMMANDS: usize = 16;

/// Commands collected for one other shard.
#[derive(Default)]
pub(super) struct Outgoing {
    buf: Vec<u8>,
    spans: Vec<Span>,
    commands: Vec<BatchCommand>,
}

impl Connection {
    /// Adds a command to the message for another shard.
    pub(super) fn collect(&mut self, to: ShardId, id: CommandId, args: Args<'_>) {
        if self.outgoing.is_empty() {
            self.outgoing
                .resize_with(usize::from(self.shard.count().get()), Outgoing::default);
        }
        let ticket = self.outlet.gate().borrow_mut().reserve();
        let outgoing = &mut self.outgoing[to.index()];
        if outgoing.commands.is_empty() {
            outgoing.buf.reserve(OUTGOING_BYTES);
            outgoing.spans.reserve(OUTGOING_SPANS);
            outgoing.commands.reserve(OUTGOING_COMMANDS);
        }
        let first = outgoing.spans.len();
        for arg in args.iter() {
            let start = outgoing.buf.len();
            outgoing.buf.extend_from_slice(arg);
            outgoing.spans.push(Span {
                start: narrow(start),
                len: narrow(arg.len()),
            });
        }
        let count = outgoing.spans.len() - first;
        outgoing.commands.push(BatchCommand {
            id,
            first: narrow(first),
            count: narrow(count),
            ticket,
        });
    }

    /// Sends what was collected, joins the turn, lets out what may leave. To be called before the
    /// connection waits for anything but its turn to go on.
    pub(crate) fn flush(&mut self) {
        self.dispatch();
        self.shard.settle(&self.session);
    }

    /// Sends what was collected for other shards and joins the turn; the replies so far stay,
    /// so that one system call lets out those of many requests.
    pub(super) fn dispatch(&mut self) {
        let remembers = self.caller().remembers;
        for (index, outgoing) in self.outgoing.iter_mut().enumerate() {
            if outgoing.commands.is_empty() {
                continue;
            }
            let batch = Batch {
                from: self.shard.id(),
                session: self.outlet.id(),
                db: self.state.db,
                protocol: self.state.protocol,
                remembers,
                buf: Bytes::from(std::mem::take(&mut outgoing.buf)),
                spans: std::mem::take(&mut outgoing.spans),
                commands: std::mem::take(&mut outgoing.commands),
            };
            let to = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
            self.outlet.cork();
            self.shard
                .directory()
                .of(to)
                .send_data(DataMessage::Batch(batch));
        }
        if !self.outlet.gate().borrow().is_open() {
            self.shard.join_turn(&self.session);
        }
    }
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).expect("a read buffer is below 4 GiB")
}
