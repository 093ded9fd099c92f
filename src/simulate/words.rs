//! The words in an item's name that order a fault.
//!
//! A word counts where no letter stands directly before or after it, so `report-down.pdf` is down and `download.pdf`
//! is not. Case does not matter.

/// A fault that an item's name can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// 404
    Missing,
    /// 403
    Forbidden,
    /// 423 twice
    Locked,
    /// 429 once
    Throttled,
    /// 503 twice
    Flaky,
    /// 503 always
    Down,
    /// A late answer
    Slow,
    /// The work done, the answer cut off
    Lost,
    /// The work done, 504 answered
    Gateway,
    /// Cut off before the work
    Reset,
    /// A sign-in page
    Html,
    /// A body of 2 MiB
    Huge,
    /// 302
    Redirect,
    /// Broken JSON
    Garbage,
    /// 401 once
    Expired,
    /// More than was asked
    Wider,
    /// A shorter life than was asked
    Narrower,
    /// No password though one was asked
    NoPassword,
}

/// Every word, how it is written, and what it does: also the text of the help and of the page at `/`.
pub const WORDS: [(Word, &str, &str); 18] = [
    (Word::Missing, "missing", "404: the item does not exist"),
    (Word::Forbidden, "forbidden", "403: Graph accessDenied, Oracle -20"),
    (Word::Locked, "locked", "creating answers 423 twice, then works"),
    (Word::Throttled, "throttled", "429 once with Retry-After 1, then works; throttled-30 asks for 30 seconds"),
    (Word::Flaky, "flaky", "503 twice, then works"),
    (Word::Down, "down", "503 always"),
    (Word::Slow, "slow", "the work is done at once and answered 250 ms later; slow-4000 takes 4000 ms"),
    (Word::Lost, "lost", "creating makes the link, then cuts the connection once; the next call finds the link"),
    (Word::Gateway, "gateway", "creating makes the link and answers 504 once; the next call finds the link"),
    (Word::Reset, "reset", "creating cuts the connection before the work, once"),
    (Word::Html, "html", "200 with an HTML sign-in page, nothing done"),
    (Word::Huge, "huge", "200 with a body of 2 MiB, nothing done"),
    (Word::Redirect, "redirect", "302 to a sign-in page, nothing done"),
    (Word::Garbage, "garbage", "200 with broken JSON, nothing done"),
    (Word::Expired, "expired", "401 InvalidAuthenticationToken once, then works"),
    (Word::Wider, "wider", "the link has a wider audience, or else a higher role or no expiry"),
    (Word::Narrower, "narrower", "the link ends after 30 days at the latest, and says so"),
    (Word::NoPassword, "nopassword", "the password is not applied"),
];

/// A word found in a name, with the number that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// The word.
    pub word: Word,
    /// The number after it, with or without a hyphen between.
    pub number: Option<u64>,
}

/// The fault words in an item's id, or in the last segment of its path.
pub fn words_in(name: &str) -> Vec<Spoken> {
    let mut found = Vec::new();
    let mut rest = name;
    while let Some(start) = rest.find(char::is_alphabetic) {
        let (_, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_alphabetic()).unwrap_or(from.len());
        let (letters, after) = from.split_at(end);
        if let Some((word, ..)) = WORDS.iter().find(|(_, written, _)| written.eq_ignore_ascii_case(letters)) {
            found.push(Spoken { word: *word, number: leading_number(after) });
        }
        rest = after;
    }
    found
}

fn leading_number(text: &str) -> Option<u64> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(digits).0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_between_anything_but_letters() {
        for name in ["down", "report-down.pdf", "7down9", "01AB!down", "DOWN"] {
            assert_eq!(words_in(name).first().map(|spoken| spoken.word), Some(Word::Down), "{name}");
        }
    }

    #[test]
    fn a_word_inside_a_longer_word_orders_nothing() {
        for name in ["download.pdf", "presets", "01HUGEABC", "räumlost", ""] {
            assert!(words_in(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_number_after_a_word_belongs_to_it() {
        assert_eq!(words_in("throttled-30.docx"), [Spoken { word: Word::Throttled, number: Some(30) }]);
        assert_eq!(words_in("a slow4000 b"), [Spoken { word: Word::Slow, number: Some(4000) }]);
        assert_eq!(words_in("slow-99999999999999999999"), [Spoken { word: Word::Slow, number: None }]);
    }

    #[test]
    fn several_words_are_all_found_in_order() {
        let words: Vec<_> = words_in("expired-then-locked").into_iter().map(|spoken| spoken.word).collect();
        assert_eq!(words, [Word::Expired, Word::Locked]);
    }
}
