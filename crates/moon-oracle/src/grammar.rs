//! The little language in which the families describe their commands, and its expansion.
//!
//! A line is a *template*: an optional weight, then requests separated by `;`. Words of a request
//! are separated by spaces.
//!
//! | form | what it becomes |
//! |---|---|
//! | `WORD`, `0`, `'word'` | itself (what has a lower-case letter needs the quotes) |
//! | `word` | a random word of this kind, see [`crate::words`] |
//! | `numkeys` | a number and so many keys; now and then the number is wrong |
//! | `numfields` | a number and so many hash fields |
//! | `$` | the first key of this step again |
//! | `[ a b ]` | `a b` or nothing |
//! | `( a \| b c )` | one of the alternatives |
//! | `{ a b }` | one to four times `a b`, each expanded anew |
//! | `@( a \| b c )` | none to three of the alternatives, in any order, the same one twice now and then |
//! | `< a >` | `a` as often as the last `numkeys` said |
//! | `@third` | the id that the server has given this connection |
//! | `any` as a request | a request of any family |
//! | `script` as a request | a script that calls requests of any family ([`crate::lua`]) |
//!
//! A request may begin with marks: `walk` sends it again with the cursor of the reply before until
//! the walk ends; `other`, `third` and `fourth` send it on another connection; `!name`
//! names the property that the replies of this step have ([`crate::property`]); `transplant` moves
//! a value between the servers by DUMP and RESTORE, and `functions` all libraries; `wait` says that
//! the reply may come only after later requests, `hear` that the connection is told things unasked.

use crate::lua;
use crate::property::Property;
use crate::request::{Connection, Kind, Request, Step};
use crate::words::{Word, Words};
use rand::RngExt as _;

/// A line of a family.
#[derive(Clone, Debug)]
pub struct Template {
    /// How often it is chosen, compared with the others.
    pub weight: u32,
    /// What is known of the replies beyond their equality.
    pub property: Option<Property>,
    requests: Vec<RequestTemplate>,
}

#[derive(Clone, Debug)]
struct RequestTemplate {
    connection: Connection,
    kind: Kind,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Vec<u8>),
    Word(Word),
    NumKeys,
    NumFields,
    /// A request of any family, in place of a whole request.
    Any,
    /// A script that calls such requests, in place of a whole request.
    Script,
    FirstKey,
    Optional(Vec<Part>),
    OneOf(Vec<Vec<Part>>),
    SomeOf(Vec<Vec<Part>>),
    Repeated(Vec<Part>),
    PerKey(Vec<Part>),
}

/// Why a line is not a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrammarError {
    /// No kind of words is called so.
    UnknownWord(String),
    /// A bracket is missing its other half.
    Unbalanced,
    /// No property is called so.
    UnknownProperty(String),
    /// There is no request in the line.
    Empty,
}

impl Template {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Template, GrammarError> {
        let mut line = line.trim();
        let mut weight = 1;
        if let Some((first, rest)) = line.split_once(' ')
            && let Ok(number) = first.parse()
        {
            weight = number;
            line = rest.trim_start();
        }
        let mut property = None;
        if let Some(rest) = line.strip_prefix('!') {
            let (name, rest) = rest.split_once(' ').ok_or(GrammarError::Empty)?;
            property = Some(
                Property::named(name)
                    .ok_or_else(|| GrammarError::UnknownProperty(name.to_owned()))?,
            );
            line = rest;
        }
        let requests = line
            .split(" ; ")
            .map(parse_request)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Template {
            weight,
            property,
            requests,
        })
    }

    /// The names of its commands, in upper case.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.requests
            .iter()
            .flat_map(|r| match (r.kind, r.parts.first()) {
                (Kind::Transplant, _) => vec![&b"RESTORE"[..]],
                (Kind::Functions, _) => vec![&b"FUNCTION"[..]],
                (_, Some(Part::Script)) => vec![&b"EVAL"[..]],
                (_, Some(Part::Literal(name))) => vec![&name[..]],
                (_, Some(Part::OneOf(alternatives))) => alternatives
                    .iter()
                    .filter_map(|parts| match parts.first() {
                        Some(Part::Literal(name)) => Some(&name[..]),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            })
    }

    /// Whether it is one plain request, so that it can stand in a transaction.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let [request] = &self.requests[..] else {
            return false;
        };
        self.property.is_none()
            && request.connection == Connection::Main
            && request.kind == Kind::Plain
            && !matches!(request.parts[..], [Part::Any | Part::Script])
    }

    /// Makes a step of it. `any` gives a request for where the template leaves it open.
    pub fn expand(
        &self,
        words: &mut Words<'_>,
        any: &mut dyn FnMut(&mut Words<'_>) -> Vec<Vec<u8>>,
    ) -> Step {
        words.forget_first_key();
        let requests = self
            .requests
            .iter()
            .map(|template| {
                let mut args = Vec::new();
                let mut inner = Vec::new();
                match &template.parts[..] {
                    [Part::Any] => args = any(words),
                    [Part::Script] => (args, inner) = lua::calls(words, any),
                    parts => {
                        let mut expansion = Expansion {
                            words: &mut *words,
                            args: &mut args,
                            keys: 0,
                        };
                        expansion.all(parts);
                    }
                }
                Request {
                    args,
                    connection: template.connection,
                    kind: template.kind,
                    inner,
                }
            })
            .collect();
        Step {
            requests,
            property: self.property,
        }
    }
}

fn parse_request(text: &str) -> Result<RequestTemplate, GrammarError> {
    let mut tokens: Vec<&str> = text.split_whitespace().collect();
    let mut connection = Connection::Main;
    let mut kind = Kind::Plain;
    while let Some(first) = tokens.first() {
        match *first {
            "walk" => kind = Kind::Walk,
            "transplant" => kind = Kind::Transplant,
            "functions" => kind = Kind::Functions,
            "wait" => kind = Kind::Wait,
            "hear" => kind = Kind::Hear,
            name => match Connection::named(name) {
                Some(named) => connection = named,
                None => break,
            },
        }
        tokens.remove(0);
    }
    let mut tokens = tokens.into_iter();
    let mut alternatives = parse_until(&mut tokens, None)?;
    if tokens.next().is_some() || alternatives.len() != 1 {
        return Err(GrammarError::Unbalanced);
    }
    let parts = alternatives.remove(0);
    if parts.is_empty() {
        return Err(GrammarError::Empty);
    }
    Ok(RequestTemplate {
        connection,
        kind,
        parts,
    })
}

/// Reads alternatives up to the closing bracket, or to the end where there is none.
fn parse_until(
    tokens: &mut std::vec::IntoIter<&str>,
    close: Option<&str>,
) -> Result<Vec<Vec<Part>>, GrammarError> {
    let mut alternatives = vec![Vec::new()];
    loop {
        let Some(token) = tokens.next() else {
            return match close {
                None => Ok(alternatives),
                Some(_) => Err(GrammarError::Unbalanced),
            };
        };
        if Some(token) == close {
            return Ok(alternatives);
        }
        let sequence = |mut inner: Vec<Vec<Part>>| match inner.len() {
            1 => Ok(inner.remove(0)),
            _ => Err(GrammarError::Unbalanced),
        };
        let part = match token {
            "|" => {
                alternatives.push(Vec::new());
                continue;
            }
            "[" => Part::Optional(sequence(parse_until(tokens, Some("]"))?)?),
            "{" => Part::Repeated(sequence(parse_until(tokens, Some("}"))?)?),
            "<" => Part::PerKey(sequence(parse_until(tokens, Some(">"))?)?),
            "(" => Part::OneOf(parse_until(tokens, Some(")"))?),
            "@(" => Part::SomeOf(parse_until(tokens, Some(")"))?),
            "]" | "}" | ">" | ")" => return Err(GrammarError::Unbalanced),
            "numkeys" => Part::NumKeys,
            "numfields" => Part::NumFields,
            "any" => Part::Any,
            "script" => Part::Script,
            "$" => Part::FirstKey,
            id if id.starts_with('@') && Connection::named(&id[1..]).is_some() => {
                Part::Literal(id.into())
            }
            quoted if quoted.len() > 1 && quoted.starts_with('\'') && quoted.ends_with('\'') => {
                Part::Literal(quoted.as_bytes()[1..quoted.len() - 1].to_vec())
            }
            word if word.bytes().any(|b| b.is_ascii_lowercase()) => Part::Word(
                Word::named(word).ok_or_else(|| GrammarError::UnknownWord(word.to_owned()))?,
            ),
            literal => Part::Literal(literal.as_bytes().to_vec()),
        };
        alternatives
            .last_mut()
            .expect("there is always one")
            .push(part);
    }
}

struct Expansion<'a, 'w> {
    words: &'a mut Words<'w>,
    args: &'a mut Vec<Vec<u8>>,
    /// What the last `numkeys` said.
    keys: usize,
}

impl Expansion<'_, '_> {
    /// Templates are nested as deeply as their lines are written, so recursion is bounded.
    fn all(&mut self, parts: &[Part]) {
        for part in parts {
            self.one(part);
        }
    }

    fn one(&mut self, part: &Part) {
        match part {
            Part::Literal(text) => self.args.push(text.clone()),
            Part::Word(word) => {
                let text = self.words.word(*word);
                self.args.push(text);
            }
            Part::NumKeys => self.counted(Word::Key),
            Part::NumFields => self.counted(Word::Field),
            Part::Any | Part::Script => {}
            Part::FirstKey => {
                let key = self.words.first_key();
                self.args.push(key);
            }
            Part::Optional(parts) => {
                if self.words.rng.random_range(0..5) < 2 {
                    self.all(parts);
                }
            }
            Part::OneOf(alternatives) => {
                let chosen = self.words.rng.random_range(0..alternatives.len());
                self.all(&alternatives[chosen]);
            }
            Part::SomeOf(alternatives) => {
                let times = [0, 0, 1, 1, 1, 2, 2, 3][self.words.rng.random_range(0..8)];
                for _ in 0..times {
                    let chosen = self.words.rng.random_range(0..alternatives.len());
                    self.all(&alternatives[chosen]);
                }
            }
            Part::Repeated(parts) => {
                let times = [1, 1, 2, 2, 3, 4][self.words.rng.random_range(0..6)];
                for _ in 0..times {
                    self.all(parts);
                }
            }
            Part::PerKey(parts) => {
                for _ in 0..self.keys {
                    self.all(parts);
                }
            }
        }
    }

    fn counted(&mut self, word: Word) {
        self.keys = self.words.rng.random_range(1..=3);
        let said = match self.words.rng.random_range(0..40) {
            0 => self.words.word(Word::Int),
            1 => (self.keys + 1).to_string().into_bytes(),
            _ => self.keys.to_string().into_bytes(),
        };
        self.args.push(said);
        for _ in 0..self.keys {
            let text = self.words.word(word);
            self.args.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn expand(line: &str, seed: u64) -> String {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut words = Words::new(&mut rng, 0);
        let template = Template::parse(line).expect("a template");
        template
            .expand(&mut words, &mut |_| vec![b"PING".to_vec()])
            .to_string()
    }

    #[test]
    fn every_form_expands_to_what_it_stands_for() {
        assert_eq!(expand("3 SET 'a' 1", 0), "SET a 1");
        assert_eq!(
            expand("MULTI ; any ; other GET 'x' ; EXEC", 0),
            "MULTI ; PING ; other GET x ; EXEC"
        );
        for seed in 0..50 {
            let text = expand("Z numkeys W < 7 >", seed);
            let words: Vec<_> = text.split(' ').collect();
            let sevens = words.iter().rev().take_while(|w| **w == "7").count();
            let keys = words.iter().position(|w| *w == "W").expect("there") - 2;
            assert_eq!(sevens, keys, "{text}");
            let picked = expand("C ( A | B ) [ D ]", seed);
            assert!(
                ["C A", "C B", "C A D", "C B D"].contains(&&picked[..]),
                "{picked}"
            );
            let some = expand("C @( A | B )", seed);
            assert!(some.len() <= "C A A A".len(), "{some}");
            let pair = expand("DEL key ; GET $", seed);
            let (del, get) = pair.split_once(" ; ").expect("two");
            assert_eq!(del.strip_prefix("DEL"), get.strip_prefix("GET"));
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let error = |line| Template::parse(line).expect_err("refused");
        assert_eq!(
            error("GET nosuch"),
            GrammarError::UnknownWord("nosuch".into())
        );
        assert_eq!(error("GET [ key"), GrammarError::Unbalanced);
        assert_eq!(error("GET key ]"), GrammarError::Unbalanced);
        assert_eq!(
            error("!none GET key"),
            GrammarError::UnknownProperty("none".into())
        );
    }
}
