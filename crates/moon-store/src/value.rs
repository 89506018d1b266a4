//! What a key holds.

use crate::types::{Hash, List, Set};

/// The type of a value, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A hash.
    Hash,
}

impl Kind {
    /// The name that TYPE answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Hash => "hash",
        }
    }
}

/// A value of any type.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string in integer form.
    Int(i64),
    /// A string.
    Str(Box<[u8]>),
    /// A list.
    List(Box<List>),
    /// A set.
    Set(Box<Set>),
    /// A hash.
    Hash(Box<Hash>),
}

impl Value {
    /// A string, as an integer if it is the canonical decimal form of one.
    #[must_use]
    pub fn string(bytes: &[u8]) -> Value {
        Value::Str(bytes.into())
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Value::Int(_) | Value::Str(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::Hash(_) => Kind::Hash,
        }
    }
}
