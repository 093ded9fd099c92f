//! The whole simulated world, and the one way a call takes through it. Pure: time, dice and options are passed in.
//!
//! Order: random cut, sign-in, address, resource units, random 503, fault words, the work, lost answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::http::StatusCode;

use super::answer::{Answer, Refused};
use super::call::{Call, Credential, Mount};
use super::clock::Moment;
use super::faults::{Dice, Plan, Seen, Trouble, plan};
use super::meter::{Gauge, Meter, Verdict};
use super::options::{Options, whole_seconds};
use super::stats::{Numbers, ProviderStats, Stats, Tally, TokenStats};
use super::target::{Circumstances, Ids, Ledgers, Target, in_trouble, refuse, retry_after, special};
use super::tokens::{self, FOREIGN, TokenRequest, Tokens};
use super::words::words_in;
use super::work::{Effect, guid};

/// Everything that calls can change.
#[derive(Debug)]
pub struct World {
    ledgers: Ledgers,
    tokens: Tokens,
    meters: HashMap<(Mount, String), Meter>,
    seen: HashMap<(Option<Mount>, String), Seen>,
    tallies: BTreeMap<Mount, (Tally, BTreeMap<String, Tally>)>,
    token_stats: TokenStats,
    rng: fastrand::Rng,
}

/// How a call ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Whether the connection is cut in place of the answer.
    pub cut: bool,
    /// How much later the answer comes.
    pub delay: Duration,
}

/// What a call is judged by.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The options in force.
    pub options: &'a Options,
    /// The call's dice.
    pub dice: Dice,
    /// Now.
    pub now: Moment,
}

/// What the way through the world has come to so far.
struct Trip {
    mount: Mount,
    ids: Ids,
    target: Option<Target>,
    gauge: Option<Gauge>,
    effect: Effect,
    delay: Duration,
}

impl World {
    /// An empty world; `seed` makes its ids.
    pub fn new(seed: u64) -> Self {
        Self {
            ledgers: Ledgers::default(),
            tokens: Tokens::default(),
            meters: HashMap::new(),
            seen: HashMap::new(),
            tallies: BTreeMap::new(),
            token_stats: TokenStats::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Forgets how many units are used up, as limits have changed.
    pub fn refill(&mut self) {
        self.meters.clear();
    }

    /// Makes every access token issued so far invalid.
    pub fn expire_tokens(&mut self) {
        self.tokens.expire();
    }

    /// Answers a call; 404 where no API is mounted at its path.
    pub fn answer(&mut self, call: &Call, rules: Rules<'_>) -> Outcome {
        let segments: Vec<&str> = call.segments.iter().flatten().map(String::as_str).collect();
        match segments.as_slice() {
            [_, "oauth2", "v2.0", "token"] | ["oauth2", "v1", "token"] => self.token(call, rules),
            ["graph", version @ ("v1.0" | "beta"), "$batch"] if call.method == axum::http::Method::POST => {
                super::batch::work(self, version, call, rules)
            }
            path => match Mount::find(path) {
                Some((mount, path)) => self.provider(mount, path, call, rules),
                None => Outcome { answer: super::page::not_found(), cut: false, delay: Duration::ZERO },
            },
        }
    }

    /// A number for the dice of a part of a call.
    pub fn roll(&mut self) -> u64 {
        self.rng.u64(..)
    }

    fn provider(&mut self, mount: Mount, path: &[&str], call: &Call, rules: Rules<'_>) -> Outcome {
        let request = guid(&mut self.rng);
        let client = call.client_request_id.clone().unwrap_or_else(|| request.clone());
        let mut trip = Trip {
            mount,
            ids: Ids { request, client },
            target: None,
            gauge: None,
            effect: Effect::Looked,
            delay: Duration::ZERO,
        };
        let (mut answer, cut) = match self.travel(&mut trip, path, call, rules) {
            Ok(answer) => (answer, false),
            Err(Stop::Cut) => (Answer::empty(StatusCode::OK), true),
            Err(Stop::Refused(refused)) => {
                (refuse(mount, &refused, trip.target.as_ref(), &trip.ids, rules.now.wall), false)
            }
            Err(Stop::Answer(answer)) => (*answer, false),
        };
        if let Some(gauge) = trip.gauge {
            answer = answer
                .with("ratelimit-limit", gauge.limit.to_string())
                .with("ratelimit-remaining", gauge.remaining.to_string())
                .with("ratelimit-reset", whole_seconds(gauge.reset).to_string());
        }
        let (all, items) = self.tallies.entry(mount).or_default();
        let item = trip.target.as_ref().map(|target| items.entry(target.label()).or_default());
        for tally in [Some(all), item].into_iter().flatten() {
            tally.effect(trip.effect);
            tally.ended(&answer, cut);
        }
        Outcome { answer: trip.ids.sign(mount, answer), cut, delay: trip.delay }
    }

    fn travel(&mut self, trip: &mut Trip, path: &[&str], call: &Call, rules: Rules<'_>) -> Result<Answer, Stop> {
        let Rules { options, dice, now } = rules;
        let mount = trip.mount;
        if dice.reset < options.reset {
            return Err(Stop::Cut);
        }
        let application = self.application(mount, call, rules)?;
        let target = trip.target.insert(Target::read(mount, call, path, &self.ledgers)?).clone();
        let limit = options.limit();
        let meter = self.meters.entry((mount, application.clone())).or_insert_with(|| Meter::new(limit, now.instant));
        let verdict = meter.charge(target.cost(), limit, now.instant);
        let troubled =
            |trouble, ids: &Ids| Stop::Answer(Box::new(in_trouble(mount, trouble, &target, ids, now.wall, options)));
        match verdict {
            Verdict::Passes(gauge) => trip.gauge = gauge,
            Verdict::Refused(gauge) => {
                trip.gauge = Some(gauge);
                return Err(troubled(Trouble::Throttled(gauge.reset), &trip.ids));
            }
        }
        if dice.unavailable < options.fault_503 {
            let wait = Some(options.unavailable_for).filter(|wait| !wait.is_zero());
            return Err(troubled(Trouble::Unavailable(wait), &trip.ids));
        }
        let seen = self.seen.entry((Some(mount), target.label())).or_default();
        let Plan { instead, alteration, after, delay } = plan(&words_in(target.name()), target.creates(), seen);
        trip.delay = delay;
        match instead {
            Some(Trouble::Cut) => return Err(Stop::Cut),
            Some(trouble) => return Err(troubled(trouble, &trip.ids)),
            None => {}
        }
        let with = Circumstances { mount, call, application: &application, alteration, wall: now.wall };
        let worked = self.ledgers.work(&target, &with, &mut self.rng)?;
        trip.effect = worked.effect;
        match after {
            Some(Trouble::Cut) => Err(Stop::Cut),
            Some(trouble) => Err(troubled(trouble, &trip.ids)),
            None if dice.lose < options.lose_answers => Err(Stop::Cut),
            None => Ok(worked.answer),
        }
    }

    /// Who calls.
    fn application(&self, mount: Mount, call: &Call, rules: Rules<'_>) -> Result<String, Refused> {
        let known = match &call.credential {
            Credential::Bearer(token) => self.tokens.application(token, rules.options, rules.now.instant),
            Credential::Basic { name, password } if mount == Mount::Oracle => {
                (!name.is_empty() && !password.is_empty() && !password.contains("wrong")).then(|| FOREIGN.to_owned())
            }
            Credential::Basic { .. } | Credential::None => None,
        };
        let (code, message) = match (mount, &call.credential) {
            (Mount::Oracle, _) => ("-1", "The user cannot be authenticated."),
            (_, Credential::Bearer(_)) => {
                ("InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
            }
            _ => ("InvalidAuthenticationToken", "Access token is empty."),
        };
        known.ok_or_else(|| Refused::new(StatusCode::UNAUTHORIZED, code, message))
    }

    fn token(&mut self, call: &Call, rules: Rules<'_>) -> Outcome {
        let Rules { options, now, .. } = rules;
        let request = TokenRequest::read(call);
        let trace = guid(&mut self.rng);
        let seen = self.seen.entry((None, request.client.clone())).or_default();
        let planned = plan(&words_in(&request.client), true, seen);
        let content_type = "application/json; charset=utf-8";
        let unavailable = |status, message| Refused::new(status, "temporarily_unavailable", message);
        let said = match planned.instead.or(planned.after) {
            Some(Trouble::Cut) => None,
            Some(
                trouble @ (Trouble::Html
                | Trouble::Huge
                | Trouble::Redirect
                | Trouble::Garbage
                | Trouble::GatewayTimeout),
            ) => Some(special(trouble, content_type)),
            Some(trouble) => {
                let refused = match trouble {
                    Trouble::NotFound => Refused::new(
                        StatusCode::BAD_REQUEST,
                        "unauthorized_client",
                        "AADSTS700016: Application was not found in the directory.",
                    ),
                    Trouble::Throttled(_) => {
                        unavailable(StatusCode::TOO_MANY_REQUESTS, "AADSTS90055: Tenant is throttled.")
                    }
                    Trouble::Forbidden => Refused::new(
                        StatusCode::BAD_REQUEST,
                        "invalid_grant",
                        "AADSTS65001: The user or administrator has not consented to use the application.",
                    ),
                    _ => unavailable(StatusCode::SERVICE_UNAVAILABLE, "AADSTS90033: A transient error has occurred."),
                };
                Some(retry_after(tokens::refuse(&refused, &trace, now.wall), trouble, options.retry_after))
            }
            None => Some(match self.tokens.issue(&request, options, now.instant) {
                Ok(body) => {
                    Answer::json(StatusCode::OK, content_type, &body).with("cache-control", "no-store, no-cache")
                }
                Err(refused) => tokens::refuse(&refused, &trace, now.wall),
            }),
        };
        let issued = planned.instead.or(planned.after).is_none()
            && said.as_ref().is_some_and(|answer| answer.status == StatusCode::OK);
        let count = if issued { &mut self.token_stats.issued } else { &mut self.token_stats.refused };
        *count += 1;
        let cut = said.is_none();
        let answer = said.unwrap_or_else(|| Answer::empty(StatusCode::OK)).with("x-ms-request-id", trace);
        Outcome { answer, cut, delay: planned.delay }
    }

    /// Everything counted.
    pub fn stats(&self, now: Moment) -> Stats {
        let mut stats = Stats { mails: self.ledgers.graph.mails(), tokens: self.token_stats, ..Stats::default() };
        for mount in Mount::ALL {
            let mut provider = ProviderStats::default();
            if let Some((all, items)) = self.tallies.get(&mount) {
                provider.all.tally = *all;
                provider.items = items
                    .iter()
                    .map(|(label, tally)| (label.clone(), Numbers { tally: *tally, ..Numbers::default() }))
                    .collect();
            }
            let wall = now.wall;
            let live: Vec<_> = match mount {
                Mount::Graph => self.ledgers.graph.census(wall).map(|(item, live)| (item.label(), live)).collect(),
                Mount::OneDrive => {
                    self.ledgers.onedrive.census(wall).map(|(item, live)| (item.label(), live)).collect()
                }
                Mount::Oracle => self.ledgers.oracle.census(wall).map(|(item, live)| (item.label(), live)).collect(),
            };
            for (label, live) in live {
                provider.items.entry(label).or_default().add(live);
                provider.all.add(live);
            }
            stats.all.include(provider.all);
            stats.providers.insert(mount.as_str(), provider);
        }
        stats
    }
}

/// Why a call's way ends early.
enum Stop {
    /// The connection is cut.
    Cut,
    /// The API refuses.
    Refused(Refused),
    /// Another answer.
    Answer(Box<Answer>),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
