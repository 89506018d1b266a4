//! A client that keeps a pace and times each request, and the quantiles of what it saw.
//!
//! Requests are due at fixed times. A request that could not leave when it was due, because the
//! server still owed the reply before, is timed from when it was due: a server that stalls for
//! 100 ms has made each client that came in this time wait, not only one. What the client itself
//! oversleeps does not count.

use super::measure;
use super::process::{pin_this_thread, prefer_this_thread};
use anyhow::{Context as _, Result, anyhow, bail};
use moon_harness::{Client, Reply};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two requests.
pub(crate) const PERIOD: Duration = Duration::from_millis(1);
/// Decides which keys are asked for.
const SEED: u64 = 3;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// When it was due, or left.
    pub(crate) begun: Instant,
    /// Until its reply was read.
    pub(crate) latency: Duration,
}

/// A client at work on a thread of its own, alternating GET and SET of random keys.
pub(crate) struct PacedClient {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Timed>>>,
}

impl PacedClient {
    /// Begins; the keys are those of [`measure::preload`].
    pub(crate) fn start(
        address: SocketAddr,
        cores: &str,
        keys: u64,
        value_bytes: u32,
    ) -> Result<PacedClient> {
        let stop = Arc::new(AtomicBool::new(false));
        let client = Client::connect(address)?;
        let (flag, cores) = (Arc::clone(&stop), cores.to_owned());
        let thread = std::thread::Builder::new()
            .name("paced".to_owned())
            .spawn(move || {
                pin_this_thread(&cores)?;
                prefer_this_thread();
                keep_pace(client, keys, value_bytes, &flag)
            })?;
        Ok(PacedClient { stop, thread })
    }

    /// Ends it; everything it saw, in order.
    pub(crate) fn finish(self) -> Result<Vec<Timed>> {
        self.stop.store(true, Relaxed);
        let outcome = self.thread.join();
        outcome
            .map_err(|_| anyhow!("the paced client panicked"))?
            .context("in the paced client")
    }
}

fn keep_pace(
    mut client: Client,
    keys: u64,
    value_bytes: u32,
    stop: &AtomicBool,
) -> Result<Vec<Timed>> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let value = measure::value(value_bytes);
    let mut seen = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        due += PERIOD;
        let now = Instant::now();
        let begun = if now < due {
            std::thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        let key = measure::key(rng.random_range(0..keys));
        let (reply, is_right) = if seen.len() % 2 == 0 {
            let reply = client.command(&["GET", &key])?;
            let is_right = matches!(&reply, Reply::Bulk(v) if v.len() == value.len());
            (reply, is_right)
        } else {
            let reply = client.command(&["SET", &key, &value])?;
            let is_right = reply.is_ok();
            (reply, is_right)
        };
        let latency = begun.elapsed();
        if !is_right {
            bail!("{key}: unexpected reply {reply:?}");
        }
        seen.push(Timed { begun, latency });
    }
    Ok(seen)
}

/// Latencies in milliseconds, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    sorted_ms: Vec<f64>,
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<I: IntoIterator<Item = Duration>>(latencies: I) -> Self {
        let mut sorted_ms: Vec<f64> = latencies
            .into_iter()
            .map(|l| l.as_secs_f64() * 1000.0)
            .collect();
        sorted_ms.sort_by(f64::total_cmp);
        Latencies { sorted_ms }
    }
}

impl Latencies {
    pub(crate) fn len(&self) -> usize {
        self.sorted_ms.len()
    }

    /// The smallest latency that at least `permille` of 1000 requests did not exceed; NaN if
    /// there were none.
    pub(crate) fn quantile_ms(&self, permille: usize) -> f64 {
        let rank = (self.sorted_ms.len() * permille).div_ceil(1000);
        let at = rank.saturating_sub(1);
        self.sorted_ms.get(at).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// A server that answers the request with number `stalled` only after `stall`, and the other
    /// ones at once; it ends the client with the request `last`.
    fn stalling_server(
        listener: &TcpListener,
        (stalled, stall): (usize, Duration),
        last: usize,
        stop: &AtomicBool,
    ) -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        for number in 0..=last {
            let mut request = Vec::new();
            while !request.ends_with(b"xx\r\n") && !request.starts_with(b"*2\r\n$3\r\nGET") {
                let mut bytes = [0; 256];
                let n = stream.read(&mut bytes)?;
                if n == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                request.extend_from_slice(&bytes[..n]);
            }
            if number == stalled {
                std::thread::sleep(stall);
            }
            stop.store(number == last, Relaxed);
            stream.write_all(if request.ends_with(b"xx\r\n") {
                b"+OK\r\n"
            } else {
                b"$2\r\nxx\r\n"
            })?;
        }
        Ok(())
    }

    #[test]
    fn a_stall_is_seen_by_every_request_that_was_due_in_it() {
        let (stalled, stall) = (10, Duration::from_millis(50));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        let stop = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let server = scope.spawn(|| stalling_server(&listener, (stalled, stall), 80, &stop));
            let seen = keep_pace(client, 1000, 2, &stop).unwrap();
            server.join().unwrap().unwrap();
            seen
        });
        assert_eq!(seen.len(), 81);
        for (later, request) in (0..40).zip(&seen[stalled..]) {
            // The request after it was due one period later, and waited for so much less.
            let waited = stall - PERIOD * later;
            assert!(request.latency >= waited, "{later}: {request:?}");
        }
    }

    #[test]
    fn a_quantile_is_a_latency_that_was_seen() {
        let latencies: Latencies = (1..=2000).rev().map(Duration::from_millis).collect();
        let quantiles = [500, 990, 999, 1000].map(|q| latencies.quantile_ms(q));
        assert_eq!(quantiles, [1000.0, 1980.0, 1998.0, 2000.0]);
        let few: Latencies = [Duration::from_millis(7)].into_iter().collect();
        assert!((few.quantile_ms(1) - 7.0).abs() < f64::EPSILON);
        assert!(Latencies::default().quantile_ms(999).is_nan());
    }
}
