//! The questions a start asks a manifest, and the invariants.

use super::*;

fn id(byte: u8) -> ReplicationId {
    ReplicationId::from_random([byte; 20])
}

fn fresh(shards: u16) -> AofManifest {
    let shards = ShardCount::new(shards).expect("a valid count");
    AofManifest::initialize_multi(shards, 1, id(1))
}

#[test]
fn fresh_manifest_has_one_incr_from_zero_and_no_base() {
    let manifest = fresh(4);
    assert_eq!(manifest.check(), Ok(()));
    assert_eq!(manifest.seq, Generation(1));
    assert_eq!(manifest.incrs.len(), 1);
    assert_eq!(manifest.incrs[0].first, Lsn::ZERO);
    assert_eq!(manifest.newest_base(), None);
    assert_eq!(manifest.shard_count(), 4);
    assert_eq!(manifest.durable_floor(), Lsn::ZERO);
    assert_eq!(manifest.current_replication_id(), Some(id(1)));
}

/// Scenario 96.
#[test]
fn verify_shard_count_emits_rfc_error_verbatim() {
    let manifest = fresh(2);
    assert_eq!(
        manifest.verify_shard_count(ShardCount::new(2).unwrap()),
        Ok(())
    );
    for config in [1, 4] {
        let error = manifest
            .verify_shard_count(ShardCount::new(config).unwrap())
            .expect_err("another count");
        assert_eq!(
            error.to_string(),
            format!(
                "ERR shard count changed (manifest=2, config={config}); refusing to start to \
                 avoid data loss. See docs/runbooks/shard-count-change.md"
            )
        );
    }
}

#[test]
fn global_max_lsn_returns_max_across_shards() {
    let mut manifest = fresh(3);
    assert_eq!(manifest.global_max_lsn(), Lsn::ZERO);
    manifest.shards[1].max_lsn = 900;
    manifest.shards[2].max_lsn = 17;
    assert_eq!(manifest.global_max_lsn(), Lsn(900));
}

#[test]
fn every_durable_position_raises_the_floor_and_an_incr_beginning_does_not() {
    let mut manifest = fresh(2);
    manifest.incrs[0].first = Lsn(1_000);
    assert_eq!(manifest.durable_floor(), Lsn::ZERO);
    manifest.shards[0].max_lsn = 10;
    assert_eq!(manifest.durable_floor(), Lsn(10));
    manifest.bases.push(BaseLine {
        seq: Generation(1),
        cut: Lsn(20),
    });
    assert_eq!(manifest.durable_floor(), Lsn(20));
    manifest.clean_stop = Some(Lsn(30));
    assert_eq!(manifest.durable_floor(), Lsn(30));
    manifest.closed_at = Some(Lsn(40));
    assert_eq!(manifest.durable_floor(), Lsn(40));
    manifest.incrs[0].end = Some(Lsn(1_001));
    assert_eq!(manifest.durable_floor(), Lsn(1_001));
}

#[test]
fn only_the_last_eight_replication_ids_are_kept() {
    let mut manifest = fresh(1);
    for byte in 2..=12u8 {
        manifest.begin_replication_id(id(byte), Lsn(u64::from(byte)));
        assert_eq!(manifest.check(), Ok(()));
        assert_eq!(manifest.current_replication_id(), Some(id(byte)));
    }
    assert_eq!(manifest.replication_ids.len(), REPLICATION_IDS_MAX);
    assert_eq!(manifest.replication_ids[0].id, id(5));
    assert_eq!(manifest.replication_ids[0].end, Some(Lsn(6)));
}

#[test]
fn an_id_that_comes_back_is_listed_once() {
    let mut manifest = fresh(1);
    manifest.begin_replication_id(id(2), Lsn(10));
    manifest.begin_replication_id(id(1), Lsn(20));
    assert_eq!(manifest.check(), Ok(()));
    assert_eq!(manifest.replication_ids.len(), 2);
    assert_eq!(manifest.current_replication_id(), Some(id(1)));
}

#[test]
fn replication_ids_are_forty_lowercase_hex_digits() {
    let text = "00112233445566778899aabbccddeeff00112233";
    assert_eq!(
        ReplicationId::new(text.as_bytes()).map(|id| id.to_string()),
        Some(text.to_owned())
    );
    assert!(ReplicationId::new(&text.as_bytes()[1..]).is_none());
    assert!(ReplicationId::new(text.to_uppercase().as_bytes()).is_none());
    assert!(ReplicationId::new(&[b'g'; 40]).is_none());
    assert_eq!(
        ReplicationId::from_random([0xa5; 20]).as_str(),
        "a5".repeat(20)
    );
}

#[test]
fn each_broken_invariant_is_named() {
    type Break = fn(&mut AofManifest);
    let cases: &[(Break, InvariantError)] = &[
        (|m| m.layout = AofLayout::TopLevel, InvariantError::Layout),
        (|m| m.shards.clear(), InvariantError::ShardCount),
        (|m| m.shards[1].shard_id = 2, InvariantError::ShardIds),
        (|m| m.incrs.clear(), InvariantError::Generations),
        (|m| m.incrs.push(m.incrs[0]), InvariantError::Generations),
        (
            |m| {
                m.incrs[0].first = Lsn(5);
                m.incrs[0].end = Some(Lsn(4));
            },
            InvariantError::IncrEnd,
        ),
        (|m| m.seq = Generation(2), InvariantError::Seq),
        (|m| m.preparing = Some(m.seq), InvariantError::Preparing),
        (
            |m| m.replication_ids.clear(),
            InvariantError::ReplicationIds,
        ),
        (
            |m| m.replication_ids[0].end = Some(Lsn(1)),
            InvariantError::ReplicationIds,
        ),
        (
            |m| m.replication_ids.push(m.replication_ids[0]),
            InvariantError::ReplicationIds,
        ),
        (|m| m.version = ManifestVersion::V2, InvariantError::Legacy),
    ];
    for (number, (break_it, expected)) in cases.iter().enumerate() {
        let mut manifest = fresh(2);
        break_it(&mut manifest);
        assert_eq!(manifest.check(), Err(*expected), "case {number}");
    }
}
