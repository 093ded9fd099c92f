//! What must hold for any input: one check for each fuzz target, also run by `tests/fuzz_short.rs`.
//!
//! A check takes bytes, makes an input of them, runs the pure code on it and panics where a promise is broken. It does
//! no I/O and knows no clock, so the same bytes always do the same.

pub mod configuration;
pub mod input;
pub mod provider_answer;
pub mod reply_side;
pub mod request;
pub mod retry_after;

use sharelink::model::Failure;

/// What is done with the bytes of one input.
pub type Check = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Check); 5] = [
    ("configuration", configuration::check),
    ("provider_answer", provider_answer::check),
    ("reply_side", reply_side::check),
    ("request", request::check),
    ("retry_after", retry_after::check),
];

/// Put in by the checks where a secret stands; it must come out nowhere else.
pub const CANARY: &str = "cAnArY7qZ";

/// The longest sentence that a person is told, in characters: ours, and 300 of the provider's at two places.
const LONGEST_SENTENCE: usize = 1000;

/// Asserts that a failure can be shown to a person: one bounded line without a secret.
pub fn assert_tellable(failure: &Failure) {
    let message = &failure.message;
    assert!(!message.trim().is_empty(), "a failure without a sentence");
    assert_line(message, LONGEST_SENTENCE);
    for word in [&failure.provider.code, &failure.provider.request_id].into_iter().flatten() {
        assert_line(word, 301);
    }
}

/// Asserts that a text is one line of at most so many characters, and holds no secret.
pub fn assert_line(text: &str, longest: usize) {
    let length = text.chars().count();
    assert!(length <= longest, "{length} characters: {text:.300}");
    assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    assert_no_secret(text);
}

/// Asserts that a text does not hold the secret.
pub fn assert_no_secret(text: &str) {
    assert!(!text.contains(CANARY), "a secret in {text:?}");
}
