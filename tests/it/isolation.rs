//! Many clients at once, and whether one serial order explains what they saw. `cargo xtask isolation`
//! does the same for as long as one likes.

use crate::support::{binary, flavor};
use moon_harness::FsyncPolicy;
use moon_isolation::cell::{Cell, CellReport, Until, fresh, run};
use std::time::Duration;

fn check(cell: Cell, time: Duration) -> CellReport {
    let (_dir, config) = fresh(flavor(), binary()).unwrap();
    let report = run(cell, config, Until::Over(time), 11).unwrap();
    let findings: Vec<String> = report.findings().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{cell}:\n{}", findings.join("\n"));
    for tally in &report.tallies {
        let decided = tally.rounds - tally.not_decided;
        assert!(decided > 0, "{cell}: nothing was decided: {tally:?}");
    }
    report
}

/// Scenarios 121 and 125.
#[test]
fn one_serial_order_explains_what_many_clients_saw() {
    for shards in [1, 4] {
        let cell = Cell {
            shards,
            policy: FsyncPolicy::Everysec,
            kills: false,
        };
        let report = check(cell, Duration::from_millis(1500));
        assert!(report.sum(|tally| tally.transactions) > 0);
    }
}

/// Scenario 215.
#[test]
fn the_order_goes_on_over_a_kill() {
    let cell = Cell {
        shards: 2,
        policy: FsyncPolicy::Everysec,
        kills: true,
    };
    let report = check(cell, Duration::from_secs(3));
    assert!(report.kills > 0, "nothing was killed");
}
