//! Prints the longest steps of a growing database and of a growing set, in CPU time of the thread,
//! so that neither other processes nor the network are in the figure.
//! `cargo run --release --example longest_step -p moon-store [keys [members]]`

use moon_store::{Db, Key, PackLimits, Set, SetLimits, Value};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Commands that one step stands for: a pipeline of 32 SETs, one SADD of 1000 members.
const KEYS_AT_ONCE: usize = 32;
const MEMBERS_AT_ONCE: usize = 1000;
/// How many of the longest steps are printed.
const SHOWN: usize = 5;

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of every Linux");
    Duration::from(now)
}

fn report(what: &str, steps: usize, mut step: impl FnMut(usize)) {
    let mut took: Vec<(Duration, usize)> = (0..steps)
        .map(|number| {
            let begun = thread_time();
            step(number);
            (thread_time() - begun, number)
        })
        .collect();
    took.sort_unstable_by(|a, b| b.cmp(a));
    let shown: Vec<String> = took
        .iter()
        .take(SHOWN)
        .map(|(time, number)| format!("{:.3} ms (step {number})", time.as_secs_f64() * 1e3))
        .collect();
    let median = took[took.len() / 2].0.as_secs_f64() * 1e3;
    println!(
        "{what}: {steps} steps, median {median:.3} ms, longest {}",
        shown.join(", ")
    );
}

fn main() {
    let mut sizes = std::env::args().skip(1).flat_map(|n| n.parse::<usize>());
    let keys = sizes.next().unwrap_or(20_000_000);
    let members = sizes.next().unwrap_or(10_000_000);

    let mut db = Db::default();
    report("SET x 32", keys / KEYS_AT_ONCE, |step| {
        for i in step * KEYS_AT_ONCE..(step + 1) * KEYS_AT_ONCE {
            let name = format!("grow:{i:010}");
            db.insert(Key::new(name.as_bytes()), Value::string(b"12345678"), None);
        }
    });

    let limits = SetLimits {
        intset_entries: 512,
        pack: PackLimits {
            entries: 128,
            value_bytes: 64,
        },
    };
    let mut set = Set::for_first(b"member", MEMBERS_AT_ONCE, limits);
    report("SADD of 1000", members / MEMBERS_AT_ONCE, |step| {
        for i in step * MEMBERS_AT_ONCE..(step + 1) * MEMBERS_AT_ONCE {
            set.add(format!("member:{i:09}").as_bytes(), limits);
        }
    });
}
