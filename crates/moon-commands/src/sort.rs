//! SORT and SORT_RO: the elements of a list, a set or a sorted set in another order.
//!
//! BY and GET have patterns: with the element in the place of `*` a pattern names a key, or with
//! `->` a field of a hash. Which keys those are is known only while the command runs, so a request
//! with a pattern takes the data of all shards ([`Scope::Patterns`](crate::spec::Scope::Patterns)).

use crate::collection::replaced;
use crate::context::{CommandResult, Cx};
use crate::double::strtod;
use crate::error::CommandError;
use crate::notify::Class;
use crate::parse::{integer, is, next_option};
use crate::spec::{Keys, commands};
use moon_core::UnixMs;
use moon_resp::{Args, Reply};
use moon_store::{End, IntText, Key, List, Member, Value};
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

const SOURCE_AND_STORE: Keys = Keys::FirstAndFound(stored_key);
const SOURCE_AND_PATTERNS: Keys = Keys::FirstAndFound(|_, _| {});

commands! { "generic":
    "sort" -2 [WRITE DENYOOM MOVABLEKEYS] SOURCE_AND_STORE, Patterns, sort,
        "write set sortedset list slow dangerous", "1.0.0",
        "O(N+M*log(M)): N elements, M of them answered.",
        "Answers or stores the elements of a list, set or sorted set in order.";
    "sort_ro" -2 [READONLY MOVABLEKEYS] SOURCE_AND_PATTERNS, Patterns, sort_ro,
        "read set sortedset list slow dangerous", "7.0.0",
        "O(N+M*log(M)): N elements, M of them answered.",
        "Answers the elements of a list, set or sorted set in order.";
}

/// Whether a request has BY or GET with a pattern that names keys. It may say so of one that has
/// none, where something else is called like the options.
pub(crate) fn has_patterns(args: Args<'_>) -> bool {
    let options = args.from(2);
    let pairs = options.iter().zip(options.iter().skip(1));
    pairs
        .filter(|(option, _)| is(option, "by") || is(option, "get"))
        .any(|(_, pattern)| pattern.contains(&b'*'))
}

/// Where SORT stores to: the last one counts. Goes by the options as [`Options::parse`] does.
fn stored_key(args: Args<'_>, positions: &mut Vec<usize>) {
    let (mut at, mut found) = (2, None);
    while let Some(option) = args.get(at) {
        if is(option, "store") {
            found = Some(at + 1).filter(|at| *at < args.len()).or(found);
        }
        at += match option {
            option if is(option, "limit") => 3,
            option if is(option, "store") || is(option, "by") || is(option, "get") => 2,
            _ => 1,
        };
    }
    positions.extend(found);
}

/// What is asked for.
#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    /// How many are left out at the start, and how many follow; negative: all.
    limit: Option<(i64, i64)>,
    by: Option<&'a [u8]>,
    /// Some BY names something without `*`, and so no keys: nothing is sorted, whatever the last
    /// BY says.
    unsorted: bool,
    gets: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, may_store: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        let mut at = 2;
        while let Some(option) = next_option(args, &mut at) {
            let left = args.len() - at;
            if is(option, "asc") {
                options.descending = false;
            } else if is(option, "desc") {
                options.descending = true;
            } else if is(option, "alpha") {
                options.alpha = true;
            } else if is(option, "limit") && left >= 2 {
                options.limit = Some((integer(args.at(at))?, integer(args.at(at + 1))?));
                at += 2;
            } else if is(option, "store") && left >= 1 && may_store {
                options.store = Some(args.at(at));
                at += 1;
            } else if is(option, "by") && left >= 1 {
                options.by = Some(args.at(at));
                options.unsorted |= !args.at(at).contains(&b'*');
                at += 1;
            } else if is(option, "get") && left >= 1 {
                options.gets.push(args.at(at));
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// Which of `len` elements are answered.
    fn part(&self, len: usize) -> Range<usize> {
        let (start, count) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(start.max(0)).unwrap_or(len).min(len);
        let count = usize::try_from(count).unwrap_or(len);
        start..start.saturating_add(count).min(len)
    }

    /// Where a part of something that keeps its order begins, which counts from the end when
    /// descending.
    fn first_of(&self, part: &Range<usize>, len: usize) -> usize {
        match self.descending {
            true => len - part.end,
            false => part.start,
        }
    }
}

/// Byte strings one after the other, so that many short ones take one allocation.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, nth: usize) -> &[u8] {
        let start = nth.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[nth]]
    }
}

fn sort(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    run(cx, args, true)
}

fn sort_ro(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    run(cx, args, false)
}

fn run(cx: &mut Cx<'_>, args: Args<'_>, may_store: bool) -> CommandResult {
    let mut options = Options::parse(args, may_store)?;
    let mut elements = Texts::default();
    let part = match cx.read(Key::new(args.at(1))) {
        None => 0..0,
        Some(value) => load(value, &mut options, &mut elements)?,
    };
    let order = order(cx, &options, &elements)?;
    let answered = &order[part];
    match options.store {
        None => {
            answer(cx, &options, &elements, answered);
            Ok(())
        }
        Some(destination) => {
            store(cx, Key::new(destination), &options, &elements, answered);
            Ok(())
        }
    }
}

/// Reads the elements, or only those that will be answered where their order stays. Returns which
/// of what was read will be answered, once it is sorted.
fn load(
    value: &Value,
    options: &mut Options<'_>,
    elements: &mut Texts,
) -> Result<Range<usize>, CommandError> {
    match value {
        Value::List(list) => {
            let part = options.part(list.len());
            if options.unsorted {
                let start = options.first_of(&part, list.len());
                let from = match options.descending {
                    true => End::Right,
                    false => End::Left,
                };
                list.visit(start..start + part.len(), from, |_, element| {
                    elements.push(element);
                    ControlFlow::Continue(())
                });
                return Ok(0..elements.len());
            }
            list.for_each(|element| elements.push(element));
            Ok(part)
        }
        Value::Set(set) => {
            // What is stored must not depend on the order of a hash table.
            if options.unsorted && options.store.is_some() {
                options.alpha = true;
                options.by = None;
                options.unsorted = false;
            }
            let mut digits = IntText::new();
            for member in set.iter() {
                elements.push(match member {
                    Member::Int(number) => digits.format(number),
                    Member::Bytes(bytes) => bytes,
                });
            }
            Ok(options.part(set.len()))
        }
        Value::ZSet(zset) => {
            let part = options.part(zset.len());
            if !options.unsorted {
                zset.iter().for_each(|(member, _)| elements.push(member));
                return Ok(part);
            }
            let first = options.first_of(&part, zset.len());
            let members = zset.range(first..first + part.len());
            if options.descending {
                members.rev().for_each(|(member, _)| elements.push(member));
            } else {
                members.for_each(|(member, _)| elements.push(member));
            }
            Ok(0..elements.len())
        }
        _ => Err(CommandError::WrongType),
    }
}

/// The elements' indexes in the order asked for.
fn order(
    cx: &mut Cx<'_>,
    options: &Options<'_>,
    elements: &Texts,
) -> Result<Vec<usize>, CommandError> {
    let mut order: Vec<usize> = (0..elements.len()).collect();
    if options.unsorted {
        return Ok(order);
    }
    let direct = |ordering: Ordering| match options.descending {
        true => ordering.reverse(),
        false => ordering,
    };
    match (options.alpha, options.by) {
        (true, None) => {
            order.sort_by(|a, b| direct(elements.get(*a).cmp(elements.get(*b))));
        }
        (true, Some(pattern)) => {
            // Elements whose key is missing come first: `None` is less than anything.
            let (mut weights, mut is_there) = (Texts::default(), Vec::new());
            for nth in 0..elements.len() {
                with_value(cx, pattern, elements.get(nth), |value, _| {
                    is_there.push(value.is_some());
                    weights.push(value.unwrap_or_default());
                });
            }
            let weight = |nth: usize| is_there[nth].then(|| weights.get(nth));
            order.sort_by(|a, b| direct(weight(*a).cmp(&weight(*b))));
        }
        (false, by) => {
            let mut scores = Vec::with_capacity(elements.len());
            for nth in 0..elements.len() {
                let element = elements.get(nth);
                let score = match by {
                    None => score(element),
                    Some(pattern) => with_value(cx, pattern, element, |value, _| {
                        value.map_or(Some(0.0), score)
                    }),
                };
                scores.push(score);
            }
            let scores: Option<Vec<f64>> = scores.into_iter().collect();
            let scores = scores.ok_or(CommandError::Text(
                "ERR One or more scores can't be converted into double",
            ))?;
            // Equal scores are told apart, so that the order is always the same.
            order.sort_by(|a, b| {
                let by_score = scores[*a].partial_cmp(&scores[*b]);
                let by_element = || elements.get(*a).cmp(elements.get(*b));
                direct(by_score.unwrap_or(Ordering::Equal).then_with(by_element))
            });
        }
    }
    Ok(order)
}

/// The number that a whole text is, as `strtod` reads it; an empty one is 0.
fn score(text: &[u8]) -> Option<f64> {
    // C ends at the first zero byte.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let read = strtod(text);
    let is_number = read.len == text.len() && !read.out_of_range && !read.value.is_nan();
    is_number.then_some(read.value)
}

/// Shows what a pattern means for an element: the element itself for `#`, otherwise a string or a
/// field of a hash, if it is there.
fn with_value<'a, R>(
    cx: &mut Cx<'a>,
    pattern: &[u8],
    element: &[u8],
    show: impl FnOnce(Option<&[u8]>, &mut Reply<'a>) -> R,
) -> R {
    if pattern == b"#" {
        return show(Some(element), &mut cx.reply);
    }
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else {
        return show(None, &mut cx.reply);
    };
    let (before, behind) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = behind.windows(2).position(|pair| pair == b"->");
    let (behind, field) = match arrow {
        Some(at) if at + 2 < behind.len() => (&behind[..at], Some(&behind[at + 2..])),
        _ => (behind, None),
    };
    let key = [before, element, behind].concat();
    let now = cx.now;
    let (found, reply) = cx.read_with_reply(Key::new(&key));
    let mut digits = IntText::new();
    let value = found.and_then(|(value, _)| part_of(value, field, now, &mut digits));
    show(value, reply)
}

/// The string, or the field of the hash.
fn part_of<'v>(
    value: &'v Value,
    field: Option<&[u8]>,
    now: UnixMs,
    digits: &'v mut IntText,
) -> Option<&'v [u8]> {
    match (value, field) {
        (value, None) => value.as_bytes(digits),
        (Value::Hash(hash), Some(name)) => {
            let field = hash.field(name).filter(|field| !field.has_expired(now))?;
            Some(field.value)
        }
        _ => None,
    }
}

fn answer(cx: &mut Cx<'_>, options: &Options<'_>, elements: &Texts, answered: &[usize]) {
    cx.reply.array(answered.len() * options.gets.len().max(1));
    for nth in answered {
        let element = elements.get(*nth);
        if options.gets.is_empty() {
            cx.reply.bulk(element);
        }
        for pattern in &options.gets {
            with_value(cx, pattern, element, |value, reply| match value {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            });
        }
    }
}

/// Puts the result as a list in the place of whatever is at `key`.
fn store(
    cx: &mut Cx<'_>,
    key: Key<'_>,
    options: &Options<'_>,
    elements: &Texts,
    answered: &[usize],
) {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for nth in answered {
        let element = elements.get(*nth);
        if options.gets.is_empty() {
            parts.push(element.to_vec());
        }
        for pattern in &options.gets {
            parts.push(with_value(cx, pattern, element, |value, _| {
                value.unwrap_or_default().to_vec()
            }));
        }
    }
    let was_there = cx.live(cx.db, key).is_some();
    if !parts.is_empty() {
        let limit = cx.limits.list_nodes();
        let mut list = List::default();
        for part in &parts {
            list.push(End::Right, part, limit);
        }
        cx.store(key, Value::List(Box::new(list)), None);
    } else if was_there {
        cx.remove(key);
    }
    replaced(cx, key, was_there, b"RPUSH", &parts);
    if was_there || !parts.is_empty() {
        cx.notify_stored(Class::LIST, "sortstore", key);
    }
    cx.reply.count(parts.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Session;
    use moon_resp::OwnedArgs;

    /// Scenario 18.
    #[test]
    fn a_stored_result_is_logged_as_a_list() {
        let mut s = Session::new();
        s.expect("RPUSH l 3 1 2", ":3\r\n");
        s.effects();
        s.expect("SORT l STORE d", ":3\r\n");
        s.expect_effect("RPUSH d 1 2 3");
        s.expect("SORT l LIMIT 3 1 STORE d", ":0\r\n");
        s.expect_effect("DEL d");
        s.expect("SORT none STORE d", ":0\r\n");
        s.expect("SORT l", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
        s.expect_no_effect();
        s.expect("SORT l DESC STORE l", ":3\r\n");
        assert!(s.effects().contains("DEL\r\n$1\r\nl\r\n*5\r\n$5\r\nRPUSH"));
    }

    #[test]
    fn what_is_no_double_is_no_score() {
        for (text, expected) in [
            ("", Some(0.0)),
            (" 7", Some(7.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("0x10", Some(16.0)),
            ("1e400", None),
            ("nan", None),
            ("7 ", None),
            ("one", None),
            ("3\0x", Some(3.0)),
        ] {
            assert_eq!(score(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn only_patterns_that_name_keys_take_all_shards() {
        for (request, expected) in [
            ("SORT k", false),
            ("SORT k BY nosort GET #", false),
            ("SORT k BY w_*", true),
            ("SORT k get #  get w_*->f", true),
            ("SORT k LIMIT 0 1 STORE by", false),
            ("SORT k BY", false),
        ] {
            let args = OwnedArgs::new(request.split(' '));
            assert_eq!(has_patterns(args.as_args()), expected, "{request}");
        }
    }

    #[test]
    fn the_key_that_is_stored_to_is_the_last_one_named() {
        for (request, expected) in [
            ("SORT k", None),
            ("SORT k STORE d", Some(3)),
            ("SORT k STORE store x", Some(3)),
            ("SORT k STORE a STORE b", Some(5)),
            ("SORT k BY store GET store STORE d", Some(7)),
            ("SORT k LIMIT store x", None),
            ("SORT k STORE", None),
        ] {
            let args = OwnedArgs::new(request.split(' '));
            let mut positions = Vec::new();
            stored_key(args.as_args(), &mut positions);
            assert_eq!(positions.first().copied(), expected, "{request}");
        }
    }
}
