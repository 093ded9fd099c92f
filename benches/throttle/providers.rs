//! Simulated providers: ways of limiting calls that are known from documentation and recordings. Pure; time is the time
//! since the start.

use std::collections::VecDeque;
use std::time::Duration;

/// What a provider says to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// It took the call.
    pub taken: bool,
    /// `Retry-After` of a refusal, where it sends one.
    pub retry_after: Option<Duration>,
    /// `RateLimit-Limit`, `-Remaining` and `-Reset` in units, where it sends them.
    pub gauge: Option<(f64, f64, Duration)>,
}

/// A provider's limit, in calls.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Tokens come back evenly, up to a number.
    Bucket {
        /// The most that is saved up.
        burst: f64,
    },
    /// So many calls in each window of this length, counted from the clock's own marks.
    Window {
        /// Its length.
        length: Duration,
    },
    /// So many calls within any span of this length.
    Sliding {
        /// Its length.
        length: Duration,
    },
}

/// A provider.
#[derive(Debug, Clone)]
pub struct Provider {
    rule: Rule,
    /// Calls a second, from a time on; the last one that has begun holds.
    rates: Vec<(Duration, f64)>,
    /// After an overrun everything is refused for so long.
    closes_for: Duration,
    /// It says how long to wait.
    says: bool,
    /// `RateLimit` headers from this share of the limit on.
    tells_from: Option<f64>,
    tokens: f64,
    at: Duration,
    count: f64,
    past: VecDeque<Duration>,
    closed: Duration,
}

impl Provider {
    /// A provider that allows `rate` calls a second by this rule, and says how long to wait.
    pub fn new(rule: Rule, rate: f64) -> Self {
        let tokens = if let Rule::Bucket { burst } = rule { burst } else { 0.0 };
        Self {
            rule,
            rates: vec![(Duration::ZERO, rate)],
            closes_for: Duration::ZERO,
            says: true,
            tells_from: None,
            tokens,
            at: Duration::ZERO,
            count: 0.0,
            past: VecDeque::new(),
            closed: Duration::ZERO,
        }
    }

    /// Closes for so long after an overrun.
    pub fn closing(mut self, closes_for: Duration) -> Self {
        self.closes_for = closes_for;
        self
    }

    /// Says nothing of how long to wait.
    pub fn silent(mut self) -> Self {
        self.says = false;
        self
    }

    /// Sends `RateLimit` headers from this share of the limit on.
    pub fn telling(mut self, from: f64) -> Self {
        self.tells_from = Some(from);
        self
    }

    /// Allows another rate from a time on.
    pub fn then(mut self, at: Duration, rate: f64) -> Self {
        self.rates.push((at, rate));
        self
    }

    /// Calls a second allowed at a time.
    pub fn rate(&self, at: Duration) -> f64 {
        self.rates.iter().rev().find(|(from, _)| *from <= at).map_or(0.0, |(_, rate)| *rate)
    }

    /// Calls allowed from one time to another.
    pub fn allowance(&self, from: Duration, to: Duration) -> f64 {
        let mut sum = 0.0;
        for (index, (begin, rate)) in self.rates.iter().enumerate() {
            let end = self.rates.get(index + 1).map_or(to, |(next, _)| *next).min(to);
            sum += end.saturating_sub((*begin).max(from)).as_secs_f64() * rate;
        }
        sum
    }

    /// A call arrives.
    pub fn call(&mut self, now: Duration) -> Answer {
        if now < self.closed {
            return self.refuse(self.closed - now, now);
        }
        let rate = self.rate(now);
        let fits = match self.rule {
            Rule::Bucket { burst } => {
                self.tokens = (self.tokens + (now - self.at).as_secs_f64() * rate).min(burst);
                self.at = now;
                if self.tokens >= 1.0 {
                    self.tokens -= 1.0;
                    Ok((burst, self.tokens, span((burst - self.tokens) / rate)))
                } else {
                    Err(span((1.0 - self.tokens) / rate))
                }
            }
            Rule::Window { length } => {
                let index = now.as_nanos() / length.as_nanos();
                if index != self.at.as_nanos() / length.as_nanos() {
                    self.count = 0.0;
                }
                self.at = now;
                let most = rate * length.as_secs_f64();
                let rest = length - span(now.as_secs_f64() % length.as_secs_f64());
                if self.count + 1.0 <= most {
                    self.count += 1.0;
                    Ok((most, most - self.count, rest))
                } else {
                    Err(rest)
                }
            }
            Rule::Sliding { length } => {
                let most = rate * length.as_secs_f64();
                while self.past.front().is_some_and(|first| *first + length <= now) {
                    self.past.pop_front();
                }
                let oldest = self.past.front().copied().unwrap_or(now);
                let left = most - self.past.len() as f64;
                if left >= 1.0 {
                    self.past.push_back(now);
                    Ok((most, left - 1.0, oldest + length - now))
                } else {
                    Err(oldest + length - now)
                }
            }
        };
        match fits {
            Ok((limit, remaining, reset)) => {
                let told = self.tells_from.is_some_and(|from| remaining <= limit * (1.0 - from));
                Answer { taken: true, retry_after: None, gauge: told.then_some((limit, remaining, reset)) }
            }
            Err(wait) => {
                if !self.closes_for.is_zero() {
                    self.closed = now + self.closes_for;
                    if let Rule::Window { .. } = self.rule {
                        self.count = 0.0;
                    }
                }
                self.refuse(wait.max(self.closes_for), now)
            }
        }
    }

    fn refuse(&self, wait: Duration, now: Duration) -> Answer {
        // Whole seconds, rounded up, as most providers write it.
        let seconds = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        let limit = match self.rule {
            Rule::Bucket { burst } => burst,
            Rule::Window { length } | Rule::Sliding { length } => self.rate(now) * length.as_secs_f64(),
        };
        Answer {
            taken: false,
            retry_after: self.says.then_some(seconds),
            gauge: self.tells_from.map(|_| (limit, 0.0, seconds)),
        }
    }
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
