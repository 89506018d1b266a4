//! Replay: the payload of a frame, or any stream of effects, applied to the data again.
//!
//! The commands run by the same code as a client's, with no clock (nothing expires by itself) and
//! nothing logged. What could not have been written by this server, an unknown command or one
//! that answers with an error, is refused with its name and place: going on would build a state
//! that never was.
//!
//! [`replay`] takes the payload of a frame, which is whole. [`StreamReplay`] takes a log of
//! another server or version piece by piece.

mod relative;
mod stream;

pub use stream::{StreamEnd, StreamReplay};

use crate::context::{Counts, Cx, Limits, Origin};
use crate::effects::Effects;
use crate::execute::{Outcome, execute};
use crate::parse;
use crate::requests::{each_request, is_no_data, name_of, replayable};
use crate::shard_set::ShardSet;
use crate::spec::{CommandSpec, Scope};
use moon_core::{Lsn, ShardCount, UnixMs};
use moon_resp::{Args, Protocol, ProtocolError, Reply};
use moon_store::DbIndex;
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// What was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayStats {
    /// Commands executed; SELECT, MULTI and EXEC are not counted.
    pub commands: u64,
    /// The database that is selected at the end.
    pub db: DbIndex,
}

/// Why a payload cannot be applied. Offsets count bytes from the start of the payload or
/// stream to the request's first byte. The commands before it have been applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Something else than a request stands there.
    #[error("no request at byte {offset}")]
    NoRequest {
        /// Where a request should begin.
        offset: usize,
    },
    /// The request is broken.
    #[error("broken request at byte {offset}")]
    Protocol {
        /// Where the request begins.
        offset: usize,
        /// What is wrong with it.
        source: ProtocolError,
    },
    /// The last request is not complete.
    #[error("the request at byte {offset} is cut off")]
    Truncated {
        /// Where the request begins.
        offset: usize,
    },
    /// There is no such command, or it does not write data.
    #[error("the command '{name}' at byte {offset} cannot be replayed")]
    UnknownCommand {
        /// Its name as it stands there.
        name: String,
        /// Where the request begins.
        offset: usize,
    },
    /// The command takes another number of arguments.
    #[error("wrong number of arguments for '{name}' at byte {offset}")]
    WrongArity {
        /// The command.
        name: String,
        /// Where the request begins.
        offset: usize,
    },
    /// The command answered with an error.
    #[error("'{name}' at byte {offset} was refused: {text}")]
    Refused {
        /// The command.
        name: String,
        /// Where the request begins.
        offset: usize,
        /// The error reply without its `-`.
        text: String,
    },
    /// The command touches data of a shard that is not in hand.
    #[error("'{name}' at byte {offset} touches another shard")]
    OtherShard {
        /// The command.
        name: String,
        /// Where the request begins.
        offset: usize,
    },
    /// SELECT of a database that there is not, MULTI inside MULTI, EXEC without MULTI.
    #[error("'{name}' at byte {offset} does not fit there")]
    Misplaced {
        /// The command.
        name: String,
        /// Where the request begins.
        offset: usize,
    },
    /// The payload ends inside MULTI.
    #[error("the transaction at byte {offset} has no end")]
    OpenTransaction {
        /// Where its MULTI begins.
        offset: usize,
    },
}

/// Applies `payload`, which begins in database `db`, to the shards in hand. `limits` decide how
/// values are kept, not what is accepted.
///
/// The keys are marked as changed by the turn in progress, as after any write; the caller seals
/// and commits them, or a whole log's keys pile up there.
///
/// A payload is whole: a transaction in it is applied as it is read, because its EXEC has been
/// seen by whoever checked the frame.
///
/// # Errors
/// [`ReplayError`]; the requests before the one it names have been applied.
pub fn replay(
    shards: ShardSet<'_>,
    shard_count: ShardCount,
    payload: &[u8],
    db: DbIndex,
    limits: &Limits,
) -> Result<ReplayStats, ReplayError> {
    let mut replayer = Replayer::new(shard_count, db, limits);
    let mut shards = shards;
    let mut multi = Multi::default();
    each_request(payload, |args, offset| {
        if multi.takes(args, offset)? {
            return Ok(());
        }
        replayer.request(&mut shards, args, offset)
    })?;
    match multi.open {
        Some(offset) => Err(ReplayError::OpenTransaction { offset }),
        None => Ok(replayer.stats),
    }
}

/// Whether a transaction is open; it is applied as it is read.
#[derive(Default)]
struct Multi {
    /// Where its MULTI begins.
    open: Option<usize>,
}

impl Multi {
    /// Whether the request only begins or ends a transaction.
    fn takes(&mut self, args: Args<'_>, offset: usize) -> Result<bool, ReplayError> {
        let misplaced = || ReplayError::Misplaced {
            name: name_of(args),
            offset,
        };
        let name = args.at(0);
        if parse::is(name, "multi") {
            return match self.open.replace(offset) {
                None => Ok(true),
                Some(_) => Err(misplaced()),
            };
        }
        if parse::is(name, "exec") {
            return self.open.take().map(|_| true).ok_or_else(misplaced);
        }
        Ok(false)
    }
}

/// Applies one request after the other; transactions are its users' to follow.
struct Replayer<'a> {
    shard_count: ShardCount,
    effects: Effects,
    rng: SmallRng,
    limits: &'a Limits,
    /// What relative expire times count from; without it they are refused.
    time: Option<UnixMs>,
    /// Reply of the last command.
    reply: Vec<u8>,
    /// Key positions of the last command.
    keys: Vec<usize>,
    stats: ReplayStats,
}

impl Replayer<'_> {
    fn new(shard_count: ShardCount, db: DbIndex, limits: &Limits) -> Replayer<'_> {
        Replayer {
            shard_count,
            effects: Effects::discarded(),
            rng: SmallRng::seed_from_u64(0),
            limits,
            time: None,
            reply: Vec::new(),
            keys: Vec::new(),
            stats: ReplayStats { commands: 0, db },
        }
    }

    fn request(
        &mut self,
        shards: &mut ShardSet<'_>,
        args: Args<'_>,
        offset: usize,
    ) -> Result<(), ReplayError> {
        let misplaced = || ReplayError::Misplaced {
            name: name_of(args),
            offset,
        };
        let name = args.at(0);
        if parse::is(name, "select") {
            let databases = shards.iter().next().map_or(0, |shard| shard.dbs.len());
            let index = args.get(1).ok_or_else(misplaced)?;
            self.stats.db = parse::database(index, databases).map_err(|_| misplaced())?;
            return Ok(());
        }
        if is_no_data(name) {
            return Ok(());
        }
        match self.time.and_then(|now| relative::absolute(args, now)) {
            Some(absolute) => self.command(shards, absolute.as_args(), offset),
            None => self.command(shards, args, offset),
        }
    }

    fn command(
        &mut self,
        shards: &mut ShardSet<'_>,
        args: Args<'_>,
        offset: usize,
    ) -> Result<(), ReplayError> {
        let spec = replayable(args, offset)?;
        if !self.is_in_hand(shards, spec, args) {
            let name = name_of(args);
            return Err(ReplayError::OtherShard { name, offset });
        }
        self.reply.clear();
        let mut cx = Cx {
            shards: shards.reborrow(),
            shard_count: self.shard_count,
            db: self.stats.db,
            now: UnixMs::BEFORE_ALL,
            origin: Origin::Replay,
            reply: Reply::new(&mut self.reply, Protocol::Resp2),
            effects: &mut self.effects,
            depends_on: Lsn::ZERO,
            rng: &mut self.rng,
            limits: self.limits,
            counts: Counts::default(),
            keep_expired: false,
        };
        let outcome = execute(&mut cx, spec, args);
        if outcome == Outcome::Failed {
            let text = String::from_utf8_lossy(&self.reply);
            return Err(ReplayError::Refused {
                name: name_of(args),
                offset,
                text: text.trim_start_matches('-').trim_end().to_owned(),
            });
        }
        self.stats.commands += 1;
        Ok(())
    }

    /// Whether all data that the command touches is in hand.
    fn is_in_hand(
        &mut self,
        shards: &mut ShardSet<'_>,
        spec: &CommandSpec,
        args: Args<'_>,
    ) -> bool {
        if self.shard_count == ShardCount::ONE {
            return true;
        }
        if spec.scope_of(args) == Scope::AllShards {
            return shards.iter().count() == usize::from(self.shard_count.get());
        }
        self.keys.clear();
        spec.key_positions(args, &mut self.keys);
        self.keys.iter().all(|at| {
            let owner = self.shard_count.shard_of_key(args.at(*at));
            shards.get(owner).is_some()
        })
    }
}
