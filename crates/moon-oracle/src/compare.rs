//! Whether two servers gave the same reply.
//!
//! Replies are compared form by form, as they were on the wire. Where Redis leaves the order of
//! elements open it is ignored, and where a reply counts time it may differ by what lies between
//! two looks at the clock. Everything else that may differ is a rule of [`crate::differences`].

use crate::differences::{self, Rule};
use crate::request::{Kind, Request};
use moon_resp::Value;

/// Between the clock readings of two servers that get the same command.
const CLOCKS_APART_MS: u64 = 5000;
/// Integers above this are points in time, in milliseconds.
const TIMES_FROM_MS: i64 = 1_000_000_000_000;

/// What comparing two replies shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are the same.
    Same,
    /// They differ as a rule says they may.
    Excused(&'static Rule),
    /// They differ.
    Different,
}

/// The requests that a connection has queued in its transaction.
#[derive(Debug, Default)]
pub struct Session {
    queued: Vec<Request>,
}

impl Session {
    /// The connection begins anew.
    pub fn reset(&mut self) {
        self.queued.clear();
    }

    /// Compares the reply to `request`, the next one of the connection. `is_open` says that chance
    /// decides it, so that only its form counts.
    pub fn compare(
        &mut self,
        request: &Request,
        is_open: bool,
        expected: &Value,
        found: &Value,
    ) -> Verdict {
        let name = request.name();
        let verdict = match (&name[..], expected, found) {
            (b"EXEC", Value::Array(expected), Value::Array(found))
                if expected.len() == found.len() && expected.len() == self.queued.len() =>
            {
                let verdicts = self
                    .queued
                    .iter()
                    .zip(expected.iter().zip(found))
                    .map(|(request, (expected, found))| compare(request, expected, found));
                worst(verdicts)
            }
            _ if is_open => form(expected == found || same_form(expected, found)),
            _ => compare(request, expected, found),
        };
        match (&name[..], expected) {
            (b"MULTI", _) if !expected.is_error() => self.queued.clear(),
            (b"EXEC" | b"DISCARD", _) => self.queued.clear(),
            (_, Value::Simple(text)) if text == b"QUEUED" => self.queued.push(request.clone()),
            _ => {}
        }
        verdict
    }
}

fn form(is_same: bool) -> Verdict {
    if is_same {
        Verdict::Same
    } else {
        Verdict::Different
    }
}

fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let mut worst = Verdict::Same;
    for verdict in verdicts {
        match verdict {
            Verdict::Different => return Verdict::Different,
            Verdict::Excused(_) => worst = verdict,
            Verdict::Same => {}
        }
    }
    worst
}

fn same_form(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Compares the replies to one request outside a transaction.
#[must_use]
pub fn compare(request: &Request, expected: &Value, found: &Value) -> Verdict {
    if same(expected, found) {
        return Verdict::Same;
    }
    if let (Value::Array(expected), Value::Array(found)) = (expected, found)
        && !request.inner.is_empty()
        && [expected.len(), found.len()] == [request.inner.len(); 2]
    {
        let replies = expected.iter().zip(found);
        let verdicts = request.inner.iter().zip(replies);
        let verdict =
            worst(verdicts.map(|(request, (expected, found))| compare(request, expected, found)));
        // What befalls the script as a whole shows in later replies, too.
        if verdict != Verdict::Different {
            return verdict;
        }
    }
    let expected = normalized(request, expected);
    let found = normalized(request, found);
    if same(&expected, &found) || same_time(request, &expected, &found) {
        return Verdict::Same;
    }
    match differences::rule_for(request, &expected, &found) {
        Some(rule) => Verdict::Excused(rule),
        None => Verdict::Different,
    }
}

/// As `==`, but not-a-number is itself.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let all =
        |a: &[Value], b: &[Value]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a == b || (a.is_nan() && b.is_nan()),
        (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => all(a, b),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((ak, av), (bk, bv))| same(ak, bk) && same(av, bv))
        }
        (a, b) => a == b,
    }
}

/// A reply without what is not compared: the order where it is open, and elapsed times.
fn normalized(request: &Request, reply: &Value) -> Value {
    if request.kind == Kind::Walk {
        return reply.clone();
    }
    if request.kind == Kind::Functions {
        return without_library(reply);
    }
    match &request.name()[..] {
        b"PUBSUB" if [&b"CHANNELS"[..], b"SHARDCHANNELS"].contains(&&request.word(1)[..]) => {
            sorted(reply)
        }
        b"FUNCTION" if request.word(1) == b"LIST" => libraries(reply),
        b"FUNCTION" if request.word(1) == b"DUMP" && matches!(reply, Value::Bulk(_)) => {
            Value::Simple(b"a payload".to_vec())
        }
        b"HELLO" => without_identity(reply),
        b"SMEMBERS" | b"SPOP" | b"SINTER" | b"SUNION" | b"SDIFF" | b"KEYS" | b"HKEYS"
        | b"HVALS" => sorted(reply),
        b"HGETALL" => match reply {
            Value::Array(_) | Value::Map(_) => Value::Array(sorted_values(pairs_of(reply))),
            other => other.clone(),
        },
        b"SORT" | b"SORT_RO" if request.has("BY") && is_open_sort(request) => sorted(reply),
        b"GEORADIUS"
        | b"GEORADIUS_RO"
        | b"GEORADIUSBYMEMBER"
        | b"GEORADIUSBYMEMBER_RO"
        | b"GEOSEARCH"
            if !request.has("ASC") && !request.has("DESC") && !request.has("COUNT") =>
        {
            sorted(reply)
        }
        // A value has many encodings; that each restores as the same value is seen by transplants.
        b"DUMP" if matches!(reply, Value::Bulk(_)) => Value::Simple(b"a payload".to_vec()),
        // A single reply of a walk depends on how the keyspace is laid out.
        b"SCAN" | b"HSCAN" | b"SSCAN" | b"ZSCAN" if matches!(reply, Value::Array(_)) => {
            Value::Simple(b"a cursor and elements".to_vec())
        }
        b"XPENDING" => without_idle_times(reply),
        b"XINFO" => without_passing_fields(reply),
        _ => reply.clone(),
    }
}

/// The reply of FUNCTION LIST: libraries, their functions and flags sorted, maps as arrays. A list
/// holds records and a record lists, as deeply as FUNCTION LIST nests them.
#[must_use]
pub fn libraries(reply: &Value) -> Value {
    match reply {
        Value::Array(items) | Value::Set(items) => {
            Value::Array(sorted_values(items.iter().map(record).collect()))
        }
        other => other.clone(),
    }
}

fn record(value: &Value) -> Value {
    match value {
        Value::Map(pairs) => Value::Array(
            pairs
                .iter()
                .flat_map(|(name, value)| [name.clone(), libraries(value)])
                .collect(),
        ),
        Value::Array(fields) => Value::Array(fields.iter().map(libraries).collect()),
        other => other.clone(),
    }
}

/// The error of FUNCTION RESTORE without the library or function that it met first: they are in no
/// order.
fn without_library(reply: &Value) -> Value {
    match reply {
        Value::Error(text) if text.ends_with(b" already exists") => {
            let words = text.split(|&b| b == b' ').enumerate();
            let kept: Vec<_> = words.filter(|(at, _)| *at != 2).map(|(_, w)| w).collect();
            Value::Error(kept.join(&b' '))
        }
        other => other.clone(),
    }
}

/// The reply of HELLO without what tells two servers and two connections apart.
fn without_identity(reply: &Value) -> Value {
    let mut fields = match reply {
        Value::Map(pairs) => pairs
            .iter()
            .flat_map(|(name, value)| [name.clone(), value.clone()])
            .collect(),
        Value::Array(fields) => fields.clone(),
        other => return other.clone(),
    };
    let mut hides = false;
    for field in &mut fields {
        if std::mem::take(&mut hides) {
            *field = Value::Null;
        }
        hides = matches!(field, Value::Bulk(name) if [&b"version"[..], b"id"].contains(&&name[..]));
    }
    Value::Array(fields)
}

/// Elements that a pattern does not tell apart come in the order in which Redis holds them.
fn is_open_sort(request: &Request) -> bool {
    let by = request
        .args
        .iter()
        .position(|arg| arg.eq_ignore_ascii_case(b"BY"));
    let pattern = by.and_then(|by| request.args.get(by + 1));
    pattern.is_some_and(|pattern| !pattern.contains(&b'*')) || request.has("ALPHA")
}

fn sorted(reply: &Value) -> Value {
    match reply {
        Value::Array(items) => Value::Array(sorted_values(items.clone())),
        Value::Set(items) => Value::Set(sorted_values(items.clone())),
        other => other.clone(),
    }
}

/// In an order that depends on the values alone.
#[must_use]
pub fn sorted_values(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_cached_key(|value| {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        bytes
    });
    values
}

/// The elements of an array or a set; none of anything else.
#[must_use]
pub fn flat_items(reply: &Value) -> Vec<Value> {
    match reply {
        Value::Array(items) | Value::Set(items) => items.clone(),
        _ => Vec::new(),
    }
}

/// Pairs of a map, of an array of pairs, or of a flat array.
#[must_use]
pub fn pairs_of(reply: &Value) -> Vec<Value> {
    match reply {
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| Value::Array(vec![key.clone(), value.clone()]))
            .collect(),
        Value::Array(items) if matches!(items.first(), Some(Value::Array(_))) => items.clone(),
        Value::Array(items) => items
            .chunks(2)
            .map(|pair| Value::Array(pair.to_vec()))
            .collect(),
        _ => Vec::new(),
    }
}

/// The third field of every row says for how long an entry is pending.
fn without_idle_times(reply: &Value) -> Value {
    let Value::Array(rows) = reply else {
        return reply.clone();
    };
    let rows = rows.iter().map(|row| match row {
        Value::Array(fields) if fields.len() == 4 && matches!(fields[2], Value::Integer(_)) => {
            let mut fields = fields.clone();
            fields[2] = Value::Integer(0);
            Value::Array(fields)
        }
        other => other.clone(),
    });
    Value::Array(rows.collect())
}

/// Fields of XINFO that tell elapsed time, or how the entries are stored.
const PASSING_FIELDS: &[&[u8]] = &[
    b"radix-tree-keys",
    b"radix-tree-nodes",
    b"idle",
    b"inactive",
    b"seen-time",
    b"active-time",
];

/// The reply of XINFO without [`PASSING_FIELDS`]; maps become arrays, and a group that was set ahead
/// of its stream has no lag, where 7.0 tells a negative one. Replies are nested as deeply
/// as XINFO nests them, so recursion is bounded.
#[must_use]
pub fn without_passing_fields(reply: &Value) -> Value {
    let is_passing =
        |name: &Value| matches!(name, Value::Bulk(name) if PASSING_FIELDS.contains(&&name[..]));
    match reply {
        Value::Map(pairs) => Value::Array(
            pairs
                .iter()
                .filter(|(name, _)| !is_passing(name))
                .flat_map(|(name, value)| match (name, value) {
                    (Value::Bulk(lag), Value::Integer(..0)) if lag == b"lag" => {
                        [name.clone(), Value::Integer(0)]
                    }
                    _ => [name.clone(), without_passing_fields(value)],
                })
                .collect(),
        ),
        Value::Array(items) => {
            let mut kept: Vec<Value> = Vec::new();
            let mut skip = false;
            for item in items {
                if let (Value::Integer(..0), Some(Value::Bulk(name))) = (item, kept.last())
                    && name == b"lag"
                {
                    kept.push(Value::Integer(0));
                    continue;
                }
                if std::mem::take(&mut skip) {
                    continue;
                }
                if is_passing(item) {
                    skip = true;
                    continue;
                }
                kept.push(without_passing_fields(item));
            }
            Value::Array(kept)
        }
        other => other.clone(),
    }
}

/// Whether replies that tell times differ by no more than the clocks.
fn same_time(request: &Request, expected: &Value, found: &Value) -> bool {
    match &request.name()[..] {
        b"TTL" | b"EXPIRETIME" => near(expected, found, 1000),
        b"PTTL" | b"PEXPIRETIME" => near(expected, found, 1),
        b"XINFO" => same_but_times(expected, found),
        _ => false,
    }
}

fn near(expected: &Value, found: &Value, unit_ms: u64) -> bool {
    // Negative numbers are answers of another kind.
    matches!((expected, found), (Value::Integer(a), Value::Integer(b))
        if *a > 0 && *b > 0 && a.abs_diff(*b) * unit_ms <= CLOCKS_APART_MS)
}

/// Whether two values are the same but for points in time that lie close together.
#[must_use]
pub fn same_but_times(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Integer(x), Value::Integer(y)) => {
            x == y || (*x > TIMES_FROM_MS && *y > TIMES_FROM_MS && near(a, b, 1))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_but_times(a, b))
        }
        (a, b) => same(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        Request::plain(line.split(' ').map(|w| w.as_bytes().to_vec()).collect())
    }

    fn bulks(words: &[&str]) -> Value {
        Value::Array(words.iter().map(Value::bulk).collect())
    }

    #[test]
    fn order_counts_where_redis_defines_it() {
        let (a, b) = (bulks(&["a", "b"]), bulks(&["b", "a"]));
        assert_eq!(compare(&request("SMEMBERS k"), &a, &b), Verdict::Same);
        assert_eq!(
            compare(&request("LRANGE k 0 -1"), &a, &b),
            Verdict::Different
        );
        let (a, b) = (bulks(&["a", "1", "b", "2"]), bulks(&["b", "2", "a", "1"]));
        assert_eq!(compare(&request("HGETALL k"), &a, &b), Verdict::Same);
        let torn = bulks(&["b", "1", "a", "2"]);
        assert_eq!(
            compare(&request("HGETALL k"), &a, &torn),
            Verdict::Different
        );
    }

    #[test]
    fn deadlines_may_be_apart_as_clocks_are() {
        let ttl = |a, b| compare(&request("PTTL k"), &Value::Integer(a), &Value::Integer(b));
        assert_eq!(ttl(90_000, 90_100), Verdict::Same);
        assert_eq!(ttl(90_000, 190_000), Verdict::Different);
        assert_eq!(ttl(-1, -2), Verdict::Different);
        let strlen = compare(&request("STRLEN k"), &Value::Integer(5), &Value::Integer(6));
        assert_eq!(strlen, Verdict::Different);
    }

    #[test]
    fn replies_of_a_transaction_are_compared_by_what_was_queued() {
        let mut session = Session::default();
        let queued = Value::Simple(b"QUEUED".to_vec());
        let ok = Value::Simple(b"OK".to_vec());
        assert_eq!(
            session.compare(&request("MULTI"), false, &ok, &ok),
            Verdict::Same
        );
        for line in ["SMEMBERS k", "LRANGE k 0 1"] {
            session.compare(&request(line), false, &queued, &queued);
        }
        let (a, b) = (bulks(&["a", "b"]), bulks(&["b", "a"]));
        let expected = Value::Array(vec![a.clone(), a.clone()]);
        let other_order = Value::Array(vec![b.clone(), a.clone()]);
        let other_list = Value::Array(vec![a, b]);
        let exec = |found: &Value| {
            let mut again = Session {
                queued: session.queued.clone(),
            };
            again.compare(&request("EXEC"), false, &expected, found)
        };
        assert_eq!(exec(&other_order), Verdict::Same);
        assert_eq!(exec(&other_list), Verdict::Different);
    }
}
