//! What parses, what is refused and as what, and the round trip.

use super::*;
use crate::InvariantError;
use moon_core::ShardCount;
use proptest::prelude::*;

const V1: &[u8] = include_bytes!("../../tests/golden/v1/manifest");
const V2: &[u8] = include_bytes!("../../tests/golden/v2/manifest");
const V3: [&[u8]; 3] = [
    include_bytes!("../../tests/golden/v3/fresh"),
    include_bytes!("../../tests/golden/v3/rewriting"),
    include_bytes!("../../tests/golden/v3/closed"),
];
/// The page that describes the format; its examples are parsed here.
const PAGE: &str = include_str!("../../../../docs/format/manifest.md");

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// A v3 file of these lines with a checksum that fits.
fn sealed(lines: &str) -> Vec<u8> {
    let crc = crc32fast::hash(lines.as_bytes());
    format!("{lines}crc32 {crc:08x}\n").into_bytes()
}

fn refused(text: &[u8]) -> ManifestError {
    match AofManifest::parse(text) {
        Ok(manifest) => panic!("accepted as {manifest:?}"),
        Err(error) => error,
    }
}

/// Scenario 99.
#[test]
fn v1_manifest_loads_as_top_level_single_shard() {
    let manifest = AofManifest::parse(V1).unwrap();
    assert_eq!(manifest.version, ManifestVersion::V1);
    assert_eq!(manifest.layout, AofLayout::TopLevel);
    assert_eq!(manifest.seq, Generation(7));
    assert_eq!(manifest.shard_count(), 1);
    assert_eq!(manifest.verify_shard_count(ShardCount::ONE), Ok(()));
    assert_eq!(manifest.bases[0].seq, Generation(7));
    assert_eq!(manifest.incrs[0].seq, Generation(7));
    assert_eq!(manifest.durable_floor(), Lsn::ZERO);
    assert_eq!(manifest.to_text().as_bytes(), V1);
}

#[test]
fn v2_manifest_round_trips() {
    let manifest = AofManifest::parse(V2).unwrap();
    assert_eq!(manifest.version, ManifestVersion::V2);
    assert_eq!(manifest.layout, AofLayout::PerShard);
    assert_eq!(manifest.seq, Generation(3));
    assert_eq!(manifest.shard_count(), 4);
    assert_eq!(manifest.shards[2].max_lsn, 98);
    assert_eq!(manifest.global_max_lsn(), Lsn(u64::MAX));
    assert_eq!(manifest.to_text().as_bytes(), V2);
}

#[test]
fn v3_manifests_round_trip() {
    for golden in V3 {
        let manifest = AofManifest::parse(golden).unwrap();
        assert_eq!(manifest.version, ManifestVersion::V3);
        assert_eq!(manifest.to_text().as_bytes(), golden);
    }
    let rewriting = AofManifest::parse(V3[1]).unwrap();
    assert_eq!(rewriting.history, 2);
    assert_eq!(rewriting.replication_ids.len(), 2);
    assert_eq!(rewriting.bases[0].cut, Lsn(65_536));
    assert_eq!(rewriting.incrs[0].end, Some(Lsn(81_920)));
    assert_eq!(rewriting.incrs[2].first, Lsn(90_000));
    assert_eq!(rewriting.durable_floor(), Lsn(81_920));
    let closed = AofManifest::parse(V3[2]).unwrap();
    assert_eq!(closed.clean_stop, Some(Lsn(5_000)));
    assert_eq!(closed.closed_at, Some(Lsn(5_000)));
}

#[test]
fn the_fresh_golden_file_is_what_initialize_multi_prints() {
    let id = ReplicationId::new(ID.as_bytes()).unwrap();
    let fresh = AofManifest::initialize_multi(ShardCount::new(2).unwrap(), 1, id);
    assert_eq!(fresh.to_text().as_bytes(), V3[0]);
}

#[test]
fn the_examples_of_the_format_page_parse() {
    let mut versions = Vec::new();
    for block in PAGE.split("```manifest\n").skip(1) {
        let example = block.split("```").next().unwrap_or_default();
        let manifest = AofManifest::parse(example.as_bytes()).unwrap();
        assert_eq!(manifest.to_text(), example);
        versions.push(manifest.version);
    }
    use ManifestVersion::{V1, V2, V3};
    assert_eq!(versions, [V1, V1, V2, V3, V3]);
}

#[test]
fn parse_v2_rejects_shard_count_mismatch_in_file() {
    let lines = "version 2\nseq 1\nshards 3\nshard 0 max_lsn 1\nshard 1 max_lsn 2\n";
    let mismatch = |declared, found| ManifestError::ShardCountMismatch {
        line: 3,
        declared,
        found,
    };
    assert_eq!(refused(lines.as_bytes()), mismatch(3, 2));
    let lines = lines.replace("shards 3", "shards 1");
    assert_eq!(refused(lines.as_bytes()), mismatch(1, 2));
}

#[test]
fn parse_v2_rejects_non_contiguous_shard_ids() {
    let lines = b"version 2\nseq 1\nshards 2\nshard 0 max_lsn 1\nshard 2 max_lsn 2\n";
    assert_eq!(
        refused(lines),
        ManifestError::NonContiguousShardIds {
            line: 5,
            expected: 1,
            found: 2
        }
    );
}

/// Scenario 97: each fault is its own error and names its line.
#[test]
fn each_fault_is_its_own_error_with_its_line() {
    use ManifestError as E;
    let good = format!(
        "version 3\nseq 1\nshards 1\nhistory 1\nreplid {ID}\nincr 1 first 0\nshard 0 max_lsn 0\n"
    );
    AofManifest::parse(&sealed(&good)).unwrap();
    let malformed = |line, expected| E::Malformed { line, expected };
    let number = |line, field| E::BadNumber { line, field };
    let incr_form = "incr N first L` or `incr N first L end L";
    let inconsistent = |line, invariant| E::Inconsistent { line, invariant };
    let missing = |keyword| E::MissingLine { line: 6, keyword };
    let replid = format!("replid {ID}\n");
    let cases: Vec<(&str, &str, ManifestError)> = vec![
        ("seq 1\n", "", E::MissingSeq { line: 6 }),
        ("shards 1\n", "", missing("shards")),
        ("history 1\n", "", missing("history")),
        (
            "seq 1\n",
            "seq 1\nseq 1\n",
            E::DuplicateLine {
                line: 3,
                keyword: "seq".into(),
            },
        ),
        (
            "incr 1 first 0\n",
            "incr 1 first 0\nincr 1 first 9\n",
            E::DuplicateLine {
                line: 7,
                keyword: "incr 1".into(),
            },
        ),
        (
            "shard 0 max_lsn 0\n",
            "shard 0 max_lsn 0\nshard 0 max_lsn 0\n",
            E::DuplicateLine {
                line: 8,
                keyword: "shard 0".into(),
            },
        ),
        (
            "history 1\n",
            "history 1\nflavour mint\n",
            E::UnknownLine {
                line: 5,
                text: "flavour mint".into(),
            },
        ),
        (
            "history 1\n",
            "history 1\n\n",
            E::UnknownLine {
                line: 5,
                text: String::new(),
            },
        ),
        (
            "seq 1\nshards 1\n",
            "shards 1\nseq 1\n",
            E::OutOfOrder {
                line: 3,
                keyword: "seq",
            },
        ),
        ("history 1\n", "history 01\n", number(4, "history")),
        ("history 1\n", "history +1\n", number(4, "history")),
        ("history 1\n", "history 1\r\n", number(4, "history")),
        (
            "history 1\n",
            "history 18446744073709551616\n",
            number(4, "history"),
        ),
        ("history 1\n", "history \n", number(4, "history")),
        ("history 1\n", "history  1\n", malformed(4, "history H")),
        ("history 1\n", "history\n", malformed(4, "history H")),
        (
            "incr 1 first 0\n",
            "incr 1 from 0\n",
            malformed(6, incr_form),
        ),
        (
            "incr 1 first 0\n",
            "incr 1 first 0 end\n",
            malformed(6, incr_form),
        ),
        (
            "incr 1 first 0\n",
            "incr 1 first 0 end 1 x\n",
            malformed(6, incr_form),
        ),
        (
            "shards 1\n",
            "shards 0\n",
            E::ShardsOutOfRange {
                line: 3,
                found: 0,
                count_max: 64,
            },
        ),
        (
            "shards 1\n",
            "shards 65\n",
            E::ShardsOutOfRange {
                line: 3,
                found: 65,
                count_max: 64,
            },
        ),
        (
            "0123456789abc",
            "0123456789abC",
            E::BadReplicationId { line: 5 },
        ),
        (&replid, "", inconsistent(6, InvariantError::ReplicationIds)),
        (
            "incr 1 first 0\n",
            "",
            inconsistent(6, InvariantError::Generations),
        ),
        (
            "incr 1 first 0\n",
            "incr 0 first 0\nincr 1 first 0\n",
            inconsistent(8, InvariantError::Seq),
        ),
        ("seq 1\n", "seq 2\n", inconsistent(7, InvariantError::Seq)),
        (
            "incr 1 first 0\n",
            "incr 1 first 2 end 1\n",
            inconsistent(7, InvariantError::IncrEnd),
        ),
    ];
    for (from, to, expected) in cases {
        assert!(good.contains(from), "{from:?}");
        let error = refused(&sealed(&good.replacen(from, to, 1)));
        assert_eq!(error, expected, "{from:?} -> {to:?}");
        assert!(error.to_string().starts_with("manifest line "), "{error}");
        assert!(error.to_string().contains("untouched"), "{error}");
    }
}

/// Scenario 97.
#[test]
fn v1_and_v2_are_read_as_strictly() {
    use ManifestError as E;
    let file_name = |line| E::FileName { line };
    let cases: &[(&str, ManifestError)] = &[
        (
            "base moon.aof.1.base.rdb\nincr moon.aof.1.incr.aof\n",
            file_name(1),
        ),
        (
            "seq 1\n",
            E::MissingLine {
                line: 1,
                keyword: "base",
            },
        ),
        (
            "seq 1\nbase moon.aof.2.base.rdb\nincr moon.aof.1.incr.aof\n",
            file_name(2),
        ),
        (
            "seq 1\nbase moon.aof.1.base.rdb\nincr ../moon.aof.1.incr.aof\n",
            file_name(3),
        ),
        (
            "seq 1\nbase moon.aof.1.base.rdb\nincr moon.aof.1.incr.aof",
            E::Truncated { line: 3 },
        ),
        (
            "seq 0\nbase moon.aof.0.base.rdb\nincr moon.aof.0.incr.aof\n",
            file_name(2),
        ),
        (
            "version 2\nseq 0\nshards 1\nshard 0 max_lsn 0\n",
            E::Inconsistent {
                line: 4,
                invariant: InvariantError::Seq,
            },
        ),
        (
            "version 2\nshards 1\nshard 0 max_lsn 0\n",
            E::MissingSeq { line: 3 },
        ),
        (
            "version 2\nseq 1\nshards 70000\n",
            E::ShardsOutOfRange {
                line: 3,
                found: 70_000,
                count_max: u16::MAX,
            },
        ),
        (
            "version 2\nseq 1\nshards 1\nshard 0 max_lsn 0\nhistory 1\n",
            E::UnknownLine {
                line: 5,
                text: "history 1".into(),
            },
        ),
        (
            "version 2\nseq 1\nshards 1\nshard 0 max_lsn 0\nshard 0 max_lsn 1\n",
            E::DuplicateLine {
                line: 5,
                keyword: "shard 0".into(),
            },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text.as_bytes()), *expected, "{text:?}");
    }
    for golden in [V1, V2] {
        for end in 0..golden.len() {
            refused(&golden[..end]);
        }
    }
}

/// Scenario 98: an empty manifest is damage, never a fresh directory. The caller names the files
/// that lie beside it.
#[test]
fn empty_oversized_and_foreign_files_are_refused() {
    assert_eq!(refused(b""), ManifestError::Empty);
    let bytes = MANIFEST_BYTES_MAX + 1;
    assert_eq!(
        refused(&vec![b'\n'; bytes]),
        ManifestError::TooLarge {
            bytes,
            bytes_max: MANIFEST_BYTES_MAX
        }
    );
    let foreign = b"file appendonly.aof.1.base.rdb seq 1 type b\n";
    assert_eq!(refused(foreign), ManifestError::NotAManifest);
    assert_eq!(refused(&[0; 512]), ManifestError::Truncated { line: 1 });
    assert_eq!(refused(b"\n"), ManifestError::NotAManifest);
    assert_eq!(refused(b"\xff\xfe\n"), ManifestError::NotAManifest);
}

/// Scenario 109.
#[test]
fn a_newer_version_is_named_as_such_and_not_as_damage() {
    let newer = ManifestError::NewerVersion {
        found: 4,
        newest: 3,
    };
    assert_eq!(refused(b"version 4\nflavour mint\n"), newer);
    assert_eq!(refused(&sealed("version 4\nflavour mint\n")), newer);
    assert!(newer.to_string().contains("written by a newer version"));
    for found in [0, 1] {
        let text = format!("version {found}\nseq 1\n");
        assert_eq!(
            refused(text.as_bytes()),
            ManifestError::UnknownVersion { found }
        );
    }
    // A v3 file whose version digit lost a bit is damage, not a newer version.
    let mut flipped = V3[0].to_vec();
    flipped[8] ^= 4;
    assert!(matches!(refused(&flipped), ManifestError::BadCrc { .. }));
}

/// Scenario 97.
#[test]
fn every_truncation_of_a_v3_file_is_refused() {
    for golden in V3 {
        for end in 0..golden.len() {
            refused(&golden[..end]);
        }
    }
}

/// Scenario 97.
#[test]
fn every_flipped_bit_of_a_v3_file_is_refused() {
    for golden in V3 {
        for bit in 0..golden.len() * 8 {
            let mut flipped = golden.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            refused(&flipped);
        }
    }
}

#[test]
fn a_bad_crc_is_its_own_error() {
    let mut changed = V3[0].to_vec();
    let at = changed.len() - 30;
    changed[at] ^= 1;
    assert!(matches!(
        refused(&changed),
        ManifestError::BadCrc { line: 9, .. }
    ));
    let text = String::from_utf8(V3[0].to_vec()).unwrap();
    let unsealed = text.split("crc32").next().unwrap();
    assert_eq!(
        refused(unsealed.as_bytes()),
        ManifestError::MissingCrc { line: 8 }
    );
}

fn ends() -> impl Strategy<Value = Option<Lsn>> {
    prop::option::of(any::<u64>().prop_map(Lsn))
}

prop_compose! {
    fn manifests()(
        history in any::<u64>(),
        ids in prop::collection::btree_map(any::<[u8; 20]>(), any::<u64>(), 1..=8),
        base_steps in prop::collection::vec((1..1000u64, 0..1u64 << 40), 0..4),
        incr_steps in prop::collection::vec((1..1000u64, any::<u64>(), ends()), 1..5),
        max_lsns in prop::collection::vec(any::<u64>(), 1..=64),
        clean_stop in ends(),
        closed_at in ends(),
        prepared in prop::option::of(1..1000u64),
    ) -> AofManifest {
        let mut bases: Vec<BaseLine> = Vec::new();
        for (step, bytes) in base_steps {
            let before = bases.last().map_or((0, 0), |base| (base.seq.0, base.cut.0));
            bases.push(BaseLine { seq: Generation(before.0 + step), cut: Lsn(before.1 + bytes) });
        }
        let mut incrs: Vec<IncrLine> = Vec::new();
        for (step, first, end) in incr_steps {
            let before = incrs.last().map_or(0, |incr| incr.seq.0);
            let first = Lsn(first);
            let end = end.filter(|end| *end >= first);
            incrs.push(IncrLine { seq: Generation(before + step), first, end });
        }
        let seqs = bases.iter().map(|b| b.seq).chain(incrs.iter().map(|i| i.seq));
        let seq = seqs.max().unwrap_or_default();
        let last_id = ids.len() - 1;
        AofManifest {
            version: ManifestVersion::V3,
            layout: AofLayout::PerShard,
            seq,
            history,
            replication_ids: ids
                .into_iter()
                .enumerate()
                .map(|(place, (bytes, end))| ReplicationIdEntry {
                    id: ReplicationId::from_random(bytes),
                    end: (place < last_id).then_some(Lsn(end)),
                })
                .collect(),
            bases,
            incrs,
            shards: (0u16..)
                .zip(max_lsns)
                .map(|(shard_id, max_lsn)| ShardManifest { shard_id, max_lsn })
                .collect(),
            clean_stop,
            closed_at,
            preparing: prepared.map(|step| Generation(seq.0 + step)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_parses_to_the_same_manifest(manifest in manifests()) {
        let text = manifest.to_text();
        prop_assert_eq!(AofManifest::parse(text.as_bytes()), Ok(manifest));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        start in prop::sample::select(vec!["", "version 2\n", "version 3\n", "seq 1\n"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let text = [start.as_bytes(), &bytes].concat();
        if let Ok(manifest) = AofManifest::parse(&text) {
            prop_assert_eq!(manifest.to_text().into_bytes(), text);
        }
    }

    #[test]
    fn what_parses_prints_as_the_same_bytes(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "seq 1\n", "shards 1\n", "shards 2\n", "shard 0 max_lsn 4\n", "shard 1 max_lsn 9\n",
                "history 3\n", "incr 1 first 0\n", "incr 2 first 8\n", "base 1 cut 8\n", "clean 9\n",
                "replid 0123456789abcdef0123456789abcdef01234567\n", "closed at 9\n",
            ]),
            0..12,
        ),
        version in 2..=3u8,
    ) {
        let lines = format!("version {version}\n{}", words.concat());
        let text = if version == 3 { sealed(&lines) } else { lines.into_bytes() };
        if let Ok(manifest) = AofManifest::parse(&text) {
            prop_assert_eq!(manifest.to_text().into_bytes(), text);
        }
    }
}
