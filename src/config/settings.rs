//! The settings as the rest of the program sees them: complete, typed and checked. `load` is the only maker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::model::{Audience, Secret};

/// Everything the program can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[broker]`
    pub broker: Broker,
    /// `[server]`
    pub server: Server,
    /// `[retry]`
    pub retry: Retry,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[state]`
    pub state: State,
    /// `[log]`
    pub log: Log,
    /// `[providers.NAME]`, by name.
    pub providers: BTreeMap<String, Provider>,
}

/// `[broker]`: where RabbitMQ is and what the queues are called.
#[derive(Debug, Clone)]
pub struct Broker {
    /// `url` or `urls`, tried in turn. They hold a password.
    pub urls: Vec<Secret>,
    /// `request_queue`
    pub request_queue: String,
    /// `reply_queue`
    pub reply_queue: String,
    /// `dead_letter_queue`
    pub dead_letter_queue: String,
    /// `exchange`: durable topic exchange in front of the request queue.
    pub exchange: String,
    /// `prefetch`: requests held at once, 1 to 2000.
    pub prefetch: u16,
    /// `topology`
    pub topology: Topology,
    /// `queue_type`
    pub queue_type: QueueType,
    /// `reply_to_allow`: glob patterns (`*` and `?`).
    pub reply_to_allow: Vec<String>,
    /// `max_request_bytes`: a larger body is refused.
    pub max_request_bytes: usize,
    /// `max_deliveries`: a request handed out more often than this without an answer is taken for one that kills workers.
    pub max_deliveries: u32,
    /// `connect_timeout`: one attempt to reach one node, handshake included.
    pub connect_timeout: Duration,
    /// `publish_timeout`: from publishing to the broker's confirm.
    pub publish_timeout: Duration,
    /// `heartbeat`: seconds granularity; the broker may ask for less.
    pub heartbeat: Duration,
}

/// Whether the worker declares its queues or only checks that they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// `declare`
    Declare,
    /// `verify`
    Verify,
}

/// The type of the queues the worker declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// `quorum`
    Quorum,
    /// `classic`
    Classic,
}

impl QueueType {
    /// The value of `x-queue-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// `listen`: metrics, health and the status page. Port 0 takes a free one.
    pub listen: SocketAddr,
}

/// `[retry]`
#[derive(Debug, Clone)]
pub struct Retry {
    /// `max_attempts`, at least 1.
    pub max_attempts: u32,
    /// `initial_interval`: the first wait, before jitter.
    pub initial_interval: Duration,
    /// `max_interval`: no wait of our own choosing is longer, jitter included.
    pub max_interval: Duration,
    /// `max_elapsed`: from the first delivery, waits in delay queues included.
    pub max_elapsed: Duration,
    /// `inline_limit`: longer waits leave the process.
    pub inline_limit: Duration,
}

/// `[state]`
#[derive(Debug, Clone, Default)]
pub struct State {
    /// `file`: where learned rates outlive the process; nowhere where absent.
    pub file: Option<PathBuf>,
}

/// `[shutdown]`
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// `grace`: how long requests in flight may go on after SIGTERM.
    pub grace: Duration,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// `level`: a tracing filter such as `info` or `sharelink=debug`.
    pub level: String,
    /// `format`
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`: for a person.
    Text,
    /// `json`: an object a line.
    Json,
}

/// `[policy]` and `[providers.NAME.policy]`, already merged: what links may be asked for. Empty refuses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// `allow_types`: neutral words or the provider's own; `None` allows all.
    pub allow_types: Option<Vec<String>>,
    /// `allow_scopes`; `None` allows all.
    pub allow_scopes: Option<Vec<Audience>>,
    /// `max_expiry`: an expiry asked for may be at most this far ahead.
    pub max_expiry: Option<Duration>,
    /// `require_expiry`
    pub require_expiry: bool,
    /// `require_password`
    pub require_password: bool,
}

/// `[providers.NAME]`
#[derive(Debug, Clone)]
pub struct Provider {
    /// The account's name, as requests and metrics call it.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// `timeout`: one call.
    pub timeout: Duration,
    /// `[providers.NAME.limits]`
    pub limits: Limits,
    /// `[providers.NAME.auth]`
    pub auth: Auth,
    /// `[providers.NAME.policy]` over `[policy]`.
    pub policy: Policy,
}

/// What a provider speaks, with the settings that only that kind has.
#[derive(Debug, Clone)]
pub enum ProviderKind {
    /// `kind = "onedrive"`
    OneDrive(OneDrive),
    /// `kind = "oracle"`
    Oracle(Oracle),
}

/// The generation of the OneDrive API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneDriveApi {
    /// `graph`
    Graph,
    /// `onedrive`: the older API.
    Legacy,
}

/// Settings of `kind = "onedrive"`.
#[derive(Debug, Clone)]
pub struct OneDrive {
    /// `api`
    pub api: OneDriveApi,
    /// `base_url`, without a trailing slash. Default: Microsoft's global address of the chosen API.
    pub base_url: Url,
    /// `drive`: path of the drive that an item without a drive of its own is in, such as `/me/drive`.
    pub drive: String,
    /// `batch`: links that wait for their turn anyway travel together, up to 20 in one call; Graph only.
    pub batch: bool,
    /// `action`: the last path segment of the call; `createLink`, `action.createLink` or `oneDrive.createLink`.
    pub action: String,
}

/// Settings of `kind = "oracle"`.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// `base_url`, without a trailing slash, up to and with the API version.
    pub base_url: Url,
    /// `public_url`, without a trailing slash: links are built from this.
    pub public_url: Url,
    /// `folder_link`: template with `{publicUrl}`, `{linkID}` and `{id}`.
    pub folder_link: String,
    /// `file_link`: template with `{publicUrl}`, `{linkID}` and `{id}`.
    pub file_link: String,
    /// `link_name_prefix`: how links made without a `linkName` begin.
    pub link_name_prefix: String,
}

/// `[providers.NAME.limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// `max_in_flight`: calls at once, at least 1.
    pub max_in_flight: u32,
    /// `requests_per_minute`: calls; 0 where the rate is not known.
    pub requests_per_minute: u32,
    /// `units_per_minute`: SharePoint's resource units, of which a link costs 5; 0 where the rate is not known.
    pub units_per_minute: u32,
}

/// `[providers.NAME.auth]`
#[derive(Debug, Clone)]
pub enum Auth {
    /// `method = "bearer"`
    Bearer {
        /// `token`
        token: Secret,
    },
    /// `method = "basic"`
    Basic {
        /// `username`
        username: String,
        /// `password`
        password: Secret,
    },
    /// `method = "client_credentials"`
    ClientCredentials {
        /// `token_url`
        token_url: Url,
        /// `client_id`
        client_id: String,
        /// `client_secret`
        client_secret: Secret,
        /// `scope`
        scope: Option<String>,
        /// `client_auth`
        client_auth: ClientAuth,
    },
    /// `method = "refresh_token"`
    RefreshToken {
        /// `token_url`
        token_url: Url,
        /// `client_id`
        client_id: String,
        /// `client_secret`, for confidential clients.
        client_secret: Option<Secret>,
        /// `refresh_token`: the first one; a newer one in `token_store` wins.
        refresh_token: Secret,
        /// `scope`
        scope: Option<String>,
        /// `client_auth`
        client_auth: ClientAuth,
        /// `token_store`: file in which a rotated refresh token is kept.
        token_store: Option<PathBuf>,
    },
}

/// How the client proves itself at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// `body`: `client_id` and `client_secret` as form members (Microsoft's documented way).
    Body,
    /// `basic`: HTTP Basic (Oracle's documented way).
    Basic,
}
