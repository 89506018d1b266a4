//! The operations of workloads on fields with deadlines, on HyperLogLogs, on streams that consumers
//! share, and of scripts and functions.

use super::{FAR_FUTURE_MS, Generator, own, pair};
use crate::fields::{BRIEF, FieldOp, PAST_MS};
use crate::groups::GroupOp;
use crate::model::DbKey;
use crate::op::Op;
use crate::sketches::SketchOp;
use crate::typed::TypedOp;

/// Hashes of one connection and one kind.
const HASHES: u32 = 12;
/// Sketches of one connection: so few that some become dense.
const SKETCHES: u32 = 5;
/// Elements that are counted. Most of them are counted several times.
const ELEMENTS: u32 = 30_000;
/// Streams of one connection: so few that consumers meet.
const STREAMS: u32 = 6;
/// Who reads them.
const CONSUMERS: [&str; 3] = ["c1", "c2", "c3"];
/// Deadlines that come during the run are at most so far away: some pass while the load runs, some
/// while the server is down, some while it recovers.
const BRIEF_MS_MAX: u32 = 250;

impl Generator {
    /// Hashes `d` have fields of all kinds, hashes `o` only such that expire meanwhile, and then the
    /// key goes, too.
    pub(super) fn fields(&mut self) -> Op {
        let key = self.hash("d");
        let field = format!("d{}", self.below(12)).into_bytes();
        let brief = [BRIEF, self.below(12).to_string().as_bytes()].concat();
        let brief_key = match self.below(2) {
            0 => self.hash("o"),
            _ => key.clone(),
        };
        Op::Field(match self.below(100) {
            0..24 => FieldOp::SetAt(brief_key, brief, self.value(), self.soon()),
            24..30 => FieldOp::Set(brief_key, brief, self.value()),
            30..34 => FieldOp::Del(brief_key, brief),
            34..45 => FieldOp::SetAt(key, field, self.value(), self.far()),
            45..54 => return Op::HSet(key, field, self.value()),
            54..63 => FieldOp::ExpireAt(key, field, self.far()),
            63..66 => FieldOp::ExpireAt(key, field, PAST_MS),
            66..72 => FieldOp::Persist(key, field),
            72..76 => FieldOp::GetAt(key, field, self.far()),
            76..79 => FieldOp::GetDel(key, field),
            79..83 => FieldOp::Replace(key, field, self.value()),
            83..87 => return Op::HIncrBy(key, b"n".to_vec(), 1),
            87..89 => FieldOp::ExpireAt(key, b"n".to_vec(), self.far()),
            89..91 => FieldOp::DelKey(brief_key),
            91..94 => {
                let copy = self.hash("y");
                return self.with_anchor(key.clone(), Op::Copy(key, copy));
            }
            94..96 => {
                let to = self.hash("d");
                return self.with_anchor(key.clone(), Op::Rename(key, to));
            }
            96..98 => {
                let value = self.value();
                return Op::Multi(vec![
                    Op::Field(FieldOp::Set(brief_key.clone(), brief.clone(), value)),
                    Op::Field(FieldOp::ExpireAt(brief_key, brief, self.soon())),
                ]);
            }
            _ => {
                let value = self.value();
                let at = self.soon();
                return Op::Multi(vec![
                    Op::Field(FieldOp::SetAt(
                        key.clone(),
                        brief.clone(),
                        value.clone(),
                        at,
                    )),
                    Op::HSet(key, field, value.clone()),
                    Op::Field(FieldOp::SetAt(self.hash("o"), brief, value, at)),
                ]);
            }
        })
    }

    /// `op` on a hash that certainly is there: it has a field that stays.
    fn with_anchor(&self, key: DbKey, op: Op) -> Op {
        Op::Multi(vec![Op::HSet(key, b"anchor".to_vec(), self.value()), op])
    }

    pub(super) fn sketches(&mut self) -> Op {
        let key = self.sketch();
        Op::Sketch(match self.below(1000) {
            0..800 => {
                let count = self.below(4);
                let mut elements = Vec::new();
                for _ in 0..count {
                    let element = self.below(ELEMENTS);
                    // Of all lengths, because they are hashed in words of eight bytes.
                    let tail = ["", "-", "-element", "-a-long-element"][element as usize % 4];
                    elements.push(format!("{element}{tail}").into_bytes());
                }
                SketchOp::Add(key, elements)
            }
            800..880 => SketchOp::Merge {
                to: key,
                from: [self.sketch(), self.sketch()],
            },
            880..940 => SketchOp::Count(key),
            940..960 => {
                let number = self.below(SKETCHES);
                let copy = own(self.connection, 0, &format!("j{number}"));
                return Op::Copy(key, copy);
            }
            960..975 => return Op::SAdd(key, b"m".to_vec()),
            975..985 => return Op::Del(vec![key]),
            _ => {
                let element = self.sequence.to_string().into_bytes();
                return Op::Multi(vec![
                    Op::Sketch(SketchOp::Add(key.clone(), vec![element.clone()])),
                    Op::Sketch(SketchOp::Add(self.sketch(), vec![element])),
                    Op::Sketch(SketchOp::Count(key)),
                ]);
            }
        })
    }

    pub(super) fn groups(&mut self) -> Op {
        let key = self.stream();
        let consumer = CONSUMERS[self.below(3) as usize];
        let count = self.below(6) as usize + 1;
        // What is pending is mostly among the last entries.
        let earlier = |generator: &mut Generator| {
            let ago = u64::from(generator.below(150));
            generator.sequence.saturating_sub(ago).max(1)
        };
        Op::Group(match self.below(100) {
            0..38 => return Op::Typed(TypedOp::XAdd(key, self.sequence, self.value(), None)),
            38..46 => return Op::Typed(TypedOp::XGroup(key)),
            46..52 => return Op::Typed(TypedOp::XReadGroup(key, consumer, count)),
            52..64 => GroupOp::ReadTwo {
                keys: [key, self.stream()],
                consumer,
                count,
            },
            64..72 => GroupOp::AutoClaim(key, consumer, count),
            72..78 => GroupOp::Claim(key, consumer, earlier(self)),
            78..88 => GroupOp::AckTwo(key, [earlier(self), earlier(self)]),
            88..90 => GroupOp::DelConsumer(key, consumer),
            90..92 => GroupOp::Rewind(key),
            92..94 => return Op::Del(vec![key]),
            _ => {
                let other = self.stream();
                return Op::Multi(vec![
                    Op::Typed(TypedOp::XAdd(
                        key.clone(),
                        self.sequence,
                        self.value(),
                        None,
                    )),
                    Op::Group(GroupOp::ReadTwo {
                        keys: [key.clone(), other],
                        consumer,
                        count,
                    }),
                    Op::Group(GroupOp::AckTwo(key, [self.sequence, earlier(self)])),
                ]);
            }
        })
    }

    fn stream(&mut self) -> DbKey {
        let number = self.below(STREAMS);
        own(self.connection, 0, &format!("t{number}"))
    }

    /// Several operations on several shards as one, which `together` makes of them.
    pub(super) fn scripted(&mut self, together: fn(Vec<Op>) -> Op) -> Op {
        let (a, b) = pair(self.connection, self.below(super::KEYS));
        let value = self.value();
        let ops = match self.below(100) {
            0..40 => vec![Op::Set(a, value.clone(), None), Op::Set(b, value, None)],
            40..60 => vec![
                Op::IncrBy(self.key(0, "n"), 1),
                Op::MSet(vec![(a, value.clone()), (b, value)]),
                Op::IncrBy(self.key(0, "n"), 1),
            ],
            // One that fails in the middle: what is around it happens.
            60..75 => vec![
                Op::RPush(self.key(0, "l"), value.clone()),
                Op::SAdd(self.key(0, "l"), value.clone()),
                Op::LPop(self.key(0, "l")),
                Op::HSet(self.key(0, "h"), value.clone(), value),
            ],
            75..90 => vec![
                Op::Set(self.key(0, "x"), value, None),
                Op::Rename(self.key(0, "x"), self.key(0, "x")),
                Op::Del(vec![self.key(0, "x"), self.key(0, "h")]),
            ],
            _ => return Op::Set(self.key(0, "x"), value, None),
        };
        together(ops)
    }

    /// The library is loaded first, and hardly ever again: recovery must bring it back.
    pub(super) fn functions(&mut self) -> Op {
        if self.sequence == 1 || self.below(500) == 0 {
            return Op::LoadLibrary;
        }
        self.scripted(Op::Function)
    }

    fn hash(&mut self, kind: &str) -> DbKey {
        let number = self.below(HASHES);
        own(self.connection, 0, &format!("{kind}{number}"))
    }

    fn sketch(&mut self) -> DbKey {
        let number = self.below(SKETCHES);
        own(self.connection, 0, &format!("k{number}"))
    }

    fn far(&mut self) -> u64 {
        FAR_FUTURE_MS + u64::from(self.below(1_000_000))
    }

    /// A deadline that comes during the run.
    fn soon(&mut self) -> u64 {
        let at = self.now_ms + 2 + u64::from(self.below(BRIEF_MS_MAX));
        self.last_deadline_ms = self.last_deadline_ms.max(at);
        at
    }
}
