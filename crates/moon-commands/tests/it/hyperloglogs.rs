//! HyperLogLogs are those of a real `redis-server`, byte for byte.

use crate::pair::Pair;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Both with the same `hll-sparse-max-bytes`.
fn start(len_max: usize) -> Option<Pair> {
    let mut pair = Pair::start(2, &["--hll-sparse-max-bytes", &len_max.to_string()])?;
    pair.moon.limits.hll_sparse_max_bytes = len_max;
    Some(pair)
}

/// Compares the bytes of a key and its estimate, which Redis notes in a copy.
#[track_caller]
fn compare_key(pair: &mut Pair, key: &str) {
    pair.compare(&format!("GET {key}"));
    pair.compare(&format!("COPY {key} copy REPLACE"));
    pair.compare("PFCOUNT copy");
}

#[test]
fn the_same_history_makes_the_same_bytes_as_in_redis() {
    for (seed, len_max) in [(1, 3000), (2, 300), (3, 12_000), (4, 0)] {
        let Some(mut pair) = start(len_max) else {
            return;
        };
        let mut rng = SmallRng::seed_from_u64(seed);
        pair.compare("PFADD h");
        for step in 0..150 {
            let mut command = String::from("PFADD h");
            // Few at first, so that the steps around the promotion are seen one by one.
            for _ in 0..rng.random_range(0..=1 + step / 8) {
                let element = rng.random_range(0..20_000_u32);
                command.push_str(&match element % 3 {
                    0 => format!(" {element}"),
                    1 => format!(" element:{element}"),
                    _ => format!(" a-longer-element-with-many-words-{element}"),
                });
            }
            pair.compare(&command);
            compare_key(&mut pair, "h");
        }
    }
}

#[test]
fn merges_and_unions_are_those_of_redis() {
    let Some(mut pair) = start(3000) else {
        return;
    };
    let mut rng = SmallRng::seed_from_u64(9);
    for (key, count) in [("a", 10), ("b", 200), ("c", 30), ("d", 3000), ("e", 1)] {
        let elements: Vec<String> = (0..count)
            .map(|_| rng.random_range(0..5000_u32).to_string())
            .collect();
        pair.compare(&format!("PFADD {key} {}", elements.join(" ")));
        compare_key(&mut pair, key);
    }
    for (destination, sources) in [
        ("m", "a b c"),
        ("a", "e"),
        ("c", "none"),
        ("new", "none"),
        ("only", ""),
        ("b", "d"),
        ("d", "a none"),
        ("m", "m m"),
    ] {
        pair.compare(format!("PFMERGE {destination} {sources}").trim_end());
        compare_key(&mut pair, destination);
        pair.compare(&format!("PFDEBUG ENCODING {destination}"));
        pair.compare("PFCOUNT a b c d e none");
        pair.compare("PFCOUNT a e");
    }
    for key in ["a", "c", "m", "none"] {
        for subcommand in [
            "DECODE", "GETREG", "ENCODING", "TODENSE", "TODENSE", "DECODE", "FOO",
        ] {
            pair.compare(&format!("PFDEBUG {subcommand} {key}"));
        }
    }
    pair.compare("GET a");
}
