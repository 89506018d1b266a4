//! The history that all connections append to, each entry a transaction over several shards.
//!
//! The shared list is the order in which the server executed the transactions. The shared counter
//! is logged by value, so an entry that is missing in the middle leaves the counter ahead of the
//! list: this shows a hole between connections, which the keys of one connection cannot show.

use crate::model::{Entry, State, Value};
use crate::verify::{Fault, Violation};
use crate::workload::{shared_counter, shared_list};

/// Entries of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Acknowledged entries: numbers `1..=acked` must be there.
    pub acked: u64,
    /// Sent entries: none above this number may be there.
    pub sent: u64,
}

/// A position of the shared list that a reader saw, and the entry there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEntry {
    /// From 0.
    pub position: usize,
    /// The entry.
    pub item: Vec<u8>,
}

/// Compares the shared keys in `observed` with what the connections wrote and readers saw.
/// Returns the entries that are there, per connection.
///
/// # Errors
/// The violations, at least one.
pub fn verify_history(
    observed: &State,
    written: &[Written],
    seen: &[SeenEntry],
) -> Result<Vec<u64>, Vec<Violation>> {
    let mut violations = Vec::new();
    let mut add = |fault, detail: String| violations.push(Violation::new(fault, detail));
    let items = match observed.get(&shared_list()) {
        None => &Vec::new(),
        Some(Entry {
            value: Value::List(items),
            ..
        }) => items,
        Some(other) => {
            add(Fault::Invented, format!("the shared list is {other:?}"));
            return Err(violations);
        }
    };
    let counter = match observed.get(&shared_counter()) {
        None => 0,
        Some(entry) => entry.value.progress(),
    };
    if counter != items.len() as u64 {
        let fault = if counter > items.len() as u64 {
            Fault::Hole
        } else {
            Fault::Torn
        };
        add(
            fault,
            format!("{counter} entries were counted, {} are listed", items.len()),
        );
    }
    let mut present = vec![0; written.len()];
    for (position, item) in items.iter().enumerate() {
        let text = String::from_utf8_lossy(item);
        let parsed = text
            .split_once(':')
            .and_then(|(c, n)| Some((c.parse::<usize>().ok()?, n.parse::<u64>().ok()?)));
        match parsed {
            Some((connection, number)) if connection < written.len() => {
                if number != present[connection] + 1 {
                    let last = present[connection];
                    let fault = if number > last {
                        Fault::Hole
                    } else {
                        Fault::Invented
                    };
                    add(
                        fault,
                        format!("entry {text} at {position} follows {connection}:{last}"),
                    );
                }
                present[connection] = number;
            }
            _ => add(Fault::Invented, format!("entry \"{text}\" at {position}")),
        }
    }
    for (connection, (present, written)) in present.iter().zip(written).enumerate() {
        if *present < written.acked {
            let acked = written.acked;
            add(
                Fault::Lost,
                format!("connection {connection}: {present} of {acked} acknowledged entries"),
            );
        }
        if *present > written.sent {
            let sent = written.sent;
            add(
                Fault::Invented,
                format!("connection {connection}: {present} entries, {sent} sent"),
            );
        }
    }
    for seen in seen {
        if items.get(seen.position) != Some(&seen.item) {
            let item = seen.item.escape_ascii();
            add(
                Fault::SeenGone,
                format!("a reader saw {item} at {}", seen.position),
            );
        }
    }
    if violations.is_empty() {
        Ok(present)
    } else {
        Err(violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(counter: u64, items: &[&str]) -> State {
        let items = items.iter().map(|i| i.as_bytes().to_vec()).collect();
        State::from([
            (shared_counter(), Entry::string(counter.to_string())),
            (shared_list(), Entry::new(Value::List(items))),
        ])
    }

    fn faults(state: &State, seen: &[SeenEntry]) -> Vec<Fault> {
        let written = [Written { acked: 2, sent: 3 }, Written { acked: 0, sent: 1 }];
        match verify_history(state, &written, seen) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.iter().map(|v| v.fault).collect(),
        }
    }

    #[test]
    fn acknowledged_entries_and_a_prefix_of_the_others_are_accepted() {
        assert_eq!(faults(&state(2, &["0:1", "0:2"]), &[]), []);
        assert_eq!(faults(&state(4, &["0:1", "1:1", "0:2", "0:3"]), &[]), []);
    }

    #[test]
    fn doctored_histories_are_refused() {
        assert_eq!(faults(&state(1, &["0:1"]), &[]), [Fault::Lost]);
        assert_eq!(faults(&state(3, &["0:1", "0:2"]), &[]), [Fault::Hole]);
        assert_eq!(faults(&state(1, &["0:1", "0:2"]), &[]), [Fault::Torn]);
        assert_eq!(faults(&state(2, &["0:1", "0:3"]), &[]), [Fault::Hole]);
        assert_eq!(
            faults(&state(3, &["0:1", "0:2", "0:2"]), &[]),
            [Fault::Invented]
        );
        assert_eq!(
            faults(&state(4, &["0:1", "0:2", "1:1", "1:2"]), &[]),
            [Fault::Invented]
        );
        let seen = SeenEntry {
            position: 2,
            item: b"1:1".to_vec(),
        };
        assert_eq!(
            faults(&state(2, &["0:1", "0:2"]), &[seen]),
            [Fault::SeenGone]
        );
    }
}
