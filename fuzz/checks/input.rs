//! Cuts the bytes of an input into the parts that a target wants.
//!
//! Parts are parted by a line `--`, so that seeds can be read and written by people; a part that is missing is empty.

use std::borrow::Cow;

/// What stands between two parts.
const BETWEEN: &[u8] = b"\n--\n";

/// The parts of an input, taken from the front.
pub struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// The parts of an input.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next part.
    pub fn bytes(&mut self) -> &'a [u8] {
        let end = self.0.windows(BETWEEN.len()).position(|here| here == BETWEEN);
        let (part, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + BETWEEN.len()..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        part
    }

    /// The next part as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&mut self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes())
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The value of the first line `name: value`.
pub fn field<'a>(lines: &'a str, name: &str) -> Option<&'a str> {
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
