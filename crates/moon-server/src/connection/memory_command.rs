//! MEMORY: what tells of the process. MEMORY USAGE is a command on data, and runs as one.

use super::pipeline::Connection;
use crate::info::MemoryInfo;
use crate::server::Server;
use moon_commands::subcommands;
use moon_resp::{Args, Reply};
use moon_shard::mailbox::ControlMessage;

/// Runs a subcommand of MEMORY.
///
/// # Errors
/// The error reply.
pub(super) fn run(
    connection: &Connection,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let spec = subcommands::resolve("memory", args).map_err(|e| e.text().to_owned())?;
    let server = &connection.server;
    match subcommands::own_name(spec) {
        "doctor" => reply.verbatim("txt", diagnosis(&server.memory_info()).as_bytes()),
        "malloc-stats" => reply.verbatim("txt", moon_alloc::text().as_bytes()),
        "purge" => {
            purge(server);
            reply.ok();
        }
        "stats" => stats(server, reply),
        "help" => subcommands::help_reply(reply, "memory"),
        other => unreachable!("memory|{other} is in the table without code here"),
    }
    Ok(())
}

/// Every shard's thread gives back what its heap keeps.
fn purge(server: &Server) {
    for shard in server.shards.ids() {
        let collect = Box::new(|_: &std::rc::Rc<moon_shard::Shard>| moon_alloc::collect());
        server
            .directory
            .of(shard)
            .send_control(ControlMessage::Run(collect));
    }
}

/// The fields of MEMORY STATS, in Redis's order, beside those of databases.
#[expect(clippy::cast_precision_loss, reason = "ratios of sizes")]
fn stats(server: &Server, reply: &mut Reply<'_>) {
    let m = server.memory_info();
    let databases = server.stats.databases();
    let used_databases = || databases.iter().enumerate().filter(|(_, db)| db.keys > 0);
    let keys: u64 = databases.iter().map(|db| db.keys).sum();
    let net = m.used.saturating_sub(m.startup);
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    let signed = |a: u64, b: u64| a.cast_signed().saturating_sub(b.cast_signed());
    let before: [(&str, u64); 10] = [
        ("peak.allocated", m.peak),
        ("total.allocated", m.used),
        ("startup.allocated", m.startup),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", m.clients),
        ("cluster.links", 0),
        ("aof.buffer", m.aof_in_flight),
        ("lua.caches", m.scripts.script_bytes),
        ("functions.caches", m.scripts.function_bytes),
    ];
    let sizes = [
        ("overhead.total", m.overhead()),
        ("keys.count", keys),
        ("keys.bytes-per-key", net.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", m.dataset()),
    ];
    let shares = [
        ("dataset.percentage", percent(m.dataset(), net)),
        ("peak.percentage", percent(m.used, m.peak)),
    ];
    let allocator = [
        ("allocator.allocated", m.used),
        ("allocator.active", m.committed),
        ("allocator.resident", m.rss),
    ];
    let ratios = [
        ("allocator-fragmentation", m.committed, m.used),
        ("allocator-rss", m.rss, m.committed),
        ("rss-overhead", m.rss, m.rss),
    ];
    let pairs = before.len()
        + used_databases().count()
        + sizes.len()
        + shares.len()
        + allocator.len()
        + 2 * ratios.len()
        + 2;
    let integer =
        |reply: &mut Reply<'_>, n: u64| reply.integer(i64::try_from(n).unwrap_or(i64::MAX));
    reply.map(pairs);
    for (name, bytes) in before {
        reply.bulk(name.as_bytes());
        integer(reply, bytes);
    }
    for (number, db) in used_databases() {
        reply.bulk(format!("db.{number}").as_bytes());
        reply.map(3);
        for (name, bytes) in [
            ("overhead.hashtable.main", db.keyspace_bytes),
            ("overhead.hashtable.expires", db.expiry_bytes),
            ("overhead.hashtable.slot-to-keys", 0),
        ] {
            reply.bulk(name.as_bytes());
            integer(reply, bytes);
        }
    }
    for (name, bytes) in sizes {
        reply.bulk(name.as_bytes());
        integer(reply, bytes);
    }
    for (name, share) in shares {
        reply.bulk(name.as_bytes());
        reply.double(share);
    }
    for (name, bytes) in allocator {
        reply.bulk(name.as_bytes());
        integer(reply, bytes);
    }
    for (name, a, b) in ratios {
        reply.bulk(format!("{name}.ratio").as_bytes());
        reply.double(ratio(a, b));
        reply.bulk(format!("{name}.bytes").as_bytes());
        reply.integer(signed(a, b));
    }
    reply.bulk(b"fragmentation");
    reply.double(ratio(m.rss, m.used));
    reply.bulk(b"fragmentation.bytes");
    reply.integer(signed(m.rss, m.used));
}

/// With less than this in use, ratios say nothing.
const TOO_LITTLE: u64 = 5 << 20;

/// What is unusual, a paragraph for each finding.
fn diagnosis(m: &MemoryInfo) -> String {
    if m.used < TOO_LITTLE {
        return "Less than 5 MB are in use: too little to judge.\n".to_owned();
    }
    let mut findings = Vec::new();
    let exceeds = |a: u64, b: u64, tenths: u64| a / tenths > b / 10;
    if exceeds(m.peak, m.used, 15) {
        findings.push(
            "Peak: at some time more than 1.5 times as much was in use as now. The allocator may \
             keep what was freed, so the process can look larger than its data; MEMORY PURGE \
             gives back what nobody needs.",
        );
    }
    if exceeds(m.committed, m.used, 14) {
        findings.push(
            "Fragmentation: the allocator has more than 1.4 times as much of the operating system \
             as it has handed out. This is usual after many deletions; MEMORY PURGE may help.",
        );
    }
    if exceeds(m.rss, m.committed.max(m.used), 14) {
        findings.push(
            "Resident memory: the process is more than 1.4 times as large as what its allocator \
             accounts for. Look for large stacks, mapped files and transparent huge pages.",
        );
    }
    if m.clients > m.used / 4 {
        findings.push(
            "Clients: their buffers are more than a quarter of the memory in use. Some client \
             does not read its replies, or asks for more than it can take.",
        );
    }
    if m.maxmemory > 0 && m.used.saturating_sub(m.not_counted) > m.maxmemory {
        findings.push(
            "Limit: more is in use than maxmemory allows. Under noeviction, or if no key may be \
             evicted, writes are refused now.",
        );
    }
    if findings.is_empty() {
        return "Nothing about the use of memory is unusual.\n".to_owned();
    }
    let mut text = String::new();
    for finding in findings {
        text.push_str("* ");
        text.push_str(finding);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_names_what_is_unusual() {
        let healthy = MemoryInfo {
            used: 100 << 20,
            peak: 110 << 20,
            rss: 110 << 20,
            committed: 105 << 20,
            ..MemoryInfo::default()
        };
        assert!(diagnosis(&MemoryInfo::default()).contains("too little"));
        assert!(diagnosis(&healthy).starts_with("Nothing"));
        let cases = [
            (
                "* Peak",
                MemoryInfo {
                    peak: 200 << 20,
                    ..healthy
                },
            ),
            (
                "* Fragmentation",
                MemoryInfo {
                    committed: 200 << 20,
                    ..healthy
                },
            ),
            (
                "* Resident",
                MemoryInfo {
                    rss: 300 << 20,
                    ..healthy
                },
            ),
            (
                "* Clients",
                MemoryInfo {
                    clients: 60 << 20,
                    ..healthy
                },
            ),
            (
                "* Limit",
                MemoryInfo {
                    maxmemory: 50 << 20,
                    ..healthy
                },
            ),
        ];
        for (beginning, memory) in cases {
            let text = diagnosis(&memory);
            assert!(
                text.starts_with(beginning) && text.lines().count() == 1,
                "{text}"
            );
        }
    }
}
