//! moon-server.
fn main() {}
