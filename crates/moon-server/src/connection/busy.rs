//! Waiting for data, while no script takes long.
//!
//! Redis answers BUSY to whatever comes while a script takes long, and what has come before has been
//! executed. Here a command may have come, and wait for data that the script has: it is answered
//! BUSY as well. Commands that were sent to another shard are refused there
//! ([`moon_shard::Observer::refusal`]).

use super::pipeline::Connection;
use moon_shard::{Borrowed, ShardMask};
use std::rc::Rc;
use std::sync::Arc;

/// The error reply to a command that would have had to wait for a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy(pub(crate) &'static str);

/// Waits until the data is at home and there is room.
///
/// # Errors
/// A script takes long before that.
pub(crate) async fn ready(connection: &mut Connection) -> Result<(), Busy> {
    let is_busy = connection.server.scripts.busy.any();
    if !is_busy && connection.shard.is_home() && connection.shard.has_room() {
        return Ok(());
    }
    connection.flush();
    let scripts = Arc::clone(&connection.server.scripts);
    let shard = Rc::clone(&connection.shard);
    while !shard.ready_unless(|| scripts.busy.any()).await {
        // Otherwise it has ended just now.
        if let Some(text) = scripts.busy.text() {
            return Err(Busy(text));
        }
    }
    Ok(())
}

/// Borrows the data of the shards in `mask`, and of the connection's own.
///
/// # Errors
/// A script takes long before all of it is in hand.
pub(crate) async fn borrow(connection: &Connection, mask: ShardMask) -> Result<Borrowed, Busy> {
    let scripts = Arc::clone(&connection.server.scripts);
    let shard = Rc::clone(&connection.shard);
    loop {
        if let Some(borrowed) = shard.borrow_unless(mask, || scripts.busy.any()).await {
            return Ok(borrowed);
        }
        if let Some(text) = scripts.busy.text() {
            return Err(Busy(text));
        }
    }
}
