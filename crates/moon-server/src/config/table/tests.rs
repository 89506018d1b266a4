//! What must hold of every directive.

use super::*;

#[test]
fn defaults_in_the_table_are_the_defaults_in_force() {
    let config = Config::default();
    for d in DIRECTIVES {
        assert_eq!((d.get)(&config), d.default, "{}", d.name);
    }
}

#[test]
fn every_directive_is_documented_with_its_default() {
    let page = include_str!("../../../../../docs/configuration.md");
    for d in DIRECTIVES {
        let default = match d.default {
            "" => "empty".to_owned(),
            text => format!("`{text}`"),
        };
        let how = if d.how == How::Runtime { "yes" } else { "no" };
        let row = format!("| `{}` | {default} | {how} | {}", d.name, d.doc);
        assert!(page.contains(&row), "docs/configuration.md lacks: {row}");
    }
}

#[test]
fn printed_values_can_be_read_back() {
    for d in DIRECTIVES {
        let printed = (d.get)(&Config::default());
        let mut config = Config::default();
        (d.set)(&mut config, &[&printed]).unwrap_or_else(|e| panic!("{}: {e}", d.name));
        if d.name == "save" {
            // The default follows `appendonly`; what is printed is set.
            assert_eq!(config.save_points(), Config::default().save_points());
            config.save = None;
        }
        assert_eq!(config, Config::default(), "{}", d.name);
    }
}

#[test]
fn names_are_unique_and_in_lower_case() {
    let mut seen = std::collections::HashSet::new();
    for d in DIRECTIVES {
        assert!(seen.insert(d.name), "{} twice", d.name);
        assert_eq!(d.name, d.name.to_ascii_lowercase());
    }
}

/// Scenarios 184 and 185: none of these starts a server, and none leaves a trace.
#[test]
fn bad_values_are_errors_and_change_nothing() {
    let cases: &[(&str, &[&str])] = &[
        ("appendfsync", &["allways"]),
        ("appendfsync", &[""]),
        ("appendfsync", &["always", "no"]),
        ("appendonly", &["true"]),
        ("appendonly", &["on"]),
        ("appendonly", &["1"]),
        ("appendonly", &[""]),
        ("appendonly", &[]),
        ("port", &["65536"]),
        ("port", &["-1"]),
        ("port", &["http"]),
        ("shards", &["0"]),
        ("shards", &["65"]),
        ("shards", &["-1"]),
        ("shards", &["two"]),
        ("databases", &["0"]),
        ("maxclients", &["0"]),
        ("maxclients", &["4294967296"]),
        ("inflight-max-bytes", &["100GiB"]),
        ("inflight-max-bytes", &["99999999999gb"]),
        ("inflight-max-bytes", &["0"]),
        ("proto-max-bulk-len", &["-1"]),
        ("proto-max-bulk-len", &[""]),
        ("appenddirname", &["a/b"]),
        ("appenddirname", &[".."]),
        ("appenddirname", &[""]),
        ("dir", &[""]),
        ("dir", &["a\0b"]),
        ("bind", &[""]),
        ("bind", &["-"]),
        ("unixsocketperm", &["999"]),
        ("pipeline-order", &["loose"]),
        ("metrics-port", &["x"]),
        ("metrics-bind", &["everywhere"]),
        ("loglevel", &["loud"]),
        ("hz", &["0"]),
        ("active-expire-effort", &["11"]),
        ("maxmemory", &["100GiB"]),
        ("maxmemory", &["99999999999999999999"]),
        ("maxmemory", &["99999999999gb"]),
        ("maxmemory", &["-1"]),
        ("maxmemory", &[""]),
        ("maxmemory-policy", &["allkeys"]),
        ("maxmemory-samples", &["0"]),
        ("maxmemory-eviction-tenacity", &["101"]),
        ("client-output-buffer-limit", &["pubsub", "1", "2"]),
        ("timeout", &["1.5"]),
        ("timeout", &["1", "2"]),
    ];
    for (name, words) in cases {
        let d = find(name).expect("the directive exists");
        let mut config = Config::default();
        assert!((d.set)(&mut config, words).is_err(), "{name} {words:?}");
        assert_eq!(config, Config::default(), "{name} {words:?}");
    }
}
