//! The command line: an optional configuration file first, then any directive as
//! `--name value ...`. Flags win over the file, the file wins over the defaults.
//!
//! Words up to the next `--name` belong to one flag, as in redis-server (`--bind 127.0.0.1
//! -::1`, `--save ""`), which is not how getopt-like parsers group words. So the words of a flag
//! are joined before clap sees them, and clap does names, help and suggestions.

use super::error::{ConfigError, Origin};
use super::redis::{self, Verdict};
use super::table::{self, DIRECTIVES};
use super::{Config, file};
use clap::{Arg, ArgAction, Command};
use std::path::PathBuf;

/// A configuration ready to be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All settings.
    pub config: Config,
    /// Lines to log at notice level: directives accepted without effect, deprecations.
    pub notes: Vec<String>,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Start, or check.
    Run(Box<Loaded>),
    /// Print this to standard output and exit with 0: help or version.
    Print(String),
}

/// Separates the words of one flag while clap carries them.
const JOINT: char = '\u{1f}';

/// Switches that take no word.
const SWITCHES: &[(&str, &str)] = &[
    (
        "check-config",
        "Run every check of a start, print the result, exit",
    ),
    (
        "unsafe-multishard-aof",
        "Deprecated and without effect: the log of several shards is safe here",
    ),
];

/// Directives whose lines add up, so that a flag does not replace what the file says.
const ADDS_UP: &[&str] = &["rename-command", "user", "loadmodule"];

/// Reads the command line (`args` without the program's name) and the file it names.
///
/// # Errors
/// The first thing that is not understood or not supported, with its place.
pub fn load(args: &[String]) -> Result<Outcome, ConfigError> {
    let tokens = group(args);
    let matches = match command().try_get_matches_from(tokens) {
        Ok(matches) => matches,
        Err(e) => {
            let text = e.render().to_string();
            if !e.use_stderr() {
                return Ok(Outcome::Print(text));
            }
            let reason = text.trim_start_matches("error: ").trim_end();
            return Err(ConfigError::at(Origin::Flag(args.join(" ")), reason));
        }
    };
    let mut loaded = Loaded {
        config: Config::default(),
        notes: Vec::new(),
    };
    if let Some(path) = matches.get_one::<String>("config-file") {
        let path = PathBuf::from(path);
        for line in file::read(&path)? {
            let name = line.name.to_ascii_lowercase();
            if !ADDS_UP.contains(&name.as_str()) && matches.try_contains_id(&name).unwrap_or(false)
            {
                // The flag of that name wins, so what the file says is not in force.
                if table::find(&name).is_none() {
                    continue;
                }
            }
            let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
            apply(&mut loaded, &line.name, &words)
                .map_err(|reason| ConfigError::at(line.origin, reason))?;
        }
        let absolute = std::path::absolute(&path).unwrap_or(path);
        loaded.config.config_file = absolute.display().to_string();
    }
    loaded.config.check_config = matches.get_flag("check-config");
    if matches.get_flag("unsafe-multishard-aof") {
        loaded.notes.push(
            "DEPRECATED: --unsafe-multishard-aof has no effect, the log of several shards is safe \
             here; remove the flag"
                .to_owned(),
        );
    }
    for id in matches.ids().map(clap::Id::as_str) {
        if id == "config-file" || SWITCHES.iter().any(|(name, _)| *name == id) {
            continue;
        }
        table::start_afresh(&mut loaded.config, id);
        for joined in matches.get_many::<String>(id).into_iter().flatten() {
            let words: Vec<&str> = joined.split(JOINT).collect();
            apply(&mut loaded, id, &words).map_err(|reason| {
                let flag = format!("--{id} {}", shown(&words));
                ConfigError::at(Origin::Flag(flag), reason)
            })?;
        }
    }
    Ok(Outcome::Run(Box::new(loaded)))
}

/// One directive, from the file or a flag.
fn apply(loaded: &mut Loaded, name: &str, words: &[&str]) -> Result<(), String> {
    if let Some(directive) = table::find(name) {
        return (directive.set)(&mut loaded.config, words).map_err(|e| e.to_string());
    }
    match redis::verdict(name, words) {
        Some(Verdict::Accepted(note)) => {
            if !loaded.notes.contains(&note) {
                loaded.notes.push(note);
            }
            Ok(())
        }
        Some(Verdict::Refused(why)) => Err(why),
        None if name.eq_ignore_ascii_case("unsafe-multishard-aof") => {
            let note = "DEPRECATED: unsafe-multishard-aof has no effect; remove it";
            loaded.notes.push(note.to_owned());
            Ok(())
        }
        None => Err("Bad directive: neither this server nor Redis knows it".to_owned()),
    }
}

/// Words as they could be typed again.
fn shown(words: &[&str]) -> String {
    let quoted = words.iter().map(|w| {
        if w.is_empty() || w.contains(char::is_whitespace) {
            format!("\"{w}\"")
        } else {
            (*w).to_owned()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Joins the words of each flag into one `--name=words` token.
fn group(args: &[String]) -> Vec<String> {
    let mut tokens = vec!["moon-server".to_owned()];
    let mut open = false;
    for arg in args {
        if let Some(flag) = arg.strip_prefix("--").filter(|f| !f.is_empty()) {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            let name = name.to_ascii_lowercase();
            let is_switch = SWITCHES.iter().any(|(s, _)| *s == name);
            open = value.is_none() && !is_switch && name != "help" && name != "version";
            tokens.push(match value {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            });
        } else if open {
            let last = tokens
                .last_mut()
                .expect("a flag is open, so there is a token");
            last.push(if last.contains('=') { JOINT } else { '=' });
            last.push_str(arg);
        } else {
            tokens.push(arg.clone());
        }
    }
    tokens
}

fn command() -> Command {
    let flag = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::Append)
            .num_args(1)
            .require_equals(true)
            .value_name("VALUE")
    };
    let mut command = Command::new("moon-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Redis-compatible server that uses every core and keeps what it acknowledged")
        .override_usage("moon-server [CONFIG-FILE] [--DIRECTIVE VALUE...]...")
        .color(clap::ColorChoice::Never)
        .arg(
            Arg::new("config-file")
                .value_name("CONFIG-FILE")
                .help("A file in the syntax of redis.conf"),
        );
    for &(name, doc) in SWITCHES {
        command = command.arg(
            Arg::new(name)
                .long(name)
                .action(ArgAction::SetTrue)
                .help(doc),
        );
    }
    for d in DIRECTIVES {
        let doc = if d.default.is_empty() {
            d.doc.to_owned()
        } else {
            format!("{} [default: {}]", d.doc, d.default)
        };
        command = command.arg(flag(d.name).help(doc));
        if !d.alias.is_empty() {
            command = command.arg(flag(d.alias).hide(true));
        }
    }
    for name in redis::names() {
        command = command.arg(flag(name).hide(true));
    }
    command
}

#[cfg(test)]
mod tests;
