//! Entries of streams that consumers of one group wait for with XREADGROUP BLOCK.
//!
//! Nothing is ever deleted from these streams, so wherever the server dies, every acknowledged
//! entry is there, and is one of three things: not delivered yet; pending for exactly one consumer,
//! which was given it or waited for the answer that would have carried it; or acknowledged. The
//! group's last delivered id never goes back behind what somebody was given.

use super::{Element, Load, Settled, WAIT_S};
use anyhow::{Context as _, Result};
use moon_harness::verify::{Fault, Violation};
use moon_harness::{Client, Reply};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The streams, by names that lie on different shards.
const STREAMS: [&str; 2] = ["x:a", "x:b"];
const GROUP: &str = "workers";
/// Pending entries that a consumer is shown when it comes back.
const SHOWN_MAX: &str = "1000";

/// The two numbers of an entry's id.
type Id = (u64, u64);
/// A stream and an id.
type Entry = (&'static str, Id);

/// What one producer or consumer of streams knows when its connection is gone.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The name of a consumer.
    consumer: String,
    /// Entries whose XADD was answered.
    added: Vec<(Entry, Element)>,
    /// What was sent in one XADD or transaction and not answered.
    maybe_added: Vec<(&'static str, Element)>,
    /// Entries that were pending for the consumer when it began.
    shown: Vec<(Entry, Element)>,
    /// Entries that it was given.
    given: Vec<(Entry, Element)>,
    /// The most entries of each stream that an unanswered XREADGROUP may have been given.
    maybe_given: usize,
    /// Entries whose XACK was answered.
    acked: Vec<Entry>,
    /// Entries whose XACK was not answered.
    maybe_acked: Vec<Entry>,
    /// Answers that are none.
    pub(super) violations: Vec<Violation>,
}

impl Seen {
    fn wrong(&mut self, request: &str, reply: &Reply) {
        let text = format!("{request} answered {reply:?}");
        self.violations.push(Violation::new(Fault::Reply, text));
    }
}

/// What a stream holds.
#[derive(Debug, Default)]
pub(super) struct Stream {
    entries: BTreeMap<Id, Element>,
    /// The id up to which the group has delivered.
    delivered: Id,
    /// The consumer of each pending entry.
    pending: BTreeMap<Id, String>,
}

/// Creates the streams and their group.
pub(super) fn create(client: &mut Client) -> Result<()> {
    for stream in STREAMS {
        let reply = client.command(&["XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"])?;
        anyhow::ensure!(reply.is_ok(), "XGROUP CREATE: {reply:?}");
    }
    Ok(())
}

fn id_of(reply: &Reply) -> Option<Id> {
    let text = reply.text()?;
    let (ms, sequence) = text.split_once('-')?;
    Some((ms.parse().ok()?, sequence.parse().ok()?))
}

/// An entry as a reply has it: `[id, [field, element]]`.
fn entry_of(reply: &Reply) -> Option<(Id, Element)> {
    let [id, fields] = reply.items()? else {
        return None;
    };
    let element = fields.items()?.get(1)?.text()?.parse().ok()?;
    Some((id_of(id)?, element))
}

/// What XREADGROUP answered.
fn read_of(reply: &Reply) -> Option<Vec<(Entry, Element)>> {
    if let Reply::Null | Reply::NullArray = reply {
        return Some(Vec::new());
    }
    let mut all = Vec::new();
    for stream in reply.items()? {
        let [name, entries] = stream.items()? else {
            return None;
        };
        let name = name.text()?;
        let name = *STREAMS.iter().find(|stream| **stream == name)?;
        for entry in entries.items()? {
            let (id, element) = entry_of(entry)?;
            all.push(((name, id), element));
        }
    }
    Some(all)
}

/// Adds entries until the connection ends: one at a time, or one to each stream in a transaction.
pub(super) fn produce(load: &Load, rng: &mut StdRng, seen: &mut Seen) -> std::io::Result<()> {
    let mut client = Client::connect(load.address)?;
    while !load.stop.load(Ordering::Relaxed) {
        let number = || load.next.fetch_add(1, Ordering::Relaxed) + 1;
        let in_transaction = rng.random_range(0..4) == 0;
        let entries = match in_transaction {
            true => STREAMS.map(|stream| (stream, number())).to_vec(),
            false => vec![(super::pick(rng, &STREAMS), number())],
        };
        if in_transaction {
            client.queue(&["MULTI"]);
        }
        for (stream, element) in &entries {
            client.queue(&["XADD", stream, "*", "n", &element.to_string()]);
        }
        if in_transaction {
            client.queue(&["EXEC"]);
        }
        seen.maybe_added.clone_from(&entries);
        client.flush()?;
        let reply = if in_transaction {
            for _ in 0..=entries.len() {
                client.read_reply()?;
            }
            client.read_reply()?
        } else {
            Reply::Array(vec![client.read_reply()?])
        };
        let ids = reply.items().map(|ids| ids.iter().filter_map(id_of));
        let ids: Vec<Id> = ids.into_iter().flatten().collect();
        if ids.len() != entries.len() {
            seen.wrong("XADD", &reply);
            return Ok(());
        }
        for ((stream, element), id) in std::mem::take(&mut seen.maybe_added).into_iter().zip(ids) {
            seen.added.push(((stream, id), element));
        }
        load.acked.fetch_add(1, Ordering::Relaxed);
        // Consumers are faster, so that they have to wait.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
    }
    Ok(())
}

/// Goes through what is pending for the consumer, then waits for entries and acknowledges most of
/// them, until the connection ends.
pub(super) fn consume(
    load: &Load,
    number: u64,
    rng: &mut StdRng,
    seen: &mut Seen,
) -> std::io::Result<()> {
    let mut client = Client::connect(load.address)?;
    let name = format!("w{number}");
    seen.consumer.clone_from(&name);
    let own = ["XREADGROUP", "GROUP", GROUP, &name, "COUNT", SHOWN_MAX];
    let own = [&own[..], &["STREAMS", STREAMS[0], STREAMS[1], "0", "0"]].concat();
    let reply = client.command(&own)?;
    let Some(shown) = read_of(&reply) else {
        seen.wrong("XREADGROUP", &reply);
        return Ok(());
    };
    seen.shown.clone_from(&shown);
    acknowledge(&mut client, load, &shown, seen)?;
    let wait_ms = WAIT_S.parse::<f64>().map_or(0.0, |seconds| seconds * 1e3);
    let wait_ms = format!("{wait_ms:.0}");
    while !load.stop.load(Ordering::Relaxed) && seen.violations.is_empty() {
        let count: usize = rng.random_range(1..4);
        let count_text = count.to_string();
        let mut words = vec!["XREADGROUP", "GROUP", GROUP, &name, "COUNT", &count_text];
        words.extend(["BLOCK", &wait_ms, "STREAMS"]);
        match rng.random_range(0..3) {
            0 => words.extend([super::pick(rng, &STREAMS), ">"]),
            _ => words.extend([STREAMS[0], STREAMS[1], ">", ">"]),
        }
        seen.maybe_given = count;
        let reply = client.command(&words)?;
        seen.maybe_given = 0;
        load.acked.fetch_add(1, Ordering::Relaxed);
        let Some(given) = read_of(&reply) else {
            seen.wrong("XREADGROUP", &reply);
            return Ok(());
        };
        seen.given.extend(given.iter().copied());
        if rng.random_range(0..5) > 0 {
            acknowledge(&mut client, load, &given, seen)?;
        }
    }
    Ok(())
}

fn acknowledge(
    client: &mut Client,
    load: &Load,
    entries: &[(Entry, Element)],
    seen: &mut Seen,
) -> std::io::Result<()> {
    for stream in STREAMS {
        let of_stream = entries.iter().filter(|((name, _), _)| *name == stream);
        let of_stream: Vec<Entry> = of_stream.map(|(entry, _)| *entry).collect();
        if of_stream.is_empty() {
            continue;
        }
        let ids = of_stream.iter().map(|(_, (ms, n))| format!("{ms}-{n}"));
        let mut words = vec!["XACK".to_owned(), stream.to_owned(), GROUP.to_owned()];
        words.extend(ids);
        let number = i64::try_from(of_stream.len()).unwrap_or(i64::MAX);
        seen.maybe_acked = of_stream;
        let reply = client.command(&words)?;
        if reply != Reply::Int(number) {
            seen.wrong(&words.join(" "), &reply);
        }
        seen.acked.append(&mut seen.maybe_acked);
        load.acked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads the streams, how far the group is and what is pending.
pub(super) fn read(client: &mut Client) -> Result<BTreeMap<&'static str, Stream>> {
    let mut all = BTreeMap::new();
    for name in STREAMS {
        let reply = client.command(&["XRANGE", name, "-", "+"])?;
        let entries = reply.items().unwrap_or_default().iter().map(entry_of);
        let entries: Option<BTreeMap<Id, Element>> = entries.collect();
        let entries = entries.with_context(|| format!("XRANGE {name}"))?;
        let reply = client.command(&["XINFO", "GROUPS", name])?;
        let delivered = delivered_of(&reply);
        let delivered = delivered.with_context(|| format!("XINFO GROUPS {name}: {reply:?}"))?;
        let reply = client.command(&["XPENDING", name, GROUP, "-", "+", "1000000"])?;
        let pending = reply.items().unwrap_or_default().iter().map(|item| {
            let item = item.items()?;
            Some((id_of(item.first()?)?, item.get(1)?.text()?))
        });
        let pending: Option<BTreeMap<Id, String>> = pending.collect();
        let pending = pending.with_context(|| format!("XPENDING {name}"))?;
        let stream = Stream {
            entries,
            delivered,
            pending,
        };
        all.insert(name, stream);
    }
    Ok(all)
}

fn delivered_of(groups: &Reply) -> Option<Id> {
    let fields = groups.items()?.first()?.items()?;
    let at = fields
        .iter()
        .position(|field| field.text().as_deref() == Some("last-delivered-id"))?;
    id_of(fields.get(at + 1)?)
}

/// What has become of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody has it.
    Waiting,
    /// It is pending for this consumer.
    Held(String),
    /// Its consumer has acknowledged it.
    Acked,
}

/// What is known of all entries.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<Entry, (Element, Fate)>,
    /// How far the group was after the last recovery.
    delivered: BTreeMap<&'static str, Id>,
}

impl Ledger {
    /// Compares what is there with what the clients know, and goes on from it.
    pub(super) fn settle(
        &mut self,
        known: &[&Seen],
        there: &BTreeMap<&'static str, Stream>,
        settled: &mut Settled,
    ) {
        let found = &mut settled.violations;
        let (kept, dropped) = self.settle_entries(known, there, found);
        for seen in known {
            self.settle_consumer(seen, found);
        }
        self.settle_group(known, there, found);
        settled.kept += kept;
        settled.dropped += dropped;
    }

    /// Which entries there are.
    fn settle_entries(
        &mut self,
        known: &[&Seen],
        there: &BTreeMap<&'static str, Stream>,
        found: &mut Vec<Violation>,
    ) -> (usize, usize) {
        for (entry, element) in known.iter().flat_map(|seen| &seen.added) {
            let before = self.entries.insert(*entry, (*element, Fate::Waiting));
            if let Some((other, _)) = before {
                let text = format!("{other} and {element} were both added as {entry:?}");
                found.push(Violation::new(Fault::Lost, text));
            }
        }
        let places = there.iter().flat_map(|(name, stream)| {
            let entries = stream.entries.iter();
            entries.map(move |(id, element)| ((*name, *element), (*name, *id)))
        });
        let places: BTreeMap<(&'static str, Element), Entry> = places.collect();
        let (mut kept, mut dropped) = (0, 0);
        for seen in known {
            let of_unit = seen.maybe_added.iter();
            let survivors: Vec<(Entry, Element)> = of_unit
                .filter_map(|maybe| Some((*places.get(maybe)?, maybe.1)))
                .collect();
            if !survivors.is_empty() && survivors.len() < seen.maybe_added.len() {
                let text = format!("of {:?} only {survivors:?} are there", seen.maybe_added);
                found.push(Violation::new(Fault::Torn, text));
            }
            kept += survivors.len();
            dropped += seen.maybe_added.len() - survivors.len();
            for (entry, element) in survivors {
                self.entries.insert(entry, (element, Fate::Waiting));
            }
        }
        for (name, stream) in there {
            for (id, element) in &stream.entries {
                let entry = (*name, *id);
                if self.entries.get(&entry).map(|(element, _)| element) != Some(element) {
                    let text = format!("{element} at {entry:?}, which nobody added there");
                    found.push(Violation::new(Fault::Invented, text));
                }
            }
        }
        for ((name, id), (element, _)) in &self.entries {
            let stream = there.get(name);
            if !stream.is_some_and(|stream| stream.entries.contains_key(id)) {
                let text = format!("{element}, added as {name} {id:?}, is gone");
                found.push(Violation::new(Fault::Lost, text));
            }
        }
        (kept, dropped)
    }

    /// What one consumer was answered.
    fn settle_consumer(&mut self, seen: &Seen, found: &mut Vec<Violation>) {
        let name = &seen.consumer;
        let held = Fate::Held(name.clone());
        for (entry, element) in &seen.shown {
            if self.entries.get(entry) != Some(&(*element, held.clone())) {
                let now = self.entries.get(entry);
                let text = format!("{name} was shown {entry:?} ({element}) as its own: {now:?}");
                found.push(Violation::new(Fault::Invented, text));
            }
        }
        for (entry, element) in &seen.given {
            match self.entries.get_mut(entry) {
                Some((added, fate)) if added == element && *fate == Fate::Waiting => {
                    *fate = held.clone();
                }
                now => {
                    let text = format!("{name} was given {entry:?} ({element}), which is {now:?}");
                    found.push(Violation::new(Fault::Invented, text));
                }
            }
        }
        for entry in &seen.acked {
            if let Some((_, fate)) = self.entries.get_mut(entry) {
                *fate = Fate::Acked;
            }
        }
    }

    /// What is pending, with whom, and how far the group is.
    fn settle_group(
        &mut self,
        known: &[&Seen],
        there: &BTreeMap<&'static str, Stream>,
        found: &mut Vec<Violation>,
    ) {
        let mut violate = |fault, text: String| found.push(Violation::new(fault, text));
        // How many entries of a stream each consumer without an answer may have been given.
        let mut free: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for seen in known.iter().filter(|seen| seen.maybe_given > 0) {
            for stream in STREAMS {
                free.insert((&seen.consumer, stream), seen.maybe_given);
            }
        }
        for ((name, id), (element, fate)) in &mut self.entries {
            let Some(stream) = there.get(name) else {
                continue;
            };
            let what = format!("{element}, {name} {id:?}, {fate:?}");
            let is_delivered = *id <= stream.delivered;
            match (&*fate, stream.pending.get(id)) {
                (Fate::Held(_) | Fate::Acked, _) if !is_delivered => {
                    violate(Fault::Lost, format!("{what}: would be delivered again"));
                }
                (Fate::Acked, None) => {}
                (Fate::Acked, Some(consumer)) => {
                    violate(Fault::Lost, format!("{what}: is pending for {consumer}"));
                }
                (Fate::Held(holder), Some(consumer)) if holder == consumer => {}
                (Fate::Held(_), Some(consumer)) => {
                    violate(Fault::Invented, format!("{what}: pending for {consumer}"));
                }
                (Fate::Held(_), None) => {
                    let mut acked = known.iter().flat_map(|seen| &seen.maybe_acked);
                    match acked.any(|entry| *entry == (*name, *id)) {
                        true => *fate = Fate::Acked,
                        false => violate(Fault::Lost, format!("{what}: is not pending")),
                    }
                }
                (Fate::Waiting, None) if !is_delivered => {}
                (Fate::Waiting, None) => {
                    violate(Fault::Lost, format!("{what}: was delivered to nobody"));
                }
                (Fate::Waiting, Some(consumer)) => {
                    match free.get_mut(&(consumer.as_str(), *name)) {
                        Some(left) if *left > 0 && is_delivered => *left -= 1,
                        _ => violate(
                            Fault::Invented,
                            format!("{what}: pending for {consumer}, who did not wait for it"),
                        ),
                    }
                    *fate = Fate::Held(consumer.clone());
                }
            }
        }
        for (name, stream) in there {
            let strangers = stream.pending.keys();
            for id in strangers.filter(|id| !stream.entries.contains_key(id)) {
                violate(Fault::Invented, format!("{name} {id:?} is pending"));
            }
            let before = self.delivered.insert(name, stream.delivered);
            if before.is_some_and(|before| before > stream.delivered) {
                let text = format!("{name}: delivered up to {before:?}, now as {stream:?}");
                violate(Fault::Lost, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const A: &str = STREAMS[0];

    /// A history in which 1 and 2 were added to one stream and `w1` was given the first; `change`
    /// says what else happened and what was found.
    fn faults(change: impl FnOnce(&mut Seen, &mut Seen, &mut Stream)) -> Vec<String> {
        let mut producer = Seen {
            added: vec![((A, (1, 0)), 1), ((A, (2, 0)), 2)],
            ..Seen::default()
        };
        let mut consumer = Seen {
            consumer: "w1".to_owned(),
            given: vec![((A, (1, 0)), 1)],
            ..Seen::default()
        };
        let mut stream = Stream {
            entries: BTreeMap::from([((1, 0), 1), ((2, 0), 2)]),
            delivered: (1, 0),
            pending: BTreeMap::from([((1, 0), "w1".to_owned())]),
        };
        change(&mut producer, &mut consumer, &mut stream);
        let there = BTreeMap::from([(A, stream), (STREAMS[1], Stream::default())]);
        let mut settled = Settled::default();
        Ledger::default().settle(&[&producer, &consumer], &there, &mut settled);
        let violations = settled.violations.iter();
        let kinds: BTreeSet<String> = violations.map(|v| format!("{:?}", v.fault)).collect();
        kinds.into_iter().collect()
    }

    #[test]
    fn what_may_have_happened_is_right() {
        assert_eq!(faults(|_, _, _| {}), [""; 0]);
        let acked = |_: &mut Seen, consumer: &mut Seen, stream: &mut Stream| {
            consumer.acked.push((A, (1, 0)));
            stream.pending.clear();
        };
        assert_eq!(faults(acked), [""; 0]);
        let maybe_acked = |_: &mut Seen, consumer: &mut Seen, stream: &mut Stream| {
            consumer.maybe_acked.push((A, (1, 0)));
            stream.pending.clear();
        };
        assert_eq!(faults(maybe_acked), [""; 0]);
        let maybe_given = |_: &mut Seen, consumer: &mut Seen, stream: &mut Stream| {
            consumer.maybe_given = 1;
            stream.delivered = (2, 0);
            stream.pending.insert((2, 0), "w1".to_owned());
        };
        assert_eq!(faults(maybe_given), [""; 0]);
        let maybe_added = |producer: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            producer.maybe_added = vec![(A, 3)];
            stream.entries.insert((3, 0), 3);
        };
        assert_eq!(faults(maybe_added), [""; 0]);
    }

    /// Scenarios 7 and 9.
    #[test]
    fn lost_entries_deliveries_and_acknowledgements_are_found() {
        let lost_entry = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.entries.remove(&(2, 0));
        };
        assert_eq!(faults(lost_entry), ["Lost"]);
        let lost_delivery = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.pending.clear();
        };
        assert_eq!(faults(lost_delivery), ["Lost"]);
        let given_again = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.delivered = (0, 0);
        };
        assert_eq!(faults(given_again), ["Lost"]);
        let for_nobody = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.delivered = (2, 0);
        };
        assert_eq!(faults(for_nobody), ["Lost"]);
        let lost_ack = |_: &mut Seen, consumer: &mut Seen, _: &mut Stream| {
            consumer.acked.push((A, (1, 0)));
        };
        assert_eq!(faults(lost_ack), ["Lost"]);
    }

    /// Scenarios 7 and 9.
    #[test]
    fn what_two_have_or_nobody_wrote_is_found() {
        let two_answers = |_: &mut Seen, consumer: &mut Seen, _: &mut Stream| {
            consumer.given.push(((A, (1, 0)), 1));
        };
        assert_eq!(faults(two_answers), ["Invented"]);
        let other_holder = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.pending.insert((1, 0), "w2".to_owned());
        };
        assert_eq!(faults(other_holder), ["Invented"]);
        let more_than_asked = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.delivered = (2, 0);
            stream.pending.insert((2, 0), "w1".to_owned());
        };
        assert_eq!(faults(more_than_asked), ["Invented"]);
        let not_its_own = |_: &mut Seen, consumer: &mut Seen, _: &mut Stream| {
            consumer.shown.push(((A, (2, 0)), 2));
        };
        assert_eq!(faults(not_its_own), ["Invented"]);
        let stranger = |_: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            stream.entries.insert((3, 0), 3);
        };
        assert_eq!(faults(stranger), ["Invented"]);
        let half = |producer: &mut Seen, _: &mut Seen, stream: &mut Stream| {
            producer.maybe_added = vec![(A, 3), (STREAMS[1], 4)];
            stream.entries.insert((3, 0), 3);
        };
        assert_eq!(faults(half), ["Torn"]);
    }
}
