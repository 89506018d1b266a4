//! Graceful stops keep everything and end soon; signals lose nothing.

use crate::support::{SHARDS, for_each_setup, run, start, state};
use moon_harness::load::{Load, Writer};
use moon_harness::model::DbKey;
use moon_harness::workload::{Generator, Workload};
use moon_harness::{Client, FsyncPolicy, Reply, Server};
use nix::sys::signal::Signal;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Ends `server` with `stop` under load and verifies what it kept.
pub(crate) fn stop_under_load(server: &mut Server, stop: impl FnOnce(&mut Server) -> ExitStatus) {
    let writers = (0..3)
        .map(|c| Writer::new(Generator::new(Workload::Strings, c, 5)))
        .collect();
    let load = Load::start(server.address(), Workload::Strings, writers, 0, 1);
    assert!(load.wait_acked(500, Duration::from_secs(10)), "no load");
    let status = stop(server);
    assert_eq!(status.code(), Some(0), "{status}\n{}", server.log_tail());
    let (writers, _) = load.finish();
    server.restart().unwrap();
    let found = state(server);
    for writer in &writers {
        assert!(writer.violations.is_empty(), "{:?}", writer.violations);
        // Keys that the unanswered tail does not touch are exactly as acknowledged.
        let touched: Vec<&DbKey> = writer
            .tail
            .iter()
            .flat_map(|op| match op.touched() {
                moon_harness::op::Touched::Keys(keys) => keys,
                moon_harness::op::Touched::Databases(_) => Vec::new(),
            })
            .collect();
        for (key, entry) in writer
            .state
            .iter()
            .filter(|(key, _)| !touched.contains(key))
        {
            assert_eq!(found.get(key), Some(entry), "{key}");
        }
    }
}

/// Scenario 23.
#[test]
fn every_graceful_stop_under_load_keeps_what_was_acknowledged() {
    for_each_setup(|mut server| {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            stop_under_load(&mut server, |server| {
                server.signal(signal).unwrap();
                server.wait_exit(Duration::from_secs(20)).unwrap()
            });
            assert!(run(&server, "FLUSHALL").is_ok());
        }
        for command in ["SHUTDOWN", "SHUTDOWN NOSAVE"] {
            stop_under_load(&mut server, |server| {
                let mut client = server.client().unwrap();
                // The connection closes instead of an answer.
                let reply = client.run(command);
                assert!(reply.is_err(), "{command}: {reply:?}");
                server.wait_exit(Duration::from_secs(20)).unwrap()
            });
            assert!(run(&server, "FLUSHALL").is_ok());
        }
    });
}

/// Scenario 19.
#[test]
fn a_stop_right_after_the_first_write_keeps_it() {
    for shards in SHARDS {
        let mut server = start(shards, FsyncPolicy::Everysec);
        for round in 0..3 {
            assert!(run(&server, &format!("SET first{round} x")).is_ok());
            assert_eq!(server.sigterm().unwrap().code(), Some(0));
            server.restart().unwrap();
            assert_eq!(run(&server, "DBSIZE"), Reply::Int(round + 1));
        }
    }
}

/// Scenario 24.
#[test]
fn an_idle_server_stops_at_once() {
    for shards in [1, 8] {
        let mut server = start(shards, FsyncPolicy::Everysec);
        assert!(run(&server, "SET k v").is_ok());
        // Long enough for every periodic task to have run and gone to sleep.
        std::thread::sleep(Duration::from_millis(2500));
        let begun = Instant::now();
        assert_eq!(server.sigterm().unwrap().code(), Some(0));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "the stop took {took:?}");
        server.restart().unwrap();
        assert_eq!(run(&server, "GET k"), Reply::bulk("v"));
    }
}

/// Connections that are idle or in a transaction do not hold up a stop.
#[test]
fn open_connections_do_not_hold_up_a_stop() {
    for_each_setup(|mut server| {
        let mut clients: Vec<Client> = (0..20).map(|_| server.client().unwrap()).collect();
        for client in &mut clients {
            client.run("MULTI").unwrap();
            client.run("SET k v").unwrap();
        }
        let begun = Instant::now();
        assert_eq!(server.sigterm().unwrap().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5));
        server.restart().unwrap();
        assert_eq!(run(&server, "EXISTS k"), Reply::Int(0));
    });
}

/// Scenario 213, with a short pause.
#[test]
fn a_stopped_and_continued_server_loses_nothing() {
    for_each_setup(|mut server| {
        let mut client = server.client().unwrap();
        for round in 0..3 {
            for n in 0..100 {
                client.queue(&["SET".to_owned(), format!("k{round}:{n}"), "v".to_owned()]);
            }
            server.signal(Signal::SIGSTOP).unwrap();
            client.flush().unwrap();
            std::thread::sleep(Duration::from_millis(1200));
            server.signal(Signal::SIGCONT).unwrap();
            for _ in 0..100 {
                assert!(client.read_reply().unwrap().is_ok());
            }
        }
        server.signal(Signal::SIGPIPE).unwrap();
        assert_eq!(run(&server, "DBSIZE"), Reply::Int(300));
        server.kill9().unwrap();
        server.restart().unwrap();
        assert_eq!(run(&server, "DBSIZE"), Reply::Int(300));
    });
}

/// Scenario 25: a server that is half alive would go on acknowledging.
#[test]
fn a_panic_of_one_shard_ends_the_whole_process_and_loses_nothing() {
    if crate::support::is_other_server() {
        return;
    }
    let mut server = Server::start_temp(crate::support::flavor(), crate::support::binary(), |c| {
        c.shards(4)
            .append(FsyncPolicy::Everysec)
            .arg("--enable-debug-command")
            .arg("yes")
    })
    .unwrap();
    for n in 0..200 {
        assert!(run(&server, &format!("SET key:{n} {n}")).is_ok());
    }
    let mut client = server.client().unwrap();
    assert!(client.run("DEBUG PANIC").is_err(), "no answer is possible");
    let status = server.wait_exit(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), None, "ended by a signal: {status}");
    server.restart().unwrap();
    for n in 0..200 {
        assert_eq!(
            run(&server, &format!("GET key:{n}")),
            Reply::bulk(n.to_string())
        );
    }
}
