//! The parallel replay gives the data that the shards had, or names the frame that does not fit.

use crate::disk::Frame;
use crate::world::{DATABASES, World};
use bytes::Bytes;
use moon_commands::Limits;
use moon_core::{Lsn, ShardCount, ShardId};
use moon_repl::FrameKind;
use moon_resp::write_request;
use moon_shard::ReplayPool;
use moon_shard::replay::ReplayFailed;
use moon_store::ShardData;
use proptest::prelude::*;
use std::sync::Arc;

fn pool(count: ShardCount) -> ReplayPool {
    let data = count
        .ids()
        .map(|id| Box::new(ShardData::new(id, DATABASES, false)))
        .collect();
    ReplayPool::start(count, data, &Arc::new(Limits::default())).unwrap()
}

fn replay(count: ShardCount, history: &[Frame]) -> Result<Vec<Box<ShardData>>, ReplayFailed> {
    let mut pool = pool(count);
    for frame in history {
        match frame.kind {
            FrameKind::Own => {
                pool.own(frame.shard, frame.lsn, 0, frame.payload.clone());
            }
            FrameKind::Cross => {
                pool.cross(frame.lsn, 0, &frame.payload)?;
            }
            FrameKind::Control => {}
        }
    }
    pool.finish()
}

/// Every key with its value and deadline, in order.
fn dump(data: &ShardData) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, db) in data.dbs.iter().enumerate() {
        db.for_each(&mut |key, value, deadline| {
            let key = String::from_utf8_lossy(key);
            lines.push(format!("{index} {key} {value:?} {deadline:?}"));
        });
    }
    lines.sort_unstable();
    lines
}

const SHARDS: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    Pipeline(Vec<String>),
    Transaction(Vec<String>),
}

fn command() -> impl Strategy<Value = String> {
    // Keys with one tag per shard; which number belongs to which is settled below.
    let key = (0u16..SHARDS, 0u8..3).prop_map(|(shard, name)| format!("@{shard}@k{name}"));
    let two = (key.clone(), key.clone());
    prop_oneof![
        4 => (key.clone(), 0u16..1000).prop_map(|(k, v)| format!("SET {k} {v}")),
        4 => key.clone().prop_map(|k| format!("INCR {k}")),
        3 => key.clone().prop_map(|k| format!("APPEND {k} x")),
        2 => key.clone().prop_map(|k| format!("DEL {k}")),
        2 => key.clone().prop_map(|k| format!("PEXPIREAT {k} 99999999999999")),
        2 => key.clone().prop_map(|k| format!("LPUSH {k}l a b c")),
        2 => key.clone().prop_map(|k| format!("RPOP {k}l")),
        2 => key.prop_map(|k| format!("PERSIST {k}")),
        3 => two.clone().prop_map(|(a, b)| format!("MSET {a} 1 {b} 2")),
        3 => two.clone().prop_map(|(a, b)| format!("RENAME {a} {b}")),
        2 => two.clone().prop_map(|(a, b)| format!("RENAMENX {a}l {b}l")),
        2 => two.prop_map(|(a, b)| format!("DEL {a} {b}l")),
        1 => Just("FLUSHALL".to_owned()),
        1 => Just("SWAPDB 0 1".to_owned()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(command(), 1..8).prop_map(Step::Pipeline),
        1 => prop::collection::vec(command(), 1..5).prop_map(Step::Transaction),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Scenarios 126 and 127: whatever three clients did at the same time, the history repeats it.
    #[test]
    fn the_history_repeats_the_live_data(
        steps in prop::collection::vec((0u16..SHARDS, step()), 1..40),
        cut in 0usize..40,
    ) {
        let world = World::new(SHARDS);
        let tags: Vec<String> = (0..SHARDS).map(|shard| world.key(shard, "")).collect();
        let settled = |command: &String| {
            let tags = tags.iter().enumerate();
            tags.fold(command.clone(), |c, (i, tag)| c.replace(&format!("@{i}@"), tag))
        };
        let clients: Vec<_> = (0..SHARDS).map(|home| world.client(home)).collect();
        for (client, step) in &steps {
            let client = &clients[usize::from(*client)];
            match step {
                Step::Pipeline(commands) => {
                    client.pipeline(&commands.iter().map(settled).collect::<Vec<_>>());
                }
                Step::Transaction(commands) => {
                    client.transaction(&commands.iter().map(settled).collect::<Vec<_>>());
                }
            }
        }
        for client in &clients {
            client.send("ECHO end");
            client.wait_for("end\r\n");
        }
        world.settle();
        let live: Vec<Vec<String>> = (0..SHARDS)
            .map(|shard| world.visit(shard, |data| dump(data)))
            .collect();
        let history = world.history();
        for pair in history.windows(2) {
            prop_assert_eq!(pair[0].end(), pair[1].lsn, "the numbering is dense");
        }
        let again = replay(world.count, &history).unwrap();
        let again: Vec<Vec<String>> = again.iter().map(|data| dump(data)).collect();
        prop_assert_eq!(&again, &live);
        // What a crash leaves is a prefix; it must be a state, too.
        let cut = cut.min(history.len());
        prop_assert!(replay(world.count, &history[..cut]).is_ok());
    }
}

fn request(parts: &[&str]) -> Bytes {
    let mut out = Vec::new();
    write_request(&mut out, parts);
    out.into()
}

fn two_shards() -> (ShardCount, String, String) {
    let count = ShardCount::new(2).unwrap();
    let key_of = |shard| {
        (0..)
            .map(|i: u32| i.to_string())
            .find(|key| count.shard_of_key(key.as_bytes()) == ShardId(shard))
            .unwrap()
    };
    (count, key_of(0), key_of(1))
}

/// More frames than wait in a queue, so that a thread that is gone would be waited for.
const MANY: u64 = 2000;

#[test]
fn the_earliest_frame_that_fails_is_the_one_reported() {
    let (count, a, b) = two_shards();
    let mut pool = pool(count);
    let bad = request(&["NOSUCH", "x"]);
    assert!(pool.own(ShardId(0), Lsn(10), 0, request(&["SET", &a, "1"])));
    pool.own(ShardId(1), Lsn(100), 0, bad.clone());
    pool.own(ShardId(0), Lsn(500), 0, bad);
    for i in 0..MANY {
        pool.own(ShardId(0), Lsn(1000 + i), 0, request(&["INCR", &a]));
        pool.own(ShardId(1), Lsn(1000 + i), 0, request(&["INCR", &b]));
    }
    let Err(failed) = pool.finish() else {
        panic!("a frame that cannot be replayed is an error");
    };
    assert_eq!(failed.lsn, Lsn(100));
}

#[test]
fn a_failed_shard_stops_frames_over_several_shards_without_a_hang() {
    let (count, a, b) = two_shards();
    let mut pool = pool(count);
    pool.own(ShardId(1), Lsn(7), 0, request(&["NOSUCH", "x"]));
    let cross = request(&["MSET", &a, "1", &b, "1"]);
    assert!(!pool.cross(Lsn(50), 0, &cross).unwrap(), "shard 1 is gone");
    assert!(!pool.cross(Lsn(90), 0, &cross).unwrap());
    assert_eq!(pool.finish().err().map(|failed| failed.lsn), Some(Lsn(7)));
}

#[test]
fn a_failing_frame_over_several_shards_is_reported_and_nothing_hangs() {
    let (count, a, b) = two_shards();
    let mut pool = pool(count);
    let failed = pool.cross(Lsn(3), 0, &request(&["MSET", &a, "1", &b]));
    assert_eq!(failed.unwrap_err().lsn, Lsn(3));
    for i in 0..MANY {
        pool.own(ShardId(0), Lsn(100 + i), 0, request(&["INCR", &a]));
    }
    let data = pool.finish().unwrap();
    assert_eq!(data.len(), 2);
}

/// Scenario 126: an own frame is its shard's alone.
#[test]
fn a_frame_of_one_shard_that_touches_another_is_refused() {
    let (count, a, b) = two_shards();
    let mut pool = pool(count);
    let mut payload = request(&["SET", &a, "1"]).to_vec();
    payload.extend_from_slice(&request(&["SET", &b, "1"]));
    pool.own(ShardId(0), Lsn(1), 0, payload.into());
    assert_eq!(pool.finish().err().map(|failed| failed.lsn), Some(Lsn(1)));
}
