//! Consumer groups whose streams lie on several shards.

use crate::support::{is_other_server, keys_per_shard, start};
use moon_harness::server::Server;
use moon_harness::{Client, FsyncPolicy, Reply};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SHARDS: u16 = 4;
const ENTRIES: usize = 3000;

/// How many entries of each stream are pending.
fn pending(server: &Server, streams: &[String]) -> Vec<i64> {
    let mut client = server.client().unwrap();
    let count = |stream: &String| {
        let reply = client.run(&format!("XPENDING {stream} g")).unwrap();
        reply.items().unwrap()[0].int().unwrap()
    };
    streams.iter().map(count).collect()
}

/// Takes one entry of every stream at a time until the server is gone.
fn take(client: &mut Client, request: &str, answered: &AtomicUsize) {
    while let Ok(reply) = client.run(request) {
        let streams = reply.items().unwrap_or_default();
        assert_eq!(streams.len(), usize::from(SHARDS), "{reply:?}");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Scenario 9: one XREADGROUP takes an entry from a stream of every shard. After a kill all of what
/// it took is pending for its consumer, or nothing; and what was answered is.
#[test]
fn a_read_over_shards_claims_from_all_its_streams_or_from_none() {
    if is_other_server() {
        return;
    }
    for policy in [FsyncPolicy::Always, FsyncPolicy::Everysec] {
        let mut server = start(SHARDS, policy);
        let streams = keys_per_shard(SHARDS, 1).concat();
        let mut client = server.client().unwrap();
        for stream in &streams {
            let add: Vec<String> = (1..=ENTRIES)
                .map(|n| format!("XADD {stream} {n}-0 f v"))
                .collect();
            client.pipeline(&add).unwrap();
            let group = client.run(&format!("XGROUP CREATE {stream} g 0")).unwrap();
            assert!(group.is_ok(), "{group:?}");
        }
        let request = format!(
            "XREADGROUP GROUP g c COUNT 1 BLOCK 100 STREAMS {}{}",
            streams.join(" "),
            " >".repeat(streams.len())
        );
        let mut expected = 0;
        for round in 0..6 {
            let mut reader = server.client().unwrap();
            let answered = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| take(&mut reader, &request, &answered));
                while answered.load(Ordering::Relaxed) < 20 {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_micros(round * 777));
                server.kill9().unwrap();
            });
            server.restart().unwrap();
            expected += i64::try_from(answered.into_inner()).unwrap();
            let found = pending(&server, &streams);
            let is_whole = found.iter().all(|count| *count == found[0]);
            let is_right = [expected, expected + 1].contains(&found[0]);
            assert!(
                is_whole && is_right,
                "answered {expected}, claimed {found:?}"
            );
            expected = found[0];
            assert!(
                usize::try_from(expected).unwrap() < ENTRIES,
                "too few entries"
            );
        }
        // Nothing of it is given to anybody else.
        let last = format!("XREADGROUP GROUP g other COUNT 1 STREAMS {} >", streams[0]);
        let reply = server.client().unwrap().run(&last).unwrap();
        let id = format!("{}-0", expected + 1);
        assert!(format!("{reply:?}").contains(&id), "{reply:?}");
        let acked: Vec<String> = (1..=expected)
            .map(|n| format!("XACK {} g {n}-0", streams[0]))
            .collect();
        let replies = server.client().unwrap().pipeline(&acked).unwrap();
        assert!(replies.iter().all(|reply| *reply == Reply::Int(1)));
    }
}
