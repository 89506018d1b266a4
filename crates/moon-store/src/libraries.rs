//! Libraries of functions as data: the line that names a library, `#!lua name=mylib`, and the set of
//! libraries that a server holds, saves and sends.
//!
//! Whether the code behind the first line is any good is for whoever runs it to say, before a
//! library gets here.

use moon_resp::split_args;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One library: its name and its text, first line included. A copy costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The name that its first line gives.
    pub name: Arc<str>,
    /// The text: all that is needed to load it again.
    pub code: Arc<[u8]>,
}

impl Library {
    /// The library that `code` is.
    ///
    /// # Errors
    /// [`MetadataError`] if the first line does not name one.
    pub fn new(code: &[u8]) -> Result<Library, MetadataError> {
        let (name, _) = library_name(code)?;
        Ok(Library {
            name: name.into(),
            code: code.into(),
        })
    }
}

/// Libraries by name, in the order of their names. A copy costs an entry for each, not the texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libraries {
    by_name: BTreeMap<Arc<str>, Library>,
}

impl Libraries {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The library called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Library> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Library> {
        self.by_name.values()
    }

    /// Adds a library, in the place of one with its name.
    pub fn insert(&mut self, library: Library) {
        self.by_name.insert(Arc::clone(&library.name), library);
    }

    /// Removes a library; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.by_name.clear();
    }

    /// Bytes of all texts and names. O(libraries).
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_one = |library: &Library| library.name.len() + library.code.len();
        self.iter().map(of_one).sum()
    }
}

/// A library whose first line does not say what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// There is no such line.
    #[error("Missing library metadata")]
    Missing,
    /// The line has no end or cannot be split into words.
    #[error("Invalid library metadata")]
    Unreadable,
    /// Another language.
    #[error("Engine '{0}' not found")]
    Engine(String),
    /// Something other than a name.
    #[error("Invalid metadata value given: {0}")]
    Value(String),
    /// Two names.
    #[error("Invalid metadata value, name argument was given multiple times")]
    NameTwice,
    /// No name.
    #[error("Library name was not given")]
    NoName,
    /// A name with other characters.
    #[error(
        "Library names can only contain letters, numbers, or underscores(_) and must be at least \
         one character long"
    )]
    Name,
}

/// The name of a library, and how many bytes before its code are to be left out.
///
/// # Errors
/// [`MetadataError`] for a line that Redis refuses.
pub fn library_name(code: &[u8]) -> Result<(String, usize), MetadataError> {
    if !code.starts_with(b"#!") {
        return Err(MetadataError::Missing);
    }
    let end = code.iter().position(|&byte| byte == b'\n');
    let end = end.ok_or(MetadataError::Unreadable)?;
    let parts = split_args(&code[..end]).map_err(|_| MetadataError::Unreadable)?;
    let mut parts = parts.as_args().iter();
    let engine = parts.next().unwrap_or_default();
    let engine = engine.strip_prefix(b"#!").unwrap_or_default();
    let mut name = None;
    for part in parts {
        let is_name = part
            .get(..5)
            .is_some_and(|p| p.eq_ignore_ascii_case(b"name="));
        if !is_name {
            return Err(MetadataError::Value(lossy(part)));
        }
        if name.replace(&part[5..]).is_some() {
            return Err(MetadataError::NameTwice);
        }
    }
    let name = name.ok_or(MetadataError::NoName)?;
    let name = checked_name(name).ok_or(MetadataError::Name)?;
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(MetadataError::Engine(lossy(engine)));
    }
    Ok((name, end))
}

/// A name that libraries and functions may have.
#[must_use]
pub fn checked_name(name: &[u8]) -> Option<String> {
    let allowed = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = !name.is_empty() && name.iter().all(allowed);
    is_name.then(|| lossy(name))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_takes_the_place_of_one_with_its_name() {
        let mut libraries = Libraries::default();
        for code in ["#!lua name=b\n1", "#!lua name=a\n2", "#!lua name=b\n3"] {
            libraries.insert(Library::new(code.as_bytes()).expect(code));
        }
        let all: Vec<_> = libraries.iter().map(|library| &*library.code).collect();
        assert_eq!(all, [&b"#!lua name=a\n2"[..], b"#!lua name=b\n3"]);
        assert!(libraries.remove("a") && !libraries.remove("a"));
        assert_eq!((libraries.len(), libraries.bytes()), (1, 15));
    }

    #[test]
    fn a_text_without_a_name_is_no_library() {
        for code in ["", "return 1", "#!lua\n", "#!lua name=a", "#!js name=a\n"] {
            assert!(Library::new(code.as_bytes()).is_err(), "{code:?}");
        }
    }
}
