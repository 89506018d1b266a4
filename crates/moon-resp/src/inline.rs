//! Splitting one line of text into arguments, with the quoting rules of inline requests.
//!
//! Arguments are parted by white space. `"..."` may hold the escapes `\n \r \t \b \a`, `\xHH` and a
//! backslash before any other byte, which stands for that byte; `'...'` knows only `\'`. A closing
//! quote must be followed by white space or the end. Outside of quotes a backslash is an ordinary
//! byte. The same rules serve the lines of a configuration file.

use crate::args::{OwnedArgs, Span};

/// A quote is not closed, or text follows its closing quote directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unbalanced quotes")]
pub struct UnbalancedQuotes;

/// Splits `line` (without its line end) into arguments. An empty or blank line has none.
///
/// # Errors
/// [`UnbalancedQuotes`] as the type says.
pub fn split_args(line: &[u8]) -> Result<OwnedArgs, UnbalancedQuotes> {
    let mut args = OwnedArgs::default();
    let mut arg = Vec::new();
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        arg.clear();
        rest = skip_blanks(take_arg(rest, &mut arg)?);
        args.push(&arg);
    }
    Ok(args)
}

/// Whether every argument of `line` lies in it verbatim, so that [`plain_spans`] finds them.
pub(crate) fn is_plain(line: &[u8]) -> bool {
    memchr::memchr2(b'"', b'\'', line).is_none()
}

/// The arguments of a line without quotes, as spans that count from `offset` before the line.
pub(crate) fn plain_spans(line: &[u8], offset: u32, spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(blanks) = line[at..].iter().position(|&b| !is_blank(b)) {
        let start = at + blanks;
        let len = line[start..]
            .iter()
            .position(|&b| ends_arg(b))
            .unwrap_or(line.len() - start);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the caller's buffer is below 4 GiB"
        )]
        spans.push(Span {
            start: offset + start as u32,
            len: len as u32,
        });
        at = start + len;
    }
}

/// Unquotes the argument at the start of `rest` into `arg` and returns what follows it.
fn take_arg<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        match rest {
            [b'"', tail @ ..] => return take_double_quoted(tail, arg),
            [b'\'', tail @ ..] => return take_single_quoted(tail, arg),
            [byte, tail @ ..] if !ends_arg(*byte) => {
                arg.push(*byte);
                rest = tail;
            }
            _ => return Ok(rest),
        }
    }
}

fn take_double_quoted<'a>(
    mut rest: &'a [u8],
    arg: &mut Vec<u8>,
) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [b'"', tail @ ..] => return after_quote(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                arg.push(hex_digit(*high) << 4 | hex_digit(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                arg.push(*byte);
                tail
            }
            [] => return Err(UnbalancedQuotes),
        };
    }
}

fn take_single_quoted<'a>(
    mut rest: &'a [u8],
    arg: &mut Vec<u8>,
) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [b'\'', tail @ ..] => return after_quote(tail),
            [b'\\', b'\'', tail @ ..] => {
                arg.push(b'\'');
                tail
            }
            [byte, tail @ ..] => {
                arg.push(*byte);
                tail
            }
            [] => return Err(UnbalancedQuotes),
        };
    }
}

fn after_quote(rest: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match rest.first() {
        Some(&byte) if !is_blank(byte) => Err(UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&b| is_blank(b)).count();
    &line[blanks..]
}

/// White space between arguments: C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What ends an argument outside of quotes. Vertical tab and form feed are blanks but do not.
fn ends_arg(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line, and its arguments as a Redis server splits it; `None` where it refuses.
    type Case = (&'static [u8], Option<&'static [&'static [u8]]>);

    const CASES: &[Case] = &[
        (b"", Some(&[])),
        (b"  \t ", Some(&[])),
        (b"PING", Some(&[b"PING"])),
        (b"  SET  k\tv ", Some(&[b"SET", b"k", b"v"])),
        (b"\"a b\"", Some(&[b"a b"])),
        (
            br#""\x41\n\r\t\b\a\q\"\x4""#,
            Some(&[b"A\n\r\t\x08\x07q\"x4"]),
        ),
        (br#""\xfF\x00""#, Some(&[b"\xff\x00"])),
        (br"'a\'b\n'", Some(&[br"a'b\n"])),
        (b"\"\" ''", Some(&[b"", b""])),
        (b"a\"b c\"", Some(&[b"ab c"])),
        (b"a\\\"b\"", Some(&[b"a\\b"])),
        (b"a\x0bb", Some(&[b"a\x0bb"])),
        (b"\x0bb\x0c", Some(&[b"b\x0c"])),
        (b"\"a\"\x0b", Some(&[b"a"])),
        (b"a\rb", Some(&[b"a", b"b"])),
        (b"\"a\"b", None),
        (b"a\"b\"c", None),
        (b"\"a", None),
        (b"'a", None),
        (b"\"a\\", None),
        (b"\"a\\\"", None),
    ];

    #[test]
    fn lines_split_as_in_redis() {
        for (line, expected) in CASES {
            let split = split_args(line);
            let split = split
                .as_ref()
                .ok()
                .map(|args| args.as_args().iter().collect::<Vec<_>>());
            assert_eq!(split.as_deref(), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn plain_lines_split_alike_in_place_and_by_copy() {
        for (line, expected) in CASES.iter().filter(|(line, _)| is_plain(line)) {
            let mut spans = Vec::new();
            plain_spans(line, 0, &mut spans);
            let in_place = crate::Args::new(line, &spans).iter().collect::<Vec<_>>();
            assert_eq!(
                Some(in_place.as_slice()),
                *expected,
                "{}",
                line.escape_ascii()
            );
        }
    }
}
