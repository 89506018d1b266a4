//! Round trips, limits and damage.

use super::*;
use crate::crc64;
use crate::value::RdbValueRef;
use crate::value::{RdbEntry, RdbValue};
use crate::write::RdbCompression;
use crate::write::{RdbInfo, RdbVersion, RdbWriter};
use proptest::prelude::*;

const INFO: RdbInfo<'static> = RdbInfo {
    redis_ver: "7.2.0",
    ctime_s: 1_700_000_000,
    used_mem_bytes: 1 << 40,
    aof_base: true,
    cut_lsn: Some(u64::MAX),
};

/// As a base is read: without asking for a checksum, a flipped bit in the version digits makes a
/// file look older than checksums are.
const CHECKED: RdbLimits = RdbLimits {
    string_bytes_max: 512 * 1024 * 1024,
    elements_max: 1 << 32,
    require_checksum: true,
};

fn entry(db: u32, key: &[u8], deadline: Option<i64>, value: RdbValue) -> RdbEntry {
    RdbEntry {
        db,
        key: key.to_vec(),
        deadline,
        idle_s: None,
        freq: None,
        value,
    }
}

fn write(version: RdbVersion, entries: &[RdbEntry]) -> Vec<u8> {
    write_with(version, RdbCompression::Off, entries)
}

fn write_with(version: RdbVersion, compression: RdbCompression, entries: &[RdbEntry]) -> Vec<u8> {
    let writer = RdbWriter::header(Vec::new(), version).unwrap();
    let mut writer = writer.with_compression(compression);
    writer.info(&INFO).unwrap();
    let mut db = None;
    for entry in entries {
        if db != Some(entry.db) {
            writer.select_db(entry.db, entries.len() as u64, 0).unwrap();
            db = Some(entry.db);
        }
        let (key, deadline) = (&entry.key, entry.deadline);
        match &entry.value {
            RdbValue::String(bytes) => writer.entry(key, deadline, RdbValueRef::String(bytes)),
            RdbValue::List(elements) => {
                let mut elements = elements.iter().map(Vec::as_slice);
                writer.entry(key, deadline, RdbValueRef::List(&mut elements))
            }
            RdbValue::Set(members) => {
                let mut members = members.iter().map(Vec::as_slice);
                writer.entry(key, deadline, RdbValueRef::Set(&mut members))
            }
            RdbValue::Hash(fields) => {
                let mut fields = fields.iter().map(|(f, v)| (f.as_slice(), v.as_slice()));
                writer.entry(key, deadline, RdbValueRef::Hash(&mut fields))
            }
            RdbValue::VolatileHash(fields) => {
                let first = fields.iter().filter_map(|(_, _, at)| *at).min();
                let first = first.unwrap_or_default();
                let fields = &mut fields.iter().map(|(f, v, at)| (&f[..], &v[..], *at));
                writer.entry(key, deadline, RdbValueRef::VolatileHash { first, fields })
            }
            RdbValue::ZSet(members) => {
                let mut members = members.iter().map(|(m, score)| (m.as_slice(), *score));
                writer.entry(key, deadline, RdbValueRef::ZSet(&mut members))
            }
            RdbValue::Stream(stream) => writer.entry(key, deadline, RdbValueRef::Stream(stream)),
        }
        .unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<RdbItem>, RdbError> {
    RdbReader::new(bytes).collect()
}

fn entries(items: Vec<RdbItem>) -> Vec<RdbEntry> {
    items
        .into_iter()
        .filter_map(|item| match item {
            RdbItem::Entry(entry) => Some(entry),
            _ => None,
        })
        .collect()
}

/// A file of hand-made items with a checksum that fits.
fn sealed(items: &[u8]) -> Vec<u8> {
    let mut bytes = [b"REDIS0011", items, &[opcode::EOF]].concat();
    let crc = crc64::update(0, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn fault(bytes: &[u8]) -> RdbFault {
    match read(bytes) {
        Ok(items) => panic!("accepted: {items:?}"),
        Err(error) => error.fault,
    }
}

fn sample() -> Vec<RdbEntry> {
    vec![
        entry(0, b"greeting", None, RdbValue::String(b"hello".to_vec())),
        entry(
            0,
            b"list",
            Some(1_900_000_000_000),
            RdbValue::List(vec![b"a".to_vec(), b"-7".to_vec(), Vec::new()]),
        ),
        entry(9, b"", None, RdbValue::Set(vec![b"70000".to_vec()])),
        entry(
            9,
            b"hash",
            Some(-1),
            RdbValue::Hash(vec![(b"field".to_vec(), b"300".to_vec())]),
        ),
        entry(
            9,
            b"volatile",
            None,
            RdbValue::VolatileHash(vec![
                (b"stays".to_vec(), b"1".to_vec(), None),
                (b"goes".to_vec(), b"2".to_vec(), Some(1_900_000_000_000)),
                (b"first".to_vec(), b"3".to_vec(), Some(1_800_000_000_000)),
            ]),
        ),
        entry(
            9,
            b"zset",
            None,
            RdbValue::ZSet(vec![
                (b"low".to_vec(), -0.5),
                (b"7".to_vec(), f64::INFINITY),
            ]),
        ),
    ]
}

#[test]
fn what_is_written_is_read_with_its_information() {
    let items = read(&write(RdbVersion::V11, &sample())).unwrap();
    for (key, value) in [
        ("redis-ver", "7.2.0".to_owned()),
        ("redis-bits", "64".to_owned()),
        ("ctime", "1700000000".to_owned()),
        ("used-mem", (1u64 << 40).to_string()),
        ("aof-base", "1".to_owned()),
        ("moon-cut-lsn", u64::MAX.to_string()),
    ] {
        let aux = RdbItem::Aux {
            key: key.into(),
            value: value.into(),
        };
        assert!(items.contains(&aux), "{key}");
    }
    assert!(items.contains(&RdbItem::SelectDb(9)));
    assert!(items.contains(&RdbItem::ResizeDb {
        keys: 6,
        expires: 0
    }));
    assert_eq!(entries(items), sample());
}

#[test]
fn the_versions_differ_in_header_and_checksum_only() {
    let (older, newer) = (
        write(RdbVersion::V10, &sample()),
        write(RdbVersion::V11, &sample()),
    );
    assert_eq!(&older[..9], b"REDIS0010");
    assert_eq!(&newer[..9], b"REDIS0011");
    assert_eq!(older[9..older.len() - 8], newer[9..newer.len() - 8]);
    assert_eq!(entries(read(&older).unwrap()), sample());
}

#[test]
fn every_version_and_both_compressions_come_back() {
    let mut entries_written = sample();
    let long = b"a long string, a long string, and once more a long string".repeat(9);
    entries_written.push(entry(9, &long, None, RdbValue::String(long.clone())));
    entries_written.push(entry(9, b"l", None, RdbValue::List(vec![long.clone(); 3])));
    for (version, digits) in [
        (RdbVersion::V9, b"REDIS0009"),
        (RdbVersion::V10, b"REDIS0010"),
        (RdbVersion::V11, b"REDIS0011"),
        (RdbVersion::V12, b"REDIS0012"),
    ] {
        let plain = write_with(version, RdbCompression::Off, &entries_written);
        let short = write_with(version, RdbCompression::Lzf, &entries_written);
        assert_eq!(&short[..9], digits);
        assert!(plain.len() - short.len() > 4 * (long.len() - 100));
        assert_eq!(entries(read(&plain).unwrap()), entries_written);
        assert_eq!(entries(read(&short).unwrap()), entries_written);
    }
}

/// Bytes of the first example in `docs/format/rdb.md`, a file.
fn documented_file() -> Vec<u8> {
    documented(0)
}

/// Bytes of an example in `docs/format/rdb.md`: two spaces end those of a line.
fn documented(index: usize) -> Vec<u8> {
    let page = include_str!("../../../../docs/format/rdb.md");
    let rest = page.split("```hex\n").nth(index + 1).unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let bytes = block.lines().flat_map(|line| {
        let (bytes, _) = line.split_once("  ").unwrap();
        bytes.split(' ')
    });
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn the_documented_file_is_written_and_read_as_the_page_says() {
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
    writer.aux(b"moon-cut-lsn", b"1200").unwrap();
    writer.select_db(0, 2, 1).unwrap();
    let value = RdbValueRef::String(b"hello");
    writer
        .entry(b"greeting", Some(4_102_444_800_123), value)
        .unwrap();
    let mut elements = [b"1".as_slice(), b"two"].into_iter();
    writer
        .entry(b"numbers", None, RdbValueRef::List(&mut elements))
        .unwrap();
    assert_eq!(writer.finish().unwrap(), documented_file());
    assert_eq!(read(&documented_file()).unwrap().len(), 5);
}

#[test]
fn the_documented_hash_whose_fields_expire_is_written_and_read_as_the_page_says() {
    let at = 4_102_444_800_123;
    let fields = [("user", "ann", None), ("code", "2222", Some(at))];
    let expected = entry(0, b"session", None, volatile_fields(&fields));
    let items = documented(1);
    let expected = [expected];
    assert_eq!(entries(read(&sealed(&items)).unwrap()), expected);
    let written = write(RdbVersion::V12, &expected);
    assert!(written.windows(items.len()).any(|window| window == items));
}

#[test]
fn functions_come_as_their_code_and_slot_hints_are_passed_over() {
    let code = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)";
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V12).unwrap();
    writer.function(code).unwrap();
    writer.select_db(0, 1, 0).unwrap();
    // Slot 16383 with 70000 keys, none of which expires.
    let hint = [opcode::SLOT_INFO, 0x7f, 0xff, 0x80, 0, 1, 0x11, 0x70, 0];
    writer.encoded(&hint).unwrap();
    let value = RdbValueRef::String(b"v");
    writer.entry(b"k", None, value).unwrap();
    let items = read(&writer.finish().unwrap()).unwrap();
    assert_eq!(items[0], RdbItem::Function(code.to_vec()));
    assert_eq!(items.len(), 4, "{items:?}");
    assert_eq!(entries(items)[0].key, b"k");
}

/// The number of the module that keeps JSON documents, as its files have it.
#[test]
fn data_of_a_module_is_refused_with_the_module_named() {
    let number = b"ReJSON-RL".iter().fold(0_u64, |number, character| {
        let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let index = characters.find(char::from(*character)).unwrap();
        number << 6 | index as u64
    });
    let id = (number << 10 | 3).to_be_bytes();
    let items = [&[opcode::MODULE_AUX, 0x81][..], &id, &[2, 2, 0]].concat();
    let fault = fault(&sealed(&items));
    assert_eq!(
        fault.to_string(),
        "data of the module 'ReJSON-RL', which cannot be read"
    );
}

/// In the form of each version of Redis: scores as digits, as doubles, in a ziplist, in a listpack.
#[test]
fn sorted_sets_are_read_from_every_form() {
    let digits = [
        &[3, 1, b'z', 4, 1, b'a', 255, 1, b'b', 2][..],
        b"-3",
        &[1, b'c', 4],
        b"2.75",
    ];
    let digits = [&digits.concat()[..], &[1, b'd', 254]].concat();
    let mut doubles = vec![5, 1, b'z', 4];
    for (member, score) in [
        (b'a', f64::NEG_INFINITY),
        (b'b', -3.0),
        (b'c', 2.75),
        (b'd', f64::INFINITY),
    ] {
        doubles.extend_from_slice(&[1, member]);
        doubles.extend_from_slice(&score.to_le_bytes());
    }
    let texts: [&[u8]; 8] = [b"a", b"-inf", b"b", b"-3", b"c", b"2.75", b"d", b"inf"];
    let listpack = |texts: &[&[u8]]| {
        let mut body = Vec::new();
        for text in texts {
            let len = u8::try_from(text.len()).unwrap();
            body.extend([0x80 | len].iter().chain(*text).chain(&[len + 1]));
        }
        let total = u32::try_from(body.len() + 7).unwrap();
        let mut packed = total.to_le_bytes().to_vec();
        packed.extend_from_slice(&u16::try_from(texts.len()).unwrap().to_le_bytes());
        packed.extend_from_slice(&body);
        packed.push(0xff);
        [
            &[17, 1, b'z', u8::try_from(packed.len()).unwrap()],
            &packed[..],
        ]
        .concat()
    };
    let ziplist = {
        let (mut body, mut before) = (Vec::new(), 0);
        for text in texts {
            let len = u8::try_from(text.len()).unwrap();
            body.extend([before, len].iter().chain(text));
            before = len + 2;
        }
        let total = u32::try_from(body.len() + 11).unwrap();
        let tail = total - 1 - u32::from(before);
        let mut packed = [total.to_le_bytes(), tail.to_le_bytes()].concat();
        packed.extend_from_slice(&8_u16.to_le_bytes());
        packed.extend_from_slice(&body);
        packed.push(0xff);
        [
            &[12, 1, b'z', u8::try_from(packed.len()).unwrap()],
            &packed[..],
        ]
        .concat()
    };
    let expected: Vec<_> = [
        (b"a".to_vec(), f64::NEG_INFINITY),
        (b"b".to_vec(), -3.0),
        (b"c".to_vec(), 2.75),
        (b"d".to_vec(), f64::INFINITY),
    ]
    .into();
    for items in [digits, doubles, ziplist, listpack(&texts)] {
        let read = entries(read(&sealed(&items)).unwrap());
        assert_eq!(
            read[0].value,
            RdbValue::ZSet(expected.clone()),
            "type {}",
            items[0]
        );
    }
    for bad in [
        &[3, 1, b'z', 1, 1, b'a', 253][..],
        &[3, 1, b'z', 1, 1, b'a', 1, b'x'],
        &[3, 1, b'z', 1, 1, b'a', 3, b'n', b'a', b'n'],
        &[&[5, 1, b'z', 1, 1, b'a'][..], &f64::NAN.to_le_bytes()].concat(),
        &listpack(&[b"a", b"x"]),
        &listpack(&[b"a", b"nan"]),
    ] {
        assert!(matches!(fault(&sealed(bad)), RdbFault::BadScore), "{bad:?}");
    }
    let odd = fault(&sealed(&listpack(&[b"a", b"1", b"b"])));
    assert!(matches!(odd, RdbFault::BadCompact("listpack")), "{odd}");
}

#[test]
fn types_that_are_not_read_are_named() {
    for (kind, name) in [
        (7, "module value"),
        (9, "hash in the form of Redis before 2.6"),
        (26, "value of unknown type"),
        (242, "value of unknown type"),
    ] {
        match fault(&sealed(&[kind, 1, b'k', 1, 2])) {
            RdbFault::UnsupportedType { key, type_name, .. } => {
                assert_eq!((key.as_slice(), type_name), (&b"k"[..], name), "{kind}");
            }
            other => panic!("{kind}: {other}"),
        }
    }
}

fn volatile_fields(fields: &[(&str, &str, Option<i64>)]) -> RdbValue {
    let field = |(name, value, at): &(&str, &str, Option<i64>)| {
        (name.as_bytes().to_vec(), value.as_bytes().to_vec(), *at)
    };
    RdbValue::VolatileHash(fields.iter().map(field).collect())
}

/// The forms of Redis 7.4 and of its release candidates, as `src/rdb.c` there writes them.
#[test]
fn hashes_whose_fields_expire_are_read_in_every_form() {
    const FIRST: i64 = 1_900_000_000_000;
    let absolute = FIRST.to_le_bytes();
    // A length of 64 bits.
    let long = [&[0x81][..], &FIRST.to_be_bytes()].concat();
    let expected = volatile_fields(&[
        ("a", "1", Some(FIRST)),
        ("b", "2", None),
        ("c", "3", Some(FIRST + 4)),
    ]);
    let pairs: [&[u8]; 3] = [b"\x01a\x011", b"\x01b\x012", b"\x01c\x013"];
    let relative = [
        &absolute[..],
        &[3],
        &[1],
        pairs[0],
        &[0],
        pairs[1],
        &[5],
        pairs[2],
    ]
    .concat();
    let later = [&[0x81][..], &(FIRST + 4).to_be_bytes()].concat();
    let without_first = [&[3][..], &long, pairs[0], &[0], pairs[1], &later, pairs[2]].concat();

    // Field, value, 64-bit integer; field, value, 0; each with its length behind it.
    let wide = |number: i64| [&[0xf4][..], &number.to_le_bytes(), &[9]].concat();
    let body = [
        &b"\x81b\x02\x02\x01\x00\x01"[..],
        b"\x81a\x02\x01\x01",
        &wide(FIRST),
        b"\x81c\x02\x03\x01",
        &wide(FIRST + 4),
    ]
    .concat();
    let total = u32::try_from(body.len() + 7).unwrap();
    let listpack = [&total.to_le_bytes()[..], &[9, 0], &body, &[0xff]].concat();
    let packed = [&[u8::try_from(listpack.len()).unwrap()][..], &listpack].concat();
    let in_order_of_deadlines = volatile_fields(&[
        ("b", "2", None),
        ("a", "1", Some(FIRST)),
        ("c", "3", Some(FIRST + 4)),
    ]);

    for (kind, value, expected) in [
        (24, relative, &expected),
        (22, without_first, &expected),
        (
            25,
            [&absolute[..], &packed].concat(),
            &in_order_of_deadlines,
        ),
        (23, packed, &in_order_of_deadlines),
    ] {
        let items = [&[kind, 1, b'k'][..], &value].concat();
        let found = entries(read(&sealed(&items)).unwrap());
        assert_eq!(
            found,
            [entry(0, b"k", None, expected.clone())],
            "type {kind}"
        );
    }
}

#[test]
fn deadlines_of_fields_that_are_no_times_are_refused() {
    let first = 5_i64.to_le_bytes();
    let far = [&[0x81][..], &u64::MAX.to_be_bytes(), b"\x01a\x011"].concat();
    for value in [
        [&u64::MAX.to_le_bytes()[..], &[1, 1], b"\x01a\x011"].concat(),
        [&first[..], &[1], &far].concat(),
    ] {
        let items = [&[24, 1, b'k'][..], &value].concat();
        let found = fault(&sealed(&items));
        assert!(matches!(found, RdbFault::BadFieldDeadline(_)), "{found}");
    }
    let items = [&[22, 1, b'k', 1][..], &far].concat();
    let found = fault(&sealed(&items));
    assert!(matches!(found, RdbFault::BadFieldDeadline(_)), "{found}");
}

#[test]
fn integers_take_their_short_form_and_come_back_as_spelled() {
    let sizes = [
        ("0", 2),
        ("-128", 2),
        ("128", 3),
        ("-32768", 3),
        ("32768", 5),
        ("2147483647", 5),
        ("-2147483648", 5),
        ("2147483648", 11),
        ("-0", 3),
        ("007", 4),
        ("+1", 3),
        ("-", 2),
        ("", 1),
    ];
    let empty = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
    let frame = empty.finish().unwrap().len() + 3;
    for (text, size) in sizes {
        let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
        let value = RdbValueRef::String(text.as_bytes());
        writer.entry(b"k", None, value).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() - frame, size, "{text:?}");
        let read = entries(read(&bytes).unwrap());
        assert_eq!(read[0].value, RdbValue::String(text.into()));
    }
}

#[test]
fn lengths_of_every_size_come_back() {
    for len in [0, 63, 64, 16_383, 16_384, 70_000] {
        let written = [entry(0, b"k", None, RdbValue::String(vec![b'x'; len]))];
        assert_eq!(
            entries(read(&write(RdbVersion::V11, &written)).unwrap()),
            written
        );
    }
}

#[test]
fn a_collection_that_lies_about_its_length_is_not_written() {
    struct Short(usize);
    impl Iterator for Short {
        type Item = &'static [u8];
        fn next(&mut self) -> Option<Self::Item> {
            self.0 = self.0.checked_sub(1)?;
            Some(b"x")
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.0 + 1, Some(self.0 + 1))
        }
    }
    impl ExactSizeIterator for Short {}
    let mut writer = RdbWriter::header(Vec::new(), RdbVersion::V11).unwrap();
    assert!(
        writer
            .entry(b"k", None, RdbValueRef::Set(&mut Short(2)))
            .is_err()
    );
    let mut none = std::iter::empty();
    assert!(
        writer
            .entry(b"k", None, RdbValueRef::List(&mut none))
            .is_err()
    );
}

#[test]
fn eviction_marks_and_old_deadlines_are_read() {
    let items = [
        &[opcode::EXPIRETIME, 10, 0, 0, 0][..],
        &[opcode::IDLE, 0x40, 0xff, opcode::FREQ, 7],
        &[kind::STRING, 1, b'k', 1, b'v'],
    ]
    .concat();
    let read = entries(read(&sealed(&items)).unwrap());
    assert_eq!(read[0].deadline, Some(10_000));
    assert_eq!(read[0].idle_s, Some(255));
    assert_eq!(read[0].freq, Some(7));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let good = write(RdbVersion::V11, &sample());
    for end in 0..good.len() {
        assert!(
            matches!(fault(&good[..end]), RdbFault::Truncated),
            "cut at {end}"
        );
    }
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut reader = RdbReader::with_limits(flipped.as_slice(), CHECKED);
        assert!(reader.any(|item| item.is_err()), "bit {bit}");
    }
}

#[test]
fn each_fault_is_named() {
    let string = [kind::STRING, 1, b'k'];
    type Expected = fn(&RdbFault) -> bool;
    let faults: Vec<(Vec<u8>, Expected)> = vec![
        (b"RESP0011\xff".to_vec(), |f| matches!(f, RdbFault::NotRdb)),
        (b"REDIS00x1".to_vec(), |f| matches!(f, RdbFault::NotRdb)),
        (b"REDIS0099".to_vec(), |f| {
            matches!(
                f,
                RdbFault::NewerVersion {
                    found: 99,
                    newest: 12
                }
            )
        }),
        (
            sealed(&[7, 1, b'k']),
            |f| matches!(f, RdbFault::UnsupportedType { kind: 7, key, .. } if key == b"k"),
        ),
        (b"VALKEY080".to_vec(), |f| {
            matches!(f, RdbFault::NewerVersion { found: 80, .. })
        }),
        (sealed(&[246]), |f| {
            matches!(f, RdbFault::UnsupportedOpcode { opcode: 246, .. })
        }),
        (sealed(&[243]), |f| {
            matches!(f, RdbFault::UnsupportedOpcode { opcode: 243, .. })
        }),
        (sealed(&[opcode::FREQ, 1]), |f| {
            matches!(f, RdbFault::MisplacedOpcode(opcode::EOF))
        }),
        (sealed(&[&string[..], &[0x9f]].concat()), |f| {
            matches!(f, RdbFault::BadLength(0x9f))
        }),
        (sealed(&[kind::LIST, 1, b'k', 0xc0, 1]), |f| {
            matches!(f, RdbFault::BadLength(0xc0))
        }),
        (sealed(&[&string[..], &[0x81], &[0xff; 8]].concat()), |f| {
            matches!(f, RdbFault::TooLong { .. })
        }),
        // Claims 256 MiB and holds a few bytes: refused by what comes, not by allocating.
        (
            sealed(&[&string[..], &[0x80, 0x10, 0, 0, 0]].concat()),
            |f| matches!(f, RdbFault::Truncated),
        ),
        (
            sealed(&[&string[..], &[0xc3, 1, 0x44, 0, 0]].concat()),
            |f| matches!(f, RdbFault::BadLzf),
        ),
        (sealed(&[kind::LIST, 1, b'k', 0]), |f| {
            matches!(f, RdbFault::EmptyCollection)
        }),
        (sealed(&[kind::SET_INTSET, 1, b'k', 0]), |f| {
            matches!(f, RdbFault::BadCompact("intset"))
        }),
    ];
    for (number, (bytes, expected)) in faults.iter().enumerate() {
        let found = fault(bytes);
        assert!(expected(&found), "case {number}: {found:?}");
    }
}

#[test]
fn a_missing_checksum_is_accepted_unless_one_is_asked_for() {
    let mut bytes = write(RdbVersion::V11, &sample());
    let at = bytes.len() - 8;
    bytes[at..].fill(0);
    assert_eq!(entries(read(&bytes).unwrap()), sample());
    let last = RdbReader::with_limits(bytes.as_slice(), CHECKED).last();
    let Some(Err(error)) = last else {
        panic!("accepted: {last:?}");
    };
    assert!(matches!(error.fault, RdbFault::NoChecksum));
}

#[test]
fn reading_stops_right_behind_the_checksum() {
    let good = write(RdbVersion::V11, &sample());
    let more = [&good[..], b"*1\r\n"].concat();
    let mut reader = RdbReader::new(more.as_slice());
    assert!(reader.by_ref().all(|item| item.is_ok()));
    assert!(reader.next().is_none());
    assert_eq!(reader.offset(), good.len() as u64);
    assert_eq!(reader.into_inner(), b"*1\r\n");
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        any::<i16>().prop_map(|number| number.to_string().into_bytes()),
        ("[a-c]{1,9}", 1..40_usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ]
}

fn values() -> impl Strategy<Value = RdbValue> {
    let elements = || prop::collection::vec(bytes(), 1..80);
    prop_oneof![
        bytes().prop_map(RdbValue::String),
        elements().prop_map(RdbValue::List),
        elements().prop_map(RdbValue::Set),
        prop::collection::vec((bytes(), bytes()), 1..80).prop_map(RdbValue::Hash),
        prop::collection::vec((bytes(), bytes(), prop::option::of(0..1_i64 << 48)), 1..80)
            .prop_map(RdbValue::VolatileHash),
        prop::collection::vec((bytes(), -1e300..1e300), 1..80).prop_map(RdbValue::ZSet),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_keyspace_round_trips(
        keys in prop::collection::vec(
            (0..16u32, bytes(), prop::option::of(any::<i64>()), values()),
            0..20,
        ),
    ) {
        let written: Vec<RdbEntry> = keys
            .into_iter()
            .map(|(db, key, deadline, value)| entry(db, &key, deadline, value))
            .collect();
        for compression in [RdbCompression::Off, RdbCompression::Lzf] {
            let read = read(&write_with(RdbVersion::V12, compression, &written)).unwrap();
            prop_assert_eq!(entries(read), written.clone());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        kind in prop::sample::select(vec![
            0u8, 1, 2, 4, 10, 11, 13, 14, 16, 18, 20, 22, 23, 24, 25, opcode::SLOT_INFO, opcode::FUNCTION2,
            opcode::MODULE_AUX, opcode::IDLE, opcode::AUX, opcode::RESIZEDB,
        ]),
        head in prop::sample::select(vec![&[1_u8, b'k'][..], &[], &[1, b'k', 0xc3, 20, 200]]),
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let items = [&[kind][..], head, &body].concat();
        drop(read(&sealed(&items)));
        for unpack in [compact::listpack, compact::ziplist, compact::intset] {
            drop(unpack(&body, &mut Elements::default()));
        }
    }
}
