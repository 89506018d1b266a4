//! Commands on streams.
//!
//! * [`ids`] reads ids and ranges of ids out of arguments.
//! * [`add`] has XADD, XSETID.
//! * [`trim`] has XTRIM.
//! * [`delete`] has XDEL, XDELEX, XACKDEL.
//! * [`references`]: what becomes of what groups refer to.
//! * [`read`] has XLEN, XRANGE, XREVRANGE, XREAD.
//! * [`read_group`] has XREADGROUP.
//! * [`groups`] has XGROUP.
//! * [`pending`] has XACK, XPENDING.
//! * [`claim`] has XCLAIM, XAUTOCLAIM.
//! * [`info`] has XINFO.
//! * [`effects`] says what is told of groups.
//!
//! A stream without entries stays, as in Redis: its ids and groups are worth keeping.

mod add;
mod claim;
mod delete;
mod effects;
pub(crate) mod groups;
mod ids;
pub(crate) mod info;
mod pending;
mod read;
mod read_group;
mod references;
mod trim;

use crate::context::Cx;
use crate::error::CommandError;
use crate::parse::detailed;
use crate::spec::{FIRST_KEY, Keys, commands};
use moon_core::UnixMs;
use moon_rdb::listpack::Element;
use moon_resp::Reply;
use moon_store::StreamId;
use moon_store::stream::{BlockLimits, Entry};

commands! { "stream":
    "xadd" -5 [WRITE DENYOOM FAST] FIRST_KEY, Keys, add::xadd,
        "write stream fast", "5.0.0",
        "O(1) when adding a new entry, O(N) when trimming where N is the number of entries removed.",
        "Appends a new message to a stream. Creates the key if it doesn't exist.";
    "xtrim" -4 [WRITE FREES_MEMORY] FIRST_KEY, Keys, trim::xtrim,
        "write stream slow", "5.0.0", "O(N), with N being the number of removed entries.",
        "Deletes messages from the beginning of a stream.";
    "xsetid" -3 [WRITE DENYOOM FAST] FIRST_KEY, Keys, add::xsetid,
        "write stream fast", "5.0.0", "O(1)",
        "An internal command for replicating stream values.";
    "xdel" -3 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, delete::xdel,
        "write stream fast", "5.0.0", "O(log(N)) for each entry, N being the length of the stream.",
        "Returns the number of messages after removing them from a stream.";
    "xdelex" -5 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, delete::xdelex,
        "write stream fast", "8.2.0",
        "O(G*log(N)) for each entry, G being the number of groups, N the length of the stream.",
        "Deletes messages from a stream, minding which groups still refer to them.";
    "xackdel" -6 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, delete::xackdel,
        "write stream fast", "8.2.0",
        "O(G*log(N)) for each entry, G being the number of groups, N the length of the stream.",
        "Acknowledges messages for a group and deletes them, minding which groups still refer to them.";
    "xlen" 2 [READONLY FAST] FIRST_KEY, Keys, read::xlen,
        "read stream fast", "5.0.0", "O(1)", "Return the number of messages in a stream.";
    "xrange" -4 [READONLY] FIRST_KEY, Keys, read::xrange,
        "read stream slow", "5.0.0",
        "O(log(N)+M) with N being the length of the stream and M the number of entries returned.",
        "Returns the messages from a stream within a range of IDs.";
    "xrevrange" -4 [READONLY] FIRST_KEY, Keys, read::xrevrange,
        "read stream slow", "5.0.0",
        "O(log(N)+M) with N being the length of the stream and M the number of entries returned.",
        "Returns the messages from a stream within a range of IDs in reverse order.";
    "xread" -4 [READONLY BLOCKING MOVABLEKEYS] Keys::Found(read::keys), Keys, read::xread,
        "read stream slow blocking", "5.0.0",
        "For each stream O(log(N)+M) with M the number of entries returned.",
        "Returns messages from multiple streams with IDs greater than the ones requested.";
    "xreadgroup" -7 [WRITE BLOCKING MOVABLEKEYS] Keys::Found(read::keys), Keys,
        read_group::xreadgroup, "write stream slow blocking", "5.0.0",
        "For each stream O(log(N)+M) with M the number of entries returned.",
        "Returns new or historical messages from a stream for a consumer in a group.";
    "xack" -4 [WRITE FAST FREES_MEMORY] FIRST_KEY, Keys, pending::xack,
        "write stream fast", "5.0.0", "O(log(N)) for each entry, N being the pending ones.",
        "Returns the number of messages that were successfully acknowledged by the consumer group.";
    "xpending" -3 [READONLY] FIRST_KEY, Keys, pending::xpending,
        "read stream slow", "5.0.0",
        "O(N) with N being the number of entries returned or passed over.",
        "Returns the information and entries from a stream consumer group's pending entries list.";
    "xclaim" -6 [WRITE FAST] FIRST_KEY, Keys, claim::xclaim,
        "write stream fast", "5.0.0", "O(log(N)) for each entry, N being the pending ones.",
        "Changes, or acquires, ownership of a message in a consumer group.";
    "xautoclaim" -6 [WRITE FAST] FIRST_KEY, Keys, claim::xautoclaim,
        "write stream fast", "6.2.0", "O(N) with N being COUNT.",
        "Changes, or acquires, ownership of messages that wait for long in a consumer group.";
}

fn block_limits(cx: &Cx<'_>) -> BlockLimits {
    BlockLimits {
        bytes: cx.limits.stream_node_max_bytes,
        entries: cx.limits.stream_node_max_entries,
    }
}

/// The time that is remembered of this command; 0 in replay, which knows no time.
fn now_ms(cx: &Cx<'_>) -> i64 {
    match cx.now {
        UnixMs::BEFORE_ALL => 0,
        UnixMs(now) => now,
    }
}

/// How long ago `then` is; 0 for the future.
fn elapsed(cx_now: i64, then: i64) -> i64 {
    cx_now.saturating_sub(then).max(0)
}

fn write_id(reply: &mut Reply<'_>, id: StreamId) {
    let mut digits = itoa::Buffer::new();
    let mut seq_digits = itoa::Buffer::new();
    let ms = digits.format(id.ms).as_bytes();
    let seq = seq_digits.format(id.seq).as_bytes();
    reply.bulk_with(ms.len() + 1 + seq.len(), |out| {
        out.extend_from_slice(ms);
        out.push(b'-');
        out.extend_from_slice(seq);
    });
}

/// An entry: its id, and its fields and values in turns.
fn write_entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    write_id(reply, entry.id);
    reply.array(entry.len() * 2);
    for (name, value) in entry.fields() {
        write_element(reply, name);
        write_element(reply, value);
    }
}

fn write_element(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Int(number) => reply.bulk_integer(number),
    }
}

/// A number that may be missing.
fn write_optional(reply: &mut Reply<'_>, number: Option<i64>) {
    match number {
        Some(number) => reply.integer(number),
        None => reply.null(),
    }
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// There is no such stream or no such group.
fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown(key), shown(group));
    detailed(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}'"
    ))
}

/// There is no such group in a stream that is there.
fn no_group_of_key(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown(key), shown(group));
    detailed(format!(
        "NOGROUP No such consumer group '{group}' for key name '{key}'"
    ))
}

#[cfg(test)]
mod tests;
