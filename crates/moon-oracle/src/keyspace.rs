//! Everything a server holds, and what differs between two of them.

use crate::compare::{
    libraries as libraries_in_order, pairs_of, same_but_times, sorted_values,
    without_passing_fields,
};
use crate::differences::{
    is_form_before_sort, is_newer_encoding, is_smaller_string, same_but_cached_estimate,
    same_numbers,
};
use anyhow::{Context as _, Result, bail};
use moon_harness::Client;
use moon_resp::Value;
use std::collections::BTreeMap;

/// Databases that sequences write to, from 0.
pub const DATABASES: u8 = 4;
/// Between the deadlines that two servers compute from the same relative time.
const CLOCKS_APART_MS: u64 = 5000;

/// In the place of a database: libraries of functions, which belong to none.
pub const LIBRARIES: u8 = u8::MAX;

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// As TYPE says.
    pub kind: String,
    /// As OBJECT ENCODING says.
    pub encoding: Value,
    /// As PEXPIRETIME says: -1 for no deadline.
    pub expires_at_ms: i64,
    /// Its elements, in an order of their own where the type has none.
    pub value: Value,
}

/// Every key of every database, and every library of functions.
pub type Keyspace = BTreeMap<(u8, Vec<u8>), Holding>;

/// What two keyspaces are compared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// A server with the oracle: deadlines and times as far apart as clocks may be, encodings as
    /// the newer version has them.
    OtherServer,
    /// A server with itself before a crash: everything but the times at which consumers were seen.
    SameServer,
    /// As `SameServer`, without encodings: what was loaded from a snapshot is as small as it can be.
    Rewritten,
}

/// Reads all databases of a server that speaks RESP2 to `client` and is at rest.
///
/// # Errors
/// When the connection breaks or a reply has the wrong form.
pub fn read(client: &mut Client) -> Result<Keyspace> {
    let mut keyspace = Keyspace::new();
    for db in 0..DATABASES {
        ask(client, &[b"SELECT", db.to_string().as_bytes()])?;
        let Value::Array(keys) = ask(client, &[b"KEYS", b"*"])? else {
            bail!("KEYS is answered by an array");
        };
        let keys: Vec<Vec<u8>> = keys
            .into_iter()
            .filter_map(|key| match key {
                Value::Bulk(key) => Some(key),
                _ => None,
            })
            .collect();
        read_keys(client, db, &keys, &mut keyspace)?;
    }
    ask(client, &[b"SELECT", b"0"])?;
    let libraries = ask(client, &[b"FUNCTION", b"LIST", b"WITHCODE"])?;
    if let Value::Array(all) = libraries_in_order(&libraries) {
        for library in all {
            let Value::Array(fields) = &library else {
                bail!("a library is a list of fields");
            };
            let Some(Value::Bulk(name)) = fields.get(1) else {
                bail!("a library has a name");
            };
            let holding = Holding {
                kind: "library".into(),
                encoding: Value::NullBulk,
                expires_at_ms: -1,
                value: library.clone(),
            };
            keyspace.insert((LIBRARIES, name.clone()), holding);
        }
    }
    Ok(keyspace)
}

fn ask(client: &mut Client, request: &[&[u8]]) -> Result<Value> {
    client.queue(request);
    client.flush()?;
    Ok(client.read_value()?)
}

fn read_keys(client: &mut Client, db: u8, keys: &[Vec<u8>], keyspace: &mut Keyspace) -> Result<()> {
    for key in keys {
        client.queue(&[&b"TYPE"[..], key]);
        client.queue(&[&b"OBJECT"[..], b"ENCODING", key]);
        client.queue(&[&b"PEXPIRETIME"[..], key]);
    }
    client.flush()?;
    let mut heads = Vec::with_capacity(keys.len());
    for _ in keys {
        let Value::Simple(kind) = client.read_value()? else {
            bail!("TYPE is answered by a status");
        };
        let encoding = client.read_value()?;
        let Value::Integer(expires_at_ms) = client.read_value()? else {
            bail!("PEXPIRETIME is answered by a number");
        };
        heads.push((
            String::from_utf8_lossy(&kind).into_owned(),
            encoding,
            expires_at_ms,
        ));
    }
    for (key, (kind, ..)) in keys.iter().zip(&heads) {
        match &kind[..] {
            "list" => client.queue(&[&b"LRANGE"[..], key, b"0", b"-1"]),
            "set" => client.queue(&[&b"SMEMBERS"[..], key]),
            "hash" => client.queue(&[&b"HGETALL"[..], key]),
            "zset" => client.queue(&[&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"]),
            "stream" => client.queue(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]),
            _ => client.queue(&[&b"GET"[..], key]),
        }
    }
    client.flush()?;
    for (key, (kind, encoding, expires_at_ms)) in keys.iter().zip(heads) {
        let reply = client.read_value().context("reading a value")?;
        let value = match (&kind[..], reply) {
            ("set", Value::Array(items)) => Value::Array(sorted_values(items)),
            ("hash", reply) => Value::Array(sorted_values(pairs_of(&reply))),
            ("stream", reply) => without_passing_fields(&reply),
            (_, reply) => reply,
        };
        let holding = Holding {
            kind,
            encoding,
            expires_at_ms,
            value,
        };
        keyspace.insert((db, key.clone()), holding);
    }
    Ok(())
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its kind, the same for all keys: `hash: value`.
    pub class: String,
    /// The key and both sides.
    pub detail: String,
}

/// What differs between `expected` and `found`.
#[must_use]
pub fn compare(expected: &Keyspace, found: &Keyspace, strictness: Strictness) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let name = format!("db{} \"{}\"", key.0, key.1.escape_ascii());
        let mut add = |class: String, expected: String, found: String| {
            mismatches.push(Mismatch {
                class,
                detail: format!("{name}\n  expected {expected}\n  found    {found}"),
            });
        };
        match (expected.get(key), found.get(key)) {
            (Some(expected), Some(found)) => {
                if let Some((what, a, b)) = difference(expected, found, strictness) {
                    add(format!("{}: {what}", expected.kind), a, b);
                }
            }
            (Some(expected), None) => {
                add(
                    format!("{}: missing", expected.kind),
                    show(&expected.value),
                    "nothing".into(),
                );
            }
            (None, Some(found)) => {
                add(
                    format!("{}: invented", found.kind),
                    "nothing".into(),
                    show(&found.value),
                );
            }
            (None, None) => {}
        }
    }
    mismatches
}

fn difference(
    expected: &Holding,
    found: &Holding,
    strictness: Strictness,
) -> Option<(&'static str, String, String)> {
    if expected.kind != found.kind {
        return Some(("type", expected.kind.clone(), found.kind.clone()));
    }
    let same_value = match strictness {
        Strictness::OtherServer if expected.kind == "zset" => {
            same_numbers(&expected.value, &found.value)
        }
        Strictness::OtherServer => {
            same_but_times(&expected.value, &found.value)
                || same_but_cached_estimate(&expected.value, &found.value)
        }
        Strictness::SameServer | Strictness::Rewritten => expected.value == found.value,
    };
    if !same_value {
        return Some(("value", show(&expected.value), show(&found.value)));
    }
    let same_deadline = match strictness {
        Strictness::OtherServer => {
            expected.expires_at_ms == found.expires_at_ms
                || (expected.expires_at_ms > 0
                    && found.expires_at_ms > 0
                    && expected.expires_at_ms.abs_diff(found.expires_at_ms) <= CLOCKS_APART_MS)
        }
        Strictness::SameServer | Strictness::Rewritten => {
            expected.expires_at_ms == found.expires_at_ms
        }
    };
    if !same_deadline {
        let [a, b] = [expected, found].map(|holding| holding.expires_at_ms.to_string());
        return Some(("deadline", a, b));
    }
    let same_encoding = expected.encoding == found.encoding
        || match strictness {
            Strictness::OtherServer => {
                is_newer_encoding(&expected.encoding, &found.encoding)
                    || is_smaller_string(&expected.encoding, &found.encoding)
                    || is_form_before_sort(&expected.encoding, &found.encoding)
            }
            // A write that changes nothing is not in the log, and may have enlarged the form.
            Strictness::SameServer => is_smaller_string(&expected.encoding, &found.encoding),
            Strictness::Rewritten => true,
        };
    if !same_encoding {
        return Some(("encoding", show(&expected.encoding), show(&found.encoding)));
    }
    None
}

/// A reply as it is written down in reports and examples.
#[must_use]
pub fn show(value: &Value) -> String {
    let mut text = format!("{:?}", moon_harness::Reply::from(value.clone()));
    const LENGTH_MAX: usize = 1500;
    if text.len() > LENGTH_MAX {
        let cut = (0..=LENGTH_MAX).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(cut.unwrap_or(0));
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(value: &str, expires_at_ms: i64, encoding: &str) -> Keyspace {
        let holding = Holding {
            kind: "string".into(),
            encoding: Value::bulk(encoding),
            expires_at_ms,
            value: Value::bulk(value),
        };
        Keyspace::from([((0, b"k".to_vec()), holding)])
    }

    fn classes(a: &Keyspace, b: &Keyspace, strictness: Strictness) -> Vec<String> {
        let mismatches = compare(a, b, strictness);
        mismatches.into_iter().map(|m| m.class).collect()
    }

    #[test]
    fn what_differs_is_named() {
        let base = holding("v", 4_102_444_800_000, "raw");
        let none = Keyspace::new();
        let check = |b: &Keyspace, strictness| classes(&base, b, strictness);
        assert!(check(&base, Strictness::SameServer).is_empty());
        assert_eq!(check(&none, Strictness::SameServer), ["string: missing"]);
        assert_eq!(
            classes(&none, &base, Strictness::SameServer),
            ["string: invented"]
        );
        let value = holding("w", 4_102_444_800_000, "raw");
        assert_eq!(check(&value, Strictness::OtherServer), ["string: value"]);
        let later = holding("v", 4_102_444_800_100, "raw");
        assert!(check(&later, Strictness::OtherServer).is_empty());
        assert_eq!(check(&later, Strictness::SameServer), ["string: deadline"]);
        let never = holding("v", -1, "raw");
        assert_eq!(check(&never, Strictness::OtherServer), ["string: deadline"]);
        let smaller = holding("v", 4_102_444_800_000, "int");
        assert!(check(&smaller, Strictness::SameServer).is_empty());
        assert_eq!(
            classes(&smaller, &base, Strictness::SameServer),
            ["string: encoding"]
        );
        assert!(classes(&smaller, &base, Strictness::Rewritten).is_empty());
    }
}
