//! Hashes: fields with values, and deadlines of fields.
//!
//! * `entry`: a field as the large form keeps it.
//! * [`live`]: the fields that are there at a given time, which is what commands see.
//!
//! A hash whose fields have no deadlines pays nothing for them. The first deadline gives it a
//! set of its fields in the order of their deadlines; the deadline itself stands with the field.

pub mod live;

mod entry;

use super::dict::{self, Dict};
use super::pack::{self, Pack};
use super::{Cursor, Encoding, PackLimits, scaled};
use crate::db::Deadline;
use crate::due::DueSet;
use entry::{FieldEntry, join, split};
use live::LiveFields;
use moon_core::UnixMs;

/// Fields with values. Knows nothing of "now": a field past its deadline is present here until
/// somebody removes it.
///
/// In the small form fields keep the order in which they came.
///
/// # Invariants
/// * `due` holds exactly the fields that have a deadline, under it.
/// * The small form has three entries per field if there is a `due`, and else two.
#[derive(Clone, Debug)]
pub struct Hash {
    form: Form,
    /// The fields with deadlines. Made by the first one and then kept, as the encoding that
    /// OBJECT ENCODING names is.
    due: Option<Box<DueSet>>,
}

#[derive(Clone, Debug)]
enum Form {
    /// Field, value, field, value, ... or field, value, deadline, field, value, deadline, ...
    /// where a deadline is 8 bytes or none.
    Packed(Pack),
    Table(Dict<FieldEntry>),
}

/// A field with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field itself.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// When the field expires.
    pub deadline: Deadline,
}

impl Field<'_> {
    /// Whether it is past its deadline.
    #[must_use]
    pub fn has_expired(&self, now: UnixMs) -> bool {
        self.deadline.is_some_and(|at| at <= now)
    }
}

impl Default for Hash {
    fn default() -> Self {
        Hash {
            form: Form::Packed(Pack::default()),
            due: None,
        }
    }
}

impl Hash {
    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(pack) => pack.len() / self.stride(),
            Form::Table(dict) => dict.len(),
        }
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries of the small form per field.
    fn stride(&self) -> usize {
        if self.due.is_some() { 3 } else { 2 }
    }

    /// A field with its value and deadline.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<Field<'_>> {
        match &self.form {
            Form::Packed(pack) => {
                let (name, behind) = pack.at(pack.find(name, self.stride())?);
                let (value, behind) = pack.at(behind);
                let deadline = match self.due {
                    Some(_) => unpack_deadline(pack.at(behind).0),
                    None => None,
                };
                Some(Field {
                    name,
                    value,
                    deadline,
                })
            }
            Form::Table(dict) => dict.get(name).map(split),
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.field(name).map(|field| field.value)
    }

    /// Whether the field is there.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        match &self.form {
            Form::Packed(pack) => pack.find(name, self.stride()).is_some(),
            Form::Table(dict) => dict.get(name).is_some(),
        }
    }

    /// Stores the value of a field, which then has no deadline; whether the field is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], limits: PackLimits) -> bool {
        if self.due.is_some() {
            self.set_deadline(name, None);
        }
        self.put(
            Field {
                name,
                value,
                deadline: None,
            },
            limits,
        )
    }

    /// Stores the value of a field, which keeps its deadline; whether the field is new.
    pub fn set_keeping_deadline(&mut self, name: &[u8], value: &[u8], limits: PackLimits) -> bool {
        let deadline = match self.due {
            Some(_) => self.field(name).and_then(|field| field.deadline),
            None => None,
        };
        self.put(
            Field {
                name,
                value,
                deadline,
            },
            limits,
        )
    }

    /// Stores a field whose deadline, if it is there, is this one already.
    fn put(&mut self, field: Field<'_>, limits: PackLimits) -> bool {
        if field.name.len().max(field.value.len()) > limits.value_bytes {
            self.use_table();
        }
        let stride = self.stride();
        match &mut self.form {
            Form::Table(dict) => dict.put(&join(field)),
            Form::Packed(pack) => {
                if let Some(at) = pack.find(field.name, stride) {
                    let (_, value_at) = pack.at(at);
                    pack.replace(value_at, field.value);
                    return false;
                }
                push_packed(pack, field, stride);
                if pack.len() / stride > limits.entries {
                    self.use_table();
                }
                true
            }
        }
    }

    /// Stores a field that is not there, which the caller has made sure of: without looking for
    /// it, which in the small form takes time in proportion to the fields.
    pub fn push(&mut self, field: Field<'_>, limits: PackLimits) {
        if field.name.len().max(field.value.len()) > limits.value_bytes
            || self.len() >= limits.entries
        {
            self.use_table();
        }
        if let Some(at) = field.deadline {
            self.keep_deadlines().insert(at, field.name);
        }
        let stride = self.stride();
        match &mut self.form {
            Form::Table(dict) => {
                let is_new = dict.put(&join(field));
                debug_assert!(is_new, "the field is there already");
            }
            Form::Packed(pack) => {
                debug_assert!(
                    pack.find(field.name, stride).is_none(),
                    "the field is there already"
                );
                push_packed(pack, field, stride);
            }
        }
    }

    /// Sets or clears the deadline of a field; whether the field is there.
    pub fn set_deadline(&mut self, name: &[u8], deadline: Deadline) -> bool {
        let Some(old) = self.field(name) else {
            return false;
        };
        let had = old.deadline;
        if had == deadline {
            return true;
        }
        let due = self.keep_deadlines();
        if let Some(at) = had {
            due.remove(at, name);
        }
        if let Some(at) = deadline {
            due.insert(at, name);
        }
        match &mut self.form {
            Form::Table(dict) => {
                if let Some(field) = dict.get(name).map(split) {
                    let entry = join(Field { deadline, ..field });
                    dict.put(&entry);
                }
            }
            Form::Packed(pack) => {
                if let Some(at) = pack.find(name, 3) {
                    let (_, value_at) = pack.at(at);
                    let (_, deadline_at) = pack.at(value_at);
                    pack.replace(deadline_at, packed_deadline(deadline).as_slice());
                }
            }
        }
        true
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if self.due.is_some() {
            self.set_deadline(name, None);
        }
        let stride = self.stride();
        match &mut self.form {
            Form::Packed(pack) => match pack.find(name, stride) {
                Some(at) => {
                    pack.remove(at, stride);
                    true
                }
                None => false,
            },
            Form::Table(dict) => dict.remove(name),
        }
    }

    /// A field chosen by the random number `r`, each about as likely as any other.
    #[must_use]
    pub fn random(&self, r: u64) -> Option<Field<'_>> {
        match &self.form {
            Form::Packed(_) => self.fields().nth(scaled(r, self.len())),
            Form::Table(dict) => dict.random(r).map(split),
        }
    }

    /// Visits fields from a cursor on and returns the cursor to go on with; 0 begins, and 0 says
    /// that the end was reached. A field that is there throughout is visited at least once
    /// between the two. About `count` fields are visited, and all at once in the small form.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        match &self.form {
            Form::Packed(_) => {
                self.fields().for_each(visit);
                0
            }
            Form::Table(dict) => dict.scan(cursor, count, &mut |entry| visit(split(entry))),
        }
    }

    /// All fields.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields(match &self.form {
            Form::Packed(pack) => Walk::Packed {
                walk: pack.iter(),
                stride: self.stride(),
            },
            Form::Table(dict) => Walk::Table(dict.iter()),
        })
    }

    /// All fields with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.fields().map(|field| (field.name, field.value))
    }

    /// The fields that are there at `now`.
    #[must_use]
    pub fn at(&self, now: UnixMs) -> LiveFields<'_> {
        LiveFields::new(self, now)
    }

    /// The field at the cursor, which moves on; `None` at the end. Constant time.
    #[must_use]
    pub fn next_from(&self, cursor: &mut Cursor) -> Option<Field<'_>> {
        match &self.form {
            Form::Packed(pack) => {
                let name = pack.next_from(&mut cursor.at)?;
                let value = pack.next_from(&mut cursor.at)?;
                let deadline = match self.due {
                    Some(_) => unpack_deadline(pack.next_from(&mut cursor.at)?),
                    None => None,
                };
                Some(Field {
                    name,
                    value,
                    deadline,
                })
            }
            Form::Table(dict) => Some(split(dict.next_from(cursor)?)),
        }
    }

    /// The earliest deadline of a field.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        self.due.as_ref()?.first()
    }

    /// How many fields have a deadline.
    #[must_use]
    pub fn volatile_len(&self) -> usize {
        self.due.as_ref().map_or(0, |due| due.len())
    }

    /// Whether fields are past their deadline.
    #[inline]
    #[must_use]
    pub fn has_expired_fields(&self, now: UnixMs) -> bool {
        self.next_deadline().is_some_and(|at| at <= now)
    }

    /// Whether all fields are past their deadlines, so that the hash counts as gone.
    #[inline]
    #[must_use]
    pub fn has_expired(&self, now: UnixMs) -> bool {
        match &self.due {
            Some(due) => due.len() == self.len() && due.last().is_some_and(|at| at <= now),
            None => false,
        }
    }

    /// The fields past their deadline, the earliest first.
    pub fn expired_fields(&self, now: UnixMs) -> impl Iterator<Item = &[u8]> {
        self.due.iter().flat_map(move |due| due.until(now))
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match &self.form {
            Form::Packed(_) if self.due.is_some() => Encoding::ListpackEx,
            Form::Packed(_) => Encoding::Listpack,
            Form::Table(_) => Encoding::Hashtable,
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        let due = (self.due.as_ref()).map_or(0, |due| size_of::<DueSet>() + due.memory());
        size_of::<Hash>()
            + due
            + match &self.form {
                Form::Packed(pack) => pack.memory(),
                Form::Table(dict) => dict.memory(),
            }
    }

    /// # Panics
    /// When an invariant of the hash does not hold. Visits everything.
    pub fn self_check(&self) {
        let mut volatile = 0;
        for field in self.fields() {
            if let Some(at) = field.deadline {
                volatile += 1;
                let is_due = (self.due.as_ref()).is_some_and(|due| due.contains(at, field.name));
                assert!(is_due, "a deadline that nobody would look at");
            }
        }
        assert_eq!(volatile, self.volatile_len(), "fields with a deadline");
        if let Form::Packed(pack) = &self.form {
            assert_eq!(pack.len() % self.stride(), 0, "entries per field");
        }
    }

    /// The fields with deadlines, for which there is room from here on.
    fn keep_deadlines(&mut self) -> &mut DueSet {
        if self.due.is_none()
            && let Form::Packed(pack) = &mut self.form
        {
            let mut wider = Pack::default();
            for (index, entry) in pack.iter().enumerate() {
                wider.push_back(entry);
                if index % 2 == 1 {
                    wider.push_back(b"");
                }
            }
            *pack = wider;
        }
        self.due.get_or_insert_default()
    }

    fn use_table(&mut self) {
        if let Form::Packed(_) = &self.form {
            let mut dict = Dict::default();
            for field in self.fields() {
                dict.put(&join(field));
            }
            self.form = Form::Table(dict);
        }
    }
}

fn push_packed(pack: &mut Pack, field: Field<'_>, stride: usize) {
    pack.push_back(field.name);
    pack.push_back(field.value);
    if stride == 3 {
        pack.push_back(packed_deadline(field.deadline).as_slice());
    }
}

/// A deadline as the small form keeps it.
fn packed_deadline(deadline: Deadline) -> PackedDeadline {
    PackedDeadline {
        bytes: deadline.unwrap_or_default().0.to_le_bytes(),
        len: if deadline.is_some() { 8 } else { 0 },
    }
}

struct PackedDeadline {
    bytes: [u8; 8],
    len: usize,
}

impl PackedDeadline {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn unpack_deadline(entry: &[u8]) -> Deadline {
    let bytes = entry.first_chunk::<8>()?;
    Some(UnixMs(i64::from_le_bytes(*bytes)))
}

/// The fields of a [`struct@Hash`].
#[derive(Clone, Debug)]
pub struct Fields<'a>(Walk<'a>);

#[derive(Clone, Debug)]
enum Walk<'a> {
    Packed { walk: pack::Iter<'a>, stride: usize },
    Table(dict::Iter<'a>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Packed { walk, stride } => {
                let (name, value) = (walk.next()?, walk.next()?);
                let deadline = match stride {
                    3 => unpack_deadline(walk.next()?),
                    _ => None,
                };
                Some(Field {
                    name,
                    value,
                    deadline,
                })
            }
            Walk::Table(walk) => walk.next().map(split),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Walk::Packed { walk, stride } => walk.len() / stride,
            Walk::Table(walk) => walk.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

#[cfg(test)]
mod tests;
