//! Sets: distinct members.

mod ints;
mod texts;

use self::ints::{INTS_MAX, Ints};
use self::texts::Texts;
use super::dict::{self, Dict};
use super::{Cursor, Encoding, PackLimits, scaled};
use crate::memory::allocated;
use crate::prefetch::prefetch;
use crate::thin::{COUNT_MAX, ThinBox};
use crate::value::parse_int;

/// Up to where a set stays in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLimits {
    /// Most members of sorted integers, inclusive.
    pub intset_entries: usize,
    /// Most members, and longest member, in one buffer.
    pub pack: PackLimits,
}

/// Distinct members.
///
/// Integers in canonical form are kept sorted; a small set with other members keeps the order in
/// which they came.
#[derive(Clone, Debug)]
pub struct Set {
    form: Form,
}

// It lies in the value itself, beside the tag.
const _: () = assert!(size_of::<Set>() == 15 && align_of::<Set>() == 1);

#[derive(Clone, Debug)]
enum Form {
    Ints(Ints),
    Packed(Texts),
    Table(ThinBox<Dict<Whole>>),
}

/// A member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member<'a> {
    /// Written as a decimal number.
    Int(i64),
    /// Any bytes.
    Bytes(&'a [u8]),
}

impl Member<'_> {
    /// Lets `look` see the bytes of the member.
    #[inline]
    pub fn with_bytes<R>(self, look: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Member::Int(number) => look(itoa::Buffer::new().format(number).as_bytes()),
            Member::Bytes(bytes) => look(bytes),
        }
    }

    /// The bytes of the member.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }
}

impl Default for Set {
    /// An empty set, as one of integers.
    fn default() -> Self {
        Set {
            form: Form::Ints(Ints::default()),
        }
    }
}

impl Set {
    /// An empty set in the form that suits `first` as first of about `expected` members.
    #[must_use]
    pub fn for_first(first: &[u8], expected: usize, limits: SetLimits) -> Set {
        let form = if expected <= limits.intset_entries && parse_int(first).is_some() {
            Form::Ints(Ints::default())
        } else if expected <= limits.pack.entries {
            Form::Packed(Texts::default())
        } else {
            Form::Table(ThinBox::new(Dict::default()))
        };
        Set { form }
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.len(),
            Form::Packed(pack) => pack.len(),
            Form::Table(dict) => dict.len(),
        }
    }

    /// Whether the members are kept as integers.
    #[must_use]
    pub fn is_ints(&self) -> bool {
        matches!(self.form, Form::Ints(_))
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is in the set.
    #[must_use]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Ints(ints) => parse_int(member).is_some_and(|number| ints.contains(number)),
            Form::Packed(pack) => pack.find(member).is_some(),
            Form::Table(dict) => dict.get(member).is_some(),
        }
    }

    /// Starts loading what a look-up of `member` touches.
    #[inline]
    pub(crate) fn prefetch_member(&self, member: &[u8]) {
        if let Form::Table(dict) = &self.form {
            dict.prefetch(member);
        }
    }

    /// Whether a member of a set, maybe of this one, is in the set.
    #[must_use]
    pub fn has(&self, member: Member<'_>) -> bool {
        match (&self.form, member) {
            (Form::Ints(ints), Member::Int(number)) => ints.contains(number),
            _ => member.with_bytes(|bytes| self.contains(bytes)),
        }
    }

    /// Whether the form is too small for `more` members that are going to be added.
    #[must_use]
    pub fn is_outgrown_by(&self, more: usize, limits: SetLimits) -> bool {
        match &self.form {
            Form::Ints(_) => more > limits.intset_entries,
            Form::Packed(_) => more > limits.pack.entries,
            Form::Table(_) => false,
        }
    }

    /// Keeps the members as integers if all of them are, and they are not too many.
    pub fn use_ints(&mut self, limits: SetLimits) {
        if self.is_ints() || self.len() > limits.intset_entries.min(INTS_MAX) {
            return;
        }
        let mut ints = Ints::default();
        for member in self.iter() {
            let Some(number) = member.with_bytes(parse_int) else {
                return;
            };
            ints.insert(number);
        }
        self.form = Form::Ints(ints);
    }

    /// Adds a member; whether it is new.
    pub fn add(&mut self, member: &[u8], limits: SetLimits) -> bool {
        match &mut self.form {
            Form::Table(dict) => dict.add(member),
            Form::Packed(pack) => {
                if pack.find(member).is_some() {
                    return false;
                }
                if pack.admits(member, limits.pack) {
                    pack.push(member);
                    return true;
                }
                self.use_table();
                self.add(member, limits)
            }
            Form::Ints(ints) => match parse_int(member) {
                Some(number) => {
                    let is_new = ints.insert(number);
                    if is_new && ints.len() > limits.intset_entries.min(INTS_MAX) {
                        self.use_table();
                    }
                    is_new
                }
                None => {
                    self.leave_ints(member, limits.pack);
                    self.add(member, limits)
                }
            },
        }
    }

    /// Adds a member that is not there, which the caller has made sure of: without looking for
    /// it, which in one buffer takes time in proportion to the members.
    pub fn push(&mut self, member: &[u8], limits: SetLimits) {
        if let Form::Packed(pack) = &mut self.form
            && pack.admits(member, limits.pack)
        {
            debug_assert!(pack.find(member).is_none(), "the member is there already");
            return pack.push(member);
        }
        let is_new = self.add(member, limits);
        debug_assert!(is_new, "the member is there already");
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Ints(ints) => parse_int(member).is_some_and(|number| ints.remove(number)),
            Form::Packed(pack) => match pack.find(member) {
                Some(at) => {
                    pack.remove(at);
                    true
                }
                None => false,
            },
            Form::Table(dict) => dict.remove(member),
        }
    }

    /// Removes all members.
    pub fn clear(&mut self) {
        *self = Set::default();
    }

    /// A member chosen by the random number `r`, each as likely as any other.
    #[must_use]
    pub fn random(&self, r: u64) -> Option<Member<'_>> {
        match &self.form {
            Form::Ints(ints) => ints.get(scaled(r, ints.len())).map(Member::Int),
            Form::Packed(pack) => pack.iter().nth(scaled(r, pack.len())).map(Member::Bytes),
            Form::Table(dict) => dict.random(r).map(Member::Bytes),
        }
    }

    /// Visits members from a cursor on and returns the cursor to go on with; 0 begins, and 0 says
    /// that the end was reached. A member that is there throughout is visited between the two.
    /// About `count` are visited per call, all of them in a small form.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Member<'_>)) -> u64 {
        match &self.form {
            Form::Table(dict) => {
                dict.scan(cursor, count, &mut |member| visit(Member::Bytes(member)))
            }
            Form::Ints(_) | Form::Packed(_) => {
                self.iter().for_each(visit);
                0
            }
        }
    }

    /// All members.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.form {
            Form::Ints(ints) => Walk::Ints(ints.iter()),
            Form::Packed(pack) => Walk::Packed(pack.iter()),
            Form::Table(dict) => Walk::Table(dict.iter()),
        })
    }

    /// The member at the cursor, which moves on; `None` at the end. Constant time.
    #[must_use]
    pub fn next_from(&self, cursor: &mut Cursor) -> Option<Member<'_>> {
        match &self.form {
            Form::Packed(pack) => pack.next_from(&mut cursor.at).map(Member::Bytes),
            Form::Ints(ints) => {
                let number = ints.get(cursor.at)?;
                cursor.at += 1;
                Some(Member::Int(number))
            }
            Form::Table(dict) => dict.next_from(cursor).map(Member::Bytes),
        }
    }

    /// The internal form.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match &self.form {
            Form::Ints(_) => Encoding::Intset,
            Form::Packed(_) => Encoding::Listpack,
            Form::Table(_) => Encoding::Hashtable,
        }
    }

    /// Starts loading what lies on the heap.
    #[inline]
    pub(crate) fn prefetch(&self) {
        match &self.form {
            Form::Ints(ints) => ints.prefetch(),
            Form::Packed(pack) => pack.prefetch(),
            Form::Table(dict) => prefetch(&**dict),
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.memory(),
            Form::Packed(pack) => pack.memory(),
            Form::Table(dict) => allocated(size_of::<Dict<Whole>>()) + dict.memory(),
        }
    }

    /// `member`, which is no integer, is about to be added to integers.
    fn leave_ints(&mut self, member: &[u8], limits: PackLimits) {
        let text_len = |number: Member<'_>| number.with_bytes(<[u8]>::len);
        let longest = self.iter().map(text_len).max().unwrap_or(0);
        if self.len() < limits.entries.min(COUNT_MAX)
            && longest.max(member.len()) <= limits.value_bytes
        {
            let mut pack = Texts::default();
            for number in self.iter() {
                number.with_bytes(|text| pack.push(text));
            }
            self.form = Form::Packed(pack);
        } else {
            self.use_table();
        }
    }

    /// Takes the large form, for good.
    pub fn use_table(&mut self) {
        if let Form::Table(_) = self.form {
            return;
        }
        let mut dict = Dict::default();
        for member in self.iter() {
            member.with_bytes(|bytes| dict.add(bytes));
        }
        self.form = Form::Table(ThinBox::new(dict));
    }
}

/// The members of a [`Set`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(Walk<'a>);

#[derive(Clone, Debug)]
enum Walk<'a> {
    Ints(ints::Iter<'a>),
    Packed(texts::Iter<'a>),
    Table(dict::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        match &mut self.0 {
            Walk::Ints(walk) => walk.next().map(Member::Int),
            Walk::Packed(walk) => walk.next().map(Member::Bytes),
            Walk::Table(walk) => walk.next().map(Member::Bytes),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Walk::Ints(walk) => walk.size_hint(),
            Walk::Packed(walk) => walk.size_hint(),
            Walk::Table(walk) => walk.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// An entry of the large form is the member itself.
#[derive(Clone, Debug)]
struct Whole;

impl dict::Entry for Whole {
    #[inline]
    fn name(entry: &[u8]) -> &[u8] {
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const LIMITS: SetLimits = SetLimits {
        intset_entries: 4,
        pack: PackLimits {
            entries: 6,
            value_bytes: 8,
        },
    };

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => (-20..20_i64).prop_map(|n| n.to_string().into_bytes()),
            1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            1 => "[-+0]?[0-9]{0,3}|[a-c]{0,12}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn set_behaves_like_a_set(
            intset_entries in 0..40_usize,
            entries in 0..40_usize,
            steps in proptest::collection::vec((0..3_u8, member()), 1..120),
        ) {
            let pack = PackLimits { entries, ..LIMITS.pack };
            let limits = SetLimits { intset_entries, pack };
            let mut set = Set::for_first(&steps[0].1, 1, limits);
            let mut model = BTreeSet::new();
            for (what, member) in steps {
                if what > 1 && !set.contains(&member) {
                    set.push(&member, limits);
                    model.insert(member);
                } else if what > 0 {
                    prop_assert_eq!(set.add(&member, limits), model.insert(member));
                } else {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                }
                if what == 0 && set.len().is_multiple_of(5) {
                    let before: BTreeSet<_> = set.iter().map(Member::to_vec).collect();
                    set.use_ints(limits);
                    prop_assert!(set.iter().all(|member| before.contains(&member.to_vec())));
                }
                match set.encoding() {
                    Encoding::Intset => prop_assert!(set.len() <= intset_entries),
                    Encoding::Listpack => prop_assert!(set.len() <= entries),
                    _ => {}
                }
            }
            let mut all: Vec<_> = set.iter().map(Member::to_vec).collect();
            let mut cursor = Cursor::default();
            for member in &all {
                let next = set.next_from(&mut cursor).map(Member::to_vec);
                prop_assert_eq!(next.as_ref(), Some(member));
                prop_assert!(set.contains(member));
            }
            prop_assert_eq!(set.next_from(&mut cursor), None);
            prop_assert_eq!(set.len(), model.len());
            for member in set.iter() {
                prop_assert!(set.has(member));
            }
            let random = set.random(u64::MAX / 3).map(Member::to_vec);
            prop_assert!(random.is_none_or(|member| model.contains(&member)));
            let (mut scanned, mut position) = (BTreeSet::new(), 0);
            loop {
                position = set.scan(position, 3, &mut |member| {
                    scanned.insert(member.to_vec());
                });
                if position == 0 {
                    break;
                }
            }
            prop_assert_eq!(&scanned, &model);
            all.sort_unstable();
            prop_assert!(all.iter().eq(model.iter()));
        }
    }

    #[test]
    fn the_form_follows_the_members() {
        let mut set = Set::for_first(b"1", 1, LIMITS);
        for number in [b"3", b"1", b"2", b"4"] {
            set.add(number, LIMITS);
        }
        assert_eq!(set.encoding(), Encoding::Intset);
        assert_eq!(
            set.iter().next(),
            Some(Member::Int(1)),
            "integers are sorted"
        );
        let mut many = set.clone();
        many.add(b"5", LIMITS);
        assert_eq!(many.encoding(), Encoding::Hashtable);
        set.add(b"word", LIMITS);
        assert_eq!(set.encoding(), Encoding::Listpack);
        let mut long = set.clone();
        long.add(b"a long member", LIMITS);
        assert_eq!(long.encoding(), Encoding::Hashtable);
        set.add(b"sixth", LIMITS);
        set.add(b"seventh", LIMITS);
        assert_eq!(set.encoding(), Encoding::Hashtable);
    }

    #[test]
    fn integers_come_back_when_nothing_else_is_left() {
        let mut set = Set::for_first(b"word", 1, LIMITS);
        for member in [b"word", b"0003", b"0001"] {
            set.add(&member[..], LIMITS);
        }
        set.use_ints(LIMITS);
        assert_eq!(set.encoding(), Encoding::Listpack);
        set.clear();
        assert_eq!(set.encoding(), Encoding::Intset);
        let mut set = Set::for_first(b"", 0, LIMITS);
        for number in [b"3", b"1", b"2", b"4"] {
            set.add(number, LIMITS);
        }
        assert_eq!(set.encoding(), Encoding::Listpack);
        set.use_ints(LIMITS);
        assert_eq!(set.encoding(), Encoding::Intset);
        assert_eq!(set.iter().next(), Some(Member::Int(1)));
        assert!(!set.is_outgrown_by(4, LIMITS) && set.is_outgrown_by(5, LIMITS));
        set.use_table();
        assert_eq!(set.encoding(), Encoding::Hashtable);
    }

    /// A million members of 16 bytes may take half of what Redis takes, 83 bytes each.
    #[test]
    fn a_large_set_costs_little_more_than_its_members() {
        let mut set = Set::default();
        for number in 0..50_000 {
            set.add(format!("member:{number:09}").as_bytes(), LIMITS);
        }
        let each = set.memory() as f64 / 50_000.0;
        assert!(each < 26.0, "{each} bytes per member");
        let full = set.memory();
        for number in 0..49_990 {
            set.remove(format!("member:{number:09}").as_bytes());
        }
        assert!(set.memory() < full / 500, "{} of {full}", set.memory());
    }

    #[test]
    fn the_form_follows_what_is_expected() {
        assert_eq!(
            Set::for_first(b"1", 5, LIMITS).encoding(),
            Encoding::Listpack
        );
        assert_eq!(
            Set::for_first(b"a", 7, LIMITS).encoding(),
            Encoding::Hashtable
        );
    }
}
