//! Which generations a rewrite supersedes. Pure: from manifest to manifest.
//!
//! An *epoch* is the log between two cuts: the base at the first of them (none before the first
//! rewrite), and the generations of segments up to the second. Generations are numbered in the
//! order in which they were named, and no segment with a lower number than a base has a frame
//! from that base's cut on, so the numbers alone tell where a segment belongs.

use moon_core::{Generation, Lsn, ShardCount, ShardId};
use moon_manifest::{AofManifest, AofPaths, BaseLine, FileKind, IncrLine};
use std::path::PathBuf;

/// The log between two cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) base: Option<BaseLine>,
    pub(crate) incrs: Vec<IncrLine>,
    /// The cut at which it was superseded.
    pub(crate) end: Lsn,
}

/// What happens to the epoch that a new base supersedes, and to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// How many superseded epochs stay named.
    pub(crate) keep: usize,
    /// Whether the newest of them is worth keeping: its files have everything.
    pub(crate) intact: bool,
}

impl Epoch {
    /// The position at which it begins.
    pub(crate) fn start(&self) -> Lsn {
        let first = self.incrs.iter().map(|incr| incr.first).min();
        self.base.map(|base| base.cut).or(first).unwrap_or(self.end)
    }

    /// The files that belong to it: whose, of what kind, of which generation.
    pub(crate) fn files(&self, shards: ShardCount) -> Vec<(ShardId, FileKind, Generation)> {
        let mut files = Vec::new();
        for shard in shards.ids() {
            let base = self.base.iter().map(|base| (FileKind::Base, base.seq));
            let incrs = self.incrs.iter().map(|incr| (FileKind::Incr, incr.seq));
            files.extend(base.chain(incrs).map(|(kind, seq)| (shard, kind, seq)));
        }
        files
    }
}

/// Where a file of a generation lies.
pub(crate) fn path(
    paths: &AofPaths,
    (shard, kind, seq): (ShardId, FileKind, Generation),
) -> PathBuf {
    match kind {
        FileKind::Base => paths.base(shard, seq),
        FileKind::Incr => paths.incr(shard, seq),
    }
}

/// Puts the bases of generation `seq` with the state at `cut` in force. Returns what the manifest
/// does not name any more.
pub(crate) fn supersede(
    manifest: &mut AofManifest,
    seq: Generation,
    cut: Lsn,
    retention: Retention,
) -> Vec<Epoch> {
    manifest.bases.push(BaseLine { seq, cut });
    manifest.seq = manifest.seq.max(seq);
    for line in manifest.incrs.iter_mut().filter(|line| line.seq < seq) {
        let end = line.end.map_or(cut, |end| end.min(cut));
        line.first = line.first.min(end);
        line.end = Some(end);
    }
    let mut dropped = Vec::new();
    let void = |line: &IncrLine| line.seq < seq && line.end == Some(line.first);
    let voids: Vec<IncrLine> = manifest.incrs.iter().copied().filter(void).collect();
    if !voids.is_empty() {
        let end = cut;
        dropped.push(Epoch {
            base: None,
            incrs: voids,
            end,
        });
        manifest.incrs.retain(|line| !void(line));
    }
    let mut epochs = superseded(manifest);
    let newest_goes = |newest: &mut Epoch| !retention.intact || newest.start() == newest.end;
    if let Some(newest) = epochs.pop_if(newest_goes) {
        forget(manifest, &newest);
        dropped.push(newest);
    }
    let surplus = epochs.len().saturating_sub(retention.keep);
    for epoch in epochs.drain(..surplus) {
        forget(manifest, &epoch);
        dropped.push(epoch);
    }
    dropped
}

/// The epochs that the manifest names beside the one in force, oldest first.
pub(crate) fn superseded(manifest: &AofManifest) -> Vec<Epoch> {
    let mut epochs = Vec::new();
    let mut base = None;
    for next in &manifest.bases {
        let from = base.map_or(Generation(0), |base: BaseLine| base.seq);
        let of_epoch = |line: &&IncrLine| from <= line.seq && line.seq < next.seq;
        let incrs: Vec<IncrLine> = manifest.incrs.iter().filter(of_epoch).copied().collect();
        if base.is_some() || !incrs.is_empty() {
            let end = next.cut;
            epochs.push(Epoch { base, incrs, end });
        }
        base = Some(*next);
    }
    epochs
}

/// Takes an epoch out of the manifest.
pub(crate) fn forget(manifest: &mut AofManifest, epoch: &Epoch) {
    manifest.bases.retain(|base| epoch.base != Some(*base));
    manifest.incrs.retain(|incr| !epoch.incrs.contains(incr));
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_manifest::ReplicationId;

    fn manifest(bases: &[(u64, u64)], incrs: &[(u64, u64, Option<u64>)]) -> AofManifest {
        let id = ReplicationId::from_random([7; 20]);
        let mut manifest = AofManifest::initialize_multi(ShardCount::ONE, 1, id);
        let base = |&(seq, cut)| BaseLine {
            seq: Generation(seq),
            cut: Lsn(cut),
        };
        let incr = |&(seq, first, end): &(u64, u64, Option<u64>)| IncrLine {
            seq: Generation(seq),
            first: Lsn(first),
            end: end.map(Lsn),
        };
        manifest.bases = bases.iter().map(base).collect();
        manifest.incrs = incrs.iter().map(incr).collect();
        let seqs = manifest.bases.iter().map(|base| base.seq);
        let seqs = seqs.chain(manifest.incrs.iter().map(|incr| incr.seq));
        manifest.seq = seqs.max().unwrap();
        manifest.check().unwrap();
        manifest
    }

    fn incrs(manifest: &AofManifest) -> Vec<(u64, u64, Option<u64>)> {
        let line = |l: &IncrLine| (l.seq.0, l.first.0, l.end.map(|end| end.0));
        manifest.incrs.iter().map(line).collect()
    }

    fn bases(manifest: &AofManifest) -> Vec<(u64, u64)> {
        let bases = manifest.bases.iter();
        bases.map(|base| (base.seq.0, base.cut.0)).collect()
    }

    fn rewrite(manifest: &mut AofManifest, seq: u64, cut: u64, keep: usize, intact: bool) -> usize {
        let retention = Retention { keep, intact };
        let dropped = supersede(manifest, Generation(seq), Lsn(cut), retention);
        manifest.check().unwrap();
        dropped.iter().map(|e| e.files(ShardCount::ONE).len()).sum()
    }

    #[test]
    fn without_retention_only_the_new_base_and_its_segments_stay() {
        let incrs_before = [(2, 50, Some(90)), (3, 90, None), (4, 95, None)];
        let mut m = manifest(&[(1, 50)], &incrs_before);
        assert_eq!(rewrite(&mut m, 4, 120, 0, true), 3);
        assert_eq!(bases(&m), [(4, 120)]);
        assert_eq!(incrs(&m), [(4, 95, None)]);
    }

    #[test]
    fn a_replacement_segment_named_after_the_new_generation_stays() {
        let mut m = manifest(&[], &[(1, 0, None), (2, 10, None), (3, 12, None)]);
        assert_eq!(rewrite(&mut m, 2, 20, 0, true), 1);
        assert_eq!(incrs(&m), [(2, 10, None), (3, 12, None)]);
        assert_eq!(m.seq, Generation(3));
    }

    #[test]
    fn the_last_generations_stay_named_and_end_at_the_cut_that_superseded_them() {
        let mut m = manifest(&[], &[(1, 0, None), (2, 100, None)]);
        assert_eq!(rewrite(&mut m, 2, 100, 2, true), 0);
        assert_eq!(bases(&m), [(2, 100)]);
        assert_eq!(incrs(&m), [(1, 0, Some(100)), (2, 100, None)]);
        m.incrs.push(IncrLine {
            seq: Generation(3),
            first: Lsn(150),
            end: None,
        });
        m.seq = Generation(3);
        assert_eq!(rewrite(&mut m, 3, 200, 2, true), 0);
        m.incrs.push(IncrLine {
            seq: Generation(4),
            first: Lsn(250),
            end: None,
        });
        m.seq = Generation(4);
        // The oldest, which has no base, falls out.
        assert_eq!(rewrite(&mut m, 4, 300, 2, true), 1);
        assert_eq!(bases(&m), [(2, 100), (3, 200), (4, 300)]);
        assert_eq!(
            incrs(&m),
            [(2, 100, Some(200)), (3, 150, Some(300)), (4, 250, None)]
        );
        let starts: Vec<u64> = superseded(&m).iter().map(|e| e.start().0).collect();
        assert_eq!(starts, [100, 200]);
    }

    #[test]
    fn an_epoch_that_is_not_whole_or_has_nothing_is_not_kept() {
        let mut m = manifest(&[(2, 100)], &[(2, 100, None), (3, 150, None)]);
        assert_eq!(rewrite(&mut m, 3, 200, 5, false), 2);
        assert_eq!(
            (bases(&m), incrs(&m)),
            (vec![(3, 200)], vec![(3, 150, None)])
        );
        let mut m = manifest(&[(2, 100)], &[(2, 100, None), (3, 100, None)]);
        assert_eq!(rewrite(&mut m, 3, 100, 5, true), 2);
        assert_eq!(
            (bases(&m), incrs(&m)),
            (vec![(3, 100)], vec![(3, 100, None)])
        );
    }
}
