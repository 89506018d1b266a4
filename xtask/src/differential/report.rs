//! What a comparison prints: each difference with the sequence that shows it, and a summary.

use super::{Found, Options, SEQUENCE};
use moon_oracle::Outcome;
use moon_oracle::round::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Steps of a sequence that are printed; one that cannot be repeated may be long.
const STEPS_SHOWN_MAX: usize = 60;

/// The report of one run.
pub(super) struct Report {
    started: Instant,
    /// The options that choose what is generated, as they are typed.
    options: String,
    /// Commands that a server does not have.
    missing: Vec<String>,
    sequences: u64,
    requests: u64,
    excused: BTreeMap<&'static str, u64>,
    /// How many sequences differed in each way.
    differences: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(options: &Options, missing: &BTreeSet<Vec<u8>>) -> Report {
        let mut typed = String::new();
        for family in &options.family {
            typed.push_str(&format!(" --family {family}"));
        }
        let shards: Vec<_> = options.shards.iter().map(u16::to_string).collect();
        typed.push_str(&format!(" --shards {}", shards.join(",")));
        if let Some(resp) = options.resp {
            typed.push_str(&format!(" --resp {resp}"));
        }
        let missing = missing
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        Report {
            started: Instant::now(),
            options: typed,
            missing,
            sequences: 0,
            requests: 0,
            excused: BTreeMap::new(),
            differences: BTreeMap::new(),
        }
    }

    pub(super) fn sequence(&mut self, outcome: &Outcome) {
        self.sequences += 1;
        self.requests += outcome.requests;
        for (name, count) in &outcome.excused {
            *self.excused.entry(name).or_default() += count;
        }
    }

    /// Whether no sequence has differed in this way yet.
    pub(super) fn is_new(&self, class: &str) -> bool {
        !self.differences.contains_key(class)
    }

    pub(super) fn count(&mut self, class: &str) {
        *self.differences.entry(class.to_owned()).or_default() += 1;
    }

    pub(super) fn differences(&self) -> usize {
        self.differences.len()
    }

    pub(super) fn difference(&self, seed: u64, plan: Plan, found: &Found) {
        println!(
            "\n==> {} (RESP{}, {:?} thresholds)",
            found.difference.class, plan.protocol, plan.thresholds
        );
        if !found.is_repeated {
            println!("The sequence did not show it again; its end:");
        }
        let from = found.steps.len().saturating_sub(STEPS_SHOWN_MAX);
        for step in &found.steps[from..] {
            println!("  {step}");
        }
        println!("{}", found.difference.detail);
        println!(
            "repeat: cargo xtask differential --seed {seed} --ops {SEQUENCE}{}",
            self.options
        );
    }

    /// Prints the summary; true if nothing differed.
    pub(super) fn finish(self) -> bool {
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "\ndifferential: {} sequences, {} requests to each server in {seconds:.0} s ({:.0}/s), \
             {} differences",
            self.sequences,
            self.requests,
            self.requests as f64 / seconds.max(0.001),
            self.differences.len()
        );
        for (class, count) in &self.differences {
            println!("  {count} sequences: {class}");
        }
        for (name, count) in &self.excused {
            println!("  allowed {count} times: {name}");
        }
        if !self.missing.is_empty() {
            println!("  not there yet: {}", self.missing.join(" "));
        }
        self.differences.is_empty()
    }
}
