//! Workers to look at, for the tests of the page.

use std::time::Duration;

use jiff::Timestamp;

use super::view::{Moment, View};
use crate::telemetry::history::History;
use crate::telemetry::snapshot::{ProviderNumbers, Snapshot};

/// A worker that is well and has two accounts, one of which has answered this many requests.
pub fn worker(created: u64) -> Snapshot {
    let contoso = ProviderNumbers { created, ..ProviderNumbers::default() };
    Snapshot {
        providers: [("contoso".to_owned(), contoso), ("content".to_owned(), ProviderNumbers::default())].into(),
        broker: [("consume".to_owned(), true), ("publish".to_owned(), true)].into(),
        queues: [("q.dead".to_owned(), 0), ("q.replies".to_owned(), 0), ("q.requests".to_owned(), 0)].into(),
        request_queue: "q.requests".to_owned(),
        version: "1.2.3".to_owned(),
        revision: "abc123".to_owned(),
        ..Snapshot::default()
    }
}

pub fn moment() -> Moment {
    Moment {
        at: Duration::from_secs(120),
        instant: tokio::time::Instant::now().into_std(),
        wall: Timestamp::from_second(1_800_000_000).unwrap(),
        ready: Ok(()),
        live: Ok(()),
    }
}

pub fn view(now: Snapshot, change: impl FnOnce(&mut Moment)) -> View {
    let mut moment = moment();
    change(&mut moment);
    View::new(moment, now, &History::default())
}
