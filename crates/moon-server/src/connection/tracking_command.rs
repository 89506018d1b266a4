//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR.

use super::pipeline::Connection;
use crate::clients::Clients;
use crate::tracking::{Mode, Tracked, Tracking};
use moon_commands::parse;
use moon_resp::{Args, Reply};

const SYNTAX: &str = "ERR syntax error";

/// What stands behind ON or OFF.
#[derive(Default)]
struct Options<'a> {
    redirect: u64,
    mode: Mode,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, clients: &Clients) -> Result<Options<'a>, String> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(option) = parse::next_option(args, &mut at) {
            let is = |name| parse::is(option, name);
            if is("redirect") && at < args.len() {
                options.redirect = redirect(args.at(at), options.redirect, clients)?;
                at += 1;
            } else if is("prefix") && at < args.len() {
                options.prefixes.push(args.at(at));
                at += 1;
            } else if is("bcast") {
                options.mode |= Mode::BCAST;
            } else if is("optin") {
                options.mode |= Mode::OPTIN;
            } else if is("optout") {
                options.mode |= Mode::OPTOUT;
            } else if is("noloop") {
                options.mode |= Mode::NOLOOP;
            } else {
                return Err(SYNTAX.to_owned());
            }
        }
        Ok(options)
    }
}

/// The client that is told in the place of this one, which must be there now.
fn redirect(arg: &[u8], before: u64, clients: &Clients) -> Result<u64, String> {
    if before != 0 {
        return Err("ERR A client can only redirect to a single other client".to_owned());
    }
    let id = parse::integer(arg).map_err(|error| error.text().to_owned())?;
    u64::try_from(id)
        .ok()
        .filter(|id| clients.get(*id).is_some())
        .ok_or_else(|| "ERR The client ID you want redirect to does not exist".to_owned())
}

/// `CLIENT TRACKING ON|OFF [option ...]`.
///
/// # Errors
/// The error reply.
pub(super) fn tracking(
    connection: &mut Connection,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let options = Options::parse(args, &connection.server.clients)?;
    if parse::is(args.at(2), "on") {
        let now = connection.state.tracking.as_deref();
        Tracked::check(now, options.mode, &options.prefixes).map_err(|error| error.to_string())?;
        let tracked = Tracking::of_this_thread().begin(
            &connection.client,
            options.mode,
            options.redirect,
            &options.prefixes,
        );
        connection.state.tracking = Some(tracked);
    } else if parse::is(args.at(2), "off") {
        end(connection);
    } else {
        return Err(SYNTAX.to_owned());
    }
    reply.ok();
    Ok(())
}

/// The client tracks no more, if it did.
pub(super) fn end(connection: &mut Connection) {
    if connection.state.tracking.take().is_some() {
        Tracking::of_this_thread().end(connection.client.id);
    }
}

/// `CLIENT CACHING YES|NO`.
///
/// # Errors
/// The error reply.
pub(super) fn caching(
    connection: &Connection,
    arg: &[u8],
    reply: &mut Reply<'_>,
) -> Result<(), String> {
    let Some(tracked) = &connection.state.tracking else {
        return Err(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode \
                    with OPTIN or OPTOUT mode enabled"
                .to_owned(),
        );
    };
    let (mode, text) = if parse::is(arg, "yes") {
        (
            Mode::OPTIN,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        )
    } else if parse::is(arg, "no") {
        (
            Mode::OPTOUT,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        )
    } else {
        return Err(SYNTAX.to_owned());
    };
    if !tracked.has(mode) {
        return Err(text.to_owned());
    }
    tracked.caching.set(true);
    reply.ok();
    Ok(())
}

/// `CLIENT GETREDIR`.
pub(super) fn getredir(connection: &Connection, reply: &mut Reply<'_>) {
    reply.integer(redirect_shown(connection));
}

fn redirect_shown(connection: &Connection) -> i64 {
    match &connection.state.tracking {
        Some(tracked) => i64::try_from(tracked.redirect.get()).unwrap_or(i64::MAX),
        None => -1,
    }
}

/// `CLIENT TRACKINGINFO`.
pub(super) fn info(connection: &Connection, reply: &mut Reply<'_>) {
    let tracking = connection.state.tracking.as_deref();
    let flags = tracking.map_or_else(|| vec!["off"], flags);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    for flag in flags {
        reply.bulk(flag.as_bytes());
    }
    reply.bulk(b"redirect");
    reply.integer(redirect_shown(connection));
    reply.bulk(b"prefixes");
    let prefixes = tracking.map(Tracked::prefixes).unwrap_or_default();
    reply.array(prefixes.len());
    for prefix in prefixes {
        reply.bulk(&prefix);
    }
}

fn flags(tracked: &Tracked) -> Vec<&'static str> {
    let caching = tracked.caching.get();
    [
        (true, "on"),
        (tracked.has(Mode::BCAST), "bcast"),
        (tracked.has(Mode::OPTIN), "optin"),
        (tracked.has(Mode::OPTIN) && caching, "caching-yes"),
        (tracked.has(Mode::OPTOUT), "optout"),
        (tracked.has(Mode::OPTOUT) && caching, "caching-no"),
        (tracked.has(Mode::NOLOOP), "noloop"),
        (tracked.is_broken.get(), "broken_redirect"),
    ]
    .into_iter()
    .filter(|(holds, _)| *holds)
    .map(|(_, flag)| flag)
    .collect()
}
