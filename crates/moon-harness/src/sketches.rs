//! Operations on HyperLogLogs, and a model of them that shares nothing with the server's: the
//! registers of a sketch, one byte each.
//!
//! What a server holds is read as a string and decoded, dense or sparse, so that every register is
//! compared: an estimate would hide a lost element among thousands.

use crate::model::{DbKey, Entry, State, Value};
use crate::op::same_reply;
use crate::reply::Reply;

/// Registers of a sketch: as many as there are values of the low 14 bits of a hash.
const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a register in the dense form.
const REGISTER_BITS: usize = 6;
/// How the string of every sketch begins; the byte behind it names the form.
pub const MAGIC: &[u8] = b"HYLL";
/// Length of what stands before the registers.
const HEADER_BYTES: usize = 16;

/// The registers of a sketch.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch(Vec<u8>);

impl Default for Sketch {
    fn default() -> Self {
        Sketch(vec![0; REGISTERS])
    }
}

impl Sketch {
    /// Counts an element; whether that changed a register.
    pub fn add(&mut self, element: &[u8]) -> bool {
        let hash = murmur(element);
        let index = (hash & (REGISTERS as u64 - 1)) as usize;
        // The bit behind the last one of the hash ends every run of zeros.
        let rest = hash >> INDEX_BITS | 1 << (u64::BITS - INDEX_BITS);
        let rank = rest.trailing_zeros() as u8 + 1;
        let rises = rank > self.0[index];
        self.0[index] = self.0[index].max(rank);
        rises
    }

    fn merge(&mut self, other: &Sketch) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// A number that no change makes smaller.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.0.iter().map(|rank| u64::from(*rank)).sum()
    }

    /// The registers in a string as servers keep it; none if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Sketch> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let registers = match header[MAGIC.len()] {
            0 => dense(body)?,
            1 => sparse(body)?,
            _ => return None,
        };
        (registers.len() == REGISTERS).then_some(Sketch(registers))
    }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = self.0.iter().filter(|rank| **rank > 0).count();
        write!(f, "sketch with {set} registers, sum {}", self.progress())
    }
}

/// Six bits for each register, the lowest bits of a byte first.
fn dense(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() != REGISTERS * REGISTER_BITS / 8 {
        return None;
    }
    let bit = |at: usize| body[at / 8] >> (at % 8) & 1;
    let register = |number: usize| {
        let bits = (0..REGISTER_BITS).map(|i| bit(number * REGISTER_BITS + i) << i);
        bits.fold(0, |all, bit| all | bit)
    };
    Some((0..REGISTERS).map(register).collect())
}

/// Runs of equal registers: `00llllll` and `01llllll llllllll` are zeros, `1vvvvvll` are values;
/// lengths and values are one more than what is written.
fn sparse(body: &[u8]) -> Option<Vec<u8>> {
    let mut registers = Vec::with_capacity(REGISTERS);
    let mut bytes = body.iter().copied();
    while let Some(byte) = bytes.next() {
        let (value, len) = match byte {
            0..0x40 => (0, usize::from(byte)),
            0x40..0x80 => (
                0,
                usize::from(byte & 0x3f) << 8 | usize::from(bytes.next()?),
            ),
            _ => ((byte >> 2 & 0x1f) + 1, usize::from(byte & 3)),
        };
        registers.resize(registers.len() + len + 1, value);
        if registers.len() > REGISTERS {
            return None;
        }
    }
    Some(registers)
}

/// MurmurHash64A with the seed that Redis uses.
fn murmur(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0xadc8_3b19;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut k = 0;
        for (i, byte) in word.iter().enumerate() {
            k |= u64::from(*byte) << (8 * i);
        }
        k = k.wrapping_mul(M);
        k = (k ^ k >> 47).wrapping_mul(M);
        hash = (hash ^ k).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u64::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum SketchOp {
    /// `PFADD key element...`
    Add(DbKey, Vec<Vec<u8>>),
    /// `PFMERGE to a b`
    Merge {
        /// The destination, which is merged, too.
        to: DbKey,
        /// The sources.
        from: [DbKey; 2],
    },
    /// `PFCOUNT key`, which changes nothing whatever a server keeps of its result.
    Count(DbKey),
}

use SketchOp as S;

impl SketchOp {
    /// The keys it changes or looks at.
    #[must_use]
    pub fn keys(&self) -> Vec<&DbKey> {
        match self {
            S::Add(key, _) | S::Count(key) => vec![key],
            S::Merge { to, from: [a, b] } => vec![to, a, b],
        }
    }

    /// Its words.
    #[must_use]
    pub fn request(&self) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = match self {
            S::Add(..) => vec![b"PFADD".to_vec()],
            S::Merge { .. } => vec![b"PFMERGE".to_vec()],
            S::Count(_) => vec![b"PFCOUNT".to_vec()],
        };
        words.extend(self.keys().into_iter().map(|key| key.key.clone()));
        if let S::Add(_, elements) = self {
            words.extend(elements.iter().cloned());
        }
        words
    }

    /// Does to `state` what the server does, and returns what the server must answer.
    pub fn apply(&self, state: &mut State) -> Reply {
        match self {
            S::Add(key, elements) => {
                let is_new = !state.contains_key(key);
                let entry = state.entry(key.clone()).or_insert_with(empty);
                let Value::Sketch(sketch) = &mut entry.value else {
                    return wrong_type();
                };
                let rises = elements.iter().filter(|e| sketch.add(e)).count() > 0;
                Reply::Int(i64::from(is_new || rises))
            }
            S::Merge { to, from: [a, b] } => {
                let mut union = Sketch::default();
                for key in [to, a, b] {
                    match state.get(key).map(|entry| &entry.value) {
                        None => {}
                        Some(Value::Sketch(sketch)) => union.merge(sketch),
                        Some(_) => return wrong_type(),
                    }
                }
                state.entry(to.clone()).or_insert_with(empty).value = Value::Sketch(union);
                Reply::ok()
            }
            S::Count(key) => match state.get(key).map(|entry| &entry.value) {
                None => Reply::Int(0),
                Some(Value::Sketch(sketch)) => Reply::Int(i64::from(sketch.progress() > 0)),
                Some(_) => wrong_type(),
            },
        }
    }

    /// Whether `actual` answers this operation, of which the model expects `expected`. The estimate
    /// itself is compared elsewhere; here it must be there.
    #[must_use]
    pub fn is_answered_by(&self, expected: &Reply, actual: &Reply) -> bool {
        match (self, expected, actual) {
            (S::Count(_), Reply::Int(expected), Reply::Int(actual)) => {
                (*expected > 0) == (*actual > 0)
            }
            _ => same_reply(expected, actual),
        }
    }
}

fn empty() -> Entry {
    Entry::new(Value::Sketch(Sketch::default()))
}

fn wrong_type() -> Reply {
    Reply::Error(b"WRONGTYPE Key is not a valid HyperLogLog string value.".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> DbKey {
        DbKey::new(0, name)
    }

    fn add(name: &str, elements: &[&str]) -> SketchOp {
        let elements = elements.iter().map(|e| e.as_bytes().to_vec()).collect();
        S::Add(key(name), elements)
    }

    #[test]
    fn the_model_answers_as_redis_does() {
        let mut state = State::new();
        let mut run = |op: SketchOp| format!("{:?}", op.apply(&mut state));
        assert_eq!(run(add("a", &[])), ":1", "a new key");
        assert_eq!(run(add("a", &[])), ":0");
        assert_eq!(run(add("a", &["x", "y"])), ":1");
        assert_eq!(run(add("a", &["y", "x"])), ":0");
        assert_eq!(run(add("b", &["z"])), ":1");
        let from = [key("b"), key("none")];
        assert_eq!(run(S::Merge { to: key("a"), from }), "+OK");
        assert_eq!(run(add("a", &["z"])), ":0", "merged");
        assert_eq!(run(add("b", &["x"])), ":1");
        state.insert(key("s"), Entry::string("s"));
        assert_eq!(add("s", &["x"]).apply(&mut state), wrong_type());
    }

    /// What `redis-server` 7.0 holds after `PFADD h a b c`.
    #[test]
    fn a_sketch_of_redis_has_the_registers_of_the_model() {
        let stored =
            b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a";
        let mut sketch = Sketch::default();
        for element in [b"a", b"b", b"c"] {
            assert!(sketch.add(element));
        }
        assert_eq!(Sketch::decode(stored), Some(sketch));
    }
}
