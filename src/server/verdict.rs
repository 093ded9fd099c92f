//! Whether sharing works, in one line, pure: what is wrong, the worst first, in words for the person before the wall.

use std::time::Duration;

use super::kinds::{is_ours, meaning};
use super::view::View;
use super::words::{counted, duration, over, percent, quantile, rate, whole_seconds};
use crate::telemetry::history::Counts;
use crate::telemetry::snapshot::Snapshot;

/// Fewer failures than this are chance.
const ENOUGH: u64 = 3;
/// From this share on, failures that are not the requester's are worth a look.
const SOME: f64 = 0.02;
/// From this share on, sharing does not work.
const MANY: f64 = 0.25;
/// From this share on, failures that are the requester's are worth a look.
const MOST: f64 = 0.5;
/// Requests that wait so long while none is answered are a standstill.
const STANDSTILL: Duration = Duration::from_secs(30);

/// A request that is held for so long while none is answered is a standstill too.
const HELD_LONG: Duration = Duration::from_secs(60);

/// A pause that ends sooner is everyday business, and a first line that comes and goes with it would tell nothing.
const SHORT: Duration = Duration::from_secs(5);

/// How bad it is; the worst is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    Good,
    /// It works, and somebody should look.
    Attention,
    /// Requests are not answered, or not with links.
    Bad,
}

impl Level {
    /// The word before the sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "Working",
            Self::Attention => "Attention",
            Self::Bad => "Not working",
        }
    }

    /// A sign that can be told from the others without colour.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Attention => "▲",
            Self::Bad => "✕",
        }
    }

    /// The class of the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Attention => "attention",
            Self::Bad => "bad",
        }
    }
}

/// One thing that is wrong, or that nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Without numbers that move, for who listens to changes, and for the title of the window.
    pub short: String,
    /// The sentence.
    pub text: String,
}

impl Finding {
    fn new(level: Level, short: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level, short: short.into(), text: text.into() }
    }
}

/// Everything that is wrong, the worst first; or the one finding that all is well. Never empty.
pub fn findings(view: &View) -> Vec<Finding> {
    let mut found: Vec<Finding> = [hanging(view), not_ready(view), standstill(view)].into_iter().flatten().collect();
    found.extend(failing(view));
    found.extend(paused(view));
    // Stable: equally bad ones stay in the order of looking.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    if found.is_empty() {
        found.push(well(view));
    }
    found
}

fn hanging(view: &View) -> Option<Finding> {
    let why = view.moment.live.as_ref().err()?;
    Some(Finding::new(Level::Bad, "the worker hangs", format!("The worker hangs: {why}.")))
}

fn not_ready(view: &View) -> Option<Finding> {
    let why = view.moment.ready.as_ref().err()?;
    let away = !view.now.broker.values().any(|connected| *connected);
    Some(if why.contains("stopping") {
        Finding::new(Level::Attention, "stopping", capital(why))
    } else if why.contains("starting") {
        Finding::new(Level::Attention, "starting", "The worker is starting and not yet connected to the broker.")
    } else {
        let short = if away { "the broker is away" } else { "the broker takes nothing" };
        Finding::new(Level::Bad, short, capital(why))
    })
}

fn standstill(view: &View) -> Option<Finding> {
    view.moment.ready.as_ref().ok()?;
    let waiting = view.now.in_requests();
    let still = view.minute.over >= STANDSTILL && Counts::of(&view.minute.numbers).answered() == 0;
    // Requests that wait for a paused account are explained by the pause.
    let explained = view.now.providers.values().any(|numbers| numbers.paused);
    if !still || explained {
        return None;
    }
    if waiting > 0 {
        let text = format!("{} in the queue, and none answered {}.", counted(waiting, "request"), over(&view.minute));
        return Some(Finding::new(Level::Bad, "requests wait and none is answered", text));
    }
    let held = view.held_for().filter(|held| *held >= HELD_LONG)?;
    let text = format!(
        "The oldest request has been in the worker's hands for {}, and none was answered {}.",
        duration(whole_seconds(held)),
        over(&view.minute)
    );
    Some(Finding::new(Level::Bad, "requests are held and none is answered", text))
}

/// The failures of the last minutes, those that are ours and those that are the requesters'.
fn failing(view: &View) -> Vec<Finding> {
    let answered = Counts::of(&view.lately.numbers).answered();
    let of_answered = |failed: u64| failed as f64 / answered.max(1) as f64;
    let tell = |ours, least: f64| {
        let (failed, worst) = failures_of(&view.lately.numbers, ours);
        let (kind, account) = worst?;
        (failed >= ENOUGH && of_answered(failed) >= least).then(|| {
            let meaning = meaning(&kind);
            let share =
                format!("{} of {} {}", percent(failed, answered), counted(answered, "request"), over(&view.lately));
            (failed, format!("{share}, most of them {kind} at {account}: {meaning}."))
        })
    };
    let ours = tell(true, SOME).map(|(failed, text)| {
        let level = if of_answered(failed) >= MANY { Level::Bad } else { Level::Attention };
        Finding::new(level, "requests fail", format!("Failing: {text}"))
    });
    let theirs = tell(false, MOST)
        .map(|(_, text)| Finding::new(Level::Attention, "many requests are refused", format!("Refused: {text}")));
    ours.into_iter().chain(theirs).collect()
}

/// How many failures are ours to mend, or are not, and the kind and account of most of them.
fn failures_of(numbers: &Snapshot, ours: bool) -> (u64, Option<(String, String)>) {
    let mut all: Vec<(u64, &str, &str)> = Vec::new();
    for (account, numbers) in &numbers.providers {
        let counted = numbers.failures.iter().filter(|(kind, _)| is_ours(kind) == ours);
        all.extend(counted.map(|(kind, count)| (*count, kind.as_str(), account.as_str())));
    }
    let worst = all.iter().max_by_key(|(count, ..)| *count);
    (
        all.iter().map(|(count, ..)| count).sum(),
        worst.map(|(_, kind, account)| ((*kind).to_owned(), (*account).to_owned())),
    )
}

fn paused(view: &View) -> Vec<Finding> {
    let paused = view.now.providers.iter().filter(|(_, numbers)| numbers.paused);
    // Where nothing is answered, pauses follow each other, and the end of one is not good news.
    let nothing = Counts::of(&view.minute.numbers).answered() == 0;
    paused
        .filter(|(_, numbers)| nothing || view.pause(numbers).is_none_or(|(left, _)| left >= SHORT))
        .map(|(account, numbers)| {
            let text = match view.pause(numbers) {
                Some((left, why)) => {
                    format!(
                        "{account} is paused for another {} because of {why}; its requests wait.",
                        duration(whole_seconds(left))
                    )
                }
                None => format!("{account} is paused; its requests wait."),
            };
            Finding::new(Level::Attention, format!("{account} is paused"), text)
        })
        .collect()
}

fn well(view: &View) -> Finding {
    let recent = Counts::of(&view.minute.numbers).answered();
    if recent == 0 && view.now.oldest.is_some() {
        return Finding::new(
            Level::Good,
            "working",
            "Ready; requests are in hand, none was answered in the last minute.",
        );
    }
    if recent == 0 {
        return Finding::new(Level::Good, "working", "Ready; no request came in the last minute.");
    }
    let time = quantile(view.minute.numbers.all_durations().quantile(0.95));
    let text = format!("{} requests a second, 95\u{a0}% answered within {time}.", rate(view.rate));
    Finding::new(Level::Good, "working", text)
}

/// A sentence made of a clause.
fn capital(clause: &str) -> String {
    let mut letters = clause.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let rest = letters.as_str();
    format!("{first}{rest}{}", if rest.ends_with('.') { "" } else { "." })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::server::samples::{moment, view, worker};
    use crate::server::view::Moment;
    use crate::telemetry::recent::Pause;

    fn first(now: Snapshot, change: impl FnOnce(&mut Moment)) -> Finding {
        let Finding { level, short, text } = findings(&view(now, change)).remove(0);
        Finding { level, short, text: text.replace('\u{a0}', " ") }
    }

    #[test]
    fn requests_that_are_held_for_long_while_none_is_answered_are_a_standstill() {
        let held = |seconds: f64| {
            let mut now = worker(0);
            let wall = std::cell::Cell::new(0.0);
            first(now.clone(), |moment| wall.set(moment.wall.as_duration().as_secs_f64()));
            now.oldest = Some(wall.get() - seconds);
            first(now, |_| {})
        };
        assert_eq!(held(5.0).level, Level::Good);
        assert!(held(5.0).text.contains("in hand"));
        let long = held(90.0);
        assert_eq!(long.level, Level::Bad);
        assert!(long.text.contains("1 min 30 s"), "{}", long.text);
    }

    fn with_failures(kind: &str, failed: u64, created: u64) -> Snapshot {
        let mut now = worker(created);
        now.providers.get_mut("contoso").unwrap().failures.insert(kind.to_owned(), failed);
        now
    }

    #[test]
    fn a_worker_that_is_well_says_so_and_how_busy_it_is() {
        let busy = first(worker(1_200), |_| {});
        assert_eq!(busy.level, Level::Good);
        assert!(busy.text.contains("requests a second"), "{}", busy.text);
        let idle = first(worker(0), |_| {});
        assert_eq!((idle.level, idle.text.as_str()), (Level::Good, "Ready; no request came in the last minute."));
    }

    #[test]
    fn a_broker_that_is_away_comes_before_everything_else() {
        let mut now = with_failures("unavailable", 50, 50);
        now.broker.values_mut().for_each(|connected| *connected = false);
        now.providers.get_mut("content").unwrap().paused = true;
        let away =
            |moment: &mut Moment| moment.ready = Err("not connected to the broker: connection refused".to_owned());
        let all = findings(&view(now, away));
        assert_eq!(all[0].level, Level::Bad);
        assert_eq!(all[0].text, "Not connected to the broker: connection refused.");
        assert_eq!(all[0].short, "the broker is away");
        assert_eq!(all.len(), 3, "{all:?}");
    }

    #[test]
    fn a_pause_says_whose_how_long_and_why() {
        let mut now = worker(10);
        let contoso = now.providers.get_mut("contoso").unwrap();
        contoso.paused = true;
        let start: Instant = moment().instant;
        contoso.pause = Some(Pause { end: start + Duration::from_millis(41_200), why: "Retry-After" });
        let found = first(now, |moment| moment.instant = start);
        assert_eq!(found.level, Level::Attention);
        assert_eq!(found.text, "contoso is paused for another 42 s because of Retry-After; its requests wait.");
        assert_eq!(found.short, "contoso is paused");
    }

    #[test]
    fn a_pause_of_a_second_or_two_is_not_news() {
        let (mut now, start) = (worker(10), moment().instant);
        let contoso = now.providers.get_mut("contoso").unwrap();
        contoso.paused = true;
        contoso.pause = Some(Pause { end: start + Duration::from_secs(2), why: "Retry-After" });
        assert_eq!(first(now, |moment| moment.instant = start).level, Level::Good);
    }

    #[test]
    fn failures_weigh_by_their_share_and_by_whose_business_they_are() {
        let level = |kind, failed, created| first(with_failures(kind, failed, created), |_| {}).level;
        assert_eq!(level("unavailable", 2, 2), Level::Good, "two are chance");
        assert_eq!(level("unavailable", 10, 990), Level::Good, "one per cent");
        assert_eq!(level("unavailable", 30, 970), Level::Attention);
        assert_eq!(level("unavailable", 300, 700), Level::Bad);
        assert_eq!(level("notFound", 300, 700), Level::Good, "the requester's own");
        assert_eq!(level("notFound", 700, 300), Level::Attention);
        let told = first(with_failures("unavailable", 300, 700), |_| {}).text;
        let wanted = "Failing: 30 % of 1\u{202f}000 requests since the start, 2 min ago, most of them unavailable at \
                      contoso: the provider does not work, or cannot be reached.";
        assert_eq!(told, wanted);
    }

    #[test]
    fn requests_that_wait_while_none_is_answered_are_a_standstill_unless_a_pause_explains_it() {
        let mut now = worker(0);
        now.queues.insert("q.requests".to_owned(), 12);
        let found = first(now.clone(), |_| {});
        assert_eq!(found.level, Level::Bad);
        assert!(found.text.starts_with("12 requests in the queue, and none answered"), "{}", found.text);
        now.providers.get_mut("contoso").unwrap().paused = true;
        assert_eq!(first(now, |_| {}).short, "contoso is paused");
    }

    #[test]
    fn stopping_starting_and_hanging_are_told_apart() {
        let stopping = first(worker(0), |moment| moment.ready = Err("the worker is stopping: it finishes".to_owned()));
        assert_eq!((stopping.level, stopping.short.as_str()), (Level::Attention, "stopping"));
        let starting =
            |moment: &mut Moment| moment.ready = Err("not connected to the broker: the worker is starting".into());
        assert_eq!(first(worker(0), starting).short, "starting");
        let hanging = first(worker(0), |moment| moment.live = Err("the loop has not turned for 40 s".to_owned()));
        assert_eq!((hanging.level, hanging.short.as_str()), (Level::Bad, "the worker hangs"));
    }
}
