//! No wake-up of a mailbox is lost, however senders and the receiver interleave.

use moon_shard::Mailbox;
use moon_shard::mailbox::{ControlMessage, DataMessage};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the senders go on.
const DURATION: Duration = Duration::from_millis(1500);
/// A receiver that sleeps this long has missed something.
const LOST_AFTER: Duration = Duration::from_secs(10);
const SENDERS: u32 = 6;

#[derive(Default)]
struct Counts {
    /// Raised before each message is sent.
    sent: AtomicU64,
    taken: AtomicU64,
    /// Senders whose last message is counted.
    ended: AtomicU32,
}

/// The receiver does what a shard does: it drains both lanes, then sleeps until it is woken. The
/// senders often wait for it to go on, so that the lanes are empty most of the time and many
/// messages meet it as it goes to sleep.
#[test]
fn no_wake_up_is_lost_among_many_senders() {
    let mailbox = Arc::<Mailbox>::default();
    let counts = Arc::<Counts>::default();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (mailbox, counts) = (mailbox.clone(), counts.clone());
            std::thread::spawn(move || send(sender, &mailbox, &counts))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(receive(&mailbox, &counts));
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(mailbox.take_control().is_none() && mailbox.take_data().is_none());
}

fn send(sender: u32, mailbox: &Mailbox, counts: &Counts) {
    let until = Instant::now() + DURATION;
    let mut random = u64::from(sender) + 1;
    while Instant::now() < until {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let before = counts.taken.load(Ordering::Relaxed);
        counts.sent.fetch_add(1, Ordering::SeqCst);
        if random & 1 == 0 {
            mailbox.send_control(ControlMessage::Run(Box::new(|_| {})));
        } else {
            mailbox.send_data(DataMessage::Visit(Box::new(|_| {})));
        }
        match random % 7 {
            0 => std::thread::yield_now(),
            1 => {
                while counts.taken.load(Ordering::Relaxed) == before && Instant::now() < until {
                    std::thread::yield_now();
                }
            }
            n => (0..n * n * 10).for_each(|_| std::hint::spin_loop()),
        }
    }
    counts.sent.fetch_add(1, Ordering::SeqCst);
    counts.ended.fetch_add(1, Ordering::SeqCst);
    mailbox.send_data(DataMessage::Visit(Box::new(|_| {})));
}

async fn receive(mailbox: &Mailbox, counts: &Counts) {
    let mut taken = 0;
    loop {
        while mailbox.take_control().is_some() || mailbox.take_data().is_some() {
            taken += 1;
            counts.taken.store(taken, Ordering::Relaxed);
        }
        let ended = counts.ended.load(Ordering::SeqCst) == SENDERS;
        if ended && taken == counts.sent.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::timeout(LOST_AFTER, mailbox.filled())
            .await
            .expect("a message that was sent wakes the receiver");
    }
}
