//! What is known of the elements that go through lists and sorted sets.

use super::{DONE, Element, Known, Settled};
use moon_harness::verify::{Fault, Violation};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of all elements.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The last element that was numbered.
    pub(super) last: Element,
    /// Elements that must be somewhere, and the key they were pushed to.
    alive: BTreeMap<Element, &'static str>,
    /// Elements that a consumer has, or that are gone with an answer that nobody got.
    gone: BTreeSet<Element>,
}

impl Ledger {
    /// Compares what is there with what the clients know, and goes on from it.
    pub(super) fn settle(
        &mut self,
        known: &[Known],
        there: &BTreeMap<&'static str, Vec<Element>>,
        settled: &mut Settled,
    ) {
        let mut violate = |fault, text: String| {
            settled.violations.push(Violation::new(fault, text));
        };
        let mut may_take: Vec<Vec<&'static str>> = Vec::new();
        let mut moved = BTreeSet::new();
        for known in known {
            self.alive
                .extend(known.pushed.iter().map(|(key, n)| (*n, *key)));
            moved.extend(known.moved.iter().copied());
            if !known.maybe_taken.is_empty() {
                let slots = std::iter::repeat_n(known.maybe_taken.clone(), known.maybe_taken_max);
                may_take.extend(slots);
            }
            for violation in &known.violations {
                violate(violation.fault, violation.detail.clone());
            }
        }
        let mut places: BTreeMap<Element, &'static str> = BTreeMap::new();
        for (key, elements) in there {
            for element in elements {
                if let Some(other) = places.insert(*element, key) {
                    violate(
                        Fault::Invented,
                        format!("{element} is in {other} and in {key}"),
                    );
                }
            }
        }
        // Of what was pushed together all is there, or was taken, if any of it is or was.
        let taken: BTreeSet<Element> = known
            .iter()
            .flat_map(|known| known.given.iter().map(|(_, n)| *n))
            .collect();
        let mut with_others: BTreeSet<Element> = BTreeSet::new();
        for known in known {
            let unit = &known.maybe_pushed;
            if (unit.iter()).any(|(_, n)| places.contains_key(n) || taken.contains(n)) {
                settled.kept += unit.len();
                with_others.extend(unit.iter().map(|(_, n)| *n));
                self.alive.extend(unit.iter().map(|(key, n)| (*n, *key)));
            } else {
                settled.dropped += unit.len();
            }
        }
        let mut given: BTreeMap<Element, &str> = BTreeMap::new();
        for (key, n) in known.iter().flat_map(|known| &known.given) {
            let was_gone = !self.gone.insert(*n);
            if was_gone || given.insert(*n, key).is_some() {
                violate(Fault::Invented, format!("{n} was given to two consumers"));
            }
            if let Some(place) = places.get(n) {
                violate(
                    Fault::Invented,
                    format!("{n} was given away and is in {place}"),
                );
            }
            if self.alive.remove(n).is_none() && !was_gone {
                violate(
                    Fault::Invented,
                    format!("{n} was given to a consumer and never pushed"),
                );
            }
        }
        for n in &moved {
            match places.get(n) {
                Some(place) if DONE.contains(place) => {}
                place => violate(Fault::Lost, format!("{n} was moved and is in {place:?}")),
            }
        }
        for (n, place) in &places {
            if !self.alive.contains_key(n) {
                violate(
                    Fault::Invented,
                    format!("{n} is in {place}, and nobody pushed it"),
                );
            }
        }
        let missing: Vec<(Element, &'static str)> = self
            .alive
            .iter()
            .filter(|(n, _)| !places.contains_key(n))
            .map(|(n, key)| (*n, *key))
            .collect();
        // Each consumer without an answer may have taken as many as it asked for, from a key it
        // waited for. What they wait for is nested, so whoever has the least choice goes first.
        may_take.sort_by_key(Vec::len);
        for (n, key) in missing {
            self.alive.remove(&n);
            self.gone.insert(n);
            match may_take.iter().position(|keys| keys.contains(&key)) {
                Some(consumer) => drop(may_take.remove(consumer)),
                None if with_others.contains(&n) => {
                    violate(Fault::Torn, format!("{n}, pushed to {key} with others"));
                }
                None => violate(Fault::Lost, format!("{n}, pushed to {key}, is nowhere")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QUEUES;
    use super::*;

    fn faults(known: Known, there: &[(&'static str, Vec<Element>)]) -> Vec<String> {
        let mut settled = Settled::default();
        let there = there.iter().cloned().collect();
        Ledger::default().settle(&[known], &there, &mut settled);
        let violations = settled.violations.iter();
        let kinds: BTreeSet<String> = violations.map(|v| format!("{:?}", v.fault)).collect();
        kinds.into_iter().collect()
    }

    #[test]
    fn unanswered_consumers_are_matched_with_what_is_gone() {
        let waits = |keys: &[&'static str]| Known {
            maybe_taken: keys.to_vec(),
            maybe_taken_max: 1,
            ..Known::default()
        };
        let settle = |known: Vec<Known>| {
            let mut settled = Settled::default();
            let mut all = vec![Known {
                pushed: vec![(QUEUES[1], 1), (QUEUES[0], 2)],
                ..Known::default()
            }];
            all.extend(known);
            Ledger::default().settle(&all, &BTreeMap::new(), &mut settled);
            settled.violations.is_empty()
        };
        assert!(settle(vec![waits(&QUEUES), waits(&QUEUES[1..2])]));
        assert!(settle(vec![waits(&QUEUES[1..2]), waits(&QUEUES)]));
        assert!(!settle(vec![waits(&QUEUES[1..2]), waits(&QUEUES[1..2])]));
        assert!(!settle(vec![waits(&QUEUES)]));
    }

    fn pushed(elements: &[Element]) -> Known {
        Known {
            pushed: elements.iter().map(|n| (QUEUES[0], *n)).collect(),
            ..Known::default()
        }
    }

    #[test]
    fn an_element_in_one_place_is_right() {
        let known = Known {
            given: vec![(QUEUES[0].to_owned(), 1)],
            moved: vec![2],
            maybe_pushed: vec![(QUEUES[1], 4)],
            ..pushed(&[1, 2, 3])
        };
        let there = [(QUEUES[0], vec![3]), (DONE[0], vec![2])];
        assert_eq!(faults(known, &there), [""; 0]);
    }

    /// Scenarios 7 and 204.
    #[test]
    fn a_lost_and_a_doubled_element_are_found() {
        assert_eq!(faults(pushed(&[1]), &[]), ["Lost"]);
        let eaten = Known {
            maybe_taken: vec![QUEUES[0]],
            maybe_taken_max: 1,
            ..pushed(&[1])
        };
        assert_eq!(faults(eaten, &[]), [""; 0]);
        let one_answer = Known {
            maybe_taken: vec![QUEUES[0]],
            maybe_taken_max: 1,
            ..pushed(&[1, 2])
        };
        assert_eq!(faults(one_answer, &[]), ["Lost"]);
        let twice = Known {
            given: vec![(String::new(), 1), (String::new(), 1)],
            ..pushed(&[1])
        };
        assert_eq!(faults(twice, &[]), ["Invented"]);
        let back = Known {
            given: vec![(String::new(), 1)],
            ..pushed(&[1])
        };
        assert_eq!(faults(back, &[(QUEUES[0], vec![1])]), ["Invented"]);
        let moved = Known {
            moved: vec![1],
            ..pushed(&[1])
        };
        assert_eq!(faults(moved, &[(QUEUES[0], vec![1])]), ["Lost"]);
        assert_eq!(faults(pushed(&[]), &[(QUEUES[0], vec![9])]), ["Invented"]);
    }

    #[test]
    fn what_was_pushed_together_is_there_together() {
        let unit = || Known {
            maybe_pushed: vec![(QUEUES[0], 1), (QUEUES[1], 2)],
            ..Known::default()
        };
        assert_eq!(faults(unit(), &[]), [""; 0]);
        let half = [(QUEUES[0], vec![1])];
        assert_eq!(faults(unit(), &half), ["Torn"]);
        let taken = Known {
            given: vec![(QUEUES[1].to_owned(), 2)],
            ..unit()
        };
        assert_eq!(faults(taken, &half), [""; 0]);
        let maybe_taken = Known {
            maybe_taken: vec![QUEUES[1]],
            maybe_taken_max: 1,
            ..unit()
        };
        assert_eq!(faults(maybe_taken, &half), [""; 0]);
    }
}
