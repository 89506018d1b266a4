//! Accepting connections and giving them to the shards in turn.

use crate::clients::{Clients, Peer};
use crate::config::{Config, RuntimeConfig};
use crate::connection::{self, Socket};
use crate::loading::WaitingRoom;
use crate::server::Server;
use crate::startup;
use bytes::BytesMut;
use moon_core::ShardId;
use moon_shard::Shard;
use moon_shard::mailbox::ControlMessage;
use socket2::{SockRef, TcpKeepalive};
use std::cell::{Cell, OnceCell};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The sockets this server listens on.
pub struct Listeners {
    tcp: Vec<StdTcpListener>,
    unix: Option<(std::os::unix::net::UnixListener, PathBuf)>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address or path as configured.
    pub address: String,
    /// Why.
    pub source: io::Error,
}

/// What clients hear that come from elsewhere while nothing protects the server.
const PROTECTED: &[u8] = b"-DENIED moon is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. To connect from other computers, set a password with requirepass, \
bind to chosen interfaces with bind, or, if nobody else can reach this port, set protected-mode \
no.\r\n";

/// What clients hear beyond `maxclients`.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

impl Listeners {
    /// Binds every configured address. Nobody is accepted yet, but the port is taken: a second
    /// server on it is refused.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that is not optional (no leading `-`) and fails, and
    /// when none is left.
    pub fn bind(config: &Config) -> Result<Listeners, ListenError> {
        let mut tcp = Vec::new();
        if config.port != 0 {
            for address in &config.bind {
                let (optional, host) = match address.strip_prefix('-') {
                    Some(rest) => (true, rest),
                    None => (false, address.as_str()),
                };
                match bind_tcp(host, config.port, config.tcp_backlog) {
                    Ok(listener) => tcp.push(listener),
                    Err(_) if optional => {}
                    Err(source) => {
                        let address = format!("{host}:{}", config.port);
                        return Err(ListenError { address, source });
                    }
                }
            }
        }
        let unix = match &config.unixsocket {
            None => None,
            Some(path) => {
                let error = |source| ListenError {
                    address: path.display().to_string(),
                    source,
                };
                Some((
                    bind_unix(path, config.unixsocketperm).map_err(error)?,
                    path.clone(),
                ))
            }
        };
        Ok(Listeners { tcp, unix })
    }

    /// Accepts connections until dropped.
    ///
    /// # Errors
    /// When a listener cannot be registered with this thread's event queue.
    pub async fn serve(self, door: Rc<Door>) -> io::Result<()> {
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.tcp {
            let listener = TcpListener::from_std(listener)?;
            let door = Rc::clone(&door);
            tasks.spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, peer)) => door.accept_tcp(stream, peer),
                        Err(error) => pause_after(&error).await,
                    }
                }
            });
        }
        if let Some((listener, path)) = self.unix {
            let listener = UnixListener::from_std(listener)?;
            let door = Rc::clone(&door);
            tasks.spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => door.accept_unix(stream, &path),
                        Err(error) => pause_after(&error).await,
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        std::future::pending().await
    }
}

fn bind_tcp(host: &str, port: u16, backlog: u32) -> io::Result<StdTcpListener> {
    let address: SocketAddr = match host {
        "*" => SocketAddr::from(([0, 0, 0, 0], port)),
        "::*" => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)),
        host => {
            use std::net::ToSocketAddrs as _;
            let mut found = (host, port).to_socket_addrs()?;
            found
                .next()
                .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?
        }
    };
    let socket = startup::bind_tcp(address)?;
    // Again, with the backlog that serving wants.
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &PathBuf, mode: u32) -> io::Result<std::os::unix::net::UnixListener> {
    // A socket file outlives its server; one that nobody answers on is stale.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    if mode != 0 {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Out of file descriptors, say: the error would come again at once.
async fn pause_after(error: &io::Error) {
    tracing::warn!("Accepting a client connection failed: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Lets clients in: into the waiting room during recovery, then to the shards in turn.
pub struct Door {
    config: Arc<RuntimeConfig>,
    room: Rc<WaitingRoom>,
    server: OnceCell<Arc<Server>>,
    next: Cell<u16>,
}

impl Door {
    /// A door to the waiting room.
    #[must_use]
    pub fn new(config: Arc<RuntimeConfig>, room: Rc<WaitingRoom>) -> Rc<Door> {
        Rc::new(Door {
            config,
            room,
            server: OnceCell::new(),
            next: Cell::new(0),
        })
    }

    /// Recovery is over: clients go to `server`'s shards, those in the waiting room too.
    pub fn open(&self, server: Arc<Server>) {
        // Opened once; a second server in one process would have its own door.
        self.server.get_or_init(|| server);
        self.room.open();
    }

    fn accept_tcp(self: &Rc<Self>, stream: TcpStream, address: SocketAddr) {
        let config = self.config.snapshot();
        let protects = config.protected_mode
            && config.requirepass.is_empty()
            && config.bind == Config::default().bind;
        if protects && !address.ip().to_canonical().is_loopback() {
            self.turn_away(Socket::Tcp(stream), PROTECTED);
            return;
        }
        set_options(&stream, config.tcp_keepalive_s);
        let laddr = stream
            .local_addr()
            .map(|a| a.to_string())
            .unwrap_or_default();
        let fd = stream.as_raw_fd();
        let peer = Peer {
            addr: address.to_string(),
            laddr,
            fd,
            unix: false,
        };
        self.let_in(peer, Socket::Tcp(stream));
    }

    fn accept_unix(self: &Rc<Self>, stream: UnixStream, path: &std::path::Path) {
        let name = format!("{}:0", path.display());
        let fd = stream.as_raw_fd();
        let peer = Peer {
            addr: name.clone(),
            laddr: name,
            fd,
            unix: true,
        };
        self.let_in(peer, Socket::Unix(stream));
    }

    fn let_in(self: &Rc<Self>, peer: Peer, socket: Socket) {
        if let Some(server) = self.server.get() {
            // Who came during recovery has a place already, though some may still be on their way.
            let taken = self.room.len();
            self.hand_over(server, peer, socket, BytesMut::new(), taken);
            return;
        }
        let maxclients = self.config.snapshot().maxclients;
        if self.room.len() as u64 >= u64::from(maxclients) {
            self.turn_away(socket, TOO_MANY);
            return;
        }
        let door = Rc::clone(self);
        self.room.enter();
        tokio::task::spawn_local(async move {
            let waited = door.room.wait(socket).await;
            if let (Some(waited), Some(server)) = (waited, door.server.get()) {
                door.hand_over(server, peer, waited.socket, waited.partial, 0);
            }
        });
    }

    /// Lets a shard serve a client, if there is a place besides those `taken`.
    fn hand_over(
        &self,
        server: &Arc<Server>,
        peer: Peer,
        socket: Socket,
        partial: BytesMut,
        taken: usize,
    ) {
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        let maxclients = server.settings.maxclients.load(Relaxed);
        let maxclients = maxclients.saturating_sub(taken);
        let Some(registration) = Clients::connect_below(&server.clients, maxclients, peer) else {
            self.turn_away(socket, TOO_MANY);
            return;
        };
        let raw = match Raw::unregister(socket) {
            Ok(raw) => raw,
            Err(error) => return lost(&error),
        };
        server.stats.connection_received();
        let shard = ShardId(self.next.get());
        self.next.set((shard.0 + 1) % server.shards.get());
        let for_shard = Arc::clone(server);
        let start = Box::new(move |shard: &Rc<Shard>| match raw.register() {
            Ok(socket) => {
                let shard = Rc::clone(shard);
                let serve = connection::serve(socket, partial, registration, shard, for_shard);
                tokio::task::spawn_local(serve);
            }
            Err(error) => lost(&error),
        });
        server
            .directory
            .of(shard)
            .send_control(ControlMessage::Run(start));
    }

    fn turn_away(&self, socket: Socket, text: &'static [u8]) {
        if let Some(server) = self.server.get() {
            server.stats.connection_rejected();
        }
        tokio::task::spawn_local(async move {
            let tell = async {
                match socket {
                    Socket::Tcp(mut stream) => stream.write_all(text).await,
                    Socket::Unix(mut stream) => stream.write_all(text).await,
                }
            };
            // Whoever does not listen is not told.
            drop(tokio::time::timeout(TURN_AWAY, tell).await);
        });
    }
}

/// Longest time for telling a client why it is turned away.
const TURN_AWAY: Duration = Duration::from_secs(1);

fn lost(error: &io::Error) {
    tracing::warn!("A client connection was lost at once: {error}");
}

fn set_options(stream: &TcpStream, keepalive_s: u32) {
    // A connection without these options still works; it only waits or lingers longer.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY: {error}");
    }
    if keepalive_s > 0 {
        let time = Duration::from_secs(u64::from(keepalive_s));
        let probes = TcpKeepalive::new()
            .with_time(time)
            .with_interval(time / 3)
            .with_retries(3);
        if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes) {
            tracing::debug!("tcp-keepalive: {error}");
        }
    }
}

/// A socket on its way from the accepting thread's event queue to a shard's.
enum Raw {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Raw {
    fn unregister(socket: Socket) -> io::Result<Raw> {
        Ok(match socket {
            Socket::Tcp(stream) => Raw::Tcp(stream.into_std()?),
            Socket::Unix(stream) => Raw::Unix(stream.into_std()?),
        })
    }

    fn register(self) -> io::Result<Socket> {
        Ok(match self {
            Raw::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream)?),
            Raw::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }
}
