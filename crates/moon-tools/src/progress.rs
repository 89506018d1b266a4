//! Telling how far a long run is.

/// Told how far a tool is. Calls come often and must be cheap.
pub trait Progress {
    /// A part of the work begins; it will advance by about `total_bytes`.
    fn begin(&self, what: &str, total_bytes: u64);
    /// `bytes` more of it are done.
    fn advance(&self, bytes: u64);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _what: &str, _total_bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}
