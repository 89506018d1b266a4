//! COMMAND against the table that Redis 7.0 answers, and its replies.

use super::*;
use moon_resp::{OwnedArgs, Protocol};
use serde_json::{Value, json};

/// Arity, flags, keys, ACL categories of the commands here, as `COMMAND INFO` of Redis 7.0.15
/// answered them.
const GOLDEN: &str = include_str!("../../tests/golden/redis-7.0-commands.json");

/// Flags that Redis has for features that are not in the table here.
const FLAGS_LEFT_OUT: [&str; 2] = ["no_async_loading", "no_mandatory_keys"];

/// Commands that got an option since, and their arity now.
const NEW_OPTIONS: [(&str, i16); 2] = [("zrank", -3), ("zrevrank", -3)];

fn sorted<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut words: Vec<_> = words.into_iter().collect();
    words.sort_unstable();
    words
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[test]
fn the_table_describes_commands_as_redis_does() {
    let golden: Value = serde_json::from_str(GOLDEN).expect("the golden file is JSON");
    let mut compared = 0;
    for spec in everything() {
        let expected = &golden[spec.name];
        if expected.is_null() {
            continue;
        }
        compared += 1;
        let name = spec.name;
        match NEW_OPTIONS.iter().find(|(newer, _)| *newer == name) {
            Some((_, arity)) => assert_eq!(spec.arity, *arity, "{name}: arity"),
            None => assert_eq!(json!(spec.arity), expected["arity"], "{name}: arity"),
        }
        assert_eq!(json!(key_range(spec)), expected["keys"], "{name}: keys");
        let flags = strings(&expected["flags"]);
        let flags = flags.into_iter().filter(|f| !FLAGS_LEFT_OUT.contains(f));
        let ours = flag_names(spec.flags);
        assert_eq!(sorted(ours), sorted(flags), "{name}: flags");
        let acl = spec.acl.split_ascii_whitespace();
        let expected_acl = strings(&expected["acl"]);
        let expected_acl = expected_acl.into_iter().map(|c| c.trim_start_matches('@'));
        assert_eq!(sorted(acl), sorted(expected_acl), "{name}: ACL categories");
        let specs: Vec<Value> = key_specs(spec)
            .iter()
            .map(|keys| match keys.place {
                Some(KeyPlace::Range(range)) => {
                    json!([keys.flags, range.first, range.last, range.step])
                }
                Some(KeyPlace::Numkeys(at)) => json!([keys.flags, "numkeys", at]),
                None => json!([keys.flags]),
            })
            .collect();
        assert_eq!(json!(specs), expected["specs"], "{name}: key specs");
    }
    assert!(compared > 60, "only {compared} commands were compared");
}

#[test]
fn every_command_is_documented() {
    for spec in everything() {
        let is_container = !subcommands::of(spec.name).is_empty();
        let runs_here = matches!(spec.run, crate::spec::Run::Data(_));
        assert!(
            !is_container || !runs_here,
            "{} is run by its subcommands",
            spec.name
        );
        for text in [spec.summary, spec.since, spec.group, spec.complexity] {
            assert!(!text.is_empty(), "{}", spec.name);
        }
        assert_eq!(spec.name, spec.name.to_ascii_lowercase());
    }
}

fn run(protocol: Protocol, request: &str) -> String {
    let args = OwnedArgs::new(request.split(' '));
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, protocol);
    if let Err(error) = command_reply(&mut reply, args.as_args()) {
        reply.truncate(0);
        reply.error(error.text());
    }
    String::from_utf8(out).expect("replies about commands are text")
}

#[track_caller]
fn expect(request: &str, reply: &str) {
    assert_eq!(run(Protocol::Resp2, request), reply, "{request}");
}

#[test]
fn info_has_ten_elements_with_key_specs() {
    let hget = concat!(
        "*10\r\n$4\r\nhget\r\n:3\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n",
        "~3\r\n+@read\r\n+@hash\r\n+@fast\r\n~0\r\n~1\r\n",
        "%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n",
        "$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n",
        "%1\r\n$5\r\nindex\r\n:1\r\n",
        "$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n",
        "%3\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n~0\r\n",
    );
    let reply = run(Protocol::Resp3, "COMMAND INFO HGET nosuch");
    assert_eq!(reply, format!("*2\r\n{hget}_\r\n"));
    expect(
        "COMMAND INFO client|id client|id|x client|nosuch",
        concat!(
            "*3\r\n*10\r\n$9\r\nclient|id\r\n:2\r\n*3\r\n+noscript\r\n+loading\r\n+stale\r\n",
            ":0\r\n:0\r\n:0\r\n*2\r\n+@slow\r\n+@connection\r\n*0\r\n*0\r\n*0\r\n$-1\r\n$-1\r\n"
        ),
    );
    let client = run(Protocol::Resp2, "COMMAND INFO client");
    let rows = subcommands::of("client");
    let (count, name) = (rows.len(), rows[0].name);
    let first = format!("\r\n*{count}\r\n*10\r\n${}\r\n{name}\r\n", name.len());
    assert!(client.contains(&first), "{client}");
}

#[test]
fn all_commands_are_counted_listed_and_described() {
    let count = table::all().len();
    expect("COMMAND COUNT", &format!(":{count}\r\n"));
    for all in ["COMMAND", "COMMAND INFO"] {
        assert!(run(Protocol::Resp2, all).starts_with(&format!("*{count}\r\n*10\r\n")));
    }
    let names = everything().count();
    let list = run(Protocol::Resp2, "COMMAND LIST");
    assert!(list.starts_with(&format!("*{names}\r\n")));
    assert!(list.contains("client|id"));
    let docs = run(Protocol::Resp3, "COMMAND DOCS");
    assert!(docs.starts_with(&format!("%{count}\r\n")));
}

#[test]
fn lists_are_filtered() {
    expect(
        "COMMAND LIST FILTERBY PATTERN HSET*",
        "*3\r\n$4\r\nhset\r\n$6\r\nhsetnx\r\n$6\r\nhsetex\r\n",
    );
    expect(
        "COMMAND LIST filterby aclcat TRANSACTION",
        "*5\r\n$5\r\nmulti\r\n$4\r\nexec\r\n$7\r\ndiscard\r\n$5\r\nwatch\r\n$7\r\nunwatch\r\n",
    );
    expect("COMMAND LIST FILTERBY MODULE json", "*0\r\n");
    expect("COMMAND LIST FILTERBY ACLCAT nosuch", "*0\r\n");
    for wrong in [
        "COMMAND LIST FOO",
        "COMMAND LIST FILTERBY ACLCAT",
        "COMMAND LIST FILTERBY FOO x",
    ] {
        expect(wrong, "-ERR syntax error\r\n");
    }
}

#[test]
fn docs_are_maps_with_subcommands() {
    expect("COMMAND DOCS nosuch", "*0\r\n");
    let docs = run(Protocol::Resp3, "COMMAND DOCS hmset CONFIG");
    assert!(docs.starts_with("%2\r\n$5\r\nhmset\r\n%8\r\n$7\r\nsummary\r\n"));
    assert!(docs.contains("$9\r\ndoc_flags\r\n~1\r\n+deprecated\r\n"));
    assert!(docs.contains("$11\r\nsubcommands\r\n%5\r\n$10\r\nconfig|get\r\n%5\r\n"));
}

#[test]
fn keys_are_found_in_whole_commands() {
    expect("COMMAND GETKEYS hset a 1 2", "*1\r\n$1\r\na\r\n");
    expect("COMMAND GETKEYS watch a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    expect(
        "COMMAND GETKEYSANDFLAGS lpop a 2",
        "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n",
    );
    let flags = run(Protocol::Resp3, "COMMAND GETKEYSANDFLAGS sadd a 2");
    assert_eq!(flags, "*1\r\n*2\r\n$1\r\na\r\n~2\r\n+RW\r\n+insert\r\n");
    let invalid = "-ERR Invalid command specified\r\n";
    expect("COMMAND GETKEYS nosuch a", invalid);
    expect("COMMAND GETKEYS client nosuch", invalid);
    expect(
        "COMMAND GETKEYS client id",
        "-ERR The command has no key arguments\r\n",
    );
    expect(
        "COMMAND GETKEYS hget a",
        "-ERR Invalid number of arguments specified for command\r\n",
    );
    expect(
        "COMMAND GETKEYS hget",
        "-ERR wrong number of arguments for 'command|getkeys' command\r\n",
    );
}

#[test]
fn unknown_subcommands_are_named() {
    expect(
        "COMMAND FOO",
        "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n",
    );
    expect(
        "COMMAND COUNT x",
        "-ERR wrong number of arguments for 'command|count' command\r\n",
    );
    let help = run(Protocol::Resp2, "COMMAND HELP");
    assert!(help.starts_with("*15\r\n+COMMAND <subcommand> "));
}
