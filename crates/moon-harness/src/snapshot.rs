//! The keyspace as a server shows it, read key by key.

use crate::client::Client;
use crate::model::{DbKey, Entry, Group, Pending, State, Stream, Value};
use crate::reply::Reply;
use crate::sketches::{self, Sketch};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;

/// Requests that are sent before their replies are read.
const BATCH_KEYS: usize = 200;

/// Reads every key of the databases `0..databases`: its value, its expiry and that of its fields. The
/// server must be at rest, and no deadline may come meanwhile.
///
/// # Errors
/// When a reply is not what the type of the key asks for, or a key is listed and then missing.
pub fn read_state(client: &mut Client, databases: u8) -> Result<State> {
    let mut state = State::new();
    // Fields of Redis 7.0 have none.
    let known = client.command(&["COMMAND", "INFO", "HPEXPIRETIME"])?;
    let fields_expire = known
        .items()
        .is_some_and(|items| items.iter().any(|item| item.items().is_some()));
    for db in 0..databases {
        expect_ok(&client.command(&["SELECT", &db.to_string()])?)?;
        let keys = client.command(&["KEYS", "*"])?;
        let keys: Vec<Vec<u8>> = keys
            .items()
            .with_context(|| format!("KEYS answered {keys:?}"))?
            .iter()
            .filter_map(|k| k.bytes().map(<[u8]>::to_vec))
            .collect();
        for keys in keys.chunks(BATCH_KEYS) {
            read_keys(client, db, keys, &mut state)?;
            if fields_expire {
                read_deadlines(client, db, keys, &mut state)?;
            }
        }
    }
    expect_ok(&client.command(&["SELECT", "0"])?)?;
    Ok(state)
}

fn read_keys(client: &mut Client, db: u8, keys: &[Vec<u8>], state: &mut State) -> Result<()> {
    for key in keys {
        client.queue(&[&b"TYPE"[..], key]);
        client.queue(&[&b"PEXPIRETIME"[..], key]);
    }
    client.flush()?;
    let mut kinds = Vec::with_capacity(keys.len());
    for _ in keys {
        let kind = client.read_reply()?.text().unwrap_or_default();
        let expiry = client.read_reply()?;
        let expiry = expiry
            .int()
            .with_context(|| format!("PEXPIRETIME answered {expiry:?}"))?;
        kinds.push((kind, u64::try_from(expiry).ok()));
    }
    for (key, (kind, _)) in keys.iter().zip(&kinds) {
        match kind.as_str() {
            "string" => client.queue(&[&b"GET"[..], key]),
            "list" => client.queue(&[&b"LRANGE"[..], key, b"0", b"-1"]),
            "hash" => client.queue(&[&b"HGETALL"[..], key]),
            "set" => client.queue(&[&b"SMEMBERS"[..], key]),
            "zset" => client.queue(&[&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"]),
            "stream" => client.queue(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]),
            kind => bail!("{} is of type {kind}", DbKey::new(db, key.clone())),
        }
    }
    client.flush()?;
    for (key, (kind, expires_at_ms)) in keys.iter().zip(kinds) {
        let reply = client.read_reply()?;
        let key = DbKey::new(db, key.clone());
        let value = value_of(&kind, &reply)
            .with_context(|| format!("{key}, a {kind}, was answered with {reply:?}"))?;
        state.insert(
            key,
            Entry {
                expires_at_ms,
                ..Entry::new(value)
            },
        );
    }
    Ok(())
}

/// Notes the deadlines of fields of those `keys` that are hashes.
fn read_deadlines(client: &mut Client, db: u8, keys: &[Vec<u8>], state: &mut State) -> Result<()> {
    let of_hash = |entry: &Entry| match &entry.value {
        Value::Hash(fields) => Some(fields.keys().cloned().collect::<Vec<_>>()),
        _ => None,
    };
    let hashes: Vec<(DbKey, Vec<Vec<u8>>)> = keys
        .iter()
        .map(|key| DbKey::new(db, key.clone()))
        .filter_map(|key| Some((key.clone(), of_hash(state.get(&key)?)?)))
        .collect();
    for (key, fields) in &hashes {
        let number = fields.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"HPEXPIRETIME", &key.key, b"FIELDS", number.as_bytes()];
        words.extend(fields.iter().map(Vec::as_slice));
        client.queue(&words);
    }
    client.flush()?;
    for (key, fields) in hashes {
        let reply = client.read_reply()?;
        let times = reply.items().filter(|times| times.len() == fields.len());
        let times = times.with_context(|| format!("HPEXPIRETIME of {key} answered {reply:?}"))?;
        let entry = state.get_mut(&key).context("it was read before")?;
        for (field, time) in fields.into_iter().zip(times) {
            match time.int() {
                Some(-1) => {}
                Some(at) if at >= 0 => {
                    entry.deadlines.insert(field, at.unsigned_abs());
                }
                _ => bail!("{} of {key} is gone, says {reply:?}", field.escape_ascii()),
            }
        }
    }
    Ok(())
}

fn value_of(kind: &str, reply: &Reply) -> Option<Value> {
    if kind == "string" {
        return match reply {
            Reply::Bulk(bytes) if bytes.starts_with(sketches::MAGIC) => {
                Sketch::decode(bytes).map(Value::Sketch)
            }
            Reply::Bulk(bytes) => Some(Value::Str(bytes.clone())),
            _ => None,
        };
    }
    if kind == "stream" {
        return stream_of(reply).map(Value::Stream);
    }
    let items = reply
        .items()?
        .iter()
        .map(|item| item.bytes().map(<[u8]>::to_vec))
        .collect::<Option<Vec<_>>>()?;
    Some(match kind {
        "list" => Value::List(items),
        "set" => Value::Set(items.into_iter().collect()),
        "zset" => Value::Scores(
            items
                .chunks_exact(2)
                .map(|pair| Some((pair[0].clone(), number(&pair[1])?)))
                .collect::<Option<_>>()?,
        ),
        _ => Value::Hash(
            items
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect(),
        ),
    })
}

/// The value of `name` in a reply that lists names and values in turn.
fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    let pairs = reply.items()?.chunks_exact(2);
    let mut named = pairs.filter(|pair| pair[0].bytes() == Some(name.as_bytes()));
    named.next().map(|pair| &pair[1])
}

fn number<N: std::str::FromStr>(bytes: &[u8]) -> Option<N> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The number `n` of the id `n-0`.
fn id_of(reply: &Reply) -> Option<u64> {
    number(reply.bytes()?.strip_suffix(b"-0")?)
}

/// The stream that XINFO STREAM FULL describes.
fn stream_of(reply: &Reply) -> Option<Stream> {
    let mut entries = BTreeMap::new();
    for entry in field(reply, "entries")?.items()? {
        let [id, fields] = entry.items()? else {
            return None;
        };
        let [_, value] = fields.items()? else {
            return None;
        };
        entries.insert(id_of(id)?, value.bytes()?.to_vec());
    }
    let group = match field(reply, "groups")?.items()? {
        [] => None,
        [group] => {
            let mut pending = BTreeMap::new();
            let rows = field(group, "pending").or_else(|| field(group, "pel"))?;
            for row in rows.items()? {
                let [id, consumer, _, deliveries] = row.items()? else {
                    return None;
                };
                let row = Pending {
                    consumer: consumer.bytes()?.to_vec(),
                    deliveries: deliveries.int()?.unsigned_abs(),
                };
                pending.insert(id_of(id)?, row);
            }
            Some(Group {
                delivered: id_of(field(group, "last-delivered-id")?)?,
                pending,
            })
        }
        _ => return None,
    };
    Some(Stream {
        entries,
        last: id_of(field(reply, "last-generated-id")?)?,
        group,
    })
}

/// Fails unless `reply` is `+OK`.
///
/// # Errors
/// With the reply in the message.
pub fn expect_ok(reply: &Reply) -> Result<()> {
    if !reply.is_ok() {
        bail!("expected +OK, got {reply:?}");
    }
    Ok(())
}
