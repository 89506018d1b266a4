//! What one client has asked for with CLIENT TRACKING, and what it may ask for next.

use crate::clients::{ClientHandle, Flags};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

bitflags::bitflags! {
    /// How a client tracks.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Mode: u8 {
        /// It is told of all changes of keys with its prefixes, whatever it has read.
        const BCAST = 1;
        /// Only what is read behind CLIENT CACHING YES is remembered.
        const OPTIN = 1 << 1;
        /// What is read behind CLIENT CACHING NO is not remembered.
        const OPTOUT = 1 << 2;
        /// It is not told of its own changes.
        const NOLOOP = 1 << 3;
    }
}

/// Why a request to track is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts tell")]
pub enum TrackError {
    #[error("ERR PREFIX option requires BCAST mode to be enabled")]
    PrefixWithoutBroadcast,
    #[error(
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
    )]
    SwitchesBroadcast,
    #[error("ERR OPTIN and OPTOUT are not compatible with BCAST")]
    OptionsWithBroadcast,
    #[error("ERR You can't specify both OPTIN mode and OPTOUT mode")]
    BothOptions,
    #[error(
        "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
    )]
    SwitchesOption,
    #[error(
        "ERR Prefix '{new}' overlaps with an existing prefix '{old}'. Prefixes for a single client must not overlap."
    )]
    OverlapsExisting { new: String, old: String },
    #[error(
        "ERR Prefix '{new}' overlaps with another provided prefix '{other}'. Prefixes for a single client must not overlap."
    )]
    OverlapsGiven { new: String, other: String },
}

/// A client that tracks. Lives as long as it does.
#[derive(Debug)]
pub struct Tracked {
    /// The client.
    pub client: Arc<ClientHandle>,
    mode: Cell<Mode>,
    /// The client that is told in its place; 0 for itself.
    pub redirect: Cell<u64>,
    /// That client was gone when it was to be told.
    pub is_broken: Cell<bool>,
    /// CLIENT CACHING was given, for the next command.
    pub caching: Cell<bool>,
    prefixes: RefCell<BTreeSet<Arc<[u8]>>>,
}

impl Tracked {
    pub(super) fn new(client: Arc<ClientHandle>) -> Tracked {
        Tracked {
            client,
            mode: Cell::default(),
            redirect: Cell::new(0),
            is_broken: Cell::new(false),
            caching: Cell::new(false),
            prefixes: RefCell::default(),
        }
    }

    /// Whether it tracks in a mode.
    #[must_use]
    pub fn has(&self, mode: Mode) -> bool {
        self.mode.get().contains(mode)
    }

    /// Whether what its next command reads is to be remembered.
    #[must_use]
    pub fn remembers(&self) -> bool {
        match self.mode.get() {
            mode if mode.contains(Mode::BCAST) => false,
            mode if mode.contains(Mode::OPTIN) => self.caching.get(),
            mode if mode.contains(Mode::OPTOUT) => !self.caching.get(),
            _ => true,
        }
    }

    /// Its prefixes, in order.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Arc<[u8]>> {
        self.prefixes.borrow().iter().map(Arc::clone).collect()
    }

    pub(super) fn change(&self, mode: Mode, redirect: u64) {
        self.mode.set(mode);
        self.redirect.set(redirect);
        self.is_broken.set(false);
        for (flag, on) in [
            (Flags::Tracking, true),
            (Flags::BrokenRedirect, false),
            (Flags::Broadcast, mode.contains(Mode::BCAST)),
        ] {
            self.client.set_flag(flag, on);
        }
        let redirect = i64::try_from(redirect).unwrap_or(i64::MAX);
        self.client.redirect.store(redirect, Relaxed);
    }

    /// CLIENT LIST shows that it tracks no more.
    pub(super) fn show_end(&self) {
        for flag in [Flags::Tracking, Flags::BrokenRedirect, Flags::Broadcast] {
            self.client.set_flag(flag, false);
        }
        self.client.redirect.store(-1, Relaxed);
    }

    /// Adds a prefix; whether it is new.
    pub(super) fn add_prefix(&self, prefix: &Arc<[u8]>) -> bool {
        self.prefixes.borrow_mut().insert(Arc::clone(prefix))
    }

    /// Checks whether a client that tracks as `now` says may go on in `mode` with more `prefixes`,
    /// in the order of Redis.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(now: Option<&Tracked>, mode: Mode, prefixes: &[&[u8]]) -> Result<(), TrackError> {
        let is_broadcast = mode.contains(Mode::BCAST);
        if !is_broadcast && !prefixes.is_empty() {
            return Err(TrackError::PrefixWithoutBroadcast);
        }
        if now.is_some_and(|now| now.has(Mode::BCAST) != is_broadcast) {
            return Err(TrackError::SwitchesBroadcast);
        }
        let options = Mode::OPTIN | Mode::OPTOUT;
        if is_broadcast && mode.intersects(options) {
            return Err(TrackError::OptionsWithBroadcast);
        }
        if mode.contains(options) {
            return Err(TrackError::BothOptions);
        }
        let given = |mode: Mode, option| mode.contains(option);
        if let Some(was) = now.map(|now| now.mode.get())
            && (given(mode, Mode::OPTIN) && given(was, Mode::OPTOUT)
                || given(mode, Mode::OPTOUT) && given(was, Mode::OPTIN))
        {
            return Err(TrackError::SwitchesOption);
        }
        let existing = now.map(Tracked::prefixes).unwrap_or_default();
        check_overlaps(&existing, prefixes)
    }
}

fn check_overlaps(existing: &[Arc<[u8]>], given: &[&[u8]]) -> Result<(), TrackError> {
    let text = |prefix: &[u8]| String::from_utf8_lossy(prefix).into_owned();
    for (at, new) in given.iter().enumerate() {
        if let Some(old) = existing.iter().find(|old| overlap(old, new)) {
            let (new, old) = (text(new), text(old));
            return Err(TrackError::OverlapsExisting { new, old });
        }
        if let Some(other) = given[at + 1..].iter().find(|other| overlap(new, other)) {
            let (new, other) = (text(new), text(other));
            return Err(TrackError::OverlapsGiven { new, other });
        }
    }
    Ok(())
}

/// Whether one is a prefix of the other.
fn overlap(a: &[u8], b: &[u8]) -> bool {
    let len = a.len().min(b.len());
    a[..len] == b[..len]
}
