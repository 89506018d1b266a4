//! What can be wrong with the bytes of a request, in the words Redis answers with.

/// A request that breaks the protocol. The connection is answered `-ERR ` and this text, and is
/// closed: where the next request would begin is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number behind `*` is no integer or above the limit.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// An argument does not begin with `$`. Like Redis, the text holds the byte as it is;
    /// [`Reply::error`](crate::Reply::error) turns a CR or LF into a space.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.got))]
    ExpectedBulk {
        /// The byte that stands where `$` belongs.
        got: u8,
    },
    /// The number behind `$` is no integer, negative or above the limit.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// More than 10 arguments from a client that has not authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// An argument above 16 KiB from a client that has not authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// The line of a `*` does not end within the limit for lines.
    #[error("Protocol error: too big mbulk count string")]
    TooBigMultibulkCount,
    /// The line of a `$` does not end within the limit for lines.
    #[error("Protocol error: too big bulk count string")]
    TooBigBulkCount,
    /// An inline request does not end within the limit for lines.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// A quote in an inline request is not closed, or text touches its end.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The request, or the buffer that holds it, passes 4 GiB, which spans cannot address.
    /// Redis has no such limit; its query buffer limit (1 GiB) is far below.
    #[error("Protocol error: request exceeds 4 GiB")]
    TooBigRequest,
}
