//! The engine of one shard: which scripts and libraries it has, against those of the process.

use super::cache::{EVALUATED_MAX, Origin};
use super::host::LoadHost;
use super::{Kind, Scripts};
use moon_script::{Engine, LibraryError, Limits, LoadError, ScriptSha};
use moon_store::{Libraries, Library};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

thread_local! {
    static ENGINE: Cell<Option<Box<ShardEngine>>> = const { Cell::new(None) };
}

/// Scripts, and functions, of which it is remembered whether they keep to the keys they declare.
const REACH_MAX: usize = 4096;

/// What has been seen of the keys that something touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Those that it declares, so far.
    Declared,
    /// Others, on other shards.
    Undeclared,
}

/// One shard's engine. It is moved to whoever runs something, and back.
pub(super) struct ShardEngine {
    pub(super) lua: Engine,
    /// The flushes of the process's scripts that this engine has seen.
    flushes: u64,
    /// The version of the libraries that it has.
    version: u64,
    /// Scripts that came with EVAL, the one that was loaded first in front.
    evaluated: VecDeque<ScriptSha>,
    /// What has run here, by [`Kind`] and name.
    reach: [HashMap<Box<[u8]>, Reach>; 2],
}

/// A version of the libraries that there never is: the engine has others.
const NO_VERSION: u64 = u64::MAX;

impl ShardEngine {
    /// Takes this thread's engine, made if it is the first time.
    ///
    /// # Errors
    /// The error reply, if there is no memory for one.
    pub(super) fn take() -> Result<Box<ShardEngine>, String> {
        if let Some(engine) = ENGINE.take() {
            return Ok(engine);
        }
        let limits = Limits::default();
        let lua = super::fiber::on_own_stack(move || Engine::new(limits)).map_err(|error| {
            tracing::error!("Cannot make a Lua engine: {error}");
            "ERR no memory for the Lua engine".to_owned()
        })?;
        Ok(Box::new(ShardEngine {
            lua,
            flushes: 0,
            version: 0,
            evaluated: VecDeque::new(),
            reach: Default::default(),
        }))
    }

    /// As [`ShardEngine::take`], if this thread has made one.
    pub(super) fn take_made() -> Option<Box<ShardEngine>> {
        ENGINE.take()
    }

    /// Leaves the engine for the next one.
    pub(super) fn put_back(self: Box<Self>) {
        ENGINE.set(Some(self));
    }

    /// Forgets the scripts if they were flushed since.
    pub(super) fn follow_flush(&mut self, scripts: &Scripts) {
        let flushes = scripts.cache.flushes();
        if self.flushes != flushes {
            self.flushes = flushes;
            self.evaluated.clear();
            self.reach.iter_mut().for_each(HashMap::clear);
            self.lua.flush();
        }
    }

    /// Takes a script in that this engine does not have. On the second stack.
    pub(super) fn load(
        &mut self,
        scripts: &Scripts,
        body: &[u8],
        origin: Origin,
    ) -> Result<ScriptSha, LoadError> {
        let sha = self.lua.load(body)?;
        scripts.cache.insert(sha, body, origin);
        if origin == Origin::Evaluated {
            self.evaluated.push_back(sha);
            if self.evaluated.len() > EVALUATED_MAX
                && let Some(oldest) = self.evaluated.pop_front()
            {
                self.lua.forget(&oldest);
            }
        }
        Ok(sha)
    }

    /// Whether something has run here, and touched no shards but those of the keys it declared. What
    /// has not run yet may do anything.
    pub(super) fn keeps_to_its_keys(&self, kind: Kind, name: &[u8]) -> bool {
        self.reach[kind as usize].get(name) == Some(&Reach::Declared)
    }

    /// Something has run; `strayed` says whether it asked for keys of shards that it did not declare.
    pub(super) fn learn(&mut self, kind: Kind, name: &[u8], strayed: bool) {
        let of_kind = &mut self.reach[kind as usize];
        let reach = match of_kind.get_mut(name) {
            Some(known) => known,
            None => {
                if of_kind.len() >= REACH_MAX {
                    of_kind.clear();
                }
                of_kind.entry(name.into()).or_insert(Reach::Declared)
            }
        };
        if strayed {
            *reach = Reach::Undeclared;
        }
    }

    /// Whether it has the libraries of the process.
    pub(super) fn is_current(&self, scripts: &Scripts) -> bool {
        self.version == scripts.functions.version()
    }

    /// Takes over the libraries of the process. On the second stack.
    pub(super) fn follow_libraries(&mut self, scripts: &Scripts) {
        if self.is_current(scripts) {
            return;
        }
        let (libraries, version) = scripts.functions.get();
        for (library, error) in self.change_to(&libraries, &mut LoadHost::again()) {
            tracing::error!("Cannot load the library {}: {error}", library.name);
        }
        self.version = version;
        scripts.functions.count_functions(self.lua.function_count());
    }

    /// Loads and deletes until it has just these libraries; those that it cannot load are left
    /// out. They replace each other whole, so an error may be another one's fault.
    pub(super) fn change_to(
        &mut self,
        libraries: &Libraries,
        host: &mut LoadHost,
    ) -> Vec<(Library, LibraryError)> {
        let is_same = |name: &str, code: &[u8]| {
            let wanted = libraries.get(name);
            wanted.is_some_and(|wanted| *wanted.code == *code)
        };
        let gone: Vec<String> = self
            .lua
            .libraries()
            .filter(|library| !is_same(&library.name, &library.code))
            .map(|library| library.name.clone())
            .collect();
        for name in gone {
            self.lua.delete_library(&name);
        }
        let mut failed = Vec::new();
        for library in libraries.iter() {
            if self.lua.library(&library.name).is_some() {
                continue;
            }
            if let Err(error) = self.lua.load_library(&library.code, false, host) {
                failed.push((library.clone(), error));
            }
        }
        failed
    }

    /// The engine has libraries that were not put in force: it takes over those of the process
    /// when it is used next.
    pub(super) fn forget_version(&mut self) {
        self.version = NO_VERSION;
    }

    /// The engine has the libraries of this version.
    pub(super) fn note_version(&mut self, scripts: &Scripts, version: u64) {
        self.version = version;
        scripts.functions.count_functions(self.lua.function_count());
    }

    /// A script by its digest, if this engine or the process has it: its text if the engine must
    /// still load it.
    pub(super) fn find(&self, scripts: &Scripts, sha: &ScriptSha) -> Found {
        if self.lua.exists(sha) {
            return Found::Here;
        }
        match scripts.cache.get(sha) {
            Some((body, origin)) => Found::Elsewhere(body, origin),
            None => Found::Nowhere,
        }
    }
}

/// Where a script is.
pub(super) enum Found {
    /// In this engine.
    Here,
    /// In the process.
    Elsewhere(Arc<[u8]>, Origin),
    /// Nobody has it.
    Nowhere,
}
