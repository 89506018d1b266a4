//! A blocking connection that can pipeline.

use crate::reply::Reply;
use moon_resp::{ReplyParser, Value, write_request};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply that takes longer than this fails the test that waits for it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// One connection to a server.
///
/// Requests are queued, flushed together and answered in order. Dropping the client closes the
/// connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Requests that were not written yet.
    out: Vec<u8>,
    /// Received bytes; everything below `parsed` was returned already.
    input: Vec<u8>,
    parsed: usize,
    /// Knows how far it is in a reply that is not complete.
    parser: ReplyParser,
}

impl Client {
    /// Connects to `addr`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(addr: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client {
            stream,
            out: Vec::new(),
            input: Vec::new(),
            parsed: 0,
            parser: ReplyParser::new(),
        })
    }

    /// Changes how long a read waits for bytes before it fails with `WouldBlock` or `TimedOut`.
    ///
    /// # Errors
    /// When the socket refuses the option.
    pub fn set_read_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Adds one request to what the next [`Client::flush`] writes.
    pub fn queue<P: AsRef<[u8]>>(&mut self, parts: &[P]) {
        write_request(&mut self.out, parts);
    }

    /// Writes everything that is queued.
    ///
    /// # Errors
    /// When the connection is gone; some of the bytes may have arrived.
    pub fn flush(&mut self) -> Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out)
    }

    /// The next reply, waiting for it.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closed the connection, `InvalidData` when it does not
    /// speak RESP.
    pub fn read_reply(&mut self) -> Result<Reply> {
        self.read_value().map(Reply::from)
    }

    /// As [`Client::read_reply`], with every detail of the wire.
    ///
    /// # Errors
    /// As [`Client::read_reply`].
    pub fn read_value(&mut self) -> Result<Value> {
        loop {
            if let Some(value) = self.buffered_value()? {
                return Ok(value);
            }
            self.fill()?;
        }
    }

    /// The next reply if it has been received completely, without touching the socket.
    ///
    /// # Errors
    /// `InvalidData` when the bytes are not RESP.
    pub fn buffered_reply(&mut self) -> Result<Option<Reply>> {
        Ok(self.buffered_value()?.map(Reply::from))
    }

    /// The next reply if it has arrived, without waiting for it.
    ///
    /// # Errors
    /// As [`Client::read_value`].
    pub fn arrived_value(&mut self) -> Result<Option<Value>> {
        if let Some(value) = self.buffered_value()? {
            return Ok(Some(value));
        }
        self.stream.set_nonblocking(true)?;
        let filled = self.fill();
        self.stream.set_nonblocking(false)?;
        match filled {
            Ok(()) => self.buffered_value(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next reply if it comes within `time`, which is not zero.
    ///
    /// # Errors
    /// As [`Client::read_value`].
    pub fn value_within(&mut self, time: Duration) -> Result<Option<Value>> {
        self.stream.set_read_timeout(Some(time))?;
        let read = self.read_value();
        self.stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn buffered_value(&mut self) -> Result<Option<Value>> {
        let parsed = self
            .parser
            .parse(&self.input[self.parsed..])
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let Some((value, used)) = parsed else {
            return Ok(None);
        };
        self.parsed += used;
        if self.parsed == self.input.len() {
            self.input.clear();
            self.parsed = 0;
        }
        Ok(Some(value))
    }

    /// Sends one request and waits for its reply. Nothing else may be outstanding.
    ///
    /// # Errors
    /// As [`Client::flush`] and [`Client::read_reply`]. An error reply is a reply.
    pub fn command<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> Result<Reply> {
        self.queue(parts);
        self.flush()?;
        self.read_reply()
    }

    /// Sends the words of `line` as one request and waits for its reply.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn run(&mut self, line: &str) -> Result<Reply> {
        self.command(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Sends one request per line (its words) in one write; the replies in the same order.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn pipeline<L: AsRef<str>>(&mut self, lines: &[L]) -> Result<Vec<Reply>> {
        for line in lines {
            self.queue(&line.as_ref().split_whitespace().collect::<Vec<_>>());
        }
        self.flush()?;
        lines.iter().map(|_| self.read_reply()).collect()
    }

    /// Writes bytes as they are, for everything that is not a well-formed request.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn write_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Everything the server still sends until it closes the connection, unparsed.
    ///
    /// # Errors
    /// When the server neither sends nor closes in time.
    pub fn read_to_close(&mut self) -> Result<Vec<u8>> {
        let mut rest = self.input.split_off(self.parsed);
        self.input.clear();
        self.parsed = 0;
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(rest),
            Err(e) => Err(e),
        }
    }

    /// The socket, to set options that a scenario needs.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self) -> Result<()> {
        if self.parsed > 0 {
            self.input.drain(..self.parsed);
            self.parsed = 0;
        }
        let mut chunk = [0; 16 * 1024];
        let n = loop {
            match self.stream.read(&mut chunk) {
                // A read with a time limit is not taken up again by itself when the process was
                // stopped for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if n == 0 {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                "the server closed the connection",
            ));
        }
        self.input.extend_from_slice(&chunk[..n]);
        Ok(())
    }
}
