//! The expiry cycle: finding keys and hashes past a deadline without looking at the others.

use super::Db;
use crate::table::Keyed;
use moon_core::UnixMs;

/// Empty stretches of the table that one call passes over besides its budget.
const EMPTY_SEGMENTS_MAX: usize = 16;

/// Deadlines looked at for an average.
const TTL_SAMPLE_LEN: usize = 64;

/// What one call of [`Db::pop_expired`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireScan {
    /// Keys with a deadline that were looked at.
    pub examined: usize,
    /// How many of them were past it.
    pub expired: usize,
}

impl Db {
    /// Finds keys that are gone at `now` and adds them to `expired`, at most `budget` of them.
    /// The caller removes them and logs that. Looks at `budget` keys with a deadline or somewhat
    /// more (up to about a thousand) and goes on from there next time; worth repeating at once
    /// while more than a tenth of the examined were expired.
    ///
    /// What was found and is not removed is found again.
    pub fn pop_expired(
        &mut self,
        now: UnixMs,
        budget: usize,
        expired: &mut Vec<Box<[u8]>>,
    ) -> ExpireScan {
        let mut scan = ExpireScan::default();
        if self.expires.is_empty() {
            return scan;
        }
        for _ in 0..budget / 16 + EMPTY_SEGMENTS_MAX {
            let (_, entries, next) = self.expires.segment_from(self.expire_position);
            for expire in entries {
                if scan.expired == budget {
                    // The position stays: the rest of the segment was not looked at.
                    return scan;
                }
                scan.examined += 1;
                if expire.at <= now {
                    scan.expired += 1;
                    expired.push(expire.key().into());
                }
            }
            self.expire_position = next.unwrap_or(0);
            if next.is_none() || scan.examined >= budget {
                break;
            }
        }
        scan
    }

    /// Number of hashes with fields that have deadlines.
    #[must_use]
    pub fn volatile_hashes(&self) -> usize {
        self.due_hashes.len()
    }

    /// Hashes with fields that are past their deadline at `now`, at most `max` of them, those
    /// with the earliest one first. The caller removes the fields and logs that.
    pub fn due_hashes(&mut self, now: UnixMs, max: usize) -> Vec<Box<[u8]>> {
        self.settle();
        let due = self.due_hashes.until(now);
        due.take(max).map(Box::from).collect()
    }

    /// Mean time to live of a sample of the keys with a deadline, in milliseconds; those past it
    /// count as 0. 0 if there are none.
    #[must_use]
    pub fn average_ttl(&self, now: UnixMs) -> u64 {
        let (mut sum, mut len) = (0u128, 0u128);
        // From the scan's position on, so that repeated calls see different keys.
        let mut at = self.expire_position;
        for _ in 0..EMPTY_SEGMENTS_MAX {
            let (_, entries, next) = self.expires.segment_from(at);
            for expire in entries.take(TTL_SAMPLE_LEN - len as usize) {
                sum += u128::try_from(i128::from(expire.at.0) - i128::from(now.0)).unwrap_or(0);
                len += 1;
            }
            at = next.unwrap_or(0);
            if len as usize == TTL_SAMPLE_LEN || at == self.expire_position {
                break;
            }
        }
        u64::try_from(sum.checked_div(len).unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Change, Deadline};
    use crate::key::Key;
    use crate::types::{Hash, PackLimits};
    use crate::value::Value;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LIMITS: PackLimits = PackLimits {
        entries: 2,
        value_bytes: 64,
    };

    #[derive(Clone, Debug)]
    enum Step {
        Field(u8, u8, Deadline),
        Overwrite(u8, bool),
        Update(u8, u8, Deadline),
        Rename(u8, u8),
        Copy(u8, u8),
        Remove(u8),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || 0..6_u8;
        let field = || 0..4_u8;
        let at = || proptest::option::of((0..50_i64).prop_map(UnixMs));
        prop_oneof![
            8 => (key(), field(), at()).prop_map(|(k, f, at)| Step::Field(k, f, at)),
            4 => (key(), field(), at()).prop_map(|(k, f, at)| Step::Update(k, f, at)),
            1 => (key(), any::<bool>()).prop_map(|(k, place)| Step::Overwrite(k, place)),
            2 => (key(), key()).prop_map(|(a, b)| Step::Rename(a, b)),
            2 => (key(), key()).prop_map(|(a, b)| Step::Copy(a, b)),
            2 => key().prop_map(Step::Remove),
            1 => Just(Step::Clear),
        ]
    }

    fn change(value: &mut Value, field: u8, at: Deadline) {
        if let Value::Hash(hash) = value {
            hash.set(&[field], b"v", LIMITS);
            hash.set_deadline(&[field], at);
        }
    }

    fn apply(db: &mut Db, step: Step) {
        let create = || Value::Hash(Hash::default());
        match step {
            Step::Field(k, f, at) => {
                change(db.get_or_insert_with(Key::new(&[k]), create), f, at);
            }
            Step::Update(k, f, at) => db.update(Key::new(&[k]), |there, _| match there {
                Some(value) => {
                    change(value, f, at);
                    (Change::Keep, ())
                }
                None => (Change::Store(create(), None), ()),
            }),
            Step::Overwrite(k, in_place) => {
                if !in_place {
                    db.insert_string(Key::new(&[k]), b"v", None);
                } else if let Some(value) = db.get_mut(Key::new(&[k])) {
                    *value = Value::from_int(1);
                }
            }
            Step::Rename(a, b) => {
                if let Some((value, deadline)) = db.remove(Key::new(&[a])) {
                    db.insert(Key::new(&[b]), value, deadline);
                }
            }
            Step::Copy(a, b) => {
                if let Some(value) = db.get(Key::new(&[a])).map(|(value, _)| value.clone()) {
                    db.insert(Key::new(&[b]), value, None);
                }
            }
            Step::Remove(k) => {
                db.remove(Key::new(&[k]));
            }
            Step::Clear => drop(db.clear()),
        }
    }

    proptest! {
        #[test]
        fn due_hashes_are_those_whose_fields_have_expired(
            steps in proptest::collection::vec(step(), 0..60),
            now in (0..50_i64).prop_map(UnixMs),
        ) {
            let mut db = Db::default();
            for step in steps {
                apply(&mut db, step);
                db.self_check();
            }
            let mut expected = BTreeMap::new();
            let mut volatile = 0;
            db.for_each(&mut |key, value, _| {
                let at = value.next_field_deadline();
                volatile += usize::from(at.is_some());
                if let Some(at) = at.filter(|at| *at <= now) {
                    expected.insert((at, key.to_vec()), ());
                }
            });
            let expected: Vec<_> = expected.into_keys().map(|(_, key)| key).collect();
            let found: Vec<_> = db.due_hashes(now, 99).iter().map(|key| key.to_vec()).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(db.volatile_hashes(), volatile);
            prop_assert_eq!(db.due_hashes(now, 1).len(), expected.len().min(1));
        }
    }
}
