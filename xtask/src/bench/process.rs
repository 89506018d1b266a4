//! What the kernel says about a process: CPU time, memory, children; and where a thread may run.

use anyhow::{Context as _, Result, bail};
use nix::unistd::{SysconfVar, gettid, sysconf};
use std::process::{Command, Stdio};

/// CPU time of all threads of a process that are alive, nanoseconds.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        sum += first
            .parse::<u64>()
            .with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(sum)
}

/// A look at `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stat {
    /// `Z` if the process has ended and nobody asked for its status yet.
    pub(crate) state: char,
    pub(crate) parent: u32,
    /// User and system time of all threads, ended ones included; in ticks of the kernel.
    cpu_ticks: u64,
}

impl Stat {
    pub(crate) fn read(pid: u32) -> Result<Stat> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).with_context(|| format!("unexpected /proc/{pid}/stat: {text}"))
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name before may contain anything, parentheses and spaces included.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu_ticks: ticks(11)? + ticks(12)?,
        })
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no CLK_TCK")?;
        Ok(self.cpu_ticks as f64 / per_second as f64)
    }
}

/// The processes that `pid` has started and that still run.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended in the meantime.
        if Stat::read(other).is_ok_and(|stat| stat.parent == pid && stat.state != 'Z') {
            children.push(other);
        }
    }
    Ok(children)
}

/// Memory of a process that is in RAM, bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    field_bytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The most that [`resident_bytes`] was since [`reset_peak`].
pub(crate) fn peak_resident_bytes(pid: u32) -> Result<u64> {
    field_bytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The peak of a process begins anew.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").with_context(|| format!("writing {path}"))
}

/// Memory of a process that is in RAM, bytes; a page that several processes share counts for each
/// of them in part, so that the sum over parent and child counts it once.
pub(crate) fn proportional_bytes(pid: u32) -> Result<u64> {
    field_bytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn field_bytes(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let kib: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("no {name} in {path}"))?
        .parse()?;
    Ok(kib * 1024)
}

/// Keeps the calling thread on `cores`, given as `taskset -c` takes them. Threads and processes
/// that it starts later inherit this.
pub(crate) fn pin_this_thread(cores: &str) -> Result<()> {
    let thread = gettid().to_string();
    if !run_quietly("taskset", &["-c", "-p", cores, &thread])? {
        bail!("taskset cannot move a thread to cores {cores}");
    }
    Ok(())
}

/// Lets the calling thread run as soon as it wants to, ahead of all ordinary threads of its core;
/// false if this is not permitted here.
pub(crate) fn prefer_this_thread() -> bool {
    let thread = gettid().to_string();
    run_quietly("chrt", &["--fifo", "-p", "1", &thread]).unwrap_or(false)
}

fn run_quietly(program: &str, args: &[&str]) -> Result<bool> {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("running {program}"))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_confuse_its_numbers() {
        let text =
            "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 1234 66 0 0 20 0 5 0 999 1000 200";
        let expected = Stat {
            state: 'S',
            parent: 7,
            cpu_ticks: 1300,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (a) S"), None);
    }

    #[test]
    fn the_kernel_tells_about_this_process() {
        let me = std::process::id();
        let stat = Stat::read(me).unwrap();
        assert!(children(stat.parent).unwrap().contains(&me));
        let now = resident_bytes(me).unwrap();
        assert!(now > 0 && proportional_bytes(me).unwrap() > 0);
        reset_peak(me).unwrap();
        assert!(peak_resident_bytes(me).unwrap() > 0);
    }
}
