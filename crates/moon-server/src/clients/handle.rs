//! What is known about one client. Its connection writes the fields; CLIENT LIST reads them from
//! any thread, so a line may mix values of two moments.

use moon_shard::{Ending, GateSizes, Waiter};
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// "No command yet" in [`ClientHandle::cmd`].
pub const CMD_NONE: u16 = u16::MAX;

/// "Not in MULTI" in [`ClientHandle::multi`].
const MULTI_NONE: u32 = u32::MAX;

/// Where a client comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address of the client: `ip:port`, `[ip6]:port`, or `path:0` on a Unix socket.
    pub addr: String,
    /// Address it is connected to.
    pub laddr: String,
    /// File descriptor.
    pub fd: i32,
    /// Whether it is a Unix socket.
    pub unix: bool,
}

/// One flag of a client, as in `flags=` of CLIENT LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the words of CLIENT LIST")]
pub enum Flags {
    Replica = 1 << 0,
    Monitor = 1 << 1,
    PubSub = 1 << 2,
    Multi = 1 << 3,
    Blocked = 1 << 4,
    Tracking = 1 << 5,
    DirtyCas = 1 << 6,
    CloseAfterReply = 1 << 7,
    UnixSocket = 1 << 8,
    Readonly = 1 << 9,
    NoEvict = 1 << 10,
    NoTouch = 1 << 11,
    BrokenRedirect = 1 << 12,
    Broadcast = 1 << 13,
}

/// Flags with their letters, in the order in which they are printed.
const LETTERS: &[(Flags, char)] = &[
    (Flags::Replica, 'S'),
    (Flags::Monitor, 'O'),
    (Flags::PubSub, 'P'),
    (Flags::Multi, 'x'),
    (Flags::Blocked, 'b'),
    (Flags::Tracking, 't'),
    (Flags::BrokenRedirect, 'R'),
    (Flags::Broadcast, 'B'),
    (Flags::DirtyCas, 'd'),
    (Flags::CloseAfterReply, 'c'),
    (Flags::UnixSocket, 'U'),
    (Flags::Readonly, 'r'),
    (Flags::NoEvict, 'e'),
    (Flags::NoTouch, 'T'),
];

/// One client. The numbers are stored by its connection with relaxed stores.
#[derive(Debug)]
#[expect(missing_docs, reason = "the field names are the words of CLIENT LIST")]
pub struct ClientHandle {
    /// Its id, never used twice.
    pub id: u64,
    /// Where it comes from.
    pub peer: Peer,
    connected_ms: u64,
    interaction_ms: AtomicU64,
    texts: Mutex<Texts>,
    flags: AtomicU32,
    pub db: AtomicU32,
    pub sub: AtomicU32,
    pub psub: AtomicU32,
    pub ssub: AtomicU32,
    multi: AtomicU32,
    pub watch: AtomicU32,
    /// Bytes of its unfinished request, and room left in that buffer.
    pub qbuf: AtomicU64,
    pub qbuf_free: AtomicU64,
    /// Bytes of the tables of arguments, of queued commands, of watched keys.
    pub argv_mem: AtomicU64,
    pub multi_mem: AtomicU64,
    pub watch_mem: AtomicU64,
    /// Bytes of its subscriptions.
    pub sub_mem: AtomicU64,
    /// Size of the reply buffer and its highest use lately.
    pub rbs: AtomicU64,
    pub rbp: AtomicU64,
    /// Reply bytes in the buffer; replies held behind it; their bytes.
    pub obl: AtomicU64,
    pub oll: AtomicU64,
    pub omem: AtomicU64,
    tot_mem: AtomicU64,
    /// Id of the last command, or [`CMD_NONE`].
    pub cmd: AtomicU16,
    pub resp: AtomicU8,
    /// The client that is told in its place of stale copies, 0 for none, -1 without tracking.
    pub redirect: AtomicI64,
    /// The shard of its connection.
    pub shard: AtomicU16,
    killed: AtomicBool,
    wake: Notify,
    /// The wait of a command that blocks.
    waiter: Mutex<Option<Arc<Waiter>>>,
}

#[derive(Debug)]
struct Texts {
    name: String,
    lib_name: String,
    lib_ver: String,
    user: String,
}

impl Peer {
    /// Whether it is on this machine: one of the two loopback addresses, or a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.addr.rsplit_once(':').map_or("", |(host, _port)| host);
        self.unix || matches!(host, "127.0.0.1" | "[::1]")
    }
}

impl ClientHandle {
    pub(super) fn new(id: u64, peer: Peer, now_ms: u64) -> ClientHandle {
        let flags = if peer.unix {
            Flags::UnixSocket as u32
        } else {
            0
        };
        ClientHandle {
            id,
            peer,
            connected_ms: now_ms,
            interaction_ms: AtomicU64::new(now_ms),
            texts: Mutex::new(Texts {
                name: String::new(),
                lib_name: String::new(),
                lib_ver: String::new(),
                user: "default".to_owned(),
            }),
            flags: AtomicU32::new(flags),
            db: AtomicU32::new(0),
            sub: AtomicU32::new(0),
            psub: AtomicU32::new(0),
            ssub: AtomicU32::new(0),
            multi: AtomicU32::new(MULTI_NONE),
            watch: AtomicU32::new(0),
            qbuf: AtomicU64::new(0),
            qbuf_free: AtomicU64::new(0),
            argv_mem: AtomicU64::new(0),
            multi_mem: AtomicU64::new(0),
            watch_mem: AtomicU64::new(0),
            sub_mem: AtomicU64::new(0),
            rbs: AtomicU64::new(0),
            rbp: AtomicU64::new(0),
            obl: AtomicU64::new(0),
            oll: AtomicU64::new(0),
            omem: AtomicU64::new(0),
            tot_mem: AtomicU64::new(0),
            cmd: AtomicU16::new(CMD_NONE),
            resp: AtomicU8::new(2),
            redirect: AtomicI64::new(-1),
            shard: AtomicU16::new(0),
            killed: AtomicBool::new(false),
            wake: Notify::new(),
            waiter: Mutex::new(None),
        }
    }

    /// Takes note that the client was heard at `now_ms` ([`super::Clients::now_ms`]).
    #[inline]
    pub fn touch(&self, now_ms: u64) {
        self.interaction_ms.store(now_ms, Relaxed);
    }

    /// Milliseconds since the client was last heard.
    #[must_use]
    pub fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.interaction_ms.load(Relaxed))
    }

    /// Milliseconds since it connected.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.connected_ms)
    }

    /// Sets or clears one flag.
    pub fn set_flag(&self, flag: Flags, on: bool) {
        if on {
            self.flags.fetch_or(flag as u32, Relaxed);
        } else {
            self.flags.fetch_and(!(flag as u32), Relaxed);
        }
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has_flag(&self, flag: Flags) -> bool {
        self.flags.load(Relaxed) & flag as u32 != 0
    }

    /// Commands queued in MULTI; `None` outside of it. Sets the MULTI flag accordingly.
    pub fn set_multi(&self, queued: Option<u32>) {
        self.multi.store(queued.unwrap_or(MULTI_NONE), Relaxed);
        self.set_flag(Flags::Multi, queued.is_some());
    }

    /// A command of the client waits, or waits no more. Sets the flag accordingly.
    pub fn set_waiter(&self, waiter: Option<Arc<Waiter>>) {
        self.set_flag(Flags::Blocked, waiter.is_some());
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = waiter;
    }

    /// The wait of a command that blocks, if one does.
    #[must_use]
    pub fn waiter(&self) -> Option<Arc<Waiter>> {
        let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
        waiter.clone()
    }

    /// The name given with CLIENT SETNAME, or "".
    #[must_use]
    pub fn name(&self) -> String {
        self.texts().name.clone()
    }

    /// Sets the name; it has passed [`super::filter::check_name`].
    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut self.texts().name);
    }

    /// Sets `lib-name`; it has passed [`super::filter::check_lib_attribute`].
    pub fn set_lib_name(&self, name: &str) {
        name.clone_into(&mut self.texts().lib_name);
    }

    /// Sets `lib-ver`; it has passed [`super::filter::check_lib_attribute`].
    pub fn set_lib_ver(&self, version: &str) {
        version.clone_into(&mut self.texts().lib_ver);
    }

    /// The user it is authenticated as.
    #[must_use]
    pub fn user(&self) -> String {
        self.texts().user.clone()
    }

    /// Sets the user after AUTH.
    pub fn set_user(&self, user: &str) {
        user.clone_into(&mut self.texts().user);
    }

    /// Sets back what RESET sets back: name, counters and flags of the connection's state. The
    /// library's name stays, as in Redis.
    pub fn reset(&self) {
        self.texts().name.clear();
        self.set_user("default");
        self.set_multi(None);
        for flag in [
            Flags::Monitor,
            Flags::PubSub,
            Flags::Tracking,
            Flags::DirtyCas,
            Flags::Readonly,
            Flags::NoEvict,
            Flags::NoTouch,
        ] {
            self.set_flag(flag, false);
        }
        for count in [&self.db, &self.sub, &self.psub, &self.ssub, &self.watch] {
            count.store(0, Relaxed);
        }
        self.resp.store(2, Relaxed);
    }

    /// Takes note of what its gate holds; returns all that it holds.
    pub fn note_gate(&self, gate: GateSizes) -> u64 {
        for (field, size) in [
            (&self.rbs, gate.open_capacity),
            (&self.rbp, gate.open_peak),
            (&self.obl, gate.open),
            (&self.oll, gate.parts),
            (&self.omem, gate.held_capacity),
        ] {
            field.store(size as u64, Relaxed);
        }
        self.note_total()
    }

    /// Adds up all that it holds, after a part has changed.
    pub fn note_total(&self) -> u64 {
        /// What every connection takes: its task and what is known about it.
        const FIXED: u64 = (size_of::<ClientHandle>() + 1024) as u64;
        let parts = [
            &self.qbuf,
            &self.qbuf_free,
            &self.argv_mem,
            &self.multi_mem,
            &self.watch_mem,
            &self.sub_mem,
            &self.rbs,
            &self.omem,
        ];
        let total = FIXED + parts.iter().map(|part| part.load(Relaxed)).sum::<u64>();
        self.tot_mem.store(total, Relaxed);
        total
    }

    /// Bytes of all that it holds, as of the last note.
    #[must_use]
    pub fn total_memory(&self) -> u64 {
        self.tot_mem.load(Relaxed)
    }

    /// Marks the client as killed and wakes its task. If it waits for a key, it does not any more.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        if let Some(waiter) = self.waiter() {
            // Served already, its reply goes where the client went.
            let _was_waiting = waiter.end(Ending::Gone);
        }
        self.wake.notify_one();
    }

    /// Whether the client was killed.
    #[inline]
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// Returns when the client is killed, or was before. For the one task of its connection.
    pub async fn killed(&self) {
        while !self.is_killed() {
            self.wake.notified().await;
        }
    }

    /// The line of CLIENT LIST and CLIENT INFO, without its line break.
    pub fn line<'a>(&self, now_ms: u64, command_name: &impl Fn(u16) -> Option<&'a str>) -> String {
        let n = |a: &AtomicU64| a.load(Relaxed);
        let k = |a: &AtomicU32| a.load(Relaxed);
        let multi = match k(&self.multi) {
            MULTI_NONE => -1,
            queued => i64::from(queued),
        };
        let cmd = match self.cmd.load(Relaxed) {
            CMD_NONE => "NULL",
            id => command_name(id).unwrap_or("NULL"),
        };
        let texts = self.texts();
        let mut s = String::with_capacity(400);
        // Writing to a String cannot fail.
        let _infallible = write!(
            s,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} \
             ssub={} multi={multi} watch={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} \
             rbp={} obl={} oll={} omem={} tot-mem={} events=r cmd={cmd} user={} redir={} resp={} \
             lib-name={} lib-ver={}",
            self.id,
            self.peer.addr,
            self.peer.laddr,
            self.peer.fd,
            texts.name,
            self.age_ms(now_ms) / 1000,
            self.idle_ms(now_ms) / 1000,
            self.letters(),
            k(&self.db),
            k(&self.sub),
            k(&self.psub),
            k(&self.ssub),
            k(&self.watch),
            n(&self.qbuf),
            n(&self.qbuf_free),
            n(&self.argv_mem),
            n(&self.multi_mem),
            n(&self.rbs),
            n(&self.rbp),
            n(&self.obl),
            n(&self.oll),
            n(&self.omem),
            n(&self.tot_mem),
            texts.user,
            self.redirect.load(Relaxed),
            self.resp.load(Relaxed),
            texts.lib_name,
            texts.lib_ver,
        );
        s
    }

    fn letters(&self) -> String {
        let mut letters: String = LETTERS
            .iter()
            .filter(|(flag, _)| self.has_flag(*flag))
            .map(|(_, letter)| *letter)
            .collect();
        if self.is_killed() {
            letters.push('A');
        }
        if letters.is_empty() {
            letters.push('N');
        }
        letters
    }

    fn texts(&self) -> std::sync::MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientHandle {
        let peer = Peer {
            addr: "127.0.0.1:57886".to_owned(),
            laddr: "127.0.0.1:6379".to_owned(),
            fd: 9,
            unix: false,
        };
        ClientHandle::new(6, peer, 1000)
    }

    #[test]
    fn the_line_has_the_fields_of_redis_in_their_order() {
        let c = client();
        c.cmd.store(3, Relaxed);
        c.touch(3000);
        assert_eq!(
            c.line(4500, &|id| (id == 3).then_some("client|list")),
            "id=6 addr=127.0.0.1:57886 laddr=127.0.0.1:6379 fd=9 name= age=3 idle=1 flags=N db=0 \
             sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 \
             rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client|list user=default redir=-1 \
             resp=2 lib-name= lib-ver="
        );
    }

    #[test]
    fn the_total_is_the_sum_of_what_is_shown_and_a_fixed_part() {
        let c = client();
        let fixed = c.note_total();
        c.qbuf.store(10, Relaxed);
        c.qbuf_free.store(20, Relaxed);
        c.multi_mem.store(100, Relaxed);
        c.watch_mem.store(800, Relaxed);
        c.sub_mem.store(200, Relaxed);
        let total = c.note_gate(GateSizes {
            open_capacity: 2000,
            open: 7,
            open_peak: 9,
            parts: 3,
            held_capacity: 40_000,
        });
        assert_eq!(total - fixed, 43_130);
        let line = c.line(0, &|_| None);
        let expected = format!(
            "qbuf=10 qbuf-free=20 argv-mem=0 multi-mem=100 rbs=2000 rbp=9 obl=7 oll=3 omem=40000 \
             tot-mem={total} "
        );
        assert!(line.contains(&expected), "{line}");
    }

    #[test]
    fn flags_follow_the_state() {
        let c = client();
        c.set_multi(Some(2));
        c.set_flag(Flags::NoEvict, true);
        let line = c.line(0, &|_| None);
        assert!(
            line.contains(" flags=xe ") && line.contains(" multi=2 "),
            "{line}"
        );
        c.set_name("worker");
        c.reset();
        let line = c.line(0, &|_| None);
        assert!(
            line.contains(" flags=N ") && line.contains(" name= "),
            "{line}"
        );
    }
}
