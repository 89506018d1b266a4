//! Writes a directory as version 1 left it: a base in RDB form and a file of plain requests, both
//! beside the manifest.

use anyhow::{Result, bail};
use moon_harness::Reply;
use moon_harness::load::Writer;
use moon_harness::model::{DbKey, Entry, Value};
use moon_harness::op::{Op, OpEncoder};
use moon_harness::sketches::SketchOp;
use moon_rdb::{RdbInfo, RdbValueRef, RdbVersion, RdbWriter};
use std::collections::BTreeMap;
use std::path::Path;

/// Operations of each connection in each of the two files.
const OPERATIONS: usize = 600;

/// Whether version 1 had the types that `op` writes.
fn is_of_its_time(op: &Op) -> bool {
    match op {
        Op::Typed(_) | Op::Field(_) | Op::Sketch(_) => false,
        Op::Multi(ops) => ops.iter().all(is_of_its_time),
        _ => true,
    }
}

/// Whether `op` could stand in a log: commands that only read, and those whose effects are written
/// in other words, never do.
fn is_logged(op: &Op) -> bool {
    match op {
        Op::Field(_) | Op::Sketch(SketchOp::Count(_)) => false,
        Op::Multi(ops) => ops.iter().all(is_logged),
        _ => true,
    }
}

/// Lets every connection write, half of it into the base, half behind it; its model knows what it
/// wrote. Returns the number of operations.
pub(super) fn write_directory(dir: &Path, writers: &mut [Writer]) -> Result<u64> {
    std::fs::create_dir_all(dir)?;
    let mut operations = 0;
    for writer in &mut *writers {
        for _ in 0..OPERATIONS {
            let op = writer.generator.next_op();
            if is_of_its_time(&op) {
                op.apply(&mut writer.state);
                operations += 1;
            }
        }
    }
    std::fs::write(dir.join("moon.aof.1.base.rdb"), base(writers)?)?;
    let mut incr = Vec::new();
    let mut encoder = OpEncoder::default();
    for _ in 0..OPERATIONS {
        for writer in &mut *writers {
            let op = writer.generator.next_op();
            let mut state = writer.state.clone();
            // A log holds what was done, not what was refused.
            if is_logged(&op) && !has_error(&op.apply(&mut state)) {
                encoder.encode(&op, &mut incr);
                writer.state = state;
                operations += 1;
            }
        }
    }
    std::fs::write(dir.join("moon.aof.1.incr.aof"), incr)?;
    let manifest = "seq 1\nbase moon.aof.1.base.rdb\nincr moon.aof.1.incr.aof\n";
    std::fs::write(dir.join("moon.aof.manifest"), manifest)?;
    Ok(operations)
}

fn has_error(reply: &Reply) -> bool {
    let in_items = |items: &[Reply]| items.iter().any(has_error);
    matches!(reply, Reply::Error(_)) || reply.items().is_some_and(in_items)
}

fn base(writers: &[Writer]) -> Result<Vec<u8>> {
    let mut databases: BTreeMap<u8, Vec<(&DbKey, &Entry)>> = BTreeMap::new();
    for (key, entry) in writers.iter().flat_map(|writer| &writer.state) {
        databases.entry(key.db).or_default().push((key, entry));
    }
    let mut rdb = RdbWriter::header(Vec::new(), RdbVersion::V10)?;
    rdb.info(&RdbInfo {
        redis_ver: "7.0.0",
        ctime_s: 0,
        used_mem_bytes: 0,
        aof_base: true,
        cut_lsn: None,
    })?;
    for (db, entries) in databases {
        let expiring = |(_, entry): &&(&DbKey, &Entry)| entry.expires_at_ms.is_some();
        let expires = entries.iter().filter(expiring).count() as u64;
        rdb.select_db(u32::from(db), entries.len() as u64, expires)?;
        for (key, entry) in entries {
            let deadline = entry.expires_at_ms.map(i64::try_from).transpose()?;
            match &entry.value {
                Value::Str(bytes) => rdb.entry(&key.key, deadline, RdbValueRef::String(bytes)),
                Value::List(items) => {
                    let mut items = items.iter().map(Vec::as_slice);
                    rdb.entry(&key.key, deadline, RdbValueRef::List(&mut items))
                }
                Value::Set(members) => {
                    let mut members = members.iter().map(Vec::as_slice);
                    rdb.entry(&key.key, deadline, RdbValueRef::Set(&mut members))
                }
                Value::Hash(fields) => {
                    let mut fields = fields.iter().map(|(f, v)| (f.as_slice(), v.as_slice()));
                    rdb.entry(&key.key, deadline, RdbValueRef::Hash(&mut fields))
                }
                // Version 1 had none of them.
                Value::Scores(_) | Value::Stream(_) | Value::Sketch(_) => {
                    bail!("{key} is of a newer type")
                }
            }?;
        }
    }
    Ok(rdb.finish()?)
}
