//! `/metrics`, `/healthz` and `/readyz` on a listener, a thread and a runtime of their own, so
//! that a scrape never waits for a shard and a shard never for a scrape.
//!
//! Numbers are taken from the counters when somebody asks; the path of a command knows nothing of
//! this module.
//!
//! * [`text`]: the numbers as Prometheus text.

pub mod text;

use crate::info::MemoryInfo;
use crate::persistence::PersistenceInfo;
use crate::pubsub::Kind;
use crate::stats::ServerStats;
use crate::tracking::shared::Numbers as Tracking;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Largest request head; a longer one is answered with 431.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Time for one request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests at a time; more wait to be accepted.
const REQUESTS_MAX: usize = 32;

/// Whether clients should be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Recovery is done and the log takes writes.
    Ready,
    /// Not now; the text says why.
    NotReady(String),
}

/// Where the history stands. Bytes of the one stream.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the words of docs/metrics.md")]
pub struct LsnNumbers {
    pub head: u64,
    pub committed: u64,
    pub durable: u64,
    /// Age of the oldest frame that is not committed, in milliseconds.
    pub commit_lag_ms: u64,
}

/// Clients that wait or listen, and what took long.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the words of docs/metrics.md")]
pub struct ListenNumbers {
    pub blocked_clients: u64,
    pub monitors: u64,
    pub tracking: Tracking,
    pub slow_commands: u64,
}

/// What only the running server knows.
pub trait Source: Send + Sync + 'static {
    /// All counters.
    fn stats(&self) -> &ServerStats;
    /// The log; `None` with it off.
    fn aof(&self) -> Option<Arc<moon_aof::AofStatus>>;
    /// Snapshots and rewrites.
    fn persistence(&self) -> PersistenceInfo;
    /// The name of a command id.
    fn command_name(&self, id: u16) -> Option<&str>;
    /// Where the history stands.
    fn lsn(&self) -> LsnNumbers;
    /// Whether clients should be sent here.
    fn readiness(&self) -> Readiness;
    /// What is known about memory.
    fn memory(&self) -> MemoryInfo;
    /// Subscriptions of one kind.
    fn subscriptions(&self, kind: Kind) -> u64;
    /// Channels or patterns of one kind that somebody has subscribed to.
    fn subscribed(&self, kind: Kind) -> u64;
    /// Clients that wait or listen, and what took long.
    fn listening(&self) -> ListenNumbers;
}

/// A source that comes when recovery is over; until then the server is alive and not ready.
pub type Later = Arc<OnceLock<Arc<dyn Source>>>;

/// Serves on `listener` from a thread of its own until the process ends.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn spawn(listener: TcpListener, source: Later) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || runtime.block_on(serve(listener, source)))?;
    Ok(())
}

async fn serve(listener: TcpListener, source: Later) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::warn!("metrics are not served: {e}");
            return;
        }
    };
    let room = Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(REQUEST_TIMEOUT, answer(stream, &source));
                    if let Ok(Err(e)) = answered.await {
                        tracing::debug!("metrics request: {e}");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: a moment later there may be some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads one request, answers it, closes.
async fn answer(mut stream: TcpStream, source: &Later) -> io::Result<()> {
    let mut head = Vec::new();
    let reply = loop {
        if head.windows(4).any(|w| w == b"\r\n\r\n") {
            break respond(&head, source);
        }
        if head.len() > REQUEST_BYTES_MAX {
            break Response::plain(431, "request too large\n");
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    };
    stream.write_all(&reply.bytes()).await?;
    stream.shutdown().await
}

struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Response {
    fn plain(status: u16, body: impl Into<String>) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: \
             close\r\n\r\n{}",
            self.status,
            self.content_type,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }
}

fn respond(head: &[u8], source: &Later) -> Response {
    let source = source.get();
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Response::plain(400, "bad request\n");
    };
    if method != b"GET" {
        return Response::plain(405, "only GET\n");
    }
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    match path {
        b"/metrics" => Response {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: source.map_or_else(|| "moon_ready 0\n".to_owned(), |s| text::render(&**s)),
        },
        b"/healthz" => Response::plain(200, "ok\n"),
        b"/readyz" => match source.map(|s| s.readiness()) {
            None => Response::plain(503, "loading\n"),
            Some(Readiness::Ready) => Response::plain(200, "ready\n"),
            Some(Readiness::NotReady(why)) => Response::plain(503, format!("{why}\n")),
        },
        _ => Response::plain(404, "try /metrics, /healthz or /readyz\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::sync::Mutex;

    struct Fake(ServerStats, Mutex<Readiness>);

    impl Source for Fake {
        fn stats(&self) -> &ServerStats {
            &self.0
        }
        fn aof(&self) -> Option<Arc<moon_aof::AofStatus>> {
            None
        }
        fn persistence(&self) -> PersistenceInfo {
            PersistenceInfo::default()
        }
        fn command_name(&self, id: u16) -> Option<&str> {
            (id == 1).then_some("get")
        }
        fn lsn(&self) -> LsnNumbers {
            LsnNumbers {
                head: 10,
                committed: 7,
                durable: 5,
                commit_lag_ms: 1500,
            }
        }
        fn readiness(&self) -> Readiness {
            self.1.lock().unwrap().clone()
        }
        fn memory(&self) -> MemoryInfo {
            MemoryInfo {
                used: 4096,
                values: 1024,
                committed: 5000,
                ..MemoryInfo::default()
            }
        }
        fn subscriptions(&self, kind: Kind) -> u64 {
            u64::from(kind == Kind::Pattern) * 3
        }
        fn subscribed(&self, kind: Kind) -> u64 {
            u64::from(kind == Kind::Pattern) * 2
        }
        fn listening(&self) -> ListenNumbers {
            ListenNumbers {
                blocked_clients: 4,
                slow_commands: 6,
                ..ListenNumbers::default()
            }
        }
    }

    fn ask(addr: std::net::SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    /// Scenario 189: alive while loading, ready only afterwards.
    #[test]
    fn probes_and_metrics_are_served() {
        let fake = Arc::new(Fake(
            ServerStats::new(2, 16, 2),
            Mutex::new(Readiness::NotReady("stopping".to_owned())),
        ));
        fake.0.shard(0).record_command(1, 3, 200);
        fake.0.shard(1).turn_bytes.record(300, 1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let later = Later::default();
        spawn(listener, Arc::clone(&later)).unwrap();
        let get = |path: &str| ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));

        assert!(get("/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
        let reply = get("/readyz");
        assert!(reply.starts_with("HTTP/1.1 503") && reply.ends_with("\r\n\r\nloading\n"));
        assert!(get("/metrics").ends_with("moon_ready 0\n"));
        assert!(later.set(Arc::clone(&fake) as Arc<dyn Source>).is_ok());
        assert!(get("/readyz").ends_with("\r\n\r\nstopping\n"));
        *fake.1.lock().unwrap() = Readiness::Ready;
        assert!(get("/readyz?x=1").starts_with("HTTP/1.1 200"));
        assert!(get("/nothing").starts_with("HTTP/1.1 404"));
        assert!(ask(addr, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));

        let text = get("/metrics");
        for line in [
            "moon_commands_total{cmd=\"get\"} 3",
            "moon_command_duration_seconds_bucket{cmd=\"get\",le=\"0.000000128\"} 0",
            "moon_command_duration_seconds_bucket{cmd=\"get\",le=\"0.000000256\"} 3",
            "moon_command_duration_seconds_bucket{cmd=\"get\",le=\"+Inf\"} 3",
            "moon_command_duration_seconds_count{cmd=\"get\"} 3",
            "moon_turn_bytes_bucket{shard=\"1\",le=\"512\"} 1",
            "moon_turn_bytes_sum{shard=\"1\"} 300",
            "moon_lsn_head 10",
            "moon_commit_lag_bytes 3",
            "moon_commit_lag_seconds 1.5",
            "moon_memory_used_bytes 4096",
            "moon_memory_bytes{kind=\"values\"} 1024",
            "moon_memory_bytes{kind=\"allocator_overhead\"} 904",
            "moon_rdb_last_save_ok 1",
            "moon_pubsub_subscriptions{kind=\"pattern\"} 3",
            "moon_pubsub_names{kind=\"pattern\"} 2",
            "moon_blocked_clients 4",
            "moon_slow_commands_total 6",
            "moon_tracking_keys 0",
            "moon_busy_scripts 0",
            "moon_script_memory_bytes{kind=\"engines\"} 0",
            "# HELP moon_rdb_changes_since_last_save Changes that no snapshot holds",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }
}
