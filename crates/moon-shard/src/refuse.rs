//! Commands that are answered with an error because somebody has the data for long.
//!
//! They were sent before that was known, and wait in the data lane. As in Redis they are answered
//! like those that come later. What else waits there goes on waiting: borrows give up by
//! themselves ([`Shard::borrow_unless`]).

use crate::batch::{Batch, BatchReply, Run};
use crate::shard::Shard;
use crate::waiting::ServedReply;
use moon_commands::subcommands::row_of;
use moon_commands::{CommandId, by_id, stat_id};
use moon_core::Lsn;
use moon_resp::Reply;

impl Shard {
    /// Refuses what waits in the mailbox, and the `parked` batch, if there is a reason to; whether
    /// there was anything.
    pub(crate) fn refuse_waiting(&self, parked: &mut Option<Batch>) -> bool {
        let Some(text) = self.observer.refusal() else {
            return false;
        };
        let (batches, attempts) = self.directory().of(self.id()).take_commands();
        self.parked.set(false);
        let mut replies = Vec::new();
        for batch in parked.take().into_iter().chain(batches) {
            replies.push(self.refuse_batch(&batch, text));
        }
        for waiter in attempts {
            if let Some((id, reply)) = waiter.refuse(text) {
                self.observer.refused(id, text);
                replies.push(reply);
            }
        }
        let has_any = !replies.is_empty();
        self.answer(replies);
        has_any
    }

    fn refuse_batch(&self, batch: &Batch, text: &str) -> ServedReply {
        let mut out = Vec::new();
        let mut runs: Vec<Run> = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            Reply::new(&mut out, batch.protocol).error(text);
            match runs.last_mut().filter(|run| run.ticket == command.ticket) {
                Some(run) => run.end = out.len(),
                None => runs.push(Run {
                    ticket: command.ticket,
                    end: out.len(),
                    depends_on: Lsn::ZERO,
                }),
            }
            let counted: CommandId = {
                let row = row_of(by_id(command.id), batch.args(command));
                stat_id(command.id, row)
            };
            self.observer.refused(counted, text);
        }
        ServedReply {
            to: batch.from,
            reply: BatchReply {
                session: batch.session,
                bytes: out.into(),
                runs,
            },
        }
    }
}
