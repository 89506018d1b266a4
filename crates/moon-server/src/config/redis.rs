//! A verdict for every directive of Redis 7.2 that this server does not have itself, so that a
//! stock redis.conf is a starting point and nothing that matters is dropped in silence.
//!
//! Refused is what would change what the user gets (`replicaof`, `save 60 1`); accepted is what
//! only tunes Redis's own machinery (`io-threads`) or asks for what happens anyway
//! (`daemonize no`).

use super::value;

/// What to do with a directive of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on; the text is for the log.
    Accepted(String),
    /// Does not start; the text says why and what to do.
    Refused(String),
}

enum Rule {
    /// Any value is accepted: it only tunes what this server does not have or does differently.
    Ignored(&'static str),
    /// Only these values (words joined by one space, in any letter case) are accepted; any other
    /// is refused for the reason. CONFIG GET reports the first.
    Only(&'static [&'static str], &'static str),
    /// Only zero, as a number or a size, is accepted; anything else is refused for the reason.
    Zero(&'static str),
    /// Never accepted.
    Refused(&'static str),
}

use Rule::{Ignored, Only, Refused, Zero};

const NO_REPLICAS: &str = "there is no replication yet";
const NO_REPLICATION: &str = "replication is not available yet; remove it";
const NO_CLUSTER: &str = "there is no cluster mode";
const NO_TLS: &str = "TLS is not available yet; remove it and put a TLS proxy in front";
const TLS_OFF: &str = "TLS is not available and tls-port must be 0";
const SYNCED_IN_STEPS: &str = "bases and snapshots are always synced in steps";
const NO_DEFRAG: &str = "active defragmentation does not exist here; use: activedefrag no";
const NO_SYSLOG: &str = "syslog is not available; use: syslog-enabled no, and logfile";
const NO_ACL: &str =
    "users other than default are not available yet; remove it and use requirepass";
const NO_PINNING: &str =
    "threads are not pinned by directive; remove it and use taskset or a cpuset";
const OTHER_DEBUG: &str = "remove it; it is a switch for testing Redis itself";

/// Name, older name or "", rule.
static RULES: &[(&str, &str, Rule)] = &[
    // Snapshots.
    (
        "rdbchecksum",
        "",
        Only(&["yes"], "files always have a checksum here; use: yes"),
    ),
    (
        "rdb-del-sync-files",
        "",
        Ignored("there are no files of a replication sync"),
    ),
    ("rdb-save-incremental-fsync", "", Ignored(SYNCED_IN_STEPS)),
    ("rdb-key-save-delay", "", Zero(OTHER_DEBUG)),
    (
        "sanitize-dump-payload",
        "",
        Ignored("RESTORE is not available yet"),
    ),
    // The log.
    (
        "appendfilename",
        "",
        Ignored("the files of the log have fixed names"),
    ),
    (
        "no-appendfsync-on-rewrite",
        "",
        Only(&["no"], "syncs are never left out here; use: no"),
    ),
    (
        "aof-rewrite-incremental-fsync",
        "",
        Ignored(SYNCED_IN_STEPS),
    ),
    ("aof-use-rdb-preamble", "", Ignored("bases are always RDB")),
    (
        "aof-disable-auto-gc",
        "",
        Only(&["no"], "use aof-keep-generations instead"),
    ),
    (
        "aof-timestamp-enabled",
        "",
        Ignored("every frame of the log has a timestamp"),
    ),
    // Replication.
    (
        "replicaof",
        "slaveof",
        Only(&["", "no one"], NO_REPLICATION),
    ),
    ("masterauth", "", Ignored(NO_REPLICAS)),
    ("masteruser", "", Ignored(NO_REPLICAS)),
    (
        "replica-serve-stale-data",
        "slave-serve-stale-data",
        Ignored(NO_REPLICAS),
    ),
    ("replica-read-only", "slave-read-only", Ignored(NO_REPLICAS)),
    (
        "replica-ignore-maxmemory",
        "slave-ignore-maxmemory",
        Ignored(NO_REPLICAS),
    ),
    ("replica-ignore-disk-write-errors", "", Ignored(NO_REPLICAS)),
    (
        "replica-lazy-flush",
        "slave-lazy-flush",
        Ignored(NO_REPLICAS),
    ),
    ("replica-priority", "slave-priority", Ignored(NO_REPLICAS)),
    ("replica-announced", "", Ignored(NO_REPLICAS)),
    (
        "replica-announce-ip",
        "slave-announce-ip",
        Ignored(NO_REPLICAS),
    ),
    (
        "replica-announce-port",
        "slave-announce-port",
        Ignored(NO_REPLICAS),
    ),
    ("repl-disable-tcp-nodelay", "", Ignored(NO_REPLICAS)),
    ("repl-diskless-sync", "", Ignored(NO_REPLICAS)),
    ("repl-diskless-sync-delay", "", Ignored(NO_REPLICAS)),
    ("repl-diskless-sync-max-replicas", "", Ignored(NO_REPLICAS)),
    ("repl-diskless-load", "", Ignored(NO_REPLICAS)),
    (
        "repl-ping-replica-period",
        "repl-ping-slave-period",
        Ignored(NO_REPLICAS),
    ),
    ("repl-timeout", "", Ignored(NO_REPLICAS)),
    ("repl-backlog-size", "", Ignored(NO_REPLICAS)),
    ("repl-backlog-ttl", "", Ignored(NO_REPLICAS)),
    (
        "min-replicas-to-write",
        "min-slaves-to-write",
        Zero(
            "replication is not available yet, so no write could be taken; use: min-replicas-to-write 0",
        ),
    ),
    (
        "min-replicas-max-lag",
        "min-slaves-max-lag",
        Ignored(NO_REPLICAS),
    ),
    ("propagation-error-behavior", "", Ignored(NO_REPLICAS)),
    // Cluster.
    (
        "cluster-enabled",
        "",
        Only(
            &["no"],
            "cluster mode is not available; use: cluster-enabled no",
        ),
    ),
    ("cluster-config-file", "", Ignored(NO_CLUSTER)),
    ("cluster-node-timeout", "", Ignored(NO_CLUSTER)),
    ("cluster-ping-interval", "", Ignored(NO_CLUSTER)),
    ("cluster-port", "", Ignored(NO_CLUSTER)),
    (
        "cluster-replica-validity-factor",
        "cluster-slave-validity-factor",
        Ignored(NO_CLUSTER),
    ),
    ("cluster-migration-barrier", "", Ignored(NO_CLUSTER)),
    ("cluster-allow-replica-migration", "", Ignored(NO_CLUSTER)),
    ("cluster-require-full-coverage", "", Ignored(NO_CLUSTER)),
    (
        "cluster-replica-no-failover",
        "cluster-slave-no-failover",
        Ignored(NO_CLUSTER),
    ),
    ("cluster-allow-reads-when-down", "", Ignored(NO_CLUSTER)),
    (
        "cluster-allow-pubsubshard-when-down",
        "",
        Ignored(NO_CLUSTER),
    ),
    ("cluster-link-sendbuf-limit", "", Ignored(NO_CLUSTER)),
    ("cluster-announce-ip", "", Ignored(NO_CLUSTER)),
    ("cluster-announce-port", "", Ignored(NO_CLUSTER)),
    ("cluster-announce-tls-port", "", Ignored(NO_CLUSTER)),
    ("cluster-announce-bus-port", "", Ignored(NO_CLUSTER)),
    ("cluster-announce-hostname", "", Ignored(NO_CLUSTER)),
    ("cluster-announce-human-nodename", "", Ignored(NO_CLUSTER)),
    ("cluster-preferred-endpoint-type", "", Ignored(NO_CLUSTER)),
    // TLS.
    ("tls-port", "", Zero(NO_TLS)),
    ("tls-cluster", "", Only(&["no"], NO_TLS)),
    ("tls-replication", "", Only(&["no"], NO_TLS)),
    ("tls-auth-clients", "", Ignored(TLS_OFF)),
    ("tls-cert-file", "", Ignored(TLS_OFF)),
    ("tls-key-file", "", Ignored(TLS_OFF)),
    ("tls-key-file-pass", "", Ignored(TLS_OFF)),
    ("tls-client-cert-file", "", Ignored(TLS_OFF)),
    ("tls-client-key-file", "", Ignored(TLS_OFF)),
    ("tls-client-key-file-pass", "", Ignored(TLS_OFF)),
    ("tls-dh-params-file", "", Ignored(TLS_OFF)),
    ("tls-ca-cert-file", "", Ignored(TLS_OFF)),
    ("tls-ca-cert-dir", "", Ignored(TLS_OFF)),
    ("tls-protocols", "", Ignored(TLS_OFF)),
    ("tls-ciphers", "", Ignored(TLS_OFF)),
    ("tls-ciphersuites", "", Ignored(TLS_OFF)),
    ("tls-prefer-server-ciphers", "", Ignored(TLS_OFF)),
    ("tls-session-caching", "", Ignored(TLS_OFF)),
    ("tls-session-cache-size", "", Ignored(TLS_OFF)),
    ("tls-session-cache-timeout", "", Ignored(TLS_OFF)),
    // Who may do what.
    ("user", "", Refused(NO_ACL)),
    ("aclfile", "", Only(&[""], NO_ACL)),
    ("acllog-max-len", "", Ignored("there is no ACL log yet")),
    (
        "acl-pubsub-default",
        "",
        Ignored("there are no users other than default yet"),
    ),
    (
        "rename-command",
        "",
        Refused(
            "commands cannot be renamed or hidden yet; remove it and limit access by network and password",
        ),
    ),
    (
        "enable-protected-configs",
        "",
        Ignored("directives that CONFIG SET must not change are fixed"),
    ),
    (
        "enable-module-command",
        "",
        Ignored("modules cannot be loaded"),
    ),
    (
        "loadmodule",
        "",
        Refused("modules cannot be loaded; remove it"),
    ),
    // The process.
    (
        "daemonize",
        "",
        Only(
            &["no"],
            "the server stays in the foreground; use: daemonize no, and start it by systemd, a container or nohup",
        ),
    ),
    (
        "supervised",
        "",
        Only(
            &["no", "auto"],
            "start notification is not available; use: supervised no, and Type=simple in the unit",
        ),
    ),
    ("syslog-enabled", "", Only(&["no"], NO_SYSLOG)),
    (
        "syslog-ident",
        "",
        Ignored("syslog is not available and syslog-enabled must be no"),
    ),
    (
        "syslog-facility",
        "",
        Ignored("syslog is not available and syslog-enabled must be no"),
    ),
    ("always-show-logo", "", Ignored("there is no logo")),
    (
        "set-proc-title",
        "",
        Ignored("the process title stays as it is"),
    ),
    (
        "proc-title-template",
        "",
        Ignored("the process title stays as it is"),
    ),
    ("locale-collate", "", Ignored("SORT is not available yet")),
    (
        "crash-log-enabled",
        "",
        Ignored("a panic prints its place and ends the process"),
    ),
    (
        "crash-memcheck-enabled",
        "",
        Ignored("a panic prints its place and ends the process"),
    ),
    (
        "use-exit-on-panic",
        "",
        Ignored("a panic always ends the process"),
    ),
    (
        "watchdog-period",
        "",
        Ignored("there is no software watchdog"),
    ),
    (
        "oom-score-adj",
        "",
        Only(
            &["no"],
            "the OOM score is left alone; use: oom-score-adj no, and set it in the unit",
        ),
    ),
    (
        "oom-score-adj-values",
        "",
        Ignored("the OOM score is left alone"),
    ),
    (
        "ignore-warnings",
        "",
        Ignored("its warnings do not exist here"),
    ),
    ("shutdown-timeout", "", Ignored(NO_REPLICAS)),
    (
        "shutdown-on-sigint",
        "",
        Only(
            &["default"],
            "a signal always finishes turns, syncs the log and exits; use: default",
        ),
    ),
    (
        "shutdown-on-sigterm",
        "",
        Only(
            &["default"],
            "a signal always finishes turns, syncs the log and exits; use: default",
        ),
    ),
    ("server-cpulist", "server_cpulist", Only(&[""], NO_PINNING)),
    ("bio-cpulist", "bio_cpulist", Only(&[""], NO_PINNING)),
    (
        "aof-rewrite-cpulist",
        "aof_rewrite_cpulist",
        Only(&[""], NO_PINNING),
    ),
    ("bgsave-cpulist", "bgsave_cpulist", Only(&[""], NO_PINNING)),
    (
        "bind-source-addr",
        "",
        Ignored("the server opens no connections"),
    ),
    (
        "socket-mark-id",
        "",
        Zero("socket marks are not available; use: socket-mark-id 0"),
    ),
    (
        "io-threads",
        "",
        Ignored("every shard has its own thread; see shards"),
    ),
    (
        "io-threads-do-reads",
        "",
        Ignored("every shard has its own thread; see shards"),
    ),
    (
        "dynamic-hz",
        "",
        Ignored("background work follows the load anyway"),
    ),
    (
        "activerehashing",
        "",
        Ignored("tables grow in small steps anyway"),
    ),
    ("activedefrag", "", Only(&["no"], NO_DEFRAG)),
    ("active-defrag-ignore-bytes", "", Ignored(NO_DEFRAG)),
    ("active-defrag-threshold-lower", "", Ignored(NO_DEFRAG)),
    ("active-defrag-threshold-upper", "", Ignored(NO_DEFRAG)),
    ("active-defrag-cycle-min", "", Ignored(NO_DEFRAG)),
    ("active-defrag-cycle-max", "", Ignored(NO_DEFRAG)),
    ("active-defrag-max-scan-fields", "", Ignored(NO_DEFRAG)),
    (
        "jemalloc-bg-thread",
        "",
        Ignored("the allocator is another one"),
    ),
    ("key-load-delay", "", Zero(OTHER_DEBUG)),
    (
        "loading-process-events-interval-bytes",
        "",
        Ignored("clients are answered while loading"),
    ),
    // Compact forms of types that come later.
    (
        "list-max-ziplist-entries",
        "",
        Ignored("Redis ignores it too, since 3.2"),
    ),
    (
        "list-max-ziplist-value",
        "",
        Ignored("Redis ignores it too, since 3.2"),
    ),
];

/// All names with a verdict, older names too, for the command line.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES
        .iter()
        .flat_map(|&(name, alias, _)| [name, alias])
        .filter(|n| !n.is_empty())
}

/// What CONFIG GET reports for directives whose value is fixed here, under their newer names.
pub fn reported() -> impl Iterator<Item = (&'static str, &'static str)> {
    RULES.iter().filter_map(|(name, _, rule)| match rule {
        Only(values, _) => Some((*name, values[0])),
        Zero(_) => Some((*name, "0")),
        Ignored(_) | Refused(_) => None,
    })
}

/// The verdict on `name` with these words; `None` if Redis has no such directive (or this server
/// has it itself).
#[must_use]
pub fn verdict(name: &str, words: &[&str]) -> Option<Verdict> {
    let (_, _, rule) = RULES.iter().find(|(n, alias, _)| {
        n.eq_ignore_ascii_case(name) || (!alias.is_empty() && alias.eq_ignore_ascii_case(name))
    })?;
    let refused = |why: &str| Verdict::Refused(format!("'{name}' is refused: {why}"));
    Some(match rule {
        Ignored(why) => Verdict::Accepted(format!(
            "Directive '{name}' is accepted without effect: {why}"
        )),
        Refused(why) => refused(why),
        Only(values, why) => {
            let given = words.join(" ");
            if values.iter().any(|v| v.eq_ignore_ascii_case(given.trim())) {
                Verdict::Accepted(format!("Directive '{name}' asks for what happens anyway"))
            } else {
                refused(why)
            }
        }
        Zero(why) => match words {
            [word] if value::memory(word, 0, 0).is_ok() => {
                Verdict::Accepted(format!("Directive '{name}' asks for what happens anyway"))
            }
            _ => refused(why),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table;

    fn accepted(name: &str, words: &[&str]) -> bool {
        matches!(verdict(name, words), Some(Verdict::Accepted(_)))
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        let cases: &[(&str, &[&str])] = &[
            ("replicaof", &["10.0.0.1", "6379"]),
            ("slaveof", &["10.0.0.1", "6379"]),
            ("rename-command", &["CONFIG", ""]),
            ("user", &["alice", "on"]),
            ("tls-port", &["6380"]),
            ("cluster-enabled", &["yes"]),
            ("daemonize", &["yes"]),
            ("loadmodule", &["x.so"]),
            ("min-replicas-to-write", &["1"]),
            ("no-appendfsync-on-rewrite", &["yes"]),
            ("supervised", &["systemd"]),
            ("aclfile", &["/etc/users.acl"]),
        ];
        for (name, words) in cases {
            match verdict(name, words) {
                Some(Verdict::Refused(why)) => assert!(why.contains(name), "{why}"),
                other => panic!("{name} {words:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_only_tunes_redis_or_happens_anyway_is_accepted() {
        assert!(accepted("io-threads", &["4"]));
        assert!(accepted("activerehashing", &["yes"]));
        assert!(accepted("daemonize", &["NO"]));
        assert!(verdict("no-such-directive", &["1"]).is_none());
    }

    #[test]
    fn no_directive_has_both_a_row_and_a_verdict() {
        for name in names() {
            assert!(table::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn reported_values_are_accepted_back() {
        for (name, value) in reported() {
            let words: Vec<&str> = value.split(' ').collect();
            assert!(accepted(name, &words), "{name} {value}");
        }
    }
}
