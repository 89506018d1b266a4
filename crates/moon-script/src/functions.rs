//! Libraries and the functions in them.
//!
//! A library is code that registers functions when it is loaded. What is known about it is plain
//! data, to be listed, saved and sent; the callbacks live in the engine's Lua state.

use crate::host::Stop;
use crate::raised::{ErrorReply, Raised};
use crate::sandbox::number_text;
use crate::shebang::Flags;
use crate::state::{Mode, Shared};
use mlua::{MultiValue, Table, Value};
use moon_store::libraries::{MetadataError, checked_name};
use std::collections::BTreeMap;

/// One function of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name it is called by, unique among all libraries.
    pub name: String,
    /// What the library says about it.
    pub description: Option<Vec<u8>>,
    /// What it has declared.
    pub flags: Flags,
}

/// A loaded library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// The code, first line included: all that is needed to load it again.
    pub code: Vec<u8>,
    /// Its functions in the order of their names; at least one.
    pub functions: Vec<Function>,
}

/// Why a library was not loaded. The state is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// The first line.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// There is a library with this name, and it was not to be replaced.
    #[error("Library '{0}' already exists")]
    Exists(String),
    /// The code is no Lua.
    #[error("Error compiling function: {0}")]
    Compile(String),
    /// The code failed when it ran.
    #[error("Error registering functions: {text}")]
    Register {
        /// The error's text.
        text: String,
        /// The host ended it.
        stop: Option<Stop>,
    },
    /// The code registered nothing.
    #[error("No functions registered")]
    NoFunctions,
    /// Another library has a function of this name.
    #[error("Function {0} already exists")]
    FunctionExists(String),
    /// The memory of the engine is used up.
    #[error("not enough memory")]
    OutOfMemory,
}

/// The libraries of an engine, without their code in Lua.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    by_name: BTreeMap<String, Library>,
    /// From the function, in lower case, to its library and its name there: names of functions
    /// are called in any case.
    functions: BTreeMap<String, (String, String)>,
}

impl Libraries {
    pub(crate) fn get(&self, name: &str) -> Option<&Library> {
        self.by_name.get(name)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Library> {
        self.by_name.values()
    }

    /// A function by its name.
    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        let (library, name) = self.functions.get(&name.to_ascii_lowercase())?;
        let library = self.by_name.get(library)?;
        library
            .functions
            .iter()
            .find(|function| function.name == *name)
    }

    pub(crate) fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// The function of `library` that another library has as well.
    pub(crate) fn taken_by_others<'a>(&self, library: &'a Library) -> Option<&'a str> {
        let taken = |function: &&Function| {
            let owner = self.functions.get(&function.name.to_ascii_lowercase());
            owner.is_some_and(|(owner, _)| *owner != library.name)
        };
        library
            .functions
            .iter()
            .find(taken)
            .map(|function| function.name.as_str())
    }

    /// Adds a library and returns the one that it replaces.
    pub(crate) fn insert(&mut self, library: Library) -> Option<Library> {
        let old = self.remove(&library.name);
        for function in &library.functions {
            let place = (library.name.clone(), function.name.clone());
            self.functions
                .insert(function.name.to_ascii_lowercase(), place);
        }
        self.by_name.insert(library.name.clone(), library);
        old
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Library> {
        let library = self.by_name.remove(name)?;
        for function in &library.functions {
            self.functions.remove(&function.name.to_ascii_lowercase());
        }
        Some(library)
    }
}

/// A function while its library is being loaded.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) function: Function,
    pub(crate) callback: mlua::Function,
}

/// Why `redis.register_function` refuses its arguments.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum RegisterError {
    #[error("redis.register_function can only be called on FUNCTION LOAD command")]
    NotLoading,
    #[error("wrong number of arguments to redis.register_function")]
    Arguments,
    #[error(
        "calling redis.register_function with a single argument is only applicable to Lua table \
         (representing named arguments)."
    )]
    NoTable,
    #[error("first argument to redis.register_function must be a string")]
    FirstArgument,
    #[error("second argument to redis.register_function must be a function")]
    SecondArgument,
    #[error("redis.register_function must get a function name argument")]
    NoName,
    #[error("redis.register_function must get a callback argument")]
    NoCallback,
    #[error("named argument key given to redis.register_function is not a string")]
    ArgumentName,
    #[error("unknown argument given to redis.register_function")]
    UnknownArgument,
    #[error("function_name argument given to redis.register_function must be a string")]
    NameType,
    #[error("description argument given to redis.register_function must be a string")]
    DescriptionType,
    #[error("callback argument given to redis.register_function must be a function")]
    CallbackType,
    #[error(
        "flags argument to redis.register_function must be a table representing function flags"
    )]
    FlagsType,
    #[error("unknown flag given")]
    UnknownFlag,
    #[error(
        "Library names can only contain letters, numbers, or underscores(_) and must be at least \
         one character long"
    )]
    Name,
    #[error("Function already exists in the library")]
    Twice,
}

impl From<RegisterError> for mlua::Error {
    fn from(error: RegisterError) -> mlua::Error {
        Raised::Reply(ErrorReply::of_api(&error.to_string())).into()
    }
}

/// `redis.register_function(name, callback)` or `redis.register_function{...}`.
pub(crate) fn register_function(shared: &Shared, args: MultiValue) -> mlua::Result<()> {
    if shared.mode.get() != Mode::Load {
        return Err(RegisterError::NotLoading.into());
    }
    let registered = match (args.len(), args.front(), args.get(1)) {
        (1, Some(Value::Table(arguments)), _) => from_named(arguments)?,
        (1, ..) => return Err(RegisterError::NoTable.into()),
        (2, Some(name), Some(callback)) => {
            let name = text(name).ok_or(RegisterError::FirstArgument)?;
            let Value::Function(callback) = callback else {
                return Err(RegisterError::SecondArgument.into());
            };
            registered(name, callback.clone(), None, Flags::NONE)?
        }
        _ => return Err(RegisterError::Arguments.into()),
    };
    let mut all = shared.registered.borrow_mut();
    let name = &registered.function.name;
    if all.iter().any(|other| other.function.name == *name) {
        return Err(RegisterError::Twice.into());
    }
    all.push(registered);
    Ok(())
}

fn registered(
    name: Vec<u8>,
    callback: mlua::Function,
    description: Option<Vec<u8>>,
    flags: Flags,
) -> Result<Registered, RegisterError> {
    let name = checked_name(&name).ok_or(RegisterError::Name)?;
    let function = Function {
        name,
        description,
        flags,
    };
    Ok(Registered { function, callback })
}

fn from_named(arguments: &Table) -> mlua::Result<Registered> {
    let (mut name, mut callback, mut description) = (None, None, None);
    let mut flags = Flags::NONE;
    for pair in arguments.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let key = text(&key).ok_or(RegisterError::ArgumentName)?;
        match key.to_ascii_lowercase().as_slice() {
            b"function_name" => name = Some(text(&value).ok_or(RegisterError::NameType)?),
            b"description" => {
                description = Some(text(&value).ok_or(RegisterError::DescriptionType)?);
            }
            b"callback" => match value {
                Value::Function(function) => callback = Some(function),
                _ => return Err(RegisterError::CallbackType.into()),
            },
            b"flags" => match value {
                Value::Table(table) => flags = flags_in(&table)?,
                _ => return Err(RegisterError::FlagsType.into()),
            },
            _ => return Err(RegisterError::UnknownArgument.into()),
        }
    }
    let name = name.ok_or(RegisterError::NoName)?;
    let callback = callback.ok_or(RegisterError::NoCallback)?;
    Ok(registered(name, callback, description, flags)?)
}

fn flags_in(table: &Table) -> mlua::Result<Flags> {
    let mut flags = Flags::NONE;
    for index in 1.. {
        match table.raw_get(index)? {
            Value::Nil => break,
            name => {
                let flag = text(&name).and_then(|name| Flags::named(&name));
                flags = flags.union(flag.ok_or(RegisterError::UnknownFlag)?);
            }
        }
    }
    Ok(flags)
}

/// A string, or a number as its text.
fn text(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(_) | Value::Number(_) => Some(number_text(value).into_bytes()),
        _ => None,
    }
}
