//! [`Storage`] in memory that behaves as badly as a real one may.
//!
//! # The model
//!
//! What a program sees is the volatile state. What survives a power loss is the durable state
//! plus a random part of what was done since the last sync:
//!
//! * Bytes of a file: each 512-byte sector of each unsynced write is there or not, independently
//!   (so writes tear and are reordered). Each unsynced change of length happened or not.
//! * Names of a directory: each unsynced creation, renaming and removal happened or not; a
//!   renaming is one step, between two directories too: a sync of either makes it durable.
//! * A failed sync drops what it should have written: later syncs succeed without it, and the
//!   bytes are gone after a power loss although reads still showed them.
//!
//! [`FaultyStorage::crash`] returns what is left after a power loss, [`FaultyStorage::kill`]
//! after the death of the process alone. [`Rule`]s make operations fail, tear or wait. After a
//! crash, handles of the old image go on working on the old image, which nobody looks at.

use crate::storage::{Storage, StorageFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Unit in which unsynced bytes survive or not.
const SECTOR: u64 = 512;

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writing bytes.
    Write,
    /// Syncing a file.
    Sync,
    /// Changing a file's length.
    Truncate,
    /// Allocating space.
    Allocate,
    /// Syncing a directory.
    SyncDir,
    /// Giving a file another name.
    Rename,
    /// Creating a file.
    Create,
    /// Removing a file.
    Remove,
}

/// What happens instead of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this OS error number and does nothing (a sync also loses its bytes).
    Error(i32),
    /// A write takes at most this many bytes.
    Short(usize),
    /// It waits until [`FaultyStorage::release`].
    Stall,
    /// This and every later operation of any kind fails and does nothing, as if the process had
    /// died here.
    Halt,
}

/// When an operation goes wrong.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which operation; `None` for every one.
    pub operation: Option<Operation>,
    /// Only on paths that contain this.
    pub path: String,
    /// How many matching operations go well first.
    pub skip: u64,
    /// How many then go wrong.
    pub times: u64,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// A rule that meets every operation of one kind on matching paths from now on.
    #[must_use]
    pub fn every(operation: Operation, path: &str, fault: Fault) -> Rule {
        Rule {
            operation: Some(operation),
            path: path.to_owned(),
            skip: 0,
            times: u64::MAX,
            fault,
        }
    }

    /// The same, for the next matching operation only.
    #[must_use]
    pub fn once(operation: Operation, path: &str, fault: Fault) -> Rule {
        Rule {
            times: 1,
            ..Rule::every(operation, path, fault)
        }
    }
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyStorage(Arc<Disk>);

struct Disk {
    inner: Mutex<Inner>,
    released: Condvar,
}

#[derive(Default)]
struct Inner {
    files: Vec<FileState>,
    dirs: BTreeMap<PathBuf, DirState>,
    locks: BTreeSet<PathBuf>,
    rules: Vec<Rule>,
    halted: bool,
    /// Bytes all files together may have.
    capacity: Option<u64>,
    random: u64,
    operations: u64,
    /// Renamings from one directory to another so far.
    moves: u64,
}

#[derive(Clone, Default)]
struct FileState {
    path: PathBuf,
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What happened since the last sync, in order.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Default)]
struct DirState {
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    /// Whether the directory's own name survives a power loss.
    durable_itself: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(String, usize),
    Rename(String, String, usize),
    Remove(String),
    /// Half of a renaming from another directory, and the number that both halves have.
    Arrive(String, usize, u64),
    /// The other half.
    Leave(String, u64),
}

impl NameChange {
    fn move_number(&self) -> Option<u64> {
        match self {
            NameChange::Arrive(_, _, number) | NameChange::Leave(_, number) => Some(*number),
            _ => None,
        }
    }
}

struct Handle {
    disk: Arc<Disk>,
    file: usize,
    /// The name it was opened by.
    path: PathBuf,
}

struct LockGuard {
    disk: Arc<Disk>,
    path: PathBuf,
}

impl FaultyStorage {
    /// An empty disk whose root directory exists. `seed` decides its random bytes.
    #[must_use]
    pub fn new(seed: u64) -> FaultyStorage {
        let root = DirState {
            durable_itself: true,
            ..DirState::default()
        };
        FaultyStorage::from_inner(Inner {
            dirs: BTreeMap::from([(PathBuf::from("/"), root)]),
            random: seed,
            ..Inner::default()
        })
    }

    fn from_inner(inner: Inner) -> FaultyStorage {
        FaultyStorage(Arc::new(Disk {
            inner: Mutex::new(inner),
            released: Condvar::new(),
        }))
    }

    /// Adds a rule; the first that matches an operation decides.
    pub fn add_rule(&self, rule: Rule) {
        self.0.lock().rules.push(rule);
    }

    /// Removes all rules and lets every stalled operation go on.
    pub fn release(&self) {
        self.0.lock().rules.clear();
        self.0.released.notify_all();
    }

    /// Lets all files together have at most `bytes` bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// How many operations a [`Rule`] could have met so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Whether a [`Fault::Halt`] was met.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.0.lock().halted
    }

    /// What is on the disk after a power loss; `seed` decides what of the unsynced survives.
    #[must_use]
    pub fn crash(&self, seed: u64) -> FaultyStorage {
        let inner = self.0.lock();
        let mut random = Random(seed);
        let moved: Vec<bool> = (0..inner.moves).map(|_| random.flip()).collect();
        let files: Vec<FileState> = inner.files.iter().map(|f| f.crash(&mut random)).collect();
        let mut dirs: BTreeMap<PathBuf, DirState> = inner
            .dirs
            .iter()
            .filter_map(|(path, dir)| Some((path.clone(), dir.crash(&mut random, &moved)?)))
            .collect();
        let paths: BTreeSet<PathBuf> = dirs.keys().cloned().collect();
        dirs.retain(|path, _| path.ancestors().all(|above| paths.contains(above)));
        FaultyStorage::from_inner(Inner {
            files,
            dirs,
            random: seed ^ 0x5bd1_e995,
            ..Inner::default()
        })
    }

    /// What the next process sees after this one died: everything written, synced or not.
    #[must_use]
    pub fn kill(&self) -> FaultyStorage {
        let inner = self.0.lock();
        FaultyStorage::from_inner(Inner {
            files: inner.files.clone(),
            dirs: inner.dirs.clone(),
            random: inner.random ^ 0x1656_67b1,
            ..Inner::default()
        })
    }

    /// Every file's path and bytes as the program sees them.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inner = self.0.lock();
        let mut out = BTreeMap::new();
        for (dir, state) in &inner.dirs {
            for (name, file) in &state.names {
                out.insert(dir.join(name), inner.files[*file].bytes.clone());
            }
        }
        out
    }

    /// Changes the bytes of a file, on the disk itself: damage.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut inner = self.0.lock();
        let file = inner.find(path)?;
        let state = &mut inner.files[file];
        change(&mut state.bytes);
        state.durable = state.bytes.clone();
        state.pending.clear();
        Ok(())
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the rules to an operation; the largest number of bytes a write may take.
    fn enter(
        &self,
        operation: Operation,
        path: &Path,
    ) -> (MutexGuard<'_, Inner>, io::Result<usize>) {
        let mut inner = self.lock();
        loop {
            if inner.halted {
                return (inner, Err(io::Error::from_raw_os_error(5)));
            }
            match inner.fault(operation, path) {
                None => return (inner, Ok(usize::MAX)),
                Some(Fault::Error(errno)) => {
                    return (inner, Err(io::Error::from_raw_os_error(errno)));
                }
                Some(Fault::Short(bytes)) => return (inner, Ok(bytes)),
                Some(Fault::Halt) => inner.halted = true,
                Some(Fault::Stall) => {
                    let waited = self.released.wait(inner);
                    inner = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Inner {
    fn fault(&mut self, operation: Operation, path: &Path) -> Option<Fault> {
        self.operations += 1;
        let path = path.to_string_lossy();
        let matching = |rule: &&mut Rule| {
            rule.operation.is_none_or(|wanted| wanted == operation)
                && path.contains(&rule.path)
                && rule.times > 0
        };
        let rule = self.rules.iter_mut().find(matching)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        if rule.fault != Fault::Stall {
            rule.times -= 1;
        }
        Some(rule.fault)
    }

    /// An error once a [`Fault::Halt`] has struck.
    fn alive(&self) -> io::Result<()> {
        if self.halted {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut DirState> {
        self.dirs
            .get_mut(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let (dir, name) = split(path)?;
        let found = self.dir(dir)?.names.get(&name).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FileState {
    fn change(&mut self, change: Change) {
        apply(&mut self.bytes, &change);
        self.pending.push(change);
    }

    fn crash(&self, random: &mut Random) -> FileState {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Len(_) if random.flip() => apply(&mut bytes, change),
                Change::Len(_) => {}
                Change::Write(at, data) => {
                    for (from, to) in sectors(*at, data.len() as u64) {
                        if random.flip() {
                            let part = data[index(from - at)..index(to - at)].to_vec();
                            apply(&mut bytes, &Change::Write(from, part));
                        }
                    }
                }
            }
        }
        FileState {
            path: self.path.clone(),
            durable: bytes.clone(),
            bytes,
            pending: Vec::new(),
        }
    }
}

impl DirState {
    fn change(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.pending.push(change);
    }

    /// `moved` says for each renaming between directories whether it happened.
    fn crash(&self, random: &mut Random, moved: &[bool]) -> Option<DirState> {
        if !self.durable_itself && random.flip() {
            return None;
        }
        let mut names = self.durable.clone();
        for change in &self.pending {
            let happened = match change.move_number() {
                Some(number) => usize::try_from(number).is_ok_and(|number| moved[number]),
                None => random.flip(),
            };
            if happened {
                apply_name(&mut names, change);
            }
        }
        Some(DirState {
            durable: names.clone(),
            names,
            pending: Vec::new(),
            durable_itself: true,
        })
    }
}

impl DirState {
    /// The other halves of renamings that were synced in another directory.
    fn settle(&mut self, moves: &BTreeSet<u64>) {
        let is_settled = |change: &NameChange| {
            let number = change.move_number();
            number.is_some_and(|number| moves.contains(&number))
        };
        for change in self.pending.iter().filter(|change| is_settled(change)) {
            apply_name(&mut self.durable, change);
        }
        self.pending.retain(|change| !is_settled(change));
    }
}

impl Storage for FaultyStorage {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.0.lock().find(path)?;
        Ok(Arc::new(Handle {
            disk: self.0.clone(),
            file,
            path: path.to_owned(),
        }))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let (mut inner, verdict) = self.0.enter(Operation::Create, path);
        verdict?;
        let (dir, name) = split(path)?;
        let file = match inner.find(path) {
            Ok(file) => {
                inner.files[file].change(Change::Len(0));
                file
            }
            Err(_) => {
                let file = inner.files.len();
                inner.dir(dir)?.change(NameChange::Set(name, file));
                inner.files.push(FileState {
                    path: path.to_owned(),
                    ..FileState::default()
                });
                file
            }
        };
        Ok(Arc::new(Handle {
            disk: self.0.clone(),
            file,
            path: path.to_owned(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut inner, verdict) = self.0.enter(Operation::Rename, to);
        verdict?;
        let file = inner.find(from)?;
        let (dir, old) = split(from)?;
        let (target, new) = split(to)?;
        if target == dir {
            inner.files[file].path = to.to_owned();
            inner.dir(dir)?.change(NameChange::Rename(old, new, file));
            return Ok(());
        }
        // Every directory below the root is a file system of its own here.
        if dir.components().nth(1) != target.components().nth(1) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let number = inner.moves;
        let arrival = NameChange::Arrive(new, file, number);
        inner.dir(target)?.change(arrival);
        inner.moves += 1;
        inner.dir(dir)?.change(NameChange::Leave(old, number));
        inner.files[file].path = to.to_owned();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut inner, verdict) = self.0.enter(Operation::Remove, path);
        verdict?;
        inner.find(path)?;
        let (dir, name) = split(path)?;
        inner.dir(dir)?.change(NameChange::Remove(name));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut inner, verdict) = self.0.enter(Operation::SyncDir, path);
        verdict?;
        let dir = inner.dir(path)?;
        dir.durable = dir.names.clone();
        let moves = dir.pending.drain(..);
        let moves: BTreeSet<u64> = moves.filter_map(|change| change.move_number()).collect();
        for state in inner.dirs.values_mut() {
            state.settle(&moves);
        }
        for (child, state) in &mut inner.dirs {
            if child.parent() == Some(path) {
                state.durable_itself = true;
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.0.lock();
        let mut names: Vec<String> = inner.dir(dir)?.names.keys().cloned().collect();
        for child in inner
            .dirs
            .keys()
            .filter(|child| child.parent() == Some(dir))
        {
            names.extend(child.file_name().map(|n| n.to_string_lossy().into_owned()));
        }
        Ok(names)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (mut inner, verdict) = self.0.enter(Operation::Create, path);
        verdict?;
        inner.dir(path.parent().unwrap_or(Path::new("/")))?;
        inner.dirs.entry(path.to_owned()).or_default();
        Ok(())
    }

    /// A removed directory is gone for good: it had no names, durable ones included, that a
    /// power loss could bring back.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.alive()?;
        let dir = inner.dir(path)?;
        if !dir.names.is_empty() || !dir.durable.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        inner.dirs.remove(path);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if !self.0.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard {
            disk: self.0.clone(),
            path: path.to_owned(),
        }))
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut inner = self.0.lock();
        let mut random = Random(inner.random);
        let (first, second) = (random.next(), random.next());
        inner.random = random.0;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..].copy_from_slice(&second.to_le_bytes());
        Ok(bytes)
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

impl Handle {
    fn path(&self) -> PathBuf {
        self.disk.lock().files[self.file].path.clone()
    }
}

impl StorageFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.lock();
        let bytes = &inner.files[self.file].bytes;
        let from = index(offset).min(bytes.len());
        let len = buffer.len().min(bytes.len() - from);
        buffer[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let (mut inner, verdict) = self.disk.enter(Operation::Write, &self.path());
        let mut most = verdict? as u64;
        let file = &inner.files[self.file];
        if let Some(capacity) = inner.capacity {
            let free = capacity.saturating_sub(inner.used());
            let inside = (file.bytes.len() as u64).saturating_sub(offset);
            most = most.min(inside + free);
            if most == 0 {
                return Err(io::Error::from_raw_os_error(28));
            }
        }
        let mut data: Vec<u8> = Vec::new();
        for part in buffers {
            let room = index(most) - data.len();
            data.extend_from_slice(&part[..part.len().min(room)]);
        }
        let written = data.len();
        inner.files[self.file].change(Change::Write(offset, data));
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut inner, verdict) = self.disk.enter(Operation::Sync, &self.path());
        let halted = inner.halted;
        let file = &mut inner.files[self.file];
        match verdict {
            Ok(_) => {
                // What an earlier failed sync lost stays lost.
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &change);
                }
                Ok(())
            }
            Err(error) => {
                if !halted {
                    file.pending.clear();
                }
                Err(error)
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let (mut inner, verdict) = self.disk.enter(Operation::Truncate, &self.path());
        verdict?;
        inner.files[self.file].change(Change::Len(len));
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (mut inner, verdict) = self.disk.enter(Operation::Allocate, &self.path());
        verdict?;
        let now = inner.files[self.file].bytes.len() as u64;
        let more = (offset + len).saturating_sub(now);
        if inner.capacity.is_some_and(|all| inner.used() + more > all) {
            return Err(io::Error::from_raw_os_error(28));
        }
        if more > 0 {
            inner.files[self.file].change(Change::Len(offset + len));
        }
        Ok(())
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let mut inner = self.disk.lock();
        Ok(inner.find(&self.path).ok() == Some(self.file))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.file].bytes.len() as u64)
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Len(len) => bytes.resize(index(*len), 0),
        Change::Write(at, data) => {
            let (from, to) = (index(*at), index(*at) + data.len());
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(data);
        }
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Set(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Rename(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        NameChange::Arrive(name, file, _) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Remove(name) | NameChange::Leave(name, _) => {
            names.remove(name);
        }
    }
}

/// The pieces of a write that fall into one sector each.
fn sectors(at: u64, len: u64) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let mut from = at;
    while from < at + len {
        let to = ((from / SECTOR + 1) * SECTOR).min(at + len);
        out.push((from, to));
        from = to;
    }
    out
}

fn split(path: &Path) -> io::Result<(&Path, String)> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((dir, name.to_string_lossy().into_owned()))
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// SplitMix64: enough for tests, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would hide the state"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }
}
