//! One value apart from any file, as DUMP hands it out and RESTORE takes it back.
//!
//! A payload is the type of the value, the value as a file has it, the version of the format in
//! two bytes and a CRC64 of everything before it, both little-endian. It names no key and no
//! deadline.

use crate::crc64;
use crate::format::{VERSION_NEWEST, kind};

/// Version and checksum.
pub const FOOTER_BYTES: usize = 10;

/// The version that a payload carries: the oldest that has its type, and none below 10, that of
/// Redis 7.0.
fn version_of(kind: u8) -> u16 {
    match kind {
        ..=kind::STREAM_2 => 10,
        kind::SET_LISTPACK | kind::STREAM_3 => 11,
        _ => 12,
    }
}

/// That of the first server with functions, Redis 7.0.
const VERSION_OF_FUNCTIONS: u16 = 10;

/// What [`open`] may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// There is no room for version and checksum.
    #[error("a payload of {bytes} bytes")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// A newer version of the format.
    #[error("a payload of version {found}, newer than {VERSION_NEWEST}")]
    NewerVersion {
        /// The version it says.
        found: u16,
    },
    /// The checksum is of other bytes.
    #[error("a payload whose checksum is wrong")]
    BadChecksum,
}

/// Ends the payload that begins at `start`, where a type and a value of it stand.
pub fn seal(out: &mut Vec<u8>, start: usize) {
    let version = version_of(out.get(start).copied().unwrap_or_default());
    out.extend_from_slice(&version.to_le_bytes());
    let crc = crc64::update(0, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Ends a payload of functions, which may have none: FUNCTION DUMP's.
pub fn seal_functions(out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION_OF_FUNCTIONS.to_le_bytes());
    let crc = crc64::update(0, out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Checks version and checksum, and returns type and value, which may be anything still: a
/// checksum is no proof of who made them.
///
/// # Errors
/// [`PayloadError`].
pub fn open(payload: &[u8]) -> Result<&[u8], PayloadError> {
    let too_short = PayloadError::TooShort {
        bytes: payload.len(),
    };
    let (covered, crc) = payload.split_last_chunk::<8>().ok_or(too_short)?;
    let (value, version) = covered.split_last_chunk::<2>().ok_or(too_short)?;
    let found = u16::from_le_bytes(*version);
    if u32::from(found) > VERSION_NEWEST {
        return Err(PayloadError::NewerVersion { found });
    }
    if crc64::update(0, covered) != u64::from_le_bytes(*crc) {
        return Err(PayloadError::BadChecksum);
    }
    Ok(value)
}

#[cfg(test)]
#[path = "payload/tests.rs"]
mod tests;
