//! RESP2 and RESP3, read and written incrementally. Knows no commands and no sockets.
//!
//! * [`args`]: [`Args`], one request as spans of the buffer it was parsed from; nothing is copied.
//! * [`request`]: [`RequestParser`], which finds the requests of a pipeline in a read buffer.
//! * [`inline`]: the quoting rules of inline requests and of configuration lines.
//! * [`error`]: [`ProtocolError`], the texts a client gets for a broken request.
//! * [`reply`]: [`Reply`], which writes a reply in the protocol version of the connection.

#![forbid(unsafe_code)]

pub mod args;
pub mod error;
pub mod inline;
pub mod reply;
pub mod request;

pub use args::{Args, OwnedArgs, Span};
pub use error::ProtocolError;
pub use inline::split_args;
pub use reply::{Protocol, Reply, write_request};
pub use request::{Parsed, RequestLimits, RequestParser};
