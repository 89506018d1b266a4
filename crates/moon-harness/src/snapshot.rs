//! The keyspace as a server shows it, read key by key.

use crate::client::Client;
use crate::model::{DbKey, Entry, State, Value};
use crate::reply::Reply;
use anyhow::{Context as _, Result, bail};

/// Requests that are sent before their replies are read.
const BATCH_KEYS: usize = 200;

/// Reads every key of the databases `0..databases`: its value and its expiry. The server must be
/// at rest.
///
/// # Errors
/// When a reply is not what the type of the key asks for, or a key is listed and then missing.
pub fn read_state(client: &mut Client, databases: u8) -> Result<State> {
    let mut state = State::new();
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
                value,
                expires_at_ms,
            },
        );
    }
    Ok(())
}

fn value_of(kind: &str, reply: &Reply) -> Option<Value> {
    if kind == "string" {
        return match reply {
            Reply::Bulk(bytes) => Some(Value::Str(bytes.clone())),
            _ => None,
        };
    }
    let items = reply
        .items()?
        .iter()
        .map(|item| item.bytes().map(<[u8]>::to_vec))
        .collect::<Option<Vec<_>>>()?;
    Some(match kind {
        "list" => Value::List(items),
        "set" => Value::Set(items.into_iter().collect()),
        _ => Value::Hash(
            items
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect(),
        ),
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
