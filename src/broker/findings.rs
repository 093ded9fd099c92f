//! What a look at the broker found, in words for the person who can change it.
//!
//! The broker's refusals are its own sentences; what they mean for a worker is told beside them.

use crate::config;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Cannot be told, and need not be wrong.
    Untold,
    /// A worker works with it, and somebody should know.
    Remark,
    /// A worker does not work with it.
    Bad,
}

impl Verdict {
    /// The sign before a line.
    pub fn sign(self) -> char {
        match self {
            Self::Good => '✓',
            Self::Untold => '·',
            Self::Remark => '!',
            Self::Bad => '✗',
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is to be taken.
    pub verdict: Verdict,
    /// What was looked at, what was found, what to do.
    pub text: String,
}

impl Finding {
    /// As it should be.
    pub fn good(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, text: text.into() }
    }

    /// Cannot be told.
    pub fn untold(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Untold, text: text.into() }
    }

    /// Somebody should know.
    pub fn remark(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Remark, text: text.into() }
    }

    /// Does not work.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, text: text.into() }
    }
}

/// What the broker said to a declaration of something that is there: `inequivalent arg 'x-queue-type' for queue 'q' in
/// vhost '/': received 'quorum' but current is 'classic'` (RabbitMQ 3.10 to 4.3, with or without `the value … of type …`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The argument, or the property such as `durable` or `type`.
    pub argument: String,
    /// What it is at the broker; `None` where the queue has none.
    pub current: Option<String>,
}

/// Reads the broker's sentence; `None` where it says something else.
pub(crate) fn difference(words: &str) -> Option<Difference> {
    let (_, rest) = words.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, current) = rest.rsplit_once("but current is ")?;
    let quoted = current.split('\'').nth(1).map(str::to_owned);
    Some(Difference { argument: argument.to_owned(), current: quoted })
}

/// A queue that is there and is not as the worker would declare it.
pub(crate) fn different(name: &str, words: &str, settings: &config::Broker) -> Finding {
    let plain = || {
        Finding::remark(format!(
            "queue {name:?} is there with other arguments and is used as it is; to have it as configured, delete it while \
             it is empty, or change [broker]. The broker: {words}"
        ))
    };
    let Some(Difference { argument, current }) = difference(words) else { return plain() };
    let is = current.as_deref().unwrap_or("not set");
    match argument.as_str() {
        "x-queue-type" => Finding::remark(format!(
            "queue {name:?} is of type {is}, and broker.queue_type is {:?}; the worker uses it as it is, without the \
             guarantees of the other type. To change it, delete it while it is empty",
            settings.queue_type.as_str()
        )),
        "x-delivery-limit" if name == settings.dead_letter_queue => Finding::remark(format!(
            "queue {name:?} has the delivery limit: {is}; from RabbitMQ 4.0 on it then drops a letter that is looked at \
             and given back {} times. `sharelink dead` writes letters anew in time, other tools do not. To have it without, \
             delete it while it is empty",
            current.as_deref().unwrap_or("20")
        )),
        "x-delivery-limit" if name == settings.request_queue => limit(name, current, settings),
        "x-dead-letter-exchange" if name == settings.request_queue => Finding::remark(format!(
            "queue {name:?} has the dead-letter exchange: {is}; what the broker takes away by itself, because it ended \
             connection after connection, does not reach {:?}. To have it there, delete the queue while it is empty, or give it \
             a policy with dead-letter-exchange \"\" and dead-letter-routing-key {:?}",
            settings.dead_letter_queue, settings.dead_letter_queue
        )),
        "x-overflow" | "x-dead-letter-strategy" => Finding::remark(format!(
            "queue {name:?} has {argument}: {is}; without dead-letter-strategy at-least-once and overflow reject-publish together \
             RabbitMQ dead-letters at most once, and what it moves by itself can be lost on the way. To have both, delete \
             the queue while it is empty, or set both in its policy"
        )),
        _ => plain(),
    }
}

/// The request queue's own delivery limit, where it is another one than ours.
fn limit(name: &str, current: Option<String>, settings: &config::Broker) -> Finding {
    let ours = settings.max_deliveries;
    let number = current.as_deref().and_then(|current| current.parse::<u64>().ok());
    match number {
        Some(limit) if limit < u64::from(ours) => Finding::remark(format!(
            "queue {name:?} has the delivery limit {limit}, below broker.max_deliveries = {ours}: the broker takes a request \
             away before the worker can answer it. Set broker.max_deliveries below {limit}, or raise the queue's limit"
        )),
        Some(limit) => Finding::good(format!("queue {name:?}: there, with a delivery limit of {limit}")),
        None => Finding::remark(format!(
            "queue {name:?} has no delivery limit of its own; RabbitMQ 4.0 and newer then take a request away after 20 \
             deliveries, older ones never do. broker.max_deliveries = {ours} answers it before, where a worker lives to see it"
        )),
    }
}

/// A permission that is missing.
pub(crate) fn forbidden(doing: &str, permission: &str, object: &str, words: &str) -> Finding {
    Finding::bad(format!(
        "the user of broker.url may not {doing}; give it the permission to {permission} {object:?} (rabbitmqctl \
         set_permissions). The broker: {words}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::topology::tests::settings;
    use crate::config::QueueType;

    fn words(argument: &str, current: &str) -> String {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'requests' in vhost '/': received 'x' but \
             current is {current}"
        )
    }

    #[test]
    fn the_brokers_sentence_is_read_in_each_of_its_forms() {
        for (current, read) in
            [("'classic'", Some("classic")), ("none", None), ("the value '5' of type 'signedint'", Some("5"))]
        {
            let read = Difference { argument: "a".to_owned(), current: read.map(str::to_owned) };
            assert_eq!(difference(&words("a", current)), Some(read));
        }
        assert_eq!(difference("NOT_FOUND - no queue 'q'"), None);
    }

    #[test]
    fn a_limit_below_the_workers_own_is_a_remark_that_names_both() {
        let settings = settings(QueueType::Quorum);
        let text = |current| different("requests", &words("x-delivery-limit", current), &settings);
        let low = text("'3'");
        assert_eq!(low.verdict, Verdict::Remark);
        assert!(low.text.contains("limit 3") && low.text.contains("max_deliveries = 5"), "{}", low.text);
        assert_eq!(text("'5'").verdict, Verdict::Good);
        assert!(text("none").text.contains("20"));
    }

    #[test]
    fn what_dead_lettering_needs_and_is_not_there_is_told_with_its_consequence() {
        let settings = settings(QueueType::Quorum);
        let text = |argument, current| different("requests", &words(argument, current), &settings).text;
        let lost = text("x-dead-letter-exchange", "none");
        assert!(lost.contains("not set") && lost.contains("does not reach \"dead\""), "{lost}");
        for argument in ["x-overflow", "x-dead-letter-strategy"] {
            let text = text(argument, "'drop-head'");
            assert!(text.contains(argument) && text.contains("at most once"), "{text}");
        }
    }

    #[test]
    fn a_queue_of_another_type_and_a_difference_that_nobody_knows_are_told() {
        let settings = settings(QueueType::Quorum);
        let other = different("requests", &words("x-queue-type", "'classic'"), &settings);
        assert!(other.text.contains("classic") && other.text.contains("quorum"), "{}", other.text);
        let words = words("x-new", "'1'");
        assert!(different("requests", &words, &settings).text.contains(&words));
    }
}
