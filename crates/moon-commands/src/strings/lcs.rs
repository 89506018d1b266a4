//! LCS: the longest common subsequence of two strings.
//!
//! A table holds the length for every pair of prefixes; walking it back from the end gives the
//! subsequence and the ranges that match. Where two ways are equally long, the walk goes the way
//! that Redis goes, so that the answer is the same.

use crate::context::{CommandResult, Cx};
use crate::error::CommandError;
use crate::parse;
use moon_resp::Args;
use moon_store::{IntText, Key};

use std::ops::Range;

#[derive(Default)]
struct Options {
    len_only: bool,
    ranges: bool,
    range_len_min: i64,
    with_range_len: bool,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(name) = parse::next_option(args, &mut at) {
            if parse::is(name, "len") {
                options.len_only = true;
            } else if parse::is(name, "idx") {
                options.ranges = true;
            } else if parse::is(name, "withmatchlen") {
                options.with_range_len = true;
            } else if parse::is(name, "minmatchlen") {
                let value = parse::option_value(args, &mut at)?;
                options.range_len_min = parse::integer(value)?.max(0);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.len_only && options.ranges {
            return Err(CommandError::Text(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

pub(super) fn lcs(cx: &mut Cx<'_>, args: Args<'_>) -> CommandResult {
    // Both are looked up before one is complained about.
    let a = string_at(cx, Key::new(args.at(1)));
    let b = string_at(cx, Key::new(args.at(2)));
    let (a, b) = (a?, b?);
    let options = Options::parse(args)?;
    let table = Table::new(&a, &b, cx.limits.max_bulk_len)?;
    let len = i64::from(table.len(a.len(), b.len()));
    if options.len_only {
        cx.reply.integer(len);
        return Ok(());
    }
    let (common, ranges) = table.walk_back(&a, &b);
    if !options.ranges {
        cx.reply.bulk(&common);
        return Ok(());
    }
    let range_len_min = usize::try_from(options.range_len_min).unwrap_or(usize::MAX);
    let shown = ranges.iter().filter(|(a, _)| a.len() >= range_len_min);
    cx.reply.map(2);
    cx.reply.bulk(b"matches");
    cx.reply.array(shown.clone().count());
    for (in_a, in_b) in shown {
        cx.reply.array(if options.with_range_len { 3 } else { 2 });
        for range in [in_a, in_b] {
            cx.reply.array(2);
            cx.reply.count(range.start);
            cx.reply.count(range.end - 1);
        }
        if options.with_range_len {
            cx.reply.count(in_a.len());
        }
    }
    cx.reply.bulk(b"len");
    cx.reply.integer(len);
    Ok(())
}

/// A copy of the string at `key`, empty if there is none.
fn string_at(cx: &mut Cx<'_>, key: Key<'_>) -> Result<Vec<u8>, CommandError> {
    let Some(value) = cx.read(key) else {
        return Ok(Vec::new());
    };
    let mut text = IntText::new();
    match value.as_bytes(&mut text) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => Err(CommandError::Text(
            "ERR The specified keys must contain string values",
        )),
    }
}

/// A range of the one string and the range of the other that it equals.
type Match = (Range<usize>, Range<usize>);

/// The length of the longest common subsequence for every pair of prefixes.
struct Table {
    lens: Vec<u32>,
    width: usize,
}

impl Table {
    /// Computes the table, which may take `bytes_max` bytes.
    fn new(a: &[u8], b: &[u8], bytes_max: usize) -> Result<Table, CommandError> {
        const TOO_LARGE: CommandError = CommandError::Text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        );
        let width = b.len() + 1;
        let cells = (a.len() + 1).checked_mul(width).ok_or(TOO_LARGE)?;
        if cells.checked_mul(4).is_none_or(|bytes| bytes > bytes_max) {
            return Err(TOO_LARGE);
        }
        let mut lens = vec![0u32; cells];
        for (i, x) in a.iter().enumerate() {
            let (before, row) = lens[i * width..].split_at_mut(width);
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y {
                    before[j] + 1
                } else {
                    before[j + 1].max(row[j])
                };
            }
        }
        Ok(Table { lens, width })
    }

    /// The length for the first `i` bytes of the one string and `j` of the other.
    fn len(&self, i: usize, j: usize) -> u32 {
        self.lens[i * self.width + j]
    }

    /// The subsequence, and the ranges in both strings that make it up, last first.
    fn walk_back(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let mut common = Vec::new();
        let mut ranges: Vec<Match> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        let mut goes_on = false;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                common.push(a[i]);
                match ranges.last_mut() {
                    Some((in_a, in_b)) if goes_on => {
                        in_a.start = i;
                        in_b.start = j;
                    }
                    _ => ranges.push((i..i + 1, j..j + 1)),
                }
                goes_on = true;
            } else {
                if self.len(i - 1, j) > self.len(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                goes_on = false;
            }
        }
        common.reverse();
        (common, ranges)
    }
}
