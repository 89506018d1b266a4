//! What a check found wrong.

use crate::history::Record;
use std::fmt;

/// A kind of mistake. They overlap: the most telling name is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anomaly {
    /// No serial order explains what the clients were answered.
    NotSerializable,
    /// Transactions come before each other in a circle.
    Cycle,
    /// A part of something that happens as a whole was seen or survived.
    Torn,
    /// Something acknowledged is gone.
    Lost,
    /// Something is there twice, or was never written.
    Invented,
    /// The elements of a list changed their order.
    Reordered,
    /// A sum that nobody changes has changed.
    SumChanged,
    /// Two clients changed the same thing and both were told that they were alone.
    LostUpdate,
    /// A value that had been replaced before the read began.
    StaleRead,
    /// A watched transaction was refused although nobody touched its keys.
    SpuriousAbort,
    /// The server answered what the command cannot answer.
    Reply,
    /// The server does not answer.
    Stuck,
    /// The server closed a connection and was not killed.
    ConnectionLost,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Anomaly::NotSerializable => "not serializable",
            Anomaly::Cycle => "cycle",
            Anomaly::Torn => "torn",
            Anomaly::Lost => "lost",
            Anomaly::Invented => "invented",
            Anomaly::Reordered => "reordered",
            Anomaly::SumChanged => "sum changed",
            Anomaly::LostUpdate => "lost update",
            Anomaly::StaleRead => "stale read",
            Anomaly::SpuriousAbort => "spurious abort",
            Anomaly::Reply => "reply",
            Anomaly::Stuck => "stuck",
            Anomaly::ConnectionLost => "connection lost",
        })
    }
}

/// One mistake, with the piece of the history that shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// Its kind.
    pub anomaly: Anomaly,
    /// What is wrong, in a sentence.
    pub detail: String,
    /// The calls that show it, in the order in which they were sent, a line each.
    pub piece: Vec<String>,
}

impl Finding {
    /// A mistake that `records` show.
    #[must_use]
    pub fn new<'a>(
        anomaly: Anomaly,
        detail: impl Into<String>,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Finding {
        let mut records: Vec<&Record> = records.into_iter().collect();
        records.sort_by_key(|record| record.invoked);
        Finding {
            anomaly,
            detail: detail.into(),
            piece: records.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.anomaly, self.detail)?;
        for line in &self.piece {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
