//! What a client is told unasked: messages, changes of keys, copies that are stale.
//!
//! News have fewer orders than replies. Messages come in the order in which they were published. Of
//! changes only those of one key have an order where keys lie on several shards. Which keys are
//! stale is a set: how they are put together into one push depends on when a server looks.

use crate::compare::{same, sorted_values};
use crate::differences::is_event_of_another_version;
use crate::keyspace::show;
use moon_resp::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is compared of two streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether the tested server changes keys in one order, because it has one shard.
    pub(crate) is_in_one_order: bool,
    /// Whether misses of keys are compared.
    pub(crate) misses: bool,
    /// Whether it is compared which copies are stale.
    pub(crate) stale: bool,
}

/// What a connection received, replies and news apart.
#[derive(Debug, Default)]
struct Received {
    /// Replies, and what confirms that one listens.
    replies: Vec<Value>,
    messages: Vec<Value>,
    /// Changes of keys, by database and key where they may come in any order.
    changes: BTreeMap<Vec<u8>, Vec<Value>>,
    /// Keys; the null that stands for all is one of them.
    stale: BTreeSet<Vec<u8>>,
}

/// Whether a server sends this without having been asked, and its parts.
fn news(value: &Value) -> Option<(&[u8], &[Value])> {
    let (Value::Push(parts) | Value::Array(parts)) = value else {
        return None;
    };
    let Some((Value::Bulk(kind), rest)) = parts.split_first() else {
        return None;
    };
    let is_news = match &kind[..] {
        b"message" | b"smessage" | b"invalidate" => rest.len() <= 2,
        b"pmessage" => rest.len() == 3,
        _ => false,
    };
    is_news.then_some((kind, rest))
}

/// `keyspace` or `keyevent`, the database, and what stands behind the colon.
fn change_channel(channel: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (is_of_key, rest) = match channel.strip_prefix(b"__keyspace@") {
        Some(rest) => (true, rest),
        None => (false, channel.strip_prefix(b"__keyevent@")?),
    };
    let end = rest.windows(3).position(|part| part == b"__:")?;
    Some((is_of_key, &rest[..end], &rest[end + 3..]))
}

fn received(stream: &[Value], rules: Rules) -> Received {
    let mut received = Received::default();
    for value in stream {
        let Some((kind, parts)) = news(value) else {
            received.replies.push(value.clone());
            continue;
        };
        let is_of_copies =
            |part: &Value| matches!(part, Value::Bulk(name) if name == b"__redis__:invalidate");
        if kind == b"invalidate" || parts.iter().any(is_of_copies) {
            match parts.last() {
                Some(Value::Array(keys)) => {
                    received.stale.extend(keys.iter().map(|key| {
                        let mut bytes = Vec::new();
                        key.write(&mut bytes);
                        bytes
                    }));
                }
                _ => {
                    received.stale.insert(b"all".to_vec());
                }
            }
            continue;
        }
        let change = match &parts[parts.len().saturating_sub(2)..] {
            [Value::Bulk(channel), Value::Bulk(payload)] => {
                change_channel(channel).map(|(is_of_key, db, name)| match is_of_key {
                    true => (payload, db, name),
                    false => (payload, db, &payload[..]),
                })
            }
            _ => None,
        };
        let Some((payload, db, key)) = change else {
            received.messages.push(value.clone());
            continue;
        };
        let event = match parts.iter().rev().nth(1) {
            Some(Value::Bulk(channel)) if channel.starts_with(b"__keyevent@") => {
                change_channel(channel).map(|(_, _, event)| event)
            }
            _ => Some(&payload[..]),
        };
        let is_miss = event == Some(b"keymiss");
        if event.is_some_and(is_event_of_another_version) || (is_miss && !rules.misses) {
            continue;
        }
        let about = match rules.is_in_one_order {
            true => Vec::new(),
            false => [db, b" ", key].concat(),
        };
        received
            .changes
            .entry(about)
            .or_default()
            .push(value.clone());
    }
    order_patterns(&mut received.messages);
    order_names(&mut received.replies);
    received
}

/// A message that fits several patterns of a client comes once for each, in no order.
fn order_patterns(messages: &mut [Value]) {
    let of_pattern = |value: &Value| match news(value) {
        Some((b"pmessage", [Value::Bulk(pattern), message @ ..])) => {
            Some((message.to_vec(), pattern.clone()))
        }
        _ => None,
    };
    let is_one_message = |a: &Value, b: &Value| match (of_pattern(a), of_pattern(b)) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => false,
    };
    for run in messages.chunk_by_mut(is_one_message) {
        run.sort_by_cached_key(|value| of_pattern(value).map(|(_, pattern)| pattern));
    }
}

/// Who ends all subscriptions is told so for each, in no order; how many are left has one.
fn order_names(replies: &mut [Value]) {
    let ended = |value: &Value| match value {
        Value::Push(parts) | Value::Array(parts) => match &parts[..] {
            [Value::Bulk(kind), name, Value::Integer(_)] if kind.ends_with(b"unsubscribe") => {
                Some((kind.clone(), name.clone()))
            }
            _ => None,
        },
        _ => None,
    };
    let is_one_kind = |a: &Value, b: &Value| match (ended(a), ended(b)) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => false,
    };
    for run in replies.chunk_by_mut(is_one_kind) {
        let names = run.iter().filter_map(ended).map(|(_, name)| name).collect();
        for (value, name) in run.iter_mut().zip(sorted_values(names)) {
            if let Value::Push(parts) | Value::Array(parts) = value
                && let [_, at, _] = &mut parts[..]
            {
                *at = name;
            }
        }
    }
}

/// How much of what is compared is in a stream: as much must come from the tested server. Keys count, not
/// the pushes that carry them.
pub(crate) fn amount(stream: &[Value], rules: Rules) -> usize {
    let received = received(stream, rules);
    let changes: usize = received.changes.values().map(Vec::len).sum();
    let stale = if rules.stale { received.stale.len() } else { 0 };
    received.replies.len() + received.messages.len() + stale + changes
}

/// What differs between the streams of values that a connection received from two servers: what it is
/// about, and both sides.
pub(crate) fn difference(
    expected: &[Value],
    found: &[Value],
    rules: Rules,
) -> Option<(String, String)> {
    let [a, b] = [expected, found].map(|stream| received(stream, rules));
    let all_same =
        |a: &[Value], b: &[Value]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    let about = if !all_same(&a.replies, &b.replies) {
        "replies".to_owned()
    } else if !all_same(&a.messages, &b.messages) {
        "messages".to_owned()
    } else if rules.stale && a.stale != b.stale {
        "stale copies".to_owned()
    } else {
        let keys: BTreeSet<_> = a.changes.keys().chain(b.changes.keys()).collect();
        let none = Vec::new();
        let differing = keys.into_iter().find_map(|key| {
            let [a, b] = [&a, &b].map(|side| side.changes.get(key).unwrap_or(&none));
            if all_same(a, b) {
                return None;
            }
            let at = a.iter().zip(b).position(|(a, b)| !same(a, b));
            let at = at.unwrap_or(a.len().min(b.len()));
            Some(a.get(at).or_else(|| b.get(at)).cloned())
        })?;
        let event = differing.as_ref().and_then(event_of).unwrap_or_default();
        format!("change {}", event.escape_ascii())
    };
    let [a, b] = [expected, found].map(|stream| show(&Value::Array(stream.to_vec())));
    Some((about, format!("  redis-server: {a}\n  found: {b}")))
}

/// The event that a change is about.
fn event_of(change: &Value) -> Option<Vec<u8>> {
    let (_, parts) = news(change)?;
    match &parts[parts.len().checked_sub(2)?..] {
        [Value::Bulk(channel), Value::Bulk(payload)] => match change_channel(channel)? {
            (true, ..) => Some(payload.clone()),
            (false, _, event) => Some(event.to_vec()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(words: &[&str]) -> Value {
        Value::Push(words.iter().map(Value::bulk).collect())
    }

    fn about(a: &[Value], b: &[Value], is_in_one_order: bool) -> Option<String> {
        let rules = Rules {
            is_in_one_order,
            misses: true,
            stale: true,
        };
        difference(a, b, rules).map(|(about, _)| about)
    }

    #[test]
    fn changes_of_one_key_have_an_order_and_those_of_several_only_on_one_shard() {
        let change = |key: &str, event: &str| {
            let channel = format!("__keyspace@0__:{key}");
            push(&["pmessage", "__key*__:*", &channel, event])
        };
        let event = |key: &str, event: &str| {
            let channel = format!("__keyevent@0__:{event}");
            push(&["pmessage", "__key*__:*", &channel, key])
        };
        let a = [change("k", "set"), event("k", "set"), change("l", "del")];
        let b = [change("l", "del"), change("k", "set"), event("k", "set")];
        assert_eq!(about(&a, &b, false), None);
        assert_eq!(about(&a, &b, true), Some("change set".into()));
        let c = [event("k", "set"), change("k", "set"), change("l", "del")];
        assert_eq!(about(&a, &c, false), Some("change set".into()));
        assert_eq!(about(&a, &a[..2], false), Some("change del".into()));
    }

    #[test]
    fn messages_have_one_order_and_stale_copies_none() {
        let message = |channel: &str| push(&["message", channel, "x"]);
        let (a, b) = ([message("1"), message("2")], [message("2"), message("1")]);
        assert_eq!(about(&a, &b, false), Some("messages".into()));
        let stale = |keys: &[&str]| {
            let keys = Value::Array(keys.iter().map(Value::bulk).collect());
            Value::Push(vec![Value::bulk("invalidate"), keys])
        };
        let (a, b) = ([stale(&["k"]), stale(&["l"])], [stale(&["l", "k"])]);
        assert_eq!(about(&a, &b, true), None);
        assert_eq!(about(&a, &b[..0], true), Some("stale copies".into()));
        let subscribed = push(&["subscribe", "a", "1"]);
        assert_eq!(about(&[subscribed], &[], true), Some("replies".into()));
    }
}
