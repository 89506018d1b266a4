//! Command line and file together.

use super::*;
use crate::config::AppendFsync;

fn load_words(words: &[&str]) -> Result<Loaded, ConfigError> {
    let args: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    match load(&args)? {
        Outcome::Run(loaded) => Ok(*loaded),
        Outcome::Print(text) => panic!("{text}"),
    }
}

fn in_file(text: &str, flags: &[&str]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("moon.conf");
    std::fs::write(&path, text).expect("the file is written");
    let path = path.display().to_string();
    let mut words = vec![path.as_str()];
    words.extend(flags);
    load_words(&words)
}

#[test]
fn command_is_well_formed() {
    command().debug_assert();
}

#[test]
fn without_words_the_defaults_hold() {
    let loaded = load_words(&[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.config.appendonly && loaded.notes.is_empty());
}

#[test]
fn flags_take_the_words_up_to_the_next_flag() {
    let loaded = load_words(&[
        "--port",
        "7000",
        "--bind",
        "127.0.0.1",
        "-::1",
        "--SHARDS",
        "4",
        "--save",
        "",
        "--appendfsync=always",
        "--check-config",
    ])
    .unwrap();
    assert_eq!(loaded.config.port, 7000);
    assert_eq!(loaded.config.bind, ["127.0.0.1", "-::1"]);
    assert_eq!(loaded.config.shards.unwrap().get(), 4);
    assert_eq!(loaded.config.appendfsync, AppendFsync::Always);
    assert!(loaded.config.check_config);
    assert_eq!(loaded.config.save, Some(Vec::new()));
    assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
}

/// Lines add up, as in Redis; a flag replaces what the file says.
#[test]
fn save_lines_add_up_and_flags_replace_them() {
    let save = |text: &str, flags: &[&str]| {
        let loaded = in_file(text, flags).unwrap();
        super::table::show_save(&loaded.config)
    };
    let lines = "appendonly no\nsave 3600 1\nsave 300 100\n";
    assert_eq!(save(lines, &[]), "3600 1 300 100");
    assert_eq!(save(lines, &["--save", "60", "5"]), "60 5");
    assert_eq!(save("save 3600 1\nsave \"\"\nsave 9 9\n", &[]), "9 9");
    assert_eq!(save("appendonly no\n", &[]), "3600 1 300 100 60 10000");
    assert_eq!(save("appendonly yes\n", &[]), "");
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let text = "port 7001\nappendfsync always\nhz 50\n";
    let loaded = in_file(text, &["--port", "7002"]).unwrap();
    assert_eq!(loaded.config.port, 7002);
    assert_eq!(loaded.config.appendfsync, AppendFsync::Always);
    assert_eq!(loaded.config.hz, 50);
    assert!(loaded.config.config_file.ends_with("moon.conf"));
}

#[test]
fn a_flag_replaces_a_line_of_the_file_unless_lines_add_up() {
    in_file("daemonize yes\n", &["--daemonize", "no"]).unwrap();
    let text = "client-output-buffer-limit normal 1mb 0 0\n";
    let flags = [
        "--client-output-buffer-limit",
        "pubsub",
        "32mb",
        "8mb",
        "60",
    ];
    let loaded = in_file(text, &flags).unwrap();
    assert_eq!(
        loaded.config.client_output_buffer_limit.show(),
        "normal 1048576 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    );
}

/// Scenarios 183 to 185: the same reason by flag and by file, and never a start.
#[test]
fn bad_values_are_fatal_by_flag_and_by_file() {
    for (name, value) in [
        ("appendfsync", "allways"),
        ("appendonly", "true"),
        ("appendonly", "on"),
        ("appendonly", "1"),
        ("appendonly", ""),
        ("maxmemory", "100GiB"),
        ("maxmemory", "99999999999999999999"),
        ("maxmemory", "-1"),
        ("maxmemory", ""),
        ("port", "70000"),
        ("shards", "-1"),
        ("shards", ""),
        ("inflight-max-bytes", "99999999999999gb"),
        ("save", "60"),
        ("save", "0 1000"),
        ("save", "60 -1"),
        ("save", "often"),
        ("replicaof", "a 1"),
        ("tls-port", "6380"),
        ("cluster-enabled", "yes"),
        ("daemonize", "yes"),
    ] {
        let by_flag = load_words(&[&format!("--{name}"), value]).unwrap_err();
        let by_file = in_file(&format!("{name} \"{value}\"\n"), &[]).unwrap_err();
        assert_eq!(by_flag.reason, by_file.reason, "{name} {value}");
        let text = by_flag.to_string();
        assert!(text.starts_with("*** FATAL COMMAND LINE ERROR"), "{text}");
        assert!(text.contains(name), "{text}");
        let text = by_file.to_string();
        assert!(text.contains("at line 1\n>>> '"), "{text}");
    }
}

#[test]
fn unknown_directives_are_fatal() {
    assert!(
        load_words(&["--apendonly", "yes"])
            .unwrap_err()
            .reason
            .contains("appendonly")
    );
    assert!(load_words(&["--port"]).is_err());
    assert!(
        in_file("apendonly yes\n", &[])
            .unwrap_err()
            .reason
            .contains("Bad directive")
    );
    assert!(
        load_words(&["/no/such/moon.conf"])
            .unwrap_err()
            .to_string()
            .contains("/no/such/moon.conf")
    );
}

#[test]
fn the_old_unsafe_flag_only_warns() {
    let loaded = load_words(&["--unsafe-multishard-aof", "--shards", "2"]).unwrap();
    assert!(loaded.notes[0].starts_with("DEPRECATED"));
    assert!(loaded.config.appendonly);
}

#[test]
fn help_and_version_are_printed() {
    for word in ["--help", "--version", "-h", "-V"] {
        match load(&[word.to_owned()]).unwrap() {
            Outcome::Print(text) => assert!(text.contains("moon-server"), "{text}"),
            Outcome::Run(_) => panic!("{word}"),
        }
    }
}

/// What a distribution's stock file sets, in its order and with its values.
const STOCK: &[(&str, bool)] = &[
    ("bind 127.0.0.1 -::1", true),
    ("protected-mode yes", true),
    ("port 6379", true),
    ("tcp-backlog 511", true),
    ("timeout 0", true),
    ("tcp-keepalive 300", true),
    ("daemonize yes", false),
    ("pidfile /run/redis/redis-server.pid", true),
    ("loglevel notice", true),
    ("logfile /var/log/redis/redis-server.log", true),
    ("databases 16", true),
    ("always-show-logo no", true),
    ("set-proc-title yes", true),
    (
        "proc-title-template \"{title} {listen-addr} {server-mode}\"",
        true,
    ),
    ("stop-writes-on-bgsave-error yes", true),
    ("rdbcompression yes", true),
    ("rdbchecksum yes", true),
    ("dbfilename dump.rdb", true),
    ("rdb-del-sync-files no", true),
    ("dir /var/lib/redis", true),
    ("replica-serve-stale-data yes", true),
    ("replica-read-only yes", true),
    ("repl-diskless-sync yes", true),
    ("repl-diskless-sync-delay 5", true),
    ("repl-diskless-sync-max-replicas 0", true),
    ("repl-diskless-load disabled", true),
    ("repl-disable-tcp-nodelay no", true),
    ("replica-priority 100", true),
    ("acllog-max-len 128", true),
    ("lazyfree-lazy-eviction no", true),
    ("lazyfree-lazy-expire no", true),
    ("lazyfree-lazy-server-del no", true),
    ("replica-lazy-flush no", true),
    ("lazyfree-lazy-user-del no", true),
    ("lazyfree-lazy-user-flush no", true),
    ("oom-score-adj no", true),
    ("oom-score-adj-values 0 200 800", true),
    ("disable-thp yes", true),
    ("appendonly no", true),
    ("appendfilename \"appendonly.aof\"", true),
    ("appenddirname \"appendonlydir\"", true),
    ("appendfsync everysec", true),
    ("no-appendfsync-on-rewrite no", true),
    ("auto-aof-rewrite-percentage 100", true),
    ("auto-aof-rewrite-min-size 64mb", true),
    ("aof-load-truncated yes", true),
    ("aof-use-rdb-preamble yes", true),
    ("aof-timestamp-enabled no", true),
    ("slowlog-log-slower-than 10000", true),
    ("slowlog-max-len 128", true),
    ("latency-monitor-threshold 0", true),
    ("notify-keyspace-events \"\"", true),
    ("hash-max-listpack-entries 512", true),
    ("hash-max-listpack-value 64", true),
    ("list-max-listpack-size -2", true),
    ("list-compress-depth 0", true),
    ("set-max-intset-entries 512", true),
    ("zset-max-listpack-entries 128", true),
    ("zset-max-listpack-value 64", true),
    ("hll-sparse-max-bytes 3000", true),
    ("stream-node-max-bytes 4096", true),
    ("stream-node-max-entries 100", true),
    ("activerehashing yes", true),
    ("client-output-buffer-limit normal 0 0 0", true),
    ("client-output-buffer-limit replica 256mb 64mb 60", true),
    ("client-output-buffer-limit pubsub 32mb 8mb 60", true),
    ("hz 10", true),
    ("dynamic-hz yes", true),
    ("aof-rewrite-incremental-fsync yes", true),
    ("rdb-save-incremental-fsync yes", true),
    ("jemalloc-bg-thread yes", true),
];

#[test]
fn every_line_of_a_stock_file_has_its_verdict() {
    for (line, good) in STOCK {
        let result = in_file(&format!("{line}\n"), &[]);
        assert_eq!(result.is_ok(), *good, "{line}: {result:?}");
    }
    let accepted: Vec<&str> = STOCK.iter().filter(|l| l.1).map(|l| l.0).collect();
    let loaded = in_file(&accepted.join("\n"), &[]).unwrap();
    assert!(!loaded.config.appendonly, "the file says so");
    assert!(
        loaded
            .notes
            .iter()
            .any(|n| n.contains("'jemalloc-bg-thread'"))
    );
}
