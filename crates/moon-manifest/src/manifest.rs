//! What a manifest says, as values, and the few questions every start asks it.

use crate::error::{InvariantError, ShardCountError};
use moon_core::{Generation, Lsn, ShardCount};
use std::fmt;

/// A manifest holds at most this many replication ids: the current one and the last seven.
pub const REPLICATION_IDS_MAX: usize = 8;

/// Bytes of a manifest at most. A larger file is refused before it is looked at.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;

/// Which of the three formats a manifest was read from, and is printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManifestVersion {
    /// One shard, files directly under the directory, plain RESP. Read only to be migrated.
    V1,
    /// A directory per shard, frames without checksums. Read only to be migrated.
    V2,
    /// What this server writes.
    V3,
}

/// Where the bases and segments lie below the append-only directory. A directory holds one
/// layout, never a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AofLayout {
    /// v1: files directly in the directory, one shard.
    TopLevel,
    /// v2 and v3: one `shard-<i>` directory per shard; so is v1 after its migration in place.
    PerShard,
}

/// A replication id: exactly 40 lowercase hexadecimal digits, as in Redis.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicationId([u8; ReplicationId::LEN]);

impl ReplicationId {
    /// Characters of an id.
    pub const LEN: usize = 40;

    /// `None` unless `text` is 40 characters of `0-9a-f`.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<ReplicationId> {
        let digits: [u8; Self::LEN] = text.try_into().ok()?;
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then_some(ReplicationId(digits))
    }

    /// The id that spells these 20 random bytes. Randomness is the caller's.
    #[must_use]
    pub fn from_random(bytes: [u8; Self::LEN / 2]) -> ReplicationId {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; Self::LEN];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        ReplicationId(digits)
    }

    /// The 40 characters.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The 40 characters as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Both constructors let only ASCII hexadecimal digits in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicationId({self})")
    }
}

/// A replication id and up to where it is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationIdEntry {
    /// The id.
    pub id: ReplicationId,
    /// The position up to which a replica of this id may resume here; `None` for the current one.
    pub end: Option<Lsn>,
}

/// One generation of bases: the state of every shard at one cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseLine {
    /// The `seq` in the file names, the same for all shards.
    pub seq: Generation,
    /// The state is that of the stream just before this position.
    pub cut: Lsn,
}

/// One generation of segments in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncrLine {
    /// The `seq` in the file names, the same for all shards.
    pub seq: Generation,
    /// No frame of this generation starts before this position. A generation is named before its
    /// first frame is issued, so this is a lower bound and need not meet the frame exactly.
    pub first: Lsn,
    /// Readers ignore everything from this position on; `None` while the generation is open.
    pub end: Option<Lsn>,
}

/// What the manifest remembers of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardManifest {
    /// The shard's number; a manifest lists 0, 1, 2 and so on without a hole.
    pub shard_id: u16,
    /// v3: end of the shard's last durable frame when the manifest was written. It counts only
    /// towards the durable mark. v2: the shard's own counter, no position in the stream.
    pub max_lsn: u64,
}

/// The contents of one manifest.
///
/// # Invariants
/// Checked after parsing and before printing ([`AofManifest::check`]); v1 and v2 have one base
/// and one incr of generation `seq`, and nothing of the rest but shards.
///
/// * `layout` is [`AofLayout::TopLevel`] for v1 only, and until it is migrated in place.
/// * `seq` is at least 1 and the highest generation that a base or incr line names; `preparing`
///   is above it.
/// * `shards` are 0..K in order, K from 1 to [`ShardCount::MAX`] in v3.
/// * `incrs` is not empty; bases and incrs each ascend strictly by `seq`; base cuts never fall;
///   no incr ends before its first position.
/// * v3 holds 1 to [`REPLICATION_IDS_MAX`] distinct replication ids, the last one without an end,
///   all earlier ones with one.
///
/// Whether the incrs cover every position from the newest base on is for recovery to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AofManifest {
    /// The format this came from and is printed in.
    pub version: ManifestVersion,
    /// Where the files lie.
    pub layout: AofLayout,
    /// The highest generation in use; the next files take `seq.next()`.
    pub seq: Generation,
    /// Number of the history; a full resync from a primary starts a new one. 0 in v1 and v2.
    pub history: u64,
    /// Replication ids, oldest first, the current one last. Empty in v1 and v2.
    pub replication_ids: Vec<ReplicationIdEntry>,
    /// Base generations, oldest first; empty until the first rewrite.
    pub bases: Vec<BaseLine>,
    /// Incr generations in use, oldest first.
    pub incrs: Vec<IncrLine>,
    /// One entry per shard, in order.
    pub shards: Vec<ShardManifest>,
    /// Set by a clean stop: everything below is durable, and the primary keeps its id.
    pub clean_stop: Option<Lsn>,
    /// Set by `appendonly no`: the log ends here, and a newer dump may exist.
    pub closed_at: Option<Lsn>,
    /// A generation that a tool is writing beside the ones in force. Nothing in its files counts
    /// until a manifest names it; a start deletes them, frames and all.
    pub preparing: Option<Generation>,
}

impl AofManifest {
    /// The manifest of a fresh directory: v3, generation 1, one incr from LSN 0, no base.
    #[must_use]
    pub fn initialize_multi(shards: ShardCount, history: u64, id: ReplicationId) -> AofManifest {
        AofManifest {
            version: ManifestVersion::V3,
            layout: AofLayout::PerShard,
            seq: Generation(1),
            history,
            replication_ids: vec![ReplicationIdEntry { id, end: None }],
            bases: Vec::new(),
            incrs: vec![IncrLine {
                seq: Generation(1),
                first: Lsn::ZERO,
                end: None,
            }],
            shards: (0..shards.get())
                .map(|shard_id| ShardManifest {
                    shard_id,
                    max_lsn: 0,
                })
                .collect(),
            clean_stop: None,
            closed_at: None,
            preparing: None,
        }
    }

    /// How many shards the directory was written with.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// Refuses a start with another shard count than the directory was written with: keys would
    /// be looked for on shards that do not hold them.
    ///
    /// # Errors
    /// [`ShardCountError`], whose text clients and operators know verbatim.
    pub fn verify_shard_count(&self, config: ShardCount) -> Result<(), ShardCountError> {
        if self.shard_count() == config.get() {
            return Ok(());
        }
        Err(ShardCountError {
            manifest: self.shard_count(),
            config: config.get(),
        })
    }

    /// The largest `max_lsn` of all shards. Computed, never stored, so it cannot disagree.
    #[must_use]
    pub fn global_max_lsn(&self) -> Lsn {
        Lsn(self.shards.iter().map(|s| s.max_lsn).max().unwrap_or(0))
    }

    /// What the manifest alone proves durable: the stream below this position was synced when the
    /// manifest was written, so recovery must find all of it from the newest base on.
    ///
    /// That is the highest of the shards' marks, the base cuts, the ends of ended incrs, the
    /// clean-stop mark and the closing mark. Whoever writes one of them has synced everything
    /// below it first. An incr's `first` proves nothing. v1 and v2 number differently and prove
    /// nothing either: [`Lsn::ZERO`].
    #[must_use]
    pub fn durable_floor(&self) -> Lsn {
        if self.version != ManifestVersion::V3 {
            return Lsn::ZERO;
        }
        let cuts = self.bases.iter().map(|base| base.cut);
        let ends = self.incrs.iter().filter_map(|incr| incr.end);
        cuts.chain(ends)
            .chain(self.clean_stop)
            .chain(self.closed_at)
            .chain([self.global_max_lsn()])
            .max()
            .unwrap_or(Lsn::ZERO)
    }

    /// The newest base, from which recovery starts; `None` starts at the beginning of the history.
    #[must_use]
    pub fn newest_base(&self) -> Option<BaseLine> {
        self.bases.last().copied()
    }

    /// The id under which this history goes on; `None` in v1 and v2.
    #[must_use]
    pub fn current_replication_id(&self) -> Option<ReplicationId> {
        self.replication_ids.last().map(|entry| entry.id)
    }

    /// Makes `id` the current replication id; the one before stays valid up to `end`. Only the
    /// last [`REPLICATION_IDS_MAX`] are kept, and an earlier entry of the same id gives way.
    pub fn begin_replication_id(&mut self, id: ReplicationId, end: Lsn) {
        if let Some(current) = self.replication_ids.last_mut() {
            current.end = Some(end);
        }
        self.replication_ids.retain(|entry| entry.id != id);
        self.replication_ids
            .push(ReplicationIdEntry { id, end: None });
        let surplus = self
            .replication_ids
            .len()
            .saturating_sub(REPLICATION_IDS_MAX);
        self.replication_ids.drain(..surplus);
    }

    /// Gives up everything from `end` on: readers ignore it, no mark vouches for it, and no
    /// earlier replication id is valid beyond it. What lies below was durable, or this would be a
    /// lie. The current id stays; the next start ends it, because the stop was not clean.
    pub fn cut_off_at(&mut self, end: Lsn) {
        self.bases.retain(|base| base.cut <= end);
        for line in &mut self.incrs {
            line.first = line.first.min(end);
            line.end = Some(line.end.unwrap_or(end).min(end));
        }
        for shard in &mut self.shards {
            shard.max_lsn = shard.max_lsn.min(end.0);
        }
        for entry in &mut self.replication_ids {
            entry.end = entry.end.map(|valid| valid.min(end));
        }
        self.clean_stop = None;
        self.closed_at = None;
    }

    /// Checks the invariants of the type.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn check(&self) -> Result<(), InvariantError> {
        if self.layout == AofLayout::TopLevel && self.version != ManifestVersion::V1 {
            return Err(InvariantError::Layout);
        }
        self.check_shards()?;
        self.check_generations()?;
        if self.version == ManifestVersion::V3 {
            self.check_replication_ids()
        } else {
            self.check_legacy()
        }
    }

    fn check_shards(&self) -> Result<(), InvariantError> {
        let count_max = match self.version {
            ManifestVersion::V1 => 1,
            ManifestVersion::V2 => usize::from(u16::MAX),
            ManifestVersion::V3 => usize::from(ShardCount::MAX),
        };
        if self.shards.is_empty() || self.shards.len() > count_max {
            return Err(InvariantError::ShardCount);
        }
        let contiguous = self
            .shards
            .iter()
            .enumerate()
            .all(|(index, shard)| usize::from(shard.shard_id) == index);
        contiguous.then_some(()).ok_or(InvariantError::ShardIds)
    }

    fn check_generations(&self) -> Result<(), InvariantError> {
        let bases_ascend = self
            .bases
            .windows(2)
            .all(|pair| pair[0].seq < pair[1].seq && pair[0].cut <= pair[1].cut);
        let incrs_ascend = self.incrs.windows(2).all(|pair| pair[0].seq < pair[1].seq);
        if !bases_ascend || !incrs_ascend || self.incrs.is_empty() {
            return Err(InvariantError::Generations);
        }
        if self
            .incrs
            .iter()
            .any(|i| i.end.is_some_and(|e| e < i.first))
        {
            return Err(InvariantError::IncrEnd);
        }
        let bases = self.bases.iter().map(|base| base.seq);
        let highest = bases.chain(self.incrs.iter().map(|i| i.seq)).max();
        let first = bases_and_incrs_min(&self.bases, &self.incrs);
        if first == Some(Generation(0)) || highest != Some(self.seq) {
            return Err(InvariantError::Seq);
        }
        if self.preparing.is_some_and(|seq| seq <= self.seq) {
            return Err(InvariantError::Preparing);
        }
        Ok(())
    }

    fn check_replication_ids(&self) -> Result<(), InvariantError> {
        let earlier_have_ends = match self.replication_ids.split_last() {
            Some((current, earlier)) => {
                current.end.is_none() && earlier.iter().all(|entry| entry.end.is_some())
            }
            None => false,
        };
        let few = self.replication_ids.len() <= REPLICATION_IDS_MAX;
        let distinct = (1..self.replication_ids.len()).all(|at| {
            let (earlier, later) = self.replication_ids.split_at(at);
            earlier.iter().all(|entry| entry.id != later[0].id)
        });
        (earlier_have_ends && few && distinct)
            .then_some(())
            .ok_or(InvariantError::ReplicationIds)
    }

    /// v1 and v2 have no place for anything but `seq` and the shards' numbers.
    fn check_legacy(&self) -> Result<(), InvariantError> {
        let one_generation = self.bases
            == [BaseLine {
                seq: self.seq,
                cut: Lsn::ZERO,
            }]
            && self.incrs
                == [IncrLine {
                    seq: self.seq,
                    first: Lsn::ZERO,
                    end: None,
                }];
        let nothing_else = self.history == 0
            && self.replication_ids.is_empty()
            && self.clean_stop.is_none()
            && self.closed_at.is_none()
            && self.preparing.is_none();
        let no_marks = self.version != ManifestVersion::V1 || self.shards[0].max_lsn == 0;
        (one_generation && nothing_else && no_marks)
            .then_some(())
            .ok_or(InvariantError::Legacy)
    }
}

fn bases_and_incrs_min(bases: &[BaseLine], incrs: &[IncrLine]) -> Option<Generation> {
    let bases = bases.iter().map(|base| base.seq);
    bases.chain(incrs.iter().map(|incr| incr.seq)).min()
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
