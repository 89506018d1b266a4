//! The documents say what is so: the command list is the command table, and every command line
//! that the pages show a user is one that works.

use crate::support::{binary, is_installed, is_other_server};
use moon_commands::{CommandSpec, all};
use moon_commands::{subcommands, syntax};
use moon_harness::server::{free_port, run_to_exit};
use moon_harness::{Client, Flavor, Server, ServerConfig};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// With this variable in the environment, the generated page is written instead of compared.
const WRITE: &str = "MOON_WRITE_DOCS";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

#[test]
fn the_command_list_is_the_command_table() {
    let expected = command_list();
    let name = "docs/commands.md";
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(root().join(name), &expected).unwrap();
    }
    let is_current = page(name) == expected;
    assert!(is_current, "{name} is old; run this test with {WRITE}=1");
}

fn command_list() -> String {
    let mut groups: BTreeMap<&str, Vec<&CommandSpec>> = BTreeMap::new();
    for spec in all() {
        let rows = groups.entry(spec.group).or_default();
        rows.push(spec);
        rows.extend(subcommands::of(spec.name));
    }
    let mut text = String::from(
        "# Commands\n\n\
         Generated from the command table, which is also what COMMAND, COMMAND DOCS and the \
         checks of every request read.\n\
         Brackets stand around what may be left out, `<a | b>` is one of several. \
         *Words* is the number of words of a request, the command's name included; `2+` means two \
         or more. *Since* is the version of Redis that had it first. Options are those of Redis \
         7.2; what differs is in [differences.md](differences.md).\n",
    );
    for (group, mut rows) in groups {
        rows.sort_by_key(|spec| spec.name);
        write!(text, "\n## {group}\n\n").unwrap();
        text.push_str("| Command | Words | Since | What it does | Time |\n|---|---|---|---|---|\n");
        for spec in rows {
            let usage = syntax::usage(spec.name).replace('|', "\\|");
            let plus = if spec.arity < 0 { "+" } else { "" };
            let words = spec.arity.unsigned_abs();
            let (since, summary, time) = (spec.since, spec.summary, spec.complexity);
            writeln!(
                text,
                "| `{usage}` | {words}{plus} | {since} | {summary} | {time} |"
            )
            .unwrap();
        }
    }
    text
}

/// The command lines in the `sh` blocks of a page, without comments.
pub(crate) fn command_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        // A block may stand inside a list.
        let line = line.trim_start();
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            let line = line.split(" # ").next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with('#') {
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

/// What a page's command lines run on: a directory, and a port in place of the default one.
struct Reader {
    dir: TempDir,
    port: u16,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            dir: crate::support::temp_dir(),
            port: free_port(),
        }
    }

    /// The server as the line starts it, in this reader's directory.
    fn server(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.dir.path()).args(args);
        command.arg("--port").arg(self.port.to_string());
        command
    }

    /// A line that starts the server: a check finds nothing wrong with it.
    fn check(&self, args: &[&str]) {
        let mut command = self.server(args);
        command.arg("--check-config");
        let (status, output) = run_to_exit(command, Duration::from_secs(20)).unwrap();
        assert!(status.success(), "{args:?}: {output}");
    }

    fn redis_cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.arg("-e").arg("-p").arg(self.port.to_string());
        let (status, output) = run_to_exit(with(command, args), Duration::from_secs(20)).unwrap();
        assert!(status.success(), "redis-cli {args:?}: {output}");
        output
    }
}

fn with(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    command
}

/// Whether `line` is for the toolchain. `cargo xtask` lines are parsed by a test of `xtask`.
fn is_for_the_toolchain(line: &str) -> bool {
    [
        "cargo ",
        "RUSTFLAGS=",
        "RUSTC_BOOTSTRAP=",
        "scripts/",
        ".ci/",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// Scenario 194: what the README tells a new user to type does what it says, in an empty
/// directory, with nothing set but the port.
#[test]
fn the_commands_of_the_readme_work_as_they_stand() {
    if is_other_server() {
        return;
    }
    let lines = command_lines(&page("README.md"));
    let serve = "cargo run --release -p moon-server";
    assert_eq!(lines[0], serve, "the first line serves");
    assert!(lines.contains(&"cargo xtask test".to_owned()));

    let reader = Reader::new();
    let log = reader.dir.path().join("log");
    let mut command = reader.server(&[]);
    command.stdout(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let address = (std::net::Ipv4Addr::LOCALHOST, reader.port).into();
    let is_ready = || {
        let pong = Client::connect(address).and_then(|mut client| client.run("PING"));
        pong.is_ok_and(|reply| reply.error().is_none())
    };
    while !is_ready() {
        assert!(child.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    let has_cli = is_installed("redis-cli");
    for line in lines.iter().filter(|line| *line != serve) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["redis-cli", ref args @ ..] if has_cli => {
                let output = reader.redis_cli(args);
                assert!(!output.is_empty(), "{line}");
            }
            ["redis-cli", ..] => {}
            ["moon-server", ref args @ ..] => Reader::new().check(args),
            _ => assert!(is_for_the_toolchain(line), "nobody checks: {line}"),
        }
    }
    // With the log on, in ./data, and it says so.
    assert!(reader.dir.path().join("data/appendonlydir").is_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    let durability = "appendonly yes, appendfsync everysec, in ./data/appendonlydir";
    assert!(log.contains(durability), "{log}");
}

/// Scenario 194: what the other pages show is understood by the program they show it for.
#[test]
fn the_command_lines_of_the_documents_are_understood() {
    if is_other_server() {
        return;
    }
    let mut pages = vec!["CONTRIBUTING.md".to_owned()];
    for dir in ["docs", "docs/runbooks"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                pages.push(format!("{dir}/{name}"));
            }
        }
    }
    let config = |dir: &TempDir| ServerConfig::new(Flavor::Moon, binary(), dir.path().join("data"));
    let dir = crate::support::temp_dir();
    let server = Server::start(config(&dir).shards(2)).unwrap();
    let has_cli = is_installed("redis-cli");
    for page_name in pages {
        for line in command_lines(&page(&page_name)) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                // Run as they stand, on real data, by the tests of `migrate`.
                ["moon-server", "migrate-aof", ..] => {}
                // What the tools do on such lines, their own tests show; here that they take them.
                ["moon-server", "check-aof" | "reshard" | "restore", ..] => {
                    let reader = Reader::new();
                    let mut command = Command::new(binary());
                    command.current_dir(reader.dir.path()).args(&words[1..]);
                    let (_, output) = run_to_exit(command, Duration::from_secs(20)).unwrap();
                    assert!(!output.contains("Usage:"), "{page_name}: {line}: {output}");
                }
                ["moon-server", ref args @ ..] => {
                    let reader = Reader::new();
                    std::fs::write(reader.dir.path().join("moon.conf"), "").unwrap();
                    // The reader's own port decides, behind one that the line gives.
                    let ported = args.windows(2).position(|w| w[0] == "--port");
                    let mut args = args.to_vec();
                    if let Some(at) = ported {
                        args.drain(at..at + 2);
                    }
                    args.retain(|a| *a != "--check-config");
                    reader.check(&args);
                }
                ["redis-cli", ref args @ ..] if has_cli => {
                    let mut command = Command::new("redis-cli");
                    command.arg("-e").arg("-p");
                    command.arg(server.config().port.to_string());
                    let (status, output) =
                        run_to_exit(with(command, args), Duration::from_secs(20)).unwrap();
                    assert!(status.success(), "{page_name}: {line}: {output}");
                }
                ["redis-cli", ..] => {}
                // Plain tools on files of the reader's own.
                ["head" | "ls" | "df" | "curl" | "cp" | "mv" | "cd", ..] => {}
                _ => assert!(
                    is_for_the_toolchain(&line),
                    "{page_name}: nobody checks: {line}"
                ),
            }
        }
    }
}
