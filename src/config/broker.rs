//! `[broker]`: where RabbitMQ is and what the queues are called.
//!
//! Invariant: a URL that gets through means to lapin what it says, and no two roles share a queue.

use std::time::Duration;

use crate::model::Secret;

use super::parse;
use super::reader::{Reader, Section};
use super::{Broker, QueueType, Topology};

/// Beside `url`: a cluster's nodes.
const URL_KEYS: [&str; 2] = ["url", "urls"];

/// Reads the section. Without `needed` the URLs are not looked at and stay empty.
pub(super) fn read(reader: &mut Reader<'_>, needed: bool) -> Broker {
    let mut section = reader.section(&["broker"]);
    let urls = if needed { urls(&mut section) } else { Vec::new() };
    any_url_given(&mut section);
    let [request_queue, reply_queue, dead_letter_queue] = queues(&mut section);
    let exchange = name(&mut section, "exchange", "sharelink");
    let reply_to_allow = match section.list("reply_to_allow") {
        Some((patterns, place)) => {
            for reason in patterns.iter().filter_map(|pattern| parse::glob(pattern).err()) {
                section.wrong(&place, "reply_to_allow", reason);
            }
            patterns
        }
        None => vec!["*".to_owned()],
    };
    let seconds = Duration::from_secs;
    let queue_type = section
        .word("queue_type", &[("quorum", QueueType::Quorum), ("classic", QueueType::Classic)])
        .unwrap_or(QueueType::Quorum);
    if queue_type == QueueType::Classic {
        let place = section.place_of("queue_type");
        let text = "classic queues do not count deliveries: a request that keeps stopping workers comes back for ever, and \
                    a dead letter can be lost on its way; prefer quorum";
        section.warn(&place, "queue_type", text);
    }
    Broker {
        urls,
        request_queue,
        reply_queue,
        dead_letter_queue,
        exchange,
        // lapin buffers what the broker sends ahead without a limit of its own, so this is what bounds the memory.
        prefetch: section.integer("prefetch", 256, 1..=2000),
        topology: section
            .word("topology", &[("declare", Topology::Declare), ("verify", Topology::Verify)])
            .unwrap_or(Topology::Declare),
        queue_type,
        reply_to_allow,
        max_request_bytes: section.integer("max_request_bytes", 1_048_576, 1024..=134_217_728),
        max_deliveries: section.integer("max_deliveries", 16, 1..=1000),
        connect_timeout: section
            .duration("connect_timeout", Duration::from_millis(100)..=seconds(300))
            .unwrap_or(seconds(10)),
        publish_timeout: section
            .duration("publish_timeout", Duration::from_millis(100)..=seconds(300))
            .unwrap_or(seconds(10)),
        heartbeat: heartbeat(&mut section),
    }
}

/// AMQP counts the heartbeat in whole seconds; a fraction would be dropped without a word.
fn heartbeat(section: &mut Section<'_, '_>) -> Duration {
    let default = Duration::from_secs(15);
    let Some(time) = section.duration("heartbeat", Duration::from_secs(1)..=Duration::from_secs(600)) else {
        return default;
    };
    if time.subsec_nanos() != 0 {
        let place = section.place_of("heartbeat");
        section.wrong(&place, "heartbeat", "a part of a second is not allowed; give whole seconds");
    }
    time
}

fn urls(section: &mut Section<'_, '_>) -> Vec<Secret> {
    if !any_url_given(section) {
        section.missing("url", "url = \"amqp://guest:guest@127.0.0.1:5672/%2f\"");
    }
    let Some((name, found)) = section.pick(&URL_KEYS) else { return Vec::new() };
    let given = if name == "urls" {
        section.list("urls").map(|(urls, place)| (urls, place, "the value".to_owned()))
    } else {
        section.secret_text(&name, found).map(|text| {
            let urls = if name == "urls_file" {
                text.value.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            } else {
                vec![text.value]
            };
            (urls, text.place, text.called)
        })
    };
    let Some((urls, place, called)) = given else { return Vec::new() };
    if urls.is_empty() {
        section.wrong(&place, &name, format!("{called} is empty; give at least one URL"));
    }
    let several = urls.len() > 1;
    for (nth, url) in urls.iter().enumerate() {
        let which = if several { format!("URL {} of {}: ", nth + 1, urls.len()) } else { String::new() };
        match parse::broker_url(url) {
            Ok(without_effect) => {
                for remark in without_effect {
                    section.warn(&place, &name, format!("{which}{remark}"));
                }
            }
            Err(reason) => section.wrong(&place, &name, format!("{which}{}", reason.replace("the value", &called))),
        }
    }
    urls.into_iter().map(Secret::new).collect()
}

/// Notes the keys as known and looks at none of their values, nor into files they name.
fn any_url_given(section: &mut Section<'_, '_>) -> bool {
    let mut given = false;
    for key in URL_KEYS {
        given |= section.find(key).is_some();
        given |= section.find(&format!("{key}_file")).is_some();
    }
    given
}

fn name(section: &mut Section<'_, '_>, key: &str, default: &str) -> String {
    let Some((name, place)) = section.text(key) else { return default.to_owned() };
    if let Err(reason) = parse::queue_name(&name) {
        section.wrong(&place, key, reason);
    }
    name
}

/// The three queues; each has one role, else a reply would be taken for a request, or a dead letter for a reply.
fn queues(section: &mut Section<'_, '_>) -> [String; 3] {
    let keys = ["request_queue", "reply_queue", "dead_letter_queue"];
    let defaults = ["sharelink.requests", "sharelink.replies", "sharelink.dead"];
    let mut names: [String; 3] = Default::default();
    for ((key, default), slot) in keys.into_iter().zip(defaults).zip(names.iter_mut()) {
        *slot = name(section, key, default);
    }
    for (nth, (key, name)) in keys.iter().zip(&names).enumerate() {
        if let Some((other, _)) = keys.iter().zip(&names).take(nth).find(|(_, earlier)| *earlier == name) {
            // The later key may be a default; the mistake is then where the earlier one was written.
            let (key, other) = if section.find(key).is_some() { (key, other) } else { (other, key) };
            let place = section.place_of(key);
            section.wrong(&place, key, format!("{name:?} is the name of {other} too; give each its own queue"));
        }
    }
    names
}
