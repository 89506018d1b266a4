//! Which server program a command runs: `moon-server`, built on the spot, or another one.

use anyhow::{Context as _, Result, bail};
use moon_harness::Flavor;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options that choose the program.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerOptions {
    /// Which server to run: moon or redis (to check the tool itself)
    #[arg(long, default_value = "moon", value_parser = parse_flavor)]
    pub(crate) server: Flavor,
    /// The program, instead of building moon-server or taking redis-server from the path
    #[arg(long)]
    pub(crate) server_binary: Option<PathBuf>,
    /// The cargo profile to build moon-server with [default: release; for a quick crash-matrix: dev]
    #[arg(long)]
    pub(crate) profile: Option<String>,
}

/// A program, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct ServerBinary {
    /// Its command line.
    pub(crate) flavor: Flavor,
    /// Where it is.
    pub(crate) path: PathBuf,
}

fn parse_flavor(text: &str) -> Result<Flavor, String> {
    match text {
        "moon" => Ok(Flavor::Moon),
        "redis" => Ok(Flavor::Redis),
        other => Err(format!("{other}: expected moon or redis")),
    }
}

impl ServerOptions {
    /// Builds or finds the program. `features` are those of `moon-server`; `profile` is the one to
    /// build it with unless the options name another.
    pub(crate) fn locate(&self, features: &[&str], profile: &str) -> Result<ServerBinary> {
        let profile = self.profile.as_deref().unwrap_or(profile);
        let path = match (&self.server_binary, self.server) {
            (Some(path), _) => path.clone(),
            (None, Flavor::Redis) => PathBuf::from("redis-server"),
            (None, Flavor::Moon) => build_moon(features, profile)?,
        };
        Ok(ServerBinary {
            flavor: self.server,
            path,
        })
    }
}

#[derive(Deserialize)]
struct Artifact {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds `moon-server`. Each set of features is kept under a name of its own,
/// so that building for one command does not change the program under another.
fn build_moon(features: &[&str], profile: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "moon-server", "--profile", profile]);
    command.arg("--message-format=json-render-diagnostics");
    if !features.is_empty() {
        command.arg("--features").arg(features.join(","));
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo build")?;
    if !output.status.success() {
        bail!("moon-server does not build");
    }
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|a| a.reason == "compiler-artifact")
        .filter(|a| a.target.as_ref().is_some_and(|t| t.name == "moon-server"))
        .find_map(|a| a.executable)
        .context("cargo built no program named moon-server")?;
    if features.is_empty() {
        return Ok(built);
    }
    let kept = built.with_file_name(format!("moon-server-{}", features.join("-")));
    replace(&built, &kept)?;
    Ok(kept)
}

/// Copies under a temporary name first: `to` may be running at this moment.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let temporary = to.with_extension("new");
    std::fs::copy(from, &temporary)
        .and_then(|_| std::fs::rename(&temporary, to))
        .with_context(|| format!("keeping {} as {}", from.display(), to.display()))
}

/// The cargo that runs this program, or the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The directory for results: `target/` of the workspace.
pub(crate) fn target_dir() -> PathBuf {
    workspace_root().join("target")
}

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}
