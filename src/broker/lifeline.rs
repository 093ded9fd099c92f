//! The end of a generation of connections: whoever sees trouble first says why, everybody else stops.
//!
//! A lifeline ends once; the first reason stays.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Shared by all tasks of one generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifeline {
    over: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl Lifeline {
    /// Ends the generation.
    pub(crate) fn end(&self, why: impl Into<String>) {
        let _ = self.why.set(why.into());
        self.over.cancel();
    }

    /// Waits for the end and returns why it came.
    pub(crate) async fn ended(&self) -> String {
        self.over.cancelled().await;
        self.why.get().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let lifeline = Lifeline::default();
        let other = lifeline.clone();
        lifeline.end("the socket closed");
        other.end("a consequence");
        assert_eq!(other.ended().await, "the socket closed");
    }
}
