//! Commands on positions: sorted sets whose scores are positions on earth, 52 bits each.
//!
//! * [`cell`]: the cells into which the earth is divided, and how they become scores.
//! * [`earth`]: distances, shapes, and the cells that cover a shape.
//! * [`query`]: the arguments of a search.
//! * [`search`]: GEOSEARCH, GEOSEARCHSTORE, GEORADIUS and its kin.
//! * here: GEOADD, and what asks about members: GEOPOS, GEODIST, GEOHASH.

mod cell;
mod earth;
mod query;
mod search;

use crate::collection::read;
use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse::{detailed, double, is};
use crate::spec::{FIRST_KEY, Keys, commands};
use crate::zsets;
use cell::{Cell, Position};
use moon_resp::{Args, OwnedArgs, Protocol, Reply};
use moon_store::{Key, ZSet};

const DESTINATION_SOURCE: Keys = Keys::Range {
    first: 1,
    last: 2,
    step: 1,
};
const SOURCE_AND_STORE: Keys = Keys::FirstAndFound(search::stored_key);

commands! { "geo":
    "geoadd" -5 [WRITE DENYOOM] FIRST_KEY, Keys, geoadd,
        "write geo slow", "3.2.0", "O(log(N)) for each member given.",
        "Adds members with positions to a sorted set.";
    "geopos" -2 [READONLY] FIRST_KEY, Keys, geopos,
        "read geo slow", "3.2.0", "O(1) for each member.",
        "Answers the longitude and latitude of members.";
    "geodist" -4 [READONLY] FIRST_KEY, Keys, geodist,
        "read geo slow", "3.2.0", "O(1)", "Answers the distance between two members.";
    "geohash" -2 [READONLY] FIRST_KEY, Keys, geohash,
        "read geo slow", "3.2.0", "O(1) for each member.",
        "Answers the positions of members as geohash strings.";
    "geosearch" -7 [READONLY] FIRST_KEY, Keys, search::geosearch,
        "read geo slow", "6.2.0", "O(N+log(M)): N members in the cells around the area, M in all.",
        "Finds the members inside a circle or a box.";
    "geosearchstore" -8 [WRITE DENYOOM] DESTINATION_SOURCE, Keys, search::geosearchstore,
        "write geo slow", "6.2.0", "O(N+log(M)): N members in the cells around the area, M in all.",
        "Finds the members inside a circle or a box and stores them.";
    "georadius" -6 [WRITE DENYOOM MOVABLEKEYS] SOURCE_AND_STORE, Keys, search::georadius,
        "write geo slow", "3.2.0", "O(N+log(M)): N members in the cells around the area, M in all.",
        "Finds the members around a position; can store them.";
    "georadius_ro" -6 [READONLY] FIRST_KEY, Keys, search::georadius_ro,
        "read geo slow", "3.2.10", "O(N+log(M)): N members in the cells around the area, M in all.",
        "Finds the members around a position.";
    "georadiusbymember" -5 [WRITE DENYOOM MOVABLEKEYS] SOURCE_AND_STORE, Keys,
        search::georadiusbymember,
        "write geo slow", "3.2.0", "O(N+log(M)): N members in the cells around the area, M in all.",
        "Finds the members around another one; can store them.";
    "georadiusbymember_ro" -5 [READONLY] FIRST_KEY, Keys, search::georadiusbymember_ro,
        "read geo slow", "3.2.10", "O(N+log(M)): N members in the cells around the area, M in all.",
        "Finds the members around another one.";
}

/// The position that two arguments say.
fn position(longitude: &[u8], latitude: &[u8]) -> Result<Position, CommandError> {
    let position = Position {
        longitude: double(longitude)?,
        latitude: double(latitude)?,
    };
    if position.is_valid() {
        return Ok(position);
    }
    Err(detailed(format!(
        "ERR invalid longitude,latitude pair {:.6},{:.6}",
        position.longitude, position.latitude
    )))
}

/// How many metres a unit has.
fn unit(arg: &[u8]) -> Result<f64, CommandError> {
    const UNITS: [(&str, f64); 4] = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = UNITS.iter().find(|(name, _)| is(arg, name));
    found.map(|(_, metres)| *metres).ok_or(CommandError::Text(
        "ERR unsupported unit provided. please use M, KM, FT, MI",
    ))
}

/// Answers a distance, as text in both protocols.
fn reply_distance(reply: &mut Reply<'_>, distance: f64) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

fn reply_position(reply: &mut Reply<'_>, position: Position) {
    reply.array(2);
    for degrees in [position.longitude, position.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        match reply.protocol() {
            Protocol::Resp2 => reply.bulk(text.as_bytes()),
            // As many digits as in RESP2, where a double would have the fewest that say the same.
            Protocol::Resp3 => reply.raw(format!(",{text}\r\n").as_bytes()),
        }
    }
}

/// The position of a member.
fn position_of(zset: &ZSet, member: &[u8]) -> Option<Position> {
    zset.score(member).map(cell::position_of_score)
}

fn geoadd(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let is_option = |arg: &[u8]| is(arg, "nx") || is(arg, "xx") || is(arg, "ch");
    let options = args.from(2).iter().take_while(|arg| is_option(arg)).count();
    let given = |name| args.from(2).iter().take(options).any(|arg| is(arg, name));
    let members = args.from(2 + options);
    if !members.len().is_multiple_of(3) || (given("nx") && given("xx")) {
        return Err(CommandError::Syntax);
    }
    // What is left is a ZADD, and that is what the log gets.
    let mut zadd = OwnedArgs::new([b"ZADD".as_slice(), args.at(1)]);
    for option in args.from(2).iter().take(options) {
        zadd.push(option);
    }
    for at in (0..members.len()).step_by(3) {
        let position = position(members.at(at), members.at(at + 1))?;
        let mut score = itoa::Buffer::new();
        zadd.push(
            score
                .format(Cell::of(position, Cell::STEP_MAX).score())
                .as_bytes(),
        );
        zadd.push(members.at(at + 2));
    }
    zsets::zadd(cx, zadd.as_args())
}

fn geopos(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        match zset.and_then(|zset| position_of(zset, member)) {
            Some(position) => reply_position(reply, position),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn geodist(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let metres = match args.len() {
        4 => 1.0,
        5 => unit(args.at(4))?,
        _ => return Err(CommandError::Syntax),
    };
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    let ends = zset.and_then(|zset| {
        let from = position_of(zset, args.at(2))?;
        Some((from, position_of(zset, args.at(3))?))
    });
    match ends {
        Some((from, to)) => reply_distance(reply, earth::distance(from, to) / metres),
        None => reply.null(),
    }
    Ok(())
}

fn geohash(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    let (zset, reply) = read::<ZSet>(cx, Key::new(args.at(1)))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        match zset.and_then(|zset| position_of(zset, member)) {
            Some(position) => reply.bulk(&cell::geohash(position)),
            None => reply.null(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
