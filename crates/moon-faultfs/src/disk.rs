//! All files and directories of one file system, and the operations on them.
//!
//! Nothing here knows of the kernel or of a clock: a disk is changed by method calls, and what a
//! power loss leaves of it depends on the dice alone.

use crate::content::Content;
use crate::directory::{Change, Directory, Names};
use crate::file::File;
use crate::survival::{Dice, Tally};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The root directory, by the rule of FUSE.
pub(crate) const ROOT: u64 = 1;

type Result<T> = std::result::Result<T, Errno>;

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Kind {
    File(File),
    Directory(Directory),
}

/// Who may do what with an inode; durable at once, because nothing here depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// Permission bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) owner: Owner,
    pub(crate) modified: SystemTime,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
}

/// What a disk holds while nobody uses it: before a mount, or after a power loss.
///
/// The default is an empty disk. Copies are cheap.
#[derive(Clone, Debug, Default)]
pub struct Image {
    nodes: BTreeMap<u64, Node>,
}

#[derive(Clone, Debug)]
struct Node {
    owner: Owner,
    kind: NodeKind,
}

#[derive(Clone, Debug)]
enum NodeKind {
    File(Content),
    Directory(Names),
}

impl Image {
    /// The paths of all files, from the root without a leading slash, with their bytes.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        self.walk(&mut |path, node| {
            if let NodeKind::File(content) = node {
                files.insert(path.to_owned(), read_all(content));
            }
            Ok(())
        })
        .unwrap_or_default();
        files
    }

    /// Writes everything below `dir`, which is created, as evidence of a failure.
    ///
    /// # Errors
    /// The first that occurs.
    pub fn write_to(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        self.walk(&mut |path, node| match node {
            NodeKind::File(content) => std::fs::write(dir.join(path), read_all(content)),
            NodeKind::Directory(_) => std::fs::create_dir_all(dir.join(path)),
        })
    }

    /// Visits everything below the root, directories before what is in them.
    fn walk(&self, visit: &mut dyn FnMut(&Path, &NodeKind) -> io::Result<()>) -> io::Result<()> {
        let mut open = vec![(PathBuf::new(), ROOT)];
        while let Some((path, inode)) = open.pop() {
            let Some(node) = self.nodes.get(&inode) else {
                continue;
            };
            if inode != ROOT {
                visit(&path, &node.kind)?;
            }
            if let NodeKind::Directory(names) = &node.kind {
                open.extend(names.iter().map(|(name, inode)| (path.join(name), *inode)));
            }
        }
        Ok(())
    }
}

fn read_all(content: &Content) -> Vec<u8> {
    content.read(0, usize::try_from(content.len()).unwrap_or(usize::MAX))
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Disk {
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    next_rename: u64,
    /// Renames between directories of which one half is durable.
    half_durable: BTreeSet<u64>,
}

impl Disk {
    /// The file system that finds `image` on its disk; `owner` owns the root of an empty one.
    pub(crate) fn new(image: &Image, owner: Owner) -> Self {
        let mut inodes: HashMap<u64, Inode> = HashMap::new();
        for (number, node) in &image.nodes {
            let kind = match &node.kind {
                NodeKind::File(content) => Kind::File(File::durable(content.clone())),
                NodeKind::Directory(names) => Kind::Directory(Directory::durable(names.clone())),
            };
            inodes.insert(*number, inode(kind, node.owner));
        }
        inodes
            .entry(ROOT)
            .or_insert_with(|| inode(Kind::Directory(Directory::default()), owner));
        Disk {
            next_inode: inodes.keys().max().map_or(ROOT, |last| *last) + 1,
            inodes,
            next_rename: 0,
            half_durable: BTreeSet::new(),
        }
    }

    pub(crate) fn inode(&self, number: u64) -> Result<&Inode> {
        self.inodes.get(&number).ok_or(Errno::ESTALE)
    }

    pub(crate) fn inode_mut(&mut self, number: u64) -> Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or(Errno::ESTALE)
    }

    pub(crate) fn file(&self, number: u64) -> Result<&File> {
        match &self.inode(number)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    /// A file that is about to change.
    pub(crate) fn file_mut(&mut self, number: u64) -> Result<&mut File> {
        let inode = self.inode_mut(number)?;
        inode.modified = SystemTime::now();
        match &mut inode.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    pub(crate) fn directory(&self, number: u64) -> Result<&Directory> {
        match &self.inode(number)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, number: u64) -> Result<&mut Directory> {
        let inode = self.inode_mut(number)?;
        inode.modified = SystemTime::now();
        match &mut inode.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// The inode of `name`, which the kernel knows from now on.
    pub(crate) fn look_up(&mut self, parent: u64, name: &OsStr) -> Result<u64> {
        let number = self.directory(parent)?.get(name).ok_or(Errno::ENOENT)?;
        self.inode_mut(number)?.lookups += 1;
        Ok(number)
    }

    /// The kernel forgets `count` of the times it was told of an inode.
    pub(crate) fn forget(&mut self, number: u64, count: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.lookups = inode.lookups.saturating_sub(count);
        }
    }

    /// Creates a file or directory, which the kernel knows from now on.
    pub(crate) fn create(
        &mut self,
        parent: u64,
        name: &OsStr,
        kind: Kind,
        owner: Owner,
    ) -> Result<u64> {
        let number = self.next_inode;
        let directory = self.directory_mut(parent)?;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        directory.change(Change::Add {
            name: name.to_owned(),
            inode: number,
        });
        self.next_inode += 1;
        let inode = self.inodes.entry(number).or_insert(inode(kind, owner));
        inode.lookups += 1;
        Ok(number)
    }

    /// Gives the file `number` another name.
    pub(crate) fn link(&mut self, number: u64, parent: u64, name: &OsStr) -> Result<()> {
        self.file(number).map_err(|_| Errno::EPERM)?;
        let directory = self.directory_mut(parent)?;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        directory.change(Change::Add {
            name: name.to_owned(),
            inode: number,
        });
        self.inode_mut(number)?.lookups += 1;
        Ok(())
    }

    /// Removes the name of a file.
    pub(crate) fn unlink(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        let number = self.directory(parent)?.get(name).ok_or(Errno::ENOENT)?;
        self.file(number)?;
        self.remove_name(parent, name)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        let number = self.directory(parent)?.get(name).ok_or(Errno::ENOENT)?;
        if !self.directory(number)?.names().is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove_name(parent, name)
    }

    fn remove_name(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        let name = name.to_owned();
        self.directory_mut(parent)?.change(Change::Remove { name });
        self.collect();
        Ok(())
    }

    /// Renames, replacing a file or an empty directory of the new name.
    pub(crate) fn rename(
        &mut self,
        (from_parent, from): (u64, &OsStr),
        (to_parent, to): (u64, &OsStr),
    ) -> Result<()> {
        let number = self.directory(from_parent)?.get(from);
        let number = number.ok_or(Errno::ENOENT)?;
        if let Some(replaced) = self.directory(to_parent)?.get(to) {
            if replaced == number {
                return Ok(());
            }
            match (&self.inode(number)?.kind, &self.inode(replaced)?.kind) {
                (Kind::File(_), Kind::Directory(_)) => return Err(Errno::EISDIR),
                (Kind::Directory(_), Kind::File(_)) => return Err(Errno::ENOTDIR),
                (_, Kind::Directory(directory)) if !directory.names().is_empty() => {
                    return Err(Errno::ENOTEMPTY);
                }
                _ => {}
            }
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        if from_parent == to_parent {
            self.directory_mut(from_parent)?
                .change(Change::Rename { from, to });
        } else {
            let rename = self.next_rename;
            self.next_rename += 1;
            self.directory_mut(from_parent)?
                .change(Change::MoveOut { name: from, rename });
            self.directory_mut(to_parent)?.change(Change::MoveIn {
                name: to,
                inode: number,
                rename,
            });
        }
        self.collect();
        Ok(())
    }

    /// The names in a directory are durable as they are.
    pub(crate) fn synced_directory(&mut self, number: u64) -> Result<()> {
        let renames = match &mut self.inode_mut(number)?.kind {
            Kind::Directory(directory) => directory.synced(),
            Kind::File(_) => return Err(Errno::ENOTDIR),
        };
        for rename in renames {
            // The second half to become durable ends the matter.
            if !self.half_durable.remove(&rename) {
                self.half_durable.insert(rename);
            }
        }
        self.collect();
        Ok(())
    }

    /// Bytes that all files with a name take, holes included.
    pub(crate) fn used_bytes(&self) -> u64 {
        let mut named = BTreeSet::new();
        for inode in self.inodes.values() {
            if let Kind::Directory(directory) = &inode.kind {
                named.extend(directory.names().values());
            }
        }
        let files = named.iter().filter_map(|number| self.file(*number).ok());
        files.map(|file| file.content().len()).sum()
    }

    /// Where a program finds the inode; empty if it has no name.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, at)) = open.pop() {
            if at == number {
                return path;
            }
            if let Ok(directory) = self.directory(at) {
                let below = directory.names().iter();
                open.extend(below.map(|(name, inode)| (path.join(name), *inode)));
            }
        }
        PathBuf::new()
    }

    /// Drops what neither the kernel nor a power loss can bring back.
    fn collect(&mut self) {
        let mut reachable: BTreeSet<u64> = BTreeSet::from([ROOT]);
        for inode in self.inodes.values() {
            if let Kind::Directory(directory) = &inode.kind {
                reachable.extend(directory.inodes());
            }
        }
        self.inodes
            .retain(|number, inode| inode.lookups > 0 || reachable.contains(number));
    }

    /// What a power loss at this moment leaves.
    pub(crate) fn survivor(&self, dice: &mut Dice, tally: &mut Tally) -> Image {
        let kept = self.kept_names(dice);
        let mut nodes = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            // A file with two names is met twice and must not be decided twice.
            let Some(inode) = self
                .inodes
                .get(&number)
                .filter(|_| !nodes.contains_key(&number))
            else {
                continue;
            };
            let kind = match &inode.kind {
                Kind::File(file) => NodeKind::File(file.survivor(dice, tally)),
                Kind::Directory(directory) => {
                    let count = kept.get(&number).copied().unwrap_or(0);
                    tally.names_kept += count as u64;
                    tally.names_dropped += (directory.pending() - count) as u64;
                    let names = directory.survivor(count);
                    open.extend(names.values());
                    NodeKind::Directory(names)
                }
            };
            let owner = inode.owner;
            nodes.insert(number, Node { owner, kind });
        }
        Image { nodes }
    }

    /// How many of the pending changes of each directory take place.
    fn kept_names(&self, dice: &mut Dice) -> BTreeMap<u64, usize> {
        // In the order of the numbers, so that the same dice decide the same.
        let directories: BTreeMap<u64, &Directory> = self
            .inodes
            .iter()
            .filter_map(|(number, inode)| match &inode.kind {
                Kind::Directory(directory) => Some((*number, directory)),
                Kind::File(_) => None,
            })
            .collect();
        let mut kept: BTreeMap<u64, usize> = directories
            .iter()
            .map(|(number, directory)| (*number, dice.prefix(directory.pending())))
            .collect();
        // A rename between directories took place in both or in none.
        loop {
            let done: BTreeSet<u64> = directories
                .iter()
                .flat_map(|(number, directory)| directory.renames(kept[number]))
                .chain(self.half_durable.iter().copied())
                .collect();
            let mut is_stable = true;
            for (number, directory) in &directories {
                let count = kept[number];
                let extended = directory.extended(count, |rename| done.contains(&rename));
                is_stable &= extended == count;
                kept.insert(*number, extended);
            }
            if is_stable {
                return kept;
            }
        }
    }
}

fn inode(kind: Kind, owner: Owner) -> Inode {
    Inode {
        kind,
        owner,
        modified: SystemTime::now(),
        lookups: 0,
    }
}

/// The entries of a directory as `readdir` lists them.
pub(crate) fn listing(disk: &Disk, number: u64) -> Result<Vec<(OsString, u64, bool)>> {
    let names = disk.directory(number)?.names();
    let mut all = vec![(".".into(), number, true), ("..".into(), ROOT, true)];
    for (name, inode) in names {
        let is_directory = matches!(disk.inode(*inode)?.kind, Kind::Directory(_));
        all.push((name.clone(), *inode, is_directory));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };

    fn disk() -> Disk {
        Disk::new(&Image::default(), OWNER)
    }

    fn new_file(disk: &mut Disk, parent: u64, name: &str) -> u64 {
        disk.create(parent, name.as_ref(), Kind::File(File::default()), OWNER)
            .expect("a new name")
    }

    fn new_directory(disk: &mut Disk, parent: u64, name: &str) -> u64 {
        let kind = Kind::Directory(Directory::default());
        disk.create(parent, name.as_ref(), kind, OWNER)
            .expect("a new name")
    }

    fn write(disk: &mut Disk, number: u64, bytes: &[u8]) {
        let file = disk.file_mut(number).expect("a file");
        file.write(0, bytes);
        let changes = file.changes();
        file.synced(changes);
    }

    fn survivors(disk: &Disk) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        (0..300)
            .map(|seed| disk.survivor(&mut Dice::new(seed), &mut Tally::default()))
            .map(|image| image.files())
            .collect()
    }

    #[test]
    fn a_synced_file_without_a_synced_name_may_be_gone() {
        let mut disk = disk();
        let file = new_file(&mut disk, ROOT, "a");
        write(&mut disk, file, b"bytes");
        let all = survivors(&disk);
        assert!(all.iter().any(BTreeMap::is_empty));
        assert!(all.iter().any(|files| files[Path::new("a")] == b"bytes"));
        disk.synced_directory(ROOT).expect("a directory");
        for files in survivors(&disk) {
            assert_eq!(files[Path::new("a")], b"bytes");
        }
    }

    #[test]
    fn a_replaced_file_comes_back_until_its_directory_is_synced() {
        let mut disk = disk();
        let old = new_file(&mut disk, ROOT, "manifest");
        write(&mut disk, old, b"old");
        disk.synced_directory(ROOT).expect("a directory");
        let new = new_file(&mut disk, ROOT, "temp");
        write(&mut disk, new, b"new");
        disk.rename((ROOT, "temp".as_ref()), (ROOT, "manifest".as_ref()))
            .expect("both are files");
        disk.forget(old, 1);
        let found: BTreeSet<Vec<u8>> = survivors(&disk)
            .iter()
            .map(|files| files[Path::new("manifest")].clone())
            .collect();
        assert_eq!(found, [b"old".to_vec(), b"new".to_vec()].into());
        disk.synced_directory(ROOT).expect("a directory");
        assert!(disk.inode(old).is_err(), "nothing can bring it back");
        for files in survivors(&disk) {
            assert_eq!(files[Path::new("manifest")], b"new");
        }
    }

    #[test]
    fn a_rename_between_directories_is_done_in_both_or_in_none() {
        let mut disk = disk();
        let (a, b) = (
            new_directory(&mut disk, ROOT, "a"),
            new_directory(&mut disk, ROOT, "b"),
        );
        let file = new_file(&mut disk, a, "f");
        write(&mut disk, file, b"x");
        for number in [a, b, ROOT] {
            disk.synced_directory(number).expect("a directory");
        }
        disk.rename((a, "f".as_ref()), (b, "g".as_ref()))
            .expect("a file");
        let places = |disk: &Disk| -> BTreeSet<Vec<PathBuf>> {
            let all = survivors(disk);
            all.iter().map(|f| f.keys().cloned().collect()).collect()
        };
        let (before, after) = (vec![PathBuf::from("a/f")], vec![PathBuf::from("b/g")]);
        assert_eq!(places(&disk), [before, after.clone()].into());
        disk.synced_directory(a).expect("a directory");
        assert_eq!(places(&disk), [after].into());
    }

    #[test]
    fn what_survived_is_a_disk_again() {
        let mut first = disk();
        let dir = new_directory(&mut first, ROOT, "d");
        let file = new_file(&mut first, dir, "f");
        write(&mut first, file, b"bytes");
        first.synced_directory(dir).expect("a directory");
        first.synced_directory(ROOT).expect("a directory");
        let image = first.survivor(&mut Dice::new(1), &mut Tally::default());
        let mut second = Disk::new(&image, OWNER);
        let dir = second.look_up(ROOT, "d".as_ref()).expect("it is there");
        let file = second.look_up(dir, "f".as_ref()).expect("it is there");
        assert_eq!(second.path(file), Path::new("/d/f"));
        assert_eq!(
            second.file(file).expect("a file").content().read(0, 9),
            b"bytes"
        );
        assert_eq!(new_file(&mut second, dir, "g"), file + 1);
        assert_eq!(second.used_bytes(), 5);
    }

    #[test]
    fn the_same_seed_leaves_the_same() {
        let mut disk = disk();
        for name in ["a", "b", "c"] {
            let dir = new_directory(&mut disk, ROOT, name);
            let file = new_file(&mut disk, dir, "f");
            disk.file_mut(file).expect("a file").write(0, &[7; 9000]);
        }
        assert_eq!(survivors(&disk), survivors(&disk));
    }
}
