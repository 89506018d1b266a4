//! Values out of an RDB file in the form in which commands would have made them.

use crate::context::Limits;
use moon_core::UnixMs;
use moon_rdb::{RdbReadValue, RdbStream, RdbValue};
use moon_store::stream::StreamFault;
use moon_store::{
    End, Field, Hash, Key, List, PackLimits, STRING_LEN_MAX, Set, SetLimits, Stream, Value, ZSet,
};
use std::ops::Range;

/// Longest element of a list, set or hash: a length of 32 bits counts its framing too.
const ELEMENT_BYTES_MAX: usize = STRING_LEN_MAX - 64;

/// What is wrong with a value.
pub(crate) enum ValueFault {
    Empty,
    Duplicate(Vec<u8>),
    TooLong(usize),
    /// The score of this member is not a number.
    NoScore(Vec<u8>),
    Stream(StreamFault),
}

/// The value in the form in which commands would have made it.
#[inline]
pub(crate) fn read_value(value: RdbReadValue<'_>, limits: &Limits) -> Result<Value, ValueFault> {
    match value {
        RdbReadValue::String(bytes) => string(bytes),
        RdbReadValue::List(elements) => list(elements.iter(), limits),
        RdbReadValue::Set(members) => set(members.iter(), limits),
        RdbReadValue::Hash(fields) => hash(fields.pairs().map(plain), limits),
        RdbReadValue::VolatileHash(fields) => hash(fields.iter().map(volatile), limits),
        RdbReadValue::ZSet(members) => zset(members.scored(), limits),
        RdbReadValue::Stream(rdb) => stream(rdb),
    }
}

/// As [`read_value`].
pub(super) fn owned_value(value: &RdbValue, limits: &Limits) -> Result<Value, ValueFault> {
    match value {
        RdbValue::String(bytes) => string(bytes),
        RdbValue::List(elements) => list(elements.iter().map(Vec::as_slice), limits),
        RdbValue::Set(members) => set(members.iter().map(Vec::as_slice), limits),
        RdbValue::Hash(fields) => {
            let pairs = fields.iter().map(|(f, v)| (f.as_slice(), v.as_slice()));
            hash(pairs.map(plain), limits)
        }
        RdbValue::VolatileHash(fields) => {
            let fields = fields.iter().map(|(f, v, at)| (&f[..], &v[..], *at));
            hash(fields.map(volatile), limits)
        }
        RdbValue::ZSet(members) => zset(
            members.iter().map(|(m, score)| (m.as_slice(), *score)),
            limits,
        ),
        RdbValue::Stream(rdb) => stream(rdb),
    }
}

fn string(bytes: &[u8]) -> Result<Value, ValueFault> {
    check_bytes(bytes, STRING_LEN_MAX)?;
    Ok(Value::string(bytes))
}

fn list<'a>(
    elements: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    limits: &Limits,
) -> Result<Value, ValueFault> {
    if elements.len() == 0 {
        return Err(ValueFault::Empty);
    }
    let limit = limits.list_nodes();
    let mut list = List::default();
    for element in elements {
        check_bytes(element, ELEMENT_BYTES_MAX)?;
        list.push(End::Right, element, limit);
    }
    Ok(Value::List(Box::new(list)))
}

fn set<'a>(
    members: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    limits: &Limits,
) -> Result<Value, ValueFault> {
    let limits = SetLimits {
        intset_entries: limits.set_max_intset_entries,
        pack: PackLimits {
            entries: limits.set_max_listpack_entries,
            value_bytes: limits.set_max_listpack_value,
        },
    };
    let Some(first) = members.clone().next() else {
        return Err(ValueFault::Empty);
    };
    let mut set = Set::for_first(first, members.len(), limits);
    let distinct = are_distinct(members.clone());
    for member in members {
        check_bytes(member, ELEMENT_BYTES_MAX)?;
        if distinct {
            set.push(member, limits);
        } else if !set.add(member, limits) {
            return Err(ValueFault::Duplicate(member.to_vec()));
        }
    }
    Ok(Value::Set(set))
}

fn plain<'a>((name, value): (&'a [u8], &'a [u8])) -> Field<'a> {
    volatile((name, value, None))
}

fn volatile<'a>((name, value, deadline): (&'a [u8], &'a [u8], Option<i64>)) -> Field<'a> {
    Field {
        name,
        value,
        deadline: deadline.map(UnixMs),
    }
}

fn hash<'a>(
    fields: impl ExactSizeIterator<Item = Field<'a>> + Clone,
    limits: &Limits,
) -> Result<Value, ValueFault> {
    if fields.len() == 0 {
        return Err(ValueFault::Empty);
    }
    let limits = PackLimits {
        entries: limits.hash_max_listpack_entries,
        value_bytes: limits.hash_max_listpack_value,
    };
    let mut hash = Hash::default();
    let distinct = are_distinct(fields.clone().map(|field| field.name));
    for field in fields {
        check_bytes(field.name, ELEMENT_BYTES_MAX)?;
        check_bytes(field.value, ELEMENT_BYTES_MAX)?;
        if !distinct && hash.contains(field.name) {
            return Err(ValueFault::Duplicate(field.name.to_vec()));
        }
        hash.push(field, limits);
    }
    Ok(Value::Hash(hash))
}

fn zset<'a>(
    members: impl ExactSizeIterator<Item = (&'a [u8], f64)> + Clone,
    limits: &Limits,
) -> Result<Value, ValueFault> {
    if members.len() == 0 {
        return Err(ValueFault::Empty);
    }
    let limits = limits.zset_pack();
    let mut zset = ZSet::default();
    let distinct = are_distinct(members.clone().map(|(member, _)| member));
    for (member, score) in members {
        check_bytes(member, ELEMENT_BYTES_MAX)?;
        if score.is_nan() {
            return Err(ValueFault::NoScore(member.to_vec()));
        }
        if distinct {
            zset.push(member, score, limits);
        } else if zset.set(member, score, limits).is_some() {
            return Err(ValueFault::Duplicate(member.to_vec()));
        }
    }
    Ok(Value::ZSet(Box::new(zset)))
}

fn stream(rdb: &RdbStream) -> Result<Value, ValueFault> {
    let stream = Stream::from_rdb(rdb).map_err(ValueFault::Stream)?;
    Ok(Value::Stream(Box::new(stream)))
}

/// Whether the names are known to be distinct: few enough that looking for each costs little
/// are not asked. Equal hashes count as equal names; whoever looks closer then finds out.
fn are_distinct<'a>(names: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
    const WORTH_IT: Range<usize> = 8..4096;
    if !WORTH_IT.contains(&names.len()) {
        return false;
    }
    let mut hashes: Vec<u64> = names.map(|name| Key::new(name).hash).collect();
    hashes.sort_unstable();
    hashes.is_sorted_by(|a, b| a < b)
}

fn check_bytes(bytes: &[u8], max: usize) -> Result<(), ValueFault> {
    if bytes.len() <= max {
        return Ok(());
    }
    Err(ValueFault::TooLong(bytes.len()))
}
