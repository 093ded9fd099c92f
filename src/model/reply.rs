//! The reply message: the wire form of the contract's section 2.

use jiff::{Timestamp, Unit};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{Difference, Failure, Granted, Made, Object};

/// The status of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// A link was made.
    Created,
    /// A link that existed was handed out.
    Reused,
    /// No link.
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 3] = [Self::Created, Self::Reused, Self::Failed];

    /// The word on the wire, in the header `sharelink-status` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Reused => "reused",
            Self::Failed => "failed",
        }
    }
}

impl From<Made> for Status {
    fn from(made: Made) -> Self {
        match made {
            Made::Created => Self::Created,
            Made::Reused => Self::Reused,
        }
    }
}

/// A reply. Build it with the link or with the failure; it cannot have both.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The request's id.
    pub id: String,
    /// The provider account; `None` where the request named none that could be found out.
    pub provider: Option<String>,
    /// The request's `item`, as it came; `None` where there was none to read.
    pub item: Option<Object>,
    /// The link and how it came about, or why there is none.
    pub result: Result<(Made, Granted), Failure>,
    /// Members in which the link is narrower than asked.
    pub warnings: Vec<Difference>,
    /// Attempts made at the provider.
    pub attempts: u32,
    /// Milliseconds from the first delivery of the request to this reply.
    pub elapsed_ms: u64,
    /// When the reply was made.
    pub completed_at: Timestamp,
}

impl Reply {
    /// `created`, `reused` or `failed`.
    pub fn status(&self) -> Status {
        match &self.result {
            Ok((made, _)) => (*made).into(),
            Err(_) => Status::Failed,
        }
    }

    /// `completed_at` as it is told, in whole milliseconds: nobody reads nanoseconds, and some tools cannot parse them.
    pub fn time_told(&self) -> Timestamp {
        self.completed_at.round(Unit::Millisecond).unwrap_or(self.completed_at)
    }
}

#[derive(Serialize)]
struct LinkBody<'a> {
    id: &'a str,
    url: &'a str,
    html: Option<&'a str>,
    granted: &'a Object,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    kind: super::ErrorKind,
    message: &'a str,
    retryable: bool,
    http_status: Option<u16>,
    code: Option<&'a str>,
    request_id: Option<&'a str>,
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let link = self.result.as_ref().ok().map(|(_, link)| LinkBody {
            id: &link.id,
            url: &link.url,
            html: link.html.as_deref(),
            granted: &link.granted,
        });
        let error = self.result.as_ref().err().map(|failure| ErrorBody {
            kind: failure.kind,
            message: &failure.message,
            retryable: failure.is_retryable(),
            http_status: failure.provider.http_status,
            code: failure.provider.code.as_deref(),
            request_id: failure.provider.request_id.as_deref(),
        });
        let mut out = serializer.serialize_struct("Reply", 10)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("provider", &self.provider)?;
        out.serialize_field("status", &self.status())?;
        out.serialize_field("item", &self.item)?;
        out.serialize_field("link", &link)?;
        out.serialize_field("warnings", &self.warnings)?;
        out.serialize_field("error", &error)?;
        out.serialize_field("attempts", &self.attempts)?;
        out.serialize_field("elapsedMs", &self.elapsed_ms)?;
        out.serialize_field("completedAt", &self.time_told().to_string())?;
        out.end()
    }
}
