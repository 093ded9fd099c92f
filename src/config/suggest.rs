//! "Did you mean": the known word nearest to a misspelt one.
//!
//! Invariant: pure, and quiet where nothing is near enough; a wrong suggestion is worse than none.

/// The candidate that is fewest edits (insert, drop, change, swap of neighbours) away, if that is near enough: at most
/// a third of the word's length, and at most three.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().map(|c| c.to_ascii_lowercase()).collect();
    // The table is quadratic; nothing so long can be a misspelt key.
    if word.len() > 64 {
        return None;
    }
    let (edits, best) = candidates
        .into_iter()
        .map(|candidate| {
            (distance(&word, &candidate.chars().map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>()), candidate)
        })
        .min()?;
    (edits <= (word.len() / 3).clamp(1, 3)).then_some(best)
}

/// Optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (row, &in_a) in a.iter().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(row + 1);
        let mut previous_b = None;
        for (column, &in_b) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut edits = (at(&last, column) + usize::from(in_a != in_b))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            if previous_a == Some(in_b) && previous_b == Some(in_a) && column > 0 {
                edits = edits.min(at(&before_last, column - 1) + 1);
            }
            current.push(edits);
            previous_b = Some(in_b);
        }
        before_last = std::mem::replace(&mut last, current);
        previous_a = Some(in_a);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_a_different_word_finds_none() {
        let known = ["prefetch", "url", "urls", "request_queue", "reply_queue"];
        for (typed, meant) in [
            ("prefecth", Some("prefetch")),
            ("Prefetch", Some("prefetch")),
            ("prefech", Some("prefetch")),
            ("ulr", Some("url")),
            ("requestqueue", Some("request_queue")),
            ("password", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(typed, known), meant, "{typed}");
        }
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit_and_every_other_change_counts_once() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, edits) in [("", "abc", 3), ("abc", "", 3), ("abc", "acb", 1), ("abc", "abd", 1), ("ca", "abc", 3)] {
            assert_eq!(distance(&chars(a), &chars(b)), edits, "{a} {b}");
        }
    }
}
