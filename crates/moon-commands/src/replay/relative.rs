//! Expire times that count from the moment of the command, made absolute.
//!
//! A log of this server, and of any Redis of the last years, has absolute times only. Older logs
//! and logs written by hand may have relative ones, which count from the time that a stamp in
//! the log gives, or else from the time of loading, as in Redis.

use crate::parse::{self, Basis, Unit};
use moon_core::UnixMs;
use moon_resp::{Args, OwnedArgs};

/// The request with an absolute time in place of the relative one that it has; `None` if it has
/// none, or is none that its command would accept: then the command says what is wrong.
pub(super) fn absolute(args: Args<'_>, now: UnixMs) -> Option<OwnedArgs> {
    let name = args.get(0)?;
    let command = |known: &str| parse::is(name, known);
    if command("expire") {
        return expire(args, Unit::Seconds, now);
    }
    if command("pexpire") {
        return expire(args, Unit::Milliseconds, now);
    }
    if command("setex") {
        return set_for(args, Unit::Seconds, now);
    }
    if command("psetex") {
        return set_for(args, Unit::Milliseconds, now);
    }
    if command("set") {
        return option(args, 3, now);
    }
    if command("getex") {
        return option(args, 2, now);
    }
    None
}

fn expire(args: Args<'_>, unit: Unit, now: UnixMs) -> Option<OwnedArgs> {
    let at = parse::expire_time(args.get(2)?, unit, Basis::Now, now, "expire").ok()?;
    let mut absolute = OwnedArgs::new([b"PEXPIREAT", args.get(1)?, digits(at).as_bytes()]);
    for option in args.from(3).iter() {
        absolute.push(option);
    }
    Some(absolute)
}

fn set_for(args: Args<'_>, unit: Unit, now: UnixMs) -> Option<OwnedArgs> {
    if args.len() != 4 {
        return None;
    }
    let at = parse::positive_expire_time(args.at(2), unit, Basis::Now, now, "setex").ok()?;
    let at = digits(at);
    Some(OwnedArgs::new([
        b"SET",
        args.at(1),
        args.at(3),
        b"PXAT",
        at.as_bytes(),
    ]))
}

/// Options begin at index `from`.
fn option(args: Args<'_>, from: usize, now: UnixMs) -> Option<OwnedArgs> {
    let unit_of = |option: &[u8]| {
        if parse::is(option, "ex") {
            Some(Unit::Seconds)
        } else if parse::is(option, "px") {
            Some(Unit::Milliseconds)
        } else {
            None
        }
    };
    let (at, unit) = (from..args.len()).find_map(|at| Some((at, unit_of(args.at(at))?)))?;
    let time = parse::positive_expire_time(args.get(at + 1)?, unit, Basis::Now, now, "set").ok()?;
    let mut absolute = OwnedArgs::default();
    for (index, arg) in args.iter().enumerate() {
        match index {
            _ if index == at => absolute.push(b"PXAT"),
            _ if index == at + 1 => absolute.push(digits(time).as_bytes()),
            _ => absolute.push(arg),
        }
    }
    Some(absolute)
}

fn digits(at: UnixMs) -> String {
    at.0.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times_become_absolute_and_all_else_stays() {
        let now = UnixMs(1_000_000);
        for (request, expected) in [
            ("EXPIRE k 5", Some("PEXPIREAT k 1005000")),
            ("expire k -5 XX", Some("PEXPIREAT k 995000 XX")),
            ("PEXPIRE k 5 nx", Some("PEXPIREAT k 1000005 nx")),
            ("SETEX k 5 v", Some("SET k v PXAT 1005000")),
            ("psetex k 5 v", Some("SET k v PXAT 1000005")),
            ("SET k v NX EX 5 GET", Some("SET k v NX PXAT 1005000 GET")),
            ("set k ex px 7", Some("set k ex PXAT 1000007")),
            ("GETEX k EX 1", Some("GETEX k PXAT 1001000")),
            ("SET k v", None),
            ("SET ex px", None),
            ("SET k v PXAT 5", None),
            ("SET k v EX", None),
            ("SET k v EX 0", None),
            ("SET k v EX 9223372036854775807", None),
            ("EXPIRE k x", None),
            ("EXPIRE k", None),
            ("SETEX k 5", None),
            ("PEXPIREAT k 5", None),
            ("GETEX k PERSIST", None),
        ] {
            let args = OwnedArgs::new(request.split(' '));
            let expected = expected.map(|text| OwnedArgs::new(text.split(' ')));
            assert_eq!(absolute(args.as_args(), now), expected, "{request}");
        }
    }
}
