//! A report as a person reads it. The same content as its JSON.

use super::{Report, SegmentReport};
use std::io::{self, Write};

/// Writes `report` as text.
///
/// # Errors
/// As the output's.
pub fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {}", report.path, report.what)?;
    if report.in_use == Some(true) {
        writeln!(
            out,
            "IN USE: a server is running on this directory; what follows is a moment's view, and \
             writes in flight can look like a torn tail"
        )?;
    }
    if let Some(m) = &report.manifest {
        write!(
            out,
            "manifest: version {}, seq {}, {} shards, history {}",
            m.version, m.seq, m.shards, m.history
        )?;
        if let Some(id) = &m.replication_id {
            write!(out, ", replication id {id}")?;
        }
        for (name, value) in [
            ("clean at", m.clean),
            ("closed at", m.closed_at),
            ("preparing generation", m.preparing),
        ] {
            if let Some(value) = value {
                write!(out, ", {name} {value}")?;
            }
        }
        writeln!(out)?;
        for generation in &m.generations {
            write!(
                out,
                "generation {}: from LSN {}",
                generation.seq, generation.first
            )?;
            match generation.end {
                Some(end) => writeln!(out, " to {end}")?,
                None => writeln!(out, ", open")?,
            }
        }
    }
    for base in &report.bases {
        writeln!(
            out,
            "base {}: shard {}, generation {}, cut {}, {} bytes, {} keys, {} with a deadline",
            base.path, base.shard, base.seq, base.cut, base.bytes, base.keys, base.expires
        )?;
        if let Some(problem) = &base.problem {
            writeln!(out, "  PROBLEM: {problem}")?;
        }
    }
    for segment in &report.segments {
        print_segment(segment, out)?;
    }
    for other in &report.other_files {
        writeln!(out, "{}: {} bytes, {}", other.path, other.bytes, other.what)?;
    }
    if let Some(stream) = &report.stream {
        writeln!(
            out,
            "stream: {} units from LSN {} to P = {}; durable mark D = {}",
            stream.units, stream.start, stream.end, stream.durable
        )?;
        if let (Some(first), Some(last)) = (&stream.first_time, &stream.last_time) {
            writeln!(out, "times: {first} to {last}")?;
        }
        for gap in &stream.gaps {
            writeln!(out, "  GAP: LSN {} to {} cannot be read", gap.from, gap.to)?;
        }
    }
    writeln!(out, "verdict: {}", report.verdict.text)?;
    if let Some(advice) = &report.verdict.advice {
        writeln!(out, "advice: {advice}")?;
    }
    Ok(())
}

fn print_segment(segment: &SegmentReport, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "segment {}: shard {}, generation {}, {} bytes, {} frames with {} bytes of payload",
        segment.path,
        segment.shard,
        segment.seq,
        segment.bytes,
        segment.frames,
        segment.payload_bytes
    )?;
    if let (Some(first), Some(end)) = (segment.first, segment.end) {
        write!(
            out,
            ", LSN {first} to {end}, durable mark {}",
            segment.durable
        )?;
    }
    if let Some(time) = &segment.last_time {
        write!(out, ", last at {time}")?;
    }
    writeln!(out)?;
    if let Some(problem) = &segment.problem {
        writeln!(out, "  PROBLEM: {problem}")?;
    }
    for bad in &segment.bad {
        write!(
            out,
            "  BAD: bytes {} to {}: {}; behind LSN {}",
            bad.offset, bad.end_offset, bad.what, bad.after
        )?;
        if let Some(lsn) = bad.lsn {
            write!(out, ", the frame of LSN {lsn}")?;
        }
        match bad.next {
            Some(next) => writeln!(out, "; the next good frame is at LSN {next}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
