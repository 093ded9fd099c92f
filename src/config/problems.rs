//! Mistakes in the configuration: where each one is, which key it is about, and what to do.
//!
//! Invariant: a problem is one line of text, and no text here ever holds the value of a secret.

use std::fmt;

/// Where a mistake was made. The order is the order of the report: the file from top to bottom, then the variables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nothing was written at all, and no file was read.
    Nowhere,
    /// In a file.
    File {
        /// The file as it was named.
        name: String,
        /// Counted from 1; `None` where the mistake is that a line is missing, or the file cannot be read.
        line: Option<usize>,
    },
    /// In an environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("configuration"),
            Self::File { name, line: Some(line) } => write!(f, "{}:{line}", name.escape_debug()),
            Self::File { name, line: None } => write!(f, "{}", name.escape_debug()),
            Self::Variable(name) => write!(f, "{}", name.escape_debug()),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// The key with its sections, such as `broker.prefetch`; empty where the file as a whole is wrong.
    pub key: String,
    /// What is wrong, what is allowed, what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        // A variable's name says the key already.
        if !self.key.is_empty() && !matches!(self.place, Place::Variable(_)) {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Every mistake in a configuration; displayed one a line, sorted by place. Never empty when it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts and drops repetitions.
    pub(super) fn new(mut all: Vec<Problem>) -> Self {
        all.sort();
        all.dedup();
        Self(all)
    }

    /// The mistakes in the order of the report.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// How many mistakes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: Option<usize>, key: &str) -> Problem {
        let place = Place::File { name: "a.toml".to_owned(), line };
        Problem { place, key: key.to_owned(), text: "wrong".to_owned() }
    }

    #[test]
    fn the_report_is_sorted_by_line_as_a_number_with_variables_last_and_says_nothing_twice() {
        let variable = Problem { place: Place::Variable("SHARELINK__A".to_owned()), ..at(None, "a") };
        let all = vec![variable, at(Some(10), "b.c"), at(Some(9), "b"), at(Some(9), "b"), at(None, "z")];
        assert_eq!(
            Problems::new(all).to_string(),
            "a.toml: z: wrong\na.toml:9: b: wrong\na.toml:10: b.c: wrong\nSHARELINK__A: wrong"
        );
    }
}
