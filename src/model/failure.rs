//! Why a request failed: the closed list of kinds, and what the requester is told beside it.

use serde::Serialize;

/// The kinds of failure of the contract. The wire word of each is its name in camel case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// The request is not JSON, has a wrong shape, or the provider calls it malformed.
    InvalidRequest,
    /// No provider of that name is configured.
    UnknownProvider,
    /// An option that this provider or API cannot do; found before any call.
    Unsupported,
    /// The configured policy does not allow such a link.
    PolicyRefused,
    /// The account's credentials are missing, wrong or expired.
    Unauthenticated,
    /// The account may not do this.
    Forbidden,
    /// The item does not exist or is not visible to the account.
    NotFound,
    /// The item's state, or a link that exists, stands in the way.
    Conflict,
    /// The item is locked or checked out.
    Locked,
    /// The provider asked for fewer calls.
    RateLimited,
    /// The provider could not be reached or is not working.
    Unavailable,
    /// The provider did not answer in time.
    TimedOut,
    /// The request's own deadline has passed.
    DeadlineExceeded,
    /// The provider gave more than was asked for.
    WiderThanAsked,
    /// The provider's answer makes no sense.
    BadResponse,
    /// A fault of sharelink's own.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the contract's order.
    pub const ALL: [ErrorKind; 16] = [
        Self::InvalidRequest,
        Self::UnknownProvider,
        Self::Unsupported,
        Self::PolicyRefused,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Locked,
        Self::RateLimited,
        Self::Unavailable,
        Self::TimedOut,
        Self::DeadlineExceeded,
        Self::WiderThanAsked,
        Self::BadResponse,
        Self::Internal,
    ];

    /// The word on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalidRequest",
            Self::UnknownProvider => "unknownProvider",
            Self::Unsupported => "unsupported",
            Self::PolicyRefused => "policyRefused",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "notFound",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::RateLimited => "rateLimited",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timedOut",
            Self::DeadlineExceeded => "deadlineExceeded",
            Self::WiderThanAsked => "widerThanAsked",
            Self::BadResponse => "badResponse",
            Self::Internal => "internal",
        }
    }

    /// Whether sending the same request again later can help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Locked | Self::RateLimited | Self::Unavailable | Self::TimedOut)
    }

    /// Whether it is for whoever runs this worker, or its provider, to do something about it; else it is the requester's.
    pub fn is_ours(self) -> bool {
        match self {
            Self::Unauthenticated
            | Self::RateLimited
            | Self::Unavailable
            | Self::TimedOut
            | Self::DeadlineExceeded
            | Self::WiderThanAsked
            | Self::BadResponse
            | Self::Internal => true,
            Self::InvalidRequest
            | Self::UnknownProvider
            | Self::Unsupported
            | Self::PolicyRefused
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict
            | Self::Locked => false,
        }
    }
}

/// What the provider itself said about a failure; each member only where there was one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderSays {
    /// HTTP status of the answer.
    pub http_status: Option<u16>,
    /// The provider's own error code (`itemNotFound`, `-16`).
    pub code: Option<String>,
    /// The id under which the provider's support finds the call.
    pub request_id: Option<String>,
}

/// A shorter secret is covered only where it stands as a word: elsewhere it would tear holes into ordinary ones. Bytes.
const SHORTEST_COVERED: usize = 4;

/// As much of a secret's beginning, before a cut, is covered too. Characters.
const SHORTEST_CUT: usize = 3;

/// A failure as the requester is told: one kind, one sentence, and what the provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: ErrorKind,
    /// One sentence for a person. Never holds a secret.
    pub message: String,
    /// What the provider said.
    pub provider: ProviderSays,
    /// Every attempt that was allowed has been made; another day may be luckier.
    pub exhausted: bool,
}

impl Failure {
    /// Whether sending the same request again later can help.
    pub fn is_retryable(&self) -> bool {
        self.exhausted || self.kind.is_retryable()
    }

    /// Covers a secret wherever somebody else's words repeat it, in any of the spellings in which services quote what they
    /// were sent, and where they are cut in the midst of it.
    pub fn cover(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let spellings = spellings(secret);
        let said = &mut self.provider;
        for text in [Some(&mut self.message), said.code.as_mut(), said.request_id.as_mut()].into_iter().flatten() {
            for spelling in &spellings {
                cover(text, spelling, secret.len() < SHORTEST_COVERED);
            }
        }
    }

    /// A failure that no provider was asked about.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), provider: ProviderSays::default(), exhausted: false }
    }

    /// A failure with what the provider said of it.
    pub fn by_provider(kind: ErrorKind, message: impl Into<String>, provider: ProviderSays) -> Self {
        Self { provider, ..Self::new(kind, message) }
    }

    /// `invalidRequest`, with the sentence that names the member.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// `unsupported`, with the sentence that names the member.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
}

/// A text as it may be quoted: as it is, on one line, within JSON (with or without characters beyond ASCII), in a URL, in
/// HTML. Longest first, so that none leaves a part of another.
fn spellings(text: &str) -> Vec<String> {
    let json = serde_json::Value::from(text).to_string();
    let json = json.get(1..json.len() - 1).unwrap_or_default().to_owned();
    let ascii = |upper: bool| -> String {
        let escaped = |unit: &u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        let one = |each: char| match each {
            ' '..='~' => each.to_string(),
            _ => each.encode_utf16(&mut [0; 2]).iter().map(escaped).collect(),
        };
        json.chars().map(one).collect()
    };
    let url = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut all =
        vec![ascii(true), ascii(false), json, url, html.replace('\'', "&#39;"), html, one_line, text.to_owned()];
    all.retain(|spelling| !spelling.is_empty());
    all.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    all.dedup();
    all
}

fn cover(text: &mut String, spelling: &str, as_word: bool) {
    let mut covered = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(spelling) {
        let (before, from) = rest.split_at(at);
        let after = from.get(spelling.len()..).unwrap_or_default();
        let letter = |each: Option<char>| each.is_some_and(char::is_alphanumeric);
        let inside = letter(before.chars().next_back().or(covered.chars().next_back())) || letter(after.chars().next());
        covered.push_str(before);
        covered.push_str(if as_word && inside { spelling } else { "…" });
        rest = after;
    }
    covered.push_str(rest);
    // Long words of others are cut with an ellipsis, perhaps within the secret.
    if let Some(kept) = covered.strip_suffix('…') {
        let beginnings = spelling.char_indices().map(|(end, _)| end).skip(SHORTEST_CUT);
        let cut = beginnings.filter_map(|end| kept.strip_suffix(spelling.get(..end)?)).last();
        if let Some(kept) = cut {
            covered = format!("{kept}…");
        }
    }
    *text = covered;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_on_the_wire_as_its_own_word() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).ok(), Some(serde_json::Value::from(kind.as_str())));
        }
    }

    #[test]
    fn a_secret_is_covered_however_it_is_quoted() {
        let quoted = |secret: &str, message: &str| {
            let mut failure = Failure::new(ErrorKind::InvalidRequest, message);
            failure.cover(secret);
            failure.message
        };
        for (secret, message, told) in [
            ("PlainPassword", "no: PlainPassword!", "no: …!"),
            ("Pa\"ss\\word1", r#"{"password":"Pa\"ss\\word1"}"#, r#"{"password":"…"}"#),
            ("Päßwörd99", r"P\u00e4\u00dfw\u00f6rd99 or P\u00E4\u00DFw\u00F6rd99", "… or …"),
            ("a&b<c>d", "a&amp;b&lt;c&gt;d", "…"),
            ("p w/1?", "p%20w%2F1%3F", "…"),
            ("two  blanks", "is two blanks allowed", "is … allowed"),
            ("abc", r#"abcd has "abc" in it"#, r#"abcd has "…" in it"#),
            ("", "nothing", "nothing"),
            ("LongPassword", "the password LongPas…", "the password …"),
        ] {
            assert_eq!(quoted(secret, message), told, "{secret}");
        }
    }

    #[test]
    fn only_kinds_that_time_can_heal_are_retryable() {
        let retryable: Vec<_> =
            ErrorKind::ALL.into_iter().filter(|kind| kind.is_retryable()).map(ErrorKind::as_str).collect();
        assert_eq!(retryable, ["locked", "rateLimited", "unavailable", "timedOut"]);
    }
}
