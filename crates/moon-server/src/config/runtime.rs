//! CONFIG GET and CONFIG SET over the settings in force, and the few settings that hot code
//! reads for every command or batch.

use super::output_limits::OutputLimitsInForce;
use super::redis;
use super::table::{self, DIRECTIVES, How};
use super::{AppendFsync, Config, LogLevel, PipelineOrder, UndeclaredKeys};
use moon_commands::glob;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

/// Settings that are read often: a relaxed load each. CONFIG SET stores, everybody else reads.
#[derive(Debug, Default)]
#[expect(
    missing_docs,
    reason = "each field is the setting of the same name in Config"
)]
pub struct Settings {
    pub maxclients: AtomicU32,
    pub timeout_s: AtomicU32,
    pub tcp_keepalive_s: AtomicU32,
    pub protected_mode: AtomicBool,
    /// Whether new clients must authenticate; the password itself is in [`RuntimeConfig`].
    pub password_set: AtomicBool,
    pub proto_max_bulk_len: AtomicU64,
    pub client_query_buffer_limit: AtomicU64,
    pub client_output_buffer_limit: OutputLimitsInForce,
    /// `maxmemory-clients` in bytes; 0 means no limit.
    pub client_memory_max: AtomicU64,
    pub inflight_max_bytes: AtomicU64,
    pub aof_preallocate_size: AtomicU64,
    pub hash_max_listpack_entries: AtomicU64,
    pub hash_max_listpack_value: AtomicU64,
    pub list_max_listpack_size: AtomicI64,
    pub list_compress_depth: AtomicU64,
    pub set_max_intset_entries: AtomicU64,
    pub set_max_listpack_entries: AtomicU64,
    pub set_max_listpack_value: AtomicU64,
    pub zset_max_listpack_entries: AtomicU64,
    pub zset_max_listpack_value: AtomicU64,
    pub stream_node_max_bytes: AtomicU64,
    pub stream_node_max_entries: AtomicU64,
    pub hll_sparse_max_bytes: AtomicU64,
    /// `busy-reply-threshold` in milliseconds; 0 for never.
    pub busy_reply_threshold_ms: AtomicU64,
    script_undeclared_keys: AtomicU8,
    pub slowlog_log_slower_than: AtomicI64,
    /// `latency-monitor-threshold`; 0 means off.
    pub latency_monitor_threshold_ms: AtomicU64,
    /// From how many nanoseconds on a command is told to the slow log or the latency monitor;
    /// `u64::MAX` if neither wants any.
    pub slow_nanos: AtomicU64,
    pub hz: AtomicU32,
    pub active_expire_effort: AtomicU32,
    appendfsync: AtomicU8,
    loglevel: AtomicU8,
    pipeline_strict: AtomicBool,
}

impl Settings {
    /// Takes over every value from `config`.
    pub fn store(&self, config: &Config) {
        self.maxclients.store(config.maxclients, Relaxed);
        self.timeout_s.store(config.timeout_s, Relaxed);
        self.tcp_keepalive_s.store(config.tcp_keepalive_s, Relaxed);
        self.protected_mode.store(config.protected_mode, Relaxed);
        self.password_set
            .store(!config.requirepass.is_empty(), Relaxed);
        self.proto_max_bulk_len
            .store(config.proto_max_bulk_len, Relaxed);
        self.client_query_buffer_limit
            .store(config.client_query_buffer_limit, Relaxed);
        self.client_output_buffer_limit
            .store(&config.client_output_buffer_limit);
        self.client_memory_max
            .store(config.maxmemory_clients.bytes(config.maxmemory), Relaxed);
        self.inflight_max_bytes
            .store(config.inflight_max_bytes, Relaxed);
        self.aof_preallocate_size
            .store(config.aof_preallocate_size, Relaxed);
        self.hash_max_listpack_entries
            .store(config.hash_max_listpack_entries, Relaxed);
        self.hash_max_listpack_value
            .store(config.hash_max_listpack_value, Relaxed);
        self.list_max_listpack_size
            .store(config.list_max_listpack_size, Relaxed);
        self.list_compress_depth
            .store(config.list_compress_depth, Relaxed);
        self.set_max_intset_entries
            .store(config.set_max_intset_entries, Relaxed);
        self.set_max_listpack_entries
            .store(config.set_max_listpack_entries, Relaxed);
        self.set_max_listpack_value
            .store(config.set_max_listpack_value, Relaxed);
        self.zset_max_listpack_entries
            .store(config.zset_max_listpack_entries, Relaxed);
        self.zset_max_listpack_value
            .store(config.zset_max_listpack_value, Relaxed);
        self.stream_node_max_bytes
            .store(config.stream_node_max_bytes, Relaxed);
        self.stream_node_max_entries
            .store(config.stream_node_max_entries, Relaxed);
        self.hll_sparse_max_bytes
            .store(config.hll_sparse_max_bytes, Relaxed);
        self.busy_reply_threshold_ms
            .store(config.busy_reply_threshold_ms, Relaxed);
        self.script_undeclared_keys
            .store(config.script_undeclared_keys as u8, Relaxed);
        let (slower_than, threshold) = (
            config.slowlog_log_slower_than,
            config.latency_monitor_threshold,
        );
        self.slowlog_log_slower_than.store(slower_than, Relaxed);
        self.latency_monitor_threshold_ms.store(threshold, Relaxed);
        let logged = u64::try_from(slower_than).map_or(u64::MAX, |us| us.saturating_mul(1000));
        let kept = (threshold > 0).then(|| threshold.saturating_mul(1_000_000));
        self.slow_nanos
            .store(logged.min(kept.unwrap_or(u64::MAX)), Relaxed);
        self.hz.store(config.hz, Relaxed);
        self.active_expire_effort
            .store(config.active_expire_effort, Relaxed);
        self.appendfsync.store(config.appendfsync as u8, Relaxed);
        self.loglevel.store(config.loglevel as u8, Relaxed);
        self.pipeline_strict
            .store(config.pipeline_order == PipelineOrder::Strict, Relaxed);
    }

    /// The sync policy in force.
    #[must_use]
    pub fn appendfsync(&self) -> AppendFsync {
        match self.appendfsync.load(Relaxed) {
            0 => AppendFsync::Everysec,
            1 => AppendFsync::Always,
            _ => AppendFsync::No,
        }
    }

    /// The log level in force.
    #[must_use]
    pub fn loglevel(&self) -> LogLevel {
        match self.loglevel.load(Relaxed) {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            3 => LogLevel::Warning,
            _ => LogLevel::Nothing,
        }
    }

    /// What scripts may do with keys that they did not declare.
    #[must_use]
    pub fn script_undeclared_keys(&self) -> UndeclaredKeys {
        match self.script_undeclared_keys.load(Relaxed) {
            0 => UndeclaredKeys::Retry,
            1 => UndeclaredKeys::All,
            _ => UndeclaredKeys::Refuse,
        }
    }

    /// Whether one pipeline keeps Redis's full program order.
    #[must_use]
    pub fn pipeline_strict(&self) -> bool {
        self.pipeline_strict.load(Relaxed)
    }
}

/// Why CONFIG SET changed nothing. `Display` is the reply, with its `ERR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such directive, or an odd number of arguments.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// A directive was not accepted.
    #[error("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Failed {
        /// The directive as the client wrote it.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The settings in force, shared by all threads.
///
/// # Invariants
/// * [`Settings`] says what the configuration says: both change inside one [`RuntimeConfig::set`].
/// * CONFIG SET is all or nothing.
#[derive(Debug)]
pub struct RuntimeConfig {
    current: Mutex<Arc<Config>>,
    settings: Arc<Settings>,
}

impl RuntimeConfig {
    /// Takes the configuration of the start.
    #[must_use]
    pub fn new(config: Config) -> RuntimeConfig {
        let settings = Arc::new(Settings::default());
        settings.store(&config);
        RuntimeConfig {
            current: Mutex::new(Arc::new(config)),
            settings,
        }
    }

    /// The often-read values.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The configuration now; later changes do not show in it.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Config> {
        Arc::clone(&self.lock())
    }

    /// CONFIG GET: name and value of each directive that matches one of the patterns, once each.
    #[must_use]
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(&'static str, String)> {
        let config = self.snapshot();
        let wanted = |name: &str| {
            let matches = |p: &&[u8]| glob::matches(p, name.as_bytes(), glob::Case::Insensitive);
            patterns.iter().any(matches)
        };
        let mut found = Vec::new();
        for d in DIRECTIVES {
            for name in [d.name, d.alias] {
                if !name.is_empty() && wanted(name) {
                    found.push((name, (d.get)(&config)));
                }
            }
        }
        for (name, value) in redis::reported() {
            if wanted(name) {
                found.push((name, value.to_owned()));
            }
        }
        found
    }

    /// CONFIG SET with `args` as name, value, name, value. `apply` gets the configuration before
    /// and after and the names that are set, in the order of the arguments, and does what the
    /// change needs outside of this type; if it fails with a name and a reason, or any value is
    /// refused, nothing changes.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set(
        &self,
        args: &[&[u8]],
        apply: impl FnOnce(&Config, &Config, &[&'static str]) -> Result<(), (&'static str, String)>,
    ) -> Result<(), SetError> {
        // Held throughout, so that two CONFIG SETs do not undo each other.
        let mut current = self.lock();
        let mut next = Config::clone(&current);
        let mut names: Vec<&'static str> = Vec::new();
        for pair in args.chunks(2) {
            let name = String::from_utf8_lossy(pair[0]).into_owned();
            let Some(value) = pair.get(1) else {
                return Err(SetError::Unknown(name));
            };
            let fail = |reason: String| SetError::Failed {
                name: name.clone(),
                reason,
            };
            let value = std::str::from_utf8(value)
                .map_err(|_| fail("argument must be valid UTF-8".to_owned()))?;
            let Some(d) = table::find(&name) else {
                match redis::verdict(&name, &[value]) {
                    None => return Err(SetError::Unknown(name)),
                    Some(redis::Verdict::Accepted(_)) => continue,
                    Some(redis::Verdict::Refused(why)) => return Err(fail(why)),
                }
            };
            if d.how == How::Immutable {
                return Err(fail("can't set immutable config".to_owned()));
            }
            if names.contains(&d.name) {
                return Err(fail("duplicate parameter".to_owned()));
            }
            names.push(d.name);
            table::start_afresh(&mut next, d.name);
            (d.set)(&mut next, &[value]).map_err(|e| fail(e.to_string()))?;
        }
        apply(&current, &next, &names).map_err(|(name, reason)| SetError::Failed {
            name: name.to_owned(),
            reason,
        })?;
        self.settings.store(&next);
        *current = Arc::new(next);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Config>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(config: &RuntimeConfig, words: &[&str]) -> Result<(), SetError> {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        config.set(&args, |_, _, _| Ok(()))
    }

    #[test]
    fn config_get_takes_several_globs_and_answers_each_name_once() {
        let config = RuntimeConfig::new(Config::default());
        let found = config.get(&[b"appendonly", b"append*", b"SAVE"]);
        let names: Vec<_> = found.iter().map(|(n, _)| *n).collect();
        assert_eq!(
            names,
            [
                "appendonly",
                "appendfsync",
                "appenddirname",
                "save",
                "appendfilename"
            ]
            .iter()
            .copied()
            .filter(|n| names.contains(n))
            .collect::<Vec<_>>()
        );
        assert!(found.contains(&("save", String::new())));
        assert!(config.get(&[b"no-such-thing"]).is_empty());
    }

    #[test]
    fn config_set_is_all_or_nothing() {
        let config = RuntimeConfig::new(Config::default());
        let error = set(&config, &["hz", "100", "loglevel", "loud"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ERR CONFIG SET failed (possibly related to argument 'loglevel') - argument(s) \
             must be one of the following: debug, verbose, notice, warning, nothing"
        );
        assert_eq!(config.snapshot().hz, 10);
        assert_eq!(config.settings().hz.load(Relaxed), 10);

        set(&config, &["hz", "100", "loglevel", "VERBOSE"]).unwrap();
        assert_eq!(config.settings().hz.load(Relaxed), 100);
        assert_eq!(config.settings().loglevel(), LogLevel::Verbose);
    }

    #[test]
    fn a_failed_apply_changes_nothing() {
        let config = RuntimeConfig::new(Config::default());
        let error = config
            .set(&[b"maxclients", b"20"], |before, after, names| {
                assert_eq!((before.maxclients, after.maxclients), (10_000, 20));
                assert_eq!(names, ["maxclients"]);
                Err(("maxclients", "no file descriptors left".to_owned()))
            })
            .unwrap_err();
        assert!(error.to_string().ends_with("- no file descriptors left"));
        assert_eq!(config.snapshot().maxclients, 10_000);
    }

    /// Scenario 184, by CONFIG SET.
    #[test]
    fn config_set_errors_have_the_texts_of_redis() {
        let config = RuntimeConfig::new(Config::default());
        for (words, expected) in [
            (
                &["foo", "1"][..],
                "ERR Unknown option or number of arguments for CONFIG SET - 'foo'",
            ),
            (
                &["hz"][..],
                "ERR Unknown option or number of arguments for CONFIG SET - 'hz'",
            ),
            (
                &["port", "1"][..],
                "ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config",
            ),
            (
                &["protected-mode", "1"][..],
                "ERR CONFIG SET failed (possibly related to argument 'protected-mode') - argument must be 'yes' or 'no'",
            ),
            (
                &["hz", "5", "HZ", "6"][..],
                "ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter",
            ),
        ] {
            assert_eq!(set(&config, words).unwrap_err().to_string(), expected);
        }
        assert!(set(&config, &["rdbchecksum", "no"]).is_err());
        set(&config, &["rdbchecksum", "yes", "save", ""]).unwrap();
    }

    #[test]
    fn the_limit_on_clients_follows_maxmemory_if_it_is_a_part_of_it() {
        let config = RuntimeConfig::new(Config::default());
        let limit = || config.settings().client_memory_max.load(Relaxed);
        set(&config, &["maxmemory-clients", "10%"]).unwrap();
        assert_eq!(limit(), 0);
        set(&config, &["maxmemory", "100mb"]).unwrap();
        assert_eq!(limit(), 10 << 20);
        let found = config.get(&[b"maxmemory-clients"]);
        assert_eq!(found, [("maxmemory-clients", "10%".to_owned())]);
        set(&config, &["maxmemory-clients", "1mb"]).unwrap();
        assert_eq!(limit(), 1 << 20);
        set(&config, &["maxmemory-clients", "1"]).unwrap();
        assert_eq!(limit(), 128 << 10, "as in Redis, no less");
        for bad in ["x", "101%", "-1", "%", "5.5%"] {
            let error = set(&config, &["maxmemory-clients", bad]).unwrap_err();
            let text = error.to_string();
            assert!(
                text.ends_with("- argument must be a memory or percent value"),
                "{text}"
            );
        }
    }
}
