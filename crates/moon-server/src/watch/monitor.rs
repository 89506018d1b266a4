//! MONITOR: every command of every shard, shown to whoever asks for it.
//!
//! Whoever executes a command writes its line into a buffer of its own thread, and hands the buffer
//! over before anybody else can execute on the same data: at the end of a stretch that wrote
//! nothing, else with the turn. All buffers go through one lock, so all monitors see the same
//! order, and in it the commands of each shard are in the order of their execution. A line leaves
//! through the gate of the monitor's connection, like a reply: not before what it shows is
//! committed.
//!
//! Nobody waits for a monitor that does not read as fast as commands run: its connection is closed
//! beyond its limit on what is unread, as any other ([`crate::clients::output_limit`]).

use super::redact;
use crate::clients::{ClientHandle, Clients};
use moon_commands::{CommandSpec, Flags};
use moon_core::{Lsn, ShardId};
use moon_shard::mailbox::{ControlMessage, Directory};
use moon_shard::{Executed, SessionId, Shard};
use moon_store::THIS_TURN;
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

/// A connection that is shown what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Monitor {
    session: SessionId,
    shard: ShardId,
}

/// All monitors.
#[derive(Debug, Default)]
pub struct Monitors {
    /// How many there are, to be asked without the lock.
    count: AtomicUsize,
    /// Held while lines go into the mailboxes, so that their order is the same everywhere.
    list: Mutex<Vec<Monitor>>,
}

impl Monitors {
    /// Whether there is one: a relaxed load.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// A connection of `shard` wants to see what runs from now on.
    pub fn add(&self, session: SessionId, shard: ShardId) {
        self.change(|list| list.push(Monitor { session, shard }));
    }

    /// A connection does not want to see it any more, or has ended.
    pub fn remove(&self, session: SessionId) {
        if self.any() {
            self.change(|list| list.retain(|monitor| monitor.session != session));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Monitor>)) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        self.count.store(list.len(), Relaxed);
    }

    /// Shows lines to all of them, once `depends_on` is committed.
    fn show(&self, lines: Vec<u8>, depends_on: Lsn, directory: &Directory) {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Arc<[u8]> = lines.into();
        let mut shards: Vec<ShardId> = list.iter().map(|monitor| monitor.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            let here = list.iter().filter(|monitor| monitor.shard == shard);
            let sessions: Vec<SessionId> = here.map(|monitor| monitor.session).collect();
            let lines = Arc::clone(&lines);
            let push = Box::new(move |shard: &Rc<Shard>| {
                for session in sessions {
                    // One that has gone sees nothing.
                    let _unsent = shard.push_to(session, &lines, depends_on);
                }
            });
            directory.of(shard).send_control(ControlMessage::Run(push));
        }
    }
}

/// Whether monitors see a command. What runs a script is flagged SKIP_MONITOR because Redis shows it by
/// itself, before what it calls.
fn is_shown(spec: &CommandSpec) -> bool {
    let skipped = spec.flags.contains(Flags::SKIP_MONITOR) && spec.group != "scripting";
    !skipped && !spec.flags.contains(Flags::ADMIN)
}

/// The lines of one thread that monitors have not been shown yet.
#[derive(Default)]
pub struct Lines {
    text: RefCell<Vec<u8>>,
    /// What the lines depend on beside the turn in progress.
    depends_on: Cell<Lsn>,
    /// Who was named last, and how.
    named: RefCell<Option<(SessionId, String)>>,
}

impl Lines {
    /// Adds the line of a command that ran, `unix` after 1970.
    pub fn add(
        &self,
        command: &Executed<'_>,
        depends_on: Lsn,
        unix: std::time::Duration,
        clients: &Clients,
    ) {
        // Without a connection it is a part of another command, such as what MIGRATE deletes.
        if !is_shown(command.spec) || command.caller.client == 0 {
            return;
        }
        if depends_on != THIS_TURN {
            self.depends_on.set(self.depends_on.get().max(depends_on));
        }
        let mut named = self.named.borrow_mut();
        let session = command.caller.client;
        if named.as_ref().is_none_or(|(who, _)| *who != session) {
            let client = clients.get(session);
            *named = Some((session, client.map_or_else(String::new, |c| name(&c))));
        }
        let who = match (&*named, command.caller.in_script) {
            (_, true) => "lua",
            (Some((_, name)), false) => name,
            (None, false) => "",
        };
        let mut text = self.text.borrow_mut();
        let (seconds, micros) = (unix.as_secs(), unix.subsec_micros());
        // Writing to a Vec cannot fail.
        let _infallible = write!(text, "+{seconds}.{micros:06} [{} {who}]", command.db);
        for arg in redact::shown(command.spec, command.args) {
            text.push(b' ');
            quote(&mut text, &arg);
        }
        text.extend_from_slice(b"\r\n");
    }

    /// Hands the lines over: what they show is committed with `end`.
    pub fn show(&self, end: Lsn, monitors: &Monitors, directory: &Directory) {
        if self.text.borrow().is_empty() {
            return;
        }
        let depends_on = self.depends_on.replace(Lsn::ZERO).max(end);
        monitors.show(self.text.take(), depends_on, directory);
    }
}

/// A client as MONITOR names it.
fn name(client: &ClientHandle) -> String {
    match client.peer.addr.strip_suffix(":0") {
        Some(path) if client.peer.unix => format!("unix:{path}"),
        _ => client.peer.addr.clone(),
    }
}

/// Writes an argument in quotation marks, as Redis escapes it.
fn quote(text: &mut Vec<u8>, arg: &[u8]) {
    text.push(b'"');
    for byte in arg {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            0x07 => text.extend_from_slice(b"\\a"),
            0x08 => text.extend_from_slice(b"\\b"),
            b' '..=b'~' => text.push(*byte),
            _ => {
                // Writing to a Vec cannot fail.
                let _infallible = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Peer;
    use moon_commands::lookup;
    use moon_resp::OwnedArgs;
    use moon_shard::Caller;
    use std::time::Duration;

    #[test]
    fn lines_are_those_of_redis() {
        let clients = Clients::new();
        let connect = |addr: &str, unix| {
            clients.connect(Peer {
                addr: addr.to_owned(),
                laddr: String::new(),
                fd: 8,
                unix,
            })
        };
        let (tcp, unix) = (connect("127.0.0.1:60866", false), connect("/tmp/s:0", true));
        let lines = Lines::default();
        let add = |args: &[&[u8]], session: SessionId, in_script, lsn| {
            let args = OwnedArgs::new(args);
            let command = Executed {
                spec: lookup(args.as_args().at(0)).unwrap().1,
                caller: Caller {
                    client: session,
                    in_script,
                    ..Caller::default()
                },
                db: 3,
                args: args.as_args(),
            };
            let unix = Duration::new(1_339_518_083, 7_412_999);
            lines.add(&command, lsn, unix, &clients);
        };
        let (tcp, unix) = (tcp.handle().id, unix.handle().id);
        add(
            &[b"set", b"a\"\\\n\r\t\x07\x08", b"\x00\xff ~"],
            tcp,
            false,
            THIS_TURN,
        );
        add(&[b"GET", b""], tcp, true, Lsn(9));
        add(&[b"auth", b"secret"], unix, false, Lsn(5));
        add(&[b"DEBUG", b"x"], tcp, false, Lsn::ZERO);
        assert_eq!(
            String::from_utf8(lines.text.take()).unwrap(),
            "+1339518083.007412 [3 127.0.0.1:60866] \"set\" \"a\\\"\\\\\\n\\r\\t\\a\\b\" \"\\x00\\xff ~\"\r\n\
             +1339518083.007412 [3 lua] \"GET\" \"\"\r\n\
             +1339518083.007412 [3 unix:/tmp/s] \"auth\" \"(redacted)\"\r\n"
        );
        assert_eq!(lines.depends_on.get(), Lsn(9));
    }

    #[test]
    fn there_are_monitors_until_the_last_has_gone() {
        let monitors = Monitors::default();
        monitors.add(1, ShardId(0));
        monitors.add(2, ShardId(1));
        monitors.remove(1);
        assert!(monitors.any());
        monitors.remove(2);
        assert!(!monitors.any());
    }
}
