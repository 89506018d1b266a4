//! The fields of a hash that have not expired at a given time: what a command that reads sees.
//!
//! As long as no field is past its deadline, which the earliest one tells, nothing here looks at
//! any other deadline.

use super::{Field, Hash};
use moon_core::UnixMs;

/// The fields of a hash that are there at some time.
#[derive(Clone, Copy, Debug)]
pub struct LiveFields<'a> {
    hash: &'a Hash,
    now: UnixMs,
    /// Whether all of them are.
    all: bool,
}

impl<'a> LiveFields<'a> {
    pub(super) fn new(hash: &'a Hash, now: UnixMs) -> LiveFields<'a> {
        LiveFields {
            hash,
            now,
            all: !hash.has_expired_fields(now),
        }
    }

    /// The whole hash, if no field of it has expired.
    #[must_use]
    pub fn whole(&self) -> Option<&'a Hash> {
        self.all.then_some(self.hash)
    }

    /// Number of fields. Takes time in proportion to those that have expired and are not removed
    /// yet.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.all {
            true => self.hash.len(),
            false => self.hash.len() - self.hash.expired_fields(self.now).count(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hash.is_empty() || self.hash.has_expired(self.now)
    }

    /// A field with its value and deadline.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<Field<'a>> {
        let field = self.hash.field(name)?;
        (!field.has_expired(self.now)).then_some(field)
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.field(name).map(|field| field.value)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + Clone {
        let (all, now) = (self.all, self.now);
        (self.hash.fields()).filter(move |field| all || !field.has_expired(now))
    }

    /// Visits fields from a cursor on and returns the cursor to go on with; see
    /// [`Hash::scan`].
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        self.hash.scan(cursor, count, &mut |field| {
            if !field.has_expired(self.now) {
                visit(field);
            }
        })
    }
}
