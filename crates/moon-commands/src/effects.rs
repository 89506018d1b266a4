//! The bytes that repeat a write elsewhere: in the log, on a replica.

use crate::blocking::Wait;
use crate::notify::Events;
use moon_resp::{Args, write_args, write_request};
use moon_store::DbIndex;
use std::collections::HashSet;

/// Largest buffer that is kept for the next payload.
const ROOM_MAX: usize = 1 << 20;

/// The effects of a turn, as requests in RESP.
///
/// # Invariants
/// * The stream rests in database 0: [`Effects::take`] selects it again if another is in force.
/// * What one command or transaction wrote is one unit; a unit of several requests is wrapped in
///   MULTI/EXEC, so that nobody who follows the stream sees half of it.
#[derive(Debug)]
pub struct Effects {
    /// What clients are told about the keys.
    pub events: Events,
    out: Vec<u8>,
    db_in_force: DbIndex,
    /// Where the unit in progress starts, and how many requests it has.
    unit_start: usize,
    unit_requests: usize,
    /// The database in force where it starts.
    unit_db: DbIndex,
    nested_units: usize,
    recording: bool,
    /// Whether the commands that run are those of a transaction, in which nobody can wait.
    in_transaction: bool,
    /// Whether they are those of a script.
    in_script: bool,
    /// Keys that reads of the unit in progress found past their deadline.
    lapsed: Vec<(DbIndex, Box<[u8]>)>,
    /// The same keys, to find them.
    lapsed_names: HashSet<(DbIndex, Box<[u8]>)>,
    /// What the command that ran would wait for.
    wait: Option<Box<Wait>>,
}

impl Default for Effects {
    fn default() -> Self {
        Effects {
            events: Events::default(),
            out: Vec::new(),
            db_in_force: 0,
            unit_start: 0,
            unit_requests: 0,
            unit_db: 0,
            nested_units: 0,
            recording: true,
            in_transaction: false,
            in_script: false,
            lapsed: Vec::new(),
            lapsed_names: HashSet::new(),
            wait: None,
        }
    }
}

impl Effects {
    /// Effects that go nowhere: replay repeats writes that are in the log already.
    #[must_use]
    pub fn discarded() -> Effects {
        Effects {
            recording: false,
            ..Effects::default()
        }
    }

    /// Bytes so far.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Adds one request that writes database `db`.
    pub fn push<P: AsRef<[u8]>>(&mut self, db: DbIndex, parts: &[P]) {
        if !self.begin_request(db) {
            return;
        }
        write_request(&mut self.out, parts);
    }

    /// Adds the request as the client sent it.
    pub fn push_args(&mut self, db: DbIndex, args: Args<'_>) {
        if !self.begin_request(db) {
            return;
        }
        write_args(&mut self.out, args);
    }

    fn begin_request(&mut self, db: DbIndex) -> bool {
        if !self.recording {
            return false;
        }
        if db != self.db_in_force {
            let mut digits = itoa::Buffer::new();
            write_request(&mut self.out, &[b"SELECT", digits.format(db).as_bytes()]);
            self.db_in_force = db;
        }
        self.unit_requests += 1;
        true
    }

    /// A read found `key` past its deadline; it is to be removed before the unit ends. Whether it
    /// is the first one that did.
    #[cold]
    pub(crate) fn lapsed(&mut self, db: DbIndex, key: &[u8]) -> bool {
        let is_new = self.lapsed_names.insert((db, key.into()));
        if is_new {
            self.lapsed.push((db, key.into()));
        }
        is_new
    }

    /// Whether there are keys to remove.
    #[inline]
    pub(crate) fn has_lapsed(&self) -> bool {
        !self.lapsed.is_empty()
    }

    /// The keys to remove.
    pub(crate) fn take_lapsed(&mut self) -> Vec<(DbIndex, Box<[u8]>)> {
        self.lapsed_names.clear();
        std::mem::take(&mut self.lapsed)
    }

    /// The command that runs found nothing and would wait.
    pub(crate) fn wait(&mut self, wait: Wait) {
        self.wait = Some(Box::new(wait));
    }

    /// Whether the command that ran would wait.
    pub(crate) fn has_wait(&self) -> bool {
        self.wait.is_some()
    }

    /// What the command that ran would wait for; for who can wait.
    pub fn take_wait(&mut self) -> Option<Box<Wait>> {
        self.wait.take()
    }

    /// Begins a unit: a command, or a transaction around several.
    #[inline]
    pub fn begin_unit(&mut self) {
        if self.nested_units == 0 {
            self.unit_start = self.out.len();
            self.unit_requests = 0;
            self.unit_db = self.db_in_force;
        }
        self.nested_units += 1;
    }

    /// Whether the command that runs is one of a transaction.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Whether the command that runs is called by a script.
    #[must_use]
    pub fn is_in_script(&self) -> bool {
        self.in_script
    }

    /// Says whether the commands that follow are called by a script.
    pub fn set_in_script(&mut self, in_script: bool) {
        self.in_script = in_script;
    }

    /// Says whether the commands that follow are those of a transaction.
    pub fn set_in_transaction(&mut self, in_transaction: bool) {
        self.in_transaction = in_transaction;
    }

    /// Ends the unit, wrapping it if it has several requests.
    #[inline]
    pub fn end_unit(&mut self) {
        self.nested_units -= 1;
        if self.nested_units == 0 && self.unit_requests > 1 {
            const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
            self.out
                .splice(self.unit_start..self.unit_start, MULTI.iter().copied());
            self.out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        }
    }

    /// Takes out the units before the one in progress, which goes on in `self`: they are a payload
    /// of their own.
    #[must_use]
    pub fn take_ended_units(&mut self) -> Effects {
        let mut unit = Vec::new();
        if self.unit_db != 0 && self.unit_requests > 0 {
            // Its first request counted on the database that was in force.
            let mut digits = itoa::Buffer::new();
            write_request(
                &mut unit,
                &[b"SELECT", digits.format(self.unit_db).as_bytes()],
            );
        }
        unit.extend_from_slice(&self.out[self.unit_start..]);
        let mut ended = Effects {
            db_in_force: self.unit_db,
            ..Effects::default()
        };
        self.out.truncate(self.unit_start);
        ended.out = std::mem::replace(&mut self.out, unit);
        if self.unit_requests == 0 {
            self.db_in_force = 0;
        }
        self.unit_start = 0;
        self.unit_db = 0;
        ended
    }

    /// The payload of a frame: everything since the last [`Effects::clear`], back in database 0
    /// at its end.
    #[must_use]
    pub fn payload(&mut self) -> &[u8] {
        debug_assert_eq!(self.nested_units, 0, "a frame ends at a command boundary");
        if self.db_in_force != 0 {
            write_request(&mut self.out, &[b"SELECT", b"0".as_slice()]);
            self.db_in_force = 0;
        }
        &self.out
    }

    /// The payload was copied: begins the next one in the same memory.
    pub fn clear(&mut self) {
        self.out.clear();
        if self.out.capacity() > ROOM_MAX {
            self.out = Vec::new();
        }
    }

    /// The payload, by value: for one that is too large to copy.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        let _complete = self.payload();
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_stays_bare_and_several_become_a_transaction() {
        let mut effects = Effects::default();
        effects.begin_unit();
        effects.push(0, &["DEL", "a"]);
        effects.end_unit();
        assert_eq!(effects.take(), b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n");
        effects.begin_unit();
        effects.push(0, &["DEL", "a"]);
        effects.push(0, &["DEL", "b"]);
        effects.end_unit();
        let expected = "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n";
        assert_eq!(effects.take(), expected.as_bytes());
    }

    #[test]
    fn what_ended_before_a_unit_can_leave_while_it_goes_on() {
        let mut effects = Effects::default();
        effects.push(3, &["DEL", "a"]);
        effects.begin_unit();
        effects.push(3, &["DEL", "b"]);
        let mut ended = effects.take_ended_units();
        effects.push(0, &["DEL", "c"]);
        effects.end_unit();
        let mut alone = Effects::default();
        alone.push(3, &["DEL", "a"]);
        assert_eq!(ended.take(), alone.take());
        alone.begin_unit();
        alone.push(3, &["DEL", "b"]);
        alone.push(0, &["DEL", "c"]);
        alone.end_unit();
        assert_eq!(effects.take(), alone.take());

        effects.push(3, &["DEL", "a"]);
        effects.begin_unit();
        let _ended = effects.take_ended_units();
        effects.push(3, &["DEL", "b"]);
        effects.end_unit();
        alone.push(3, &["DEL", "b"]);
        assert_eq!(effects.take(), alone.take());
    }

    #[test]
    fn the_stream_rests_in_database_0() {
        let mut effects = Effects::default();
        effects.push(3, &["DEL", "a"]);
        let frame = effects.take();
        assert!(frame.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"));
        assert!(frame.ends_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"));
    }
}
