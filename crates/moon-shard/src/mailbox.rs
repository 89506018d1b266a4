//! How other threads reach a shard.
//!
//! Two lanes. The *data* lane holds what needs the shard's data: it is taken in order, and only
//! while the data is at home and the shard is within its memory bound. The *control* lane holds
//! what must always move: data that comes home, replies for connections here, new connections.
//! If control messages could wait behind data messages, two shards could wait for each other.

use crate::batch::{Batch, BatchReply};
use crate::borrow::LendRequest;
use crate::shard::Shard;
use crate::waiting::Waiter;
use moon_core::{Lsn, ShardId};
use moon_store::ShardData;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What needs the shard's data, in order.
pub enum DataMessage {
    /// Commands of a connection of another shard.
    Batch(Batch),
    /// A command of a connection of another shard that may wait here.
    Attempt(Arc<Waiter>),
    /// Give the data to an executor.
    Lend(LendRequest),
    /// Look at or change something that is no keyspace write, such as a watch.
    Visit(Box<dyn FnOnce(&mut ShardData) + Send>),
}

/// What must always move.
pub enum ControlMessage {
    /// Data that was lent comes home; its frame, if it made one, ends here.
    Home(Box<ShardData>, Lsn),
    /// Replies for a connection of this shard.
    Replies(BatchReply),
    /// Run on the shard's thread: a new connection, say.
    Run(Errand),
}

/// What another thread asks a shard's thread to do.
pub type Errand = Box<dyn FnOnce(&Rc<Shard>) + Send>;

#[derive(Default)]
struct Lanes {
    control: VecDeque<ControlMessage>,
    data: VecDeque<DataMessage>,
    /// How many of `data` are borrows.
    lends: usize,
}

/// The two lanes of one shard. Pushing never waits: whoever may push has bounded room, one
/// request and one batch per connection.
#[derive(Default)]
pub struct Mailbox {
    lanes: Mutex<Lanes>,
    filled: Notify,
}

impl Mailbox {
    /// Sends what needs the data.
    pub fn send_data(&self, message: DataMessage) {
        let is_lend = matches!(message, DataMessage::Lend(_));
        let was_empty = {
            let mut lanes = self.lanes();
            let was_empty = lanes.data.is_empty();
            lanes.lends += usize::from(is_lend);
            lanes.data.push_back(message);
            was_empty
        };
        // A borrow may be taken although the messages before it wait for room.
        if was_empty || is_lend {
            self.filled.notify_one();
        }
    }

    /// Sends what must always move.
    pub fn send_control(&self, message: ControlMessage) {
        let was_empty = {
            let mut lanes = self.lanes();
            let was_empty = lanes.control.is_empty();
            lanes.control.push_back(message);
            was_empty
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Takes the next control message.
    pub fn take_control(&self) -> Option<ControlMessage> {
        self.lanes().control.pop_front()
    }

    /// Whether no control message waits.
    #[must_use]
    pub fn has_no_control(&self) -> bool {
        self.lanes().control.is_empty()
    }

    /// Takes the next data message.
    pub fn take_data(&self) -> Option<DataMessage> {
        let mut lanes = self.lanes();
        let message = lanes.data.pop_front();
        lanes.lends -= usize::from(matches!(message, Some(DataMessage::Lend(_))));
        message
    }

    /// Takes the next borrow out of the data lane. Lending goes on when there is no room: it
    /// executes nothing here, the borrow was admitted where it was asked for, and meanwhile the
    /// executor holds the data of other shards. A borrow may overtake other messages: its
    /// connection has none under way, and among each other borrows keep their order.
    pub(crate) fn take_lend(&self) -> Option<DataMessage> {
        let mut lanes = self.lanes();
        if lanes.lends == 0 {
            return None;
        }
        let is_lend = |message: &DataMessage| matches!(message, DataMessage::Lend(_));
        let at = lanes.data.iter().position(is_lend)?;
        lanes.lends -= 1;
        lanes.data.remove(at)
    }

    /// Takes the commands of connections out of the data lane, to be answered without being
    /// executed. What else is in it keeps its order.
    pub(crate) fn take_commands(&self) -> (Vec<Batch>, Vec<Arc<Waiter>>) {
        let (mut batches, mut attempts) = (Vec::new(), Vec::new());
        let mut lanes = self.lanes();
        let has_any = lanes.data.len() > lanes.lends;
        for message in if has_any {
            std::mem::take(&mut lanes.data)
        } else {
            VecDeque::new()
        } {
            match message {
                DataMessage::Batch(batch) => batches.push(batch),
                DataMessage::Attempt(waiter) => attempts.push(waiter),
                other => lanes.data.push_back(other),
            }
        }
        (batches, attempts)
    }

    /// Waits until something was sent, or [`Mailbox::nudge`].
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Wakes the shard's mailbox task although nothing was sent: there is room again, say.
    pub fn nudge(&self) {
        self.filled.notify_one();
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // A panic aborts the process, so a poisoned lock is never seen.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mailboxes of all shards, and the order of borrows.
#[derive(Clone)]
pub struct Directory {
    mailboxes: Arc<[Mailbox]>,
    /// Held while the requests of one borrow enter the mailboxes, so that any two borrows meet
    /// in the same order everywhere.
    borrow_order: Arc<Mutex<()>>,
}

impl Directory {
    /// Mailboxes for `count` shards.
    #[must_use]
    pub fn new(count: moon_core::ShardCount) -> Directory {
        Directory {
            mailboxes: count.ids().map(|_| Mailbox::default()).collect(),
            borrow_order: Arc::default(),
        }
    }

    /// The mailbox of one shard.
    #[must_use]
    pub fn of(&self, shard: ShardId) -> &Mailbox {
        &self.mailboxes[shard.index()]
    }

    /// Sends one borrow's requests as one step.
    pub(crate) fn send_borrow(&self, requests: impl Iterator<Item = (ShardId, LendRequest)>) {
        #[cfg(feature = "break-borrow-order")]
        if crate::breach::is(crate::breach::Breach::Unordered) {
            for (shard, request) in requests {
                self.of(shard).send_data(DataMessage::Lend(request));
                crate::breach::dawdle();
            }
            return;
        }
        let _order = self
            .borrow_order
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (shard, request) in requests {
            self.of(shard).send_data(DataMessage::Lend(request));
        }
    }
}
