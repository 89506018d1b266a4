//! What may differ from Debian's `redis-server`, and why. Everything here is either documented in
//! `docs/differences.md` or a change between Redis 7.0, which is compared with, and Redis 7.2,
//! which is what moon follows.

use crate::request::Request;
use moon_resp::Value;

/// A difference that is no fault.
#[derive(Debug)]
pub struct Rule {
    /// Short, for the report.
    pub name: &'static str,
    /// Why it is right that the servers differ.
    pub reason: &'static str,
    /// Whether they may hold different data from there on, so that nothing more can be compared
    /// until they are emptied.
    pub parts: bool,
    applies: fn(&Request, &Value, &Value) -> bool,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}

/// How the names of commands begin that run scripts.
const SCRIPTS: &[&[u8]] = &[b"EVAL", b"FCALL"];

static RULES: &[Rule] = &[
    Rule {
        name: "keys of other shards that a script did not declare",
        reason: "a script that has written cannot begin again with the data of all shards, and says so",
        parts: true,
        applies: |_, _, found| tells(found, b"after it had written: name it in KEYS"),
    },
    Rule {
        name: "XSETID below what was deleted",
        reason: "since 7.2 Redis refuses an id below the largest that was deleted",
        parts: true,
        applies: |_, _, found| tells(found, b"smaller than current max_deleted_entry_id"),
    },
    Rule {
        name: "ids of the clock",
        reason: "two servers read their clocks one after the other",
        parts: true,
        applies: |request, expected, found| {
            request.name() == b"XADD"
                && request.has("*")
                && matches!((expected, found), (Value::Bulk(_), Value::Bulk(_)))
        },
    },
    Rule {
        name: "equal distances with COUNT",
        reason: "elements at one distance come in no order, and COUNT cuts among them",
        parts: true,
        applies: |request, expected, found| {
            request.name().starts_with(b"GEO")
                && request.has("COUNT")
                && matches!((expected, found), (Value::Array(a), Value::Array(b)) if a.len() == b.len())
        },
    },
    Rule {
        name: "compact small lists and sets",
        reason: "since 7.2 Redis keeps small sets and lists as listpacks, which 7.0 has for hashes only",
        parts: false,
        applies: |request, expected, found| {
            request.name() == b"OBJECT" && is_newer_encoding(expected, found)
        },
    },
    Rule {
        name: "forms of strings",
        reason: "after INCRBYFLOAT, and after APPEND or SETBIT that changed nothing, Redis holds a \
                 string in a larger form until it is loaded again; moon always in the smallest",
        parts: false,
        applies: |request, expected, found| {
            request.name() == b"OBJECT" && is_smaller_string(expected, found)
        },
    },
    Rule {
        name: "the form of sorted sets after SORT",
        reason: "in Redis, SORT of a sorted set leaves it in the large form; a read changes nothing here",
        parts: false,
        applies: |request, expected, found| {
            request.name() == b"OBJECT" && is_form_before_sort(expected, found)
        },
    },
    Rule {
        name: "SORT after a number out of range",
        reason: "7.0 does not forget that a number was out of range once, and refuses good ones later",
        parts: true,
        applies: |request, expected, found| {
            request.name().starts_with(b"SORT")
                && is_error_with(expected, b"can't be converted into double")
                && !matches!(found, Value::Error(_))
        },
    },
    Rule {
        name: "equal weights in SORT ALPHA",
        reason: "Redis leaves elements whose weights are equal texts in no order",
        parts: true,
        applies: |request, expected, found| {
            request.name().starts_with(b"SORT")
                && request.has("ALPHA")
                && request.has("BY")
                && matches!((expected, found), (Value::Array(a), Value::Array(b)) if a.len() == b.len())
        },
    },
    Rule {
        name: "SORT of a set by nothing",
        reason: "a pattern without * asks for no order, and that of a set is open",
        parts: true,
        applies: |request, expected, found| {
            let by_nothing =
                |pair: &[Vec<u8>]| pair[0].eq_ignore_ascii_case(b"BY") && !pair[1].contains(&b'*');
            request.name().starts_with(b"SORT")
                && request.args.windows(2).any(by_nothing)
                && matches!((expected, found), (Value::Array(a), Value::Array(b)) if a.len() == b.len())
        },
    },
    Rule {
        name: "texts with zero bytes in SORT ALPHA",
        reason: "Redis compares them by the rules of the locale, and up to the first zero byte",
        parts: false,
        applies: |request, expected, found| {
            request.name().starts_with(b"SORT")
                && request.has("ALPHA")
                && both_have_zero_bytes(expected, found)
        },
    },
    Rule {
        name: "damaged HyperLogLogs",
        reason: "PFADD to a HyperLogLog that another command has damaged is noticed when it becomes \
                 dense, which happens at other moments here",
        parts: true,
        applies: |request, expected, found| {
            request.name().starts_with(b"PF")
                && is_error_with(expected, b"INVALIDOBJ")
                && !matches!(found, Value::Error(_))
        },
    },
    Rule {
        name: "options that 7.0 does not have",
        reason: "ZRANK and ZREVRANK take WITHSCORE since 7.2, so a word more is an unknown option",
        parts: false,
        applies: |request, expected, found| {
            [&b"ZRANK"[..], b"ZREVRANK"].contains(&&request.name()[..])
                && is_error_with(expected, b"wrong number of arguments")
                && request.args.len() == 4
                && !is_error_with(found, b"wrong number of arguments")
        },
    },
    Rule {
        name: "the lowest count of LREM and rank of LPOS",
        reason: "since 7.2 a number whose opposite is no integer is refused",
        parts: true,
        applies: |request, _, found| {
            [&b"LREM"[..], b"LPOS"].contains(&&request.name()[..])
                && request.has("-9223372036854775808")
                && is_error_with(found, b"out of range")
        },
    },
    Rule {
        name: "the last entry for XREAD",
        reason: "since 7.4 XREAD takes + for the last entry of a stream",
        parts: false,
        applies: |request, expected, _| {
            request.name() == b"XREAD"
                && request.has("+")
                && is_error_with(expected, b"Invalid stream ID")
        },
    },
    Rule {
        name: "arguments of BITCOUNT and BITPOS before the key",
        reason: "since 7.2 their arguments are read before the key is looked up",
        parts: false,
        applies: |request, expected, found| {
            [&b"BITCOUNT"[..], b"BITPOS"].contains(&&request.name()[..])
                && matches!(found, Value::Error(_))
                && (matches!(expected, Value::Integer(_)) || is_error_with(expected, b"WRONGTYPE"))
        },
    },
    Rule {
        name: "unbalanced lists of streams",
        reason: "7.2 names the command and the id it takes",
        parts: false,
        applies: |_, expected, found| {
            is_error_with(expected, b"Unbalanced") && is_error_with(found, b"Unbalanced")
        },
    },
    Rule {
        name: "binary names in errors",
        reason: "Redis cuts what an error repeats at a zero byte; what is no text is shown in another way",
        parts: false,
        applies: |request, expected, found| {
            let is_binary = |arg: &Vec<u8>| arg.contains(&0) || std::str::from_utf8(arg).is_err();
            let code = |reply: &Value| match reply {
                Value::Error(text) => text.split(|b| *b == b' ').next().map(<[u8]>::to_vec),
                _ => None,
            };
            request.args.iter().any(is_binary)
                && code(expected).is_some()
                && code(expected) == code(found)
        },
    },
    Rule {
        name: "zero bytes in errors of scripts",
        reason: "Redis cuts an error or a status that a script makes at its first zero byte",
        parts: false,
        applies: |request, expected, found| {
            SCRIPTS
                .iter()
                .any(|start| request.name().starts_with(start))
                && same_but_cut(expected, found)
        },
    },
    Rule {
        name: "thousands of results in a script",
        reason: "the functions of the sandbox return somewhat less than 8000 values",
        parts: true,
        applies: |_, _, found| tells(found, b"stack overflow (too many results)"),
    },
    Rule {
        name: "HyperLogLog cache",
        reason: "PFCOUNT is a read here and does not write the estimate into the value",
        parts: false,
        applies: |request, expected, found| {
            request.name() == b"GET" && same_but_cached_estimate(expected, found)
        },
    },
    Rule {
        name: "shortest digits of a double",
        reason: "since 7.2 Redis prints the shortest digits that read back as the same number",
        parts: false,
        applies: |request, expected, found| {
            let name = request.name();
            let shows_scores = [&b"Z"[..], b"BZ", b"GEO", b"EVAL", b"FCALL"];
            shows_scores.iter().any(|start| name.starts_with(start))
                && same_numbers(expected, found)
        },
    },
];

/// Events that only one of the versions tells, or each at another moment: since 7.2 a consumer is
/// new as soon as a command names it; and since then SET with a deadline that has passed removes the
/// key at once, which expires some time later in 7.0. No other key of a sequence expires.
const EVENTS_OF_OTHER_VERSIONS: &[&[u8]] = &[b"xgroup-createconsumer", b"expired"];

/// Commands of which 7.0 looks up the key, which can be a miss, before it refuses their arguments; and
/// those that look up keys in the order of a set, which is open.
const MISSES_OF_OTHER_VERSIONS: &[&[u8]] = &[b"BITCOUNT", b"BITPOS", b"SORT", b"SORT_RO"];

/// Whether the changes of keys that these requests tell are those of both versions: a deadline that
/// SET gives may have passed.
#[must_use]
pub fn has_comparable_changes<'a>(requests: impl IntoIterator<Item = &'a Request>) -> bool {
    requests.into_iter().all(|request| {
        let has_deadline = request.has("EXAT") || request.has("PXAT");
        !(has_deadline && request.name() == b"SET") && has_comparable_changes(&request.inner)
    })
}

/// Whether the copies that these requests make stale are those of both versions: what is done to groups of
/// a stream counts as a change here.
#[must_use]
pub fn has_comparable_copies<'a>(requests: impl IntoIterator<Item = &'a Request>) -> bool {
    requests.into_iter().all(|request| {
        ![&b"XGROUP"[..], b"XSETID", b"BITFIELD"].contains(&&request.name()[..])
            && has_comparable_copies(&request.inner)
    })
}

/// Whether the misses of keys that these requests tell are those of both versions.
#[must_use]
pub fn has_comparable_misses<'a>(requests: impl IntoIterator<Item = &'a Request>) -> bool {
    requests.into_iter().all(|request| {
        !MISSES_OF_OTHER_VERSIONS.contains(&&request.name()[..])
            && has_comparable_misses(&request.inner)
    })
}

/// Whether it is open when an event of keyspace notifications is told.
#[must_use]
pub fn is_event_of_another_version(event: &[u8]) -> bool {
    EVENTS_OF_OTHER_VERSIONS.contains(&event)
}

/// What Redis has changed although it answers with an error, as moon does, which has changed
/// nothing.
static CHANGED_IN_PART: Rule = Rule {
    name: "HyperLogLogs changed in part",
    reason: "PFADD of several elements to a damaged HyperLogLog keeps those before the one at which \
             Redis notices the damage, and does not log them",
    parts: true,
    applies: |request, expected, _| {
        request.name() == b"PFADD"
            && request.args.len() > 3
            && is_error_with(expected, b"INVALIDOBJ")
    },
};

/// The rule by which servers may hold different data behind the same `reply`, if there is one.
#[must_use]
pub fn rule_behind(request: &Request, reply: &Value) -> Option<&'static Rule> {
    (CHANGED_IN_PART.applies)(request, reply, reply).then_some(&CHANGED_IN_PART)
}

/// The rule that allows these replies to `request` to differ, if there is one.
#[must_use]
pub fn rule_for(request: &Request, expected: &Value, found: &Value) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| (rule.applies)(request, expected, found))
}

/// Whether `found` is what 7.2 answers where 7.0 answers `expected`, to OBJECT ENCODING.
#[must_use]
pub fn is_newer_encoding(expected: &Value, found: &Value) -> bool {
    let (Value::Bulk(expected), Value::Bulk(found)) = (expected, found) else {
        return false;
    };
    [&b"hashtable"[..], b"quicklist"].contains(&&expected[..]) && found == b"listpack"
}

/// Whether a sorted set is in the small form here, and was given the large one by SORT in Redis.
#[must_use]
pub fn is_form_before_sort(expected: &Value, found: &Value) -> bool {
    *expected == Value::bulk("skiplist") && *found == Value::bulk("listpack")
}

/// Whether two values are one HyperLogLog whose estimate is cached in one of them.
#[must_use]
pub fn same_but_cached_estimate(expected: &Value, found: &Value) -> bool {
    let (Value::Bulk(a), Value::Bulk(b)) = (expected, found) else {
        return false;
    };
    // Magic, encoding and three unused bytes; then eight of the estimate.
    a.len() == b.len()
        && a.len() >= 16
        && a.starts_with(b"HYLL")
        && a[..8] == b[..8]
        && a[16..] == b[16..]
}

/// Whether these are lists of one length with a zero byte in some element of each.
fn both_have_zero_bytes(expected: &Value, found: &Value) -> bool {
    let has_zero = |value: &Value| matches!(value, Value::Bulk(bytes) if bytes.contains(&0));
    match (expected, found) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().any(has_zero) && b.iter().any(has_zero)
        }
        _ => false,
    }
}

fn is_error_with(reply: &Value, words: &[u8]) -> bool {
    matches!(reply, Value::Error(text) if text.windows(words.len()).any(|part| part == words))
}

/// Whether two replies are the same but for errors and statuses that Redis has cut at a zero byte,
/// and for the digits of numbers. Replies are nested as deeply as scripts nest them here, so recursion
/// is bounded.
fn same_but_cut(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Error(a), Value::Error(b)) | (Value::Simple(a), Value::Simple(b)) => {
            a == b || (b.starts_with(a) && b.get(a.len()) == Some(&0))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_but_cut(a, b))
        }
        (a, b) => same_numbers(a, b),
    }
}

/// Whether an error with `words` is somewhere in a reply. Replies are nested as deeply as scripts
/// nest them here, so recursion is bounded.
fn tells(reply: &Value, words: &[u8]) -> bool {
    match reply {
        Value::Array(items) => items.iter().any(|item| tells(item, words)),
        Value::Bulk(text) => text.ends_with(words),
        reply => is_error_with(reply, words),
    }
}

/// Whether `found` is a smaller form of a string than `expected`, in which moon may hold it.
#[must_use]
pub fn is_smaller_string(expected: &Value, found: &Value) -> bool {
    [("embstr", "int"), ("raw", "embstr"), ("raw", "int")]
        .iter()
        .any(|(theirs, ours)| *expected == Value::bulk(theirs) && *found == Value::bulk(ours))
}

/// Whether two replies are the same but for the digits of numbers that are bulk strings, and the sign
/// that 7.0 gives to what is no number. Replies
/// are nested as deeply as the commands nest them, so recursion is bounded.
#[must_use]
pub fn same_numbers(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Bulk(a), Value::Bulk(b)) => {
            let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<f64>().ok();
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            a == b || number(a).is_some_and(|a| number(b).is_some_and(|b| same(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_numbers(a, b))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line: &str, expected: &str, found: &str) -> Option<&'static str> {
        let words = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        let request = Request::plain(words);
        rule_for(&request, &Value::bulk(expected), &Value::bulk(found)).map(|rule| rule.name)
    }

    #[test]
    fn a_rule_allows_what_it_says_and_nothing_else() {
        assert!(rule("OBJECT ENCODING k", "quicklist", "listpack").is_some());
        assert!(rule("OBJECT ENCODING k", "listpack", "hashtable").is_none());
        assert!(rule("GET k", "quicklist", "listpack").is_none());
        assert!(rule("ZSCORE k m", "0.10000000000000001", "0.1").is_some());
        assert!(rule("ZSCORE k m", "0.2", "0.1").is_none());
        assert!(rule("GET k", "0.10000000000000001", "0.1").is_none());
    }

    #[test]
    fn behind_equal_replies_only_half_an_addition_may_differ() {
        let behind = |line: &str, reply: &Value| {
            let words = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
            rule_behind(&Request::plain(words), reply).is_some()
        };
        let damaged = Value::Error(b"INVALIDOBJ Corrupted HLL object detected".to_vec());
        assert!(behind("PFADD k a b", &damaged));
        assert!(
            !behind("PFADD k a", &damaged),
            "one element is added or not"
        );
        assert!(!behind("PFCOUNT k l m", &damaged));
        assert!(!behind("PFADD k a b", &Value::Integer(1)));
    }
}
