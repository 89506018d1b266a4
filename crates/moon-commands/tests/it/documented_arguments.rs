//! The arguments that COMMAND DOCS tells of are those that Redis 7.0 tells of.

use crate::redis::Redis;
use moon_commands::docs;
use moon_resp::{OwnedArgs, Protocol, Reply, ReplyParser, Value};
use std::collections::BTreeMap;

/// Commands that take more than they did in Redis 7.0, or about whose arguments it said less.
const NEWER: &[&str] = &[
    "bitop",
    "command|getkeys",
    "command|getkeysandflags",
    "debug",
    "hscan",
    "xadd",
    "xtrim",
    "zrank",
    "zrevrank",
];

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("a text: {other:?}"),
    }
}

fn fields(value: Value) -> BTreeMap<String, Value> {
    let Value::Map(pairs) = value else {
        panic!("a map: {value:?}");
    };
    pairs.into_iter().map(|(k, v)| (text(&k), v)).collect()
}

/// Without what Redis 7.0 did not tell, and in one order.
fn comparable(arguments: Value) -> String {
    let Value::Array(arguments) = arguments else {
        panic!("an array: {arguments:?}");
    };
    let mut shown = String::new();
    for argument in arguments {
        for (label, value) in fields(argument) {
            match label.as_str() {
                "display_text" => {}
                "arguments" => shown += &format!("({})", comparable(value)),
                _ => shown += &format!("{label}={value:?} "),
            }
        }
        shown.push(',');
    }
    shown
}

/// The arguments of every command and subcommand of a reply to COMMAND DOCS.
fn collect(docs: Value, into: &mut BTreeMap<String, String>) {
    for (name, doc) in fields(docs) {
        let mut doc = fields(doc);
        let arguments = doc.remove("arguments").map(comparable);
        into.insert(name, arguments.unwrap_or_default());
        if let Some(subcommands) = doc.remove("subcommands") {
            collect(subcommands, into);
        }
    }
}

fn read(reply: &[u8]) -> BTreeMap<String, String> {
    let parsed = ReplyParser::new().parse(reply).expect("a valid reply");
    let mut all = BTreeMap::new();
    collect(parsed.expect("a whole reply").0, &mut all);
    all
}

#[test]
fn arguments_are_documented_as_redis_documents_them() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    redis.run(&["HELLO", "3"]);
    let theirs = read(&redis.run(&["COMMAND", "DOCS"]));
    let mut reply = Vec::new();
    let request = OwnedArgs::new(["COMMAND", "DOCS"]);
    docs::command_reply(
        &mut Reply::new(&mut reply, Protocol::Resp3),
        request.as_args(),
    )
    .expect("COMMAND DOCS answers");
    let ours = read(&reply);
    let mut compared = 0;
    for (name, found) in &ours {
        if let Some(expected) = theirs.get(name)
            && !NEWER.contains(&name.as_str())
        {
            assert_eq!(found, expected, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 200, "only {compared} commands were compared");
    for name in NEWER {
        assert!(ours[*name] != theirs[*name], "{name} is as it was");
    }
}
