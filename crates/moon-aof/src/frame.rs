//! Bytes of one frame: encode and decode, without I/O.
//!
//! A frame is a 40-byte header, the payload, and zero bytes up to the next multiple of eight.
//! Both checksums start from secret values of the segment ([`Seeds`]). So a frame of another
//! segment (recycled blocks) is never taken for one of this one, and a client cannot write a
//! value that passes for a frame.

use moon_core::Lsn;
use moon_repl::FrameKind;

/// Length of a frame header.
pub const HEADER_LEN: usize = 40;
/// Frames start at multiples of this.
pub const ALIGNMENT: u64 = 8;
/// First byte of every frame. Not zero, so that preallocated space is never a frame.
const MAGIC: u8 = 0xA7;

const PART: u8 = 0x10;
const LAST: u8 = 0x20;

const _: () = assert!(HEADER_LEN.is_multiple_of(ALIGNMENT as usize));

/// Where both checksums of a segment start, from the 16 random bytes in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    header: u32,
    payload: u32,
}

impl Seeds {
    /// Two independent starting values.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Seeds {
        Seeds {
            header: crc32fast::hash(&random[..8]),
            payload: crc32fast::hash(&random[8..]),
        }
    }

    /// The checksum of a payload.
    #[must_use]
    pub fn payload_crc(self, payload: &[u8]) -> u32 {
        let mut hasher = self.payload_hasher();
        hasher.update(payload);
        hasher.finalize()
    }

    /// For a payload that is read piece by piece.
    #[must_use]
    pub fn payload_hasher(self) -> crc32fast::Hasher {
        crc32fast::Hasher::new_with_initial(self.payload)
    }

    fn header_crc(self, header: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.header);
        hasher.update(header);
        hasher.finalize()
    }
}

/// Which part of its effects a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of them.
    Whole,
    /// Part of a run; more follow.
    Part,
    /// The end of a run.
    Last,
}

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// All of the effects, or a piece of a run.
    pub piece: Piece,
    /// The database in force at the first byte; 0 for own frames.
    pub db: u16,
    /// Payload length in bytes.
    pub len: u32,
    /// Position of the first payload byte in the stream.
    pub lsn: Lsn,
    /// Everything before it was durable when the frame was written. Never beyond `lsn`.
    pub durable: Lsn,
    /// Unix milliseconds, never less than in the shard's frame before.
    pub time_ms: u64,
    /// Checksum of the payload.
    pub payload_crc: u32,
}

impl FrameHeader {
    /// The first position behind the frame.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(u64::from(self.len)))
    }

    /// Bytes in the file: header, payload and padding.
    #[must_use]
    pub fn bytes_in_file(&self) -> u64 {
        bytes_in_file(u64::from(self.len))
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self, seeds: Seeds) -> [u8; HEADER_LEN] {
        debug_assert!(
            self.durable <= self.lsn,
            "a durable mark lies beyond its frame"
        );
        let mut out = [0; HEADER_LEN];
        out[0] = MAGIC;
        out[1] = kind_byte(self.kind, self.piece);
        out[2..4].copy_from_slice(&self.db.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.durable.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.time_ms.to_le_bytes());
        out[32..36].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = seeds.header_crc(&out[..36]);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in `bytes`, or `None` if these are not the bytes of one: another magic, an
    /// unknown kind, a wrong checksum, a durable mark beyond the frame, or an end beyond 2^64.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_LEN], seeds: Seeds) -> Option<FrameHeader> {
        if bytes[0] != MAGIC || seeds.header_crc(&bytes[..36]) != u32_at(bytes, 36) {
            return None;
        }
        let (kind, piece) = from_kind_byte(bytes[1])?;
        let header = FrameHeader {
            kind,
            piece,
            db: u16::from_le_bytes([bytes[2], bytes[3]]),
            len: u32_at(bytes, 4),
            lsn: Lsn(u64_at(bytes, 8)),
            durable: Lsn(u64_at(bytes, 16)),
            time_ms: u64_at(bytes, 24),
            payload_crc: u32_at(bytes, 32),
        };
        let ends = header.lsn.0.checked_add(u64::from(header.len)).is_some();
        (ends && header.durable <= header.lsn).then_some(header)
    }
}

/// Bytes in the file of a frame with a payload of `len` bytes.
#[must_use]
pub const fn bytes_in_file(len: u64) -> u64 {
    (HEADER_LEN as u64 + len).next_multiple_of(ALIGNMENT)
}

/// The zero bytes behind a payload of `len` bytes.
#[must_use]
pub fn padding(len: u64) -> &'static [u8] {
    let pad = bytes_in_file(len) - HEADER_LEN as u64 - len;
    // Below ALIGNMENT by construction.
    &[0; ALIGNMENT as usize][..usize::try_from(pad).unwrap_or(0)]
}

fn kind_byte(kind: FrameKind, piece: Piece) -> u8 {
    let kind = match kind {
        FrameKind::Own => 1,
        FrameKind::Cross => 2,
        FrameKind::Control => 3,
    };
    kind | match piece {
        Piece::Whole => 0,
        Piece::Part => PART,
        Piece::Last => LAST,
    }
}

fn from_kind_byte(byte: u8) -> Option<(FrameKind, Piece)> {
    let kind = match byte & 0x0f {
        1 => FrameKind::Own,
        2 => FrameKind::Cross,
        3 => FrameKind::Control,
        _ => return None,
    };
    let piece = match byte & 0xf0 {
        0 => Piece::Whole,
        PART => Piece::Part,
        LAST => Piece::Last,
        _ => return None,
    };
    Some((kind, piece))
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Cross,
            piece: Piece::Last,
            db: 3,
            len: 29,
            lsn: Lsn(1234),
            durable: Lsn(1000),
            time_ms: 1_700_000_000_000,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        let seeds = Seeds::new([7; 16]);
        for kind in [FrameKind::Own, FrameKind::Cross, FrameKind::Control] {
            for piece in [Piece::Whole, Piece::Part, Piece::Last] {
                let header = FrameHeader {
                    kind,
                    piece,
                    ..header()
                };
                let bytes = header.encode(seeds);
                assert_eq!(FrameHeader::decode(&bytes, seeds), Some(header));
            }
        }
    }

    #[test]
    fn every_single_bit_flip_in_a_header_is_noticed() {
        let seeds = Seeds::new([7; 16]);
        let bytes = header().encode(seeds);
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&damaged, seeds), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_segment_is_no_frame_here() {
        let bytes = header().encode(Seeds::new([7; 16]));
        assert_eq!(FrameHeader::decode(&bytes, Seeds::new([8; 16])), None);
        assert_eq!(
            FrameHeader::decode(&[0; HEADER_LEN], Seeds::new([7; 16])),
            None
        );
    }

    #[test]
    fn frames_are_padded_to_the_next_aligned_offset() {
        for len in 0..100u64 {
            let total = bytes_in_file(len);
            assert!(total.is_multiple_of(ALIGNMENT));
            assert_eq!(
                HEADER_LEN as u64 + len + padding(len).len() as u64,
                total,
                "length {len}"
            );
        }
    }
}
