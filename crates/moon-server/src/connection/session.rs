//! What a connection remembers between commands.

use crate::tracking::Tracked;
use moon_commands::{CommandId, CommandSpec};
use moon_core::{Lsn, ShardId};
use moon_resp::{OwnedArgs, Protocol};
use moon_store::{DbIndex, WatchVersion};
use std::rc::Rc;
use std::time::Instant;

/// Whether replies are sent, as CLIENT REPLY sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReplyMode {
    /// Every reply is sent.
    #[default]
    On,
    /// None is.
    Off,
    /// The reply to the next command is not.
    SkipNext,
    /// The reply to this command is not.
    Skip,
}

/// A command queued by MULTI.
#[derive(Debug)]
pub(crate) struct Queued {
    /// Which command.
    pub id: CommandId,
    /// Its arguments.
    pub args: OwnedArgs,
}

impl Queued {
    /// The row that tells of it, that of its subcommand if it has one.
    pub(super) fn row(&self) -> &'static CommandSpec {
        super::commands::row(self.id, self.args.as_args())
    }
}

/// A transaction being queued.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// The commands so far.
    pub queue: Vec<Queued>,
    /// A command was refused while queueing: EXEC will refuse them all.
    pub refused: bool,
    /// Bytes of all arguments with their places, for CLIENT LIST.
    pub bytes: usize,
}

/// A key that WATCH named.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its database.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// Its shard.
    pub shard: ShardId,
    /// The version that EXEC must find.
    pub version: WatchVersion,
    /// It was past its deadline already; that it goes is no change.
    pub was_expired: bool,
    /// How often it had been changed then.
    pub changes: u64,
}

/// What went wrong with a command; the text of its reply.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It ran, and answered with an error.
    Failed(String),
    /// It was refused before it ran.
    Refused(String),
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct SessionState {
    /// The selected database.
    pub db: DbIndex,
    /// The chosen protocol.
    pub protocol: Protocol,
    /// Whether the client may run commands.
    pub authenticated: bool,
    /// The open transaction.
    pub transaction: Option<Transaction>,
    /// Watched keys.
    pub watches: Vec<Watch>,
    /// What must be durable before the reply of the present command is written.
    pub durable_first: Lsn,
    /// How many subscriptions it has, of all kinds.
    pub subscriptions: usize,
    /// CLIENT TRACKING, if it is on.
    pub tracking: Option<Rc<Tracked>>,
    /// The present command has paused the server: its reply waits for what was let through before.
    pub quiesce_first: bool,
    /// The present command has changed settings: its reply waits until all shards follow them.
    pub everywhere_first: bool,
    /// What went wrong with the present command, where its code wrote the reply itself.
    pub trouble: Option<Trouble>,
    /// When the present command began, its waits left out; where its code says so.
    pub began: Instant,
    /// The connection is shown every command that runs (MONITOR).
    pub monitoring: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// The connection closes when its replies have left.
    pub closing: bool,
}

impl SessionState {
    /// Whether the reply of the present command waits for something else than its own writes.
    pub(super) fn holds_reply(&self) -> bool {
        self.durable_first > Lsn::ZERO || self.quiesce_first || self.everywhere_first
    }

    /// A new connection's state.
    #[must_use]
    pub(super) fn new(authenticated: bool) -> SessionState {
        SessionState {
            db: 0,
            protocol: Protocol::Resp2,
            authenticated,
            transaction: None,
            watches: Vec::new(),
            durable_first: Lsn::ZERO,
            subscriptions: 0,
            tracking: None,
            quiesce_first: false,
            everywhere_first: false,
            trouble: None,
            began: Instant::now(),
            monitoring: false,
            reply_mode: ReplyMode::On,
            closing: false,
        }
    }

    /// Whether CLIENT CACHING was given, which is for the next command alone.
    #[inline]
    pub(super) fn is_caching(&self) -> bool {
        (self.tracking.as_ref()).is_some_and(|tracked| tracked.caching.get())
    }

    /// Whether requests run here as they come: nothing is queued, withheld or said about the next
    /// one.
    #[inline]
    pub(super) fn runs_plainly(&self) -> bool {
        self.authenticated
            && self.transaction.is_none()
            && self.reply_mode == ReplyMode::On
            && !self.only_listens()
            && !self.is_caching()
    }

    /// Whether it is told things that it did not ask for at that moment: of stale copies, or
    /// messages.
    #[inline]
    pub(super) fn is_told(&self) -> bool {
        self.subscriptions > 0 || self.tracking.is_some()
    }

    /// Whether it may only change its subscriptions: in RESP2 its client could not tell replies
    /// from messages.
    #[inline]
    pub(super) fn only_listens(&self) -> bool {
        self.subscriptions > 0 && self.protocol == Protocol::Resp2
    }
}
