//! `cargo xtask tidy`: checks of the sources that neither compiler nor clippy makes.
//!
//! * every source file opens with `//!`, is below a size and carries no marker of unfinished work;
//! * a crate depends only on crates of lower floors (docs/ARCHITECTURE.md, code map).

use crate::binary::workspace_root;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines a source file may have.
const LINES_MAX: usize = 900;

/// The floor of each crate: it may use those of lower floors only.
const FLOORS: &[(&str, u32)] = &[
    ("moon-alloc", 0),
    ("moon-core", 0),
    ("moon-resp", 1),
    ("moon-manifest", 1),
    ("moon-rdb", 1),
    ("moon-repl", 2),
    ("moon-store", 2),
    ("moon-commands", 3),
    ("moon-script", 3),
    ("moon-aof", 3),
    ("moon-shard", 4),
    ("moon-import", 4),
    ("moon-tools", 4),
    ("moon-server", 5),
];

/// Test support, which may depend on each other: no crate of the server may depend on it, except
/// for its tests.
const TEST_SUPPORT: &[&str] = &[
    "moon-harness",
    "moon-faultfs",
    "moon-isolation",
    "moon-oracle",
];

/// Checks everything and prints what is wrong; true if nothing is.
pub(crate) fn run() -> Result<bool> {
    let root = workspace_root();
    let mut findings = Vec::new();
    for path in rust_files(&root)? {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let name = path
            .strip_prefix(&root)
            .unwrap_or(&path)
            .display()
            .to_string();
        findings.extend(check_source(&name, &text));
    }
    for entry in std::fs::read_dir(root.join("crates"))? {
        let manifest = entry?.path().join("Cargo.toml");
        if let Ok(text) = std::fs::read_to_string(&manifest) {
            findings.extend(check_floors(&text));
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = ["crates", "xtask", "tests", "benches", "fuzz"]
        .iter()
        .map(|dir| root.join(dir))
        .filter(|dir| dir.is_dir())
        .collect();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    // A fuzz target's crate attribute has to stand before everything else.
    let first = text.lines().find(|line| !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!("{name}: does not open with `//!`"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(format!("{name}: {lines} lines, more than {LINES_MAX}"));
    }
    // Written in two halves, so that this file is no finding.
    for marker in [concat!("FIX", "ME"), concat!("XX", "X")] {
        for (number, line) in (1..).zip(text.lines()) {
            let is_word = |at: usize| {
                let before = line[..at].chars().next_back();
                let after = line[at + marker.len()..].chars().next();
                ![before, after]
                    .iter()
                    .flatten()
                    .any(|c| c.is_alphanumeric())
            };
            if line.match_indices(marker).any(|(at, _)| is_word(at)) {
                findings.push(format!("{name}:{number}: {marker}"));
            }
        }
    }
    findings
}

/// Checks the dependencies in the manifest of one crate.
fn check_floors(manifest: &str) -> Vec<String> {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut section = "";
    let mut name = "";
    let mut findings = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        if section == "package"
            && let Some(value) = line.strip_prefix("name = ")
        {
            name = value.trim_matches('"');
        }
        if section != "dependencies" {
            continue;
        }
        let used = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if TEST_SUPPORT.contains(&used) && !TEST_SUPPORT.contains(&name) {
            findings.push(format!("{name}: depends on {used} outside its tests"));
        }
        let (Some(floor), Some(used_floor)) = (floors.get(name), floors.get(used)) else {
            if used.starts_with("moon-")
                && floors.contains_key(name)
                && !TEST_SUPPORT.contains(&used)
            {
                findings.push(format!("{name}: {used} has no floor"));
            }
            continue;
        };
        if used_floor >= floor {
            findings.push(format!(
                "{name} (floor {floor}) depends on {used} (floor {used_floor})"
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_head_or_with_a_marker_is_found() {
        assert_eq!(check_source("a.rs", "//! Job.\nfn f() {}\n"), [""; 0]);
        assert_eq!(check_source("a.rs", "#![no_main]\n//! Job.\n"), [""; 0]);
        assert_eq!(check_source("a.rs", "fn f() {}\n").len(), 1);
        let marked = format!("//! Job.\n// {}: later\n", concat!("FIX", "ME"));
        assert_eq!(check_source("a.rs", &marked).len(), 1);
        assert_eq!(
            check_source("a.rs", &"//! Job.\n".repeat(LINES_MAX + 1)).len(),
            1
        );
    }

    #[test]
    fn a_dependency_upwards_or_sideways_is_found() {
        let manifest = |name: &str, section: &str, used: &str| {
            format!("[package]\nname = \"{name}\"\n[{section}]\n{used}.workspace = true\n")
        };
        let findings = |name, section, used| check_floors(&manifest(name, section, used)).len();
        assert_eq!(findings("moon-store", "dependencies", "moon-core"), 0);
        assert_eq!(findings("moon-store", "dependencies", "moon-shard"), 1);
        assert_eq!(findings("moon-aof", "dependencies", "moon-commands"), 1);
        assert_eq!(findings("moon-aof", "dev-dependencies", "moon-commands"), 0);
        assert_eq!(findings("moon-aof", "dependencies", TEST_SUPPORT[0]), 1);
        assert_eq!(
            findings("moon-server", "dev-dependencies", TEST_SUPPORT[0]),
            0
        );
    }
}
