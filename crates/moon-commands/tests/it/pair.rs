//! A real `redis-server` and an instance, given the same commands.

use crate::harness::Instance;
use crate::redis::Redis;
use moon_resp::OwnedArgs;

/// Both servers.
pub(crate) struct Pair {
    pub(crate) redis: Redis,
    pub(crate) moon: Instance,
}

impl Pair {
    /// `None` where no `redis-server` is installed.
    pub(crate) fn start(shards: u16, config: &[&str]) -> Option<Pair> {
        Some(Pair {
            redis: Redis::start(config)?,
            moon: Instance::new(shards),
        })
    }

    /// Runs a command, its arguments separated by single spaces, on both and compares the replies.
    #[track_caller]
    pub(crate) fn compare(&mut self, command: &str) {
        let parts: Vec<&str> = command.split(' ').collect();
        let expected = self.redis.run(&parts);
        let found = self.moon.run_args(&OwnedArgs::new(&parts));
        let head: String = command.chars().take(200).collect();
        assert!(
            found == expected,
            "{head}\n  here:  {}\n  Redis: {}",
            found.escape_ascii(),
            expected.escape_ascii(),
        );
    }
}
