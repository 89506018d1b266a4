//! A client that asks for a rewrite of the log again and again, while others load the server.

use crate::client::Client;
use crate::reply::Reply;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest pause between two requests.
const PAUSE_MAX: Duration = Duration::from_millis(60);

/// How the requests were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    /// Rewrites that began.
    pub begun: u64,
    /// Requests that were refused: a rewrite is in progress, or the server has none.
    pub refused: u64,
}

/// The client. It ends when its server is gone or with [`Rewriter::finish`].
#[derive(Debug)]
pub struct Rewriter {
    thread: JoinHandle<Rewrites>,
    stop: Arc<AtomicBool>,
}

impl Rewriter {
    /// Begins to send BGREWRITEAOF at random intervals.
    #[must_use]
    pub fn start(address: SocketAddr, seed: u64) -> Rewriter {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut rewrites = Rewrites::default();
            let mut rng = StdRng::seed_from_u64(seed);
            let Ok(mut client) = Client::connect(address) else {
                return rewrites;
            };
            while !told.load(Ordering::Relaxed) {
                let pause = rng.random_range(0..PAUSE_MAX.as_micros());
                std::thread::sleep(Duration::from_micros(
                    u64::try_from(pause).unwrap_or_default(),
                ));
                match client.run("BGREWRITEAOF") {
                    // A server that runs out of room or has one already says so, and the next
                    // request may succeed.
                    Ok(Reply::Error(_)) => rewrites.refused += 1,
                    Ok(_) => rewrites.begun += 1,
                    Err(_) => break,
                }
            }
            rewrites
        });
        Rewriter { thread, stop }
    }

    /// Sends nothing more and returns what happened.
    ///
    /// # Panics
    /// When the thread panicked.
    #[must_use]
    pub fn finish(self) -> Rewrites {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the rewriter does not panic")
    }
}
