//! Prints what a key costs in memory: 16-byte keys with 8-byte values, at several sizes of the
//! database. `cargo run --release --example footprint -p moon-store [keys ...]`

use moon_core::UnixMs;
use moon_store::{Db, Deadline, Key, Value};

/// Resident memory of this process in bytes.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn measure(label: &str, keys: usize, value: &[u8], deadline: Deadline) -> Db {
    let before = resident();
    let mut db = Db::default();
    for i in 0..keys {
        let name = format!("key:{i:012}");
        db.insert(Key::new(name.as_bytes()), Value::string(value), deadline);
    }
    let per_key = |bytes: usize| bytes as f64 / keys as f64;
    print!(
        "{label:24} {keys:9} keys  accounted {:6.1} B/key",
        per_key(db.memory())
    );
    if let (Some(before), Some(after)) = (before, resident()) {
        print!(
            "  resident {:6.1} B/key",
            per_key(after.saturating_sub(before))
        );
    }
    println!();
    db
}

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).flat_map(|n| n.parse()).collect();
    let sizes = if sizes.is_empty() {
        vec![1_000_000, 1_400_000, 2_000_000]
    } else {
        sizes
    };
    // All stay alive, so that none is built from memory that another one left.
    let mut all: Vec<Db> = vec![];
    for &keys in &sizes {
        all.push(measure("8-byte values", keys, b"value---", None));
    }
    let keys = sizes[0];
    all.push(measure("64-byte values", keys, &[b'v'; 64], None));
    let soon = Some(UnixMs(1));
    all.push(measure("8-byte, with deadline", keys, b"value---", soon));
    drop(all);
}
