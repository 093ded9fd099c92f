//! pure: When the next call of an account may be made: rates, pauses, failures and calls under way, in one machine.
//!
//! Time and dice are passed in. No grant falls inside a pause, none exceeds the lowest of the rates that are known
//! (configured, told by the provider, learned), and a grant that was refused leaves no trace.

use std::time::{Duration, Instant};

mod breaker;
mod budget;
mod concurrency;
mod learner;
mod pacer;
mod told;

use breaker::{Breaker, Verdict};
use budget::Budget;
use concurrency::Concurrency;
use learner::Learner;
use pacer::Pacer;
use told::Told;

pub use told::Gauge;

/// The share of a configured rate that is used: calls arrive a little later or earlier than they leave, and a provider that
/// counts by the second refuses the one call too many.
const TOLD_MARGIN: f64 = 0.976;
/// A pause is made longer by at most this share of itself, so that not every worker comes back in the same moment.
const PAUSE_JITTER: f64 = 0.1;
/// And by at most this much.
const LONGEST_JITTER: Duration = Duration::from_secs(5);
/// The pause after a refusal that names none; doubled with each one that follows without a call that was taken.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of our own choosing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is configured of an account's limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Calls under way at once, at most.
    pub max_in_flight: u32,
    /// Units a second; `None` where it has to be learned.
    pub rate: Option<f64>,
    /// Units of a call that makes a link, by which rates are told as calls a second.
    pub unit: f64,
}

/// The answer to "may I call now?".
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grant {
    /// Yes; how the call ends has to be told.
    Now(Ticket),
    /// As many calls are under way as may be, or one that sees how the provider is: ask again when one has ended.
    Full,
    /// Not before this time. Nothing is reserved: whoever waits asks again then, and whoever gives up owes nothing.
    At(Instant, Why),
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its turn.
    Turn,
    /// The end of the pause that the provider asked for.
    Paused,
    /// The provider keeps failing and is left alone.
    Broken,
}

/// A call that was granted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticket {
    at: Instant,
    probe: bool,
}

/// How a call ended, as far as the throttle is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The provider did what it was asked, or refused it for a reason of its own: it took the call.
    Taken,
    /// It asks for fewer calls; with the wait that it named.
    Refused(Option<Duration>),
    /// No answer, or one that says that it is not well; with the wait that it named.
    Failed(Option<Duration>),
    /// Nobody knows: the call was given up on our side.
    Unknown,
}

/// What came of telling an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The account is closed because the provider asked for it.
    Paused,
    /// The account is closed because the provider keeps failing.
    Broken,
}

/// The throttle of one account.
#[derive(Debug, Clone)]
pub struct Throttle {
    limits: Limits,
    learner: Learner,
    told: Told,
    pacer: Pacer,
    breaker: Breaker,
    concurrency: Concurrency,
    budget: Budget,
    /// End of the pause; may lie in the past.
    paused: Option<Instant>,
    in_flight: u32,
    /// Somebody waits for the rate.
    waited: bool,
    /// Refusals that named no wait, since a call was last taken.
    unexplained: u32,
    /// When a call was first not taken, since one was.
    barren: Option<Instant>,
}

impl Throttle {
    /// A throttle that begins with the rate, in units a second, that an earlier one learned, where there is one.
    pub fn new(limits: Limits, remembered: Option<f64>) -> Self {
        Self {
            limits: Limits { rate: limits.rate.map(|rate| rate * TOLD_MARGIN), ..limits },
            learner: remembered
                .map_or_else(|| Learner::new(limits.unit), |rate| Learner::remembering(rate, limits.unit)),
            told: Told::default(),
            pacer: Pacer::default(),
            breaker: Breaker::default(),
            concurrency: Concurrency::new(limits.max_in_flight),
            budget: Budget::default(),
            paused: None,
            in_flight: 0,
            waited: false,
            unexplained: 0,
            barren: None,
        }
    }

    /// How long a request that was tried before has to wait, so that repeated calls stay few. Where that is nothing, the
    /// repetition is counted.
    pub fn repeat_after(&mut self, now: Instant) -> Duration {
        self.budget.take(now)
    }

    /// Asks for a call of so many units.
    pub fn admit(&mut self, now: Instant, units: f64) -> Grant {
        if let Some(until) = self.paused.filter(|until| *until > now) {
            return Grant::At(until, Why::Paused);
        }
        let probe = match self.breaker.verdict(now) {
            Verdict::Wait(until) => return Grant::At(until, Why::Broken),
            Verdict::Probing => return Grant::Full,
            Verdict::Probe => true,
            Verdict::Pass => false,
        };
        if self.in_flight >= self.concurrency.limit() {
            return Grant::Full;
        }
        if let Some(next) = self.pacer.next().filter(|next| *next > now) {
            self.waited = true;
            return Grant::At(next, Why::Turn);
        }
        if probe {
            self.breaker.probing();
        }
        let waited = std::mem::take(&mut self.waited);
        self.learner.granted(now, waited, self.given(now));
        let interval = self.units_a_second(now).map_or(Duration::ZERO, |rate| span(units / rate));
        self.pacer.take(now, interval);
        self.in_flight += 1;
        Grant::Now(Ticket { at: now, probe })
    }

    /// A granted call is dearer than was asked for: the next one comes later.
    pub fn charge(&mut self, now: Instant, units: f64) {
        if let Some(rate) = self.units_a_second(now) {
            self.pacer.take(now, span(units / rate));
        }
    }

    /// A granted call is over, of which the provider took so many units. `jitter` in `0.0..1.0` makes a pause longer, never shorter.
    pub fn ended(&mut self, now: Instant, ticket: Ticket, taken: f64, outcome: Outcome, jitter: f64) -> Option<Event> {
        let in_flight = self.in_flight;
        self.in_flight = self.in_flight.saturating_sub(1);
        let lasted = now.saturating_duration_since(ticket.at);
        if taken > 0.0 {
            self.learner.accepted(now, taken);
        }
        match outcome {
            Outcome::Unknown => {
                if ticket.probe {
                    self.breaker.probe_given_up();
                }
                None
            }
            Outcome::Taken => {
                self.breaker.worked();
                self.concurrency.ended(in_flight, lasted, false);
                self.budget.earned();
                (self.unexplained, self.barren) = (0, None);
                None
            }
            Outcome::Refused(wait) => {
                // It answers: for the breaker it is well.
                self.breaker.worked();
                self.barren.get_or_insert(now);
                let wait = wait.unwrap_or_else(|| self.own_pause(now));
                let until = self.pause(now, wait, jitter);
                self.learner.refused(now, ticket.at, until, self.limits.rate);
                Some(Event::Paused)
            }
            Outcome::Failed(wait) => {
                self.concurrency.ended(in_flight, lasted, true);
                self.barren.get_or_insert(now);
                let opened = self.breaker.failed(now, jitter);
                match wait {
                    Some(wait) => {
                        self.pause(now, wait, jitter);
                        Some(Event::Paused)
                    }
                    None => opened.then_some(Event::Broken),
                }
            }
        }
    }

    /// Takes up what an answer told of the limit.
    pub fn told(&mut self, now: Instant, gauge: Gauge) {
        self.told.heard(now, gauge);
    }

    /// When a call that has `ahead` others of one unit before it can expect its turn, if none of them gives up.
    pub fn expected(&self, now: Instant, ahead: u32) -> Instant {
        let at = [self.pacer.next(), self.closed_until(now).map(|(end, _)| end)]
            .into_iter()
            .flatten()
            .fold(now, Instant::max);
        let apart = self.units_a_second(now).map_or(Duration::ZERO, |rate| span(self.limits.unit / rate));
        at.checked_add(apart.saturating_mul(ahead)).unwrap_or(at)
    }

    /// Until when no call is made at all, and why, where `now` is inside such a time.
    pub fn closed_until(&self, now: Instant) -> Option<(Instant, Why)> {
        let paused = self.paused.filter(|end| *end > now).map(|end| (end, Why::Paused));
        let broken = self.breaker.open_until(now).map(|end| (end, Why::Broken));
        paused.into_iter().chain(broken).max_by_key(|(end, _)| *end)
    }

    /// Whether no call is made, or just one that sees how the provider is.
    pub fn is_closed(&self, now: Instant) -> bool {
        self.closed_until(now).is_some() || self.breaker.is_open()
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// For how long the provider has taken no call although it was asked; nothing where it took the last one.
    pub fn barren_for(&self, now: Instant) -> Duration {
        self.barren.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Calls that make a link, a second, now allowed; infinite where no limit is known.
    pub fn calls_a_second(&self, now: Instant) -> f64 {
        self.units_a_second(now).map_or(f64::INFINITY, |rate| rate / self.limits.unit)
    }

    /// Calls that may be under way at once.
    pub fn in_flight_limit(&self) -> u32 {
        self.concurrency.limit()
    }

    /// The learned rate in units a second, where there is one to remember.
    pub fn learned(&self) -> Option<f64> {
        self.learner.rate()
    }

    fn pause(&mut self, now: Instant, wait: Duration, jitter: f64) -> Instant {
        let jitter = wait.mul_f64(PAUSE_JITTER).min(LONGEST_JITTER).mul_f64(jitter.clamp(0.0, 1.0));
        let until = now.checked_add(wait.saturating_add(jitter)).unwrap_or(now);
        // A pause is only ever made longer.
        let until = self.paused.map_or(until, |end| end.max(until));
        self.paused = Some(until);
        self.pacer.restart(until);
        until
    }

    /// The pause after a refusal that names none. Those of calls that were under way are one refusal.
    fn own_pause(&mut self, now: Instant) -> Duration {
        if self.paused.is_some_and(|until| until > now) {
            return Duration::ZERO;
        }
        self.unexplained = (self.unexplained + 1).min(16);
        FIRST_PAUSE.saturating_mul(1 << (self.unexplained - 1)).min(LONGEST_PAUSE)
    }

    /// What is configured or told, in units a second: the learner need not know what lies above it.
    fn given(&self, now: Instant) -> Option<f64> {
        lowest(self.limits.rate, self.told.rate(now))
    }

    fn units_a_second(&self, now: Instant) -> Option<f64> {
        lowest(self.given(now), self.learner.rate())
    }
}

fn lowest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn throttle(rate: Option<f64>) -> Throttle {
        Throttle::new(Limits { max_in_flight: 64, rate, unit: 1.0 }, None)
    }

    fn granted(throttle: &mut Throttle, now: Instant) -> Ticket {
        match throttle.admit(now, 1.0) {
            Grant::Now(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_known_rate_calls_are_limited_by_their_number_only() {
        let (mut throttle, now) = (throttle(None), start());
        for _ in 0..1000 {
            let ticket = granted(&mut throttle, now);
            throttle.ended(now, ticket, 1.0, Outcome::Taken, 0.0);
        }
        assert!(throttle.calls_a_second(now).is_infinite());
        let under_way: Vec<_> = (0..throttle.in_flight_limit()).map(|_| granted(&mut throttle, now)).collect();
        assert_eq!(throttle.admit(now, 1.0), Grant::Full);
        throttle.ended(now, under_way[0], 0.0, Outcome::Unknown, 0.0);
        granted(&mut throttle, now);
    }

    #[test]
    fn a_configured_rate_is_kept_just_below_and_a_dearer_call_takes_longer() {
        let (mut throttle, now) = (throttle(Some(2.0)), start());
        let ticket = granted(&mut throttle, now);
        throttle.ended(now, ticket, 1.0, Outcome::Taken, 0.0);
        let Grant::At(next, Why::Turn) = throttle.admit(now, 5.0) else { panic!("no pace") };
        assert!((next - now).as_secs_f64() > 0.5 && (next - now).as_secs_f64() < 0.52);
        let Grant::Now(ticket) = throttle.admit(next, 5.0) else { panic!("not granted") };
        throttle.ended(next, ticket, 5.0, Outcome::Taken, 0.0);
        let Grant::At(later, Why::Turn) = throttle.admit(next, 1.0) else { panic!("no pace") };
        assert!((later - next).as_secs_f64() > 2.5);
    }

    #[test]
    fn a_refusal_pauses_everybody_teaches_a_rate_and_its_echoes_teach_nothing_more() {
        let (mut throttle, begin) = (throttle(None), start());
        let mut now = begin;
        for _ in 0..20 {
            let ticket = granted(&mut throttle, now);
            throttle.ended(now, ticket, 1.0, Outcome::Taken, 0.0);
            now += SECOND / 20;
        }
        let under_way: Vec<_> = (0..4).map(|_| granted(&mut throttle, now)).collect();
        for ticket in under_way {
            let event = throttle.ended(now, ticket, 0.0, Outcome::Refused(Some(SECOND)), 0.0);
            assert_eq!(event, Some(Event::Paused));
        }
        assert_eq!(throttle.admit(now, 1.0), Grant::At(now + SECOND, Why::Paused));
        now += SECOND;
        granted(&mut throttle, now);
        let learned = throttle.calls_a_second(now);
        assert!((9.0..=11.0).contains(&learned), "twenty calls in two seconds, the pause included: {learned}");
    }

    #[test]
    fn refusals_that_name_no_wait_are_waited_for_longer_each_time() {
        let (mut throttle, mut now) = (throttle(None), start());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let ticket = granted(&mut throttle, now);
            throttle.ended(now, ticket, 0.0, Outcome::Refused(None), 0.0);
            let (until, _) = throttle.closed_until(now).unwrap();
            waits.push((until - now).as_secs());
            // Past the pause, and past the pace of a rate that is now very low.
            now = until + Duration::from_secs(600);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(throttle.barren_for(now) > Duration::from_secs(600));
    }

    #[test]
    fn what_the_provider_tells_is_kept_to() {
        let (mut throttle, now) = (throttle(None), start());
        throttle.told(now, Gauge { limit: 1200.0, remaining: 240.0, reset: Duration::from_secs(60) });
        assert!((throttle.calls_a_second(now) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_remembered_rate_is_where_it_begins() {
        let remembering = Throttle::new(Limits { max_in_flight: 64, rate: None, unit: 5.0 }, Some(100.0));
        assert!((remembering.calls_a_second(start()) - 19.8).abs() < 1e-9);
    }

    #[derive(Debug, Clone)]
    enum Move {
        Wait(u64),
        Ask(u8),
        End(usize, Outcome),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let wait = proptest::option::of((0u64..100).prop_map(Duration::from_secs));
        let outcome = prop_oneof![
            4 => Just(Outcome::Taken),
            1 => wait.clone().prop_map(Outcome::Refused),
            1 => wait.prop_map(Outcome::Failed),
            1 => Just(Outcome::Unknown),
        ];
        let step = prop_oneof![
            (0u64..5_000).prop_map(Move::Wait),
            (1u8..6).prop_map(Move::Ask),
            (any::<usize>(), outcome).prop_map(|(which, outcome)| Move::End(which, outcome)),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        /// Whatever the provider does: no grant inside a pause, never more calls under way than allowed, no grants closer
        /// than the configured rate allows, and every wait that is named lies ahead.
        #[test]
        fn no_grant_breaks_a_limit_whatever_the_provider_does(moves in moves(), rate in proptest::option::of(0.1f64..100.0)) {
            let mut throttle = throttle(rate);
            let (begin, mut now) = (start(), start());
            let mut under_way: Vec<Ticket> = Vec::new();
            let mut units = 0.0;
            for step in moves {
                match step {
                    Move::Wait(millis) => now += Duration::from_millis(millis),
                    Move::Ask(asked) => match throttle.admit(now, f64::from(asked)) {
                        Grant::Now(ticket) => {
                            prop_assert!(throttle.closed_until(now).is_none());
                            under_way.push(ticket);
                            units += f64::from(asked);
                            prop_assert!(under_way.len() <= throttle.in_flight_limit() as usize);
                        }
                        Grant::At(at, _) => prop_assert!(at > now),
                        Grant::Full => prop_assert!(!under_way.is_empty()),
                    },
                    Move::End(which, outcome) => if !under_way.is_empty() {
                        let ticket = under_way.swap_remove(which % under_way.len());
                        throttle.ended(now, ticket, 1.0, outcome, 0.5);
                        if let Outcome::Refused(Some(wait)) = outcome {
                            prop_assert!(wait.is_zero() || throttle.closed_until(now).is_some_and(|(end, _)| end >= now + wait));
                        }
                    },
                }
                if let Some(rate) = rate {
                    // The last call may be as dear as five, and each may lag ten milliseconds behind the schedule.
                    let span = (now - begin).as_secs_f64() + 0.01;
                    prop_assert!(units <= span * rate + 5.0 + 5.0, "{units} units in {span} s");
                }
                prop_assert!(throttle.calls_a_second(now) > 0.0);
            }
        }
    }
}
