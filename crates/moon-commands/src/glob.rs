//! Glob patterns as KEYS, SCAN, CONFIG GET and PSUBSCRIBE understand them.
//!
//! `*` is any run of bytes, `?` any one byte, `[a-z]` and `[^a-z]` a class, a backslash takes the
//! next byte literally. Every token but `*` stands for exactly one byte, so after a mismatch it is
//! enough to try again from the *last* `*`, one byte further on: time is at most the product of
//! both lengths, whatever the pattern.

/// Whether letters of different case match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They do not.
    Sensitive,
    /// ASCII letters do.
    Insensitive,
}

/// Whether the whole of `text` matches `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    // In Redis nothing but an empty pattern matches an empty text; KEYS, SCAN and their kin do not
    // ask for a match where the pattern is a single star.
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, and the text it has not eaten yet.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            retry = Some((p, t));
            continue;
        }
        if p < pattern.len() {
            let (matched, next) = match_one(pattern, p, text[t], case);
            if matched {
                p = next;
                t += 1;
                continue;
            }
        }
        let Some((after_star, eaten_to)) = retry else {
            return false;
        };
        retry = Some((after_star, eaten_to + 1));
        p = after_star;
        t = eaten_to + 1;
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Whether a pattern asks for everything, so that no name has to be matched, not even an empty one.
#[must_use]
pub fn is_everything(pattern: &[u8]) -> bool {
    pattern == b"*"
}

/// Whether a pattern is only itself, so that a look-up does instead of a scan.
#[must_use]
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|b| b"*?[\\".contains(b))
}

/// Matches `byte` against the token at `p`, which is not a star; also returns where the next
/// token begins.
fn match_one(pattern: &[u8], p: usize, byte: u8, case: Case) -> (bool, usize) {
    match pattern[p] {
        b'?' => (true, p + 1),
        b'[' => match_class(pattern, p + 1, byte, case),
        b'\\' if p + 1 < pattern.len() => (equal(pattern[p + 1], byte, case), p + 2),
        literal => (equal(literal, byte, case), p + 1),
    }
}

/// Matches `byte` against the class whose content begins at `p`. A class without its closing
/// bracket ends with the pattern.
fn match_class(pattern: &[u8], mut p: usize, byte: u8, case: Case) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut matched = false;
    while p < pattern.len() && pattern[p] != b']' {
        match pattern[p..] {
            [b'\\', escaped, ..] => {
                // Escapes compare exactly, as in Redis, whatever the case rule.
                matched |= escaped == byte;
                p += 2;
            }
            [from, b'-', to, ..] => {
                matched |= in_range(from, to, byte, case);
                p += 3;
            }
            _ => {
                matched |= equal(pattern[p], byte, case);
                p += 1;
            }
        }
    }
    (matched != negated, (p + 1).min(pattern.len()))
}

fn in_range(from: u8, to: u8, byte: u8, case: Case) -> bool {
    let fold = |b: u8| match case {
        Case::Sensitive => b,
        Case::Insensitive => b.to_ascii_lowercase(),
    };
    // The ends may come in either order; they are put in order before case is folded.
    let (low, high) = (fold(from.min(to)), fold(from.max(to)));
    (low..=high).contains(&fold(byte))
}

fn equal(a: u8, b: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => a == b,
        Case::Insensitive => a.eq_ignore_ascii_case(&b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
    }

    #[test]
    fn patterns_match_as_in_redis() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("**", "", false),
            ("**", "abc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[abc", "c", true),
            ("[a-", "-", true),
            ("[a-]", "-", false),
            ("[a-]x", "x", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("*a", "aaab", false),
            ("a?", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(is_match(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn case_is_ignored_only_on_request() {
        assert!(matches(b"MAX[M-N]*", b"maxmemory", Case::Insensitive));
        assert!(!matches(b"MAX*", b"maxmemory", Case::Sensitive));
    }

    #[test]
    fn a_hostile_pattern_takes_time_in_proportion() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!is_match(&pattern, &"a".repeat(20_000)));
    }
}
