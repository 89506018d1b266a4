//! What the functions of one engine share while a script runs.

use crate::functions::Registered;
use crate::json::JsonConfig;
use crate::raised::error_plain;
use mlua::Lua;
use moon_resp::{Protocol, Span};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Shared by all functions that scripts call.
pub(crate) type Shared = Rc<State>;

/// Which globals are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A script of EVAL.
    Script,
    /// A function of a library.
    Function,
    /// A library that is being loaded.
    Load,
}

/// See [`Shared`].
#[derive(Debug)]
pub(crate) struct State {
    /// What runs now, or ran last.
    pub(crate) mode: Cell<Mode>,
    /// The protocol that the script chose with `redis.setresp` for the replies it reads.
    pub(crate) protocol: Cell<Protocol>,
    /// The generator behind `math.random`. As in Redis, every engine begins with the same numbers,
    /// and a run goes on where the last one stopped.
    pub(crate) random: Cell<u64>,
    /// The settings of `cjson`; each run begins with the defaults.
    pub(crate) json: RefCell<JsonConfig>,
    /// How the run failed, written by the handler of uncaught errors.
    pub(crate) uncaught: RefCell<Option<Uncaught>>,
    /// The functions that a library being loaded has registered.
    pub(crate) registered: RefCell<Vec<Registered>>,
    /// Room for the arguments and the reply of a command, kept from call to call.
    pub(crate) call: RefCell<CallBuffers>,
    /// Bytes a Rust function may put together for a script at once.
    pub(crate) bytes_max: usize,
}

/// An error that left the script.
#[derive(Debug)]
pub(crate) struct Uncaught {
    /// The text with its code.
    pub(crate) text: Vec<u8>,
    /// The chunk and line that raised it.
    pub(crate) position: Option<(String, usize)>,
    /// Whether a command answered this error, and has counted it.
    pub(crate) counted: bool,
    /// The host ended the script.
    pub(crate) stop: Option<crate::host::Stop>,
}

/// Does `work` without the limit of memory, for values whose size does not depend on the script
/// alone: the binding then takes the direct way, where it would guard every single allocation
/// otherwise. What is too much is found afterwards, by [`check_memory`] or by the next allocation.
pub(crate) fn without_limit<R>(lua: &Lua, bytes_max: usize, work: impl FnOnce() -> R) -> R {
    let lifted = lua.set_memory_limit(0);
    let result = work();
    if lifted.is_ok() {
        let _as_before = lua.set_memory_limit(bytes_max);
    }
    result
}

/// Whether the state is within its limit.
pub(crate) fn check_memory(lua: &Lua, bytes_max: usize) -> mlua::Result<()> {
    match lua.used_memory() <= bytes_max {
        true => Ok(()),
        false => Err(error_plain("not enough memory")),
    }
}

/// See [`State::call`].
#[derive(Debug, Default)]
pub(crate) struct CallBuffers {
    pub(crate) args: Vec<u8>,
    pub(crate) spans: Vec<Span>,
    pub(crate) reply: Vec<u8>,
}

impl CallBuffers {
    /// Capacity that is kept between calls, in bytes for each buffer.
    const KEPT_BYTES: usize = 1 << 20;

    /// Empties the buffers, and gives large ones back.
    pub(crate) fn clear(&mut self) {
        self.args.clear();
        self.args.shrink_to(Self::KEPT_BYTES);
        self.spans.clear();
        self.spans.shrink_to(Self::KEPT_BYTES / size_of::<Span>());
        self.reply.clear();
        self.reply.shrink_to(Self::KEPT_BYTES);
    }
}
