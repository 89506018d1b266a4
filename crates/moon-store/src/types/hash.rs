//! Hashes: fields with values, and deadlines of fields.
//!
//! * `small`: fields in one buffer.
//! * `entry`: a field as the large form keeps it.
//! * [`live`]: the fields that are there at a given time, which is what commands see.
//!
//! A hash whose fields have no deadlines pays nothing for them. The first deadline gives it a
//! set of its fields in the order of their deadlines; the deadline itself stands with the field.

pub mod live;

mod entry;
mod small;

use super::dict::{self, Dict};
use super::{Cursor, Encoding, PackLimits, scaled};
use crate::db::Deadline;
use crate::due::DueSet;
use crate::memory::allocated;
use crate::prefetch::prefetch;
use crate::thin::ThinBox;
use entry::{FieldEntry, join, split};
use live::LiveFields;
use moon_core::UnixMs;
use small::Small;

/// Fields with values. Knows nothing of "now": a field past its deadline is present here until
/// somebody removes it.
///
/// In the small form fields keep the order in which they came.
///
/// # Invariants
/// `due` holds exactly the fields that have a deadline, under it.
#[derive(Clone, Debug)]
pub struct Hash {
    form: Form,
}

// It lies in the value itself, beside the tag. Small hashes are many: what they have on the heap is
// their fields and nothing else.
const _: () = assert!(size_of::<Hash>() == 15 && align_of::<Hash>() == 1);

#[derive(Clone, Debug)]
enum Form {
    /// In one buffer, without deadlines.
    Small(Small),
    Large(ThinBox<Large>),
}

/// A hash with many fields, or with deadlines.
#[derive(Clone, Debug)]
struct Large {
    store: Store,
    /// The fields with deadlines.
    due: DueSet,
}

#[derive(Clone, Debug)]
enum Store {
    /// In one buffer, with room for deadlines. Made by the first one and then kept, as the
    /// encoding that OBJECT ENCODING names is.
    Small(Small),
    Table(Dict<FieldEntry>),
}

/// Where the fields are, in whatever form.
#[derive(Clone, Copy)]
enum Fieldset<'a> {
    Small(&'a Small),
    Table(&'a Dict<FieldEntry>),
}

/// As [`Fieldset`], to change it.
enum FieldsetMut<'a> {
    Small(&'a mut Small),
    Table(&'a mut Dict<FieldEntry>),
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
            form: Form::Small(Small::default()),
        }
    }
}

impl Hash {
    fn fieldset(&self) -> Fieldset<'_> {
        match &self.form {
            Form::Small(small) => Fieldset::Small(small),
            Form::Large(large) => match &large.store {
                Store::Small(small) => Fieldset::Small(small),
                Store::Table(dict) => Fieldset::Table(dict),
            },
        }
    }

    fn fieldset_mut(&mut self) -> FieldsetMut<'_> {
        match &mut self.form {
            Form::Small(small) => FieldsetMut::Small(small),
            Form::Large(large) => match &mut large.store {
                Store::Small(small) => FieldsetMut::Small(small),
                Store::Table(dict) => FieldsetMut::Table(dict),
            },
        }
    }

    /// The fields with deadlines, if there is room for any.
    #[inline]
    fn due(&self) -> Option<&DueSet> {
        match &self.form {
            Form::Small(_) => None,
            Form::Large(large) => Some(&large.due),
        }
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.fieldset() {
            Fieldset::Small(small) => small.len(),
            Fieldset::Table(dict) => dict.len(),
        }
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A field with its value and deadline.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<Field<'_>> {
        match self.fieldset() {
            Fieldset::Small(small) => small.find(name).map(|(_, field)| field),
            Fieldset::Table(dict) => dict.get(name).map(split),
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
        self.field(name).is_some()
    }

    /// Stores the value of a field, which then has no deadline; whether the field is new.
    pub fn set(&mut self, name: &[u8], value: &[u8], limits: PackLimits) -> bool {
        if self.volatile_len() > 0 {
            self.set_deadline(name, None);
        }
        let deadline = None;
        self.put(
            Field {
                name,
                value,
                deadline,
            },
            limits,
        )
    }

    /// Stores the value of a field, which keeps its deadline; whether the field is new.
    pub fn set_keeping_deadline(&mut self, name: &[u8], value: &[u8], limits: PackLimits) -> bool {
        let deadline = match self.volatile_len() {
            0 => None,
            _ => self.field(name).and_then(|field| field.deadline),
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
        if let FieldsetMut::Small(small) = self.fieldset_mut()
            && small.holds(field, limits)
        {
            if let Some((at, _)) = small.find(field.name) {
                small.replace(at, field);
                return false;
            }
            if small.admits(limits) {
                small.push(field);
                return true;
            }
        }
        self.use_table().put(&join(field))
    }

    /// Stores a field that is not there, which the caller has made sure of: without looking for
    /// it, which in the small form takes time in proportion to the fields.
    pub fn push(&mut self, field: Field<'_>, limits: PackLimits) {
        if let Some(at) = field.deadline {
            self.keep_deadlines().insert(at, field.name);
        }
        if let FieldsetMut::Small(small) = self.fieldset_mut()
            && small.holds(field, limits)
            && small.admits(limits)
        {
            let is_new = small.find(field.name).is_none();
            debug_assert!(is_new, "the field is there already");
            return small.push(field);
        }
        let is_new = self.use_table().put(&join(field));
        debug_assert!(is_new, "the field is there already");
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
        match self.fieldset_mut() {
            FieldsetMut::Table(dict) => {
                if let Some(field) = dict.get(name).map(split) {
                    let entry = join(Field { deadline, ..field });
                    dict.put(&entry);
                }
            }
            FieldsetMut::Small(small) => {
                if let Some(at) = small.find(name).map(|(at, _)| at) {
                    small.set_deadline(&at, deadline);
                }
            }
        }
        true
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if self.volatile_len() > 0 {
            self.set_deadline(name, None);
        }
        match self.fieldset_mut() {
            FieldsetMut::Table(dict) => dict.remove(name),
            FieldsetMut::Small(small) => match small.find(name).map(|(at, _)| at) {
                Some(at) => {
                    small.remove(at);
                    true
                }
                None => false,
            },
        }
    }

    /// A field chosen by the random number `r`, each about as likely as any other.
    #[must_use]
    pub fn random(&self, r: u64) -> Option<Field<'_>> {
        match self.fieldset() {
            Fieldset::Small(small) => small.iter().nth(scaled(r, small.len())),
            Fieldset::Table(dict) => dict.random(r).map(split),
        }
    }

    /// Visits fields from a cursor on and returns the cursor to go on with; 0 begins, and 0 says
    /// that the end was reached. A field that is there throughout is visited at least once
    /// between the two. About `count` fields are visited, and all at once in the small form.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        match self.fieldset() {
            Fieldset::Small(small) => {
                small.iter().for_each(visit);
                0
            }
            Fieldset::Table(dict) => dict.scan(cursor, count, &mut |entry| visit(split(entry))),
        }
    }

    /// All fields.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields(match self.fieldset() {
            Fieldset::Small(small) => Walk::Small(small.iter()),
            Fieldset::Table(dict) => Walk::Table(dict.iter()),
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
        match self.fieldset() {
            Fieldset::Small(small) => small.next_from(&mut cursor.at),
            Fieldset::Table(dict) => Some(split(dict.next_from(cursor)?)),
        }
    }

    /// The earliest deadline of a field.
    #[inline]
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        self.due()?.first()
    }

    /// How many fields have a deadline.
    #[must_use]
    pub fn volatile_len(&self) -> usize {
        self.due().map_or(0, DueSet::len)
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
        match self.due() {
            Some(due) => due.len() == self.len() && due.last().is_some_and(|at| at <= now),
            None => false,
        }
    }

    /// The fields past their deadline, the earliest first.
    pub fn expired_fields(&self, now: UnixMs) -> impl Iterator<Item = &[u8]> {
        self.due().into_iter().flat_map(move |due| due.until(now))
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match &self.form {
            Form::Small(_) => Encoding::Listpack,
            Form::Large(large) => match large.store {
                Store::Small(_) => Encoding::ListpackEx,
                Store::Table(_) => Encoding::Hashtable,
            },
        }
    }

    /// Starts loading what lies on the heap.
    #[inline]
    pub(crate) fn prefetch(&self) {
        match &self.form {
            Form::Small(small) => small.prefetch(),
            Form::Large(large) => prefetch(&**large),
        }
    }

    /// Starts loading what a look-up of the field `name` touches.
    #[inline]
    pub(crate) fn prefetch_field(&self, name: &[u8]) {
        if let Form::Large(large) = &self.form
            && let Store::Table(dict) = &large.store
        {
            dict.prefetch(name);
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory(&self) -> usize {
        let large = match &self.form {
            Form::Small(_) => 0,
            Form::Large(large) => allocated(size_of::<Large>()) + large.due.memory(),
        };
        let fields = match self.fieldset() {
            Fieldset::Small(small) => small.memory(),
            Fieldset::Table(dict) => dict.memory(),
        };
        large + fields
    }

    /// # Panics
    /// When an invariant of the hash does not hold. Visits everything.
    pub fn self_check(&self) {
        let mut volatile = 0;
        for field in self.fields() {
            if let Some(at) = field.deadline {
                volatile += 1;
                let is_due = (self.due()).is_some_and(|due| due.contains(at, field.name));
                assert!(is_due, "a deadline that nobody would look at");
            }
        }
        assert_eq!(volatile, self.volatile_len(), "fields with a deadline");
    }

    /// The fields with deadlines, for which there is room from here on.
    fn keep_deadlines(&mut self) -> &mut DueSet {
        if let Form::Small(small) = &self.form {
            let store = Store::Small(small.with_deadlines());
            let due = DueSet::default();
            self.form = Form::Large(ThinBox::new(Large { store, due }));
        }
        match &mut self.form {
            Form::Large(large) => &mut large.due,
            Form::Small(_) => unreachable!("it was made large"),
        }
    }

    /// The table of fields, which they are moved to if they are in one buffer.
    fn use_table(&mut self) -> &mut Dict<FieldEntry> {
        if let Fieldset::Small(small) = self.fieldset() {
            let mut dict = Dict::default();
            for field in small.iter() {
                dict.put(&join(field));
            }
            let store = Store::Table(dict);
            match &mut self.form {
                Form::Large(large) => large.store = store,
                Form::Small(_) => {
                    let due = DueSet::default();
                    self.form = Form::Large(ThinBox::new(Large { store, due }));
                }
            }
        }
        match self.fieldset_mut() {
            FieldsetMut::Table(dict) => dict,
            FieldsetMut::Small(_) => unreachable!("it was made a table"),
        }
    }
}

/// The fields of a [`struct@Hash`].
#[derive(Clone, Debug)]
pub struct Fields<'a>(Walk<'a>);

#[derive(Clone, Debug)]
enum Walk<'a> {
    Small(small::Iter<'a>),
    Table(dict::Iter<'a>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Small(walk) => walk.next(),
            Walk::Table(walk) => walk.next().map(split),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Walk::Small(walk) => walk.len(),
            Walk::Table(walk) => walk.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

#[cfg(test)]
mod tests;
