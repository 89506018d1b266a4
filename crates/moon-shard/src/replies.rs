//! Replies that travel between shards: those to a batch, and to clients that waited and were served.
//!
//! What shows the turn in progress waits for its end, like a reply in a gate of this shard.

use crate::batch::{Batch, BatchReply, Run};
use crate::mailbox::{ControlMessage, Directory};
use crate::shard::{SHARED_PAYLOAD_MAX, SessionId, Shard};
use crate::waiting::ServedReply;
use moon_core::{Lsn, ShardId};
use moon_store::THIS_TURN;

/// A reply to another shard that waits for the end of the turn.
pub(crate) struct TurnReply {
    to: ShardId,
    reply: BatchReply,
}

impl Shard {
    /// Runs what a connection of another shard sent. The data is at home.
    pub(crate) fn run_batch(&self, batch: &Batch) {
        let mut replies = Vec::with_capacity(self.batch_reply_bytes.get());
        let mut runs: Vec<Run> = Vec::with_capacity(batch.commands.len());
        let mut running = self
            .begin()
            .expect("the mailbox runs batches with the data at home");
        running.set_caller(batch.caller());
        running.warm(
            batch.db,
            batch.commands.iter().map(|c| (c.id, batch.args(c))),
        );
        for command in &batch.commands {
            if runs.last().is_none_or(|run| run.ticket != command.ticket) {
                runs.push(Run {
                    ticket: command.ticket,
                    end: 0,
                    depends_on: Lsn::ZERO,
                });
            }
            let args = batch.args(command);
            let depends_on =
                running.execute(command.id, args, batch.db, batch.protocol, &mut replies);
            let run = runs.last_mut().expect("a run was just made sure of");
            run.end = replies.len();
            run.depends_on = run.depends_on.max(depends_on);
            if running.turn_is_full() {
                drop(running);
                resolve(&mut runs, self.end_turn());
                running = self.begin().expect("ending a turn does not lend the data");
                running.set_caller(batch.caller());
            }
        }
        drop(running);
        self.batch_reply_bytes
            .set(replies.len().min(SHARED_PAYLOAD_MAX));
        let reply = BatchReply {
            session: batch.session,
            bytes: replies.into(),
            runs,
        };
        let to = batch.from;
        self.reply_after_turn(TurnReply { to, reply });
    }

    /// Sends a reply when what it shows has its LSN.
    fn reply_after_turn(&self, turn_reply: TurnReply) {
        let runs = &turn_reply.reply.runs;
        if runs.iter().any(|run| run.depends_on == THIS_TURN) {
            self.turn_replies.borrow_mut().push(turn_reply);
        } else {
            send_reply(&self.shared.directory, turn_reply, Lsn::ZERO);
        }
    }

    /// Answers those who waited and were served in the turn in progress.
    pub(crate) fn answer(&self, served: Vec<ServedReply>) {
        for ServedReply { to, reply } in served {
            self.reply_after_turn(TurnReply { to, reply });
        }
    }

    /// Answers those who waited and were served while data was borrowed: what they wrote is in a
    /// frame that ends at `end`.
    pub(crate) fn answer_borrowed(&self, served: Vec<ServedReply>, end: Lsn) {
        for ServedReply { to, reply } in served {
            send_reply(&self.shared.directory, TurnReply { to, reply }, end);
        }
    }

    /// Puts the replies of another shard into their places.
    pub(crate) fn take_replies(&self, reply: BatchReply) {
        // A connection that is gone has no use for its replies.
        let Some(session) = self.sessions.borrow().get(&reply.session).cloned() else {
            return;
        };
        {
            let mut gate = session.gate().borrow_mut();
            let mut start = 0;
            for run in &reply.runs {
                gate.fill(
                    run.ticket,
                    reply.bytes.slice(start..run.end),
                    run.depends_on,
                );
                start = run.end;
            }
        }
        self.settle(&session);
    }

    /// Adds bytes to what a connection of this shard is sent, behind everything before it and not
    /// before `depends_on` is committed; they are no reply to anything it asked. Returns how many
    /// bytes have not left then; `None` if the connection has gone.
    pub fn push_to(&self, session: SessionId, bytes: &[u8], depends_on: Lsn) -> Option<usize> {
        let session = self.sessions.borrow().get(&session).cloned()?;
        {
            let mut gate = session.gate().borrow_mut();
            let tail = gate.tail();
            let start = tail.len();
            tail.extend_from_slice(bytes);
            gate.settle(start, depends_on);
        }
        self.settle(&session);
        let gate = session.gate().borrow();
        Some(gate.open().len() + gate.held_bytes())
    }

    /// The turn has ended at `end`: what waited for that leaves.
    pub(crate) fn send_turn_replies(&self, end: Lsn) {
        for turn_reply in self.turn_replies.borrow_mut().drain(..) {
            send_reply(&self.shared.directory, turn_reply, end);
        }
    }
}

fn resolve(runs: &mut [Run], end: Lsn) {
    for run in runs {
        if run.depends_on == THIS_TURN {
            run.depends_on = end;
        }
    }
}

fn send_reply(directory: &Directory, mut turn_reply: TurnReply, end: Lsn) {
    resolve(&mut turn_reply.reply.runs, end);
    directory
        .of(turn_reply.to)
        .send_control(ControlMessage::Replies(turn_reply.reply));
}
