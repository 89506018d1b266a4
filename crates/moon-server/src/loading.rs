//! Clients that connect while the log is replayed: answered LOADING, then handed to a shard.

use crate::connection::Socket;
use bytes::{Buf, BytesMut};
use moon_resp::{Parsed, Protocol, Reply, RequestLimits, RequestParser};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// What Redis answers, so that clients which know the text wait and try again.
const LOADING: &str = "LOADING Redis is loading the dataset in memory";

/// How far recovery is. Written by recovery, read by whoever answers.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of log read and replayed so far.
    pub done_bytes: AtomicU64,
    /// Bytes of log in all.
    pub total_bytes: AtomicU64,
    /// Everything is served from now on.
    pub ready: AtomicBool,
}

impl Progress {
    /// How much is done, such as `12.50%`.
    #[must_use]
    pub fn percent(&self) -> String {
        let (done, total) = (
            self.done_bytes.load(Relaxed),
            self.total_bytes.load(Relaxed),
        );
        // Percent with two digits, as Redis prints it.
        let hundredths = (done * 10_000).checked_div(total).unwrap_or(0);
        format!("{}.{:02}%", hundredths / 100, hundredths % 100)
    }

    /// The part of INFO that a client sees meanwhile.
    fn info(&self) -> String {
        let (done, total) = (
            self.done_bytes.load(Relaxed),
            self.total_bytes.load(Relaxed),
        );
        let percent = self.percent();
        format!(
            "# Persistence\r\nloading:1\r\nasync_loading:0\r\nloading_total_bytes:{total}\r\n\
             loading_loaded_bytes:{done}\r\nloading_loaded_perc:{}\r\n",
            percent.trim_end_matches('%')
        )
    }
}

/// The clients that wait for the end of recovery.
#[derive(Default)]
pub struct WaitingRoom {
    progress: Arc<Progress>,
    opened: Notify,
    waiting: Cell<usize>,
}

/// A client after the end of recovery: its socket, and the beginning of a request, if one was cut.
pub struct Waited {
    /// The socket.
    pub socket: Socket,
    /// Bytes read and not yet answered.
    pub partial: BytesMut,
}

impl WaitingRoom {
    /// A room whose clients see `progress`.
    #[must_use]
    pub fn new(progress: Arc<Progress>) -> Rc<WaitingRoom> {
        Rc::new(WaitingRoom {
            progress,
            ..WaitingRoom::default()
        })
    }

    /// Recovery is over: everyone leaves.
    pub fn open(&self) {
        self.progress.ready.store(true, Relaxed);
        self.opened.notify_waiters();
    }

    /// Clients in the room.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.get()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.get() == 0
    }

    /// A client comes in, and counts from now on. [`WaitingRoom::wait`] follows.
    pub fn enter(&self) {
        self.waiting.set(self.waiting.get() + 1);
    }

    /// Answers one client that has come in until recovery is over; `None` if it has gone.
    pub async fn wait(&self, mut socket: Socket) -> Option<Waited> {
        let mut partial = BytesMut::new();
        let result = self.answer(&mut socket, &mut partial).await;
        self.waiting.set(self.waiting.get() - 1);
        result.ok().map(|()| Waited { socket, partial })
    }

    async fn answer(&self, socket: &mut Socket, partial: &mut BytesMut) -> io::Result<()> {
        let mut parser = RequestParser::new();
        loop {
            let opened = self.opened.notified();
            if self.progress.ready.load(Relaxed) {
                return Ok(());
            }
            let count = tokio::select! {
                () = opened => return Ok(()),
                count = read(socket, partial) => count?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let replies = self.replies(&mut parser, partial)?;
            match socket {
                Socket::Tcp(stream) => stream.write_all(&replies).await?,
                Socket::Unix(stream) => stream.write_all(&replies).await?,
            }
        }
    }

    /// The answers to the whole requests in `input`, which it leaves.
    fn replies(&self, parser: &mut RequestParser, input: &mut BytesMut) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut spans = Vec::new();
        loop {
            spans.clear();
            let parsed = parser.parse(input, &mut spans, &RequestLimits::default());
            let (consumed, is_info) = match parsed {
                Ok(Parsed::Incomplete { .. }) => return Ok(out),
                Ok(Parsed::Request { consumed }) => {
                    let name = moon_resp::Args::new(input, &spans).get(0);
                    let Some(name) = name else {
                        input.advance(consumed);
                        continue;
                    };
                    (consumed, name.eq_ignore_ascii_case(b"info"))
                }
                Ok(Parsed::Inline { consumed, .. }) => (consumed, false),
                Err(error) => return Err(io::Error::other(error)),
            };
            input.advance(consumed);
            let mut reply = Reply::new(&mut out, Protocol::Resp2);
            if is_info {
                reply.bulk(self.progress.info().as_bytes());
            } else {
                reply.error(LOADING);
            }
        }
    }
}

async fn read(socket: &mut Socket, buffer: &mut BytesMut) -> io::Result<usize> {
    match socket {
        Socket::Tcp(stream) => stream.read_buf(buffer).await,
        Socket::Unix(stream) => stream.read_buf(buffer).await,
    }
}
