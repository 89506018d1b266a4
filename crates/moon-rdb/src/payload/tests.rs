//! Payloads that Redis 7.0 made, and damage.

use super::*;
use crate::encode::{self, Compressor, ValueKind};
use crate::{RdbFault, RdbLimits, RdbReadValue, RdbReader};

/// `DUMP` of a string, as this crate makes it.
fn dumped(string: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::value_head(&mut out, ValueKind::String);
    encode::string_compressed(&mut out, string, &mut Compressor::default());
    seal(&mut out, 0);
    out
}

#[test]
fn what_redis_dumped_is_what_is_dumped_here() {
    let long = b"hello hello hello hello hello";
    let cases: [(&[u8], &[u8]); 4] = [
        (b"10", b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb"),
        (b"", b"\x00\x00\n\x00]\x9b\\@\x0f\x7f\xa2\xda"),
        (b"abc", b"\x00\x03abc\n\x00\xd9\xac0=Ar\xa2\xe2"),
        (
            long,
            b"\x00\xc3\x0e\x1d\x06hello h\xe0\x0b\x05\x01lo\n\x00\xc9>Ge\\ \x19A",
        ),
    ];
    for (string, expected) in cases {
        assert_eq!(
            dumped(string).escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}

#[test]
fn a_sealed_payload_opens_and_no_flipped_bit_does() {
    let payload = dumped(b"some value");
    let value = open(&payload).expect("just sealed");
    let mut reader = RdbReader::of_value(value, RdbLimits::default());
    let read = reader.value_alone().expect("a string");
    assert_eq!(read, RdbReadValue::String(b"some value"));
    for bit in 0..payload.len() * 8 {
        let mut damaged = payload.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..payload.len() {
        assert!(open(&payload[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn newer_versions_and_bytes_behind_the_value_are_refused() {
    let mut payload = dumped(b"v");
    let version_at = payload.len() - FOOTER_BYTES;
    payload[version_at] = 13;
    assert_eq!(
        open(&payload),
        Err(PayloadError::NewerVersion { found: 13 })
    );
    for (bytes, behind) in [(&b"\x00\x01vx"[..], 1), (b"\x00\x00\x00\x00", 2)] {
        let mut reader = RdbReader::of_value(bytes, RdbLimits::default());
        let error = reader.value_alone().expect_err("too many bytes");
        assert!(
            matches!(error.fault, RdbFault::BytesBehindValue { bytes } if bytes == behind),
            "{error}"
        );
    }
    for bytes in [
        &b""[..],
        b"\x00",
        b"\xfa\x00",
        b"\x02\x00",
        b"\x01\x01",
        b"\x63\x01",
    ] {
        assert!(
            RdbReader::of_value(bytes, RdbLimits::default())
                .value_alone()
                .is_err()
        );
    }
}
