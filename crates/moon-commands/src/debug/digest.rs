//! A number for what a keyspace or a value holds: 160 bits of SHA-1, put together as Redis does,
//! so that two servers with the same data answer the same.
//!
//! Bytes that come in an order are *mixed* into a digest, bytes that come in any order are *added*
//! to it: adding is an exclusive or, which any order leaves the same.

use moon_store::{Deadline, IntText, Kind, ShardData, Stream, StreamId, Value};
use sha1_smol::Sha1;
use std::fmt;

const LEN: usize = 20;

/// A digest. Zero for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; LEN]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Digest {
    /// Of all keys in these shards, which are all shards of a server: DEBUG DIGEST. Expired keys
    /// count until they are removed.
    #[must_use]
    pub fn of_keyspace(shards: &[&ShardData]) -> Digest {
        let databases = shards.iter().map(|shard| shard.dbs.len()).max();
        let mut digest = Digest::default();
        for db in 0..databases.unwrap_or(0) {
            let parts = || shards.iter().filter_map(|shard| shard.dbs.get(db));
            if parts().all(|part| part.is_empty()) {
                continue;
            }
            // Never more than 65536.
            digest.mix(&(db as u32).to_be_bytes());
            for part in parts() {
                part.for_each(&mut |key, value, deadline| {
                    let mut entry = Digest::default();
                    entry.mix(key);
                    entry.mix_value(value, deadline);
                    digest.add(&entry.0);
                });
            }
        }
        digest
    }

    /// Of a value: DEBUG DIGEST-VALUE.
    #[must_use]
    pub fn of_value(value: &Value, deadline: Deadline) -> Digest {
        let mut digest = Digest::default();
        digest.mix_value(value, deadline);
        digest
    }

    fn add(&mut self, bytes: &[u8]) {
        let hash = Sha1::from(bytes).digest().bytes();
        for (byte, hashed) in self.0.iter_mut().zip(hash) {
            *byte ^= hashed;
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.0 = Sha1::from(self.0).digest().bytes();
    }

    /// Mixes the parts of an element, and adds the element.
    fn add_element(&mut self, parts: &[&[u8]]) {
        let mut element = Digest::default();
        for part in parts {
            element.mix(part);
        }
        self.add(&element.0);
    }

    fn mix_value(&mut self, value: &Value, deadline: Deadline) {
        self.mix(&number_of(value.kind()).to_be_bytes());
        let mut text = IntText::new();
        match value {
            Value::Int(_) | Value::Str(_) => {
                self.mix(value.as_bytes(&mut text).unwrap_or_default());
            }
            Value::List(list) => list.for_each(|element| self.mix(element)),
            Value::Set(set) => set.iter().for_each(|member| self.add(&member.to_vec())),
            Value::Hash(fields) => {
                for field in fields.fields() {
                    let mut element = Digest::default();
                    element.mix(field.name);
                    element.mix(field.value);
                    if field.deadline.is_some() {
                        element.add(b"!!hexpire!!");
                    }
                    self.add(&element.0);
                }
            }
            Value::Stream(stream) => self.mix_entries(stream),
            Value::ZSet(members) => {
                for (member, score) in members.iter() {
                    self.add_element(&[member, significant_17(score).as_bytes()]);
                }
            }
        }
        if deadline.is_some() {
            self.add(b"!!expire!!");
        }
    }

    /// The entries of a stream; its groups do not count.
    fn mix_entries(&mut self, stream: &Stream) {
        let mut text = Vec::new();
        for entry in stream.range(StreamId::MIN, StreamId::MAX) {
            self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
            for (field, value) in entry.fields() {
                for element in [field, value] {
                    text.clear();
                    element.spell(&mut text);
                    self.mix(&text);
                }
            }
        }
    }
}

/// The number that a type has in Redis.
fn number_of(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::ZSet => 3,
        Kind::Hash => 4,
        Kind::Stream => 6,
    }
}

/// A number as `printf("%.17g")` prints it: 17 digits without zeros at their end, in scientific
/// notation if the exponent is below -4 or above 16.
fn significant_17(number: f64) -> String {
    const DIGITS: i32 = 17;
    if !number.is_finite() {
        return number.to_string().to_ascii_lowercase();
    }
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        return trimmed(&format!("{number:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_spelled_as_printf_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (3.16, "3.1600000000000001"),
            (0.1, "0.10000000000000001"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e300, "1.0000000000000001e+300"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, expected) in cases {
            assert_eq!(significant_17(number), expected);
        }
    }
}
