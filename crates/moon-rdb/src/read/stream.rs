//! Reading a stream.

use super::input::Input;
use crate::error::RdbFault;
use crate::listpack;
use crate::stream::{
    ENTRIES_READ_UNKNOWN, RdbConsumer, RdbGroup, RdbPending, RdbStream, StreamForm, StreamHistory,
    StreamId, StreamTotals,
};
use std::io::Read;

const FAULT: RdbFault = RdbFault::BadCompact("stream block");

impl<R: Read> Input<R> {
    /// What follows the key. That the blocks hold entries, and that all parts fit together, is not
    /// looked at here.
    pub(super) fn stream(&mut self, form: StreamForm) -> Result<RdbStream, RdbFault> {
        let (blocks, reserve) = self.count()?;
        let mut stream = RdbStream {
            blocks: Vec::with_capacity(reserve),
            ..RdbStream::default()
        };
        for _ in 0..blocks {
            stream.blocks.push(self.stream_block()?);
        }
        stream.totals = self.stream_totals(form)?;
        let (groups, _) = self.count()?;
        for _ in 0..groups {
            stream.groups.push(self.stream_group(form)?);
        }
        Ok(stream)
    }

    fn stream_block(&mut self) -> Result<(StreamId, Vec<u8>), RdbFault> {
        let id = self.owned_string()?;
        let id = <[u8; 16]>::try_from(id.as_slice()).map_err(|_| FAULT)?;
        let mut block = self.owned_string()?;
        // What was expanded or read in steps has room to spare.
        block.shrink_to_fit();
        match listpack::is_listpack(&block) {
            true => Ok((StreamId::from_be_bytes(id), block)),
            false => Err(FAULT),
        }
    }

    fn stream_totals(&mut self, form: StreamForm) -> Result<StreamTotals, RdbFault> {
        let mut totals = StreamTotals {
            len: self.len()?,
            last_id: self.stream_id()?,
            since_second: None,
        };
        if form >= StreamForm::Second {
            totals.since_second = Some(StreamHistory {
                first_id: self.stream_id()?,
                max_deleted_id: self.stream_id()?,
                entries_added: self.len()?,
            });
        }
        Ok(totals)
    }

    fn stream_group(&mut self, form: StreamForm) -> Result<RdbGroup, RdbFault> {
        let mut group = RdbGroup {
            name: self.owned_string()?,
            last_id: self.stream_id()?,
            ..RdbGroup::default()
        };
        if form >= StreamForm::Second {
            let read = self.len()?;
            group.entries_read = (read != ENTRIES_READ_UNKNOWN).then_some(read);
        }
        let (pending, reserve) = self.count()?;
        group.pending.reserve(reserve);
        for _ in 0..pending {
            group.pending.push(RdbPending {
                id: StreamId::from_be_bytes(self.array()?),
                delivered_ms: i64::from_le_bytes(self.array()?),
                deliveries: self.len()?,
            });
        }
        let (consumers, _) = self.count()?;
        for _ in 0..consumers {
            group.consumers.push(self.stream_consumer(form)?);
        }
        Ok(group)
    }

    fn stream_consumer(&mut self, form: StreamForm) -> Result<RdbConsumer, RdbFault> {
        let name = self.owned_string()?;
        let seen_ms = i64::from_le_bytes(self.array()?);
        let active_ms = match form {
            StreamForm::Third => i64::from_le_bytes(self.array()?),
            StreamForm::First | StreamForm::Second => seen_ms,
        };
        let (count, reserve) = self.count()?;
        let mut pending = Vec::with_capacity(reserve);
        for _ in 0..count {
            pending.push(StreamId::from_be_bytes(self.array()?));
        }
        Ok(RdbConsumer {
            name,
            seen_ms,
            active_ms,
            pending,
        })
    }

    fn stream_id(&mut self) -> Result<StreamId, RdbFault> {
        Ok(StreamId::new(self.len()?, self.len()?))
    }

    fn owned_string(&mut self) -> Result<Vec<u8>, RdbFault> {
        let mut out = Vec::new();
        self.string_into(&mut out)?;
        Ok(out)
    }
}
