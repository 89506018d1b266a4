//! The engine: one Lua state, the scripts and functions it has compiled, and how one runs.

use crate::functions::{Function, Libraries, Library, LibraryError};
use crate::host::{Host, Stop, set_host, with_host};
use crate::json::JsonConfig;
use crate::maths::UNSEEDED;
use crate::raised::{Raised, raised_by};
use crate::sandbox::Sandbox;
use crate::shebang::{Flags, ShebangError, script_flags};
use crate::state::{Mode, Shared, State, Uncaught, without_limit};
use crate::to_reply::{Fields, ReplyWriter};
use mlua::{HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};
use moon_resp::{Protocol, Reply};
use moon_store::libraries::library_name;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

/// The stack that a thread needs to run an engine: Lua nests up to 200 calls into C, some of which
/// keep buffers of 8 KiB there.
pub const STACK_BYTES: usize = 8 << 20;

/// What scripts may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the engine's state in bytes, garbage that waits for collection included. A script
    /// that needs more fails.
    pub memory_bytes: usize,
    /// Lua instructions between two questions to [`Host::keep_running`].
    pub instructions_per_check: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 512 << 20,
            instructions_per_check: 100_000,
        }
    }
}

/// The digest of a script's text, as 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptSha([u8; 40]);

impl ScriptSha {
    /// The digest of `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> ScriptSha {
        let mut digits = [0; 40];
        for (pair, byte) in digits
            .chunks_mut(2)
            .zip(sha1_smol::Sha1::from(body).digest().bytes())
        {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        ScriptSha(digits)
    }

    /// Reads a digest that a client sent, in either case. `None` is one that no script has.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<ScriptSha> {
        let mut digits: [u8; 40] = text.try_into().ok()?;
        digits.make_ascii_lowercase();
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.iter().all(is_digit).then_some(ScriptSha(digits))
    }

    /// The digits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the digits are ASCII")
    }
}

impl fmt::Debug for ScriptSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ScriptSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build the Lua state")]
pub struct EngineError(#[from] mlua::Error);

/// Why a script was not taken in. The display is the text behind `ERR `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The first line.
    #[error(transparent)]
    Shebang(#[from] ShebangError),
    /// The script is no Lua.
    #[error("Error compiling script (new function): {0}")]
    Compile(String),
    /// The memory of the engine is used up.
    #[error("not enough memory")]
    OutOfMemory,
}

/// Why a script or function did not end with a value. Nothing of a reply was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// There is no such script or function.
    #[error("not found")]
    NotFound,
    /// It failed.
    #[error("{}", .text.escape_ascii())]
    Failed {
        /// The error reply, code included, without the leading `-`.
        text: Vec<u8>,
        /// A command inside answered this error, so it is in the statistics already.
        counted: bool,
    },
    /// The host ended it.
    #[error("{stop}")]
    Stopped {
        /// As the host said.
        stop: Stop,
        /// The error reply as above.
        text: Vec<u8>,
    },
}

impl RunError {
    /// The error reply, code included, without the leading `-`.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        match self {
            RunError::NotFound => b"ERR Function not found",
            RunError::Failed { text, .. } | RunError::Stopped { text, .. } => text,
        }
    }
}

#[derive(Debug)]
struct Script {
    body: Rc<[u8]>,
    flags: Flags,
}

/// A Lua state with its scripts and functions; one for each thread that executes commands.
///
/// # Invariants
/// `scripts` and the table `compiled` have the same digests, `libraries` and the table `callbacks`
/// the same functions. No reference into Lua is held for each of them, because such references
/// are few.
#[derive(Debug)]
pub struct Engine {
    lua: Lua,
    shared: Shared,
    sandbox: Sandbox,
    scripts: HashMap<ScriptSha, Script>,
    /// Digest to function.
    compiled: Table,
    libraries: Libraries,
    /// Name to function.
    callbacks: Table,
    fields: Fields,
    limits: Limits,
}

impl Engine {
    /// Builds the state with its globals.
    ///
    /// # Errors
    /// [`EngineError`] if that takes more memory than `limits` allow.
    pub fn new(limits: Limits) -> Result<Engine, EngineError> {
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libs, LuaOptions::new())?;
        lua.set_memory_limit(limits.memory_bytes)?;
        let shared = Rc::new(State {
            mode: Cell::new(Mode::Script),
            protocol: Cell::new(Protocol::Resp2),
            random: Cell::new(UNSEEDED),
            json: RefCell::new(JsonConfig::default()),
            uncaught: RefCell::new(None),
            registered: RefCell::new(Vec::new()),
            call: RefCell::default(),
            bytes_max: limits.memory_bytes,
        });
        let sandbox = Sandbox::new(&lua, &shared)?;
        let triggers = HookTriggers::new().every_nth_instruction(limits.instructions_per_check);
        lua.set_global_hook(triggers, |_, _| {
            match with_host(|host| host.keep_running()) {
                Some(Err(stop)) => Err(Raised::Stop(stop).into()),
                Some(Ok(())) | None => Ok(VmState::Continue),
            }
        })?;
        let compiled = lua.create_table()?;
        let callbacks = lua.create_table()?;
        let fields = Fields::new(&lua)?;
        Ok(Engine {
            lua,
            shared,
            sandbox,
            scripts: HashMap::new(),
            compiled,
            libraries: Libraries::default(),
            callbacks,
            fields,
            limits,
        })
    }

    /// Bytes that the Lua state holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.lua.used_memory()
    }

    // Scripts

    /// Takes a script in, compiled, and returns its digest. One that is known costs a digest.
    ///
    /// # Errors
    /// [`LoadError`] if it is no script; nothing is kept then.
    pub fn load(&mut self, body: &[u8]) -> Result<ScriptSha, LoadError> {
        let sha = ScriptSha::of(body);
        if self.scripts.contains_key(&sha) {
            return Ok(sha);
        }
        let (flags, skipped) = script_flags(body)?;
        let compiled = self
            .sandbox
            .compile(&self.lua, &body[skipped..], Mode::Script);
        let kept = compiled.and_then(|function| self.compiled.raw_set(sha.as_str(), function));
        if let Err(error) = kept {
            self.collect_if_full();
            return Err(match error {
                mlua::Error::SyntaxError { message, .. } => LoadError::Compile(message),
                mlua::Error::MemoryError(_) => LoadError::OutOfMemory,
                other => LoadError::Compile(other.to_string()),
            });
        }
        let body = Rc::from(body);
        self.scripts.insert(sha, Script { body, flags });
        Ok(sha)
    }

    /// Whether a script is known.
    #[must_use]
    pub fn exists(&self, sha: &ScriptSha) -> bool {
        self.scripts.contains_key(sha)
    }

    /// The text of a script.
    #[must_use]
    pub fn body(&self, sha: &ScriptSha) -> Option<Rc<[u8]>> {
        self.scripts.get(sha).map(|script| script.body.clone())
    }

    /// What a script has declared.
    #[must_use]
    pub fn flags(&self, sha: &ScriptSha) -> Option<Flags> {
        self.scripts.get(sha).map(|script| script.flags)
    }

    /// Number of scripts.
    #[must_use]
    pub fn script_count(&self) -> usize {
        self.scripts.len()
    }

    /// Forgets one script.
    pub fn forget(&mut self, sha: &ScriptSha) {
        if self.scripts.remove(sha).is_some() {
            // Taking an entry out needs no memory.
            let _no_error = self.compiled.raw_set(sha.as_str(), Value::Nil);
        }
    }

    /// Forgets all scripts and gives their memory back. Functions stay.
    pub fn flush(&mut self) {
        self.scripts = HashMap::new();
        // Taking entries out needs no memory.
        let _no_error = self.compiled.clear();
        self.collect();
    }

    /// Runs a script that [`load`](Self::load) has taken in, and writes its value to `reply`.
    ///
    /// # Errors
    /// [`RunError`], whose text is the client's reply; nothing was written to `reply` then.
    pub fn run<'a>(
        &mut self,
        sha: &ScriptSha,
        keys: impl IntoIterator<Item = &'a [u8]>,
        args: impl IntoIterator<Item = &'a [u8]>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Result<(), RunError> {
        if !self.scripts.contains_key(sha) {
            return Err(RunError::NotFound);
        }
        let limit = self.limits.memory_bytes;
        let prepared = without_limit(&self.lua, limit, || self.prepare_script(sha, keys, args));
        let outcome = prepared.and_then(|function| {
            let run = || self.sandbox.run.call((function, Value::Nil, Value::Nil));
            self.execute(Mode::Script, host, run, reply)
        });
        self.finish(sha.as_str(), outcome)
    }

    fn prepare_script<'a>(
        &self,
        sha: &ScriptSha,
        keys: impl IntoIterator<Item = &'a [u8]>,
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> mlua::Result<mlua::Function> {
        let globals = &self.sandbox.for_scripts;
        globals.raw_set("KEYS", self.strings(keys)?)?;
        globals.raw_set("ARGV", self.strings(args)?)?;
        self.compiled.raw_get(sha.as_str())
    }

    fn strings<'a>(&self, texts: impl IntoIterator<Item = &'a [u8]>) -> mlua::Result<Table> {
        let texts = texts.into_iter().map(mlua::LuaString::wrap);
        self.lua.create_sequence_from(texts)
    }

    /// Runs something in Lua, and writes its value. An error that left the script is in
    /// `shared.uncaught`, or in the result if Lua had no room to tell where it came from.
    fn execute(
        &self,
        mode: Mode,
        host: &mut dyn Host,
        run: impl FnOnce() -> mlua::Result<(bool, Value)>,
        reply: &mut Reply<'_>,
    ) -> mlua::Result<bool> {
        self.begin(mode);
        let position = reply.position();
        let mut write = |value: &Value| {
            let chosen = self.shared.protocol.get();
            let bytes_max = self.limits.memory_bytes;
            let mut writer = ReplyWriter::new(reply, chosen, bytes_max, &self.fields);
            // Reading tables makes nothing new in Lua.
            without_limit(&self.lua, bytes_max, || writer.write(value))
        };
        // The host is asked while a large value is written, too.
        let run_and_write = || {
            let (ok, value) = run()?;
            let written = if ok { Some(write(&value)) } else { None };
            Ok::<_, mlua::Error>((written, value))
        };
        let (written, value) = set_host(host, run_and_write)?;
        match (written, value) {
            (Some(written), _) => {
                if written.is_err() {
                    reply.truncate(position);
                }
                written.map(|()| true)
            }
            (None, problem) => {
                self.keep_unhandled(&problem);
                Ok(false)
            }
        }
    }

    /// Brings everything that a script can change back to how a script finds it.
    fn begin(&self, mode: Mode) {
        self.shared.mode.set(mode);
        self.shared.protocol.set(Protocol::Resp2);
        *self.shared.json.borrow_mut() = JsonConfig::default();
        *self.shared.uncaught.borrow_mut() = None;
        self.shared.registered.borrow_mut().clear();
    }

    /// Notes a failure that the handler did not see: memory ran out, or the handler itself failed.
    fn keep_unhandled(&self, problem: &Value) {
        let mut uncaught = self.shared.uncaught.borrow_mut();
        if uncaught.is_none() {
            *uncaught = Some(match problem {
                Value::Error(error) => Uncaught::of(error),
                Value::String(text) => Uncaught::plain(&text.as_bytes()),
                _ => Uncaught::plain(b"error in error handling"),
            });
        }
    }

    fn finish(&mut self, name: &str, outcome: mlua::Result<bool>) -> Result<(), RunError> {
        self.collect_if_full();
        let uncaught = match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => self.shared.uncaught.borrow_mut().take(),
            Err(error) => Some(Uncaught::of(&error)),
        };
        let mut uncaught = uncaught.unwrap_or_else(|| Uncaught::plain(b"unknown error"));
        if let Some((source, line)) = &uncaught.position {
            let suffix = format!(" script: {name}, on {source}:{line}.");
            uncaught.text.extend_from_slice(suffix.as_bytes());
        }
        Err(uncaught.into())
    }

    /// Lua 5.1 does not collect garbage because memory is short, so the next script would find
    /// none.
    fn collect_if_full(&mut self) {
        if self.lua.used_memory() > self.limits.memory_bytes / 2 {
            self.collect();
        }
    }

    /// Gives all garbage back. The collector itself needs a little room, so it runs without limit.
    fn collect(&mut self) {
        without_limit(&self.lua, self.limits.memory_bytes, || {
            // Only a finalizer could fail now, and scripts have none.
            let _no_error = self.lua.gc_collect();
        });
    }

    // Functions

    /// Loads a library and returns its name.
    ///
    /// # Errors
    /// [`LibraryError`], whose display is the text behind `ERR `; all libraries are as before.
    pub fn load_library(
        &mut self,
        code: &[u8],
        replace: bool,
        host: &mut dyn Host,
    ) -> Result<String, LibraryError> {
        let (name, skipped) = library_name(code)?;
        if !replace && self.libraries.get(&name).is_some() {
            return Err(LibraryError::Exists(name));
        }
        let compiled = self
            .sandbox
            .compile(&self.lua, &code[skipped..], Mode::Load);
        let function = compiled.map_err(|error| match error {
            mlua::Error::MemoryError(_) => LibraryError::OutOfMemory,
            mlua::Error::SyntaxError { message, .. } => LibraryError::Compile(message),
            other => LibraryError::Compile(other.to_string()),
        })?;
        self.register(function, host)?;
        let mut registered = std::mem::take(&mut *self.shared.registered.borrow_mut());
        if registered.is_empty() {
            return Err(LibraryError::NoFunctions);
        }
        registered.sort_by(|a, b| a.function.name.cmp(&b.function.name));
        let library = Library {
            name: name.clone(),
            code: code.to_vec(),
            functions: registered.iter().map(|r| r.function.clone()).collect(),
        };
        if let Some(taken) = self.libraries.taken_by_others(&library) {
            return Err(LibraryError::FunctionExists(taken.to_owned()));
        }
        // Under other names until all of them are in, so that a failure changes nothing.
        let callbacks = self.new_callbacks(&name, &registered);
        self.callbacks = callbacks.map_err(|_| LibraryError::OutOfMemory)?;
        self.libraries.insert(library);
        Ok(name)
    }

    /// Runs the code of a library, which leaves its functions in `shared.registered`.
    fn register(
        &mut self,
        function: mlua::Function,
        host: &mut dyn Host,
    ) -> Result<(), LibraryError> {
        self.begin(Mode::Load);
        let metatable = &self.sandbox.function_metatable;
        let run = || {
            metatable.raw_set("__index", &self.sandbox.for_loading)?;
            let ended = self.sandbox.run.call((function, Value::Nil, Value::Nil));
            metatable.raw_set("__index", &self.sandbox.for_functions)?;
            ended
        };
        let ended: mlua::Result<(bool, Value)> = set_host(host, run);
        let failed = match ended {
            Ok((true, _)) => return Ok(()),
            Ok((false, problem)) => {
                self.keep_unhandled(&problem);
                self.shared.uncaught.borrow_mut().take()
            }
            Err(error) => Some(Uncaught::of(&error)),
        };
        self.shared.registered.borrow_mut().clear();
        self.collect_if_full();
        let failed = failed.unwrap_or_else(|| Uncaught::plain(b"unknown error"));
        Err(LibraryError::Register {
            text: String::from_utf8_lossy(&failed.text).into_owned(),
            stop: failed.stop,
        })
    }

    /// The callbacks of all libraries, those of library `name` replaced.
    fn new_callbacks(
        &self,
        name: &str,
        registered: &[crate::functions::Registered],
    ) -> mlua::Result<Table> {
        let callbacks = self.lua.create_table()?;
        for library in self.libraries.iter().filter(|library| library.name != name) {
            for function in &library.functions {
                let name = function.name.as_str();
                callbacks.raw_set(name, self.callbacks.raw_get::<Value>(name)?)?;
            }
        }
        for registered in registered {
            callbacks.raw_set(registered.function.name.as_str(), &registered.callback)?;
        }
        Ok(callbacks)
    }

    /// Removes a library; `None` if there is no such.
    pub fn delete_library(&mut self, name: &str) -> Option<Library> {
        let library = self.libraries.remove(name)?;
        for function in &library.functions {
            // Taking an entry out needs no memory.
            let _no_error = self.callbacks.raw_set(function.name.as_str(), Value::Nil);
        }
        Some(library)
    }

    /// Removes all libraries and gives their memory back.
    pub fn flush_libraries(&mut self) {
        self.libraries = Libraries::default();
        // Taking entries out needs no memory.
        let _no_error = self.callbacks.clear();
        self.collect();
    }

    /// All libraries in the order of their names.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Library> {
        self.libraries.iter()
    }

    /// A library by its name.
    #[must_use]
    pub fn library(&self, name: &str) -> Option<&Library> {
        self.libraries.get(name)
    }

    /// A function by its name, in any case.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.libraries.function(name)
    }

    /// Number of functions in all libraries.
    #[must_use]
    pub fn function_count(&self) -> usize {
        self.libraries.function_count()
    }

    /// Calls a function and writes its value to `reply`.
    ///
    /// # Errors
    /// [`RunError`], whose text is the client's reply; nothing was written to `reply` then.
    pub fn call<'a>(
        &mut self,
        name: &str,
        keys: impl IntoIterator<Item = &'a [u8]>,
        args: impl IntoIterator<Item = &'a [u8]>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Result<(), RunError> {
        // Its own name, whatever case it is called in.
        let Some(name) = self.function(name).map(|function| function.name.clone()) else {
            return Err(RunError::NotFound);
        };
        let limit = self.limits.memory_bytes;
        let prepare = || self.prepare_function(&name, keys, args);
        let prepared = without_limit(&self.lua, limit, prepare);
        let outcome = prepared.and_then(|prepared| {
            let run = || self.sandbox.run.call(prepared);
            self.execute(Mode::Function, host, run, reply)
        });
        self.finish(&name, outcome)
    }

    fn prepare_function<'a>(
        &self,
        name: &str,
        keys: impl IntoIterator<Item = &'a [u8]>,
        args: impl IntoIterator<Item = &'a [u8]>,
    ) -> mlua::Result<(mlua::Function, Table, Table)> {
        let callback = self.callbacks.raw_get(name)?;
        Ok((callback, self.strings(keys)?, self.strings(args)?))
    }
}

impl Uncaught {
    fn plain(text: &[u8]) -> Uncaught {
        Uncaught {
            text: [b"ERR ", text].concat(),
            position: None,
            counted: false,
            stop: None,
        }
    }

    /// An error that came out of Lua as such.
    fn of(error: &mlua::Error) -> Uncaught {
        match raised_by(error) {
            Raised::Text(text) => Uncaught::plain(&text),
            Raised::Reply(reply) => Uncaught {
                counted: reply.counted,
                text: reply.text,
                position: None,
                stop: None,
            },
            Raised::Stop(stop) => Uncaught {
                stop: Some(stop),
                ..Uncaught::plain(stop.to_string().as_bytes())
            },
        }
    }
}

impl From<Uncaught> for RunError {
    fn from(uncaught: Uncaught) -> RunError {
        let Uncaught {
            text,
            counted,
            stop,
            position: _,
        } = uncaught;
        match stop {
            Some(stop) => RunError::Stopped { stop, text },
            None => RunError::Failed { text, counted },
        }
    }
}
