//! A line of progress on standard error: in place on a terminal, now and then a plain line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::report::Tally;

/// Shows how far a batch is.
pub struct Progress {
    total: usize,
    terminal: bool,
    ticks: Interval,
}

impl Progress {
    /// For a batch of `total` requests.
    pub fn new(total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let every = if terminal { Duration::from_millis(100) } else { Duration::from_secs(2) };
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { total, terminal, ticks }
    }

    /// Waits until a line is due.
    pub async fn due(&mut self) {
        self.ticks.tick().await;
    }

    /// Shows the line.
    pub fn show(&self, tally: &Tally, elapsed: Duration) {
        let [created, reused, failed] = tally.totals();
        let line = format!(
            "{:>6} of {} answered: {created} created, {reused} reused, {failed} failed ({:.1} s)",
            tally.answered(),
            self.total,
            elapsed.as_secs_f64()
        );
        let mut out = std::io::stderr().lock();
        // A progress line that cannot be written is no reason to stop.
        let _ = if self.terminal {
            write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{line}")
        };
    }

    /// Shows the last line.
    pub fn end(&self, tally: &Tally, elapsed: Duration) {
        self.show(tally, elapsed);
        if self.terminal {
            eprintln!();
        }
    }
}
