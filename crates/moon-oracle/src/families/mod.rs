//! The families of commands: what each sends, in the language of [`crate::grammar`].
//!
//! One text file a family, the only place where its commands and their arguments are listed.

use crate::grammar::{GrammarError, Template};
use std::collections::BTreeSet;

/// The commands of one kind of values.
#[derive(Debug)]
pub struct Family {
    /// As `--family` takes it.
    pub name: &'static str,
    /// How often it stands in the centre of a sequence, compared with the others.
    pub share: u32,
    /// Its lines.
    pub templates: Vec<Template>,
}

/// The share of most families.
const USUAL_SHARE: u32 = 3;
/// That of families whose requests wait for each other, which takes time.
const SLOW_SHARE: u32 = 1;
const SLOW: &[&str] = &["blocking", "pubsub"];

const TEXTS: &[(&str, &str)] = &[
    ("strings", include_str!("strings.txt")),
    ("keys", include_str!("keys.txt")),
    ("hashes", include_str!("hashes.txt")),
    ("lists", include_str!("lists.txt")),
    ("sets", include_str!("sets.txt")),
    ("zsets", include_str!("zsets.txt")),
    ("streams", include_str!("streams.txt")),
    ("bitmaps", include_str!("bitmaps.txt")),
    ("hyperloglog", include_str!("hyperloglog.txt")),
    ("geo", include_str!("geo.txt")),
    ("sort", include_str!("sort.txt")),
    ("scan", include_str!("scan.txt")),
    ("transactions", include_str!("transactions.txt")),
    ("dump", include_str!("dump.txt")),
    ("scripts", include_str!("scripts.txt")),
    ("blocking", include_str!("blocking.txt")),
    ("pubsub", include_str!("pubsub.txt")),
];

/// The names of all families.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

/// A line that is no template.
#[derive(Debug)]
pub struct FamilyError {
    /// The family.
    pub family: &'static str,
    /// The line.
    pub line: &'static str,
    /// What is wrong.
    pub error: GrammarError,
}

/// Every family.
///
/// # Errors
/// The first line that is no template.
pub fn all() -> Result<Vec<Family>, FamilyError> {
    TEXTS
        .iter()
        .map(|&(name, text)| {
            let templates = text
                .lines()
                .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
                .map(|line| {
                    Template::parse(line).map_err(|error| FamilyError {
                        family: name,
                        line,
                        error,
                    })
                })
                .collect::<Result<_, _>>()?;
            let share = match SLOW.contains(&name) {
                true => SLOW_SHARE,
                false => USUAL_SHARE,
            };
            Ok(Family {
                name,
                share,
                templates,
            })
        })
        .collect()
}

/// The names of the commands that the families send, in upper case.
#[must_use]
pub fn command_names(families: &[Family]) -> BTreeSet<Vec<u8>> {
    families
        .iter()
        .flat_map(|family| &family.templates)
        .flat_map(Template::names)
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_every_family_is_a_template() {
        let families = all().expect("templates");
        assert_eq!(families.len(), names().count());
        assert!(families.iter().all(|family| family.templates.len() > 5));
    }
}
