//! Strings against a plain `Vec<u8>`.

use super::*;
use proptest::prelude::*;

fn bytes(value: &Value) -> Vec<u8> {
    value.as_bytes(&mut IntText::new()).unwrap().to_vec()
}

#[test]
fn only_the_canonical_form_is_an_integer() {
    for n in [0, 1, -1, 10, i64::MAX, i64::MIN, i64::MAX - 1] {
        let text = n.to_string();
        assert_eq!(parse_int(text.as_bytes()), Some(n), "{text}");
        assert_eq!(Value::string(text.as_bytes()).encoding(), "int", "{text}");
    }
    for text in [
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        " 1",
        "1 ",
        "1.0",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "1a",
    ] {
        assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        assert_eq!(bytes(&Value::string(text.as_bytes())), text.as_bytes());
    }
}

#[test]
fn encodings_are_named_as_in_redis() {
    assert_eq!(Value::from_int(3).encoding(), "int");
    assert_eq!(Value::string(&[b'x'; 44]).encoding(), "embstr");
    assert_eq!(Value::string(&[b'x'; 45]).encoding(), "raw");
    for start in ["1", "x", "a string beyond fourteen"] {
        let mut value = Value::string(start.as_bytes());
        assert!(value.append(b"2"));
        assert_eq!(value.encoding(), "raw", "{start}");
        let mut value = Value::string(start.as_bytes());
        assert!(value.set_range(0, b"7"));
        assert_eq!(value.encoding(), "raw", "{start}");
    }
    let mut untouched = Value::string(b"x");
    assert!(untouched.set_range(100, b""));
    assert_eq!(untouched.encoding(), "embstr");
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<u8>),
    SetRange(usize, Vec<u8>),
    Clone,
}

fn op() -> impl Strategy<Value = Op> {
    let text = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        text.clone().prop_map(Op::Append),
        (0usize..200, text).prop_map(|(at, text)| Op::SetRange(at, text)),
        Just(Op::Clone),
    ]
}

proptest! {
    #[test]
    fn strings_behave_like_vectors(
        start in prop_oneof!["[0-9]{0,20}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40)],
        ops in prop::collection::vec(op(), 0..30),
    ) {
        let mut model = start.clone();
        let mut value = Value::string(&start);
        prop_assert_eq!(&bytes(&value), &model);
        for op in ops {
            match op {
                Op::Append(tail) => {
                    model.extend_from_slice(&tail);
                    prop_assert!(value.append(&tail));
                }
                Op::SetRange(at, text) => {
                    if !text.is_empty() {
                        model.resize(model.len().max(at + text.len()), 0);
                        model[at..at + text.len()].copy_from_slice(&text);
                    }
                    prop_assert!(value.set_range(at, &text));
                }
                Op::Clone => value = value.clone(),
            }
            prop_assert_eq!(&bytes(&value), &model);
            prop_assert_eq!(value.str_len(), Some(model.len()));
            prop_assert_eq!(value.as_int(), parse_int(&model));
            prop_assert!(value.memory() + 14 >= model.len() || value.encoding() == "int");
        }
    }

    #[test]
    fn every_integer_survives(n: i64) {
        let value = Value::string(n.to_string().as_bytes());
        prop_assert_eq!(value.as_int(), Some(n));
        prop_assert_eq!(bytes(&value), n.to_string().into_bytes());
    }
}
