//! The redis.conf syntax: one directive per line, words in quotes where needed, `#` comments,
//! `include` of other files in place.

use super::error::{ConfigError, Origin};
use moon_commands::glob;
use std::path::{Path, PathBuf};

/// One directive with its words, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The directive's name, as written.
    pub name: String,
    /// Its words.
    pub words: Vec<String>,
    /// Where it stands.
    pub origin: Origin,
}

/// Depth of includes; more is a circle.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a file and everything it includes, in order.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, has unbalanced quotes, or includes itself.
pub fn read(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    read_into(path, 0, None, &mut lines)?;
    Ok(lines)
}

fn read_into(
    path: &Path,
    depth: usize,
    included_by: Option<&Origin>,
    lines: &mut Vec<Line>,
) -> Result<(), ConfigError> {
    let fail = |reason: String| ConfigError {
        origin: included_by.cloned(),
        reason,
    };
    if depth > INCLUDE_DEPTH_MAX {
        return Err(fail(format!(
            "includes are nested deeper than {INCLUDE_DEPTH_MAX}; does a file include itself?"
        )));
    }
    let text = read_text(path).map_err(|e| {
        fail(format!(
            "cannot read the configuration file {}: {e}",
            path.display()
        ))
    })?;
    for (i, raw) in text.lines().enumerate() {
        let raw = raw.trim();
        if raw.is_empty() || raw.starts_with('#') {
            continue;
        }
        let origin = Origin::File {
            path: path.to_owned(),
            line: i + 1,
            text: raw.to_owned(),
        };
        let Some(mut words) = split_words(raw) else {
            return Err(ConfigError::at(
                origin,
                "Unbalanced quotes in configuration line",
            ));
        };
        if words.is_empty() {
            continue;
        }
        let name = words.remove(0);
        if name.eq_ignore_ascii_case("include") {
            let [target] = words.as_slice() else {
                return Err(ConfigError::at(origin, "wrong number of arguments"));
            };
            for file in included_files(target, &origin)? {
                read_into(&file, depth + 1, Some(&origin), lines)?;
            }
            continue;
        }
        lines.push(Line {
            name,
            words,
            origin,
        });
    }
    Ok(())
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::other(message));
    }
    Ok(text)
}

/// The files that an `include` names: one, or those matching a pattern in the last part of the
/// path, sorted. As in Redis, a pattern may match nothing, a plain name must exist.
fn included_files(target: &str, origin: &Origin) -> Result<Vec<PathBuf>, ConfigError> {
    let path = Path::new(target);
    let last = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if !last.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    }
    let folder = match path.parent() {
        Some(p) if p != Path::new("") => p,
        _ => Path::new("."),
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            let reason = format!("cannot list {}: {e}", folder.display());
            return Err(ConfigError::at(origin.clone(), reason));
        }
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|e| {
            let name = e.file_name();
            let name = name.as_encoded_bytes();
            !name.starts_with(b".") && glob::matches(last.as_bytes(), name, glob::Case::Sensitive)
        })
        .map(|e| e.path())
        .collect();
    found.sort();
    Ok(found)
}

/// Splits a line into words: `"..."` with `\n \r \t \b \a \xHH` and `\` before any other
/// character, `'...'` with `\'`. `None` if a quote is not closed or text follows it directly.
#[must_use]
pub fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.as_bytes()[0] {
            b'"' => double_quoted(&rest[1..])?,
            b'\'' => single_quoted(&rest[1..])?,
            _ => {
                let end = rest
                    .find(|c: char| c.is_ascii_whitespace() || c == '"' || c == '\'')
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if after.starts_with(['"', '\'']) {
                    // Redis opens a quote in mid-word; what that means is anyone's guess.
                    return None;
                }
                (word.to_owned(), after)
            }
        };
        if after.starts_with(|c: char| !c.is_ascii_whitespace()) {
            return None;
        }
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((String::from_utf8(bytes).ok()?, &text[i + 1..])),
            '\\' => match chars.next()? {
                (at, 'x') => {
                    // Without two digits behind it, `\x` is the letter.
                    match text.get(at + 1..at + 3).map(|h| u8::from_str_radix(h, 16)) {
                        Some(Ok(byte)) => {
                            bytes.push(byte);
                            chars.next();
                            chars.next();
                        }
                        _ => bytes.push(b'x'),
                    }
                }
                (_, 'n') => bytes.push(b'\n'),
                (_, 'r') => bytes.push(b'\r'),
                (_, 't') => bytes.push(b'\t'),
                (_, 'b') => bytes.push(8),
                (_, 'a') => bytes.push(7),
                (_, other) => push_char(&mut bytes, other),
            },
            other => push_char(&mut bytes, other),
        }
    }
    None
}

fn single_quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        match c {
            '\'' => return Some((word, &text[i + 1..])),
            '\\' if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
                word.push('\'');
            }
            other => word.push(other),
        }
    }
    None
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<String>> {
        split_words(line)
    }

    #[test]
    fn words_and_quotes_follow_the_rules_of_redis() {
        for (line, expected) in [
            ("port 6379", &["port", "6379"][..]),
            ("  save   60\t1000 ", &["save", "60", "1000"]),
            ("save \"\"", &["save", ""]),
            ("save ''", &["save", ""]),
            (
                r#"requirepass "a b\x21\n\"c""#,
                &["requirepass", "a b!\n\"c"],
            ),
            (r"requirepass 'a\'b\n'", &["requirepass", r"a'b\n"]),
            (r#"x "\xzz""#, &["x", "xzz"]),
            ("x \"é\"", &["x", "é"]),
        ] {
            assert_eq!(
                split(line).as_deref(),
                Some(&expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
                "{line}"
            );
        }
        for bad in ["x \"abc", "x 'abc", "x \"a\"b", "x a\"b\"", "x \"a\\"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn includes_are_read_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let p = |n: &str| dir.path().join(n);
        let d = dir.path().display();
        std::fs::write(
            p("a.conf"),
            format!("# top\nport 1\ninclude {d}/*.inc\ninclude {d}/z.txt\nport 4\n"),
        )
        .unwrap();
        std::fs::write(p("b.inc"), "port 2\n").unwrap();
        std::fs::write(p("z.txt"), "\n port 3\n").unwrap();
        let lines = read(&p("a.conf")).unwrap();
        let ports: Vec<_> = lines.iter().map(|l| l.words[0].as_str()).collect();
        assert_eq!(ports, ["1", "2", "3", "4"]);
        let expected = Origin::File {
            path: p("z.txt"),
            line: 2,
            text: "port 3".to_owned(),
        };
        assert_eq!(lines[2].origin, expected);
    }

    #[test]
    fn unreadable_and_circular_files_are_errors_that_name_them() {
        let dir = tempfile::tempdir().unwrap();
        let a = dir.path().join("a.conf");
        std::fs::write(&a, format!("include {}", a.display())).unwrap();
        assert!(read(&a).unwrap_err().reason.contains("include itself"));
        std::fs::write(&a, "include /no/such/file.conf").unwrap();
        let text = read(&a).unwrap_err().to_string();
        assert!(
            text.contains("line 1") && text.contains("/no/such/file.conf"),
            "{text}"
        );
        std::fs::write(&a, "port \"6379").unwrap();
        let text = read(&a).unwrap_err().to_string();
        assert!(text.starts_with("*** FATAL CONFIG FILE ERROR"), "{text}");
        assert!(
            text.contains(">>> 'port \"6379'\nUnbalanced quotes"),
            "{text}"
        );
        std::fs::write(&a, [0xff, 0xfe]).unwrap();
        assert!(read(&a).is_err());
    }
}
