//! `sharelink simulate`: Microsoft's and Oracle's link APIs on a local port, with real link state and faults on demand.
//!
//! Everything that decides is pure and lives below `world.rs`; this file holds the state, the routes and the sockets.
//!
//! Faults come at random (see [`Options`]) or are ordered by a word in an item's id or in the last segment of its path:
//! `missing`, `forbidden`, `locked`, `throttled` (`throttled-30`), `flaky`, `down`, `slow` (`slow-4000`), `lost`,
//! `gateway`, `reset`, `html`, `huge`, `redirect`, `garbage`, `expired`, `wider`, `narrower`, `nopassword`. What each
//! does stands in one table in `words.rs`, which the page at `/` and the command's help print. A word counts where no
//! letter touches it.

mod answer;
mod batch;
mod call;
mod clock;
mod command;
mod faults;
mod graph;
mod meter;
mod options;
mod oracle;
mod page;
mod stats;
mod target;
mod tokens;
mod transport;
mod words;
mod work;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use command::{SimulateArgs, run};
pub use options::{Options, RetryAfter};
pub use page::Addresses;
pub use stats::{Numbers, ProviderStats, Stats, Tally, TokenStats};

use answer::Answer;
use call::Call;
use clock::Moment;
use faults::Dice;
use transport::{Cut, CuttableListener};
use world::{Rules, World};

/// A running simulator. It stops when it is dropped.
pub struct Simulator {
    /// Where it listens.
    pub address: SocketAddr,
    /// Counters, link state and options.
    pub state: Arc<State>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Simulator {
    /// The base URLs.
    pub fn addresses(&self) -> Addresses {
        Addresses(self.address)
    }

    /// Stops listening, answers calls under way without further delay, and closes every connection.
    pub async fn stop(self) {
        drop(self.stop);
        // The task ends by itself; if it panicked it has ended too.
        let _ = self.task.await;
    }
}

/// What calls change, shared between the server and whoever looks.
pub struct State {
    address: SocketAddr,
    world: Mutex<World>,
    options: Mutex<Arc<Options>>,
    /// Provider and token calls so far; numbers the dice.
    calls: AtomicU64,
    /// Ends every wait, so that a slow answer does not hold up the stop.
    stopping: CancellationToken,
}

impl State {
    /// Everything counted until now.
    pub fn stats(&self) -> Stats {
        locked(&self.world).stats(Moment::now())
    }

    /// The options in force.
    pub fn options(&self) -> Arc<Options> {
        locked(&self.options).clone()
    }

    /// Puts other options in force. Used-up resource units are forgotten.
    pub fn set_options(&self, options: Options) {
        *locked(&self.options) = Arc::new(options);
        locked(&self.world).refill();
    }

    /// Makes every access token issued so far invalid.
    pub fn expire_tokens(&self) {
        locked(&self.world).expire_tokens();
    }

    async fn pause(&self, duration: Duration) {
        if !duration.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(duration) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// Changes options as `POST /_/faults` asks for it.
    fn change(&self, body: &[u8]) -> Result<(), String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let Value::Object(mut members) = body else { return Err("the body is not a JSON object".to_owned()) };
        let expire = match members.remove("expireTokens") {
            None => false,
            Some(Value::Bool(expire)) => expire,
            Some(_) => return Err("expireTokens is not true or false".to_owned()),
        };
        if !members.is_empty() {
            let changed = self.options().changed(members)?;
            self.set_options(changed);
        }
        if expire {
            self.expire_tokens();
        }
        Ok(())
    }
}

/// No invariant spans two statements under a lock, so a panic elsewhere does not spoil what it guards.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a simulator on a listener.
pub async fn serve(listener: TcpListener, options: Options) -> Simulator {
    let address = listener.local_addr().unwrap_or_else(|_| (Ipv4Addr::LOCALHOST, 0).into());
    let stopping = CancellationToken::new();
    let state = Arc::new(State {
        address,
        world: Mutex::new(World::new(options.seed)),
        options: Mutex::new(Arc::new(options)),
        calls: AtomicU64::new(0),
        stopping: stopping.clone(),
    });
    let routes = Router::new()
        .route("/", get(page))
        .route("/_/stats", get(stats))
        .route("/_/faults", get(faults).post(change_faults))
        .route(page::SIGN_IN, get(sign_in))
        .fallback(play)
        .with_state(state.clone())
        .into_make_service_with_connect_info::<Cut>();
    let stopped = stopping.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        // Serving ends only by the signal: accepting goes on after errors.
        let _ = axum::serve(CuttableListener(listener), routes).with_graceful_shutdown(stopped).await;
    });
    Simulator { address, state, stop: stopping.drop_guard(), task }
}

/// Any provider or token call.
async fn play(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(connection): ConnectInfo<Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call::read(method, uri.path(), &headers, body.to_vec());
    let options = state.options();
    let dice = Dice::roll(options.seed, state.calls.fetch_add(1, Ordering::Relaxed));
    state.pause(options.latency.saturating_add(options.jitter.mul_f64(dice.jitter))).await;
    let outcome = locked(&state.world).answer(&call, Rules { options: &options, dice, now: Moment::now() });
    state.pause(outcome.delay).await;
    if outcome.cut {
        connection.cut();
    }
    response(outcome.answer)
}

async fn page(Shared(state): Shared<Arc<State>>) -> String {
    Addresses(state.address).page()
}

async fn sign_in() -> Response {
    response(Answer::html(StatusCode::OK, "Sign in to your account"))
}

async fn stats(Shared(state): Shared<Arc<State>>) -> Response {
    written(&state.stats())
}

async fn faults(Shared(state): Shared<Arc<State>>) -> Response {
    written(&*state.options())
}

async fn change_faults(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    match state.change(&body) {
        Ok(()) => written(&*state.options()),
        Err(why) => response(Answer {
            status: StatusCode::BAD_REQUEST,
            headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
            body: format!("nothing is changed: {why}\n").into_bytes(),
        }),
    }
}

fn written(value: &impl serde::Serialize) -> Response {
    // Numbers, strings and maps with string keys: this cannot fail.
    response(Answer::json(StatusCode::OK, "application/json", &serde_json::to_value(value).unwrap_or_default()))
}

fn response(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
