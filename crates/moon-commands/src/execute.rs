//! The one way a command runs: from a client, in a transaction, in replay.

use crate::context::Cx;
use crate::spec::{CommandSpec, Flags, Run};
use moon_resp::Args;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Done,
    /// It answered with an error and changed nothing.
    Failed,
    /// It answered that there is nothing, and would wait if it could: [`Effects::take_wait`] says
    /// for what.
    ///
    /// [`Effects::take_wait`]: crate::Effects::take_wait
    Waits,
}

/// Runs a data command. Arity, authentication and the like have been checked. The reply is
/// written; the command's effects, with the removal of keys it found expired, are one unit.
///
/// # Panics
/// When `spec` is a server command; those never get here.
pub fn execute(cx: &mut Cx<'_>, spec: &CommandSpec, args: Args<'_>) -> Outcome {
    let Run::Data(run) = spec.run else {
        unreachable!("{} is run by the server", spec.name);
    };
    let reply_start = cx.reply.position();
    let may_wait = spec.flags.contains(Flags::BLOCKING);
    if may_wait {
        cx.effects.take_wait();
    }
    cx.effects.begin_unit();
    let result = run(cx, args);
    if cx.effects.has_lapsed() {
        cx.remove_lapsed();
    }
    cx.effects.end_unit();
    match result {
        Ok(()) if may_wait && cx.effects.has_wait() => Outcome::Waits,
        Ok(()) => Outcome::Done,
        Err(error) => {
            cx.reply.truncate(reply_start);
            cx.reply.error(error.text());
            Outcome::Failed
        }
    }
}
