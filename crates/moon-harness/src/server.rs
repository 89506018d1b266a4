//! A server as a child process on its own port and data directory.
//!
//! The process is started, watched until it answers, stopped or killed, and started again on the
//! same directory. Its output goes to a file beside the data, and everything that goes wrong is
//! reported with the end of that file.

use crate::client::Client;
use crate::reply::Reply;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to start, recovery included, or to stop.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition that the process cannot announce.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Which server it is, because their command lines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// `moon-server`.
    Moon,
    /// `redis-server`, to check the harness itself and to compare with.
    Redis,
}

/// `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FsyncPolicy {
    /// Synced before the acknowledgement: survives power loss.
    Always,
    /// Synced every second: survives SIGKILL.
    Everysec,
    /// Synced when the kernel likes: survives SIGKILL.
    No,
}

impl FsyncPolicy {
    /// All policies.
    pub const ALL: [FsyncPolicy; 3] = [FsyncPolicy::Always, FsyncPolicy::Everysec, FsyncPolicy::No];
}

impl fmt::Display for FsyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FsyncPolicy::Always => "always",
            FsyncPolicy::Everysec => "everysec",
            FsyncPolicy::No => "no",
        })
    }
}

impl FromStr for FsyncPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        FsyncPolicy::ALL
            .into_iter()
            .find(|p| p.to_string() == text)
            .ok_or_else(|| format!("{text}: expected always, everysec or no"))
    }
}

/// `pipeline-order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineOrder {
    /// Order per connection and shard; commands over several shards are barriers.
    Relaxed,
    /// Order per connection.
    Strict,
}

/// How to start a server. Fields that are `None` or empty add no flag.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Whose command line to build.
    pub flavor: Flavor,
    /// The program.
    pub binary: PathBuf,
    /// The data directory; the caller keeps it alive.
    pub dir: PathBuf,
    /// The port; fixed over restarts.
    pub port: u16,
    /// `--shards`, for moon only.
    pub shards: Option<u16>,
    /// `--appendonly yes --appendfsync ...`, or `--appendonly no`.
    pub append: Option<FsyncPolicy>,
    /// `--pipeline-order`, for moon only.
    pub order: Option<PipelineOrder>,
    /// A configuration file, passed before all flags.
    pub config_file: Option<PathBuf>,
    /// More arguments, as they are.
    pub args: Vec<String>,
    /// Environment variables of the process.
    pub envs: Vec<(String, String)>,
    /// Cores to pin the process to, as `taskset -c` takes them.
    pub cores: Option<String>,
}

impl ServerConfig {
    /// A server on a free port with its data in `dir` and the log off.
    ///
    /// # Panics
    /// When the machine has no free port.
    #[must_use]
    pub fn new(flavor: Flavor, binary: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        ServerConfig {
            flavor,
            binary: binary.into(),
            dir: dir.into(),
            port: free_port(),
            shards: None,
            append: None,
            order: None,
            config_file: None,
            args: Vec::new(),
            envs: Vec::new(),
            cores: None,
        }
    }

    /// With so many shards (moon only).
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// With the log on.
    #[must_use]
    pub fn append(mut self, policy: FsyncPolicy) -> Self {
        self.append = Some(policy);
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.envs.push((name.to_owned(), value.into()));
        self
    }

    /// Number of shards that decides which writes are ordered with each other: a server without
    /// shards is one shard.
    #[must_use]
    pub fn effective_shards(&self) -> u16 {
        match self.flavor {
            Flavor::Redis => 1,
            Flavor::Moon => self.shards.unwrap_or(1),
        }
    }

    /// Where the process writes its output.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// The command line.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = match &self.cores {
            None => Command::new(&self.binary),
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cores).arg(&self.binary);
                command
            }
        };
        command.args(&self.config_file);
        command.arg("--port").arg(self.port.to_string());
        command.arg("--dir").arg(&self.dir);
        if self.flavor == Flavor::Redis {
            command.args(["--save", "", "--bind", "127.0.0.1"]);
        } else {
            if let Some(shards) = self.shards {
                command.arg("--shards").arg(shards.to_string());
            }
            if let Some(order) = self.order {
                command.arg("--pipeline-order").arg(match order {
                    PipelineOrder::Relaxed => "relaxed",
                    PipelineOrder::Strict => "strict",
                });
            }
        }
        match self.append {
            Some(policy) => {
                command.args(["--appendonly", "yes", "--appendfsync", &policy.to_string()]);
            }
            None => {
                command.args(["--appendonly", "no"]);
            }
        }
        command.args(&self.args);
        command.envs(self.envs.iter().map(|(k, v)| (k, v)));
        command
    }
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    child: Child,
    /// Keeps the directory of [`Server::start_temp`] until the server is gone.
    dir: Option<TempDir>,
}

impl Server {
    /// Starts a process and returns at once, before it answers.
    ///
    /// # Errors
    /// When the program cannot be executed or the port is not free.
    pub fn spawn(config: ServerConfig) -> Result<Server> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        if TcpStream::connect(address).is_ok() {
            bail!("port {} is in use by another process", config.port);
        }
        std::fs::create_dir_all(&config.dir)
            .with_context(|| format!("creating {}", config.dir.display()))?;
        let child = spawn_logged(&config)?;
        Ok(Server {
            config,
            child,
            dir: None,
        })
    }

    /// Starts a process and waits until it answers PING.
    ///
    /// # Errors
    /// When the process ends before it answers, or does not answer in time.
    pub fn start(config: ServerConfig) -> Result<Server> {
        let mut server = Server::spawn(config)?;
        server.wait_ready()?;
        Ok(server)
    }

    /// As [`Server::start`], on a fresh directory that lives as long as the server; `adjust`
    /// completes the configuration.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_temp(
        flavor: Flavor,
        binary: impl Into<PathBuf>,
        adjust: impl FnOnce(ServerConfig) -> ServerConfig,
    ) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("moon-test-").tempdir()?;
        let config = ServerConfig::new(flavor, binary, dir.path().join("data"));
        let mut server = Server::start(adjust(config))?;
        server.dir = Some(dir);
        Ok(server)
    }

    /// The configuration it was last started with.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// To change for the next [`Server::restart`].
    pub fn config_mut(&mut self) -> &mut ServerConfig {
        &mut self.config
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.config.port))
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address())
            .with_context(|| format!("connecting to {}\n{}", self.address(), self.log_tail()))
    }

    /// Waits until PING is answered with PONG, through refused connections and `-LOADING`.
    ///
    /// # Errors
    /// When the process ends first, or time is up; the message carries the end of its output.
    pub fn wait_ready(&mut self) -> Result<()> {
        match self.wait_ready_or_exit()? {
            None => Ok(()),
            Some(status) => bail!(
                "the server ended at start with {status}\n{}",
                self.log_tail()
            ),
        }
    }

    /// Waits until PING is answered (`None`) or the process ended.
    ///
    /// # Errors
    /// When neither happens in time.
    pub fn wait_ready_or_exit(&mut self) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + START_STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if ping(self.address()) {
                return Ok(None);
            }
            if Instant::now() > deadline {
                bail!("the server does not answer PING\n{}", self.log_tail());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Kills the process with SIGKILL and returns when it is dead and nobody listens on its port.
    ///
    /// # Errors
    /// When somebody else turns out to listen there: results would be mixed up.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill().context("sending SIGKILL")?;
        self.child.wait().context("waiting for the killed server")?;
        self.expect_port_free()
    }

    /// Asks the process to stop with SIGTERM and waits for its exit status.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn sigterm(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait_exit(START_STOP_TIMEOUT)?;
        self.expect_port_free()?;
        Ok(status)
    }

    /// Sends any signal and returns at once.
    ///
    /// # Errors
    /// When the process is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id fits in 31 bits")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal}"))
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server still runs\n{}", self.log_tail());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Starts the process again with the present configuration, on the same port and directory,
    /// and returns at once. It must have ended.
    ///
    /// # Errors
    /// As [`Server::spawn`].
    pub fn respawn(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            bail!("the server still runs, it cannot be started again");
        }
        self.expect_port_free()?;
        self.child = spawn_logged(&self.config)?;
        Ok(())
    }

    /// [`Server::respawn`] and [`Server::wait_ready`].
    ///
    /// # Errors
    /// As these.
    pub fn restart(&mut self) -> Result<()> {
        self.respawn()?;
        self.wait_ready()
    }

    /// Everything the process has printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.config.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines that the process has printed, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(25)..];
        format!(
            "--- last output of {} ---\n{}",
            self.config.binary.display(),
            tail.join("\n")
        )
    }

    fn expect_port_free(&self) -> Result<()> {
        if TcpStream::connect(self.address()).is_ok() {
            bail!(
                "the server is dead but somebody answers on port {}",
                self.config.port
            );
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already; both calls then fail or return at once.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn_logged(config: &ServerConfig) -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(config.log_path())
        .with_context(|| format!("opening {}", config.log_path().display()))?;
    let stderr: File = log.try_clone()?;
    config
        .command()
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("starting {}", config.binary.display()))
}

fn ping(address: SocketAddr) -> bool {
    let Ok(mut client) = Client::connect(address) else {
        return false;
    };
    matches!(client.command(&["PING"]), Ok(Reply::Simple(pong)) if pong == b"PONG")
}

/// Runs a program to its end and returns status and output; for starts that must be refused.
///
/// # Errors
/// When the program cannot be executed or does not end in time.
pub fn run_to_exit(mut command: Command, timeout: Duration) -> Result<(ExitStatus, String)> {
    let output = tempfile::NamedTempFile::new()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(output.reopen()?)
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} still runs:\n{}", read_lossy(output.path()));
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    Ok((status, read_lossy(output.path())))
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// A port that nobody listens on, below the range from which the kernel takes the ports of
/// outgoing connections, so that no client can occupy it between two starts.
///
/// # Panics
/// When all of them are taken.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(2_654_435_761) >> 16;
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(COUNT)).expect("below COUNT");
        let port = FIRST + offset;
        if reserve(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Takes `port` for this process until it ends: between looking at a port and listening on it,
/// another process of this harness could choose the same one.
fn reserve(port: u16) -> bool {
    let dir = std::env::temp_dir().join("moon-harness-ports");
    if std::fs::create_dir_all(&dir).is_err() {
        return true;
    }
    let Ok(file) = File::create(dir.join(port.to_string())) else {
        return true;
    };
    let is_mine = file.try_lock().is_ok();
    if is_mine {
        // The lock lives as long as the open file, and so as long as the process.
        std::mem::forget(file);
    }
    is_mine
}
