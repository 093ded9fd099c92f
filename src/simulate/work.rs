//! What working a call comes to, and the ids that both dialects make. Pure.

use super::answer::Answer;

/// What happened to links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Looked,
    /// One was made.
    Created,
    /// One that was there was handed out again.
    Reused,
    /// One was taken back.
    Revoked,
}

/// A worked call.
#[derive(Debug, Clone, PartialEq)]
pub struct Worked {
    /// The answer.
    pub answer: Answer,
    /// What happened.
    pub effect: Effect,
}

impl Worked {
    /// A call that only looked.
    pub fn looked(answer: Answer) -> Self {
        Self { answer, effect: Effect::Looked }
    }
}

/// An item's live links in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Live links.
    pub links: u64,
    /// Links beyond the first among those that give the same.
    pub doubled: u64,
}

/// A random guid.
pub fn guid(rng: &mut fastrand::Rng) -> String {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid().to_string()
}

/// So many letters and digits.
pub fn token(rng: &mut fastrand::Rng, length: usize) -> String {
    std::iter::repeat_with(|| rng.alphanumeric()).take(length).collect()
}

/// So many upper-case hexadecimal digits.
pub fn hex(rng: &mut fastrand::Rng, length: usize) -> String {
    std::iter::repeat_with(|| rng.digit(16).to_ascii_uppercase()).take(length).collect()
}
