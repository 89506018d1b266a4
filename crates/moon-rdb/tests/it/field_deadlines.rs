//! Hashes whose fields expire, byte by byte as we read `src/rdb.c` of Redis 7.4: types 24 and 25. No
//! such server is here, so the bytes are made by hand.
//!
//! Type 24: the earliest deadline in Unix milliseconds as eight little-endian bytes, the number of
//! fields as a length, then for each field a length (0 without a deadline, else the deadline less the
//! earliest one plus 1), the field and the value as strings. Type 25: the earliest deadline in the
//! same way, then one string, a listpack of field, value and absolute deadline (0 for none), sorted
//! by deadline with those that have none at the end.

use moon_rdb::{RdbLimits, RdbReader, RdbValue, RdbValueRef, RdbVersion, RdbWriter};

const FIRST: i64 = 0x0000_0123_4567_89ab;

type Fields = Vec<(Vec<u8>, Vec<u8>, Option<i64>)>;

fn fields(fields: &[(&str, &str, Option<i64>)]) -> Fields {
    let owned =
        |(f, v, at): &(&str, &str, Option<i64>)| (f.as_bytes().into(), v.as_bytes().into(), *at);
    fields.iter().map(owned).collect()
}

/// The value that `bytes` are: its type and what follows.
fn read(bytes: &[u8]) -> Result<RdbValue, String> {
    let mut reader = RdbReader::of_value(bytes, RdbLimits::default());
    let value = reader.value_alone().map_err(|error| error.to_string())?;
    Ok(value.to_owned())
}

fn is_read_as(bytes: &[u8], expected: Fields) {
    assert_eq!(read(bytes), Ok(RdbValue::VolatileHash(expected)));
}

fn is_refused(bytes: &[u8], why: &str) {
    let found = read(bytes);
    assert!(found.is_err(), "{why}: {found:?}");
}

/// A listpack of these entries, each of which is its own bytes without the length behind it.
fn listpack(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in entries {
        body.extend_from_slice(entry);
        // Entries here are short, so their length is one byte.
        body.push(u8::try_from(entry.len()).unwrap());
    }
    let total = u32::try_from(body.len() + 7).unwrap();
    let count = u16::try_from(entries.len()).unwrap();
    [
        &total.to_le_bytes()[..],
        &count.to_le_bytes(),
        &body,
        &[0xff],
    ]
    .concat()
}

/// A short string in a listpack.
fn text(text: &str) -> Vec<u8> {
    [&[0x80 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// A number from 0 to 127 in a listpack.
fn small(number: u8) -> Vec<u8> {
    vec![number]
}

/// A number of 64 bits in a listpack.
fn wide(number: i64) -> Vec<u8> {
    [&[0xf4][..], &number.to_le_bytes()].concat()
}

/// Type 25 around these entries.
fn type_25(first: i64, entries: &[Vec<u8>]) -> Vec<u8> {
    let packed = listpack(entries);
    // A length of 14 bits, which any of these fits in.
    let [high, low] = u16::try_from(packed.len()).unwrap().to_be_bytes();
    [
        &[25][..],
        &first.to_le_bytes(),
        &[0x40 | high, low],
        &packed,
    ]
    .concat()
}

/// The bytes between the name of a key and the end of the file.
fn written(first: i64, fields: &Fields) -> Vec<u8> {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V12).unwrap();
    let mut all = fields.iter().map(|(f, v, at)| (&f[..], &v[..], *at));
    let value = RdbValueRef::VolatileHash {
        first,
        fields: &mut all,
    };
    writer.entry(b"KEY", None, value).unwrap();
    let file = writer.finish().unwrap();
    let at = file.windows(4).position(|w| w == b"\x03KEY").unwrap();
    assert_eq!(file[at - 1], 24, "the type stands before the name");
    // Behind the value: the opcode for the end and a checksum.
    file[at + 4..file.len() - 9].to_vec()
}

#[test]
fn type_24_is_written_and_read_as_redis_7_4_describes_it() {
    let all = fields(&[
        ("stays", "v", None),
        ("first", "12", Some(FIRST)),
        ("next", "-1", Some(FIRST + 1)),
        ("at62", "a", Some(FIRST + 62)),
        ("at63", "b", Some(FIRST + 63)),
        ("late", "c", Some(FIRST + 16_383)),
        ("later", "d", Some(FIRST + 0xffff_ffff)),
    ]);
    let by_hand = [
        // The earliest deadline, the lowest byte first.
        &[0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0, 0][..],
        &[7],
        b"\x00\x05stays\x01v",
        // Strings that are numbers are written as such: 12 and -1 in one byte.
        b"\x01\x05first\xc0\x0c",
        b"\x02\x04next\xc0\xff",
        // 63 is the largest length of one byte, 64 the smallest of two.
        b"\x3f\x04at62\x01a",
        b"\x40\x40\x04at63\x01b",
        // 16384 takes four bytes behind one that says so, and 2^32 eight.
        b"\x80\x00\x00\x40\x00\x04late\x01c",
        b"\x81\x00\x00\x00\x01\x00\x00\x00\x00\x05later\x01d",
    ]
    .concat();
    assert_eq!(
        written(FIRST, &all).escape_ascii().to_string(),
        by_hand.escape_ascii().to_string()
    );
    is_read_as(&[&[24], &by_hand[..]].concat(), all);
}

#[test]
fn type_25_is_read_as_redis_7_4_describes_it() {
    let entries = [
        text("a"),
        small(7),
        wide(FIRST),
        text("b"),
        text("2x"),
        wide(FIRST + 5),
        small(3),
        text(""),
        small(0),
    ];
    is_read_as(
        &type_25(FIRST, &entries),
        fields(&[
            ("a", "7", Some(FIRST)),
            ("b", "2x", Some(FIRST + 5)),
            ("3", "", None),
        ]),
    );
    // Without any deadline, as after HPERSIST of the last one; the earliest is then no time.
    let none = [text("a"), small(7), small(0)];
    is_read_as(&type_25(0, &none), fields(&[("a", "7", None)]));
    // A small deadline is a small number, and one in digits is a text.
    let digits = [
        text("a"),
        small(7),
        small(9),
        text("b"),
        small(1),
        text("10"),
    ];
    is_read_as(
        &type_25(9, &digits),
        fields(&[("a", "7", Some(9)), ("b", "1", Some(10))]),
    );
}

#[test]
fn hostile_fields_and_deadlines_are_refused() {
    let first = FIRST.to_le_bytes();
    let type_24 = |parts: &[&[u8]]| [&[24], &first[..], &parts.concat()].concat();
    let far = [&[0x81][..], &(1_u64 << 48).to_be_bytes()].concat();
    let most = [&[0x81][..], &u64::MAX.to_be_bytes()].concat();
    let many = [&[0x81][..], &(1_u64 << 60).to_be_bytes()].concat();
    for (why, bytes) in [
        (
            "a deadline above 48 bits",
            type_24(&[&[1], &far, b"\x01f\x01v"]),
        ),
        (
            "a deadline above 64 bits",
            type_24(&[&[1], &most, b"\x01f\x01v"]),
        ),
        ("2^60 fields", type_24(&[&many, b"\x01\x01f\x01v"])),
        (
            "a special form of a string as a deadline",
            type_24(&[&[1], b"\xc0\x01\x01f\x01v"]),
        ),
        (
            "fewer fields than said",
            type_24(&[&[2], b"\x01\x01f\x01v"]),
        ),
        ("a field without a value", type_24(&[&[1], b"\x01\x01f"])),
        (
            "a value longer than all",
            type_24(&[&[1], b"\x01\x01f\x3fv"]),
        ),
        ("an earliest deadline above 48 bits", {
            [
                &[24][..],
                &(1_i64 << 48).to_le_bytes(),
                &[1],
                b"\x01\x01f\x01v",
            ]
            .concat()
        }),
        ("a negative earliest deadline", {
            [&[24][..], &(-1_i64).to_le_bytes(), &[1], b"\x01\x01f\x01v"].concat()
        }),
        ("a field alone", type_25(FIRST, &[text("f")])),
        (
            "a pair without its deadline",
            type_25(FIRST, &[text("f"), text("v")]),
        ),
        ("half of a second field", {
            type_25(FIRST, &[text("f"), text("v"), small(0), text("g")])
        }),
        (
            "a deadline that is no number",
            type_25(FIRST, &[text("f"), text("v"), text("x")]),
        ),
        (
            "an empty deadline",
            type_25(FIRST, &[text("f"), text("v"), text("")]),
        ),
        (
            "a negative deadline",
            type_25(FIRST, &[text("f"), text("v"), wide(-1)]),
        ),
        (
            "a deadline of 49 bits",
            type_25(FIRST, &[text("f"), text("v"), wide(1 << 48)]),
        ),
        (
            "the greatest deadline",
            type_25(FIRST, &[text("f"), text("v"), wide(i64::MAX)]),
        ),
        ("a deadline in 30 digits", {
            type_25(
                FIRST,
                &[text("f"), text("v"), text("111111111122222222223333333333")],
            )
        }),
        ("no listpack", [&[25][..], &first].concat()),
        ("a listpack of nothing", [&[25][..], &first, &[0]].concat()),
    ] {
        is_refused(&bytes, why);
    }
}

#[test]
fn no_part_of_a_hash_with_deadlines_is_a_value() {
    let all = fields(&[
        ("f", "v", Some(FIRST)),
        ("g", "300", Some(FIRST + 99)),
        ("h", "w", None),
    ]);
    let of_24 = [&[24], &written(FIRST, &all)[..]].concat();
    let of_25 = type_25(
        FIRST,
        &[
            text("f"),
            text("v"),
            wide(FIRST),
            text("h"),
            text("w"),
            small(0),
        ],
    );
    for whole in [of_24, of_25] {
        assert!(read(&whole).is_ok());
        for len in 0..whole.len() {
            is_refused(&whole[..len], &format!("the first {len} bytes"));
        }
    }
}
