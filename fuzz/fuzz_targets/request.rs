//! Any bytes, in any pieces, give the same requests and the same error, and every span lies in
//! the buffer. The first byte of the input is the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moon_resp::{Args, Parsed, ProtocolError, RequestLimits, RequestParser};

type Requests = Vec<Vec<Vec<u8>>>;

const LIMITS: RequestLimits = RequestLimits {
    max_bulk_len: 4096,
    max_multibulk: 4096,
    max_inline: 64,
    authenticated: true,
};

fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Requests, Option<ProtocolError>) {
    let mut parser = RequestParser::new();
    let mut requests = Vec::new();
    let mut buf = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        let mut pos = 0;
        loop {
            let mut spans = Vec::new();
            let (consumed, args) = match parser.parse_at(&buf, pos, &mut spans, &LIMITS) {
                Ok(Parsed::Request { consumed }) => {
                    let args = Args::new(&buf, &spans);
                    (consumed, args.iter().map(<[u8]>::to_vec).collect())
                }
                Ok(Parsed::Inline { consumed, args }) => (
                    consumed,
                    args.as_args().iter().map(<[u8]>::to_vec).collect(),
                ),
                Ok(Parsed::Incomplete { needed }) => {
                    assert!(needed > 0);
                    break;
                }
                Err(error) => return (requests, Some(error)),
            };
            assert!(consumed > 0 && pos + consumed <= buf.len());
            pos += consumed;
            requests.push(args);
        }
        buf.drain(..pos);
    }
    (requests, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, input)) = data.split_first() else {
        return;
    };
    let whole = feed(std::iter::once(input));
    assert_eq!(whole, feed(input.chunks(usize::from(size).max(1))));
    assert_eq!(whole, feed(input.chunks(1)));
});
