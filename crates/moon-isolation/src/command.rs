//! The commands that clients use, as data: how each is sent and how its reply is read.
//!
//! A key is a number, its name stands in [`Names`]; all values are whole numbers. Nearly every value is
//! written once, so that whoever reads it knows where it came from.

use moon_core::shard::{ShardCount, ShardId};
use moon_harness::Reply;
use std::fmt;

/// A key, by its number in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u8);

impl Key {
    /// As an index into [`Names`] and keyspaces.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The names of keys, and the shard of each.
#[derive(Clone, Debug)]
pub struct Names {
    names: Vec<Vec<u8>>,
    shards: Vec<ShardId>,
}

impl Names {
    /// `count` keys whose names begin with `prefix`, in turn on each of the `shards`.
    #[must_use]
    pub fn spread(prefix: &str, count: u8, shards: ShardCount) -> Names {
        let mut tried = 0_u32;
        let names = (0..count).map(|number| {
            let wanted = ShardId(u16::from(number) % shards.get());
            loop {
                let name = format!("{prefix}{number}.{tried}").into_bytes();
                tried += 1;
                // A hash spreads names evenly, so a few tries find every shard.
                if shards.shard_of_key(&name) == wanted {
                    return name;
                }
            }
        });
        let names: Vec<Vec<u8>> = names.collect();
        let shards = names.iter().map(|n| shards.shard_of_key(n)).collect();
        Names { names, shards }
    }

    /// Every key.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        (0..u8::MAX).take(self.names.len()).map(Key).collect()
    }

    /// How a key is called on the wire.
    #[must_use]
    pub fn of(&self, key: Key) -> &[u8] {
        &self.names[key.index()]
    }

    /// Which shard has it.
    #[must_use]
    pub fn shard(&self, key: Key) -> ShardId {
        self.shards[key.index()]
    }

    fn find(&self, name: &[u8]) -> Option<Key> {
        let at = self.names.iter().position(|n| n == name)?;
        u8::try_from(at).ok().map(Key)
    }
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its head.
    Left,
    /// Its tail.
    Right,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Left => "LEFT",
            Side::Right => "RIGHT",
        }
    }

    fn choose(self, left: &'static str, right: &'static str) -> &'static str {
        match self {
            Side::Left => left,
            Side::Right => right,
        }
    }
}

/// How two sets become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOp {
    /// What is in both.
    Inter,
    /// What is in one or both.
    Union,
    /// What is in the first and not in the second.
    Diff,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `GET key`
    Get(Key),
    /// `SET key n`
    Set(Key, i64),
    /// `INCRBY key n`
    IncrBy(Key, i64),
    /// `MGET key...`
    MGet(Vec<Key>),
    /// `MSET key n ...`
    MSet(Vec<(Key, i64)>),
    /// `MSETNX key n ...`
    MSetNx(Vec<(Key, i64)>),
    /// `EXISTS key...`
    Exists(Vec<Key>),
    /// `DEL key...`
    Del(Vec<Key>),
    /// `RENAME from to`
    Rename(Key, Key),
    /// `RENAMENX from to`
    RenameNx(Key, Key),
    /// `COPY from to REPLACE`
    Copy(Key, Key),
    /// `LPUSH key n` or `RPUSH key n`
    Push(Side, Key, i64),
    /// `LPOP key` or `RPOP key`
    Pop(Side, Key),
    /// `LRANGE key 0 -1`
    LRange(Key),
    /// `LMOVE from to side side`
    LMove {
        /// Where it is taken.
        from: (Key, Side),
        /// Where it goes.
        to: (Key, Side),
    },
    /// `SADD key n`
    SAdd(Key, i64),
    /// `SREM key n`
    SRem(Key, i64),
    /// `SMEMBERS key`
    SMembers(Key),
    /// `SMOVE from to n`
    SMove(Key, Key, i64),
    /// `SINTERSTORE to a b` and its kin
    Store(SetOp, Key, [Key; 2]),
    /// `BLPOP key... timeout` or `BRPOP`, the time in milliseconds
    BlockingPop(Side, Vec<Key>, u64),
    /// `BLMOVE from to side side timeout`, the time in milliseconds
    BlockingMove {
        /// Where it is taken.
        from: (Key, Side),
        /// Where it goes.
        to: (Key, Side),
        /// How long it waits.
        timeout_ms: u64,
    },
}

/// What a server answered, or would: what differs between protocols is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `+OK`
    Ok,
    /// An integer.
    Int(i64),
    /// A string that is a number.
    Number(i64),
    /// No value.
    Nil,
    /// An array of strings that are numbers; sets in ascending order.
    Numbers(Vec<Option<i64>>),
    /// The key and the element that a blocking pop answers.
    Popped(Key, i64),
    /// What the commands of a transaction or script answered.
    All(Vec<Answer>),
    /// An error, by its code.
    Error(String),
    /// What no command here answers.
    Unexpected(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &mut dyn Iterator<Item = String>| {
            write!(f, "[{}]", items.collect::<Vec<_>>().join(" "))
        };
        match self {
            Answer::Ok => write!(f, "OK"),
            Answer::Int(n) => write!(f, ":{n}"),
            Answer::Number(n) => write!(f, "{n}"),
            Answer::Nil => write!(f, "nil"),
            Answer::Numbers(items) => list(
                f,
                &mut items
                    .iter()
                    .map(|n| n.map_or("nil".into(), |n| n.to_string())),
            ),
            Answer::Popped(key, n) => write!(f, "[k{} {n}]", key.0),
            Answer::All(items) => list(f, &mut items.iter().map(ToString::to_string)),
            Answer::Error(code) => write!(f, "-{code}"),
            Answer::Unexpected(text) => write!(f, "unexpected {text}"),
        }
    }
}

impl Command {
    /// The keys it names, in its order.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        match self {
            Command::Get(k)
            | Command::Set(k, _)
            | Command::IncrBy(k, _)
            | Command::Push(_, k, _)
            | Command::Pop(_, k)
            | Command::LRange(k)
            | Command::SAdd(k, _)
            | Command::SRem(k, _)
            | Command::SMembers(k) => vec![*k],
            Command::MGet(keys)
            | Command::Exists(keys)
            | Command::Del(keys)
            | Command::BlockingPop(_, keys, _) => keys.clone(),
            Command::MSet(pairs) | Command::MSetNx(pairs) => {
                pairs.iter().map(|(key, _)| *key).collect()
            }
            Command::Rename(a, b)
            | Command::RenameNx(a, b)
            | Command::Copy(a, b)
            | Command::SMove(a, b, _)
            | Command::LMove {
                from: (a, _),
                to: (b, _),
            }
            | Command::BlockingMove {
                from: (a, _),
                to: (b, _),
                ..
            } => vec![*a, *b],
            Command::Store(_, to, [a, b]) => vec![*to, *a, *b],
        }
    }

    /// Whether it never changes anything.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Command::Get(_)
                | Command::MGet(_)
                | Command::Exists(_)
                | Command::LRange(_)
                | Command::SMembers(_)
        )
    }

    /// Whether it changed nothing, as its answer shows.
    #[must_use]
    pub fn did_nothing(&self, answer: &Answer) -> bool {
        let nothing = match self {
            Command::MSetNx(_)
            | Command::Del(_)
            | Command::RenameNx(..)
            | Command::Copy(..)
            | Command::SAdd(..)
            | Command::SRem(..)
            | Command::SMove(..) => *answer == Answer::Int(0),
            Command::Pop(..)
            | Command::LMove { .. }
            | Command::BlockingPop(..)
            | Command::BlockingMove { .. } => *answer == Answer::Nil,
            command => command.is_read(),
        };
        nothing || matches!(answer, Answer::Error(_))
    }

    /// The words that are sent.
    #[must_use]
    pub fn words(&self, names: &Names) -> Vec<Vec<u8>> {
        self.words_with(&|key| names.of(key).to_vec())
    }

    fn words_with(&self, name: &dyn Fn(Key) -> Vec<u8>) -> Vec<Vec<u8>> {
        let number = |n: &i64| n.to_string().into_bytes();
        let word = |text: &str| text.as_bytes().to_vec();
        let one = |verb: &str, key: Key| vec![word(verb), name(key)];
        let keyed = |verb: &str, key: Key, n: &i64| vec![word(verb), name(key), number(n)];
        let many = |verb: &str, keys: &[Key]| {
            let keys = keys.iter().map(|key| name(*key));
            std::iter::once(word(verb)).chain(keys).collect::<Vec<_>>()
        };
        let pairs = |verb: &str, pairs: &[(Key, i64)]| {
            let pairs = pairs.iter().flat_map(|(key, n)| [name(*key), number(n)]);
            std::iter::once(word(verb)).chain(pairs).collect::<Vec<_>>()
        };
        let moved = |verb: &str, from: (Key, Side), to: (Key, Side)| {
            vec![
                word(verb),
                name(from.0),
                name(to.0),
                word(from.1.word()),
                word(to.1.word()),
            ]
        };
        match self {
            Command::Get(k) => one("GET", *k),
            Command::Set(k, n) => keyed("SET", *k, n),
            Command::IncrBy(k, n) => keyed("INCRBY", *k, n),
            Command::MGet(keys) => many("MGET", keys),
            Command::MSet(all) => pairs("MSET", all),
            Command::MSetNx(all) => pairs("MSETNX", all),
            Command::Exists(keys) => many("EXISTS", keys),
            Command::Del(keys) => many("DEL", keys),
            Command::Rename(a, b) => many("RENAME", &[*a, *b]),
            Command::RenameNx(a, b) => many("RENAMENX", &[*a, *b]),
            Command::Copy(a, b) => {
                let mut words = many("COPY", &[*a, *b]);
                words.push(word("REPLACE"));
                words
            }
            Command::Push(side, k, n) => keyed(side.choose("LPUSH", "RPUSH"), *k, n),
            Command::Pop(side, k) => one(side.choose("LPOP", "RPOP"), *k),
            Command::LRange(k) => vec![word("LRANGE"), name(*k), word("0"), word("-1")],
            Command::LMove { from, to } => moved("LMOVE", *from, *to),
            Command::SAdd(k, n) => keyed("SADD", *k, n),
            Command::SRem(k, n) => keyed("SREM", *k, n),
            Command::SMembers(k) => one("SMEMBERS", *k),
            Command::SMove(a, b, n) => {
                let mut words = many("SMOVE", &[*a, *b]);
                words.push(number(n));
                words
            }
            Command::Store(op, to, from) => {
                let verb = match op {
                    SetOp::Inter => "SINTERSTORE",
                    SetOp::Union => "SUNIONSTORE",
                    SetOp::Diff => "SDIFFSTORE",
                };
                many(verb, &[*to, from[0], from[1]])
            }
            Command::BlockingPop(side, keys, timeout_ms) => {
                let mut words = many(side.choose("BLPOP", "BRPOP"), keys);
                words.push(seconds(*timeout_ms));
                words
            }
            Command::BlockingMove {
                from,
                to,
                timeout_ms,
            } => {
                let mut words = moved("BLMOVE", *from, *to);
                words.push(seconds(*timeout_ms));
                words
            }
        }
    }

    /// What `reply` says, if this command is what it answers.
    #[must_use]
    pub fn answer(&self, reply: &Reply, names: &Names) -> Answer {
        let unexpected = || Answer::Unexpected(format!("{reply:?}"));
        match (self, reply) {
            (_, Reply::Error(text)) => {
                let text = String::from_utf8_lossy(text);
                Answer::Error(text.split(' ').next().unwrap_or_default().to_owned())
            }
            (_, Reply::Int(n)) => Answer::Int(*n),
            (_, Reply::Null | Reply::NullArray) => Answer::Nil,
            (Command::BlockingPop(..), Reply::Array(items)) => match &items[..] {
                [Reply::Bulk(key), element] => match (names.find(key), number(element)) {
                    (Some(key), Some(n)) => Answer::Popped(key, n),
                    _ => unexpected(),
                },
                _ => unexpected(),
            },
            (_, Reply::Bulk(_)) => number(reply).map_or_else(unexpected, Answer::Number),
            (_, Reply::Array(items) | Reply::Set(items)) => {
                let numbers = items.iter().map(|item| match item {
                    Reply::Null => Some(None),
                    item => number(item).map(Some),
                });
                let Some(mut numbers) = numbers.collect::<Option<Vec<_>>>() else {
                    return unexpected();
                };
                if matches!(self, Command::SMembers(_)) {
                    numbers.sort_unstable();
                }
                Answer::Numbers(numbers)
            }
            (_, reply) if reply.is_ok() => Answer::Ok,
            _ => unexpected(),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words_with(&|key| format!("k{}", key.0).into_bytes());
        let words: Vec<_> = words.iter().map(|w| String::from_utf8_lossy(w)).collect();
        f.write_str(&words.join(" "))
    }
}

fn seconds(ms: u64) -> Vec<u8> {
    format!("{}.{:03}", ms / 1000, ms % 1000).into_bytes()
}

fn number(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_on_all_shards_in_turn() {
        let shards = ShardCount::new(4).unwrap();
        let names = Names::spread("iso:", 8, shards);
        for key in names.keys() {
            assert_eq!(names.shard(key), ShardId(u16::from(key.0) % 4));
            assert_eq!(names.find(names.of(key)), Some(key));
        }
    }

    #[test]
    fn a_reply_is_read_as_the_command_means_it() {
        let names = Names::spread("iso:", 2, ShardCount::ONE);
        let members = Reply::Set(vec![Reply::bulk("9"), Reply::bulk("3")]);
        let sorted = Answer::Numbers(vec![Some(3), Some(9)]);
        assert_eq!(Command::SMembers(Key(0)).answer(&members, &names), sorted);
        let popped = Reply::Array(vec![Reply::bulk(names.of(Key(1))), Reply::bulk("7")]);
        let pop = Command::BlockingPop(Side::Left, names.keys(), 20);
        assert_eq!(pop.answer(&popped, &names), Answer::Popped(Key(1), 7));
        let busy = Reply::Error(b"BUSY come back later".to_vec());
        assert_eq!(pop.answer(&busy, &names), Answer::Error("BUSY".into()));
        let odd = pop.answer(&Reply::bulk("text"), &names);
        assert!(matches!(odd, Answer::Unexpected(_)));
        assert_eq!(pop.to_string(), "BLPOP k0 k1 0.020");
    }
}
