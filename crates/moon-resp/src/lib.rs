//! RESP2 and RESP3, read and written incrementally. Knows no commands and no sockets.
//!
//! What comes from outside is never trusted: every length has a limit, every broken byte a typed
//! error, and nothing here panics on it.
//!
//! * [`args`]: [`Args`], one request as spans of the buffer it was parsed from; nothing is copied.
//! * [`request`]: [`RequestParser`], which finds the requests of a pipeline in a read buffer.
//! * [`inline`]: the quoting rules of inline requests and of configuration lines.
//! * [`error`]: [`ProtocolError`], the texts a client gets for a broken request.
//! * [`reply`]: [`Reply`], which writes a reply in the protocol version of the connection.
//! * [`double`]: [`format_double`], the one text of a floating point number.
//! * [`value`] and [`reply_parser`]: [`Value`], a reply read back, for clients of all kinds.
//! * [`codec`]: both sides of a connection for `tokio_util`.

#![forbid(unsafe_code)]

pub mod args;
pub mod codec;
pub mod double;
mod encode;
pub mod error;
pub mod inline;
pub mod reply;
pub mod reply_parser;
pub mod request;
pub mod value;

pub use args::{Args, OwnedArgs, Span};
pub use codec::{ClientCodec, CodecError, RequestCodec};
pub use double::{DoubleText, format_double};
pub use error::ProtocolError;
pub use inline::split_args;
pub use reply::{Protocol, Reply, write_args, write_request};
pub use reply_parser::{ReplyError, ReplyLimits, ReplyParser};
pub use request::{Parsed, RequestLimits, RequestParser};
pub use value::Value;
