//! Both sides of a connection as codecs of `tokio_util`, where convenience counts more than the
//! last copy: tools, tests, links between servers.

use bytes::{Buf as _, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::args::{Args, OwnedArgs, Span};
use crate::encode;
use crate::error::ProtocolError;
use crate::reply_parser::{ReplyError, ReplyLimits, ReplyParser};
use crate::request::{Parsed, RequestLimits, RequestParser};
use crate::value::Value;

/// Why a codec gives up a connection.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The client sent no request.
    #[error(transparent)]
    Request(#[from] ProtocolError),
    /// The server sent no reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The connection failed.
    #[error("connection failed")]
    Io(#[from] std::io::Error),
}

/// Room taken ahead for an announced argument: a client pays for more with bytes.
const RESERVE_MAX: usize = 1 << 20;

/// The server's side: reads requests, writes replies.
#[derive(Debug, Default)]
pub struct RequestCodec {
    parser: RequestParser,
    spans: Vec<Span>,
    limits: RequestLimits,
}

impl RequestCodec {
    /// A codec that holds clients to `limits`.
    #[must_use]
    pub fn new(limits: RequestLimits) -> Self {
        RequestCodec {
            limits,
            ..Self::default()
        }
    }

    /// The limits, to change them after the client has authenticated.
    pub fn limits_mut(&mut self) -> &mut RequestLimits {
        &mut self.limits
    }
}

impl Decoder for RequestCodec {
    type Item = OwnedArgs;
    type Error = CodecError;

    /// The next request that has arguments; empty ones are skipped.
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<OwnedArgs>, CodecError> {
        loop {
            self.spans.clear();
            let (consumed, args) = match self.parser.parse(src, &mut self.spans, &self.limits)? {
                Parsed::Request { consumed } => {
                    (consumed, OwnedArgs::from(Args::new(src, &self.spans)))
                }
                Parsed::Inline { consumed, args } => (consumed, args),
                Parsed::Incomplete { needed } => {
                    src.reserve(needed.min(RESERVE_MAX));
                    return Ok(None);
                }
            };
            src.advance(consumed);
            if !args.is_empty() {
                return Ok(Some(args));
            }
        }
    }
}

impl Encoder<Value> for RequestCodec {
    type Error = CodecError;

    fn encode(&mut self, value: Value, out: &mut BytesMut) -> Result<(), CodecError> {
        value.write(out);
        Ok(())
    }
}

/// The client's side: writes requests, reads replies.
#[derive(Debug, Default)]
pub struct ClientCodec {
    parser: ReplyParser,
}

impl ClientCodec {
    /// A codec that holds the server to `limits`.
    #[must_use]
    pub fn new(limits: ReplyLimits) -> Self {
        ClientCodec {
            parser: ReplyParser::with_limits(limits),
        }
    }
}

impl Decoder for ClientCodec {
    type Item = Value;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Value>, CodecError> {
        Ok(self.parser.parse(src)?.map(|(value, len)| {
            src.advance(len);
            value
        }))
    }
}

impl Encoder<OwnedArgs> for ClientCodec {
    type Error = CodecError;

    fn encode(&mut self, args: OwnedArgs, out: &mut BytesMut) -> Result<(), CodecError> {
        encode::request(out, args.as_args().iter());
        Ok(())
    }
}

impl<P: AsRef<[u8]>> Encoder<&[P]> for ClientCodec {
    type Error = CodecError;

    fn encode(&mut self, parts: &[P], out: &mut BytesMut) -> Result<(), CodecError> {
        encode::request(out, parts.iter().map(AsRef::as_ref));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_cross_the_connection() -> Result<(), CodecError> {
        let (mut client, mut server) = (ClientCodec::default(), RequestCodec::default());
        let mut wire = BytesMut::new();
        client.encode(&["SET", "k", "v"][..], &mut wire)?;
        client.encode(OwnedArgs::new(["GET", "k"]), &mut wire)?;
        let first = server.decode(&mut wire)?;
        assert_eq!(first, Some(OwnedArgs::new(["SET", "k", "v"])));
        let second = server.decode(&mut wire)?;
        assert_eq!(second, Some(OwnedArgs::new(["GET", "k"])));
        assert_eq!(server.decode(&mut wire)?, None);

        let mut wire = BytesMut::new();
        let reply = Value::Array(vec![Value::bulk("v"), Value::Null]);
        server.encode(reply.clone(), &mut wire)?;
        assert_eq!(client.decode(&mut wire)?, Some(reply));
        assert!(wire.is_empty());
        Ok(())
    }

    #[test]
    fn requests_arrive_byte_by_byte_without_the_empty_ones() -> Result<(), CodecError> {
        let input = b"\r\n*0\r\nSET \"a b\" 1\r\n*1\r\n$4\r\nPING\r\n";
        let mut codec = RequestCodec::default();
        let mut wire = BytesMut::new();
        let mut found = Vec::new();
        for byte in input {
            wire.extend_from_slice(&[*byte]);
            found.extend(codec.decode(&mut wire)?);
        }
        let expected = [
            OwnedArgs::new(["SET", "a b", "1"]),
            OwnedArgs::new(["PING"]),
        ];
        assert_eq!(found, expected);
        Ok(())
    }

    #[test]
    fn limits_rise_with_authentication() {
        let mut codec = RequestCodec::new(RequestLimits {
            authenticated: false,
            ..RequestLimits::default()
        });
        let input = &b"*1\r\n$20000\r\n"[..];
        let refused = codec.decode(&mut input.into());
        let limit = ProtocolError::UnauthenticatedBulkLength;
        assert!(matches!(refused, Err(CodecError::Request(error)) if error == limit));
        codec.limits_mut().authenticated = true;
        assert!(matches!(codec.decode(&mut input.into()), Ok(None)));
    }

    #[test]
    fn broken_reply_is_an_error() {
        let refused = ClientCodec::default().decode(&mut b"?\r\n"[..].into());
        assert!(matches!(refused, Err(CodecError::Reply(_))));
    }
}
