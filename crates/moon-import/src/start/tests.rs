//! Every combination of what can lie in a data directory.

use super::*;
use moon_manifest::ReplicationId;
use moon_rdb::{RdbInfo, RdbVersion, RdbWriter};
use std::time::Duration;
use tempfile::TempDir;

const V1: &str = "seq 1\nbase moon.aof.1.base.rdb\nincr moon.aof.1.incr.aof\n";
const V2: &str = "version 2\nseq 1\nshards 2\nshard 0 max_lsn 0\nshard 1 max_lsn 0\n";

/// A data directory. Files get the times of their order.
struct Dir {
    dir: TempDir,
    time: SystemTime,
}

impl Dir {
    fn new() -> Dir {
        Dir {
            dir: tempfile::tempdir().unwrap(),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> &mut Dir {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.time += Duration::from_secs(10);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(self.time).unwrap();
        self
    }

    fn log(&mut self, change: impl FnOnce(&mut AofManifest)) -> &mut Dir {
        let id = ReplicationId::from_random([1; 20]);
        let mut manifest = AofManifest::initialize_multi(ShardCount::ONE, 1, id);
        change(&mut manifest);
        self.write("aof/moon.aof.manifest", manifest.to_text().as_bytes());
        self.write("aof/shard-0/moon.aof.1.incr.aof", b"")
    }

    fn dump(&mut self, cut_lsn: Option<u64>) -> &mut Dir {
        let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V10).unwrap();
        let info = RdbInfo {
            redis_ver: "7.2.0",
            ctime_s: 0,
            used_mem_bytes: 0,
            aof_base: false,
            cut_lsn,
        };
        writer.info(&info).unwrap();
        let bytes = writer.finish().unwrap();
        self.write("d.rdb", &bytes)
    }

    fn start(&self, appendonly: bool) -> Result<StartSource, ImportError> {
        start_source(self.dir.path(), "aof", "d.rdb", appendonly)
    }

    #[track_caller]
    fn starts_with(&self, appendonly: bool, authority: Authority, not_loaded: &[&str]) {
        let expected = StartSource {
            authority,
            not_loaded: not_loaded.iter().map(|name| self.path(name)).collect(),
        };
        assert_eq!(self.start(appendonly).unwrap(), expected);
    }

    fn open_log(&self) -> Authority {
        Authority::Log {
            dir: self.path("aof"),
            closed: None,
        }
    }
}

fn closed_at(at: u64) -> impl FnOnce(&mut AofManifest) {
    move |manifest| manifest.closed_at = Some(Lsn(at))
}

#[test]
fn an_empty_directory_is_a_new_start() {
    let dir = Dir::new();
    dir.starts_with(true, Authority::Nothing, &[]);
    dir.starts_with(false, Authority::Nothing, &[]);
    fs::create_dir_all(dir.path("aof/shard-0")).unwrap();
    dir.starts_with(true, Authority::Nothing, &[]);
}

/// Scenario 106.
#[test]
fn a_dump_without_a_log_is_loaded_also_when_the_log_is_switched_on() {
    let mut dir = Dir::new();
    dir.dump(None);
    for appendonly in [true, false] {
        dir.starts_with(appendonly, Authority::Dump(dir.path("d.rdb")), &[]);
    }
}

/// Scenario 115.
#[test]
fn a_log_and_a_dump_have_one_authority_and_the_line_says_which() {
    let mut dir = Dir::new();
    dir.log(|_| {}).dump(Some(5));
    dir.starts_with(true, dir.open_log(), &["d.rdb"]);
    let line = dir.start(true).unwrap().to_string();
    assert!(
        line.starts_with("Loading the append-only log in "),
        "{line}"
    );
    assert!(line.ends_with("d.rdb is NOT loaded"), "{line}");
    dir.write("appendonly.aof", b"")
        .write("aof/a.manifest", b"");
    dir.starts_with(
        true,
        dir.open_log(),
        &["aof/a.manifest", "appendonly.aof", "d.rdb"],
    );
}

/// Scenario 107: the log was switched off, and what was written since is in the dump or nowhere.
#[test]
fn a_closed_log_is_used_only_if_no_dump_was_written_after_it() {
    let closed = |dir: &Dir, at| Authority::Log {
        dir: dir.path("aof"),
        closed: Some(Lsn(at)),
    };
    let mut dir = Dir::new();
    dir.log(closed_at(7));
    dir.starts_with(true, closed(&dir, 7), &[]);

    let mut dir = Dir::new();
    dir.dump(None).log(closed_at(7));
    dir.starts_with(true, closed(&dir, 7), &["d.rdb"]);

    for cut in [None, Some(3), Some(8)] {
        let mut dir = Dir::new();
        dir.log(closed_at(7)).dump(cut);
        let text = dir.start(true).unwrap_err().to_string();
        assert!(text.contains("closed at LSN 7"), "{text}");
        assert!(text.contains("d.rdb"), "{text}");
        // Without a log the dump is the newest there is.
        dir.starts_with(false, Authority::Dump(dir.path("d.rdb")), &["aof"]);
    }

    let mut dir = Dir::new();
    dir.log(closed_at(7)).dump(Some(7));
    dir.starts_with(true, closed(&dir, 7), &["d.rdb"]);
}

/// Scenario 192: a start without a log neither takes an old dump for the newest data nor hides
/// that there is a log.
#[test]
fn a_start_without_log_is_refused_where_the_log_is_newer_than_the_dump() {
    let mut dir = Dir::new();
    dir.dump(None).log(|_| {});
    let text = dir.start(false).unwrap_err().to_string();
    assert!(text.contains("is older than the append-only log"), "{text}");

    let mut dir = Dir::new();
    dir.log(|_| {}).dump(None);
    dir.starts_with(false, Authority::Dump(dir.path("d.rdb")), &["aof"]);

    // After a clean stop the positions tell, whichever file was touched last.
    for (cut, older) in [(9, true), (10, false), (11, false)] {
        let mut dir = Dir::new();
        dir.dump(Some(cut))
            .log(|manifest| manifest.clean_stop = Some(Lsn(10)));
        assert_eq!(dir.start(false).is_err(), older, "{cut}");
    }

    let mut dir = Dir::new();
    dir.log(|_| {});
    dir.starts_with(false, Authority::Nothing, &["aof"]);
    let line = dir.start(false).unwrap().to_string();
    assert!(line.contains("starting empty; "), "{line}");
}

#[test]
fn a_log_of_redis_is_refused_with_the_command_that_converts_it() {
    for name in ["aof/appendonly.aof.manifest", "appendonly.aof"] {
        let mut dir = Dir::new();
        dir.dump(None).write(name, b"");
        let text = dir.start(true).unwrap_err().to_string();
        let path = dir.path(name);
        let command = format!("moon-server migrate-aof --from {} --to ", path.display());
        assert!(text.contains(&command), "{text}");
        dir.starts_with(false, Authority::Dump(dir.path("d.rdb")), &[name]);
    }
}

/// Scenarios 99 and 100.
#[test]
fn earlier_versions_start_in_place_with_their_own_shard_count() {
    for (text, count) in [(V1, 1), (V2, 2)] {
        let mut dir = Dir::new();
        dir.dump(None)
            .write("aof/moon.aof.manifest", text.as_bytes());
        let start = dir.start(true).unwrap();
        let Authority::Earlier(source) = start.authority else {
            panic!("{start:?}");
        };
        let count = ShardCount::new(count);
        assert_eq!(shards_in_place(&source, None).unwrap(), count);
        assert_eq!(shards_in_place(&source, count).unwrap(), count);
        let text = shards_in_place(&source, ShardCount::new(8))
            .unwrap_err()
            .to_string();
        let command = format!(
            "moon-server migrate-aof --from {} --to NEW_DIR --shards 8",
            dir.path("aof").display()
        );
        assert!(text.contains(&command), "{text}");
    }
}

/// Scenario 110: a directory of a newer version is refused as that, not as damage.
#[test]
fn a_newer_or_damaged_manifest_is_refused_and_nothing_else_is_loaded() {
    for (text, word) in [
        ("version 9\ncrc32 00000000\n", "CRC"),
        ("version 9\nnew\n", "newer version"),
        ("", "empty"),
    ] {
        let mut dir = Dir::new();
        dir.dump(None)
            .write("aof/moon.aof.manifest", text.as_bytes());
        for appendonly in [true, false] {
            let error = dir.start(appendonly).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(word), "{cause}");
        }
    }
    let mut dir = Dir::new();
    dir.write("aof/moon.aof.1.base.rdb", b"");
    let error = dir.start(true).unwrap_err();
    assert!(
        matches!(error, ImportError::ManifestMissing { .. }),
        "{error}"
    );
}
