//! LATENCY GRAPH: the samples of an event as a picture of characters.
//!
//! A column per sample, four rows high with three steps in each, and below it, read downwards, how
//! long ago it was.

use super::latency::Series;
use std::fmt::Write as _;

/// Rows of the picture.
const ROWS: usize = 4;
/// The steps within a row, from low to high; what is higher fills the rows below.
const STEPS: [char; 3] = ['_', 'o', '#'];
const FILL: char = '|';
/// Length of the line under the title.
const WIDTH: usize = 80;

/// The picture of an event with at least one sample, as seen at `now_s`.
#[must_use]
pub fn draw(name: &str, series: &Series, now_s: u64) -> String {
    let values = || series.samples.iter().map(|sample| sample.millis);
    let high = values().max().unwrap_or(0);
    let low = values().min().unwrap_or(0);
    let all_time = series.max_millis;
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {all_time} ms)\n");
    text.push_str(&"-".repeat(WIDTH));
    text.push('\n');
    let heights: Vec<usize> = values().map(|value| height(value, low, high)).collect();
    for row in (0..ROWS).rev() {
        text.extend(heights.iter().map(|height| cell(*height, row)));
        text.push('\n');
    }
    text.push_str(&" ".repeat(heights.len()));
    text.push('\n');
    let ages: Vec<String> = series
        .samples
        .iter()
        .map(|sample| age(now_s.saturating_sub(sample.unix_s)))
        .collect();
    let longest = ages.iter().map(String::len).max().unwrap_or(0);
    for at in 0..longest {
        text.extend(ages.iter().map(|age| age.chars().nth(at).unwrap_or(' ')));
        text.push('\n');
    }
    text
}

/// How many steps a value is above the lowest.
fn height(value: u64, low: u64, high: u64) -> usize {
    let steps = ROWS * STEPS.len();
    let range = (high - low).max(1);
    let step = u128::from(value - low) * steps as u128 / u128::from(range);
    usize::try_from(step).unwrap_or(usize::MAX).min(steps - 1)
}

/// What a column of this height shows in a row, counted from below.
fn cell(height: usize, row: usize) -> char {
    match height.checked_sub(row * STEPS.len()) {
        None => ' ',
        Some(step) => STEPS.get(step).copied().unwrap_or(FILL),
    }
}

fn age(seconds: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = match seconds {
        0..60 => write!(text, "{seconds}s"),
        60..3600 => write!(text, "{}m", seconds / 60),
        3600..86_400 => write!(text, "{}h", seconds / 3600),
        _ => write!(text, "{}d", seconds / 86_400),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::latency::Sample;

    #[test]
    fn the_picture_is_that_of_redis() {
        let samples = [(6, 10), (5, 30), (4, 2), (3, 6), (1, 20)];
        let series = Series {
            samples: samples
                .iter()
                .map(|(ago, millis)| Sample {
                    unix_s: 1000 - ago,
                    millis: *millis,
                })
                .collect(),
            max_millis: 30,
        };
        let picture = draw("command", &series, 1000);
        let rule = "-".repeat(80);
        let expected = [
            "command - high 30 ms, low 2 ms (all time high 30 ms)",
            &rule,
            " #   ",
            " |  o",
            "_|  |",
            "||_o|",
            "     ",
            "65431",
            "sssss",
            "",
        ];
        assert_eq!(picture, expected.join("\n"));
    }

    #[test]
    fn ages_have_one_unit() {
        let texts = [0, 59, 60, 3599, 3600, 86_399, 86_400].map(age);
        assert_eq!(texts, ["0s", "59s", "1m", "59m", "1h", "23h", "1d"]);
    }
}
