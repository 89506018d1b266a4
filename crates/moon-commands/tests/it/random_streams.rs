//! Random commands on streams, against a real `redis-server` where one is installed.
//!
//! Ids rise with a counter, so that most entries are taken. Left out is what shows times, and what
//! Redis 7.2 changed against the server compared with: it creates consumers who claim nothing.

use crate::compared_with_redis::Pair;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// `S` is a stream, `G` a group, `C` a consumer, `A` the next id, `I` any id so far, `B` a bound of a
/// range, `N` a number, `V` a field or a value.
const TEMPLATES: &[&str] = &[
    "xadd S A V V",
    "xadd S A V V",
    "xadd S A V V V V",
    "xadd S A a 1 b V",
    "xadd S A a 2 b V",
    "xadd S I V V",
    "xadd S maxlen N A V V",
    "xadd S maxlen ~ N A V V",
    "xadd S minid I A V V",
    "xadd S minid ~ I limit N A V V",
    "xadd S nomkstream A V V",
    "xtrim S maxlen N",
    "xtrim S maxlen ~ N",
    "xtrim S maxlen ~ N limit N",
    "xtrim S minid I",
    "xtrim S minid ~ I",
    "xdel S I",
    "xdel S I I I",
    "xlen S",
    "xrange S B B",
    "xrange S B B count N",
    "xrevrange S B B",
    "xrevrange S B B count N",
    "xread streams S S I I",
    "xread count N streams S I",
    "xread streams S $",
    "xgroup create S G I",
    "xgroup create S G $ entriesread N mkstream",
    "xgroup setid S G I",
    "xgroup setid S G I entriesread N",
    "xgroup destroy S G",
    "xreadgroup group G C count N streams S >",
    "xreadgroup group G C streams S S > >",
    "xreadgroup group G C noack count N streams S >",
    "xreadgroup group G C count N streams S I",
    "xack S G I I I",
    "xpending S G",
    "xclaim S G C 0 I I I",
    "xclaim S G C 0 I I force",
    "xclaim S G C 0 I retrycount N justid",
    "xclaim S G C 0 I force justid lastid I",
    "xautoclaim S G C 0 I count N",
    "xautoclaim S G C 0 0 justid",
    "xsetid S A maxdeletedid I",
    "xsetid S A entriesadded 1000",
    "xinfo stream S",
    "xinfo groups S",
    "xinfo groups S",
    "del S",
    "copy S S replace",
];

struct Words {
    rng: SmallRng,
    next: u64,
}

impl Words {
    fn pick(&mut self, from: &[&str]) -> String {
        from[self.rng.random_range(0..from.len())].to_owned()
    }

    fn id(&mut self) -> String {
        let from = self.next.saturating_sub(40);
        let ms = self.rng.random_range(from..=self.next);
        match self.rng.random_range(0..4) {
            0 => format!("{ms}-1"),
            _ => format!("{ms}-0"),
        }
    }

    fn word(&mut self, word: &str) -> String {
        match word {
            "S" => self.pick(&["s", "t", "u"]),
            "G" => self.pick(&["g", "h"]),
            "C" => self.pick(&["c", "d"]),
            "V" => self.pick(&[
                "a",
                "b",
                "7",
                "-300",
                "a-longer-value-that-takes-some-room",
                "''",
            ]),
            "N" => self.pick(&["0", "1", "2", "3", "5", "9", "20"]),
            "I" => self.id(),
            "B" => match self.rng.random_range(0..5) {
                0 => "-".to_owned(),
                1 => "+".to_owned(),
                2 => format!("({}", self.id()),
                _ => self.id(),
            },
            "A" => {
                self.next += self.rng.random_range(1..3);
                let seq = self.rng.random_range(0..2);
                format!("{}-{seq}", self.next)
            }
            word => word.to_owned(),
        }
    }

    fn command(&mut self) -> String {
        let template = TEMPLATES[self.rng.random_range(0..TEMPLATES.len())];
        let words = template.split(' ').map(|word| self.word(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn random_commands_on_streams_get_the_replies_of_redis() {
    let Some(mut pair) = Pair::start(3) else {
        return;
    };
    let seed = 20_263;
    println!("seed {seed}");
    let mut words = Words {
        rng: SmallRng::seed_from_u64(seed),
        next: 0,
    };
    for (entries, bytes) in [("100", "4096"), ("3", "0"), ("0", "150"), ("10", "300")] {
        for (setting, value) in [
            ("stream-node-max-entries", entries),
            ("stream-node-max-bytes", bytes),
        ] {
            pair.redis.run(&["config", "set", setting, value]);
        }
        pair.moon.limits.stream_node_max_entries = entries.parse().expect("a number");
        pair.moon.limits.stream_node_max_bytes = bytes.parse().expect("a number");
        pair.compare("flushall");
        for _ in 0..6000 {
            let command = words.command();
            pair.compare(&command);
            // An error where there is no such group, or the number that was created.
            if command.starts_with("xgroup create") {
                let parts: Vec<&str> = command.split(' ').collect();
                for consumer in ["c", "d"] {
                    let (key, group) = (parts[2], parts[3]);
                    pair.compare(&format!("xgroup createconsumer {key} {group} {consumer}"));
                }
            }
        }
    }
}
