//! Frames as a person reads them: one line with the place, then the commands, quoted as redis-cli
//! quotes. What is long is shortened and says how much is missing.

use crate::time::PointInTime;
use moon_aof::RecoverError;
use moon_aof::frame::{FrameHeader, Piece};
use moon_aof::inspect::{LogFiles, SegmentFile, Step};
use moon_commands::requests::each_request;
use moon_core::{Lsn, ShardId};
use moon_repl::FrameKind;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// Bytes of one argument that are shown.
const ARGUMENT_MAX: usize = 64;
/// Arguments of one command that are shown.
const ARGUMENTS_MAX: usize = 16;
/// Commands of one frame that are shown.
const COMMANDS_MAX: usize = 256;

/// Which frames, and how.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Frames that end at or before it are left out.
    pub from: Lsn,
    /// At most so many frames.
    pub limit: u64,
    /// One JSON object per line instead of text.
    pub json: bool,
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The output does not take more.
    #[error("cannot write the dump")]
    Output(#[from] io::Error),
    /// The log cannot be read again.
    #[error(transparent)]
    Log(#[from] RecoverError),
}

/// One frame, readable.
#[derive(Serialize)]
struct Frame<'a> {
    lsn: u64,
    end: u64,
    time: String,
    time_ms: u64,
    kind: &'static str,
    piece: &'static str,
    shard: u16,
    db: u16,
    durable: u64,
    bytes: u64,
    file: &'a str,
    offset: u64,
    commands: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_commands: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

/// Writes the frames of a whole log in the order of the stream. Frames without payload, which
/// carry only marks, are left out; a hole is a line of its own.
///
/// # Errors
/// [`DumpError`].
pub fn dump_log(
    log: &LogFiles,
    options: DumpOptions,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let ranges = log.segments().iter().filter_map(SegmentFile::range);
    let Some(first) = ranges.map(|(first, _)| first).min() else {
        return Ok(());
    };
    let mut units = log.units(first)?;
    let mut shown = 0;
    while shown < options.limit {
        match units.step() {
            Step::Unit(unit) if unit.end <= options.from => {}
            Step::Unit(unit) => {
                let headers = units.headers(&unit)?;
                let payload = units.payload(&unit)?;
                let (path, offset) = units.place(&unit);
                let place = Place {
                    shard: unit.shard,
                    path,
                    offset,
                };
                write_frame(&headers, &payload, &place, options.json, out)?;
                shown += 1;
            }
            Step::Overlap(unit) => {
                let (at, lsn) = (units.at(), unit.lsn);
                let (path, offset) = units.place(&unit);
                let path = path.display();
                note(
                    &format!("{path} at byte {offset}: LSN {lsn} overlaps what ends at {at}"),
                    options.json,
                    out,
                )?;
                units.skip_to(unit.end);
            }
            Step::Gap(next) => {
                if next > options.from {
                    let at = units.at();
                    note(
                        &format!("gap: LSN {at} to {next} cannot be read"),
                        options.json,
                        out,
                    )?;
                }
                units.skip_to(next);
            }
            Step::End => break,
        }
    }
    Ok(())
}

/// Writes the frames of one segment in file order, frames without payload included.
///
/// # Errors
/// [`DumpError`].
pub fn dump_segment(
    segment: &SegmentFile,
    options: DumpOptions,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let mut frames = segment.frames()?;
    let mut shown = 0;
    while shown < options.limit {
        let Some((offset, header, payload)) = frames.next_frame()? else {
            break;
        };
        if header.end() <= options.from && options.from > Lsn::ZERO {
            continue;
        }
        let place = Place {
            shard: segment.shard(),
            path: segment.path(),
            offset,
        };
        write_frame(&[header], &payload, &place, options.json, out)?;
        shown += 1;
    }
    Ok(())
}

struct Place<'a> {
    shard: ShardId,
    path: &'a Path,
    offset: u64,
}

fn write_frame(
    headers: &[FrameHeader],
    payload: &[u8],
    place: &Place<'_>,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Ok(());
    };
    let file = place.path.to_string_lossy();
    let mut frame = Frame {
        lsn: first.lsn.0,
        end: last.end().0,
        time: PointInTime(first.time_ms).to_string(),
        time_ms: first.time_ms,
        kind: kind_name(first.kind),
        piece: match (headers.len(), first.piece) {
            (2.., _) => "run",
            (_, Piece::Whole) => "whole",
            (_, Piece::Part) => "part",
            (_, Piece::Last) => "last",
        },
        shard: place.shard.0,
        db: first.db,
        durable: first.durable.0,
        bytes: payload.len() as u64,
        file: &file,
        offset: place.offset,
        commands: Vec::new(),
        more_commands: None,
        unreadable: None,
    };
    let mut hidden = 0;
    let read = each_request(payload, |args, _| {
        if frame.commands.len() < COMMANDS_MAX {
            frame.commands.push(command(args.iter()));
        } else {
            hidden += 1;
        }
        Ok(())
    });
    frame.more_commands = (hidden > 0).then_some(hidden);
    // A piece of a run shown by itself need not hold whole commands.
    frame.unreadable = read.err().map(|error| error.to_string());
    if json {
        serde_json::to_writer(&mut *out, &frame)?;
        return writeln!(out);
    }
    writeln!(
        out,
        "LSN {} to {}  {}  {} {}  shard {}  db {}  {}:{}",
        frame.lsn,
        frame.end,
        frame.time,
        frame.kind,
        frame.piece,
        frame.shard,
        frame.db,
        file,
        frame.offset
    )?;
    for command in &frame.commands {
        writeln!(out, "    {command}")?;
    }
    if let Some(hidden) = frame.more_commands {
        writeln!(out, "    ... ({hidden} more commands)")?;
    }
    if let Some(reason) = &frame.unreadable {
        writeln!(out, "    ({reason})")?;
    }
    if payload.is_empty() {
        writeln!(out, "    (durable mark {})", frame.durable)?;
    }
    Ok(())
}

fn note(text: &str, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, &serde_json::json!({ "note": text }))?;
        return writeln!(out);
    }
    writeln!(out, "--- {text}")
}

/// What `check-aof` calls a kind of frame.
#[must_use]
pub fn kind_name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Own => "own",
        FrameKind::Cross => "cross",
        FrameKind::Control => "control",
    }
}

/// One command on one line, shortened where it is long.
fn command<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> String {
    let count = args.len();
    let mut shown: Vec<String> = args.take(ARGUMENTS_MAX).map(quoted).collect();
    if count > ARGUMENTS_MAX {
        shown.push(format!("... ({} more arguments)", count - ARGUMENTS_MAX));
    }
    shown.join(" ")
}

/// An argument as redis-cli shows it.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in &bytes[..bytes.len().min(ARGUMENT_MAX)] {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    if bytes.len() > ARGUMENT_MAX {
        out.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_redis_cli_does() {
        assert_eq!(
            quoted(b"a\"b\\c\n\r\t\x07\x08\x00\xff ~"),
            r#""a\"b\\c\n\r\t\a\b\x00\xff ~""#
        );
        let long = quoted(&[b'x'; 100]);
        assert_eq!(long.len(), 2 + 64 + "... (100 bytes)".len());
        let many: Vec<&[u8]> = vec![b"k"; 20];
        assert!(command(many.into_iter()).ends_with("... (4 more arguments)"));
    }
}
