//! Libraries of functions, as far as they are data: FUNCTION LOAD, DELETE, FLUSH, RESTORE.
//!
//! Whether a text is a library that the engine takes is looked at before one of these runs: by
//! the server, with the engine, while it holds the data of all shards. Here, and so in replay,
//! the texts are kept by their names. The effects are the requests as sent: they depend on nothing
//! but the libraries that are there.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse;
use moon_core::ShardId;
use moon_rdb::{RdbLimits, RdbReader, encode, payload};
use moon_resp::Args;
use moon_store::{Libraries, Library};

fn detailed(text: String) -> CommandError {
    CommandError::Detailed(text.into_boxed_str())
}

/// The error for a subcommand whose arguments are too many.
fn wrong_syntax(args: Args<'_>) -> CommandError {
    let name = String::from_utf8_lossy(args.at(1)).into_owned();
    detailed(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try FUNCTION HELP."
    ))
}

/// What FUNCTION LOAD asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadRequest<'a> {
    /// Whether a library of the same name may be there.
    pub replace: bool,
    /// The text.
    pub code: &'a [u8],
}

impl<'a> LoadRequest<'a> {
    /// Reads a whole request, whose arity fits.
    ///
    /// # Errors
    /// A word that is no option.
    pub fn parse(args: Args<'a>) -> Result<LoadRequest<'a>, CommandError> {
        let last = args.len() - 1;
        let mut replace = false;
        for option in (2..last).map(|at| args.at(at)) {
            if !parse::is(option, "replace") {
                let option = String::from_utf8_lossy(option);
                return Err(detailed(format!("ERR Unknown option given: {option}")));
            }
            replace = true;
        }
        let code = args.at(last);
        Ok(LoadRequest { replace, code })
    }
}

/// What FUNCTION RESTORE does with the libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePolicy {
    /// They stay, and none of the payload may have the name of one of them.
    Append,
    /// They stay unless one of the payload has their name.
    Replace,
    /// They are deleted.
    Flush,
}

/// What FUNCTION RESTORE asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreRequest {
    /// What becomes of the libraries that are there.
    pub policy: RestorePolicy,
    /// The texts in the payload, in its order.
    pub codes: Vec<Vec<u8>>,
}

impl RestoreRequest {
    /// Reads a whole request, whose arity fits.
    ///
    /// # Errors
    /// A policy that there is not, or a payload that is none.
    pub fn parse(args: Args<'_>) -> Result<RestoreRequest, CommandError> {
        let policy = match args.get(3) {
            _ if args.len() > 4 => return Err(wrong_syntax(args)),
            None => RestorePolicy::Append,
            Some(word) if parse::is(word, "append") => RestorePolicy::Append,
            Some(word) if parse::is(word, "replace") => RestorePolicy::Replace,
            Some(word) if parse::is(word, "flush") => RestorePolicy::Flush,
            Some(_) => {
                return Err(CommandError::Text(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or \
                     REPLACE.",
                ));
            }
        };
        let bytes = payload::open(args.at(2))
            .map_err(|_| CommandError::Text("ERR DUMP payload version or checksum are wrong"))?;
        let codes = RdbReader::of_value(bytes, RdbLimits::default())
            .functions_alone()
            .map_err(|error| detailed(format!("ERR {error}")))?;
        Ok(RestoreRequest { policy, codes })
    }

    /// The libraries that there are after it.
    ///
    /// # Errors
    /// A text that names no library, or a name that is taken.
    pub fn applied_to(&self, libraries: &Libraries) -> Result<Libraries, CommandError> {
        let mut added = Libraries::default();
        for code in &self.codes {
            let library = library(code)?;
            if added.get(&library.name).is_some() {
                return Err(exists(&library.name));
            }
            added.insert(library);
        }
        let mut all = match self.policy {
            RestorePolicy::Flush => Libraries::default(),
            RestorePolicy::Append | RestorePolicy::Replace => libraries.clone(),
        };
        for library in added.iter() {
            if self.policy == RestorePolicy::Append && all.get(&library.name).is_some() {
                let text = format!("ERR Library {} already exists", library.name);
                return Err(detailed(text));
            }
            all.insert(library.clone());
        }
        Ok(all)
    }
}

fn library(code: &[u8]) -> Result<Library, CommandError> {
    Library::new(code).map_err(|error| detailed(format!("ERR {error}")))
}

fn exists(name: &str) -> CommandError {
    detailed(format!("ERR Library '{name}' already exists"))
}

/// The payload of FUNCTION DUMP.
#[must_use]
pub fn dump_payload(libraries: &Libraries) -> Vec<u8> {
    let mut out = Vec::new();
    let mut compressor = encode::Compressor::default();
    for library in libraries.iter() {
        encode::function(&mut out, &library.code, &mut compressor);
    }
    payload::seal_functions(&mut out);
    out
}

/// The libraries of the instance. Every command here has the data of all shards in hand.
fn all<'c>(cx: &'c mut Cx<'_>) -> &'c mut Libraries {
    let first = cx.shards.get(ShardId(0));
    &mut first.expect("these commands hold all shards").libraries
}

pub(crate) fn load(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let request = LoadRequest::parse(args)?;
    let library = library(request.code)?;
    let libraries = all(cx);
    if !request.replace && libraries.get(&library.name).is_some() {
        return Err(exists(&library.name));
    }
    libraries.insert(library.clone());
    cx.changed_libraries(args);
    cx.reply.bulk(library.name.as_bytes());
    Ok(())
}

pub(crate) fn delete(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let name = String::from_utf8_lossy(args.at(2));
    if !all(cx).remove(&name) {
        return Err(CommandError::Text("ERR Library not found"));
    }
    cx.changed_libraries(args);
    cx.reply.ok();
    Ok(())
}

pub(crate) fn flush(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let is_mode = |word| parse::is(word, "sync") || parse::is(word, "async");
    if args.len() > 3 {
        return Err(wrong_syntax(args));
    }
    if args.get(2).is_some_and(|word| !is_mode(word)) {
        return Err(CommandError::Text(
            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
        ));
    }
    all(cx).clear();
    cx.changed_libraries(args);
    cx.reply.ok();
    Ok(())
}

pub(crate) fn restore(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let request = RestoreRequest::parse(args)?;
    let libraries = all(cx);
    *libraries = request.applied_to(libraries)?;
    cx.changed_libraries(args);
    cx.reply.ok();
    Ok(())
}
