//! Keyspace notifications: what commands, expiry and evictions tell about keys.
//!
//! A command says what happened with [`Cx::notify`], in the words and the order of Redis. The
//! events lie beside the effects ([`Events`], in [`crate::Effects`]) until whoever runs the command
//! takes them; telling them to clients is the server's. While nobody asks for a class of events,
//! telling one costs a test of an integer. Replay tells nothing: its effects ask for no class.

use crate::context::Cx;
use moon_store::{DbIndex, Key};

bitflags::bitflags! {
    /// Classes of events, and the two kinds of channels, as `notify-keyspace-events` has them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Class: u16 {
        /// `K`: channels named after the key.
        const KEYSPACE = 1;
        /// `E`: channels named after the event.
        const KEYEVENT = 1 << 1;
        /// `g`: commands for keys of any type.
        const GENERIC = 1 << 2;
        /// `$`: strings.
        const STRING = 1 << 3;
        /// `l`: lists.
        const LIST = 1 << 4;
        /// `s`: sets.
        const SET = 1 << 5;
        /// `h`: hashes.
        const HASH = 1 << 6;
        /// `z`: sorted sets.
        const ZSET = 1 << 7;
        /// `x`: keys whose deadline has passed.
        const EXPIRED = 1 << 8;
        /// `e`: keys that made room.
        const EVICTED = 1 << 9;
        /// `t`: streams.
        const STREAM = 1 << 10;
        /// `m`: reads that found no key; not in `A`.
        const KEY_MISS = 1 << 11;
        /// `d`: modules, of which there are none here.
        const MODULE = 1 << 12;
        /// `n`: keys that are new; not in `A`.
        const NEW = 1 << 13;
    }
}

impl Class {
    /// What `A` stands for.
    pub const ALL: Class = Class::GENERIC
        .union(Class::STRING)
        .union(Class::LIST)
        .union(Class::SET)
        .union(Class::HASH)
        .union(Class::ZSET)
        .union(Class::EXPIRED)
        .union(Class::EVICTED)
        .union(Class::STREAM)
        .union(Class::MODULE);

    /// Each class with its letter, in the order in which Redis prints them.
    const LETTERS: [(char, Class); 14] = [
        ('g', Class::GENERIC),
        ('$', Class::STRING),
        ('l', Class::LIST),
        ('s', Class::SET),
        ('h', Class::HASH),
        ('z', Class::ZSET),
        ('x', Class::EXPIRED),
        ('e', Class::EVICTED),
        ('t', Class::STREAM),
        ('d', Class::MODULE),
        ('n', Class::NEW),
        ('K', Class::KEYSPACE),
        ('E', Class::KEYEVENT),
        ('m', Class::KEY_MISS),
    ];

    /// The classes of a setting; `None` if a letter means none.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Class> {
        let of_letter = |letter| match letter {
            'A' => Some(Class::ALL),
            letter => (Self::LETTERS.iter())
                .find(|(other, _)| *other == letter)
                .map(|(_, class)| *class),
        };
        letters
            .chars()
            .try_fold(Class::empty(), |all, letter| Some(all | of_letter(letter)?))
    }

    /// The setting in letters, in the order of Redis. With `A`, Redis 7.0 leaves out an `n` that is
    /// in force as well; here it is shown.
    #[must_use]
    pub fn letters(self) -> String {
        let mut letters = String::new();
        let mut left = self;
        if self.contains(Class::ALL) {
            letters.push('A');
            left.remove(Class::ALL);
        }
        let named = Self::LETTERS
            .iter()
            .filter(|(_, class)| left.contains(*class));
        letters.extend(named.map(|(letter, _)| *letter));
        letters
    }

    /// What is left of a setting that has no channels to tell on, or no events to tell: nothing.
    #[must_use]
    pub fn in_force(self) -> Class {
        let channels = Class::KEYSPACE | Class::KEYEVENT;
        match self.intersects(channels) {
            true => self,
            false => Class::empty(),
        }
    }
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key's database.
    pub db: DbIndex,
    /// What happened, in Redis's words.
    pub name: &'static str,
    /// The key.
    pub key: Box<[u8]>,
}

/// Events that were told and not taken yet.
#[derive(Debug, Default)]
pub struct Events {
    classes: Class,
    told: Vec<Event>,
}

impl Events {
    /// From now on events of these classes are kept.
    pub fn set_classes(&mut self, classes: Class) {
        self.classes = classes.in_force();
    }

    /// The classes of events that are kept.
    #[must_use]
    pub fn classes(&self) -> Class {
        self.classes
    }

    /// Whether events of a class are kept.
    #[inline]
    #[must_use]
    pub fn are_wanted(&self, class: Class) -> bool {
        self.classes.intersects(class)
    }

    /// Something happened to a key.
    #[inline]
    pub fn tell(&mut self, class: Class, name: &'static str, db: DbIndex, key: &[u8]) {
        if self.classes.intersects(class) {
            self.keep(name, db, key);
        }
    }

    #[cold]
    fn keep(&mut self, name: &'static str, db: DbIndex, key: &[u8]) {
        let key = key.into();
        self.told.push(Event { db, name, key });
    }

    /// Whether there is nothing to take.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Takes what was told, in order.
    #[must_use]
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told)
    }
}

impl Cx<'_> {
    /// Tells that something happened to a key of the selected database.
    #[inline]
    pub fn notify(&mut self, class: Class, name: &'static str, key: Key<'_>) {
        self.notify_in(class, name, self.db, key);
    }

    /// As [`Cx::notify`], for a key of database `db`.
    #[inline]
    pub fn notify_in(&mut self, class: Class, name: &'static str, db: DbIndex, key: Key<'_>) {
        self.effects.events.tell(class, name, db, key.bytes);
    }

    /// As [`Cx::notify`], for a command that takes things out of a key: if that was the last, the
    /// key has gone, and this is told, too.
    #[inline]
    pub(crate) fn notify_shrunk(&mut self, class: Class, name: &'static str, key: Key<'_>) {
        self.notify(class, name, key);
        if self.effects.events.are_wanted(Class::GENERIC) {
            let db = self.db;
            if self.peek(db, key).is_none() {
                self.notify(Class::GENERIC, "del", key);
            }
        }
    }

    /// As [`Cx::notify`], for a command that has stored its result: if that is empty the key has
    /// gone, and this alone is told.
    pub(crate) fn notify_stored(&mut self, class: Class, name: &'static str, key: Key<'_>) {
        let db = self.db;
        match self.peek(db, key).is_some() {
            true => self.notify(class, name, key),
            false => self.notify(Class::GENERIC, "del", key),
        }
    }

    /// Whether there is a key that the command reads and looks up as a write does.
    #[inline]
    pub(crate) fn is_source_there(&mut self, key: Key<'_>) -> bool {
        let is_there = self.live(self.db, key).is_some();
        if !is_there {
            self.notify_missed(key);
        }
        is_there
    }

    /// Tells that a read found no key, for a command that looks its sources up as a write does.
    /// [`Cx::read`] and its kin tell it themselves.
    #[inline]
    pub(crate) fn notify_missed(&mut self, key: Key<'_>) {
        self.notify(Class::KEY_MISS, "keymiss", key);
    }

    /// Before a key is overwritten unseen: if somebody is told of new or expired keys, one past its
    /// deadline is removed first.
    #[inline]
    pub(crate) fn live_if_told(&mut self, key: Key<'_>) {
        if (self.effects.events).are_wanted(Class::NEW | Class::EXPIRED | Class::HASH) {
            let db = self.db;
            self.live(db, key);
        }
    }

    /// Tells that a key is new, if it is not there: it is about to be stored.
    #[inline]
    pub(crate) fn notify_if_new(&mut self, db: DbIndex, key: Key<'_>) {
        if self.effects.events.are_wanted(Class::NEW) && self.peek(db, key).is_none() {
            self.notify_in(Class::NEW, "new", db, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_printed_in_the_order_of_redis() {
        for (given, expected) in [
            ("", ""),
            ("KEA", "AKE"),
            ("AKEmn", "AnKEm"),
            ("Knm", "nKm"),
            ("g$lshzxetd", "A"),
            ("Ed", "dE"),
            ("mKE", "KEm"),
            ("KEKE", "KE"),
            ("tdmn", "tdnm"),
        ] {
            let classes = Class::parse(given).expect(given);
            assert_eq!(classes.letters(), expected, "{given}");
            assert_eq!(Class::parse(expected), Some(classes));
        }
        assert_eq!(Class::parse("KQ"), None);
        assert_eq!(Class::parse(" K"), None);
    }

    #[test]
    fn nothing_is_kept_without_a_channel_or_of_other_classes() {
        let mut events = Events::default();
        events.set_classes(Class::ALL);
        events.tell(Class::STRING, "set", 0, b"k");
        assert!(events.is_empty());
        events.set_classes(Class::KEYEVENT | Class::LIST);
        events.tell(Class::STRING, "set", 0, b"k");
        events.tell(Class::LIST, "lpush", 3, b"l");
        let told = events.take();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].db, told[0].name, &*told[0].key),
            (3, "lpush", &b"l"[..])
        );
    }
}
