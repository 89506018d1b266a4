//! Client-side caching from the outside.

use crate::support::{info, is_other_server, keys_per_shard, script};
use crate::told::{Side, compare};
use moon_harness::{Client, Reply};
use std::collections::HashMap;

/// The default mode: keys that were read, once.
const READ_KEYS: &str = "
    w: FLUSHALL
    a: HELLO 3
    a: CLIENT TRACKINGINFO
    a: CLIENT GETREDIR
    a: CLIENT CACHING YES
    a: CLIENT TRACKING
    a: CLIENT TRACKING maybe
    a: CLIENT TRACKING on nonsense
    a: CLIENT TRACKING on PREFIX a
    a: CLIENT TRACKING on REDIRECT 123456789
    a: CLIENT TRACKING on REDIRECT x
    a: CLIENT TRACKING on REDIRECT @w REDIRECT @w
    a: CLIENT TRACKING on OPTIN OPTOUT
    a: CLIENT TRACKING on BCAST OPTIN
    a: CLIENT TRACKING off
    a: CLIENT TRACKING on
    a: CLIENT TRACKINGINFO
    a: CLIENT GETREDIR
    a: CLIENT CACHING YES
    a: CLIENT TRACKING on BCAST
    w: SET k v
    a: GET k
    w: SET k w
    w: SET k x
    a: GET k
    a: MGET k l m none
    a: EXISTS none2
    w: DEL k l none
    w: SET none v
    w: SET none2 v
    a: GET own
    a: SET own v
    a: MULTI
    a: GET own
    a: SET own w
    a: GET own
    a: EXEC
    w: SET own x
    a: SUNION s1 s2 s3 s4
    w: SADD s1 x
    w: SADD s4 x
    a: SET w1 1
    w: SET w1 2
    a: GET r1
    w: RENAME w1 r1
    a: GET r1
    a: TTL r1
    w: EXPIRE r1 1000
    a: GET r1
    w: PEXPIREAT r1 1
    a: GET same
    w: SELECT 3
    w: SET same v
    w: SELECT 0
    a: LRANGE list 0 -1
    w: LPUSH list a
    a: TYPE list
    w: LPUSH list a
    a: SORT_RO list ALPHA
    w: LPUSH list a
    w: MULTI
    w: SET m1 v
    w: SET m2 v
    w: EXEC
    a: MGET m1 m2
    w: MULTI
    w: SET m1 v
    w: SET m2 v
    w: SET m1 v
    w: EXEC
    a: MGET m1 m2
    w: FLUSHDB
    w: SET m1 v
    a: GET m1
    w: FLUSHALL
    a: CLIENT TRACKING on NOLOOP
    a: CLIENT TRACKINGINFO
    a: GET k
    a: SET k v
    w: SET k v
    a: GET k
    w: SET k v
    a: GET k
    a: CLIENT TRACKING off
    w: SET k v
    a: CLIENT TRACKING on
    a: GET k
    a: RESET
    w: SET k v
    a: CLIENT TRACKINGINFO
";

/// What is read is remembered only if it is asked for, or not if it is not.
const OPTIONS: &str = "
    w: FLUSHALL
    a: HELLO 3
    a: CLIENT TRACKING on OPTIN
    a: CLIENT CACHING NO
    a: CLIENT CACHING maybe
    a: GET k
    w: SET k v
    a: CLIENT CACHING YES
    a: CLIENT TRACKINGINFO
    a: GET k
    a: GET l
    a: CLIENT TRACKINGINFO
    w: SET k v
    w: SET l v
    a: CLIENT CACHING YES
    a: CLIENT ID
    a: GET k
    w: SET k v
    a: CLIENT CACHING YES
    a: MULTI
    a: GET k
    a: GET l
    a: EXEC
    a: GET m
    w: MSET k v l v m v
    a: CLIENT CACHING YES
    a: NOSUCHCOMMAND
    a: GET k
    w: SET k v
    a: CLIENT TRACKING on OPTOUT
    a: CLIENT TRACKING off
    a: CLIENT TRACKING on OPTOUT
    a: CLIENT CACHING YES
    a: GET k
    w: SET k v
    a: CLIENT CACHING NO
    a: CLIENT TRACKINGINFO
    a: GET k
    a: GET l
    w: SET k v
    w: SET l v
    a: CLIENT TRACKING on OPTIN
    a: CLIENT TRACKING on NOLOOP
    a: CLIENT TRACKINGINFO
";

/// All changes of keys with a prefix.
const BROADCASTS: &str = "
    w: FLUSHALL
    a: HELLO 3
    b: HELLO 3
    a: CLIENT TRACKING on BCAST PREFIX user: PREFIX user:1
    a: CLIENT TRACKING on BCAST PREFIX user: PREFIX item:
    a: CLIENT TRACKINGINFO
    b: CLIENT TRACKING on BCAST
    b: CLIENT TRACKINGINFO
    w: SET user:1 v
    w: SET other v
    w: MSET user:1 v user:2 v item:1 v zebra v
    w: SET user:1 v
    a: CLIENT TRACKING on BCAST PREFIX user:1
    a: CLIENT TRACKING on BCAST PREFIX color: NOLOOP
    a: CLIENT TRACKINGINFO
    a: SET color:red v
    a: GET user:1
    w: SET color:red v
    w: SET nothing:changes v NX GET
    w: GET nothing
    w: DEL nothing
    w: DEL user:1 user:2 item:1
    b: CLIENT TRACKING on
    b: CLIENT TRACKING off
    w: SET color:red v
    w: SET quiet v
    w: FLUSHALL
    a: CLIENT TRACKING off
    w: SET color:red v
    a: CLIENT TRACKINGINFO
";

/// News that another connection gets.
const REDIRECTED: &str = "
    w: FLUSHALL
    a: GET before
    a: CLIENT TRACKING on REDIRECT @b
    a: CLIENT GETREDIR
    a: CLIENT TRACKINGINFO
    a: GET k
    w: SET k v
    b: SUBSCRIBE __redis__:invalidate
    a: GET k
    w: SET k v
    a: MGET k l
    w: DEL k
    w: SET l v
    w: FLUSHALL
    a: GET k
    a: SET k v
    c: HELLO 3
    a: CLIENT TRACKING on REDIRECT @c
    a: GET k
    w: SET k v
    d: HELLO 3
    d: CLIENT TRACKING on REDIRECT @b
    d: GET k
    w: SET k v
    d: GET k
    a: GET k
    b: CLOSE
    w: SET k v
    d: CLIENT TRACKINGINFO
    d: CLIENT TRACKING on
    d: CLIENT TRACKINGINFO
    d: GET k
    w: SET k v
";

#[test]
fn changes_of_keys_that_were_read_are_told_as_redis_does() {
    compare(READ_KEYS);
}

#[test]
fn optin_and_optout_work_as_in_redis() {
    compare(OPTIONS);
}

#[test]
fn prefixes_are_broadcast_as_in_redis() {
    compare(BROADCASTS);
}

#[test]
fn news_are_redirected_as_in_redis() {
    compare(REDIRECTED);
}

fn tracking_client(side: &Side, options: &str) -> Client {
    let mut client = side.server.client().unwrap();
    client.run("HELLO 3").unwrap();
    let command = format!("CLIENT TRACKING on {options}");
    assert!(client.run(&command).unwrap().is_ok());
    client
}

/// The keys of the next news.
fn news(client: &mut Client) -> Option<Vec<String>> {
    let push = client.read_reply().unwrap();
    match push.items() {
        Some([word, Reply::Null]) if word.text().as_deref() == Some("invalidate") => None,
        Some([word, keys]) if word.text().as_deref() == Some("invalidate") => keys
            .items()
            .map(|keys| keys.iter().filter_map(Reply::text).collect()),
        _ => panic!("no news: {push:?}"),
    }
}

#[test]
fn keys_that_expire_unasked_are_stale() {
    if is_other_server() {
        return;
    }
    for shards in [1, 4] {
        let side = Side::tested(shards);
        let mut writer = side.server.client().unwrap();
        let mut reader = tracking_client(&side, "");
        for key in keys_per_shard(shards, 3).concat() {
            writer.run(&format!("SET {key} v PX 20")).unwrap();
            reader.queue(&["GET", &key]);
            reader.flush().unwrap();
            // The key may be gone before it is read; then its end is no change of what was read.
            let reply = reader.read_reply().unwrap();
            if reply.text().as_deref() == Some("v") {
                assert_eq!(news(&mut reader), Some(vec![key]));
            } else {
                writer.run(&format!("SET {key} v")).unwrap();
                assert_eq!(news(&mut reader), Some(vec![key]));
            }
        }
    }
}

#[test]
fn a_full_table_tells_clients_to_forget_keys() {
    if is_other_server() {
        return;
    }
    let side = Side::tested(1);
    let mut writer = side.server.client().unwrap();
    script(&mut writer, "CONFIG SET tracking-table-max-keys 10");
    let mut reader = tracking_client(&side, "");
    let mut forgotten = 0;
    for number in 0..100 {
        reader.queue(&["GET", &format!("key:{number}")]);
        reader.queue(&["ECHO", "end"]);
        reader.flush().unwrap();
        loop {
            let reply = reader.read_reply().unwrap();
            if let Reply::Push(_) = reply {
                forgotten += 1;
            } else if reply.text().as_deref() == Some("end") {
                break;
            }
        }
    }
    while forgotten < 90 {
        assert!(news(&mut reader).is_some());
        forgotten += 1;
    }
    assert_eq!(info(&mut writer, "tracking_total_keys"), "10");
    assert_eq!(info(&mut writer, "tracking_total_items"), "10");
    assert_eq!(info(&mut writer, "tracking_clients"), "1");
    drop(reader);
    let mut broadcast = tracking_client(&side, "BCAST PREFIX a PREFIX b");
    assert_eq!(info(&mut writer, "tracking_total_prefixes"), "2");
    let line = broadcast.run("CLIENT INFO").unwrap().text().unwrap();
    assert!(
        line.contains("flags=tB ") && line.contains(" redir=0 "),
        "{line}"
    );
}

/// A cache that believes what it is told is never wrong: when nothing more is on its way, what it
/// holds is what the server holds.
#[test]
fn a_cache_that_follows_the_news_holds_no_stale_value() {
    if is_other_server() {
        return;
    }
    const READS: usize = 4000;
    for shards in [1, 4] {
        let side = Side::tested(shards);
        let keys: Vec<String> = keys_per_shard(shards, 4).concat();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let mut client = side.server.client().unwrap();
                    let keys = &keys;
                    scope.spawn(move || {
                        for round in 0..600 {
                            let key = &keys[(round * 7 + writer * 3) % keys.len()];
                            let other = &keys[(round * 5 + writer) % keys.len()];
                            let value = format!("{writer}-{round}");
                            let command = match round % 3 {
                                0 => format!("MSET {key} {value} {other} {value}"),
                                1 => format!("SET {key} {value}"),
                                _ => format!("APPEND {key} x"),
                            };
                            client.run(&command).unwrap();
                        }
                    })
                })
                .collect();
            let mut reader = tracking_client(&side, "");
            let mut cache: HashMap<String, Reply> = HashMap::new();
            let forget = |cache: &mut HashMap<String, Reply>, push: &Reply| {
                if let Some([_, keys]) = push.items() {
                    for key in keys.items().into_iter().flatten().filter_map(Reply::text) {
                        cache.remove(&key);
                    }
                }
            };
            for number in 0..READS {
                let key = &keys[number % keys.len()];
                reader.queue(&["GET", key]);
                reader.flush().unwrap();
                loop {
                    let reply = reader.read_reply().unwrap();
                    if let Reply::Push(_) = reply {
                        forget(&mut cache, &reply);
                    } else {
                        cache.insert(key.clone(), reply);
                        break;
                    }
                }
            }
            for writer in writers {
                writer.join().unwrap();
            }
            // News of one shard come in order: behind those of these keys, nothing is on its way.
            let mut last = side.server.client().unwrap();
            for key in keys_per_shard(shards, 5)
                .iter()
                .flat_map(|of_shard| of_shard.last())
            {
                reader.queue(&["GET", key]);
                reader.flush().unwrap();
                while let push @ Reply::Push(_) = reader.read_reply().unwrap() {
                    forget(&mut cache, &push);
                }
                last.run(&format!("SET {key} last")).unwrap();
                loop {
                    let push = reader.read_reply().unwrap();
                    forget(&mut cache, &push);
                    if format!("{push:?}").contains(&format!("\"{key}\"")) {
                        break;
                    }
                }
            }
            let truth: HashMap<String, Reply> = keys
                .iter()
                .map(|key| (key.clone(), last.run(&format!("GET {key}")).unwrap()))
                .collect();
            for (key, value) in &cache {
                assert_eq!(value, &truth[key], "{key} ({shards} shards)");
            }
        });
    }
}
