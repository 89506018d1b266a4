//! Why a command was refused, in the words that clients see.

/// An error reply. Its text is Redis's, code included.
///
/// A command returns one before it has changed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// A key holds another type than the command works on.
    WrongType,
    /// The options do not fit together or are unknown.
    Syntax,
    /// An argument is not a 64-bit integer.
    NotAnInteger,
    /// An argument is not a floating point number.
    NotAFloat,
    /// Any other fixed text.
    Text(&'static str),
    /// A text with details in it.
    Detailed(Box<str>),
}

impl CommandError {
    /// The line after the `-`.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            CommandError::WrongType => {
                "WRONGTYPE Operation against a key holding the wrong kind of value"
            }
            CommandError::Syntax => "ERR syntax error",
            CommandError::NotAnInteger => "ERR value is not an integer or out of range",
            CommandError::NotAFloat => "ERR value is not a valid float",
            CommandError::Text(text) => text,
            CommandError::Detailed(text) => text,
        }
    }
}
