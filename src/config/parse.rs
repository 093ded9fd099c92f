//! From text to times, addresses and patterns, with the traps of each named in its refusal.
//!
//! Invariant: pure, and no refusal shows the text of an address, which may hold a password.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// A time such as `500ms`, `30s`, `10m`, `1h`, `90d`, or several in a row.
///
/// Stricter than `humantime`, which would take `10M` for ten months and `1y` for 365.25 days.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let refused =
        || format!("{text:?} is not a time; write a number with a unit (ms, s, m, h, d), such as \"30s\" or \"10m\"");
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("{text} has no unit; write \"{text}s\" for seconds, or use ms, m, h or d"));
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ') {
        return Err(refused());
    }
    let units = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|unit| !unit.is_empty());
    if !units.clone().all(|unit| ["ms", "s", "m", "h", "d"].contains(&unit)) {
        return Err(refused());
    }
    humantime::parse_duration(text).map_err(|_| refused())
}

/// `"a", "b" or "c"`
pub(super) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut quoted: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    match (quoted.pop(), quoted.is_empty()) {
        (None, _) => String::new(),
        (Some(last), true) => last,
        (Some(last), false) => format!("{} or {last}", quoted.join(", ")),
    }
}

/// Checks a broker's URL as lapin reads it, refusing what lapin would take for something else (facts of
/// amq-protocol-uri 10.6.3). Returns what is accepted and has no effect.
pub(super) fn broker_url(text: &str) -> Result<Vec<&'static str>, String> {
    let url = Url::parse(text).map_err(|reason| {
        format!("the value is not a URL ({reason}); write amqp://user:password@host:5672/%2f with special characters percent-encoded")
    })?;
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Err("the value has the wrong scheme; begin it with amqp:// or, for TLS, amqps://".to_owned());
    }
    match url.host() {
        // lapin takes only names and IPv4 addresses as the host, and would go to localhost without a word.
        Some(Host::Ipv6(_)) => {
            return Err(
                "an IPv6 address is not supported in the value; give a host name that resolves to it".to_owned()
            );
        }
        Some(Host::Domain(name)) if !name.is_empty() => {}
        Some(Host::Ipv4(_)) => {}
        _ => return Err("the value names no host; write amqp://user:password@host:5672/%2f".to_owned()),
    }
    if url.port() == Some(0) {
        return Err("port 0 cannot be reached; RabbitMQ listens on 5672, with TLS on 5671".to_owned());
    }
    if url.path() == "/" {
        return Err(
            "the value ends in / and so names a virtual host without a name; write /%2f for the default one".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("the value holds a #; where it is part of the password write %23".to_owned());
    }
    for part in [url.username(), url.password().unwrap_or_default(), url.path(), url.host_str().unwrap_or_default()] {
        if percent_decode_str(part).decode_utf8().is_err() {
            return Err("the value has percent-encoded bytes that are not UTF-8".to_owned());
        }
    }
    let mut without_effect = Vec::new();
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "frame_max" if value.parse::<u32>().is_ok() => {}
            "channel_max" if value.parse::<u16>().is_ok() => {}
            "auth_mechanism" if ["plain", "external", "amqplain"].contains(&value.to_lowercase().as_str()) => {}
            "heartbeat" if value.parse::<u16>().is_ok() => {
                without_effect.push("the URL's heartbeat has no effect; broker.heartbeat is used");
            }
            "connection_timeout" if value.parse::<u64>().is_ok() => {
                without_effect.push("the URL's connection_timeout has no effect; broker.connect_timeout is used");
            }
            "frame_max" | "channel_max" | "auth_mechanism" | "heartbeat" | "connection_timeout" => {
                return Err(format!("the URL's parameter {name} has a value that is not allowed"));
            }
            // Parameters of RabbitMQ's Erlang client, which lapin would drop without a word.
            "cacertfile"
            | "certfile"
            | "keyfile"
            | "verify"
            | "fail_if_no_peer_cert"
            | "server_name_indication"
            | "depth"
            | "password" => {
                return Err(format!(
                    "the URL's parameter {name} is not supported; certificates come from the system's store"
                ));
            }
            // The name is not shown: after a password with a ? in it, it would be the password's end.
            _ => {
                return Err("the value has a parameter that is not known (frame_max, channel_max and auth_mechanism \
                     are); where the ? is part of the password write %3F"
                    .to_owned());
            }
        }
    }
    Ok(without_effect)
}

/// An address to call, without a trailing slash, and whether what is sent there can be read on the way.
pub(super) fn web_url(text: &str) -> Result<(Url, Transport), String> {
    let mut url = Url::parse(text.trim())
        .map_err(|reason| format!("the value is not a URL ({reason}); write https://host/path"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the value has the wrong scheme; begin it with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the value holds a user name or password; those belong under auth".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the value holds a ? or #; give the address without them".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let transport = match (url.scheme(), loopback) {
        ("https", _) => Transport::Encrypted,
        (_, true) => Transport::Local,
        (_, false) => Transport::Exposed,
    };
    Ok((url, transport))
}

/// Who could read what is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// https
    Encrypted,
    /// Plain http that does not leave this machine.
    Local,
    /// Plain http over a network.
    Exposed,
}

/// Checks the name of a queue or exchange: a short string of AMQP 0-9-1, not one of the broker's own.
pub(super) fn queue_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 255 {
        return Err(format!("a name of {} bytes is not allowed; give 1 to 255 bytes", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("the name holds a control character; leave it out".to_owned());
    }
    if text.starts_with("amq.") {
        return Err(format!("{text:?} is not allowed; RabbitMQ keeps names that begin with \"amq.\" for itself"));
    }
    Ok(())
}

/// Checks a pattern for queue names: `*` for any run of characters, `?` for one.
pub(super) fn glob(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err("a pattern must have 1 to 255 bytes and no control characters".to_owned());
    }
    if text.contains(['[', ']', '{', '}']) {
        return Err(format!("{text:?} is not allowed; a pattern knows only * and ?, no brackets"));
    }
    Ok(())
}

/// Checks a template for a link; `{linkID}` and `{id}` must be in it.
pub(super) fn link_template(text: &str) -> Result<(), String> {
    let known = ["publicUrl", "linkID", "id"];
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("{text:?} has a {{ without its }}"));
        };
        if !known.contains(&name) {
            let name = name.escape_debug();
            return Err(format!("{{{name}}} is not allowed; a template knows {{publicUrl}}, {{linkID}} and {{id}}"));
        }
        rest = after;
    }
    if let Some(absent) = ["{linkID}", "{id}"].into_iter().find(|name| !text.contains(name)) {
        return Err(format!("{text:?} lacks {absent}; a link needs both {{linkID}} and {{id}}"));
    }
    if !["{publicUrl}/", "https://", "http://"].iter().any(|start| text.starts_with(start)) {
        return Err(format!("{text:?} makes no address; begin it with {{publicUrl}}/ or https://"));
    }
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err("the template holds a space or control character; leave it out".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_a_unit_and_only_the_documented_units_count() {
        for (text, time) in [
            ("500ms", Duration::from_millis(500)),
            ("30s", Duration::from_secs(30)),
            ("10m", Duration::from_secs(600)),
            ("1h 30m", Duration::from_secs(5400)),
            ("90d", Duration::from_secs(90 * 86400)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(duration(text), Ok(time), "{text}");
        }
        assert_eq!(duration("30"), Err("30 has no unit; write \"30s\" for seconds, or use ms, m, h or d".to_owned()));
        for text in ["", " ", "10M", "1y", "1.5s", "s", "-1s", "1 s s", "99999999999999999999s", "10µs", "1s2"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_broker_url_that_lapin_would_misread_is_refused_without_being_shown() {
        for (text, says) in [
            ("amqp://u:hunter2@[::1]:5672/%2f", "IPv6"),
            ("amqp://u:hunter2@h:5672/", "write /%2f"),
            ("amqp://u:hunter2@h", ""),
            ("amqp://u:hunter2@h/%2f", ""),
            ("amqps://u:hunter2@10.0.0.1:5671/orders?frame_max=131072", ""),
            ("http://u:hunter2@h/%2f", "scheme"),
            ("amqp:///%2f", "host"),
            ("amqp:hunter2", "host"),
            ("hunter2", "URL"),
            ("amqp://u:hunter#2@h/%2f", "URL"),
            ("amqp://u:1#hunter2@h/%2f", "%23"),
            ("amqp://h/%2f#hunter2", "%23"),
            ("amqp://u:hunter2@h:0/%2f", "port 0"),
            ("amqp://u:%ffhunter2@h/%2f", "UTF-8"),
            ("amqps://u:hunter2@h/%2f?cacertfile=hunter2", "cacertfile"),
            ("amqp://u:1?hunter2@h/%2f", "%3F"),
            ("amqps://u:hunter2@h/%2f?frame_max=hunter2", "frame_max"),
        ] {
            let said = broker_url(text).err().unwrap_or_default();
            assert_eq!(said.is_empty(), says.is_empty(), "{text}: {said}");
            assert!(said.contains(says) && !said.contains("hunter"), "{text}: {said}");
        }
        assert_eq!(broker_url("amqp://h/%2f?heartbeat=5&connection_timeout=1").map(|unused| unused.len()), Ok(2));
    }

    #[test]
    fn an_accepted_broker_url_means_to_lapin_what_it_says() {
        for text in ["amqp://u:p%23@h:5673/%2f", "amqp://h", "amqps://u:p@10.0.0.1/orders?frame_max=131072"] {
            assert_eq!(broker_url(text), Ok(vec![]));
            let read: lapin::uri::AMQPUri = text.parse().unwrap();
            let host = Url::parse(text).unwrap().host_str().unwrap().to_owned();
            assert_eq!(read.authority.host, host, "{text}");
            assert!(!read.vhost.is_empty(), "{text}");
        }
    }

    #[test]
    fn plain_http_is_local_only_for_loopback_and_a_trailing_slash_goes() {
        for (text, transport, written) in [
            ("https://h/a/", Transport::Encrypted, "https://h/a"),
            ("http://127.9.9.9:1/a", Transport::Local, "http://127.9.9.9:1/a"),
            ("http://[::1]/a//", Transport::Local, "http://[::1]/a"),
            ("http://LOCALHOST/a", Transport::Local, "http://localhost/a"),
            ("http://localhost.example/a", Transport::Exposed, "http://localhost.example/a"),
            ("http://10.0.0.1/a", Transport::Exposed, "http://10.0.0.1/a"),
        ] {
            let (url, found) = web_url(text).unwrap();
            assert_eq!((url.as_str(), found), (written, transport), "{text}");
        }
        for text in [
            "",
            "h/a",
            "ftp://h/a",
            "https://u@h/a",
            "https://u:hunter2@h/a",
            "https://h/a?b",
            "https://h/a#b",
            "https://",
        ] {
            let said = web_url(text).unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_link_template_must_make_an_address_that_holds_link_and_item() {
        assert_eq!(link_template("{publicUrl}/link/{linkID}/folder/{id}"), Ok(()));
        assert_eq!(link_template("https://h/{linkID}?x={id}"), Ok(()));
        for (text, says) in [
            ("{publicUrl}/link/{linkID}", "{id}"),
            ("{publicUrl}/{linkid}/{id}", "{linkid}"),
            ("{publicUrl}/{linkID/{id}", "not allowed"),
            ("{publicUrl}/{linkID}/{id", "without"),
            ("/link/{linkID}/{id}", "no address"),
        ] {
            let said = link_template(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn queue_names_and_patterns_keep_to_what_the_broker_takes() {
        assert_eq!(queue_name(&"q".repeat(255)), Ok(()));
        for text in ["", "amq.mine", "a\nb", &"q".repeat(256)] {
            assert!(queue_name(text).is_err(), "{text}");
        }
        assert_eq!(glob("replies.*"), Ok(()));
        for text in ["", "a[bc]", "{a,b}", "\t", &"*".repeat(256)] {
            assert!(glob(text).is_err(), "{text}");
        }
    }
}
