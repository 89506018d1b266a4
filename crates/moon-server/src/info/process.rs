//! What the kernel knows about this process.

/// CPU time in microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the words of INFO")]
pub struct CpuTimes {
    pub sys_us: u64,
    pub user_us: u64,
}

/// Resident and total system memory in bytes; zeros where the kernel does not tell.
#[must_use]
pub fn process_memory() -> (u64, u64) {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|t| t.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.ok().flatten().and_then(|p| u64::try_from(p).ok());
    let total_kb = std::fs::read_to_string("/proc/meminfo").ok().and_then(|t| {
        let line = t.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    (
        pages.unwrap_or(0) * page.unwrap_or(4096),
        total_kb.unwrap_or(0) * 1024,
    )
}

/// CPU time of this process.
#[must_use]
pub fn process_cpu() -> CpuTimes {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return CpuTimes::default();
    };
    let us = |t: nix::sys::time::TimeVal| u64::try_from(t.num_microseconds()).unwrap_or(0);
    CpuTimes {
        sys_us: us(usage.system_time()),
        user_us: us(usage.user_time()),
    }
}
