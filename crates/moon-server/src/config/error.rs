//! What is printed when a configuration is refused: where it stands, what it says, what is
//! wrong with it.

use std::fmt;
use std::path::PathBuf;

/// Where a directive stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: usize,
        /// The line as it stands there.
        text: String,
    },
    /// On the command line, as typed.
    Flag(String),
}

/// Why the configuration cannot be used. `Display` gives the whole message for standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where; `None` if the file itself could not be read.
    pub origin: Option<Origin>,
    /// What is wrong, in one sentence, and what to do where that is not obvious.
    pub reason: String,
}

impl ConfigError {
    /// An error at a place.
    pub fn at(origin: Origin, reason: impl fmt::Display) -> ConfigError {
        ConfigError {
            origin: Some(origin),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        match &self.origin {
            Some(Origin::File { path, line, text }) => write!(
                f,
                "*** FATAL CONFIG FILE ERROR (moon {version}) ***\n\
                 Reading the configuration file {}, at line {line}\n>>> '{text}'\n{}",
                path.display(),
                self.reason
            ),
            Some(Origin::Flag(text)) => write!(
                f,
                "*** FATAL COMMAND LINE ERROR (moon {version}) ***\n>>> '{text}'\n{}",
                self.reason
            ),
            None => write!(
                f,
                "*** FATAL CONFIG ERROR (moon {version}) ***\n{}",
                self.reason
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
