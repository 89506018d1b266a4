//! Mailboxes under many senders.
