//! Sequences of steps. Each has one family in its centre, another one beside it, and a little of
//! all the others, so that values are built up and then met by commands of other types.

use crate::families::Family;
use crate::grammar::Template;
use crate::request::Step;
use crate::words::{Word, Words};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;

/// Keys that a family likes lie this far from those of the next one, so that neighbours share some.
const LIKED_DISTANCE: usize = 3;

/// Requests that must not stand in a transaction: they change its own state or that of everything.
const NOT_QUEUED: &[&[u8]] = &[
    b"MULTI",
    b"EXEC",
    b"DISCARD",
    b"WATCH",
    b"UNWATCH",
    b"SELECT",
    b"FLUSHALL",
    b"FLUSHDB",
    b"SWAPDB",
];

/// Requests that wait for as long as they say, so that no other word may take the place of theirs.
const WAITING: &[&[u8]] = &[
    b"BLPOP",
    b"BRPOP",
    b"BLMOVE",
    b"BRPOPLPUSH",
    b"BLMPOP",
    b"BZPOPMIN",
    b"BZPOPMAX",
    b"BZMPOP",
    b"XREAD",
    b"XREADGROUP",
];

/// Makes sequences.
#[derive(Debug)]
pub struct Generator {
    families: Vec<Family>,
    /// Where each chosen family is in `families`.
    chosen: Vec<usize>,
    /// Whether other families take part.
    alone: bool,
}

impl Generator {
    /// Sequences of the families called `chosen`, or of all if there are none. Templates with a
    /// command of `missing` are left out.
    #[must_use]
    pub fn new(mut families: Vec<Family>, chosen: &[String], missing: &BTreeSet<Vec<u8>>) -> Self {
        for family in &mut families {
            family
                .templates
                .retain(|template| !template.names().any(|name| missing.contains(name)));
        }
        let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|c| c == name);
        let of_choice = (0..families.len())
            .filter(|&i| is_chosen(families[i].name) && !families[i].templates.is_empty())
            .collect();
        Generator {
            chosen: of_choice,
            alone: !chosen.is_empty(),
            families,
        }
    }

    /// Whether there is nothing to generate, because no command of the chosen families exists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// The sequence of this seed, of about so many requests.
    #[must_use]
    pub fn sequence(&self, seed: u64, requests: usize) -> Vec<Step> {
        let mut rng = StdRng::seed_from_u64(seed);
        let [centre, beside] = [(); 2].map(|()| self.centre(&mut rng));
        let others = if self.alone { 2 } else { 15 };
        let mut words = Words::new(&mut rng, 0);
        let mut steps = Vec::new();
        let mut sent = 0;
        while sent < requests {
            let family = match words.rng.random_range(0..100) {
                below if below < others => words.rng.random_range(0..self.families.len()),
                below if below < others + 15 => beside,
                // What moves and removes keys meets every type.
                below if below < others + 23 => 1,
                _ => centre,
            };
            if self.families[family].templates.is_empty() {
                continue;
            }
            words.like(family * LIKED_DISTANCE);
            let step = self.step(family, &mut words);
            if step.requests.iter().all(|request| !request.args.is_empty()) {
                sent += step.requests.len();
                steps.push(step);
            }
        }
        steps
    }

    /// One of the chosen families, by their shares.
    fn centre(&self, rng: &mut StdRng) -> usize {
        let share = |&family: &usize| self.families[family].share;
        let total: u32 = self.chosen.iter().map(share).sum();
        let mut at = rng.random_range(0..total);
        for family in &self.chosen {
            match at.checked_sub(share(family)) {
                Some(rest) => at = rest,
                None => return *family,
            }
        }
        self.chosen[0]
    }

    fn step(&self, family: usize, words: &mut Words<'_>) -> Step {
        let template = choose(&self.families[family].templates, words.rng, |_| true);
        let Some(template) = template else {
            return Step {
                requests: Vec::new(),
                property: None,
            };
        };
        let mut step = template.expand(words, &mut |words| self.any(words));
        if template.is_plain()
            && let [request] = &mut step.requests[..]
        {
            mutate(&mut request.args, words);
        }
        step
    }

    /// A request of any family that can stand in a transaction.
    fn any(&self, words: &mut Words<'_>) -> Vec<Vec<u8>> {
        let family = match words.rng.random_range(0..3) {
            0 => words.rng.random_range(0..self.families.len()),
            _ => self.chosen[words.rng.random_range(0..self.chosen.len())],
        };
        let can_be_queued = |template: &Template| {
            template.is_plain()
                && !template.names().any(|name| NOT_QUEUED.contains(&name))
                && template.names().next().is_some()
        };
        let templates = &self.families[family].templates;
        let Some(template) = choose(templates, words.rng, can_be_queued) else {
            return vec![b"GET".to_vec(), words.word(Word::Key)];
        };
        let mut step = template.expand(words, &mut |_| Vec::new());
        let mut args = step.requests.remove(0).args;
        mutate(&mut args, words);
        args
    }
}

fn choose<'t>(
    templates: &'t [Template],
    rng: &mut StdRng,
    is_wanted: impl Fn(&Template) -> bool,
) -> Option<&'t Template> {
    let wanted = || templates.iter().filter(|t| is_wanted(t));
    let total: u32 = wanted().map(|t| t.weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = rng.random_range(0..total);
    wanted().find(|template| match at.checked_sub(template.weight) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })
}

/// Now and then one word too many, too few, another one, or the name in lower case.
fn mutate(args: &mut Vec<Vec<u8>>, words: &mut Words<'_>) {
    // A word more is an option since 7.2, which is noticed later than a wrong number of words.
    let is_newer = |name: &[u8]| [&b"ZRANK"[..], b"ZREVRANK"].contains(&name);
    let waits = |name: &[u8]| WAITING.iter().any(|w| w.eq_ignore_ascii_case(name));
    if args
        .first()
        .is_some_and(|name| is_newer(name) || waits(name))
    {
        return;
    }
    let named = |name| Word::named(name).unwrap_or(Word::Int);
    match words.rng.random_range(0..150) {
        0 | 1 if args.len() > 1 => {
            args.pop();
        }
        2 => {
            let more = words.word(named("option"));
            args.push(more);
        }
        3 => {
            let more = words.word(named("wrong"));
            args.push(more);
        }
        4 | 5 if args.len() > 1 => {
            let at = words.rng.random_range(1..args.len());
            args[at] = words.word(named("wrong"));
        }
        6 if args.len() > 2 => {
            let at = words.rng.random_range(2..args.len());
            let option = words.word(named("option"));
            args.insert(at, option);
        }
        7 if args.len() > 2 => {
            let at = words.rng.random_range(2..args.len());
            args.remove(at);
        }
        8..18 => args[0].make_ascii_lowercase(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let generator = Generator::new(families::all().expect("families"), &[], &BTreeSet::new());
        for seed in 0..5 {
            let sequence = generator.sequence(seed, 300);
            assert_eq!(sequence, generator.sequence(seed, 300));
            assert!(sequence.len() > 40);
        }
    }

    #[test]
    fn a_command_that_is_missing_is_not_sent() {
        let missing = BTreeSet::from([b"SET".to_vec()]);
        let generator = Generator::new(families::all().expect("families"), &[], &missing);
        for seed in 0..20 {
            for step in generator.sequence(seed, 200) {
                assert!(step.requests.iter().all(|r| r.name() != b"SET"), "{step}");
            }
        }
    }
}
