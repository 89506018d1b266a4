//! MIGRATE: keys that go to another server, or are copied there.
//!
//! Nobody waits for the network with data in hand:
//!
//! 1. The keys are dumped and their versions noted, in one borrow of their shards.
//! 2. Once everything that the dumps show is committed they are sent, each in a RESTORE.
//! 3. A second borrow deletes what the other server has confirmed.
//!
//! A key that changed between 1 and 3 stays, and the reply says so: the other server has the value
//! it had, and whoever migrates tries again with REPLACE. So no write is lost, and what is deleted
//! here is exactly what is there.

use super::pause;
use super::pipeline::{Close, Connection};
use super::session::Watch;
use super::transaction::{begin_watch, forget, is_unchanged};

use moon_commands::{CommandId, dump, lookup};
use moon_core::{Lsn, UnixMs};
use moon_resp::{Args, OwnedArgs, write_request};
use moon_shard::ShardMask;
use moon_store::{Deadline, Key, THIS_TURN};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const SYNTAX: &str = "ERR syntax error";
const CONNECTING: &str = "IOERR error or timeout connecting to the client";
const WRITING: &str = "IOERR error or timeout writing to target instance";
const READING: &str = "IOERR error or timeout reading from target instance";
const CHANGED: &str = "IOERR some keys were changed while they were migrated, and stay; the target \
    instance has their former values";

/// Milliseconds that a step may take unless a positive number is given.
const TIMEOUT_DEFAULT_MS: u64 = 1000;
/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest line of a reply that is taken.
const LINE_BYTES_MAX: u64 = 1024;

/// What was asked for.
struct Request<'a> {
    host: &'a str,
    port: u16,
    db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    keys: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>) -> Result<Request<'a>, String> {
        let mut request = Request {
            host: str::from_utf8(args.at(1)).unwrap_or_default(),
            port: port(args.at(2)),
            db: 0,
            timeout: Duration::ZERO,
            copy: false,
            replace: false,
            user: None,
            password: None,
            keys: vec![args.at(3)],
        };
        let mut at = 6;
        while let Some(option) = args.get(at) {
            let left = args.len() - at - 1;
            match option.to_ascii_lowercase().as_slice() {
                b"copy" => request.copy = true,
                b"replace" => request.replace = true,
                b"auth" if left >= 1 => {
                    request.password = args.get(at + 1);
                    at += 1;
                }
                b"auth2" if left >= 2 => {
                    request.user = args.get(at + 1);
                    request.password = args.get(at + 2);
                    at += 2;
                }
                b"keys" if !args.at(3).is_empty() => {
                    return Err(
                        "ERR When using MIGRATE KEYS option, the key argument must be set \
                                to the empty string"
                            .to_owned(),
                    );
                }
                b"keys" => {
                    request.keys = args.from(at + 1).iter().collect();
                    break;
                }
                _ => return Err(SYNTAX.to_owned()),
            }
            at += 1;
        }
        let integer = |arg| moon_commands::parse::integer(arg).map_err(|e| e.text().to_owned());
        let timeout_ms = u64::try_from(integer(args.at(5))?).unwrap_or(0);
        request.db = integer(args.at(4))?;
        request.timeout = Duration::from_millis(match timeout_ms {
            0 => TIMEOUT_DEFAULT_MS,
            given => given,
        });
        Ok(request)
    }
}

/// As `atoi` reads it: what is no number is no port.
fn port(arg: &[u8]) -> u16 {
    let text = str::from_utf8(arg).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// A key on its way.
struct Moving {
    key: Box<[u8]>,
    deadline: Deadline,
    payload: Vec<u8>,
    watch: Watch,
    /// The other server has it.
    confirmed: bool,
}

/// Runs MIGRATE.
pub(super) async fn run(
    connection: &mut Connection,
    id: CommandId,
    args: Args<'_>,
) -> Result<(), Close> {
    connection.barrier().await?;
    let started = Instant::now();
    let (depends_on, result) = match Request::parse(args) {
        Ok(request) => migrate(connection, &request).await?,
        Err(text) => (Lsn::ZERO, Err(text)),
    };
    connection.write_dependent_reply(depends_on, |reply| match &result {
        Ok(text) => reply.simple(text),
        Err(text) => reply.error(text),
    });
    connection
        .server
        .note_command(&connection.shard, id, started.elapsed(), result.err());
    connection.flush();
    Ok(())
}

type Outcome = (Lsn, Result<&'static str, String>);

async fn migrate(connection: &mut Connection, request: &Request<'_>) -> Result<Outcome, Close> {
    let (shown, mut moving) = take(connection, request).await;
    if moving.is_empty() {
        return Ok((shown, Ok("NOKEY")));
    }
    // Nothing that a crash could take back leaves this server.
    let sent = match connection.committed(shown).await {
        Ok(()) => send(request, &mut moving).await,
        Err(close) => {
            forget(connection, moving.into_iter().map(|it| it.watch));
            return Err(close);
        }
    };
    let (mut end, mut changed) = (Lsn::ZERO, false);
    if request.copy || !moving.iter().any(|it| it.confirmed) {
        forget(connection, moving.into_iter().map(|it| it.watch));
    } else {
        (end, changed) = delete(connection, moving).await;
    }
    Ok(match sent {
        Ok(()) if changed => (end, Err(CHANGED.to_owned())),
        Ok(()) => (end, Ok("OK")),
        Err(text) => (end, Err(text)),
    })
}

fn shards_of<'k>(connection: &Connection, keys: impl Iterator<Item = &'k [u8]>) -> ShardMask {
    let count = connection.shard.count();
    keys.fold(ShardMask::default(), |mask, key| {
        mask.with(count.shard_of_key(key))
    })
}

/// Dumps the keys that are there. Returns what the dumps show, too.
async fn take(connection: &Connection, request: &Request<'_>) -> (Lsn, Vec<Moving>) {
    let mask = shards_of(connection, request.keys.iter().copied());
    let mut borrowed = connection.shard.borrow(mask).await;
    let shown = connection.shard.clock().head();
    let (db, now) = (connection.state.db, borrowed.now());
    let mut moving: Vec<Moving> = Vec::new();
    for key in &request.keys {
        let shard = connection.shard.count().shard_of_key(key);
        let data = borrowed.data(shard).expect("its shard was borrowed");
        let mut payload = Vec::new();
        let deadline = match data.db(db).get(Key::new(key)) {
            Some((value, deadline))
                if deadline.is_none_or(|at| at > now)
                    && dump::write_payload(&mut payload, value) =>
            {
                deadline
            }
            _ => continue,
        };
        moving.push(Moving {
            key: (*key).into(),
            deadline,
            payload,
            watch: begin_watch(data, db, key, now),
            confirmed: false,
        });
    }
    borrowed.commit();
    (shown, moving)
}

/// Sends the keys and notes which of them the other server has confirmed.
///
/// # Errors
/// The error reply. Some keys may have been confirmed nevertheless.
async fn send(request: &Request<'_>, moving: &mut [Moving]) -> Result<(), String> {
    let limit = request.timeout;
    let connect = TcpStream::connect((request.host, request.port));
    let stream = match tokio::time::timeout(limit, connect).await {
        Ok(Ok(stream)) => stream,
        // Redis notices only when it writes.
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            return Err(WRITING.to_owned());
        }
        Ok(Err(_)) | Err(_) => return Err(CONNECTING.to_owned()),
    };
    // Large requests fill their packets anyway.
    drop(stream.set_nodelay(true));
    let mut target = BufReader::new(stream);
    // Apart from the keys: those must not end up in another database.
    let (prepare, replies) = preparation(request);
    write(&mut target, &prepare, limit).await?;
    let mut rejected = None;
    for _ in 0..replies {
        note(
            &mut rejected,
            &line(&mut target, limit).await.ok_or(READING)?,
        );
    }
    if rejected.is_none() {
        write(&mut target, &restores(request, moving), limit).await?;
        for it in moving {
            let line = line(&mut target, limit).await;
            let line = line.ok_or_else(|| rejected.clone().unwrap_or(READING.to_owned()))?;
            it.confirmed = note(&mut rejected, &line);
        }
    }
    rejected.map_or(Ok(()), Err)
}

/// Whether a reply is none of an error; the first error is kept.
fn note(rejected: &mut Option<String>, line: &[u8]) -> bool {
    let Some(text) = line.strip_prefix(b"-") else {
        return true;
    };
    let text = String::from_utf8_lossy(text);
    rejected.get_or_insert_with(|| format!("ERR Target instance replied with error: {text}"));
    false
}

/// What goes before the keys, and how many replies it gets.
fn preparation(request: &Request<'_>) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    match (request.user, request.password) {
        (Some(user), Some(password)) => write_request(&mut out, &[b"AUTH", user, password]),
        (None, Some(password)) => write_request(&mut out, &[&b"AUTH"[..], password]),
        _ => {}
    }
    let db = request.db.to_string();
    write_request(&mut out, &[&b"SELECT"[..], db.as_bytes()]);
    (out, 1 + usize::from(request.password.is_some()))
}

fn restores(request: &Request<'_>, moving: &[Moving]) -> Vec<u8> {
    let mut out = Vec::new();
    let now = moon_shard::shard::unix_now();
    for it in moving {
        let ttl = match it.deadline {
            None => 0,
            Some(UnixMs(deadline)) => (deadline - now.0).max(1),
        };
        let ttl = ttl.to_string();
        let mut parts: Vec<&[u8]> = vec![b"RESTORE", &it.key, ttl.as_bytes(), &it.payload];
        if request.replace {
            parts.push(b"REPLACE");
        }
        write_request(&mut out, &parts);
    }
    out
}

/// Writes all; each chunk may take as long as `limit`.
async fn write(
    target: &mut BufReader<TcpStream>,
    bytes: &[u8],
    limit: Duration,
) -> Result<(), String> {
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let written = within(limit, target.get_mut().write_all(chunk)).await;
        written.ok_or(WRITING)?;
    }
    Ok(())
}

async fn within<T>(limit: Duration, what: impl Future<Output = std::io::Result<T>>) -> Option<T> {
    tokio::time::timeout(limit, what).await.ok()?.ok()
}

/// The next line without its end.
async fn line(target: &mut BufReader<TcpStream>, limit: Duration) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut bounded = tokio::io::AsyncReadExt::take(target, LINE_BYTES_MAX);
    within(limit, bounded.read_until(b'\n', &mut line)).await?;
    line.strip_suffix(b"\r\n").map(<[u8]>::to_vec)
}

/// Deletes what was confirmed and has not changed. Returns what that ends with, and whether
/// something has changed.
async fn delete(connection: &mut Connection, moving: Vec<Moving>) -> (Lsn, bool) {
    let (del, _) = lookup(b"del").expect("a command");
    let confirmed = || moving.iter().filter(|it| it.confirmed);
    let mut parts: Vec<&[u8]> = vec![b"DEL"];
    parts.extend(confirmed().map(|it| &*it.key));
    let all = OwnedArgs::new(&parts);
    connection
        .wait_for_walk(std::iter::once((del, all.as_args())))
        .await;
    let mask = shards_of(connection, confirmed().map(|it| &*it.key));
    if pause::wait(connection, true).await.is_err() {
        // The connection ends while writes are paused: the keys stay here too.
        forget(connection, moving.into_iter().map(|it| it.watch));
        return (Lsn::ZERO, true);
    }
    let mut borrowed = connection.shard.borrow(mask).await;
    borrowed.set_caller(connection.caller());
    let now = borrowed.now();
    parts.truncate(1);
    let mut changed = false;
    for it in confirmed() {
        let data = borrowed
            .data(it.watch.shard)
            .expect("its shard was borrowed");
        if is_unchanged(&it.watch, data, now) {
            parts.push(&it.key);
        } else {
            // One that has gone or expired meanwhile has nothing that could be lost.
            let found = data.db(it.watch.db).get(Key::new(&it.key));
            changed |= found.is_some_and(|(_, deadline)| deadline.is_none_or(|at| at > now));
        }
    }
    if parts.len() > 1 {
        let request = OwnedArgs::new(&parts);
        let (db, protocol) = (connection.state.db, connection.state.protocol);
        let depends_on = borrowed.execute(del, request.as_args(), db, protocol, &mut Vec::new());
        debug_assert_eq!(depends_on, THIS_TURN, "keys that are there are deleted");
    }
    let end = borrowed.commit();
    forget(connection, moving.into_iter().map(|it| it.watch));
    (end, changed)
}
