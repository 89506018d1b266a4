//! Random steps on a few keys of all kinds, for rounds that a search decides.

use crate::command::{Command, Key, SetOp, Side};
use crate::history::Call;
use crate::step::{Features, Kind, Kinds, Step, Tokens};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Members of sets are so few that sets overlap.
const MEMBERS: i64 = 6;
/// How long a blocking command waits.
const BLOCKED_MS: u64 = 15;

/// The keys: three numbers, three lists, two sets.
#[must_use]
pub fn kinds() -> Kinds {
    use Kind::{List, Number, Set};
    Kinds(vec![Number, Number, Number, List, List, List, Set, Set])
}

/// A step.
pub fn step(rng: &mut StdRng, tokens: &Tokens, features: Features) -> Step {
    let some = |rng: &mut StdRng, max: usize| {
        let count = rng.random_range(1..=max);
        let commands = (0..count).map(|_| command(rng, tokens));
        commands.collect::<Vec<_>>()
    };
    match rng.random_range(0..100) {
        0..45 => Step::call(Call::One(command(rng, tokens))),
        45..65 => Step::call(Call::Multi(some(rng, 4))),
        65..77 => {
            let count = rng.random_range(1..=2);
            let reads = (0..count).map(|_| read(rng)).collect();
            let body = some(rng, 3);
            Step::Watch {
                reads,
                then: Box::new(move |_| body),
            }
        }
        77..85 => Step::Calls((0..2).map(|_| Call::One(command(rng, tokens))).collect()),
        85..95 if features.scripts => Step::call(Call::Script(some(rng, 4))),
        95..100 if features.blocking => Step::call(Call::One(blocking(rng))),
        _ => Step::call(Call::Multi(some(rng, 3))),
    }
}

fn key(rng: &mut StdRng, kind: Kind) -> Key {
    let keys = kinds().keys(kind);
    keys[rng.random_range(0..keys.len())]
}

fn kind(rng: &mut StdRng) -> Kind {
    [Kind::Number, Kind::List, Kind::Set][rng.random_range(0..3)]
}

fn side(rng: &mut StdRng) -> Side {
    [Side::Left, Side::Right][rng.random_range(0..2)]
}

fn read(rng: &mut StdRng) -> Command {
    match rng.random_range(0..5) {
        0 => Command::Get(key(rng, Kind::Number)),
        1 => Command::MGet(kinds().keys(Kind::Number)),
        2 => Command::LRange(key(rng, Kind::List)),
        3 => Command::SMembers(key(rng, Kind::Set)),
        _ => {
            let (a, b) = (kind(rng), kind(rng));
            Command::Exists(vec![key(rng, a), key(rng, b)])
        }
    }
}

fn command(rng: &mut StdRng, tokens: &Tokens) -> Command {
    match rng.random_range(0..10) {
        0..3 => read(rng),
        3..5 => number(rng, tokens),
        5..8 => list(rng, tokens),
        _ => set(rng),
    }
}

fn number(rng: &mut StdRng, tokens: &Tokens) -> Command {
    let (a, b) = (key(rng, Kind::Number), key(rng, Kind::Number));
    let n = tokens.next();
    match rng.random_range(0..12) {
        0..3 => Command::Set(a, n),
        3..5 => Command::IncrBy(a, 1),
        5..8 => Command::MSet(vec![(a, n), (b, n)]),
        8 => Command::MSetNx(vec![(a, n), (b, n)]),
        9 => Command::Del(vec![a, b]),
        _ => moved(rng, a, b),
    }
}

/// RENAME, RENAMENX or COPY, which asks for two keys.
fn moved(rng: &mut StdRng, from: Key, to: Key) -> Command {
    match rng.random_range(0..3) {
        _ if from == to => Command::Exists(vec![from]),
        0 => Command::Rename(from, to),
        1 => Command::RenameNx(from, to),
        _ => Command::Copy(from, to),
    }
}

fn list(rng: &mut StdRng, tokens: &Tokens) -> Command {
    let (a, b) = (key(rng, Kind::List), key(rng, Kind::List));
    match rng.random_range(0..12) {
        0..5 => Command::Push(side(rng), a, tokens.next()),
        5..7 => Command::Pop(side(rng), a),
        7..10 => Command::LMove {
            from: (a, side(rng)),
            to: (b, side(rng)),
        },
        10 => Command::Del(vec![a]),
        _ => moved(rng, a, b),
    }
}

fn set(rng: &mut StdRng) -> Command {
    let sets = kinds().keys(Kind::Set);
    let (a, b) = (key(rng, Kind::Set), key(rng, Kind::Set));
    let n = rng.random_range(0..MEMBERS);
    match rng.random_range(0..10) {
        0..4 => Command::SAdd(a, n),
        4..6 => Command::SRem(a, n),
        6..8 => Command::SMove(a, b, n),
        _ => {
            let op = [SetOp::Inter, SetOp::Union, SetOp::Diff][rng.random_range(0..3)];
            Command::Store(op, a, [sets[0], sets[1]])
        }
    }
}

fn blocking(rng: &mut StdRng) -> Command {
    let (a, b) = (key(rng, Kind::List), key(rng, Kind::List));
    match rng.random_range(0..3) {
        0 => Command::BlockingPop(side(rng), vec![a], BLOCKED_MS),
        1 if a != b => Command::BlockingPop(side(rng), vec![a, b], BLOCKED_MS),
        _ => Command::BlockingMove {
            from: (a, side(rng)),
            to: (b, side(rng)),
            timeout_ms: BLOCKED_MS,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn commands_use_keys_of_their_kind() {
        let mut rng = StdRng::seed_from_u64(1);
        let tokens = Tokens::default();
        let mut keys = crate::model::Keyspace::empty(kinds().0.len());
        for _ in 0..5000 {
            let command = command(&mut rng, &tokens);
            let answer = keys.apply(&command);
            let wrong = crate::command::Answer::Error("WRONGTYPE".into());
            assert_ne!(answer, wrong, "{command}");
        }
    }
}
