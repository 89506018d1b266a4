//! Any bytes, in any pieces, give the same reply or the same error, and a reply that was read is
//! read again from what it writes. The first byte of the input is the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moon_resp::{ReplyError, ReplyLimits, ReplyParser, Value};

const LIMITS: ReplyLimits = ReplyLimits {
    max_len: 4096,
    max_elements: 4096,
    max_depth: 16,
};

fn parse(input: &[u8], step: usize) -> Result<Option<(Value, usize)>, ReplyError> {
    let mut parser = ReplyParser::with_limits(LIMITS);
    let mut end = 0;
    loop {
        let found = parser.parse(&input[..end])?;
        if found.is_some() || end == input.len() {
            return Ok(found);
        }
        end = (end + step).min(input.len());
    }
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, input)) = data.split_first() else {
        return;
    };
    let whole = parse(input, input.len().max(1));
    // Text, because a NaN is not equal to itself.
    let text = format!("{whole:?}");
    assert_eq!(
        text,
        format!("{:?}", parse(input, usize::from(size).max(1)))
    );
    assert_eq!(text, format!("{:?}", parse(input, 1)));
    if let Ok(Some((value, len))) = whole {
        assert!(len <= input.len());
        let wire = written(&value);
        let (again, wire_len) = parse(&wire, wire.len())
            .expect("what was written is a reply")
            .expect("it is complete");
        assert_eq!(wire_len, wire.len());
        assert_eq!(wire, written(&again));
    }
});
