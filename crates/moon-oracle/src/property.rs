//! What must hold for replies that chance decides, where the two servers may differ.
//!
//! A step with a property reads the collection, runs the command, reads again, and then removes
//! the key on both servers, so that they do not drift apart. The property is asked of each server
//! by its own replies.

use crate::compare::{flat_items, pairs_of};
use crate::request::Step;
use moon_resp::Value;

/// A property of the replies of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// `members ; pop ; members`: what was popped was there, is gone, and nothing else changed.
    Popped,
    /// `members ; random`: what is shown is there; without repetition where the count is positive.
    Picked,
    /// As `Picked`, with pairs of field and value in the second reply.
    PickedPairs,
}

impl Property {
    /// The property that templates call `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Property> {
        match name {
            "popped" => Some(Property::Popped),
            "picked" => Some(Property::Picked),
            "pickedpairs" => Some(Property::PickedPairs),
            _ => None,
        }
    }

    /// Whether only the form of reply number `position` is compared between servers.
    #[must_use]
    pub fn leaves_open(self, position: usize) -> bool {
        match self {
            Property::Popped => position == 1 || position == 2,
            Property::Picked | Property::PickedPairs => position == 1,
        }
    }

    /// Whether the replies of one server have the property. Where the first read fails, as with a
    /// key of another type, there is nothing to ask.
    #[must_use]
    pub fn holds(self, step: &Step, replies: &[Value]) -> bool {
        let [before, chosen, ..] = replies else {
            return false;
        };
        if before.is_error() || chosen.is_error() {
            return true;
        }
        let count = step.requests.get(1).and_then(|request| request.args.get(2));
        let count = count.and_then(|c| String::from_utf8_lossy(c).parse::<i64>().ok());
        let before = match self {
            Property::PickedPairs => pairs_of(before),
            _ => flat_items(before),
        };
        let is_one = count.is_none();
        let chosen = match self {
            _ if is_one && chosen.is_null() => Vec::new(),
            _ if is_one => vec![chosen.clone()],
            Property::PickedPairs => pairs_of(chosen),
            _ => flat_items(chosen),
        };
        let is_there = |item: &Value| match (self, is_one) {
            // Without a count there is a field alone.
            (Property::PickedPairs, true) => before
                .iter()
                .any(|pair| matches!(pair, Value::Array(pair) if pair.first() == Some(item))),
            _ => before.contains(item),
        };
        if !chosen.iter().all(is_there) {
            return false;
        }
        let may_repeat = count.is_some_and(|c| c < 0);
        if !may_repeat && has_repetition(&chosen) {
            return false;
        }
        let expected = match count {
            None => before.len().min(1),
            Some(count) if count < 0 && before.is_empty() => 0,
            Some(count) if count < 0 => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
            Some(count) => usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(before.len()),
        };
        if chosen.len() != expected {
            return false;
        }
        if self == Property::Popped {
            let Some(after) = replies.get(2) else {
                return false;
            };
            let after = flat_items(after);
            return after.len() + chosen.len() == before.len()
                && before
                    .iter()
                    .all(|member| after.contains(member) != chosen.contains(member));
        }
        true
    }
}

fn has_repetition(items: &[Value]) -> bool {
    items
        .iter()
        .enumerate()
        .any(|(at, item)| items[..at].contains(item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    fn set(members: &[&str]) -> Value {
        Value::Array(members.iter().map(Value::bulk).collect())
    }

    fn holds(property: Property, count: Option<&str>, replies: &[Value]) -> bool {
        let mut args = vec![b"SPOP".to_vec(), b"k".to_vec()];
        args.extend(count.map(|c| c.as_bytes().to_vec()));
        let requests = vec![Request::plain(Vec::new()), Request::plain(args)];
        let step = Step {
            requests,
            property: Some(property),
        };
        property.holds(&step, replies)
    }

    #[test]
    fn what_is_popped_was_there_and_is_gone() {
        let before = set(&["a", "b", "c"]);
        let popped = |chosen: &[&str], after: &[&str]| {
            holds(
                Property::Popped,
                Some("2"),
                &[before.clone(), set(chosen), set(after)],
            )
        };
        assert!(popped(&["c", "a"], &["b"]));
        assert!(!popped(&["c", "a"], &["b", "a"]));
        assert!(!popped(&["c", "x"], &["a", "b"]));
        assert!(!popped(&["c", "c"], &["a", "b"]));
        assert!(!popped(&["c"], &["a", "b"]));
        let all = [before.clone(), Value::bulk("a"), set(&["b", "c"])];
        assert!(holds(Property::Popped, None, &all));
    }

    #[test]
    fn a_negative_count_may_repeat() {
        let before = set(&["a", "b"]);
        let picked = |count, chosen: &[&str]| {
            holds(
                Property::Picked,
                Some(count),
                &[before.clone(), set(chosen)],
            )
        };
        assert!(picked("-3", &["a", "a", "b"]));
        assert!(!picked("3", &["a", "a", "b"]));
        assert!(picked("3", &["b", "a"]));
        assert!(!picked("-3", &["a", "a", "x"]));
        assert!(!picked("-3", &["a"]));
    }
}
