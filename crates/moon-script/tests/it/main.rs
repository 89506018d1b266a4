//! The engine as a server uses it.

mod compared_with_redis;
mod errors;
mod functions;
mod limits;
mod random;
mod sandbox;
mod support;
