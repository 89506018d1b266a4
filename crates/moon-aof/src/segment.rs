//! The fixed header of a segment (one incr file of one shard).

use crate::frame::Seeds;
use moon_core::{Generation, ShardCount, ShardId};

/// Length of a segment header; the first frame starts here.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// The version this crate writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 3;
const MAGIC: [u8; 8] = *b"MOON-AOF";

/// What a segment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose frames the segment holds.
    pub shard: ShardId,
    /// How many shards the log has.
    pub shards: ShardCount,
    /// The generation the segment belongs to.
    pub seq: Generation,
    /// The history the frames belong to.
    pub history: u64,
    /// Seeds all checksums of the segment. Never shown to clients.
    pub random: [u8; 16],
}

/// Why some bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentHeaderError {
    /// Fewer than 64 bytes.
    #[error("the file ends inside the segment header")]
    Short,
    /// The first bytes are another format's.
    #[error("the file does not start with the segment magic")]
    Magic,
    /// Written by another version.
    #[error("segment format version {0} is not supported")]
    Version(u32),
    /// The checksum does not match.
    #[error("the checksum of the segment header is wrong")]
    Checksum,
    /// A shard count of 0 or above the maximum, or a shard outside the count.
    #[error("the segment header names an impossible shard")]
    Shard,
}

impl SegmentHeader {
    /// The values that seed this segment's checksums.
    #[must_use]
    pub fn seeds(&self) -> Seeds {
        Seeds::new(self.random)
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..14].copy_from_slice(&self.shard.0.to_le_bytes());
        out[14..16].copy_from_slice(&self.shards.get().to_le_bytes());
        out[16..24].copy_from_slice(&self.seq.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.history.to_le_bytes());
        out[32..48].copy_from_slice(&self.random);
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`.
    ///
    /// # Errors
    /// Says what is wrong with the bytes. The version is checked before the checksum, so that a
    /// file of a later version is called by its name.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, SegmentHeaderError> {
        let bytes: &[u8; SEGMENT_HEADER_LEN] = bytes
            .get(..SEGMENT_HEADER_LEN)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(SegmentHeaderError::Short)?;
        if bytes[..8] != MAGIC {
            return Err(SegmentHeaderError::Magic);
        }
        let version = u32::from_le_bytes(array(bytes, 8));
        if version != FORMAT_VERSION {
            return Err(SegmentHeaderError::Version(version));
        }
        if crc32fast::hash(&bytes[..60]) != u32::from_le_bytes(array(bytes, 60)) {
            return Err(SegmentHeaderError::Checksum);
        }
        let shard = ShardId(u16::from_le_bytes(array(bytes, 12)));
        let shards = ShardCount::new(u16::from_le_bytes(array(bytes, 14)))
            .filter(|shards| shard.0 < shards.get())
            .ok_or(SegmentHeaderError::Shard)?;
        Ok(SegmentHeader {
            shard,
            shards,
            seq: Generation(u64::from_le_bytes(array(bytes, 16))),
            history: u64::from_le_bytes(array(bytes, 24)),
            random: array(bytes, 32),
        })
    }
}

fn array<const N: usize>(bytes: &[u8; SEGMENT_HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            shard: ShardId(3),
            shards: ShardCount::new(8).expect("in range"),
            seq: Generation(12),
            history: 2,
            random: *b"sixteen  random!",
        }
    }

    #[test]
    fn a_segment_header_comes_back_as_it_was() {
        assert_eq!(SegmentHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn every_single_bit_flip_in_a_segment_header_is_noticed() {
        let bytes = header().encode();
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(
            SegmentHeader::decode(&bytes[..63]),
            Err(SegmentHeaderError::Short)
        );
    }

    #[test]
    fn a_later_version_is_called_by_its_name() {
        let mut bytes = header().encode();
        bytes[8] = 4;
        assert_eq!(
            SegmentHeader::decode(&bytes),
            Err(SegmentHeaderError::Version(4))
        );
    }
}
