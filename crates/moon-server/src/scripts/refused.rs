//! Error replies of scripts and functions, and how they are counted.

use crate::connection::Connection;
use crate::connection::busy::Busy;
use moon_commands::CommandId;
use moon_core::Lsn;
use moon_resp::Reply;
use std::time::Instant;

/// What an error says of the command in INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It ran, and failed.
    Failed,
    /// It ran, and a command inside failed, which was counted there.
    FailedInside,
    /// It did not run.
    Rejected,
}

/// An error reply.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) text: Vec<u8>,
    pub(super) how: How,
    pub(super) depends_on: Lsn,
}

impl From<String> for Refused {
    fn from(text: String) -> Refused {
        Refused {
            text: text.into_bytes(),
            how: How::Failed,
            depends_on: Lsn::ZERO,
        }
    }
}

impl From<&str> for Refused {
    fn from(text: &str) -> Refused {
        text.to_owned().into()
    }
}

impl From<Busy> for Refused {
    fn from(busy: Busy) -> Refused {
        Refused::rejected(busy.0)
    }
}

impl Refused {
    /// The command did not run.
    pub(super) fn rejected(text: &str) -> Refused {
        Refused {
            how: How::Rejected,
            ..text.into()
        }
    }

    /// Writes it to `out` in place of what is there from `start` on, and counts it. Returns what
    /// the reply depends on.
    pub(super) fn answer(
        self,
        connection: &Connection,
        id: CommandId,
        started: Instant,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Lsn {
        out.truncate(start);
        Reply::new(out, connection.state.protocol).error_bytes(&self.text);
        let text = String::from_utf8_lossy(&self.text).into_owned();
        let (server, shard) = (&connection.server, &connection.shard);
        let taken = started.elapsed();
        match self.how {
            How::Rejected => server.note_refusal(shard, Some(id), &text),
            How::Failed => server.note_command(shard, id, taken, Some(text)),
            How::FailedInside => server.note_command(shard, id, taken, None),
        }
        self.depends_on
    }
}
