//! Arguments that nobody may see: passwords, in the slow log and in what monitors are shown.

use moon_commands::CommandSpec;
use moon_resp::Args;
use std::borrow::Cow;

/// What stands in the place of a secret.
const REDACTED: &[u8] = b"(redacted)";

/// Settings whose values are secret.
const SECRET_SETTINGS: &[&str] = &[
    "requirepass",
    "masterauth",
    "masteruser",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// The arguments of a command without its secrets. `spec` is its row, that of its subcommand if it
/// has one.
#[must_use]
pub fn shown<'a>(spec: &CommandSpec, args: Args<'a>) -> Vec<Cow<'a, [u8]>> {
    let mut shown: Vec<Cow<'a, [u8]>> = args.iter().map(Cow::Borrowed).collect();
    match spec.name {
        "auth" => hide(&mut shown, 1, 2),
        "hello" => hide_behind(args, &mut shown, 2, &[("auth", 2)]),
        "migrate" => hide_behind(args, &mut shown, 6, &[("auth", 1), ("auth2", 2)]),
        "config|set" => {
            for at in (2..args.len()).step_by(2) {
                let is_name = |name: &&str| name.as_bytes().eq_ignore_ascii_case(args.at(at));
                if SECRET_SETTINGS.iter().any(is_name) {
                    hide(&mut shown, at + 1, 1);
                }
            }
        }
        _ => {}
    }
    shown
}

fn hide(shown: &mut [Cow<'_, [u8]>], first: usize, count: usize) {
    for arg in shown.iter_mut().skip(first).take(count) {
        *arg = Cow::Borrowed(REDACTED);
    }
}

/// Hides as many arguments behind each of these words as it says; words are looked for from index
/// `first` on.
fn hide_behind(args: Args<'_>, shown: &mut [Cow<'_, [u8]>], first: usize, words: &[(&str, usize)]) {
    let mut at = first;
    while let Some(arg) = args.get(at) {
        at += 1;
        let found = words
            .iter()
            .find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(arg));
        if let Some((_, count)) = found {
            hide(shown, at, *count);
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moon_commands::{lookup, subcommands::row_of};
    use moon_resp::OwnedArgs;

    #[test]
    fn passwords_are_not_shown() {
        for (line, expected) in [
            ("AUTH secret", "AUTH (redacted)"),
            ("auth me secret", "auth (redacted) (redacted)"),
            (
                "HELLO 3 SETNAME a AUTH me secret",
                "HELLO 3 SETNAME a AUTH (redacted) (redacted)",
            ),
            ("HELLO 3 AUTH me", "HELLO 3 AUTH (redacted)"),
            (
                "MIGRATE h 1 k 0 9 AUTH s KEYS auth",
                "MIGRATE h 1 k 0 9 AUTH (redacted) KEYS auth",
            ),
            (
                "MIGRATE h 1 k 0 9 COPY AUTH2 me s",
                "MIGRATE h 1 k 0 9 COPY AUTH2 (redacted) (redacted)",
            ),
            (
                "CONFIG SET hz 10 RequirePass secret",
                "CONFIG SET hz 10 RequirePass (redacted)",
            ),
            ("SET auth secret", "SET auth secret"),
        ] {
            let args = OwnedArgs::new(line.split(' '));
            let args = args.as_args();
            let (_, spec) = lookup(args.at(0)).unwrap();
            let found = shown(row_of(spec, args), args).join(&b' ');
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
    }
}
