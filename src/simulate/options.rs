//! What goes wrong, how often and how late: the simulator's options, changeable while it runs.
//!
//! The default has no faults. The members' names in JSON are the command line's in camel case.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::meter::Limit;
use crate::model::{Object, Secret};

/// The options of a simulator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// Every provider call waits this long before its work.
    #[serde(with = "written_duration")]
    pub latency: Duration,
    /// A random wait from nothing to this on top of `latency`.
    #[serde(with = "written_duration")]
    pub jitter: Duration,
    /// The share of calls that are answered 503, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub fault_503: f64,
    /// The share of calls whose connection is cut before the work, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub reset: f64,
    /// The share of calls whose connection is cut after the work, from 0 to 1.
    #[serde(deserialize_with = "share")]
    pub lose_answers: f64,
    /// Resource units a minute for each account; 0 for no limit. Link calls cost 5, looking at an item 1.
    pub units_per_minute: u32,
    /// After an overrun everything is refused for at least this long.
    #[serde(with = "written_duration")]
    pub closed_for: Duration,
    /// How `Retry-After` is written.
    pub retry_after: RetryAfter,
    /// What a random 503 says in `Retry-After`; nothing where this is zero.
    #[serde(with = "written_duration")]
    pub unavailable_for: Duration,
    /// The only access token accepted besides the issued ones; any that is not empty where absent.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[serde(default)]
    pub token: Option<Secret>,
    /// The only client secret accepted; any that does not contain `wrong` where absent.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// How long issued access tokens live.
    #[serde(with = "written_duration")]
    pub token_lifetime: Duration,
    /// Whether a refresh token is good for one use only. Microsoft's stay good.
    pub single_use_refresh_tokens: bool,
    /// The seed of all random faults and ids. Ids keep the seed they started with.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            fault_503: 0.0,
            reset: 0.0,
            lose_answers: 0.0,
            units_per_minute: 0,
            closed_for: Duration::ZERO,
            retry_after: RetryAfter::Seconds,
            unavailable_for: Duration::ZERO,
            token: None,
            client_secret: None,
            // What Microsoft's examples print in expires_in.
            token_lifetime: Duration::from_secs(3599),
            single_use_refresh_tokens: false,
            seed: 0,
        }
    }
}

/// How `Retry-After` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RetryAfter {
    /// Whole seconds, rounded up.
    Seconds,
    /// Seconds with a fraction, as Graph's own documentation shows it.
    Fraction,
    /// Not sent at all.
    Absent,
}

impl RetryAfter {
    /// The header's value for a wait.
    pub fn write(self, wait: Duration) -> Option<String> {
        match self {
            Self::Seconds => Some(whole_seconds(wait).to_string()),
            Self::Fraction => Some(format!("{}.{:03}", wait.as_secs(), wait.subsec_millis())),
            Self::Absent => None,
        }
    }
}

/// Seconds, rounded up.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

impl Options {
    /// The limits of an account's resource units.
    pub fn limit(&self) -> Limit {
        Limit { units_per_minute: self.units_per_minute, closed_for: self.closed_for }
    }

    /// These options with some members changed.
    ///
    /// # Errors
    /// A sentence naming the member that is unknown or out of range; nothing is changed then.
    pub fn changed(&self, members: Object) -> Result<Self, String> {
        let written = serde_json::to_value(self).map_err(|error| error.to_string())?;
        let Value::Object(mut all) = written else { return Err("options are not an object".to_owned()) };
        let (token, client_secret) = (members.contains_key("token"), members.contains_key("clientSecret"));
        let mut changed = self.clone();
        // One by one, so that the error can name the member.
        for (name, value) in members {
            let sentence = |error: serde_json::Error| format!("{name}: {error}");
            all.insert(name.clone(), value);
            changed = serde_json::from_value(Value::Object(all.clone())).map_err(sentence)?;
        }
        // Secrets are not written, so what was not given has to be carried over.
        if !token {
            changed.token.clone_from(&self.token);
        }
        if !client_secret {
            changed.client_secret.clone_from(&self.client_secret);
        }
        Ok(changed)
    }
}

/// Reads a share from 0 to 1, for the command line.
///
/// # Errors
/// A sentence where it is no number or out of range.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number from 0 to 1"))?;
    check_share(number)
}

fn check_share(number: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err(format!("{number} is not between 0 and 1")) }
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    check_share(f64::deserialize(from)?).map_err(de::Error::custom)
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}

mod written_duration {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format_args!("{text:?} is not a duration such as 250ms or 30s: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(from: &Options, members: Value) -> Result<Options, String> {
        let Value::Object(members) = members else { panic!("not an object") };
        from.changed(members)
    }

    #[test]
    fn a_change_touches_only_the_members_that_it_names() {
        let before = Options { seed: 9, token: Some(Secret::new("t")), ..Options::default() };
        let after = changed(&before, json!({"latency": "250ms", "fault503": 0.25})).unwrap();
        assert_eq!(after, Options { latency: Duration::from_millis(250), fault_503: 0.25, ..before });
    }

    #[test]
    fn a_secret_can_be_set_and_taken_away() {
        let set = changed(&Options::default(), json!({"token": "t"})).unwrap();
        assert_eq!(set.token, Some(Secret::new("t")));
        assert_eq!(changed(&set, json!({"token": null})).unwrap().token, None);
    }

    #[test]
    fn an_unknown_member_and_an_impossible_share_are_refused_by_name() {
        let unknown = changed(&Options::default(), json!({"latncy": "1s"})).unwrap_err();
        assert!(unknown.contains("latncy"), "{unknown}");
        let share = changed(&Options::default(), json!({"reset": 1.5})).unwrap_err();
        assert!(share.contains("reset") && share.contains("1.5"), "{share}");
        let duration = changed(&Options::default(), json!({"jitter": "soon"})).unwrap_err();
        assert!(duration.contains("soon"), "{duration}");
    }

    #[test]
    fn retry_after_is_written_as_switched() {
        let wait = Duration::from_millis(2128);
        assert_eq!(RetryAfter::Seconds.write(wait).as_deref(), Some("3"));
        assert_eq!(RetryAfter::Fraction.write(wait).as_deref(), Some("2.128"));
        assert_eq!(RetryAfter::Absent.write(wait), None);
    }
}
