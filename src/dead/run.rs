//! The four commands: letters taken from the broker, what becomes of each, and what is said of it.
//!
//! Every session is closed, whether its work succeeded or not, so that what was not settled is back in the queue when the
//! command ends.

use std::io::Write;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::filter::Filter;
use super::list::Listing;
use super::show::Shown;
use super::summary::Summary;
use super::words::{letters, line};
use crate::broker::dead::{DeadError, DeadLetters, Held};
use crate::broker::letter::Letter;
use crate::config;
use crate::exit::Exit;

/// The broker takes letters back that are held for longer than its consumer timeout, 30 minutes by default, and ends the
/// channel; a slow redrive stops in time.
const LONGEST_RUN: Duration = Duration::from_secs(20 * 60);

/// What every command needs.
pub struct Look {
    /// Where the letters are.
    pub broker: config::Broker,
    /// Cancelled when the person has seen enough.
    pub stopping: CancellationToken,
}

impl Look {
    async fn open(&self) -> Result<DeadLetters, Exit> {
        DeadLetters::open(&self.broker, "sharelink dead").await.map_err(failed)
    }

    /// The next letter that is to be looked at: none at the end, beyond the limit, or when it is to stop.
    async fn next(&self, session: &mut DeadLetters, looked: u32, limit: u32) -> Result<Option<Held>, DeadError> {
        if looked >= limit || self.stopping.is_cancelled() { Ok(None) } else { session.next().await }
    }
}

/// Says what went wrong. Nothing is lost by it.
fn failed(problem: DeadError) -> Exit {
    eprintln!("{problem}");
    Exit::Unreachable
}

/// Ends a session; the first of both errors counts.
async fn close<T>(session: DeadLetters, result: Result<T, DeadError>) -> Result<T, Exit> {
    if session.renewed() > 0 {
        eprintln!(
            "{} had been looked at several times and stood before being dropped by the broker; written anew at the end of \
             the queue",
            letters(count(session.renewed()))
        );
    }
    let closed = session.close().await;
    result.and_then(|value| closed.map(|()| value)).map_err(failed)
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Writes results. A reader that closed its end has seen enough.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `dead list`
pub async fn list(look: &Look, filter: &Filter, limit: u32, each: bool, json: bool) -> Result<Exit, Exit> {
    let mut session = look.open().await?;
    let ready = session.ready();
    let gathered = gather(look, &mut session, limit).await;
    let summaries = close(session, gathered).await?;
    let looked = summaries.len();
    let listing = Listing::new(summaries);
    print(&match (each, json) {
        (false, false) => listing.grouped(filter),
        (false, true) => listing.grouped_json(filter),
        (true, false) => listing.each(filter),
        (true, true) => listing.each_json(filter),
    });
    let queue = &look.broker.dead_letter_queue;
    if ready > limit || look.stopping.is_cancelled() {
        eprintln!("looked at {looked} of {} in {queue:?}; --limit {ready} looks at all", letters(count(ready)));
    } else {
        match (filter == &Filter::default(), listing.count(filter)) {
            (true, _) => eprintln!("{} in {queue:?}", letters(looked)),
            (false, matching) => eprintln!("{matching} of {} in {queue:?}", letters(looked)),
        }
    }
    Ok(if look.stopping.is_cancelled() { Exit::SomeFailed } else { Exit::Well })
}

async fn gather(look: &Look, session: &mut DeadLetters, limit: u32) -> Result<Vec<Summary>, DeadError> {
    let mut summaries = Vec::new();
    let mut looked = 0;
    while let Some(held) = look.next(session, looked, limit).await? {
        looked += 1;
        summaries.push(Summary::of(&held.letter));
        session.keep(held).await?;
    }
    Ok(summaries)
}

/// `dead show`
pub async fn show(look: &Look, filter: &Filter, index: Option<u32>, limit: u32, json: bool) -> Result<Exit, Exit> {
    let mut session = look.open().await?;
    let ready = session.ready();
    let nth = count(index.unwrap_or(1));
    let found = find(look, &mut session, filter, nth, limit).await;
    let (matching, letter) = close(session, found).await?;
    let Some(letter) = letter else {
        let which = filter.id.as_ref().map_or(format!("number {nth}"), |id| format!("{:?}", line(id)));
        let more = if ready > limit { format!("; --limit {ready} looks at all {ready}") } else { String::new() };
        eprintln!("there is no letter {which} among the {} looked at{more}", ready.min(limit));
        return Ok(Exit::SomeFailed);
    };
    if index.is_none() && matching > 1 {
        eprintln!("the oldest of {} of that name; `list --each` and --index find the others", letters(matching));
    }
    let shown = Shown::new(letter);
    print(&if json { shown.json() } else { shown.text() });
    Ok(Exit::Well)
}

/// How many letters match, and the `nth` oldest of them. Holds no more bodies than that takes.
async fn find(
    look: &Look,
    session: &mut DeadLetters,
    filter: &Filter,
    nth: usize,
    limit: u32,
) -> Result<(usize, Option<Letter>), DeadError> {
    let mut oldest: Vec<(Summary, Letter)> = Vec::new();
    let (mut looked, mut matching) = (0, 0);
    while let Some(held) = look.next(session, looked, limit).await? {
        looked += 1;
        let summary = Summary::of(&held.letter);
        if filter.matches(&summary) {
            matching += 1;
            let place = oldest.partition_point(|(older, _)| older.rank() <= summary.rank());
            oldest.insert(place, (summary, held.letter.clone()));
            oldest.truncate(nth);
        }
        session.keep(held).await?;
    }
    Ok((matching, oldest.into_iter().nth(nth.saturating_sub(1)).map(|(_, letter)| letter)))
}

/// What became of the letters of a run.
#[derive(Debug, Default)]
struct Tally {
    looked: u32,
    /// Redriven or removed; in a dry run, would be.
    done: u32,
    /// Matched and could not be.
    left: u32,
    /// Why the run ended before its end.
    cut_short: Option<&'static str>,
}

/// `dead redrive`
pub async fn redrive(
    look: &Look,
    filter: &Filter,
    rate: Option<f64>,
    limit: Option<u32>,
    dry_run: bool,
) -> Result<Exit, Exit> {
    let mut session = look.open().await?;
    let ready = session.ready();
    let mut tally = Tally::default();
    let work = redrive_each(look, &mut session, filter, rate, limit.unwrap_or(u32::MAX), dry_run, &mut tally).await;
    let ended = close(session, work).await;
    let (queue, requests) = (&look.broker.dead_letter_queue, &look.broker.request_queue);
    let verb = if dry_run { "would go" } else { "went" };
    eprintln!("{} of {} in {queue:?} {verb} to {requests:?}", tally.done, letters(count(ready)));
    ended?;
    if let Some(why) = tally.cut_short {
        eprintln!("{why}; the rest is where it was, run the command again for it");
    }
    Ok(if tally.left > 0 || tally.cut_short.is_some() { Exit::SomeFailed } else { Exit::Well })
}

async fn redrive_each(
    look: &Look,
    session: &mut DeadLetters,
    filter: &Filter,
    rate: Option<f64>,
    limit: u32,
    dry_run: bool,
    tally: &mut Tally,
) -> Result<(), DeadError> {
    let mut pace = rate.filter(|_| !dry_run).map(pace);
    let began = Instant::now();
    while tally.done < limit {
        let Some(held) = look.next(session, tally.looked, u32::MAX).await? else { break };
        tally.looked += 1;
        let summary = Summary::of(&held.letter);
        if !filter.matches(&summary) {
            session.keep(held).await?;
            continue;
        }
        if let Some(bytes) = held.cut_from() {
            eprintln!(
                "{:?} stays: its body had {bytes} bytes and was cut when it was buried, so it cannot be sent again",
                line(&summary.id)
            );
            tally.left += 1;
            session.keep(held).await?;
            continue;
        }
        if dry_run {
            session.keep(held).await?;
            tally.done += 1;
            continue;
        }
        if let Some(pace) = &mut pace {
            tokio::select! {
                _ = pace.tick() => {}
                () = look.stopping.cancelled() => {}
            }
        }
        if began.elapsed() > LONGEST_RUN {
            tally.cut_short = Some("stopped after 20 minutes, before the broker takes the letters in hand back");
        }
        if look.stopping.is_cancelled() || tally.cut_short.is_some() {
            session.keep(held).await?;
            break;
        }
        session.redrive(held).await?;
        tally.done += 1;
    }
    if look.stopping.is_cancelled() {
        tally.cut_short = Some("stopped");
    }
    Ok(())
}

/// One tick for each letter, the first at once.
fn pace(rate: f64) -> Interval {
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / rate).max(Duration::from_nanos(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// `dead purge`. Without `remove` it only counts; that is a usage error where it was not asked for.
pub async fn purge(look: &Look, filter: &Filter, remove: bool, dry_run: bool) -> Result<Exit, Exit> {
    let mut session = look.open().await?;
    let ready = session.ready();
    let mut tally = Tally::default();
    let work = purge_each(look, &mut session, filter, remove, &mut tally).await;
    let ended = close(session, work).await;
    let of = format!("{} of {} in {:?}", tally.done, letters(count(ready)), look.broker.dead_letter_queue);
    if remove {
        eprintln!("{of} removed");
    } else if dry_run {
        eprintln!("{of} would be removed");
    } else {
        eprintln!(
            "{of} would be removed for good; nothing was. Say --yes to remove, `sharelink dead list` to look first"
        );
    }
    ended?;
    Ok(match (remove || dry_run, look.stopping.is_cancelled()) {
        (false, _) => Exit::Usage,
        (true, true) => Exit::SomeFailed,
        (true, false) => Exit::Well,
    })
}

async fn purge_each(
    look: &Look,
    session: &mut DeadLetters,
    filter: &Filter,
    remove: bool,
    tally: &mut Tally,
) -> Result<(), DeadError> {
    while let Some(held) = look.next(session, tally.looked, u32::MAX).await? {
        tally.looked += 1;
        if !filter.matches(&Summary::of(&held.letter)) {
            session.keep(held).await?;
            continue;
        }
        if remove {
            session.remove(held).await?;
        } else {
            session.keep(held).await?;
        }
        tally.done += 1;
    }
    Ok(())
}
