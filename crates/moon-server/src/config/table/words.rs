//! Directives whose words take more than a macro to read.

use super::super::value::{Invalid, integer, octal_mode, one_of, optional_text};
use super::super::{
    APPENDFSYNC_WORDS, AppendFsync, Config, DEBUG_COMMAND_WORDS, DebugCommand, LOGLEVEL_WORDS,
    LogLevel, MAXMEMORY_POLICIES, MAXMEMORY_POLICY_WORDS, PIPELINE_ORDER_WORDS, PipelineOrder,
    SavePoint, UNDECLARED_KEYS_WORDS, UndeclaredKeys,
};
use super::single;
use moon_commands::notify::Class;
use moon_core::ShardCount;

/// As many addresses as Redis takes.
const BIND_MAX: usize = 16;

pub(super) fn set_bind(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    // A quoted list counts as its words, as CONFIG GET prints it.
    let list: Vec<String> = words
        .iter()
        .flat_map(|w| w.split_ascii_whitespace())
        .map(str::to_owned)
        .collect();
    if list.is_empty() {
        return Err(Invalid::Empty);
    }
    if list.len() > BIND_MAX {
        return Err(Invalid::TooManyBinds);
    }
    if list.iter().any(|w| w == "-") {
        return Err(Invalid::Empty);
    }
    c.bind = list;
    Ok(())
}

pub(super) fn set_unixsocket(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    let text = optional_text(single(words)?)?;
    c.unixsocket = (!text.is_empty()).then(|| text.into());
    Ok(())
}

pub(super) fn show_unixsocket(c: &Config) -> String {
    c.unixsocket
        .as_ref()
        .map(|p| p.display().to_string())
        .unwrap_or_default()
}

pub(super) fn set_unixsocketperm(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.unixsocketperm = octal_mode(single(words)?)?;
    Ok(())
}

pub(super) fn set_shards(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    let word = single(words)?;
    if word.eq_ignore_ascii_case("auto") {
        c.shards = None;
        return Ok(());
    }
    let max = i64::from(ShardCount::MAX);
    let count = integer(word, 1, max)?;
    c.shards = u16::try_from(count).ok().and_then(ShardCount::new);
    Ok(())
}

pub(super) fn set_appendfsync(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.appendfsync = match one_of(single(words)?, APPENDFSYNC_WORDS)? {
        0 => AppendFsync::Everysec,
        1 => AppendFsync::Always,
        _ => AppendFsync::No,
    };
    Ok(())
}

pub(super) fn set_maxmemory_policy(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.maxmemory_policy = MAXMEMORY_POLICIES[one_of(single(words)?, MAXMEMORY_POLICY_WORDS)?];
    Ok(())
}

pub(super) fn set_notify_keyspace_events(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.notify_keyspace_events = Class::parse(single(words)?).ok_or(Invalid::NotEventClass)?;
    Ok(())
}

pub(super) fn set_appenddirname(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    let name = optional_text(single(words)?)?;
    if name.is_empty() {
        return Err(Invalid::Empty);
    }
    if name.contains('/') || name == "." || name == ".." {
        return Err(Invalid::NotAName("appenddirname"));
    }
    c.appenddirname = name;
    Ok(())
}

/// Forgets what was set by a directive whose occurrences add up, before a source that replaces the
/// one before it.
pub(in crate::config) fn start_afresh(c: &mut Config, name: &str) {
    if name.eq_ignore_ascii_case("save") {
        c.save = None;
    }
}

/// Percentiles from 0 to 100; none at all is allowed.
pub(super) fn set_percentiles(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    const NO_NUMBER: Invalid =
        Invalid::Unsupported("Invalid latency-tracking-info-percentiles parameters");
    const BEYOND: Invalid = Invalid::Unsupported(
        "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
    );
    // A quoted list counts as its words, as CONFIG GET prints it.
    let words = words.iter().flat_map(|word| word.split_ascii_whitespace());
    let percentiles: Result<Vec<f64>, Invalid> = words
        .map(|word| match word.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
            Ok(_) => Err(BEYOND),
            Err(_) => Err(NO_NUMBER),
        })
        .collect();
    c.latency_tracking_info_percentiles = percentiles?;
    Ok(())
}

pub(super) fn show_percentiles(c: &Config) -> String {
    let all = &c.latency_tracking_info_percentiles;
    let words: Vec<String> = all.iter().map(f64::to_string).collect();
    words.join(" ")
}

/// Pairs of seconds and changes. Several `save` lines add up; an empty one forgets those before.
pub(super) fn set_save(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    const WRONG: Invalid = Invalid::Unsupported("Invalid save parameters");
    if let [""] = words {
        c.save = Some(Vec::new());
        return Ok(());
    }
    let numbers: Vec<&str> = words
        .iter()
        .flat_map(|w| w.split_ascii_whitespace())
        .collect();
    if numbers.is_empty() || !numbers.len().is_multiple_of(2) {
        return Err(WRONG);
    }
    let mut points = c.save.clone().unwrap_or_default();
    for pair in numbers.chunks(2) {
        let number = |word, min| {
            let n = integer(word, min, i64::from(i32::MAX)).map_err(|_| WRONG)?;
            u64::try_from(n).map_err(|_| WRONG)
        };
        points.push(SavePoint {
            seconds: number(pair[0], 1)?,
            changes: number(pair[1], 0)?,
        });
    }
    c.save = Some(points);
    Ok(())
}

pub(in crate::config) fn show_save(c: &Config) -> String {
    let points = c.save_points().iter();
    let pairs = points.map(|point| format!("{} {}", point.seconds, point.changes));
    pairs.collect::<Vec<_>>().join(" ")
}

pub(super) fn set_dbfilename(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    let name = optional_text(single(words)?)?;
    if name.is_empty() {
        return Err(Invalid::Empty);
    }
    if name.contains('/') || name == "." || name == ".." {
        return Err(Invalid::NotAName("dbfilename"));
    }
    c.dbfilename = name;
    Ok(())
}

pub(super) fn set_pipeline_order(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.pipeline_order = match one_of(single(words)?, PIPELINE_ORDER_WORDS)? {
        0 => PipelineOrder::Relaxed,
        _ => PipelineOrder::Strict,
    };
    Ok(())
}

pub(super) fn set_script_undeclared_keys(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.script_undeclared_keys = match one_of(single(words)?, UNDECLARED_KEYS_WORDS)? {
        0 => UndeclaredKeys::Retry,
        1 => UndeclaredKeys::All,
        _ => UndeclaredKeys::Refuse,
    };
    Ok(())
}

pub(super) fn set_debug_command(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.enable_debug_command = match one_of(single(words)?, DEBUG_COMMAND_WORDS)? {
        0 => DebugCommand::No,
        1 => DebugCommand::Yes,
        _ => DebugCommand::Local,
    };
    Ok(())
}

pub(super) fn set_metrics_port(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    let port = integer(single(words)?, 0, 65535)?;
    c.metrics_port = u16::try_from(port).ok().filter(|&p| p != 0);
    Ok(())
}

pub(super) fn set_metrics_bind(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.metrics_bind = single(words)?
        .parse()
        .map_err(|_| Invalid::Unsupported("argument must be an IP address"))?;
    Ok(())
}

pub(super) fn set_loglevel(c: &mut Config, words: &[&str]) -> Result<(), Invalid> {
    c.loglevel = match one_of(single(words)?, LOGLEVEL_WORDS)? {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => LogLevel::Nothing,
    };
    Ok(())
}
