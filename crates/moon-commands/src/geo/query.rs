//! The arguments of a search: where, how far, and what is wanted of it.

use super::cell::Position;
use super::earth::{Shape, ShapeKind};
use super::{position, position_of, unit};
use crate::error::CommandError;
use crate::parse::{detailed, double, integer, is, next_option};
use moon_resp::Args;
use moon_store::ZSet;

/// Which of the commands searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// GEORADIUS: the key, a position, a radius, options.
    Radius,
    /// GEORADIUSBYMEMBER: the key, a member, a radius, options.
    Member,
    /// GEOSEARCH: the key and options.
    Search,
    /// GEOSEARCHSTORE: a destination, the key, options.
    SearchStore,
}

/// In which order members are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Nearest,
    Farthest,
}

/// What is searched and answered.
pub(super) struct Query<'a> {
    /// Means nothing if there is no set to search.
    pub(super) shape: Shape,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_position: bool,
    pub(super) order: Option<Order>,
    /// Most members.
    pub(super) count: Option<usize>,
    /// Whether the first ones found will do.
    pub(super) any: bool,
    /// Where the members are stored.
    pub(super) destination: Option<&'a [u8]>,
    /// Whether they are stored with their distances as scores.
    pub(super) store_distance: bool,
}

const UNKNOWN_MEMBER: CommandError =
    CommandError::Text("ERR could not decode requested zset member");

/// A number that may not be negative.
fn length(arg: &[u8], no_number: &'static str) -> Result<f64, CommandError> {
    double(arg).map_err(|_| CommandError::Text(no_number))
}

/// A radius and its unit, at `at`.
fn circle(args: Args<'_>, at: usize) -> Result<(ShapeKind, f64), CommandError> {
    let radius = length(args.at(at), "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::Text("ERR radius cannot be negative"));
    }
    Ok((ShapeKind::Circle { radius }, unit(args.at(at + 1))?))
}

/// A width, a height and their unit, at `at`.
fn rectangle(args: Args<'_>, at: usize) -> Result<(ShapeKind, f64), CommandError> {
    let width = length(args.at(at), "ERR need numeric width")?;
    let height = length(args.at(at + 1), "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::Text("ERR height or width cannot be negative"));
    }
    Ok((ShapeKind::Box { width, height }, unit(args.at(at + 2))?))
}

impl<'a> Query<'a> {
    /// Reads the arguments; `zset` is what will be searched, if it is there. `may_store` is false
    /// for the commands that only read.
    pub(super) fn parse(
        form: Form,
        args: Args<'a>,
        zset: Option<&ZSet>,
        may_store: bool,
    ) -> Result<Query<'a>, CommandError> {
        let mut parser = Parser {
            form,
            zset,
            may_store,
            center: None,
            kind: None,
            query: Query::nothing(),
        };
        let options = parser.fixed(args)?;
        let mut at = options;
        while let Some(option) = next_option(args, &mut at) {
            parser.option(option, args, &mut at)?;
        }
        parser.finish(args)
    }

    fn nothing() -> Query<'a> {
        Query {
            shape: Shape {
                center: Position {
                    longitude: 0.0,
                    latitude: 0.0,
                },
                metres: 1.0,
                kind: ShapeKind::Circle { radius: 0.0 },
            },
            with_distance: false,
            with_hash: false,
            with_position: false,
            order: None,
            count: None,
            any: false,
            destination: None,
            store_distance: false,
        }
    }
}

/// How a center was given, which excludes the other way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Center {
    Member,
    Position,
}

struct Parser<'a, 'z> {
    form: Form,
    zset: Option<&'z ZSet>,
    may_store: bool,
    center: Option<Center>,
    kind: Option<ShapeKind>,
    query: Query<'a>,
}

impl<'a> Parser<'a, '_> {
    fn is_search(&self) -> bool {
        matches!(self.form, Form::Search | Form::SearchStore)
    }

    /// Reads what stands at fixed places; where the options begin.
    fn fixed(&mut self, args: Args<'a>) -> Result<usize, CommandError> {
        let options = match self.form {
            Form::Radius => {
                self.query.shape.center = position(args.at(2), args.at(3))?;
                self.set_kind(circle(args, 4)?);
                6
            }
            Form::Member => {
                // Without a set there is nothing to look up, and the radius is not looked at.
                if self.zset.is_some() {
                    self.set_member(args.at(2))?;
                    self.set_kind(circle(args, 3)?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                self.query.destination = Some(args.at(1));
                3
            }
        };
        Ok(options)
    }

    fn set_kind(&mut self, (kind, metres): (ShapeKind, f64)) {
        self.kind = Some(kind);
        self.query.shape.kind = kind;
        self.query.shape.metres = metres;
    }

    fn set_member(&mut self, member: &[u8]) -> Result<(), CommandError> {
        if let Some(zset) = self.zset {
            self.query.shape.center = position_of(zset, member).ok_or(UNKNOWN_MEMBER)?;
        }
        Ok(())
    }

    /// Reads one option, with its arguments at `at`.
    fn option(
        &mut self,
        option: &[u8],
        args: Args<'a>,
        at: &mut usize,
    ) -> Result<(), CommandError> {
        let left = args.len() - *at;
        let is_search = self.is_search();
        let stores = self.may_store && !is_search;
        let query = &mut self.query;
        if is(option, "withdist") {
            query.with_distance = true;
        } else if is(option, "withhash") {
            query.with_hash = true;
        } else if is(option, "withcoord") {
            query.with_position = true;
        } else if is(option, "any") {
            query.any = true;
        } else if is(option, "asc") {
            query.order = Some(Order::Nearest);
        } else if is(option, "desc") {
            query.order = Some(Order::Farthest);
        } else if is(option, "count") && left >= 1 {
            let count = integer(args.at(*at))?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            query.count = Some(count.ok_or(CommandError::Text("ERR COUNT must be > 0"))?);
            *at += 1;
        } else if (is(option, "store") || is(option, "storedist")) && left >= 1 && stores {
            query.destination = Some(args.at(*at));
            query.store_distance = is(option, "storedist");
            *at += 1;
        } else if is(option, "storedist") && self.form == Form::SearchStore {
            query.store_distance = true;
        } else if is(option, "frommember")
            && left >= 1
            && is_search
            && self.center != Some(Center::Position)
        {
            self.set_member(args.at(*at))?;
            self.center = Some(Center::Member);
            *at += 1;
        } else if is(option, "fromlonlat")
            && left >= 2
            && is_search
            && self.center != Some(Center::Member)
        {
            query.shape.center = position(args.at(*at), args.at(*at + 1))?;
            self.center = Some(Center::Position);
            *at += 2;
        } else if is(option, "byradius")
            && left >= 2
            && is_search
            && !matches!(self.kind, Some(ShapeKind::Box { .. }))
        {
            self.set_kind(circle(args, *at)?);
            *at += 2;
        } else if is(option, "bybox")
            && left >= 3
            && is_search
            && !matches!(self.kind, Some(ShapeKind::Circle { .. }))
        {
            self.set_kind(rectangle(args, *at)?);
            *at += 3;
        } else {
            return Err(CommandError::Syntax);
        }
        Ok(())
    }

    /// Checks what the options are together.
    fn finish(self, args: Args<'_>) -> Result<Query<'a>, CommandError> {
        let query = &self.query;
        let with = query.with_distance || query.with_hash || query.with_position;
        if query.destination.is_some() && with {
            let what = match self.form {
                Form::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(detailed(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = String::from_utf8_lossy(args.at(0));
        if self.is_search() && self.center.is_none() {
            return Err(detailed(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if self.is_search() && self.kind.is_none() {
            return Err(detailed(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if query.any && query.count.is_none() {
            return Err(CommandError::Text(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        let mut query = self.query;
        // The nearest ones are meant, unless any will do.
        if query.count.is_some() && !query.any && query.order.is_none() {
            query.order = Some(Order::Nearest);
        }
        Ok(query)
    }
}
