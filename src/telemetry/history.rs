//! The last ten minutes of the metrics, pure: a sample a second for the chart, a whole snapshot every ten for what changed.
//!
//! Fixed memory, fed with snapshots by whoever has a clock. Counters start at zero with the process, so a history that
//! is younger than the time asked for answers for its whole life.

use std::collections::VecDeque;
use std::time::Duration;

use super::snapshot::{ProviderNumbers, Snapshot};

/// So long is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(600);

/// One bar of the chart covers so long.
pub const BAR: Duration = Duration::from_secs(5);

/// A whole snapshot is kept this often.
const MARK_EVERY: Duration = Duration::from_secs(10);

/// Most samples kept: one a second, one before the first, and room for a clock that ticks a little fast.
const SAMPLES: usize = 660;

/// The counters of the chart at one moment, all accounts together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sample {
    /// Since the history began.
    at: Duration,
    counts: Counts,
}

/// How many requests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Links made.
    pub created: u64,
    /// Links handed out again.
    pub reused: u64,
    /// Requests answered with a failure.
    pub failed: u64,
}

impl Counts {
    /// The counts of all accounts.
    pub fn of(snapshot: &Snapshot) -> Self {
        let sum = |number: fn(&ProviderNumbers) -> u64| snapshot.providers.values().map(number).sum();
        Self {
            created: sum(|each| each.created),
            reused: sum(|each| each.reused),
            failed: sum(ProviderNumbers::failed),
        }
    }

    /// Requests answered.
    pub fn answered(&self) -> u64 {
        self.created + self.reused + self.failed
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            created: self.created.saturating_sub(earlier.created),
            reused: self.reused.saturating_sub(earlier.reused),
            failed: self.failed.saturating_sub(earlier.failed),
        }
    }
}

/// What changed over some time.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Counters: what came in this time. Gauges: as they are now.
    pub numbers: Snapshot,
    /// How long this time was.
    pub over: Duration,
    /// It is the whole life of the process.
    pub whole_life: bool,
}

/// The history. Times are since it began.
#[derive(Debug, Clone, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    marks: VecDeque<(Duration, Snapshot)>,
}

impl History {
    /// Takes a sample. A time that is not later than the last sample's is ignored.
    pub fn push(&mut self, at: Duration, snapshot: &Snapshot) {
        if self.samples.back().is_some_and(|last| last.at >= at) {
            return;
        }
        self.samples.push_back(Sample { at, counts: Counts::of(snapshot) });
        // One sample older than the first bar stays: it is what the first bar is counted from.
        let oldest = at.saturating_sub(REMEMBERED + BAR);
        while self.samples.len() > SAMPLES || self.samples.get(1).is_some_and(|second| second.at <= oldest) {
            self.samples.pop_front();
        }
        if self.marks.back().is_none_or(|(last, _)| *last + MARK_EVERY <= at) {
            self.marks.push_back((at, Snapshot { failures: Vec::new(), ..snapshot.clone() }));
            while self.marks.get(1).is_some_and(|(second, _)| *second + REMEMBERED <= at) {
                self.marks.pop_front();
            }
        }
    }

    /// What changed in the last `span` before `at`, when the metrics said `now`; as near as the snapshots that are kept allow.
    pub fn change(&self, at: Duration, now: &Snapshot, span: Duration) -> Change {
        let from = at.checked_sub(span);
        match from.and_then(|from| self.marks.iter().rev().find(|(mark, _)| *mark <= from)) {
            Some((then, earlier)) => {
                Change { numbers: now.since(earlier), over: at.saturating_sub(*then), whole_life: false }
            }
            None => Change { numbers: now.clone(), over: at, whole_life: true },
        }
    }

    /// Requests answered a second in the last `span` before `at`.
    pub fn rate(&self, at: Duration, now: &Snapshot, span: Duration) -> f64 {
        let then = self.sample_at(at.saturating_sub(span));
        let seconds = at.saturating_sub(then.at).as_secs_f64();
        let answered = Counts::of(now).since(&then.counts).answered();
        if seconds > 0.0 { answered as f64 / seconds } else { 0.0 }
    }

    /// The bars of the chart, oldest first, the one that is still growing last: how many requests each counts. Bars
    /// begin at multiples of [`BAR`], so that they move on whole and do not change once they are past.
    pub fn bars(&self, at: Duration, now: &Snapshot) -> Vec<Counts> {
        let count = u32::try_from(REMEMBERED.as_secs() / BAR.as_secs()).unwrap_or_default();
        let current = u32::try_from(at.as_secs() / BAR.as_secs()).unwrap_or(u32::MAX);
        (0..count)
            .map(|place| {
                let Some(number) = (current + 1).checked_sub(count - place) else { return Counts::default() };
                let begin = self.sample_at(BAR * number).counts;
                let end = if number == current { Counts::of(now) } else { self.sample_at(BAR * (number + 1)).counts };
                end.since(&begin)
            })
            .collect()
    }

    /// The last sample that is not later; all at zero before the first, as long as none was forgotten.
    fn sample_at(&self, at: Duration) -> Sample {
        let later = self.samples.partition_point(|sample| sample.at <= at);
        later.checked_sub(1).and_then(|index| self.samples.get(index)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(created: u64) -> Snapshot {
        let numbers = ProviderNumbers { created, reused: created / 2, ..ProviderNumbers::default() };
        Snapshot { providers: [("contoso".to_owned(), numbers)].into(), ..Snapshot::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `rate` links a second, sampled every second to the end.
    fn steady(rate: u64, end: u64) -> History {
        let mut history = History::default();
        for second in 1..=end {
            history.push(seconds(second), &snapshot(second * rate));
        }
        history
    }

    #[test]
    fn a_young_history_answers_for_its_whole_life() {
        let history = steady(3, 20);
        let change = history.change(seconds(20), &snapshot(60), seconds(300));
        assert!(change.whole_life);
        assert_eq!((Counts::of(&change.numbers).created, change.over), (60, seconds(20)));
    }

    #[test]
    fn an_old_history_tells_what_came_in_the_time_asked_for() {
        let history = steady(3, 5_000);
        let change = history.change(seconds(5_000), &snapshot(15_000), seconds(300));
        assert!(!change.whole_life);
        assert!((300..310).contains(&change.over.as_secs()), "{change:?}");
        assert_eq!(Counts::of(&change.numbers).created, 3 * change.over.as_secs());
        let whole = history.change(seconds(5_000), &snapshot(15_000), REMEMBERED);
        assert!((600..610).contains(&whole.over.as_secs()));
        assert!((history.rate(seconds(5_000), &snapshot(15_000), seconds(10)) - 4.5).abs() < 1e-9);
    }

    #[test]
    fn every_bar_of_a_steady_worker_is_equally_high_but_the_one_that_grows() {
        let bars = steady(4, 2_003).bars(seconds(2_003), &snapshot(8_012));
        assert_eq!(bars.len(), 120);
        assert!(bars[..119].iter().all(|bar| bar.created == 20), "{bars:?}");
        assert_eq!(bars[119].created, 12);
    }

    #[test]
    fn a_bar_that_is_past_never_changes() {
        let (mut history, mut before) = (History::default(), Vec::new());
        let mut total = 0;
        for second in 1..1_500_u64 {
            total += second % 7;
            history.push(seconds(second), &snapshot(total));
            let bars = history.bars(seconds(second), &snapshot(total));
            let moved = usize::from(second % 5 == 0);
            if !before.is_empty() {
                assert_eq!(bars[..118], before[moved..118 + moved], "at {second}");
            }
            before = bars;
        }
    }

    proptest! {
        #[test]
        fn memory_is_fixed_and_no_link_is_counted_twice(
            steps in proptest::collection::vec((1_u64..3_000, 0_u64..50), 1..2_000),
        ) {
            let (mut history, mut at, mut total, mut ends) = (History::default(), Duration::ZERO, 0, Vec::new());
            for (milliseconds, links) in steps {
                at += Duration::from_millis(milliseconds);
                total += links;
                history.push(at, &snapshot(total));
                ends.push((at, total));
            }
            prop_assert!(history.samples.len() <= SAMPLES && history.marks.len() <= 62);
            let in_bars: u64 = history.bars(at, &snapshot(total)).iter().map(|bar| bar.created).sum();
            let longest = at.saturating_sub(REMEMBERED + BAR);
            let before = ends.iter().rev().find(|(end, _)| *end <= longest).map_or(0, |(_, total)| *total);
            prop_assert!(in_bars <= total - before, "{} in the bars, {} made", in_bars, total - before);
            if at < REMEMBERED {
                prop_assert_eq!(in_bars, total);
            }
        }
    }
}
