//! Looks at the broker as a worker will find it: what is missing, what is otherwise than configured, what is not allowed.
//!
//! Nothing is made, changed, taken or sent: things are asked for passively, declared only where they are there already,
//! and permissions are tried with requests that the broker refuses for another reason after it has checked them.

use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ErrorKind};
use tokio::time::timeout;

use super::connection::{ConnectError, Dialer, SMALL_FRAMES};
use super::findings::{Finding, Verdict, different, forbidden};
use super::headers::short;
use super::topology::{Desk, Queue, code, delay_prefix, queues};
use crate::config::{self, Topology};

/// All questions together.
const WITHIN: Duration = Duration::from_secs(60);

/// Whether the permission to consume has to be tried. lapin logs the refusal that this takes as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consuming {
    /// It has to be.
    Untried,
    /// The worker consumes already.
    Proven,
}

/// Connects, looks, and closes the connection.
///
/// # Errors
/// Where there is no connection.
pub async fn look(settings: &config::Broker, name: &str, consuming: Consuming) -> Result<Vec<Finding>, ConnectError> {
    let connection = Dialer::new(settings)?.dial(name, Some(SMALL_FRAMES)).await?;
    let status = connection.status();
    let mut findings =
        vec![Finding::good(format!("broker: connected as {:?} to {:?}", status.username(), status.vhost().as_str()))];
    match timeout(WITHIN, inspect(&connection, settings, consuming, &mut findings)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => findings.push(Finding::bad(format!("the broker stopped answering: {error}"))),
        Err(_) => findings.push(Finding::bad(format!("the broker did not answer within {} s", WITHIN.as_secs()))),
    }
    let _ = timeout(settings.publish_timeout, connection.close(200, short("OK"))).await;
    Ok(findings)
}

/// # Errors
/// Where the connection is lost; what was found before that stays.
async fn inspect(
    connection: &Connection,
    settings: &config::Broker,
    consuming: Consuming,
    findings: &mut Vec<Finding>,
) -> lapin::Result<()> {
    let mut desk = Desk::new(connection);
    findings.push(exchange(&mut desk, settings).await?);
    let prefix = delay_prefix(&settings.request_queue);
    let mut requests_there = false;
    let mut delays = Vec::new();
    for Queue { name, arguments } in queues(settings) {
        let state = state(&mut desk, &name, arguments).await?;
        requests_there |= name == settings.request_queue && !matches!(state, State::Missing | State::Forbidden(_));
        if name.starts_with(&prefix) {
            delays.push((name, state));
        } else {
            findings.push(told(&name, state, settings));
        }
    }
    findings.extend(delay_queues(delays, &prefix, settings));
    if requests_there && consuming == Consuming::Untried {
        findings.extend(reading(&mut desk, settings).await?);
    }
    findings.push(writing(&mut desk).await?);
    Ok(())
}

/// How a queue was found.
enum State {
    AsConfigured,
    /// There, and the broker says in what it differs.
    Different(String),
    /// There; whether it is as configured cannot be asked without the permission to configure it.
    Unasked,
    Missing,
    Forbidden(String),
    /// Refused for another reason.
    Refused(String),
}

async fn state(desk: &mut Desk<'_>, name: &str, arguments: FieldTable) -> lapin::Result<State> {
    let queue = short(name);
    if let Err(error) = desk.queue(&queue, true, FieldTable::default()).await {
        return Ok(match refusal(error)? {
            (404, _) => State::Missing,
            (403, words) => State::Forbidden(words),
            (_, words) => State::Refused(words),
        });
    }
    // It is there, so this declares nothing; it only has the broker compare.
    Ok(match desk.queue(&queue, false, arguments).await {
        Ok(()) => State::AsConfigured,
        Err(error) => match refusal(error)? {
            (403, _) => State::Unasked,
            (_, words) => State::Different(words),
        },
    })
}

fn told(name: &str, state: State, settings: &config::Broker) -> Finding {
    let declares = settings.topology == Topology::Declare;
    match state {
        State::AsConfigured => Finding::good(format!("queue {name:?}: there, as configured")),
        State::Different(words) => different(name, &words, settings),
        State::Unasked if declares => {
            Finding::remark(format!("queue {name:?}: there, but not ours to declare; it is used as it is"))
        }
        State::Unasked => Finding::good(format!("queue {name:?}: there")),
        State::Missing => missing("queue", name, settings),
        State::Forbidden(words) => forbidden(&format!("look at queue {name:?}"), "configure", name, &words),
        State::Refused(words) => Finding::bad(format!("queue {name:?} cannot be used. The broker: {words}")),
    }
}

fn missing(what: &str, name: &str, settings: &config::Broker) -> Finding {
    match settings.topology {
        Topology::Declare => Finding::good(format!("{what} {name:?}: not there yet; a worker makes it when it starts")),
        Topology::Verify => Finding::bad(format!(
            "{what} {name:?} is missing, and topology = \"verify\"; create it, or set broker.topology = \"declare\""
        )),
    }
}

/// One line for all that are alike.
fn delay_queues(all: Vec<(String, State)>, prefix: &str, settings: &config::Broker) -> Vec<Finding> {
    let total = all.len();
    let (mut good, mut absent, mut findings) = (0, 0, Vec::new());
    for (name, state) in all {
        match state {
            State::Missing => absent += 1,
            state => match told(&name, state, settings) {
                Finding { verdict: Verdict::Good, .. } => good += 1,
                finding => findings.push(finding),
            },
        }
    }
    if good > 0 {
        findings
            .insert(0, Finding::good(format!("delay queues \"{prefix}*\": {good} of {total} there, as configured")));
    }
    if absent > 0 {
        findings.push(missing(&format!("{absent} of {total} delay queues"), &format!("{prefix}*"), settings));
    }
    findings
}

async fn exchange(desk: &mut Desk<'_>, settings: &config::Broker) -> lapin::Result<Finding> {
    let name = &settings.exchange;
    let exchange = short(name);
    if let Err(error) = desk.exchange(&exchange, true).await {
        return Ok(match refusal(error)? {
            (404, _) => missing("exchange", name, settings),
            (403, words) => forbidden(&format!("look at exchange {name:?}"), "configure", name, &words),
            (_, words) => Finding::bad(format!("exchange {name:?} cannot be used. The broker: {words}")),
        });
    }
    Ok(match desk.exchange(&exchange, false).await {
        Ok(()) => Finding::good(format!(
            "exchange {name:?}: there, as configured; whether {:?} is bound to it cannot be asked",
            settings.request_queue
        )),
        Err(error) => match refusal(error)? {
            (403, _) => Finding::good(format!("exchange {name:?}: there")),
            (_, words) => Finding::remark(format!(
                "exchange {name:?} is there and otherwise than configured; requests reach the worker through it only if it \
                 is bound to {:?} with routing key {:?}. The broker: {words}",
                settings.request_queue,
                super::topology::ROUTING_KEY
            )),
        },
    })
}

/// Whether requests may be consumed: a subscription with an argument that is no number. The broker looks at the permission
/// first and then refuses the argument, so that nothing is delivered.
async fn reading(desk: &mut Desk<'_>, settings: &config::Broker) -> lapin::Result<Option<Finding>> {
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-priority"), AMQPValue::LongString("none".into()));
    let channel = desk.channel().await?;
    let queue = &settings.request_queue;
    let tried = channel.basic_consume(short(queue), short(""), BasicConsumeOptions::default(), arguments).await;
    Ok(match tried.map(drop) {
        // A broker that takes the argument after all; the subscription has just been dropped with its consumer.
        Ok(()) => None,
        Err(error) => match refusal(error)? {
            (403, words) => Some(forbidden(&format!("consume from queue {queue:?}"), "read", queue, &words)),
            _ => Some(Finding::good(format!("permission to consume from {queue:?}"))),
        },
    })
}

/// Whether replies may be published: a message for a queue that nobody has, which the broker returns.
async fn writing(desk: &mut Desk<'_>) -> lapin::Result<Finding> {
    let nowhere = format!("sharelink-check-{}", uuid::Uuid::new_v4());
    let channel = desk.channel().await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publish = async {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let properties = BasicProperties::default();
        channel.basic_publish(ShortString::default(), short(&nowhere), options, b"", properties).await?.await
    };
    Ok(match publish.await {
        Ok(_) => Finding::good("permission to publish replies"),
        Err(error) => match refusal(error)? {
            (403, words) => forbidden("publish replies through the default exchange", "write", "amq.default", &words),
            (_, words) => Finding::bad(format!("replies cannot be published. The broker: {words}")),
        },
    })
}

/// The broker's refusal of one request: its number and its words.
///
/// # Errors
/// What was no refusal but the end of the connection.
fn refusal(error: lapin::Error) -> lapin::Result<(u16, String)> {
    match (code(&error), error.kind()) {
        (Some(code), ErrorKind::ProtocolError(refusal)) => Ok((code, refusal.get_message().as_str().to_owned())),
        _ => Err(error),
    }
}
