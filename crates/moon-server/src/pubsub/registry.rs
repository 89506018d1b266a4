//! Who listens where, for the whole process.
//!
//! Each shard thread has the subscriptions of its own connections; this table says how many each
//! shard has per name, which is all that a publisher needs: the number of receivers, and the
//! shards to send to. It is divided by a hash of the name, each part behind a lock that is held
//! for a look-up only.
//!
//! A message may reach a shard after somebody there subscribed who was not counted. So both carry
//! a [`Moment`]: whoever subscribed after the count does not get the message.

use super::message::Message;
use moon_commands::glob::{self, Case};
use moon_core::ShardId;
use moon_shard::ShardMask;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// All channels that a pattern fits.
    Pattern,
    /// A shard channel: a name space of its own, without patterns.
    ShardChannel,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::ShardChannel];

    /// Its word in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Channel => "channel",
            Kind::Pattern => "pattern",
            Kind::ShardChannel => "shardchannel",
        }
    }
}

/// Orders subscriptions and messages of one name: see [`Moment::reaches`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u64);

impl Moment {
    /// Whether a message counted at this moment is for whoever subscribed `since` then.
    #[must_use]
    pub fn reaches(self, since: Moment) -> bool {
        since.0 <= self.0
    }
}

/// How many subscribers each shard has. Few shards have any, of most names.
#[derive(Debug, Default)]
struct Counts(Vec<(ShardId, u32)>);

impl Counts {
    fn add(&mut self, shard: ShardId) {
        match self.0.iter_mut().find(|(id, _)| *id == shard) {
            Some((_, count)) => *count += 1,
            None => self.0.push((shard, 1)),
        }
    }

    fn remove(&mut self, shard: ShardId) {
        if let Some((_, count)) = self.0.iter_mut().find(|(id, _)| *id == shard) {
            *count -= 1;
        }
        self.0.retain(|(_, count)| *count > 0);
    }

    fn total(&self) -> usize {
        self.0.iter().map(|(_, count)| *count as usize).sum()
    }

    fn shards(&self) -> ShardMask {
        let shards = self.0.iter();
        shards.fold(ShardMask::default(), |mask, (shard, _)| mask.with(*shard))
    }
}

/// Parts of a table of names. Many more than threads, so that two seldom meet.
const PARTS: usize = 256;

type Part = HashMap<Box<[u8]>, Counts>;

/// Names of one kind, in parts.
#[derive(Debug)]
struct Names {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    names: AtomicUsize,
    subscriptions: AtomicUsize,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            names: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
        }
    }
}

impl Names {
    fn part(&self, name: &[u8]) -> MutexGuard<'_, Part> {
        // The remainder is below PARTS.
        let at = usize::try_from(self.hasher.hash_one(name) % PARTS as u64).unwrap_or(0);
        // A panic aborts the process, so a poisoned lock is never seen.
        self.parts[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &[u8], shard: ShardId, moments: &AtomicU64) -> Moment {
        let mut part = self.part(name);
        match part.get_mut(name) {
            Some(counts) => counts.add(shard),
            None => {
                self.names.fetch_add(1, Relaxed);
                part.entry(name.into()).or_default().add(shard);
            }
        }
        self.subscriptions.fetch_add(1, Relaxed);
        // Under the lock: whoever counts after this sees this moment or a later one.
        Moment(moments.fetch_add(1, Relaxed) + 1)
    }

    fn remove(&self, name: &[u8], shard: ShardId) {
        let mut part = self.part(name);
        if let Some(counts) = part.get_mut(name) {
            counts.remove(shard);
            if counts.0.is_empty() {
                part.remove(name);
                self.names.fetch_sub(1, Relaxed);
            }
            self.subscriptions.fetch_sub(1, Relaxed);
        }
    }
}

/// Patterns are few, and all of them are looked at for each message.
#[derive(Debug, Default)]
struct Patterns {
    counts: RwLock<HashMap<Arc<[u8]>, Counts>>,
    names: AtomicUsize,
    subscriptions: AtomicUsize,
}

/// The subscriptions of all clients, as numbers.
#[derive(Debug, Default)]
pub struct Registry {
    channels: Names,
    shard_channels: Names,
    patterns: Patterns,
    /// Subscriptions made so far.
    moments: AtomicU64,
    /// Bytes of messages under way between threads.
    backlog: AtomicUsize,
}

/// More bytes of messages than this under way, and publishers wait for the subscribers' shards.
const BACKLOG_MAX: usize = 64 << 20;

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Subscriptions that it reaches, as PUBLISH answers.
    pub receivers: usize,
    /// The shards that have any.
    pub shards: ShardMask,
}

impl Registry {
    /// A connection of `shard` has subscribed to `name`, and had not before.
    pub fn add(&self, kind: Kind, name: &Arc<[u8]>, shard: ShardId) -> Moment {
        match kind {
            Kind::Channel => self.channels.add(name, shard, &self.moments),
            Kind::ShardChannel => self.shard_channels.add(name, shard, &self.moments),
            Kind::Pattern => {
                let patterns = &self.patterns;
                let mut counts = patterns
                    .counts
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                counts.entry(Arc::clone(name)).or_default().add(shard);
                patterns.names.store(counts.len(), Relaxed);
                patterns.subscriptions.fetch_add(1, Relaxed);
                Moment(self.moments.fetch_add(1, Relaxed) + 1)
            }
        }
    }

    /// A connection of `shard` has left `name`.
    pub fn remove(&self, kind: Kind, name: &[u8], shard: ShardId) {
        match kind {
            Kind::Channel => self.channels.remove(name, shard),
            Kind::ShardChannel => self.shard_channels.remove(name, shard),
            Kind::Pattern => {
                let patterns = &self.patterns;
                let mut all = patterns
                    .counts
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                if let Some(counts) = all.get_mut(name) {
                    counts.remove(shard);
                    if counts.0.is_empty() {
                        all.remove(name);
                    }
                    patterns.names.store(all.len(), Relaxed);
                    patterns.subscriptions.fetch_sub(1, Relaxed);
                }
            }
        }
    }

    /// Finds the receivers of `message`, and notes in it when they were counted.
    pub fn find(&self, message: &mut Message) -> Found {
        let names = match message.kind {
            Kind::ShardChannel => &self.shard_channels,
            Kind::Channel | Kind::Pattern => &self.channels,
        };
        let mut found = Found::default();
        {
            let part = names.part(&message.channel);
            message.moment = Moment(self.moments.load(Relaxed));
            if let Some(counts) = part.get(&message.channel) {
                found.receivers += counts.total();
                found.shards = found.shards.union(counts.shards());
            }
        }
        if message.kind == Kind::Channel && self.patterns.names.load(Relaxed) > 0 {
            let patterns = self.patterns.counts.read();
            let patterns = patterns.unwrap_or_else(PoisonError::into_inner);
            message.pattern_moment = Moment(self.moments.load(Relaxed));
            for (pattern, counts) in patterns.iter() {
                if glob::matches(pattern, &message.channel, Case::Sensitive) {
                    found.receivers += counts.total();
                    found.shards = found.shards.union(counts.shards());
                    message.patterns.push(Arc::clone(pattern));
                }
            }
        }
        found
    }

    /// Whether anybody may get a message to `channel`: a cheap look before one is made.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.channels.names.load(Relaxed) == 0 && self.patterns.names.load(Relaxed) == 0
    }

    /// Names of one kind that have subscribers: what INFO counts.
    #[must_use]
    pub fn names(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.names.load(Relaxed),
            Kind::Pattern => self.patterns.names.load(Relaxed),
            Kind::ShardChannel => self.shard_channels.names.load(Relaxed),
        }
    }

    /// Subscriptions of one kind.
    #[must_use]
    pub fn subscriptions(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.subscriptions.load(Relaxed),
            Kind::Pattern => self.patterns.subscriptions.load(Relaxed),
            Kind::ShardChannel => self.shard_channels.subscriptions.load(Relaxed),
        }
    }

    /// The channels with subscribers that `pattern` fits, in no order: PUBSUB CHANNELS.
    #[must_use]
    pub fn channels(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let fits = |name: &[u8]| pattern.is_none_or(|p| glob::matches(p, name, Case::Sensitive));
        let mut all = Vec::new();
        for part in &self.table(kind).parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(part.keys().filter(|name| fits(name)).cloned());
        }
        all
    }

    /// Subscribers of one channel, without those of patterns: PUBSUB NUMSUB.
    #[must_use]
    pub fn subscribers(&self, kind: Kind, channel: &[u8]) -> usize {
        let part = self.table(kind).part(channel);
        part.get(channel).map_or(0, Counts::total)
    }

    fn table(&self, kind: Kind) -> &Names {
        match kind {
            Kind::ShardChannel => &self.shard_channels,
            Kind::Channel | Kind::Pattern => &self.channels,
        }
    }

    /// So many bytes are on their way to another thread, or to a client here.
    pub(super) fn departed(&self, bytes: usize) {
        self.backlog.fetch_add(bytes, Relaxed);
    }

    /// So many bytes have arrived in their receivers' gates.
    pub(super) fn arrived(&self, bytes: usize) {
        self.backlog.fetch_sub(bytes, Relaxed);
    }

    /// Whether a publisher may go on. If not, shards have yet to deliver what is under way: they
    /// do so whatever their subscribers do.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.backlog.load(Relaxed) < BACKLOG_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn find(registry: &Registry, kind: Kind, channel: &str) -> (Found, Message) {
        let mut message = Message::new(kind, channel.as_bytes(), b"m");
        (registry.find(&mut message), message)
    }

    #[test]
    fn receivers_are_those_of_the_channel_and_of_patterns_that_fit() {
        let registry = Registry::default();
        assert!(registry.is_silent());
        registry.add(Kind::Channel, &name("news"), ShardId(0));
        registry.add(Kind::Channel, &name("news"), ShardId(0));
        registry.add(Kind::Channel, &name("news"), ShardId(3));
        registry.add(Kind::Pattern, &name("n*"), ShardId(5));
        registry.add(Kind::Pattern, &name("x*"), ShardId(6));
        registry.add(Kind::ShardChannel, &name("news"), ShardId(7));
        let (found, message) = find(&registry, Kind::Channel, "news");
        assert_eq!(found.receivers, 4);
        let shards = [0, 3, 5].map(ShardId);
        let mask = |shards: &[ShardId]| {
            shards
                .iter()
                .fold(ShardMask::default(), |mask, shard| mask.with(*shard))
        };
        assert_eq!(found.shards, mask(&shards));
        assert_eq!(message.patterns, [name("n*")]);
        let (found, message) = find(&registry, Kind::ShardChannel, "news");
        assert_eq!((found.receivers, found.shards), (1, mask(&[ShardId(7)])));
        assert!(message.patterns.is_empty());
        assert_eq!(find(&registry, Kind::Channel, "silent").0, Found::default());

        assert_eq!(registry.names(Kind::Channel), 1);
        assert_eq!(registry.names(Kind::Pattern), 2);
        assert_eq!(registry.subscriptions(Kind::Channel), 3);
        assert_eq!(registry.subscribers(Kind::Channel, b"news"), 3);
        registry.remove(Kind::Channel, b"news", ShardId(0));
        registry.remove(Kind::Channel, b"news", ShardId(3));
        registry.remove(Kind::Pattern, b"n*", ShardId(5));
        let (found, _) = find(&registry, Kind::Channel, "news");
        assert_eq!((found.receivers, found.shards), (1, mask(&[ShardId(0)])));
        registry.remove(Kind::Channel, b"news", ShardId(0));
        registry.remove(Kind::Pattern, b"x*", ShardId(6));
        assert!(registry.is_silent() && registry.channels(Kind::Channel, None).is_empty());
        assert_eq!(registry.subscriptions(Kind::Pattern), 0);
    }

    #[test]
    fn who_subscribes_after_the_count_does_not_get_the_message() {
        let registry = Registry::default();
        let first = registry.add(Kind::Channel, &name("c"), ShardId(0));
        let pattern = registry.add(Kind::Pattern, &name("*"), ShardId(0));
        let (_, message) = find(&registry, Kind::Channel, "c");
        let second = registry.add(Kind::Channel, &name("c"), ShardId(0));
        let late_pattern = registry.add(Kind::Pattern, &name("?"), ShardId(0));
        assert!(message.moment.reaches(first) && !message.moment.reaches(second));
        assert!(message.pattern_moment.reaches(pattern));
        assert!(!message.pattern_moment.reaches(late_pattern));
    }

    #[test]
    fn publishers_wait_while_too_much_is_under_way() {
        let registry = Registry::default();
        registry.departed(BACKLOG_MAX - 1);
        assert!(registry.has_room());
        registry.departed(1);
        assert!(!registry.has_room());
        registry.arrived(BACKLOG_MAX);
        assert!(registry.has_room());
    }

    #[test]
    fn channels_are_listed_by_pattern() {
        let registry = Registry::default();
        for channel in ["a1", "a2", "b1"] {
            registry.add(Kind::Channel, &name(channel), ShardId(1));
        }
        let mut found = registry.channels(Kind::Channel, Some(b"a*"));
        found.sort();
        assert_eq!(found, [b"a1"[..].into(), b"a2"[..].into()]);
        assert_eq!(registry.channels(Kind::Channel, None).len(), 3);
        assert!(registry.channels(Kind::ShardChannel, None).is_empty());
    }
}
