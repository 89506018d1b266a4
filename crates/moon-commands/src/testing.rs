//! What tests of commands share: a shard, and a client of it.

use crate::context::{Counts, Cx, Limits};
use crate::effects::Effects;
use crate::execute;
use crate::shard_set::ShardSet;
use crate::table::lookup;
use moon_core::{Lsn, ShardCount, ShardId, UnixMs};
use moon_resp::{OwnedArgs, Protocol, Reply, write_request};
use moon_store::ShardData;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

/// One shard, and a connection that runs commands on it.
pub(crate) struct Session {
    shard: ShardData,
    effects: Effects,
    protocol: Protocol,
    rng: SmallRng,
    /// Bounds and thresholds of the following commands.
    pub(crate) limits: Limits,
}

impl Session {
    pub(crate) fn new() -> Session {
        Session {
            shard: ShardData::new(ShardId(0), 16, true),
            effects: Effects::default(),
            protocol: Protocol::Resp2,
            rng: SmallRng::seed_from_u64(7),
            limits: Limits::default(),
        }
    }

    /// Replies are RESP3 from here on.
    pub(crate) fn resp3(&mut self) {
        self.protocol = Protocol::Resp3;
    }

    /// Runs a command whose arguments hold no spaces; returns the reply.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let args = OwnedArgs::new(command.split(' '));
        let name = args.as_args().at(0);
        let (_, spec) = lookup(name).expect("the command is in the table");
        let spec = crate::subcommands::row_of(spec, args.as_args());
        let mut out = Vec::new();
        assert!(spec.accepts(args.as_args().len()), "{command}: arity");
        let mut cx = Cx {
            shards: ShardSet::One(&mut self.shard),
            shard_count: ShardCount::ONE,
            db: 0,
            now: UnixMs(1),
            origin: crate::context::Origin::Client,
            reply: Reply::new(&mut out, self.protocol),
            effects: &mut self.effects,
            depends_on: Lsn::ZERO,
            rng: &mut self.rng,
            limits: &self.limits,
            counts: Counts::default(),
            keep_expired: false,
        };
        execute(&mut cx, spec, args.as_args());
        String::from_utf8(out).expect("tests use text")
    }

    /// Runs a command and compares the reply.
    #[track_caller]
    pub(crate) fn expect(&mut self, command: &str, reply: &str) {
        assert_eq!(self.run(command), reply, "{command}");
    }

    /// Compares the effects since the last look at them with one request.
    #[track_caller]
    pub(crate) fn expect_effect(&mut self, request: &str) {
        let mut expected = Vec::new();
        write_request(&mut expected, &request.split(' ').collect::<Vec<_>>());
        let expected = String::from_utf8(expected).expect("tests use text");
        assert_eq!(self.effects(), expected);
    }

    /// Nothing was written since the last look at the effects.
    #[track_caller]
    pub(crate) fn expect_no_effect(&mut self) {
        assert_eq!(self.effects(), "");
    }

    /// The effects since the last call.
    pub(crate) fn effects(&mut self) -> String {
        String::from_utf8(self.effects.take()).expect("tests use text")
    }

    /// Number of keys.
    pub(crate) fn keys(&self) -> usize {
        self.shard.dbs[0].len()
    }
}
