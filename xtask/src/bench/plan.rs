//! The cases that are measured, and the goal of each.

use std::fmt;
use std::str::FromStr;

/// Size of the values.
pub(crate) const VALUE_BYTES: u32 = 64;

/// Cases that are selected together with `--only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// GET, the log off.
    Get,
    /// SET, the log off.
    Set,
    /// SET with `everysec` against the log off.
    Everysec,
    /// SET with `always`.
    Always,
    /// Two shards against one.
    Shards,
    /// CPU and memory of a server that does nothing.
    Idle,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "get" => Group::Get,
            "set" => Group::Set,
            "everysec" => Group::Everysec,
            "always" => Group::Always,
            "shards" => Group::Shards,
            "idle" => Group::Idle,
            other => {
                let names = "get, set, everysec, always, shards, idle";
                return Err(format!("{other}: expected {names}"));
            }
        })
    }
}

/// What the second server of a comparison is expected to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// CPU per request of the first divided by that of the second, at least.
    CpuTimesLess(f64),
    /// CPU per request of the second divided by that of the first, at most.
    CpuAtMost(f64),
    /// Throughput of the second divided by that of the first, at least.
    ThroughputAtLeast(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::CpuTimesLess(n) => write!(f, "CPU {n} times less"),
            Goal::CpuAtMost(n) => write!(f, "CPU at most {n} times"),
            Goal::ThroughputAtLeast(n) => write!(f, "throughput {n} times"),
        }
    }
}

/// One run of `redis-benchmark`.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// For the table.
    pub(crate) name: String,
    /// As `redis-benchmark -t` takes it.
    pub(crate) command: &'static str,
    /// Requests that one connection sends at once.
    pub(crate) pipeline: u32,
    /// Connections.
    pub(crate) clients: u32,
    /// Requests of one round.
    pub(crate) requests: u64,
    /// What is to be reached.
    pub(crate) goal: Goal,
}

impl Case {
    fn new(name: &str, command: &'static str, pipeline: u32, clients: u32, goal: Goal) -> Self {
        Case {
            name: format!("{name}, pipeline {pipeline}, {clients} clients"),
            command,
            pipeline,
            clients,
            requests: match pipeline {
                1 => 100_000,
                2..32 => 800_000,
                _ => 2_000_000,
            },
            goal,
        }
    }

    fn requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }

    fn scaled(mut self, quick: bool) -> Self {
        if quick {
            self.requests = (self.requests / 40).max(200);
        }
        self
    }
}

/// The cases of a group in which both servers do the same.
pub(crate) fn side_by_side(group: Group, quick: bool) -> Vec<Case> {
    let plain = |name, command| {
        [
            Case::new(name, command, 1, 50, Goal::CpuTimesLess(1.0)),
            Case::new(name, command, 16, 50, Goal::CpuTimesLess(1.8)),
            Case::new(name, command, 64, 50, Goal::CpuTimesLess(3.0)),
        ]
    };
    let cases = match group {
        Group::Get => plain("GET", "get").to_vec(),
        Group::Set => plain("SET", "set").to_vec(),
        Group::Always => vec![
            Case::new("SET always", "set", 1, 1, Goal::ThroughputAtLeast(1.1)).requests(3_000),
            Case::new("SET always", "set", 1, 50, Goal::ThroughputAtLeast(1.0)).requests(40_000),
            Case::new("SET always", "set", 16, 50, Goal::ThroughputAtLeast(1.3)).requests(300_000),
        ],
        Group::Everysec | Group::Shards | Group::Idle => Vec::new(),
    };
    cases.into_iter().map(|c| c.scaled(quick)).collect()
}

/// What `everysec` costs.
pub(crate) fn everysec(quick: bool) -> Case {
    Case::new(
        "SET everysec against log off",
        "set",
        16,
        50,
        Goal::CpuAtMost(1.25),
    )
    .scaled(quick)
}

/// What a second shard costs.
pub(crate) fn shards(quick: bool) -> Vec<Case> {
    [
        Case::new(
            "GET, 2 shards against 1",
            "get",
            16,
            50,
            Goal::CpuAtMost(1.5),
        ),
        Case::new(
            "SET, 2 shards against 1",
            "set",
            16,
            50,
            Goal::CpuAtMost(1.5),
        ),
    ]
    .into_iter()
    .map(|c| c.scaled(quick))
    .collect()
}
