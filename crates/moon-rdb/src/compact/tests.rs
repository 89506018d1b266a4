//! Compact encodings, byte by byte.

use super::*;

/// A listpack around encoded elements; backward lengths are added here.
fn packed(elements: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for element in elements {
        body.extend_from_slice(element);
        match element.len() {
            short @ 0..=127 => body.push(u8::try_from(short).unwrap()),
            long => {
                body.push(u8::try_from(long >> 7).unwrap());
                body.push(u8::try_from(long & 0x7f).unwrap() | 0x80);
            }
        }
    }
    let total = u32::try_from(body.len() + 7).unwrap();
    let count = u16::try_from(elements.len()).unwrap();
    [
        &total.to_le_bytes()[..],
        &count.to_le_bytes(),
        &body,
        &[END],
    ]
    .concat()
}

type Unpack = fn(&[u8], &mut Elements) -> Result<(), RdbFault>;

/// The elements behind one that is there already.
fn unpack(unpack: Unpack, bytes: &[u8]) -> Result<Vec<Vec<u8>>, RdbFault> {
    let mut elements = Elements::default();
    elements.push(b"before");
    unpack(bytes, &mut elements)?;
    Ok(elements.iter().skip(1).map(<[u8]>::to_vec).collect())
}

fn texts(elements: &[&str]) -> Vec<Vec<u8>> {
    elements.iter().map(|e| e.as_bytes().to_vec()).collect()
}

#[test]
fn every_listpack_encoding_is_read() {
    let long = [&[0xe0, 200][..], &[b'x'; 200]].concat();
    let huge = [&[0xf0, 3, 0, 0, 0][..], b"abc"].concat();
    let bytes = packed(&[
        &[0],
        &[127],
        &[0x82, b'h', b'i'],
        &[0x80],
        &[0xdf, 0xff],
        &[0xcf, 0xff],
        &[0xd0, 0x00],
        &long,
        &huge,
        &[0xf1, 0x00, 0x80],
        &[0xf2, 0xff, 0xff, 0x7f],
        &[0xf3, 0xff, 0xff, 0xff, 0xff],
        &[0xf4, 0, 0, 0, 0, 0, 0, 0, 0x80],
    ]);
    let mut expected = texts(&["0", "127", "hi", "", "-1", "4095", "-4096"]);
    expected.push(vec![b'x'; 200]);
    expected.extend(texts(&[
        "abc",
        "-32768",
        "8388607",
        "-1",
        "-9223372036854775808",
    ]));
    assert_eq!(unpack(listpack, &bytes).unwrap(), expected);
}

#[test]
fn every_ziplist_encoding_is_read() {
    let long = [&[0x40, 255][..], &[b'y'; 255]].concat();
    let huge = [&[0x80, 0, 0, 0, 2][..], b"ok"].concat();
    let entries: [&[u8]; 9] = [
        &[0x02, b'h', b'i'],
        &long,
        &huge,
        &[0xc0, 0xff, 0xff],
        &[0xd0, 1, 0, 0, 0],
        &[0xe0, 2, 0, 0, 0, 0, 0, 0, 0],
        &[0xf0, 0, 0, 0x80],
        &[0xfe, 0x80],
        &[0xfd],
    ];
    let mut body = Vec::new();
    let mut previous = 0;
    for entry in entries {
        let start = body.len();
        match u8::try_from(previous) {
            Ok(short) if short < 0xfe => body.push(short),
            _ => {
                body.push(0xfe);
                body.extend_from_slice(&u32::try_from(previous).unwrap().to_le_bytes());
            }
        }
        body.extend_from_slice(entry);
        previous = body.len() - start;
    }
    let total = u32::try_from(body.len() + 11).unwrap().to_le_bytes();
    let bytes = [&total[..], &[0; 4], &[9, 0], &body, &[END]].concat();
    let mut expected = texts(&["hi"]);
    expected.push(vec![b'y'; 255]);
    expected.extend(texts(&["ok", "-1", "1", "2", "-8388608", "-128", "12"]));
    assert_eq!(unpack(ziplist, &bytes).unwrap(), expected);
    for end in 0..bytes.len() {
        assert!(unpack(ziplist, &bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn intsets_of_every_width_are_read() {
    for (width, bytes) in [
        (2u32, &[0xff, 0xff, 5, 0][..]),
        (4, &[0xff, 0xff, 0xff, 0xff, 5, 0, 0, 0]),
    ] {
        let bytes = [&width.to_le_bytes()[..], &2u32.to_le_bytes(), bytes].concat();
        assert_eq!(unpack(intset, &bytes).unwrap(), texts(&["-1", "5"]));
    }
    let wide = [
        &8u32.to_le_bytes()[..],
        &1u32.to_le_bytes(),
        &i64::MIN.to_le_bytes(),
    ]
    .concat();
    assert_eq!(
        unpack(intset, &wide).unwrap(),
        texts(&["-9223372036854775808"])
    );
}

#[test]
fn compact_damage_is_refused() {
    let good = packed(&[&[1], &[0x82, b'h', b'i']]);
    assert!(unpack(listpack, &good).is_ok());
    for end in 0..good.len() {
        assert!(unpack(listpack, &good[..end]).is_err(), "cut at {end}");
    }
    for at in [0, 4, 7, 8, 11, 12] {
        let mut changed = good.clone();
        changed[at] ^= 0x41;
        assert!(unpack(listpack, &changed).is_err(), "changed at {at}");
    }
    let width_three = [&3u32.to_le_bytes()[..], &1u32.to_le_bytes(), &[0; 3]].concat();
    let unsorted = [&2u32.to_le_bytes()[..], &2u32.to_le_bytes(), &[5, 0, 5, 0]].concat();
    let too_many = [&8u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &[0; 8]].concat();
    for bytes in [width_three, unsorted, too_many] {
        assert!(unpack(intset, &bytes).is_err(), "{bytes:?}");
    }
}
