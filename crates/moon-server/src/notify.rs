//! Keyspace notifications on their way to clients: what [`moon_commands::notify`] tells, published
//! on the channels that Redis has for it.

use crate::pubsub::{Hub, Kind};
use moon_commands::notify::{Class, Event};
use moon_core::Lsn;
use moon_store::THIS_TURN;

/// Publishes events of the `classes` in force, in order. Nothing is encoded while nobody listens.
pub(crate) fn publish(hub: &Hub, classes: Class, events: &[Event], depends_on: Lsn) {
    if hub.registry().is_silent() {
        return;
    }
    // One order for all of a shard, also for misses and for what has changed nothing.
    let depends_on = match hub.waits_for_turn() {
        true => THIS_TURN,
        false => depends_on,
    };
    for Event { db, name, key } in events {
        let name = name.as_bytes();
        if classes.contains(Class::KEYSPACE) {
            let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
            hub.publish(Kind::Channel, &channel, name, depends_on);
        }
        if classes.contains(Class::KEYEVENT) {
            let channel = [format!("__keyevent@{db}__:").as_bytes(), name].concat();
            hub.publish(Kind::Channel, &channel, key, depends_on);
        }
    }
}
