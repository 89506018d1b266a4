//! What clients did and what they were answered, with times: all that the checks know.

use crate::command::{Answer, Command, Key, Names};
use crate::model::Keyspace;
use moon_harness::{Reply, scripts};
use std::fmt;

/// What one client asks for as one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A command by itself.
    One(Command),
    /// `MULTI`, the commands, `EXEC`.
    Multi(Vec<Command>),
    /// The same after `WATCH` on the keys of `guard`, which were then read.
    Watched {
        /// Reads of the watched keys, and what they answered.
        guard: Vec<(Command, Answer)>,
        /// The transaction.
        body: Vec<Command>,
    },
    /// A script that runs the commands.
    Script(Vec<Command>),
}

impl Call {
    /// The commands that it runs, not those that it read before.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        match self {
            Call::One(command) => std::slice::from_ref(command),
            Call::Multi(body) | Call::Script(body) | Call::Watched { body, .. } => body,
        }
    }

    /// Every key that it names, those that it watches included.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.commands().iter().flat_map(Command::keys).collect();
        if let Call::Watched { guard, .. } = self {
            keys.extend(guard.iter().flat_map(|(read, _)| read.keys()));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Whether it never changes anything.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.commands().iter().all(Command::is_read)
    }

    /// The requests that are sent for it. The last reply is its answer, each before it `+OK` or
    /// `+QUEUED`.
    #[must_use]
    pub fn requests(&self, names: &Names) -> Vec<Vec<Vec<u8>>> {
        let words: Vec<_> = self.commands().iter().map(|c| c.words(names)).collect();
        match self {
            Call::One(_) => words,
            Call::Multi(_) | Call::Watched { .. } => {
                let mut requests = vec![vec![b"MULTI".to_vec()]];
                requests.extend(words);
                requests.push(vec![b"EXEC".to_vec()]);
                requests
            }
            Call::Script(_) => {
                let keys: Vec<_> = self.keys().iter().map(|k| names.of(*k).to_vec()).collect();
                vec![scripts::eval_all(&keys, &words)]
            }
        }
    }

    /// What the last reply says.
    #[must_use]
    pub fn answer(&self, reply: &Reply, names: &Names) -> Answer {
        let commands = self.commands();
        match (self, reply) {
            (Call::One(command), reply) => command.answer(reply, names),
            (_, Reply::Array(items)) if items.len() == commands.len() => {
                let answers = commands.iter().zip(items);
                Answer::All(answers.map(|(c, r)| c.answer(r, names)).collect())
            }
            (Call::Watched { .. }, Reply::Null | Reply::NullArray) => Answer::Nil,
            _ => Answer::Unexpected(format!("{reply:?}")),
        }
    }

    /// Every keyspace that this may leave behind if it runs on `before` and answers `answer`;
    /// none if it cannot answer that. Without an answer, all of them.
    #[must_use]
    pub fn outcomes(&self, before: &Keyspace, answer: Option<&Answer>) -> Vec<Keyspace> {
        match self {
            Call::One(Command::BlockingPop(side, keys, _)) => {
                // Which of its keys was filled first decides, and that is not known here.
                let pops = keys
                    .iter()
                    .map(|key| Command::BlockingPop(*side, vec![*key], 0));
                let mut outcomes = Vec::new();
                let mut all_empty = true;
                for pop in pops {
                    let mut after = before.clone();
                    let popped = after.apply(&pop);
                    let is_empty = popped == Answer::Nil;
                    all_empty &= is_empty;
                    if !is_empty && answer.is_none_or(|answer| *answer == popped) {
                        outcomes.push(after);
                    }
                }
                if all_empty && answer == Some(&Answer::Nil) {
                    outcomes.push(before.clone());
                }
                outcomes
            }
            Call::One(command) => {
                let mut after = before.clone();
                let answered = after.apply(command);
                if answer.is_some_and(|answer| *answer != answered) {
                    return Vec::new();
                }
                vec![after]
            }
            // It did nothing. Whether it had reason to is another question.
            Call::Watched { .. } if answer == Some(&Answer::Nil) => vec![before.clone()],
            Call::Watched { guard, body } => {
                let mut reads = before.clone();
                match guard.iter().all(|(read, seen)| reads.apply(read) == *seen) {
                    true => run_all(body, before, answer),
                    false => Vec::new(),
                }
            }
            Call::Multi(body) | Call::Script(body) => run_all(body, before, answer),
        }
    }
}

fn run_all(body: &[Command], before: &Keyspace, answer: Option<&Answer>) -> Vec<Keyspace> {
    let mut after = before.clone();
    let expected = match answer {
        None => None,
        Some(Answer::All(answers)) if answers.len() == body.len() => Some(answers),
        Some(_) => return Vec::new(),
    };
    for (at, command) in body.iter().enumerate() {
        let answer = after.apply(command);
        if expected.is_some_and(|expected| expected[at] != answer) {
            return Vec::new();
        }
    }
    vec![after]
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: Vec<_> = self.commands().iter().map(ToString::to_string).collect();
        let body = body.join("; ");
        match self {
            Call::One(_) => f.write_str(&body),
            Call::Multi(_) => write!(f, "MULTI {{ {body} }}"),
            Call::Script(_) => write!(f, "EVAL {{ {body} }}"),
            Call::Watched { guard, .. } => {
                let guard: Vec<_> = guard.iter().map(|(c, a)| format!("{c} = {a}")).collect();
                write!(f, "WATCH {{ {} }} MULTI {{ {body} }}", guard.join("; "))
            }
        }
    }
}

/// One call, and what became of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which client made it.
    pub client: usize,
    /// What it asked for.
    pub call: Call,
    /// A moment before it was sent, nanoseconds since the run began.
    pub invoked: u64,
    /// A moment by which it had happened, or never would: after its answer was read, or after the
    /// server that owed the answer was dead.
    pub returned: u64,
    /// The answer, unless the server died first.
    pub answer: Option<Answer>,
    /// For a watched transaction a moment before WATCH was sent.
    pub watched: Option<u64>,
    /// Records of the same history that come before this one, by their position: calls in one
    /// pipeline that the server keeps in order.
    pub after: Vec<usize>,
}

impl Record {
    /// Whether this certainly came before `other`.
    #[must_use]
    pub fn precedes(&self, other: &Record) -> bool {
        self.returned < other.invoked
    }

    /// Whether it changed something, as far as is known.
    #[must_use]
    pub fn may_have_written(&self) -> bool {
        let did_nothing = matches!(
            (&self.call, &self.answer),
            (Call::Watched { .. }, Some(Answer::Nil))
                | (_, Some(Answer::Error(_) | Answer::Unexpected(_)))
        );
        !did_nothing && !self.call.is_read()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns / 1000;
        write!(
            f,
            "{:>10}..{:<10} client {:<3} {} -> ",
            us(self.invoked),
            us(self.returned),
            self.client,
            self.call
        )?;
        match &self.answer {
            Some(answer) => write!(f, "{answer}"),
            None => write!(f, "(no answer)"),
        }
    }
}
