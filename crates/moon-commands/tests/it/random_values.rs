//! Random commands on lists and bits get the replies of a real `redis-server`.

use crate::pair::Pair;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// `K` is a key, `V` an element, `N` a position or count, `B` an offset of a bit, `T` the type of a
/// field, `U` a unit.
const TEMPLATES: &[&str] = &[
    "lpush K V V",
    "rpush K V V V V",
    "rpush K V V V V V V V V",
    "lpop K",
    "rpop K N",
    "llen K",
    "lrange K N N",
    "lindex K N",
    "lpos K V RANK N COUNT N",
    "lpos K V COUNT 0 MAXLEN N",
    "lpos K V RANK N",
    "lset K N V",
    "linsert K BEFORE V V",
    "linsert K AFTER V V",
    "lrem K N V",
    "lrange K 0 -1",
    "ltrim K N N",
    "ltrim K 1 -1",
    "lmove K K LEFT RIGHT",
    "lmove K K RIGHT LEFT",
    "rpoplpush K K",
    "lmpop 2 K K LEFT COUNT N",
    "lmpop 1 K RIGHT",
    "sort K ALPHA",
    "sort K LIMIT N N DESC ALPHA",
    "sort K BY nosort GET # LIMIT N N",
    "sort K ALPHA STORE K",
    "sort K",
    "del K",
    "set K V",
    "setbit K B 1",
    "setbit K B 0",
    "getbit K B",
    "bitcount K N N U",
    "bitcount K",
    "bitpos K 0 N N U",
    "bitpos K 1 N N U",
    "bitpos K 0 N",
    "bitpos K 1",
    "bitop AND K K K",
    "bitop OR K K K",
    "bitop XOR K K K",
    "bitop NOT K K",
    "bitfield K SET T B N GET T B",
    "bitfield K INCRBY T B N OVERFLOW SAT INCRBY T B N OVERFLOW FAIL INCRBY T B N",
    "bitfield K OVERFLOW SAT SET T #N N OVERFLOW FAIL SET T B N",
    "bitfield_ro K GET T B GET T #N",
    "get K",
    "strlen K",
    "type K",
];

fn render(template: &str, rng: &mut SmallRng) -> String {
    let words = template.split(' ').map(|word| match word {
        "K" => ["k1", "k2", "k3", "k4"][rng.random_range(0..4)].to_owned(),
        "V" => match rng.random_range(0..10) {
            0 => String::new(),
            1 => "long".repeat(rng.random_range(1..3000)),
            n => ["a", "b", "12", "c"][n % 4].to_owned(),
        },
        "N" => match rng.random_range(0..20) {
            0 => i64::MAX.to_string(),
            1 => (i64::MIN + 1).to_string(),
            2 => "300".to_owned(),
            _ => rng.random_range(-9..10_i32).to_string(),
        },
        "B" => rng.random_range(0..150).to_string(),
        "#N" => format!("#{}", rng.random_range(0..9)),
        "T" if rng.random() => format!("i{}", rng.random_range(1..65)),
        "T" => format!("u{}", rng.random_range(1..64)),
        "U" => ["BIT", "BYTE"][rng.random_range(0..2)].to_owned(),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn random_commands_on_lists_and_bits_get_the_replies_of_redis() {
    for (seed, node_size, depth) in [(20_265, -2, 0), (20_266, 3, 0), (20_267, 4, 1)] {
        let (size, compress_depth) = (node_size.to_string(), depth.to_string());
        let settings = [
            "--list-max-listpack-size",
            &size,
            "--list-compress-depth",
            &compress_depth,
        ];
        let Some(mut pair) = Pair::start(3, &settings) else {
            return;
        };
        pair.moon.limits.list_max_listpack_size = node_size;
        pair.moon.limits.list_compress_depth = depth;
        println!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        for _ in 0..8_000 {
            let template = TEMPLATES[rng.random_range(0..TEMPLATES.len())];
            let command = render(template, &mut rng);

            pair.compare(&command);
            if command.starts_with("bitfield") || command.starts_with("bitop") {
                for key in ["k1", "k2", "k3", "k4"] {
                    pair.compare(&format!("get {key}"));
                }
            }
        }
    }
}
