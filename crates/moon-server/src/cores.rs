//! How many cores this process may use: the affinity mask, bounded by the CPU quota of its
//! control groups (v2 and v1).

use moon_core::ShardCount;
use std::fs;
use std::path::{Path, PathBuf};

/// Cores this process may use, at least 1. A quota of one and a half cores counts as one: a
/// second shard thread would only be throttled.
#[must_use]
pub fn usable() -> usize {
    let quota = cgroup_quota(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"));
    quota.map_or(affinity(), |q| affinity().min(q)).max(1)
}

/// Up to so many usable cores, one shard serves more than one per core: measured in
/// `docs/benchmarks.md`. There is little left to divide, and every message between shards costs.
const ONE_SHARD_CORES_MAX: usize = 2;

/// Shards of a new directory when none are asked for: the better of one and one per usable core.
#[must_use]
pub fn default_shards() -> ShardCount {
    shards_for(usable())
}

fn shards_for(cores: usize) -> ShardCount {
    if cores <= ONE_SHARD_CORES_MAX {
        return ShardCount::ONE;
    }
    let count = cores.min(usize::from(ShardCount::MAX));
    u16::try_from(count)
        .ok()
        .and_then(ShardCount::new)
        .unwrap_or(ShardCount::ONE)
}

/// Cores in the affinity mask.
fn affinity() -> usize {
    let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) else {
        return std::thread::available_parallelism().map_or(1, usize::from);
    };
    (0..nix::sched::CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .count()
}

/// Reads the quota of one group's folder, in whole cores.
type ReadQuota = fn(&Path) -> Option<usize>;

/// Whole cores of the tightest quota from this process's groups up to the root; `None` without
/// any. `membership` has the lines of /proc/self/cgroup.
fn cgroup_quota(root: &Path, membership: &Path) -> Option<usize> {
    let text = fs::read_to_string(membership).ok()?;
    let mut tightest: Option<usize> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (mounts, read): (&[&str], ReadQuota) = if controllers.is_empty() {
            (&["", "unified"], quota_v2)
        } else if controllers.split(',').any(|c| c == "cpu") {
            (&["cpu", "cpu,cpuacct"], quota_v1)
        } else {
            continue;
        };
        for mount in mounts {
            for folder in chain(&root.join(mount), group) {
                if let Some(cores) = read(&folder) {
                    tightest = Some(tightest.map_or(cores, |t| t.min(cores)));
                }
            }
        }
    }
    tightest
}

/// The group's folder and all above it up to the mount. In a container the path may lead
/// outside of what is mounted; the mount itself then has the limit.
fn chain(mount: &Path, group: &str) -> Vec<PathBuf> {
    let mut folder = mount.join(group.trim_start_matches('/'));
    let mut folders = Vec::new();
    while folder.starts_with(mount) {
        folders.push(folder.clone());
        if folder == mount || !folder.pop() {
            break;
        }
    }
    folders
}

fn quota_v2(folder: &Path) -> Option<usize> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    whole_cores(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(folder: &Path) -> Option<usize> {
    let read = |name| -> Option<i64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    whole_cores(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

/// `None` for "no limit" (negative, or text in place of a number).
fn whole_cores(quota_us: i64, period_us: i64) -> Option<usize> {
    if quota_us <= 0 || period_us <= 0 {
        return None;
    }
    usize::try_from(quota_us / period_us).ok().map(|c| c.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)], membership: &str) -> Option<usize> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let list = dir.path().join("membership");
        fs::write(&list, membership).unwrap();
        cgroup_quota(dir.path(), &list)
    }

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let files = &[
            ("a/b/cpu.max", "max 100000\n"),
            ("a/cpu.max", "250000 100000\n"),
            ("cpu.max", "800000 100000\n"),
        ];
        assert_eq!(with(files, "0::/a/b\n"), Some(2));
        assert_eq!(with(&[("cpu.max", "50000 100000")], "0::/gone\n"), Some(1));
        assert_eq!(with(&[("cpu.max", "max 100000")], "0::/\n"), None);
    }

    #[test]
    fn quotas_of_version_1_are_read() {
        let files = &[
            ("cpu/x/cpu.cfs_quota_us", "300000\n"),
            ("cpu/x/cpu.cfs_period_us", "100000\n"),
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(with(files, "4:memory:/x\n3:cpuacct,cpu:/x\n"), Some(3));
        assert_eq!(with(&[], "3:cpu:/x\n0::/\n"), None);
        assert_eq!(with(&[("cpu.max", "garbage")], "nonsense\n0::/\n"), None);
    }

    #[test]
    fn the_default_is_one_shard_on_few_cores_and_one_per_core_on_more() {
        assert!(usable() >= 1);
        assert_eq!(default_shards(), shards_for(usable()));
        let counts = [1, 2, 3, 16, 1000].map(|cores| shards_for(cores).get());
        assert_eq!(counts, [1, 1, 3, 16, 64]);
    }
}
