//! Listpacks against the elements they were made of.

use super::*;
use proptest::prelude::*;

fn text(element: Element<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    element.spell(&mut out);
    out
}

fn forwards(pack: &Listpack) -> Vec<Vec<u8>> {
    let mut at = HEADER_BYTES;
    let mut found = Vec::new();
    while let Some((element, next)) = pack.element(at) {
        assert_eq!(pack.skip(at), Some(next));
        assert_eq!(pack.before(next), Some(at));
        found.push(text(element));
        at = next;
    }
    assert_eq!(at, pack.end());
    found
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        (-5000..5000i64).prop_map(|n| n.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..80),
        (0..20_000usize).prop_map(|len| vec![b'x'; len]),
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out_in_both_directions(
        elements in proptest::collection::vec(element(), 0..20),
        split in 0..20usize,
    ) {
        let mut writer = ListpackWriter::new();
        let split = split.min(elements.len());
        for element in &elements[..split] {
            writer.push(element);
        }
        let mut pack = Listpack::from_finished(writer.finish());
        pack.append(|writer| {
            for element in &elements[split..] {
                writer.push(element);
            }
        });
        prop_assert!(is_listpack(pack.as_bytes()));
        prop_assert_eq!(forwards(&pack), elements);
    }

    #[test]
    fn flipped_bits_never_panic(
        elements in proptest::collection::vec(element(), 0..6),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
    ) {
        let mut writer = ListpackWriter::new();
        for element in &elements {
            writer.push(element);
        }
        let mut bytes = writer.finish();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Some(pack) = Listpack::from_bytes(bytes.clone()) {
            forwards(&pack);
        }
        let pack = Listpack::from_finished(bytes);
        for at in 0..pack.as_bytes().len() + 2 {
            let _ = (pack.element(at), pack.skip(at), pack.before(at));
        }
    }
}

/// The numbers at which the forms of integers, strings and backward lengths change.
#[test]
fn every_form_is_read_back_at_its_bounds() {
    let mut elements: Vec<Vec<u8>> = Vec::new();
    for bits in [0, 7, 12, 15, 23, 31, 63] {
        let bound = 1i128 << bits;
        for number in [bound - 1, bound, -bound, -bound - 1] {
            elements.push(number.to_string().into_bytes());
        }
    }
    for bound in [63, 126, 4095, 16_378, 2_097_146] {
        for len in bound - 1..=bound + 2 {
            elements.push(vec![b'y'; len]);
        }
    }
    for odd in ["", "-0", "007", "+1", " 1", "1 ", "9223372036854775808"] {
        elements.push(odd.into());
    }
    let mut writer = ListpackWriter::new();
    elements.iter().for_each(|element| writer.push(element));
    let pack = Listpack::from_bytes(writer.finish()).expect("well-formed");
    assert_eq!(forwards(&pack), elements);
}

#[test]
fn integers_change_in_place_whatever_their_size() {
    let mut writer = ListpackWriter::new();
    for number in [5, 6, 7] {
        writer.push_int(number);
    }
    let mut pack = Listpack::from_finished(writer.finish());
    let second = pack.skip(HEADER_BYTES).expect("there");
    for number in [0, 127, 128, 70_000, i64::MIN, 3] {
        pack.set_int(second, number);
        assert!(is_listpack(pack.as_bytes()));
        let expected = [5, number, 7].map(|n| n.to_string().into_bytes());
        assert_eq!(forwards(&pack), expected);
    }
}

#[test]
fn more_elements_than_the_header_counts_are_no_fault() {
    let mut writer = ListpackWriter::new();
    (0..70_000).for_each(|_| writer.push_int(1));
    let bytes = writer.finish();
    assert_eq!(bytes[4..6], [0xff, 0xff]);
    assert!(is_listpack(&bytes));
}
