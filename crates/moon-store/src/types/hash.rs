//! Hashes: fields with values.

use super::dict::{self, Dict};
use super::pack::{self, Pack};
use super::{Cursor, Encoding, PackLimits};

/// Fields with values.
///
/// In the small form fields keep the order in which they came.
#[derive(Clone, Debug)]
pub struct Hash {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Field, value, field, value, ...
    Packed(Pack),
    Table(Dict<FieldValue>),
}

impl Default for Hash {
    fn default() -> Self {
        Hash {
            form: Form::Packed(Pack::default()),
        }
    }
}

impl Hash {
    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(pack) => pack.len() / 2,
            Form::Table(dict) => dict.len(),
        }
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.form {
            Form::Packed(pack) => {
                let (_, value) = pack.at(pack.find(field, 2)?);
                Some(pack.at(value).0)
            }
            Form::Table(dict) => dict.get(field).map(|entry| split(entry).1),
        }
    }

    /// Whether the field is there.
    #[must_use]
    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.form {
            Form::Packed(pack) => pack.find(field, 2).is_some(),
            Form::Table(dict) => dict.get(field).is_some(),
        }
    }

    /// Stores the value of a field; whether the field is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: PackLimits) -> bool {
        if field.len().max(value.len()) > limits.value_bytes {
            self.use_table();
        }
        match &mut self.form {
            Form::Table(dict) => dict.put(&join(field, value)),
            Form::Packed(pack) => {
                if let Some(at) = pack.find(field, 2) {
                    let (_, value_at) = pack.at(at);
                    pack.replace(value_at, value);
                    return false;
                }
                pack.push_back(field);
                pack.push_back(value);
                if pack.len() / 2 > limits.entries {
                    self.use_table();
                }
                true
            }
        }
    }

    /// Stores a field that is not there, which the caller has made sure of: without looking for
    /// it, which in the small form takes time in proportion to the fields.
    pub fn push(&mut self, field: &[u8], value: &[u8], limits: PackLimits) {
        if field.len().max(value.len()) > limits.value_bytes || self.len() >= limits.entries {
            self.use_table();
        }
        match &mut self.form {
            Form::Table(dict) => {
                let is_new = dict.put(&join(field, value));
                debug_assert!(is_new, "the field is there already");
            }
            Form::Packed(pack) => {
                debug_assert!(pack.find(field, 2).is_none(), "the field is there already");
                pack.push_back(field);
                pack.push_back(value);
            }
        }
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(pack) => match pack.find(field, 2) {
                Some(at) => {
                    pack.remove(at, 2);
                    true
                }
                None => false,
            },
            Form::Table(dict) => dict.remove(field),
        }
    }

    /// All fields with their values.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.form {
            Form::Packed(pack) => Walk::Packed(pack.iter()),
            Form::Table(dict) => Walk::Table(dict.iter()),
        })
    }

    /// The field and value at the cursor, which moves on; `None` at the end. Constant time.
    #[must_use]
    pub fn next_from(&self, cursor: &mut Cursor) -> Option<(&[u8], &[u8])> {
        match &self.form {
            Form::Packed(pack) => {
                let field = pack.next_from(&mut cursor.at)?;
                Some((field, pack.next_from(&mut cursor.at)?))
            }
            Form::Table(dict) => Some(split(dict.next_from(cursor)?)),
        }
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match &self.form {
            Form::Packed(_) => Encoding::Listpack,
            Form::Table(_) => Encoding::Hashtable,
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Hash>()
            + match &self.form {
                Form::Packed(pack) => pack.memory(),
                Form::Table(dict) => dict.memory(),
            }
    }

    fn use_table(&mut self) {
        if let Form::Packed(_) = &self.form {
            let mut dict = Dict::default();
            for (field, value) in self.iter() {
                dict.put(&join(field, value));
            }
            self.form = Form::Table(dict);
        }
    }
}

/// The fields and values of a [`struct@Hash`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(Walk<'a>);

#[derive(Clone, Debug)]
enum Walk<'a> {
    Packed(pack::Iter<'a>),
    Table(dict::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Packed(walk) => Some((walk.next()?, walk.next()?)),
            Walk::Table(walk) => walk.next().map(split),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Walk::Packed(walk) => walk.len() / 2,
            Walk::Table(walk) => walk.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// An entry of the large form: the field's length in base 128, lowest digit first, all digits but
/// the last with the top bit set; the field; the value.
#[derive(Clone, Debug)]
struct FieldValue;

impl dict::Entry for FieldValue {
    #[inline]
    fn name(entry: &[u8]) -> &[u8] {
        split(entry).0
    }
}

fn join(field: &[u8], value: &[u8]) -> Box<[u8]> {
    let mut digits = [0_u8; 10];
    let mut used = 0;
    let mut rest = field.len();
    loop {
        let digit = u8::try_from(rest & 0x7F).expect("seven bits");
        rest >>= 7;
        digits[used] = if rest == 0 { digit } else { digit | 0x80 };
        used += 1;
        if rest == 0 {
            break;
        }
    }
    let mut entry = Vec::with_capacity(used + field.len() + value.len());
    entry.extend_from_slice(&digits[..used]);
    entry.extend_from_slice(field);
    entry.extend_from_slice(value);
    entry.into_boxed_slice()
}

#[inline]
fn split(entry: &[u8]) -> (&[u8], &[u8]) {
    let (mut len, mut used) = (0, 0);
    loop {
        let digit = entry[used];
        len |= usize::from(digit & 0x7F) << (7 * used);
        used += 1;
        if digit & 0x80 == 0 {
            break;
        }
    }
    entry[used..].split_at(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LIMITS: PackLimits = PackLimits {
        entries: 8,
        value_bytes: 16,
    };

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => (0..24_u8).prop_map(|n| vec![b'f', n]),
            1 => (0..20_usize).prop_map(|n| vec![b'x'; n * 20]),
        ]
    }

    proptest! {
        #[test]
        fn hash_behaves_like_a_map(
            entries in 0_usize..24,
            steps in proptest::collection::vec((0..3_u8, text(), text()), 0..120),
        ) {
            let limits = PackLimits { entries, ..LIMITS };
            let mut hash = Hash::default();
            let mut model = BTreeMap::new();
            for (what, field, value) in steps {
                if what > 1 && !hash.contains(&field) {
                    hash.push(&field, &value, limits);
                    model.insert(field, value);
                } else if what > 0 {
                    prop_assert_eq!(
                        hash.set(&field, &value, limits),
                        model.insert(field, value).is_none()
                    );
                } else {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                }
                if hash.encoding() == Encoding::Listpack {
                    prop_assert!(hash.len() <= entries);
                }
            }
            prop_assert_eq!(hash.len(), model.len());
            let mut all: Vec<_> = hash.iter().collect();
            let mut cursor = Cursor::default();
            for pair in &all {
                prop_assert_eq!(hash.next_from(&mut cursor), Some(*pair));
            }
            prop_assert_eq!(hash.next_from(&mut cursor), None);
            all.sort_unstable();
            let expected: Vec<_> =
                model.iter().map(|(f, v)| (f.as_slice(), v.as_slice())).collect();
            prop_assert_eq!(all, expected);
            for (field, value) in &model {
                prop_assert!(hash.contains(field));
                prop_assert_eq!(hash.get(field), Some(value.as_slice()));
            }
        }
    }

    #[test]
    fn a_small_hash_keeps_insertion_order() {
        let mut hash = Hash::default();
        for field in [b"c", b"a", b"b"] {
            hash.set(field, b"1", LIMITS);
        }
        hash.set(b"a", b"a longer value", LIMITS);
        let fields: Vec<_> = hash.iter().map(|(field, _)| field).collect();
        assert_eq!(fields, [b"c", b"a", b"b"]);
    }

    #[test]
    fn the_form_changes_beyond_the_thresholds_and_stays() {
        let mut hash = Hash::default();
        for field in 0..8_u8 {
            hash.set(&[field], &[b'v'; 16], LIMITS);
        }
        assert_eq!(hash.encoding(), Encoding::Listpack);
        hash.set(b"ninth", b"", LIMITS);
        assert_eq!(hash.encoding(), Encoding::Hashtable);
        hash.remove(b"ninth");
        assert_eq!(hash.encoding(), Encoding::Hashtable);

        let mut hash = Hash::default();
        hash.set(b"f", &[b'v'; 17], LIMITS);
        assert_eq!(hash.encoding(), Encoding::Hashtable);
    }
}
