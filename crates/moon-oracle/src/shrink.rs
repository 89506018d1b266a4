//! The shortest part of a sequence that still fails, by leaving out more and more of it.

use crate::request::Step;

/// Makes `steps` shorter as long as `fails` says that the rest still fails. Asks at most `tries`
/// times, and returns a sequence that failed when it was asked about, or `steps` itself.
///
/// First whole chunks of steps are left out, halved again and again, then single requests of the
/// steps that stay. Chunks are taken from the front, because the end is what fails.
pub fn shortest<E>(
    steps: Vec<Step>,
    mut tries: usize,
    mut fails: impl FnMut(&[Step]) -> Result<bool, E>,
) -> Result<Vec<Step>, E> {
    let mut best = steps;
    let mut ask = |candidate: &[Step]| -> Result<Option<bool>, E> {
        if tries == 0 {
            return Ok(None);
        }
        tries -= 1;
        fails(candidate).map(Some)
    };
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < best.len() {
            let end = (at + chunk).min(best.len());
            let candidate = [&best[..at], &best[end..]].concat();
            match ask(&candidate)? {
                None => return Ok(best),
                Some(true) => best = candidate,
                Some(false) => at = end,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    let mut at = best.len();
    while at > 0 {
        at -= 1;
        // Properties speak of the requests by position.
        if best[at].property.is_some() {
            continue;
        }
        let mut request = best[at].requests.len();
        while request > 0 && best[at].requests.len() > 1 {
            request -= 1;
            let mut candidate = best.clone();
            candidate[at].requests.remove(request);
            match ask(&candidate)? {
                None => return Ok(best),
                Some(true) => best = candidate,
                Some(false) => {}
            }
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;
    use std::convert::Infallible;

    fn step(words: &[&str]) -> Step {
        let request = |word: &&str| Request::plain(vec![word.as_bytes().to_vec()]);
        Step {
            requests: words.iter().map(request).collect(),
            property: None,
        }
    }

    fn has(steps: &[Step], word: &str) -> bool {
        steps
            .iter()
            .flat_map(|s| &s.requests)
            .any(|r| r.args[0] == word.as_bytes())
    }

    fn shortened(needed: &[&str], tries: usize) -> (String, usize) {
        let mut steps: Vec<Step> = (0..200).map(|i| step(&[&format!("n{i}")])).collect();
        steps[17] = step(&["x", "A", "y"]);
        steps[150] = step(&["B"]);
        let mut asked = 0;
        let found = shortest::<Infallible>(steps, tries, |candidate| {
            asked += 1;
            Ok(needed.iter().all(|word| has(candidate, word)))
        });
        let Ok(found) = found;
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        (texts.join(", "), asked)
    }

    #[test]
    fn what_is_needed_stays_and_the_rest_goes() {
        let (text, asked) = shortened(&["A", "B"], 10_000);
        assert_eq!(text, "A, B");
        assert!(asked < 100, "{asked}");
        assert_eq!(shortened(&["n199"], 10_000).0, "n199");
    }

    #[test]
    fn the_number_of_tries_is_bounded() {
        let (text, asked) = shortened(&["A", "B"], 5);
        assert_eq!(asked, 5);
        assert!(text.contains('A') && text.contains('B'));
    }
}
