//! What arguments commands take, as COMMAND DOCS answers it and the list of commands shows it.
//!
//! `syntax/commands.txt` has a line per command: its name, and its arguments in this notation.
//!
//! | notation | argument |
//! |---|---|
//! | `name` | a string |
//! | `#name` `%name` `!name` `~name` | an integer, a double, a Unix time, a pattern |
//! | `@name` `@2name` | a key, of the first or third group of key specifications |
//! | `~@1name` | a pattern that names keys of the second group |
//! | `WORD`, `name<WORD>` | a word as it stands; its name is that in lower case, or another |
//! | `name(a\|b)` | one of several |
//! | `name{a b}` | several, one after the other |
//! | `WORD=argument` | a word and then an argument |
//! | `argument...` | once or more; the word in front once |
//! | `argument&...` | once or more, each time with the word in front |
//! | `argument^6.2.0`, `argument^-6.2.0` | there since that version; obsolete since |
//! | `[argument]` | may be left out |
//!
//! A name in front of `(` or `{` may be left out: it is that of the parts, joined by `_`.
//!
//! The names are those of Redis, because clients go by them.

use moon_resp::Reply;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

const COMMANDS: &str = include_str!("syntax/commands.txt");

/// What kind of argument it is, by what Redis calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Double,
    /// A key.
    Key,
    /// A glob-style pattern.
    Pattern,
    /// Seconds or milliseconds since 1970.
    UnixTime,
    /// A word as it stands.
    PureToken,
    /// One of its parts.
    OneOf,
    /// All of its parts, in order.
    Block,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }
}

/// How often an argument may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Once.
    One,
    /// Once or more, behind one token.
    More,
    /// Once or more, each time with its token.
    MoreWithToken,
}

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The group of key specifications that it belongs to.
    pub key_spec: Option<u8>,
    /// The word in front of it, or that it is.
    pub token: Option<&'static str>,
    /// How often it may stand.
    pub times: Times,
    /// Whether it may be left out.
    pub is_optional: bool,
    /// The version that had it first, if its command is older.
    pub since: Option<&'static str>,
    /// The version from which on something else should be used.
    pub deprecated_since: Option<&'static str>,
    /// Its parts, of [`Kind::OneOf`] and [`Kind::Block`].
    pub arguments: Vec<Argument>,
}

/// Why a line cannot be read, and what is left of it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum SyntaxError {
    #[error("an argument is missing before {rest:?}")]
    NoArgument { rest: &'static str },
    #[error("{expected:?} is missing before {rest:?}")]
    Missing { expected: char, rest: &'static str },
}

/// The arguments of a command or of `container|subcommand`; none if it takes none.
#[must_use]
pub fn of(name: &str) -> &'static [Argument] {
    static ALL: LazyLock<HashMap<&'static str, Vec<Argument>>> = LazyLock::new(|| {
        lines()
            .map(|(name, text)| (name, parse(text).expect("a test reads every line")))
            .collect()
    });
    ALL.get(name).map_or(&[], Vec::as_slice)
}

/// How a command or `container|subcommand` is written: its name and its arguments, with brackets
/// around what may be left out.
#[must_use]
pub fn usage(name: &str) -> String {
    let mut text = name.to_ascii_uppercase().replace('|', " ");
    for argument in of(name) {
        text.push(' ');
        argument.show(&mut text);
    }
    text
}

/// Writes what COMMAND DOCS says of arguments.
pub(crate) fn write_arguments(reply: &mut Reply<'_>, arguments: &[Argument]) {
    reply.array(arguments.len());
    for argument in arguments {
        argument.write(reply);
    }
}

fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS
        .lines()
        .filter(|line| !line.starts_with("# "))
        .filter_map(|line| line.split_once(' '))
}

impl Argument {
    fn write(&self, reply: &mut Reply<'_>) {
        let has_parts = matches!(self.kind, Kind::OneOf | Kind::Block);
        let flags = self.flags();
        let texts = [
            ("name", Some(self.name.as_str())),
            ("type", Some(self.kind.name())),
            ("display_text", Some(&*self.name).filter(|_| !has_parts)),
            ("token", self.token),
            ("since", self.since),
            ("deprecated_since", self.deprecated_since),
        ];
        let pairs = texts.iter().filter(|(_, text)| text.is_some()).count();
        let others = [
            self.key_spec.is_some(),
            !flags.is_empty(),
            !self.arguments.is_empty(),
        ];
        reply.map(pairs + others.iter().filter(|is_there| **is_there).count());
        for (label, text) in texts {
            if let Some(text) = text {
                reply.bulk(label.as_bytes());
                reply.bulk(text.as_bytes());
            }
            if let ("display_text", Some(group)) = (label, self.key_spec) {
                reply.bulk(b"key_spec_index");
                reply.integer(group.into());
            }
        }
        if !flags.is_empty() {
            reply.bulk(b"flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
        if !self.arguments.is_empty() {
            reply.bulk(b"arguments");
            write_arguments(reply, &self.arguments);
        }
    }

    fn flags(&self) -> Vec<&'static str> {
        let mut flags = Vec::new();
        if self.is_optional {
            flags.push("optional");
        }
        if self.times != Times::One {
            flags.push("multiple");
        }
        if self.times == Times::MoreWithToken {
            flags.push("multiple_token");
        }
        flags
    }

    /// Appends it as a user writes it.
    fn show(&self, text: &mut String) {
        let mut body = String::new();
        match self.kind {
            Kind::PureToken => {}
            Kind::OneOf => self.show_parts(" | ", &mut body),
            Kind::Block => self.show_parts(" ", &mut body),
            _ => body.push_str(&self.name),
        }
        // Brackets around the whole tell where the choice ends, but a word in front does not.
        if self.kind == Kind::OneOf && (!self.is_optional || self.token.is_some()) {
            body = format!("<{body}>");
        }
        let with_token = match self.token {
            Some("") => "\"\"".to_owned(),
            Some(token) if body.is_empty() => token.to_owned(),
            Some(token) => format!("{token} {body}"),
            None => body.clone(),
        };
        let shown = match self.times {
            Times::One => with_token,
            Times::More => format!("{with_token} [{body} ...]"),
            Times::MoreWithToken => format!("{with_token} [{with_token} ...]"),
        };
        // Writing to a String cannot fail.
        let _infallible = match self.is_optional {
            true => write!(text, "[{shown}]"),
            false => write!(text, "{shown}"),
        };
    }

    fn show_parts(&self, between: &str, text: &mut String) {
        for (nth, part) in self.arguments.iter().enumerate() {
            if nth > 0 {
                text.push_str(between);
            }
            part.show(text);
        }
    }
}

/// Reads the arguments of one line.
fn parse(text: &'static str) -> Result<Vec<Argument>, SyntaxError> {
    let mut rest = text;
    let arguments = parse_parts(&mut rest, ' ')?;
    match rest {
        "" => Ok(arguments),
        rest => Err(SyntaxError::NoArgument { rest }),
    }
}

/// Arguments with `between` between them.
fn parse_parts(rest: &mut &'static str, between: char) -> Result<Vec<Argument>, SyntaxError> {
    let mut arguments = vec![parse_argument(rest)?];
    while take(rest, between) {
        arguments.push(parse_argument(rest)?);
    }
    Ok(arguments)
}

fn parse_argument(rest: &mut &'static str) -> Result<Argument, SyntaxError> {
    if take(rest, '[') {
        let mut argument = parse_argument(rest)?;
        argument.is_optional = true;
        expect(rest, ']')?;
        return Ok(argument);
    }
    let start = *rest;
    let word = take_word(rest);
    let is_token = word.starts_with(|first: char| first.is_ascii_uppercase());
    let mut argument = if is_token && take(rest, '=') {
        let mut argument = parse_body(rest)?;
        argument.token = Some(word);
        argument
    } else {
        *rest = start;
        parse_body(rest)?
    };
    if take_all(rest, "&...") {
        argument.times = Times::MoreWithToken;
    } else if take_all(rest, "...") {
        argument.times = Times::More;
    }
    while take(rest, '^') {
        match take(rest, '-') {
            true => argument.deprecated_since = Some(take_version(rest)),
            false => argument.since = Some(take_version(rest)),
        }
    }
    Ok(argument)
}

/// An argument without what may stand in front of and behind it.
fn parse_body(rest: &mut &'static str) -> Result<Argument, SyntaxError> {
    const SIGNS: [(char, Kind); 4] = [
        ('#', Kind::Integer),
        ('%', Kind::Double),
        ('!', Kind::UnixTime),
        ('~', Kind::Pattern),
    ];
    let start = *rest;
    let sign = SIGNS.into_iter().find(|(sign, _)| take(rest, *sign));
    let mut kind = sign.map_or(Kind::String, |(_, kind)| kind);
    let mut key_spec = None;
    if take(rest, '@') {
        let digit = rest.bytes().next().filter(u8::is_ascii_digit);
        if digit.is_some() {
            *rest = &rest[1..];
        }
        key_spec = Some(digit.map_or(0, |digit| digit - b'0'));
        if sign.is_none() {
            kind = Kind::Key;
        }
    }
    let word = take_word(rest);
    let mut argument = Argument {
        name: word.to_owned(),
        kind,
        key_spec,
        token: None,
        times: Times::One,
        is_optional: false,
        since: None,
        deprecated_since: None,
        arguments: Vec::new(),
    };
    if take(rest, '(') {
        argument.kind = Kind::OneOf;
        argument.arguments = parse_parts(rest, '|')?;
        expect(rest, ')')?;
    } else if take(rest, '{') {
        argument.kind = Kind::Block;
        argument.arguments = parse_parts(rest, ' ')?;
        expect(rest, '}')?;
    } else if take(rest, '<') {
        let end = rest.find('>').unwrap_or(rest.len());
        argument.kind = Kind::PureToken;
        argument.token = Some(&rest[..end]);
        *rest = &rest[end..];
        expect(rest, '>')?;
    } else if word.is_empty() {
        return Err(SyntaxError::NoArgument { rest: start });
    } else if word.starts_with(|first: char| first.is_ascii_uppercase()) {
        argument.kind = Kind::PureToken;
        argument.token = Some(word);
        argument.name = word.to_ascii_lowercase();
    }
    if argument.name.is_empty() {
        let names: Vec<&str> = argument.arguments.iter().map(|a| &*a.name).collect();
        argument.name = names.join("_");
    }
    Ok(argument)
}

fn take(rest: &mut &'static str, expected: char) -> bool {
    let taken = rest.strip_prefix(expected);
    *rest = taken.unwrap_or(rest);
    taken.is_some()
}

fn take_all(rest: &mut &'static str, expected: &str) -> bool {
    let taken = rest.strip_prefix(expected);
    *rest = taken.unwrap_or(rest);
    taken.is_some()
}

fn expect(rest: &mut &'static str, expected: char) -> Result<(), SyntaxError> {
    match take(rest, expected) {
        true => Ok(()),
        false => Err(SyntaxError::Missing { expected, rest }),
    }
}

fn take_while(rest: &mut &'static str, fits: impl Fn(char) -> bool) -> &'static str {
    let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
    let (taken, left) = rest.split_at(end);
    *rest = left;
    taken
}

/// The letters of a name or token.
fn take_word(rest: &mut &'static str) -> &'static str {
    take_while(rest, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '/')
    })
}

fn take_version(rest: &mut &'static str) -> &'static str {
    take_while(rest, |c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests;
