//! The checks of a start: one function for the real start, `--check-config` and any embedding.
//!
//! It takes the directory's lock first, so that what it checks stays true, and hands the lock
//! over with its result.

use crate::config::Config;
use crate::lock::{DirLock, LockError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

/// Exit code of a refusal.
pub const REFUSED_EXIT_CODE: i32 = 2;

/// Descriptors kept for files, listeners and the runtime, beside one per client.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Descriptors each shard needs for its segments and its runtime.
const DESCRIPTORS_PER_SHARD: u64 = 8;

/// Why the server does not start. `Display` is the one line to print; the exit code is
/// [`REFUSED_EXIT_CODE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("REFUSING TO START: {reason}")]
pub struct Refusal {
    /// What is wrong and what to do, in one line.
    pub reason: String,
}

impl Refusal {
    /// A refusal for `reason`; line breaks become spaces.
    pub fn new(reason: impl std::fmt::Display) -> Refusal {
        Refusal {
            reason: reason.to_string().replace(['\n', '\r'], " "),
        }
    }

    /// A refusal that prints `error` and all its causes.
    pub fn from_error(error: &dyn std::error::Error) -> Refusal {
        Refusal::new(chain(error))
    }
}

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The address.
    pub addr: SocketAddr,
    /// Written with a leading `-`: go on without it if it is not available.
    pub optional: bool,
}

/// What the checks found out.
#[derive(Debug)]
pub struct Checked<T> {
    /// The directory's lock, to be held for the life of the server. `None` if a check found that
    /// the directory does not exist yet and did not create it.
    pub lock: Option<DirLock>,
    /// TCP addresses to listen on; empty with `port 0`.
    pub listen: Vec<ListenAddr>,
    /// `maxclients`, reduced if descriptors are short.
    pub maxclients: u32,
    /// Lines to log.
    pub notes: Vec<String>,
    /// What the scan of the log found; `None` with `appendonly no`, or where the directory does
    /// not exist yet.
    pub scan: Option<T>,
}

/// Runs every check of a start. With `config.check_config` nothing is created.
///
/// `scan` reads the log in `config.dir` without changing it and refuses what a start would
/// refuse (a corrupt manifest, another shard count, a legacy layout, damage); it runs last,
/// under the lock. It runs with `appendonly no` too, so that data there is not overlooked; its
/// result is then dropped and noted.
///
/// # Errors
/// The first reason not to start.
pub fn check<T>(
    config: &Config,
    scan: impl FnOnce(&Config) -> Result<T, Refusal>,
) -> Result<Checked<T>, Refusal> {
    let mut notes = Vec::new();
    let listen = resolve_bind(config)?;
    if listen.is_empty() && config.unixsocket.is_none() {
        return Err(Refusal::new(
            "port is 0 and there is no unixsocket, so nobody could connect; set one of them",
        ));
    }
    check_ports(config, &listen)?;
    let maxclients = check_descriptors(config, &mut notes)?;
    let exists = check_dir(config)?;
    let lock = if exists {
        Some(DirLock::acquire(&config.dir).map_err(|e| refuse_lock(&e))?)
    } else {
        notes.push(format!("{} will be created", config.dir.display()));
        None
    };
    let mut found = None;
    if exists {
        probe_writable(&config.dir)?;
        found = Some(scan(config)?);
    }
    let log_dir = config.dir.join(&config.appenddirname);
    if !config.appendonly {
        found = None;
        if log_dir.exists() {
            notes.push(format!(
                "WARNING appendonly no: the data in {} is not loaded, and what is written now is \
                 not kept",
                log_dir.display()
            ));
        }
    }
    Ok(Checked {
        lock,
        listen,
        maxclients,
        notes,
        scan: found,
    })
}

fn refuse_lock(error: &LockError) -> Refusal {
    Refusal::from_error(error)
}

/// The addresses that `bind` and `port` mean.
///
/// # Errors
/// A name that is no address and cannot be resolved, unless it is optional.
pub fn resolve_bind(config: &Config) -> Result<Vec<ListenAddr>, Refusal> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    let mut listen: Vec<ListenAddr> = Vec::new();
    for word in &config.bind {
        let (host, optional) = match word.strip_prefix('-') {
            Some(host) => (host, true),
            None => (word.as_str(), false),
        };
        let addrs: Vec<SocketAddr> = match host {
            "*" => vec![(IpAddr::V4(Ipv4Addr::UNSPECIFIED), config.port).into()],
            "::*" => vec![(IpAddr::V6(Ipv6Addr::UNSPECIFIED), config.port).into()],
            _ => match (host, config.port).to_socket_addrs() {
                Ok(addrs) => addrs.take(1).collect(),
                Err(_) if optional => Vec::new(),
                Err(e) => {
                    return Err(Refusal::new(format!(
                        "bind {word}: not an address of this host ({e})"
                    )));
                }
            },
        };
        for addr in addrs {
            if !listen.iter().any(|l| l.addr == addr) {
                listen.push(ListenAddr { addr, optional });
            }
        }
    }
    Ok(listen)
}

/// Binds each address once and lets go of it, so that a busy port is found before anything is
/// touched; the real bind follows.
fn check_ports(config: &Config, listen: &[ListenAddr]) -> Result<(), Refusal> {
    for l in listen {
        match bind_tcp(l.addr) {
            Ok(_) => {}
            Err(e) if l.optional && unavailable(&e) => {}
            Err(e) => {
                return Err(Refusal::new(format!(
                    "cannot listen on {}: {e}; is another server running there?",
                    l.addr
                )));
            }
        }
    }
    if let Some(port) = config.metrics_port {
        let addr = SocketAddr::new(config.metrics_bind, port);
        bind_tcp(addr)
            .map_err(|e| Refusal::new(format!("cannot listen on {addr} for metrics: {e}")))?;
    }
    Ok(())
}

/// Whether an optional address may be left out: it does not exist here, as opposed to busy.
#[must_use]
pub fn unavailable(error: &std::io::Error) -> bool {
    use nix::errno::Errno as E;
    let errno = error.raw_os_error().map(E::from_raw);
    matches!(
        errno,
        Some(E::EADDRNOTAVAIL | E::EAFNOSUPPORT | E::EPROTONOSUPPORT | E::ESOCKTNOSUPPORT)
    )
}

/// A TCP socket bound to `addr`, not listening yet. Never shared with another server: no
/// `SO_REUSEPORT`. IPv6 sockets take IPv6 only, as in Redis.
///
/// # Errors
/// What the kernel says.
pub fn bind_tcp(addr: SocketAddr) -> std::io::Result<socket2::Socket> {
    let kind = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), kind, None)?;
    // Never SO_REUSEPORT: two servers on one port would each get some of the clients.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    // Two bound sockets with SO_REUSEADDR meet only at listen.
    socket.listen(1)?;
    Ok(socket)
}

/// Raises the limit of open files as far as `maxclients` needs it; the number of clients that
/// then fit.
fn check_descriptors(config: &Config, notes: &mut Vec<String>) -> Result<u32, Refusal> {
    let shards = config.shards.map_or(crate::cores::default_shards(), |s| s);
    let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_PER_SHARD * u64::from(shards.get());
    let wanted = u64::from(config.maxclients) + reserved;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|e| Refusal::new(format!("cannot read the limit of open files: {e}")))?;
    let mut limit = soft;
    if limit < wanted {
        let target = wanted.min(hard.max(soft));
        if setrlimit(Resource::RLIMIT_NOFILE, target, hard).is_ok() {
            limit = target;
        }
    }
    fit_clients(config.maxclients, limit, reserved, notes)
}

fn fit_clients(
    maxclients: u32,
    limit: u64,
    reserved: u64,
    notes: &mut Vec<String>,
) -> Result<u32, Refusal> {
    let wanted = u64::from(maxclients) + reserved;
    if limit >= wanted {
        return Ok(maxclients);
    }
    let fit = u32::try_from(limit.saturating_sub(reserved)).unwrap_or(u32::MAX);
    if fit == 0 {
        return Err(Refusal::new(format!(
            "the limit of {limit} open files is too low; at least {} are needed and {wanted} for \
             maxclients {maxclients} (ulimit -n {wanted})",
            reserved + 1
        )));
    }
    notes.push(format!(
        "WARNING maxclients has been reduced from {maxclients} to {fit}: the limit of {limit} \
         open files is too low, {wanted} are needed (ulimit -n {wanted})"
    ));
    Ok(fit)
}

/// Whether the directory exists, after creating it if this is a real start.
fn check_dir(config: &Config) -> Result<bool, Refusal> {
    let dir = &config.dir;
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => return Ok(true),
        Ok(_) => {
            return Err(Refusal::new(format!(
                "dir {} is not a directory",
                dir.display()
            )));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => {
            return Err(Refusal::new(format!(
                "cannot access dir {}: {e}",
                dir.display()
            )));
        }
    }
    if config.check_config {
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let parent = absolute.ancestors().skip(1).find(|p| p.exists());
        return match parent {
            Some(parent) => probe_writable(parent).map(|()| false),
            None => Err(Refusal::new(format!("cannot create dir {}", dir.display()))),
        };
    }
    std::fs::create_dir_all(dir)
        .map_err(|e| Refusal::new(format!("cannot create dir {}: {e}", dir.display())))?;
    sync_parent(dir).map_err(|e| {
        Refusal::new(format!(
            "cannot sync the directory above {}: {e}",
            dir.display()
        ))
    })?;
    Ok(true)
}

/// Makes the directory's own entry durable: data inside is lost with it otherwise.
fn sync_parent(dir: &Path) -> std::io::Result<()> {
    let absolute = std::path::absolute(dir)?;
    match absolute.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Lists the directory, and writes, syncs and removes a small file in it: permissions, a
/// read-only mount and a full disk all show here.
fn probe_writable(dir: &Path) -> Result<(), Refusal> {
    std::fs::read_dir(dir)
        .map_err(|e| Refusal::new(format!("cannot read dir {}: {e}", dir.display())))?;
    let path: PathBuf = dir.join(format!(".moon-probe-{}", std::process::id()));
    let probe = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()
    };
    let result = probe();
    let removed = std::fs::remove_file(&path);
    result
        .and(removed)
        .map_err(|e| Refusal::new(format!("cannot write to dir {}: {e}", dir.display())))
}

/// Writes the process id into `path`; the caller removes the file at its end. A failure is no
/// reason not to start.
///
/// # Errors
/// What the file system says.
pub fn write_pidfile(path: &Path) -> std::io::Result<()> {
    std::fs::write(path, format!("{}\n", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        Config {
            dir: dir.to_owned(),
            port: 0,
            unixsocket: Some(dir.join("s")),
            maxclients: 10,
            ..Config::default()
        }
    }

    fn run(config: &Config) -> Result<Checked<()>, Refusal> {
        check(config, |_| Ok(()))
    }

    /// Scenario 187.
    #[test]
    fn a_missing_directory_is_created_by_a_start_and_not_by_a_check() {
        let tmp = tempfile::tempdir().unwrap();
        let mut c = config(&tmp.path().join("a/b"));
        c.check_config = true;
        let checked = run(&c).unwrap();
        assert!(checked.lock.is_none() && !c.dir.exists());
        c.check_config = false;
        let checked = run(&c).unwrap();
        assert!(checked.lock.is_some() && c.dir.is_dir() && checked.scan.is_some());
    }

    /// Scenarios 183 and 187: check and start give the same verdict and text.
    #[test]
    fn a_bad_directory_is_refused_alike_by_check_and_start() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for dir in [file.clone(), file.join("below"), "/proc/none".into()] {
            let mut c = config(&dir);
            let start = run(&c).unwrap_err().to_string();
            c.check_config = true;
            let checked = run(&c).unwrap_err().to_string();
            assert!(start.starts_with("REFUSING TO START: "), "{start}");
            assert!(!start.contains('\n'));
            if dir == file {
                assert_eq!(start, checked);
            }
        }
    }

    /// Scenario 186.
    #[test]
    fn a_directory_in_use_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let c = config(tmp.path());
        let held = run(&c).unwrap();
        let refusal = run(&c).unwrap_err();
        assert!(
            refusal.reason.contains("in use by another server"),
            "{refusal}"
        );
        drop(held);
        run(&c).unwrap();
    }

    /// Scenario 188.
    #[test]
    fn a_busy_port_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut c = config(tmp.path());
        c.port = busy.local_addr().unwrap().port();
        c.bind = vec!["127.0.0.1".to_owned()];
        let refusal = run(&c).unwrap_err();
        assert!(
            refusal.reason.contains("cannot listen on 127.0.0.1"),
            "{refusal}"
        );
        c.bind = vec!["-127.0.0.1".to_owned()];
        assert!(run(&c).is_err(), "optional is not for busy ports");
        c.bind = vec!["-192.0.2.77".to_owned()];
        run(&c).unwrap();
    }

    #[test]
    fn nowhere_to_listen_is_refused_and_names_are_resolved() {
        let tmp = tempfile::tempdir().unwrap();
        let mut c = config(tmp.path());
        c.unixsocket = None;
        assert!(run(&c).unwrap_err().reason.contains("port is 0"));
        c.port = 7000;
        c.bind = ["*", "-::*", "127.0.0.1", "*"].map(str::to_owned).to_vec();
        let listen = resolve_bind(&c).unwrap();
        assert_eq!(listen.len(), 3);
        assert!(listen[1].optional && listen[1].addr.is_ipv6());
        c.bind = vec!["999.0.0.1".to_owned()];
        assert!(resolve_bind(&c).is_err());
    }

    /// Scenario 193.
    #[test]
    fn short_descriptors_reduce_maxclients_or_refuse_with_the_count() {
        let mut notes = Vec::new();
        assert_eq!(fit_clients(10_000, 20_000, 136, &mut notes), Ok(10_000));
        assert!(notes.is_empty());
        assert_eq!(fit_clients(10_000, 1024, 136, &mut notes), Ok(888));
        assert!(notes[0].contains("from 10000 to 888"));
        let refusal = fit_clients(10_000, 100, 136, &mut notes).unwrap_err();
        assert!(refusal.reason.contains("at least 137"), "{refusal}");
    }

    /// Scenario 192.
    #[test]
    fn data_that_is_not_loaded_is_noted_and_still_scanned() {
        let tmp = tempfile::tempdir().unwrap();
        let mut c = config(tmp.path());
        c.appendonly = false;
        std::fs::create_dir(tmp.path().join("appendonlydir")).unwrap();
        let checked = run(&c).unwrap();
        assert!(checked.scan.is_none() && checked.notes[0].contains("not loaded"));
        drop(checked);
        let refused = check(&c, |_| Err::<(), _>(Refusal::new("bad\nlog"))).unwrap_err();
        assert_eq!(refused.to_string(), "REFUSING TO START: bad log");
    }
}
