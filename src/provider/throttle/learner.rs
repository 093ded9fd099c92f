//! pure: The rate that a provider bears, learned from its refusals: found by halving, kept just below, tried gently.
//!
//! What is known is a bracket: `low`, which was borne on average, and `high`, at which the provider refused. A refusal
//! can only lower the rate; it rises only while calls had to wait for it, because an unused rate proves nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::lowest;

/// How long a rate of the search has to hold before it counts as borne.
const BORNE_AFTER: Duration = Duration::from_secs(10);
/// How long a rate is kept before a higher one is tried; doubled whenever the trial fails.
const FIRST_HOLD: Duration = Duration::from_secs(30);
/// The longest hold.
const LONGEST_HOLD: Duration = Duration::from_secs(480);
/// The bracket is narrow enough to settle: a share of its upper end.
const NARROW: f64 = 0.03;
/// Kept below the highest rate that was borne in the search.
const MARGIN: f64 = 0.99;
/// The first trial goes up by this share, and each that succeeds lets the next go up by more, to this.
const STEPS: (f64, f64) = (0.02, 0.25);
/// The rate, in calls a second, from which the first step of a trial is just that.
const EVEN: f64 = 10.0;
/// A trial step lasts so long; half of it once steps are large, because they were borne before.
const STEP_LASTS: Duration = Duration::from_secs(10);
/// Growth where nothing was refused since the first estimate: a share each `GROWS_EVERY`.
const GROWTH: f64 = 0.2;
/// See [`GROWTH`].
const GROWS_EVERY: Duration = Duration::from_secs(1);
/// A refusal never lowers the rate by more than half: one estimate can be wrong.
const DEEPEST_CUT: f64 = 0.5;
/// A refusal of a rate that was borne before widens the bracket down to this share of it.
const GIVES_WAY: f64 = 0.7;
/// And down from this share of it, which is left to whoever has joined. With the holds, it is what makes shares even: who
/// tries gains as much as the others leave.
const LEAVES: f64 = 0.985;
/// The lowest rate, in calls a second.
const LOWEST: f64 = 1.0 / 60.0;
/// The first estimate is at least this, in calls a second: a worker that has made few calls so far has seen little of what
/// the provider bears, and one refusal of one of them says nothing of it.
const MODEST: f64 = 1.0;

/// What the learner is at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// An estimate, and no refusal at it yet: grows.
    Growing,
    /// Halving the bracket.
    Searching,
    /// Just below the limit.
    Settled,
    /// A little higher, from a rate to which a refusal leads back.
    Trying { from: f64, step: f64 },
}

/// The learned rate of one account, in units a second.
#[derive(Debug, Clone)]
pub struct Learner {
    rate: Option<f64>,
    low: f64,
    high: f64,
    phase: Phase,
    /// Since when the phase, or its present step, lasts.
    since: Option<Instant>,
    hold: Duration,
    /// Grants since then, and those of them that had to wait for the rate.
    granted: u32,
    waited: u32,
    /// Calls granted before this belong to the refusal that was already heard.
    heard: Option<Instant>,
    /// Since when the provider has been open.
    opened: Option<Instant>,
    /// The first refusal was heard, and the rate is to be estimated when the next call is made.
    estimates: bool,
    /// Units of a call that makes a link.
    unit: f64,
    recent: Recent,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            rate: None,
            low: 0.0,
            high: f64::INFINITY,
            phase: Phase::Growing,
            since: None,
            hold: FIRST_HOLD,
            granted: 0,
            waited: 0,
            heard: None,
            opened: None,
            estimates: false,
            unit: 1.0,
            recent: Recent::default(),
        }
    }
}

impl Learner {
    /// A learner that begins with what an earlier one knew, a little lower.
    pub fn remembering(rate: f64, unit: f64) -> Self {
        let rate = (rate * MARGIN).max(LOWEST * unit);
        Self { rate: Some(rate), low: rate, phase: Phase::Settled, unit, ..Self::default() }
    }

    /// A learner that knows nothing yet, where a call that makes a link is so many units.
    pub fn new(unit: f64) -> Self {
        Self { unit, ..Self::default() }
    }

    /// Units a second; `None` while nothing was ever refused.
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// A call was granted. `waited`: the rate was what it waited for. `given`: a rate that is known otherwise; nothing
    /// above it has to be learned.
    pub fn granted(&mut self, now: Instant, waited: bool, given: Option<f64>) {
        if let (Some(given), Some(rate)) = (given, self.rate)
            && rate > given * 1.25
        {
            self.rate = None;
            self.high = f64::INFINITY;
            self.phase = Phase::Growing;
        }
        self.opened.get_or_insert(now);
        if std::mem::take(&mut self.estimates) {
            self.rate = Some(self.recent.best(now).max(MODEST * self.unit));
        }
        self.granted = self.granted.saturating_add(1);
        self.waited = self.waited.saturating_add(u32::from(waited));
        self.advance(now);
    }

    /// The provider took a call of this many units.
    pub fn accepted(&mut self, now: Instant, units: f64) {
        self.recent.add(now, units);
    }

    /// The provider refused a call that was granted at `granted`, and opens again at `reopens`. True where that is
    /// news, and not the echo of a refusal that was already heard. `given`: the configured rate, which is then
    /// what was refused where nothing lower was learned.
    pub fn refused(&mut self, now: Instant, granted: Instant, reopens: Instant, given: Option<f64>) -> bool {
        if self.heard.is_some_and(|heard| granted <= heard) {
            self.opened = Some(self.opened.map_or(reopens, |opened| opened.max(reopens)));
            return false;
        }
        let pause = reopens.saturating_duration_since(now);
        let Some(rate) = lowest(self.rate, given) else {
            // Calls that were under way may still be taken: the estimate is made when the provider opens again.
            self.reopen(now, reopens, Phase::Growing);
            self.estimates = true;
            return true;
        };
        let borne = self.recent.since(self.opened.unwrap_or(now), now, pause);
        self.high = rate;
        self.low = borne.clamp(rate * DEEPEST_CUT, rate * (1.0 - NARROW / 2.0));
        match self.phase {
            Phase::Trying { from, .. } => {
                self.hold = (self.hold * 2).min(LONGEST_HOLD);
                self.rate = Some(from.min(rate * MARGIN).max(LOWEST * self.unit));
                self.reopen(now, reopens, Phase::Settled);
            }
            Phase::Settled | Phase::Growing | Phase::Searching => {
                if self.phase == Phase::Settled {
                    // Nothing of ours has changed: the limit has moved, or somebody has joined and needs room.
                    self.low = self.low.min(rate * GIVES_WAY);
                    self.high = rate * LEAVES;
                    self.hold = self.hold.min(FIRST_HOLD * 2);
                }
                self.rate = Some(f64::midpoint(self.low, self.high).max(LOWEST * self.unit));
                self.reopen(now, reopens, Phase::Searching);
            }
        }
        true
    }

    fn reopen(&mut self, now: Instant, reopens: Instant, phase: Phase) {
        self.heard = Some(now);
        self.opened = Some(reopens);
        self.enter(phase, reopens);
    }

    fn enter(&mut self, phase: Phase, at: Instant) {
        self.phase = phase;
        self.since = Some(at);
        self.granted = 0;
        self.waited = 0;
    }

    /// Whether the rate was what calls waited for, in this step.
    fn in_use(&self) -> bool {
        self.waited > self.granted / 2
    }

    fn advance(&mut self, now: Instant) {
        let (Some(rate), Some(since)) = (self.rate, self.since) else {
            self.since.get_or_insert(now);
            return;
        };
        let lasted = now.saturating_duration_since(since);
        let due = match self.phase {
            Phase::Growing => GROWS_EVERY,
            Phase::Searching => BORNE_AFTER,
            Phase::Settled => self.hold,
            Phase::Trying { step, .. } if step > STEPS.0 * 4.0 => STEP_LASTS / 2,
            Phase::Trying { .. } => STEP_LASTS,
        };
        // A slow rate needs its time to show anything: at least a few calls.
        let due = due.max(Duration::try_from_secs_f64(2.0 * self.unit / rate).unwrap_or(due));
        if lasted < due {
            return;
        }
        if !self.in_use() {
            self.enter(self.phase, now);
            return;
        }
        match self.phase {
            Phase::Growing => {
                self.rate = Some(rate * (1.0 + GROWTH));
                self.enter(Phase::Growing, now);
            }
            Phase::Searching => {
                self.low = rate;
                if self.high - self.low <= self.high * NARROW {
                    self.rate = Some(rate * MARGIN);
                    self.enter(Phase::Settled, now);
                } else {
                    self.rate = Some(f64::midpoint(self.low, self.high));
                    self.enter(Phase::Searching, now);
                }
            }
            Phase::Settled => {
                // Who has little goes up by more: so workers that share a limit come to equal shares.
                let step = STEPS.0 * (EVEN * self.unit / rate).sqrt().clamp(0.5, 4.0);
                self.rate = Some(rate * (1.0 + step));
                self.enter(Phase::Trying { from: rate, step }, now);
            }
            Phase::Trying { step, .. } => {
                self.low = rate;
                self.hold = FIRST_HOLD;
                let step = (step * 2.0).min(STEPS.1);
                self.rate = Some(rate * (1.0 + step));
                self.enter(Phase::Trying { from: rate, step }, now);
            }
        }
    }
}

/// Units accepted of late, in slices.
#[derive(Debug, Clone, Default)]
struct Recent {
    slices: VecDeque<(Instant, f64)>,
}

/// Length of a slice.
const SLICE: Duration = Duration::from_millis(100);
/// How far back slices are kept.
const KEPT: Duration = Duration::from_secs(120);

impl Recent {
    fn add(&mut self, now: Instant, units: f64) {
        match self.slices.back_mut() {
            Some((begin, sum)) if now.saturating_duration_since(*begin) < SLICE => *sum += units,
            _ => self.slices.push_back((now, units)),
        }
        while self.slices.front().is_some_and(|(begin, _)| now.saturating_duration_since(*begin) > KEPT) {
            self.slices.pop_front();
        }
    }

    /// Units a second from `since` to the end of the pause that begins now.
    fn since(&self, since: Instant, now: Instant, pause: Duration) -> f64 {
        let since = since.max(now.checked_sub(KEPT).unwrap_or(since));
        let sum: f64 = self.slices.iter().filter(|(begin, _)| *begin + SLICE > since).map(|(_, sum)| sum).sum();
        let span = now.saturating_duration_since(since) + pause;
        sum / span.as_secs_f64().max(1.0)
    }

    /// The highest average up to now, over spans of different length, pauses included: which of them the provider counts
    /// by is not known, and each average is one that it bore.
    fn best(&self, now: Instant) -> f64 {
        let first = self.slices.front().map_or(now, |(begin, _)| *begin);
        [2, 5, 10, 20, 60, 120]
            .into_iter()
            .filter_map(|seconds| now.checked_sub(Duration::from_secs(seconds)))
            .map(|since| self.since(since.max(first), now, Duration::ZERO))
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Calls at the learner's rate for so long, all taken, each having waited for the rate or not.
    fn runs(learner: &mut Learner, now: &mut Instant, seconds: u64, waited: bool) {
        let end = *now + SECOND * u32::try_from(seconds).unwrap();
        while *now < end {
            learner.granted(*now, waited, None);
            learner.accepted(*now, 1.0);
            *now += Duration::from_secs_f64(1.0 / learner.rate().unwrap());
        }
    }

    #[test]
    fn a_rate_that_nobody_waits_for_is_not_raised() {
        let (mut learner, mut now) = (Learner::remembering(10.0, 1.0), start());
        runs(&mut learner, &mut now, 3600, false);
        assert_eq!(learner.rate(), Some(10.0 * MARGIN));
    }

    #[test]
    fn a_rate_that_holds_is_tried_a_little_higher_and_then_faster() {
        let (mut learner, mut now) = (Learner::remembering(10.0, 1.0), start());
        runs(&mut learner, &mut now, 29, true);
        assert_eq!(learner.rate(), Some(10.0 * MARGIN));
        runs(&mut learner, &mut now, 2, true);
        let tried = learner.rate().unwrap();
        assert!((1.005..1.05).contains(&(tried / (10.0 * MARGIN))), "{tried}");
        runs(&mut learner, &mut now, 120, true);
        assert!(learner.rate().unwrap() > 20.0, "{:?}", learner.rate());
    }

    #[test]
    fn a_trial_that_is_refused_leads_back_and_is_not_repeated_soon() {
        let (mut learner, mut now) = (Learner::remembering(10.0, 1.0), start());
        runs(&mut learner, &mut now, 31, true);
        let tried = learner.rate().unwrap();
        assert!(learner.refused(now, now, now + SECOND, None));
        let back = learner.rate().unwrap();
        assert!(back < tried && back > tried * 0.95, "{back} after {tried}");
        now += SECOND;
        runs(&mut learner, &mut now, 55, true);
        assert_eq!(learner.rate(), Some(back), "the hold is twice as long now");
    }

    #[test]
    fn refusals_one_after_the_other_lower_it_by_halves_at_most() {
        let (mut learner, mut now) = (Learner::remembering(100.0, 1.0), start());
        let mut rate = learner.rate().unwrap();
        for _ in 0..10 {
            now += SECOND;
            learner.granted(now, true, None);
            assert!(learner.refused(now, now, now + SECOND, None));
            now += SECOND;
            let lower = learner.rate().unwrap();
            assert!(lower < rate && lower >= rate * 0.5, "{lower} after {rate}");
            rate = lower;
        }
        assert!(rate < 10.0, "{rate}");
    }

    #[test]
    fn a_configured_rate_that_is_refused_is_the_upper_end_of_what_is_searched() {
        let (mut learner, mut now) = (Learner::default(), start());
        for _ in 0..1000 {
            learner.granted(now, true, Some(20.0));
            learner.accepted(now, 1.0);
            now += SECOND / 20;
        }
        assert!(learner.refused(now, now, now + SECOND * 2, Some(20.0)));
        let rate = learner.rate().unwrap();
        assert!((19.0..20.0).contains(&rate), "{rate}");
    }

    #[test]
    fn nothing_above_a_rate_that_is_known_otherwise_is_learned() {
        let (mut learner, now) = (Learner::remembering(10.0, 1.0), start());
        learner.granted(now, false, Some(5.0));
        assert_eq!(learner.rate(), None);
    }
}
