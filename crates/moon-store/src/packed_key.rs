//! A stored key: bytes, access clock and flags in 24 bytes.
//!
//! Keys up to 19 bytes lie in place, so a look-up of a short key touches no other memory.

use crate::clock::AccessClock;

/// Longest key kept in place, in bytes.
const SHORT_LEN_MAX: usize = 19;

/// Flag: the key has a deadline, which the side table holds.
const HAS_DEADLINE: u8 = 0x80;
/// Flag: the value is out on a mutable reference, so its memory is not accounted yet.
const UNSETTLED: u8 = 0x40;
/// The rest of `meta`: the length of a short key.
const LEN: u8 = 0x3f;

/// A key with what is known about it besides its value.
//
// `repr(u8)` fixes the order of fields, so that clock and meta lie at the same place in both
// variants and reading them needs no branch.
#[repr(u8)]
#[derive(Clone, Debug)]
pub(crate) enum PackedKey {
    Short {
        clock: [u8; 3],
        meta: u8,
        bytes: [u8; SHORT_LEN_MAX],
    },
    Long {
        clock: [u8; 3],
        meta: u8,
        bytes: Box<[u8]>,
    },
}

const _: () = assert!(size_of::<PackedKey>() == 24);

impl PackedKey {
    #[inline]
    pub(crate) fn new(key: &[u8], clock: AccessClock) -> PackedKey {
        let clock = clock.to_bytes();
        if key.len() <= SHORT_LEN_MAX {
            let mut bytes = [0; SHORT_LEN_MAX];
            bytes[..key.len()].copy_from_slice(key);
            let meta = key.len() as u8;
            PackedKey::Short { clock, meta, bytes }
        } else {
            let (meta, bytes) = (0, key.into());
            PackedKey::Long { clock, meta, bytes }
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            PackedKey::Short { meta, bytes, .. } => &bytes[..usize::from(meta & LEN)],
            PackedKey::Long { bytes, .. } => bytes,
        }
    }

    #[inline]
    fn meta(&self) -> u8 {
        match self {
            PackedKey::Short { meta, .. } | PackedKey::Long { meta, .. } => *meta,
        }
    }

    #[inline]
    fn set(&mut self, flag: u8, on: bool) {
        match self {
            PackedKey::Short { meta, .. } | PackedKey::Long { meta, .. } => {
                *meta = if on { *meta | flag } else { *meta & !flag };
            }
        }
    }

    #[inline]
    pub(crate) fn has_deadline(&self) -> bool {
        self.meta() & HAS_DEADLINE != 0
    }

    #[inline]
    pub(crate) fn set_has_deadline(&mut self, on: bool) {
        self.set(HAS_DEADLINE, on);
    }

    #[inline]
    pub(crate) fn is_unsettled(&self) -> bool {
        self.meta() & UNSETTLED != 0
    }

    #[inline]
    pub(crate) fn set_unsettled(&mut self, on: bool) {
        self.set(UNSETTLED, on);
    }

    pub(crate) fn clock(&self) -> AccessClock {
        match self {
            PackedKey::Short { clock, .. } | PackedKey::Long { clock, .. } => {
                AccessClock::from_bytes(*clock)
            }
        }
    }

    #[inline]
    pub(crate) fn set_clock(&mut self, to: AccessClock) {
        match self {
            PackedKey::Short { clock, .. } | PackedKey::Long { clock, .. } => {
                *clock = to.to_bytes();
            }
        }
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        match self {
            PackedKey::Short { .. } => 0,
            PackedKey::Long { bytes, .. } => crate::memory::allocated(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_keep_bytes_clock_and_flags_apart() {
        for len in 0..70 {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8 ^ 0xff).collect();
            let mut key = PackedKey::new(&bytes, AccessClock::from_seconds(0xabcdef));
            assert_eq!(key.memory() == 0, len <= SHORT_LEN_MAX);
            for (deadline, unsettled) in [(true, false), (true, true), (false, true)] {
                key.set_has_deadline(deadline);
                key.set_unsettled(unsettled);
                assert_eq!(key.has_deadline(), deadline);
                assert_eq!(key.is_unsettled(), unsettled);
                assert_eq!(key.as_bytes(), bytes);
                assert_eq!(key.clock(), AccessClock::from_seconds(0xabcdef));
            }
            key.set_clock(AccessClock::from_seconds(1));
            assert_eq!(key.clock(), AccessClock::from_seconds(1));
            assert_eq!(key.as_bytes(), bytes);
        }
    }
}
