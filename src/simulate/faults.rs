//! What a call's fault words and the dice make of it, decided before any work is done. Pure.
//!
//! A fault that happens "once" or "twice" is counted by item and word, so several clients share the count.

use std::collections::HashMap;
use std::time::Duration;

use super::words::{Spoken, Word};

/// The longest `slow` in milliseconds and `throttled` in seconds that a name can order: an hour.
const LONGEST_SLOW_MS: u64 = 3_600_000;
const LONGEST_THROTTLE_S: u64 = 3_600;

/// How often each word of an item has had its way.
pub type Seen = HashMap<Word, u32>;

/// A way in which a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// 404
    NotFound,
    /// 403
    Forbidden,
    /// 423
    Locked,
    /// 429, with the wait.
    Throttled(Duration),
    /// 503, with the wait where it is told.
    Unavailable(Option<Duration>),
    /// 504
    GatewayTimeout,
    /// 401
    Expired,
    /// The connection is cut.
    Cut,
    /// 200 with an HTML page.
    Html,
    /// 200 with 2 MiB.
    Huge,
    /// 302
    Redirect,
    /// 200 with broken JSON.
    Garbage,
}

/// How a link differs from what was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alteration {
    /// A wider audience, a higher role or no expiry.
    pub wider: bool,
    /// At most 30 days.
    pub narrower: bool,
    /// The password is ignored.
    pub no_password: bool,
}

/// What is to happen to a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// Instead of the work.
    pub instead: Option<Trouble>,
    /// What the work does differently.
    pub alteration: Alteration,
    /// Instead of the answer, after the work.
    pub after: Option<Trouble>,
    /// How much later the answer comes.
    pub delay: Duration,
}

/// Decides what the words of an item make of this call, and notes in `seen` what has had its way.
///
/// The first word that stops the work wins; the words after it wait for the next call.
pub fn plan(words: &[Spoken], creates: bool, seen: &mut Seen) -> Plan {
    let mut plan = Plan::default();
    for spoken in words {
        let mut first = |times: u32| {
            let count = seen.entry(spoken.word).or_insert(0);
            let within = *count < times;
            *count = count.saturating_add(u32::from(within));
            within
        };
        match spoken.word {
            Word::Slow => plan.delay = Duration::from_millis(spoken.number.unwrap_or(250).min(LONGEST_SLOW_MS)),
            Word::Wider => plan.alteration.wider = true,
            Word::Narrower => plan.alteration.narrower = true,
            Word::NoPassword => plan.alteration.no_password = true,
            Word::Lost if creates && first(1) => plan.after = Some(Trouble::Cut),
            Word::Gateway if creates && first(1) => plan.after = Some(Trouble::GatewayTimeout),
            Word::Lost | Word::Gateway => {}
            Word::Missing => plan.instead = Some(Trouble::NotFound),
            Word::Forbidden => plan.instead = Some(Trouble::Forbidden),
            Word::Down => plan.instead = Some(Trouble::Unavailable(None)),
            Word::Html => plan.instead = Some(Trouble::Html),
            Word::Huge => plan.instead = Some(Trouble::Huge),
            Word::Redirect => plan.instead = Some(Trouble::Redirect),
            Word::Garbage => plan.instead = Some(Trouble::Garbage),
            Word::Locked if creates && first(2) => plan.instead = Some(Trouble::Locked),
            Word::Reset if creates && first(1) => plan.instead = Some(Trouble::Cut),
            Word::Throttled if first(1) => {
                let seconds = spoken.number.unwrap_or(1).min(LONGEST_THROTTLE_S);
                plan.instead = Some(Trouble::Throttled(Duration::from_secs(seconds)));
            }
            Word::Flaky if first(2) => plan.instead = Some(Trouble::Unavailable(None)),
            Word::Expired if first(1) => plan.instead = Some(Trouble::Expired),
            Word::Locked | Word::Reset | Word::Throttled | Word::Flaky | Word::Expired => {}
        }
        if plan.instead.is_some() {
            break;
        }
    }
    plan
}

/// The dice of one call: four numbers from 0 up to 1, the same for the same seed and call number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dice {
    /// Against the latency's jitter.
    pub jitter: f64,
    /// Against `fault_503`.
    pub unavailable: f64,
    /// Against `reset`.
    pub reset: f64,
    /// Against `lose_answers`.
    pub lose: f64,
}

impl Dice {
    /// The dice of call number `call`.
    pub fn roll(seed: u64, call: u64) -> Self {
        // The odd constant spreads neighbouring call numbers over the generator's whole state (splitmix64's increment).
        let mut rng = fastrand::Rng::with_seed(seed ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { jitter: rng.f64(), unavailable: rng.f64(), reset: rng.f64(), lose: rng.f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words_in;
    use super::*;

    /// What three creating calls in a row meet.
    fn thrice(name: &str) -> [Plan; 3] {
        let mut seen = Seen::new();
        std::array::from_fn(|_| plan(&words_in(name), true, &mut seen))
    }

    fn instead(trouble: Trouble) -> Plan {
        Plan { instead: Some(trouble), ..Plan::default() }
    }

    fn after(trouble: Trouble) -> Plan {
        Plan { after: Some(trouble), ..Plan::default() }
    }

    #[test]
    fn every_word_does_what_the_page_says() {
        let fine = Plan::default();
        let altered = |alteration| Plan { alteration, ..Plan::default() };
        let wider = altered(Alteration { wider: true, ..Alteration::default() });
        let narrower = altered(Alteration { narrower: true, ..Alteration::default() });
        let no_password = altered(Alteration { no_password: true, ..Alteration::default() });
        let always = |plan: Plan| [plan; 3];
        let slow = |ms| Plan { delay: Duration::from_millis(ms), ..Plan::default() };
        for (name, plans) in [
            ("missing", always(instead(Trouble::NotFound))),
            ("forbidden", always(instead(Trouble::Forbidden))),
            ("locked", [instead(Trouble::Locked), instead(Trouble::Locked), fine]),
            ("throttled", [instead(Trouble::Throttled(Duration::from_secs(1))), fine, fine]),
            ("throttled-30", [instead(Trouble::Throttled(Duration::from_secs(30))), fine, fine]),
            ("flaky", [instead(Trouble::Unavailable(None)), instead(Trouble::Unavailable(None)), fine]),
            ("down", always(instead(Trouble::Unavailable(None)))),
            ("slow", always(slow(250))),
            ("slow-4000", always(slow(4000))),
            ("lost", [after(Trouble::Cut), fine, fine]),
            ("gateway", [after(Trouble::GatewayTimeout), fine, fine]),
            ("reset", [instead(Trouble::Cut), fine, fine]),
            ("html", always(instead(Trouble::Html))),
            ("huge", always(instead(Trouble::Huge))),
            ("redirect", always(instead(Trouble::Redirect))),
            ("garbage", always(instead(Trouble::Garbage))),
            ("expired", [instead(Trouble::Expired), fine, fine]),
            ("wider", always(wider)),
            ("narrower", always(narrower)),
            ("nopassword", always(no_password)),
            ("contract.pdf", always(fine)),
        ] {
            assert_eq!(thrice(name), plans, "{name}");
        }
    }

    #[test]
    fn a_call_that_only_looks_does_not_use_up_what_waits_for_the_creating_call() {
        for name in ["lost", "gateway", "locked", "reset"] {
            let mut seen = Seen::new();
            assert_eq!(plan(&words_in(name), false, &mut seen), Plan::default(), "{name}");
            assert_ne!(plan(&words_in(name), true, &mut seen), Plan::default(), "{name}");
        }
    }

    #[test]
    fn the_second_word_waits_until_the_first_has_had_its_way() {
        assert_eq!(
            thrice("expired-throttled-7"),
            [instead(Trouble::Expired), instead(Trouble::Throttled(Duration::from_secs(7))), Plan::default()]
        );
    }

    #[test]
    fn the_dice_are_the_same_for_the_same_seed_and_call_and_differ_otherwise() {
        assert_eq!(Dice::roll(7, 3), Dice::roll(7, 3));
        assert_ne!(Dice::roll(7, 3), Dice::roll(7, 4));
        assert_ne!(Dice::roll(7, 3), Dice::roll(8, 3));
    }

    #[test]
    fn the_dice_are_fair_enough_for_a_probability() {
        let hits = (0..10_000).filter(|call| Dice::roll(1, *call).unavailable < 0.1).count();
        assert!((800..1200).contains(&hits), "{hits} of 10000 below 0.1");
    }
}
