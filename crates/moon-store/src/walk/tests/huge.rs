//! Values that are written in pieces.

use super::*;

const KEY: &[u8] = b"the huge one";

/// A string, a list, a set of integers, a set of strings, hashes, some with one huge field, some
/// with fields that expire, sorted sets; all huge under the limits that are in force outside of
/// tests.
fn huge_values() -> Vec<Value> {
    let text = |i: usize| format!("element number {i}").into_bytes();
    let mut chained = List::default();
    let (mut strings, mut fields) = (Set::for_first(b"x", 9, SET), Hash::default());
    for i in 0..20_000 {
        chained.push(End::Right, &text(i), NodeLimit::from_setting(-2));
        strings.add(&text(i), SET);
        fields.set(&text(i), b"value", PACK);
    }
    let wide = SetLimits {
        intset_entries: 100_000,
        ..SET
    };
    let mut ints = Set::for_first(b"1", 1, wide);
    for i in 0..40_000 {
        // Too large for 32 bits each.
        ints.add((5_000_000_000_i64 + i * 3).to_string().as_bytes(), wide);
    }
    let packed = PackLimits {
        entries: 100_000,
        ..PACK
    };
    let mut in_one_buffer = Hash::default();
    for i in 0..5000 {
        in_one_buffer.set(&[b'f', i as u8, (i >> 8) as u8], &[b'v'; 60], packed);
    }
    let (mut scored, mut scored_in_one_buffer) = (ZSet::default(), ZSet::default());
    for i in 0..20_000 {
        scored.set(&text(i), i as f64 / 7.0, PACK);
        if i < 5000 {
            scored_in_one_buffer.set(&[i as u8, (i >> 8) as u8, 0].repeat(20), 1.5, packed);
        }
    }
    scored.set(&vec![b'z'; 300_000], 0.5, PACK);
    let mut one_field = Hash::default();
    one_field.set(b"small", b"1", PACK);
    one_field.set(b"large", &vec![b'l'; 400_000], PACK);
    let mut expiring = one_field.clone();
    expiring.set_deadline(b"large", Some(UnixMs(40_000)));
    let mut expiring_in_one_buffer = in_one_buffer.clone();
    for i in (0..5000).step_by(3) {
        let field = [b'f', i as u8, (i >> 8) as u8];
        expiring_in_one_buffer.set_deadline(&field, Some(UnixMs(i)));
    }
    let mut big_pack = List::default();
    big_pack.push(End::Left, &vec![b'e'; 500_000], NodeLimit::from_setting(-2));
    big_pack.push(End::Left, b"short", NodeLimit::from_setting(-2));
    let mut stream = Value::Stream(Box::default());
    grow(&mut stream, 10_000);
    vec![
        stream,
        Value::string(&vec![b's'; 400_000]),
        Value::List(Box::new(chained)),
        Value::List(Box::new(big_pack)),
        Value::Set(strings),
        Value::Set(ints),
        Value::Hash(fields),
        Value::Hash(in_one_buffer),
        Value::Hash(one_field),
        Value::Hash(expiring),
        Value::Hash(expiring_in_one_buffer),
        Value::ZSet(Box::new(scored)),
        Value::ZSet(Box::new(scored_in_one_buffer)),
    ]
}

fn shard_with(value: Value) -> (ShardData, State) {
    let mut shard = shard();
    fill(&mut shard, 1, 0..3000);
    shard.db(1).insert(Key::new(KEY), value, Some(UnixMs(77)));
    let state = state_of(&shard);
    (shard, state)
}

/// Walks until the huge value is half written: some of it was taken, some is still to come.
fn walk_into_it(shard: &mut ShardData, receiver: &mut Receiver) {
    shard.walk_first(1, Key::new(KEY));
    while !receiver.in_entry {
        assert!(!shard.walk_is_done(), "it is not written in pieces");
        shard.walk(&mut || true);
        if let Some(chunk) = shard.take_image() {
            receiver.put(chunk);
        }
    }
    assert!(shard.is_held(1, Key::new(KEY)));
}

#[test]
fn a_huge_value_comes_in_pieces() {
    for value in huge_values() {
        assert!(value.memory() > HUGE_BYTES, "{}", value.encoding());
        let (mut shard, expected) = shard_with(value);
        shard.begin_walk(Compression::Off);
        let mut receiver = Receiver::new();
        let mut pieces = 0;
        while !shard.walk_is_done() {
            let before = shard.image_bytes();
            shard.walk(&mut || true);
            let step = shard.image_bytes() - before;
            // The rest of a segment, or one piece and an element that had begun.
            assert!(step < PIECE_BYTES + 10_000, "{step}");
            while let Some(chunk) = shard.take_image() {
                pieces += usize::from(!chunk.ends_entry);
                receiver.put(chunk);
            }
        }
        assert!(pieces > 1, "{pieces}");
        assert!(receiver.finish(&mut shard) == expected);
    }
}

#[test]
fn a_huge_value_may_change_before_during_and_after() {
    for value in huge_values() {
        for when in 0..4 {
            let (mut shard, expected) = shard_with(value.clone());
            let key = Key::new(KEY);
            shard.begin_walk(Compression::Off);
            let mut receiver = Receiver::new();
            match when {
                0 => {}
                // Asked for and not begun.
                1 => shard.walk_first(1, key),
                2 => walk_into_it(&mut shard, &mut receiver),
                _ => {
                    while !shard.walk_is_done() {
                        shard.walk(&mut || true);
                        receiver.take_all(&mut shard);
                    }
                }
            }
            grow(shard.db(1).get_mut(key).unwrap(), 3);
            assert!(!shard.is_held(1, key), "it is written now");
            shard.db(1).remove(key);
            shard.db(1).insert(key, value.clone(), None);
            assert!(!shard.is_held(1, key));
            shard.db(1).self_check();
            assert!(receiver.finish(&mut shard) == expected);
        }
    }
}

#[test]
fn nothing_comes_between_the_pieces_of_a_value() {
    let (mut shard, _) = shard_with(list(60_000));
    fill(&mut shard, 0, 0..100);
    let expected = state_of(&shard);
    shard.begin_walk(Compression::Off);
    let mut receiver = Receiver::new();
    walk_into_it(&mut shard, &mut receiver);
    while shard
        .take_image()
        .map(|chunk| receiver.put(chunk))
        .is_some()
    {}
    for i in 0..3000 {
        let key = name(i);
        shard.db(1).insert(Key::new(&key), Value::from_int(0), None);
    }
    for i in 0..100 {
        let key = name(i);
        shard.db(0).remove(Key::new(&key));
    }
    assert!(shard.image_bytes() > 0);
    assert_eq!(shard.take_image(), None, "the value goes on first");
    // The receiver asserts that the database does not change inside the value.
    assert!(receiver.finish(&mut shard) == expected);
}

#[test]
fn waiting_pre_images_do_not_keep_a_value_from_being_completed() {
    let mut shard = shard();
    fill(&mut shard, 1, 0..2000);
    shard.db(1).insert(Key::new(KEY), list(200), None);
    let expected = state_of(&shard);
    shard.begin_walk_with(SMALL, Compression::Off);
    let mut receiver = Receiver::new();
    walk_into_it(&mut shard, &mut receiver);
    for i in 0..2000 {
        let key = name(i);
        shard.db(1).remove(Key::new(&key));
    }
    assert!(shard.image_bytes() > 10 * SMALL.chunk_bytes);
    while receiver.in_entry {
        shard.walk(&mut || true);
        receiver.put(shard.take_image().expect("the value goes on"));
    }
    assert!(receiver.finish(&mut shard) == expected);
}

#[test]
fn held_is_what_would_have_to_be_encoded_whole() {
    let (mut shard, expected) = shard_with(hash(40_000));
    fill(&mut shard, 0, 0..10);
    let key = Key::new(KEY);
    assert!(!shard.is_held(1, key), "no walk");
    shard.begin_walk(Compression::Off);
    assert!(shard.is_held(1, key));
    assert!(!shard.is_held(0, key), "missing there");
    let small = name(1);
    assert!(!shard.is_held(1, Key::new(&small)), "not huge");
    assert!(!shard.is_held(1, Key::new(b"missing")));
    // What is created after the cut is never held.
    shard.db(1).insert(Key::new(b"new"), hash(40_000), None);
    assert!(!shard.is_held(1, Key::new(b"new")));
    shard.swap_dbs(1, 2);
    assert!(shard.is_held(2, key) && !shard.is_held(1, key));

    let mut receiver = Receiver::new();
    let mut steps = 0;
    shard.walk_first(2, key);
    shard.walk_first(2, key);
    while shard.is_held(2, key) {
        shard.walk(&mut || true);
        receiver.take_all(&mut shard);
        steps += 1;
    }
    // A field and its value take less than 48 bytes.
    assert!(steps <= 40_000 * 48 / PIECE_BYTES, "{steps} steps");
    assert!(shard.walk_progress().keys_done <= 1);
    let mut expected = expected;
    for i in 0..10 {
        let deadline = (i % 5 == 0).then_some(i64::from(i));
        expected.insert(
            (0, name(i)),
            (Plain::String(i.to_string().into()), deadline),
        );
    }
    assert!(receiver.finish(&mut shard) == expected);
}

/// Keys that were asked for come in the order in which they were asked for.
#[test]
fn the_first_asked_for_is_the_first_written() {
    let mut shard = shard();
    let names = [b"c", b"a", b"d", b"b"];
    for name in names {
        shard.db(0).insert(Key::new(name), list(100), None);
    }
    shard.begin_walk_with(SMALL, Compression::Off);
    for name in names {
        shard.walk_first(0, Key::new(name));
    }
    for name in names {
        assert!(shard.is_held(0, Key::new(name)));
        while shard.is_held(0, Key::new(name)) {
            shard.walk(&mut || true);
            while shard.take_image().is_some() {}
        }
        let done = names
            .iter()
            .filter(|n| !shard.is_held(0, Key::new(n.as_slice())))
            .count() as u64;
        assert_eq!(shard.walk_progress().keys_done, done);
    }
}

/// A segment of values that are each not huge, but together are, is no long stall.
#[test]
fn a_segment_of_large_values_is_not_encoded_at_once() {
    let mut shard = shard();
    for i in 0..200 {
        let key = name(i);
        shard
            .db(0)
            .insert(Key::new(&key), Value::string(&[b'v'; 100_000]), None);
    }
    let expected = state_of(&shard);
    shard.begin_walk(Compression::Off);
    shard.walk(&mut || true);
    assert!(
        shard.image_bytes() < CHUNK_BYTES + HUGE_BYTES,
        "{}",
        shard.image_bytes()
    );
    for i in 0..50 {
        let key = name(i);
        shard.db(0).remove(Key::new(&key));
    }
    assert!(Receiver::new().finish(&mut shard) == expected);
}

/// Huge values in pieces and others whole; a string too long to be compressed at once is not.
#[test]
fn a_compressed_image_is_smaller_and_the_same() {
    let mut shard = shard();
    for (i, value) in (0..).zip(huge_values()) {
        shard.db(0).insert(Key::new(&name(i)), value, None);
    }
    for i in 100..200 {
        let value = Value::string(&[b'a' + (i % 26) as u8; 2000]);
        shard.db(1).insert(Key::new(&name(i)), value, None);
    }
    let expected = state_of(&shard);
    let mut sizes = Vec::new();
    for compression in [Compression::Off, Compression::Lzf] {
        shard.begin_walk(compression);
        let (mut receiver, mut bytes) = (Receiver::new(), 0);
        while !shard.walk_is_done() || shard.image_bytes() > 0 {
            shard.walk(&mut || false);
            for chunk in std::iter::from_fn(|| shard.take_image()) {
                bytes += chunk.bytes.len();
                receiver.put(chunk);
            }
        }
        assert!(receiver.finish(&mut shard) == expected, "{compression:?}");
        shard.end_walk();
        sizes.push(bytes);
    }
    // The strings of database 1 shrink to almost nothing.
    assert!(sizes[1] + 190_000 < sizes[0], "{sizes:?}");
}
