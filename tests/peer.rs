//! The RabbitMQ door against a scripted peer: orders of frames that a real broker seldom shows. Whatever the peer does,
//! a reply is proven only by its own confirm, the generation is rebuilt where it has to be, and nothing hangs.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/amqp_peer.rs"]
mod amqp_peer;
#[path = "support/door.rs"]
mod door;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_peer::{Answer, Handshake, Line, Message, Peer, Seen};
use door::{Door, Outcome, SOON, ack, answer, reply, settings, soon, until};
use sharelink::broker::Publisher;
use sharelink::broker::StartError;
use sharelink::model::{Envelope, Secret};
use sharelink::pipeline::ports::{Outbox, PublishFailure};
use sharelink::pipeline::settle::{RequeueCause, Settlement};
use tokio::time::{Instant, timeout};

/// What each request's reply came to, by the request's tag.
#[derive(Clone, Default)]
struct Verdicts(Arc<Mutex<BTreeMap<u64, String>>>);

impl Verdicts {
    /// Replies once, notes the verdict, and gives the request back at once where there is no proof.
    fn script(&self) -> impl Fn(Envelope, Publisher) -> futures_util::future::BoxFuture<'static, Outcome> + use<> {
        let verdicts = self.clone();
        move |envelope, outbox| {
            let verdicts = verdicts.clone();
            Box::pin(async move {
                let result = outbox.reply(&envelope, &reply(&envelope)).await;
                let verdict = match &result {
                    Ok(_) => "safe".to_owned(),
                    Err(PublishFailure::Unroutable(_)) => "unroutable".to_owned(),
                    Err(PublishFailure::Unconfirmed(why)) => format!("unconfirmed: {why}"),
                };
                let tag = String::from_utf8_lossy(&envelope.body).parse().unwrap();
                verdicts.0.lock().unwrap().insert(tag, verdict);
                result.map_or(Settlement::Requeue(RequeueCause::Stopping), ack)
            })
        }
    }

    async fn all(&self, wanted: usize) -> BTreeMap<u64, String> {
        until("every verdict", || self.0.lock().unwrap().len() == wanted).await;
        self.0.lock().unwrap().clone()
    }

    fn none_yet(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

/// A worker at a peer, with requests 1 to `requests` delivered and their replies published, in this order of tags.
struct Setting {
    peer: Peer,
    door: Door,
    verdicts: Verdicts,
    consume: Line,
    publish: Line,
    /// Published messages by the request they answer.
    messages: BTreeMap<u64, Message>,
}

impl Setting {
    async fn new(requests: u64) -> Self {
        let mut peer = Peer::listen().await;
        let verdicts = Verdicts::default();
        let mut settings = settings(&[peer.url()]);
        settings.publish_timeout = Duration::from_secs(20);
        let door = Door::open(&settings, verdicts.script());
        let consume = peer.consuming().await;
        consume.deliver(1..=requests);
        let mut messages = BTreeMap::new();
        let mut publish = None;
        for _ in 0..requests {
            let (line, message) = peer.published().await;
            publish = Some(line);
            messages.insert(message.id().parse().unwrap(), message);
        }
        Self { peer, door, verdicts, consume, publish: publish.unwrap(), messages }
    }

    /// The confirm tag of the reply to a request.
    fn tag(&self, request: u64) -> u64 {
        self.messages[&request].tag
    }

    /// The request whose reply has this confirm tag.
    fn at(&self, tag: u64) -> &Message {
        self.messages.values().find(|message| message.tag == tag).unwrap()
    }
}

fn said(verdicts: &BTreeMap<u64, String>, wanted: &str) -> Vec<u64> {
    verdicts.iter().filter(|(_, verdict)| verdict.starts_with(wanted)).map(|(tag, _)| *tag).collect()
}

#[tokio::test]
async fn one_confirm_for_many_replies_proves_all_of_them_and_no_later_one() {
    let mut setting = Setting::new(6).await;
    setting.publish.answers(&[Answer::AckUpTo(5)]);
    let last: u64 = setting.at(6).id().parse().unwrap();
    let verdicts = setting.verdicts.all(5).await;
    assert_eq!(said(&verdicts, "safe").len(), 5);
    assert!(!verdicts.contains_key(&last), "the sixth was not confirmed");
    let (acked, back) = setting.peer.settled(5).await;
    assert_eq!(acked, (1..=6).filter(|tag| *tag != last).collect::<Vec<_>>());
    assert!(back.is_empty());
    setting.publish.answers(&[Answer::Ack(6)]);
    assert_eq!(setting.peer.settled(1).await.0, [last]);
    assert_eq!(setting.door.reconnects(), 0);
}

#[tokio::test]
async fn a_return_before_the_confirms_of_other_messages_counts_for_the_message_that_came_back() {
    // Each case: what the peer says, by confirm tag, and which of the four messages has come back.
    enum Say {
        Back(u64),
        Ack(u64),
        UpTo(u64),
    }
    use Say::{Ack, Back, UpTo};
    let cases: [(&[Say], &[u64]); 6] = [
        (&[Back(3), Ack(1), Ack(2), Ack(3), Ack(4)], &[3]),
        (&[Back(2), Back(4), UpTo(4)], &[2, 4]),
        // The library puts the first return beside the first confirm, whoever it belongs to.
        (&[Back(1), Back(4), Ack(4), Ack(1), Ack(2), Ack(3)], &[1, 4]),
        (&[Ack(2), Back(1), Back(3), Ack(4), Ack(3), Ack(1)], &[1, 3]),
        (&[Back(4), UpTo(3), Ack(4)], &[4]),
        (&[UpTo(2), Back(3), Ack(4), Ack(3)], &[3]),
    ];
    for (number, (order, lost)) in cases.into_iter().enumerate() {
        for together in [true, false] {
            let mut setting = Setting::new(4).await;
            let answers: Vec<Answer<'_>> = order
                .iter()
                .map(|say| match *say {
                    Back(tag) => Answer::Return(setting.at(tag)),
                    Ack(tag) => Answer::Ack(tag),
                    UpTo(tag) => Answer::AckUpTo(tag),
                })
                .collect();
            if together {
                setting.publish.answers(&answers);
            } else {
                for answer in answers {
                    setting.publish.answers(&[answer]);
                    // Long enough for the worker to find it alone.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            let verdicts = setting.verdicts.all(4).await;
            let mut wanted: Vec<u64> = lost.iter().map(|tag| setting.at(*tag).id().parse().unwrap()).collect();
            wanted.sort_unstable();
            assert_eq!(said(&verdicts, "unroutable"), wanted, "case {number}, together {together}");
            assert_eq!(said(&verdicts, "safe").len(), 4 - lost.len(), "case {number}, together {together}");
            let (acked, back) = setting.peer.settled(4).await;
            assert_eq!(back, wanted, "case {number}, together {together}");
            assert_eq!(acked, said(&verdicts, "safe"), "case {number}, together {together}");
        }
    }
}

#[tokio::test]
async fn a_reply_that_the_broker_refuses_is_not_proven_and_its_neighbours_are() {
    let mut setting = Setting::new(3).await;
    let refused = setting.tag(2);
    let others: Vec<u64> = (1..=3).filter(|tag| *tag != refused).collect();
    setting.publish.answers(&[Answer::Ack(others[0]), Answer::Nack(refused), Answer::Ack(others[1])]);
    let verdicts = setting.verdicts.all(3).await;
    assert_eq!(said(&verdicts, "safe"), [1, 3]);
    assert!(verdicts[&2].contains("basic.nack"), "{verdicts:?}");
    assert_eq!(setting.peer.settled(3).await, (vec![1, 3], vec![2]));
    assert_eq!(setting.door.reconnects(), 0);
}

#[tokio::test]
async fn a_channel_by_which_a_queue_refuses_everything_is_replaced_after_the_confirms_that_are_still_to_come() {
    let mut peer = Peer::listen().await;
    let mut settings = settings(&[peer.url()]);
    settings.publish_timeout = Duration::from_secs(20);
    let door = Door::open(&settings, |envelope, outbox| async move {
        loop {
            if let Ok(proof) = outbox.reply(&envelope, &reply(&envelope)).await {
                return ack(proof);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    peer.consuming().await.deliver(1..=2);
    let (line, neighbour) = peer.published().await;
    let began = Instant::now();
    // A second at least, so that it is no passing refusal.
    while began.elapsed() < Duration::from_millis(1500) {
        match timeout(Duration::from_millis(500), peer.published()).await {
            Ok((again, message)) => {
                assert_eq!(again.number(), line.number(), "a reply on its way was given up");
                again.answers(&[Answer::Nack(message.tag)]);
            }
            // It waits for the last confirm.
            Err(_) => break,
        }
    }
    line.answers(&[Answer::Ack(neighbour.tag)]);
    let (renewed, message) = peer.published().await;
    assert_ne!(renewed.number(), line.number(), "the channel is still the same");
    assert_ne!(message.id(), neighbour.id());
    renewed.answers(&[Answer::Ack(message.tag)]);
    // The neighbour's acknowledgement came before, or goes out with this one.
    let own: u64 = message.id().parse().unwrap();
    let mut settled = peer.settled(1).await;
    if settled.0 == [neighbour.id().parse::<u64>().unwrap()] {
        settled = peer.settled(1).await;
    }
    assert_eq!((settled.0.last(), settled.1), (Some(&own), vec![]));
    assert_eq!(door.reconnects(), 0);
}

#[tokio::test]
async fn a_subscription_ended_by_the_broker_is_made_again_on_new_connections() {
    let mut setting = Setting::new(1).await;
    setting.consume.cancel();
    let why = setting.door.not_ready().await;
    assert!(why.contains("ended the subscription"), "{why}");
    setting.peer.rules().confirms = true;
    let again = setting.peer.consuming().await;
    setting.door.ready().await;
    again.deliver(1..=1);
    assert_eq!(setting.peer.settled(1).await.0, [1]);
    assert_eq!(setting.door.reconnects(), 1);
}

#[tokio::test]
async fn a_channel_ended_by_the_broker_leaves_no_reply_proven_and_is_rebuilt() {
    for (code, text) in [(406, "PRECONDITION_FAILED - unknown delivery tag"), (404, "NOT_FOUND - no queue")] {
        for publishing in [true, false] {
            let mut setting = Setting::new(4).await;
            setting.publish.answers(&[Answer::Ack(1)]);
            let first: u64 = setting.at(1).id().parse().unwrap();
            assert_eq!(setting.peer.settled(1).await.0, [first]);
            let line = if publishing { &setting.publish } else { &setting.consume };
            line.close_channel(code, text);
            let why = setting.door.not_ready().await;
            assert!(why.contains("channel") || why.contains("consumer") || why.contains(text), "{why}");
            let verdicts = setting.verdicts.all(4).await;
            assert_eq!(said(&verdicts, "safe"), [first], "{code} {publishing}");
            assert_eq!(said(&verdicts, "unconfirmed").len(), 3, "{code} {publishing}");
            setting.peer.rules().confirms = true;
            setting.peer.rest();
            let again = setting.peer.consuming().await;
            // The tags of the new channel are its own; nothing of the old one may be acknowledged on it.
            again.deliver(1..=2);
            let (acked, back) = setting.peer.settled(2).await;
            assert_eq!((acked.as_slice(), back.as_slice()), (&[1, 2][..], &[][..]), "{code} {publishing}");
            setting.door.ready().await;
            // Given back in the moment before the old connection was closed, or not at all.
            until("three settlements", || {
                let door = &setting.door;
                door.settlements("stale", "connection_lost") + door.settlements("requeue", "stopping") == 3
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_connection_blocked_for_long_pauses_the_worker_and_is_not_given_up() {
    let mut peer = Peer::listen().await;
    peer.rules().waiting = 7;
    let mut settings = settings(&[peer.url()]);
    // Its patience with a silent broker is four times this, and its patience with an idle subscription 3 s.
    settings.publish_timeout = Duration::from_millis(200);
    let verdicts = Verdicts::default();
    let door = Door::open(&settings, verdicts.script());
    let consume = peer.consuming().await;
    consume.deliver(1..=1);
    let (publish, _) = peer.published().await;
    publish.block("low on memory");
    assert!(door.not_ready().await.contains("low on memory"));
    let held = verdicts.all(1).await;
    assert!(held[&1].contains("publish_timeout"), "{held:?}");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(door.reconnects(), 0, "{:?}", door.health.ready());
        assert!(door.health.ready().is_err());
    }
    peer.rules().confirms = true;
    publish.unblock();
    let again = peer.consuming().await;
    door.ready().await;
    again.deliver(2..=2);
    assert_eq!(soon("an acknowledgement", peer.settled(1)).await.0.last(), Some(&2));
    assert_eq!(door.reconnects(), 0);
}

#[tokio::test]
async fn a_broker_that_confirms_nothing_is_left_and_nothing_is_acknowledged() {
    let mut peer = Peer::listen().await;
    let mut settings = settings(&[peer.url()]);
    settings.publish_timeout = Duration::from_millis(300);
    let verdicts = Verdicts::default();
    let door = Door::open(&settings, verdicts.script());
    peer.consuming().await.deliver(1..=3);
    let said = verdicts.all(3).await;
    assert!(said.values().all(|verdict| verdict.contains("publish_timeout")), "{said:?}");
    let why = door.not_ready().await;
    assert!(why.contains("confirmed nothing"), "{why}");
    assert!(!peer.rest().iter().any(|seen| matches!(seen, Seen::Acked { .. })));
    peer.rules().confirms = true;
    let again = peer.consuming().await;
    again.deliver(4..=4);
    assert_eq!(peer.settled(1).await.0.last(), Some(&4));
}

#[tokio::test]
async fn a_confirm_that_comes_after_its_time_proves_nothing_any_more() {
    let mut peer = Peer::listen().await;
    let mut settings = settings(&[peer.url()]);
    settings.publish_timeout = Duration::from_secs(1);
    let verdicts = Verdicts::default();
    let door = Door::open(&settings, verdicts.script());
    peer.consuming().await.deliver(1..=1);
    let (publish, message) = peer.published().await;
    assert!(verdicts.none_yet());
    let verdict = verdicts.all(1).await;
    publish.answers(&[Answer::Ack(message.tag)]);
    assert!(verdict[&1].starts_with("unconfirmed"), "{verdict:?}");
    door.stop().await;
    let acked = peer.rest().iter().any(|seen| matches!(seen, Seen::Acked { .. }));
    assert!(!acked, "the request was acknowledged for a reply that was given up");
}

#[tokio::test]
async fn messages_that_wait_and_do_not_come_have_the_subscription_made_again() {
    let mut peer = Peer::listen().await;
    peer.rules().waiting = 7;
    let door = Door::open(&settings(&[peer.url()]), answer);
    let dead = peer.consuming().await;
    door.ready().await;
    let why = door.not_ready().await;
    assert!(why.contains("7 messages wait in the request queue and none was delivered"), "{why}");
    peer.rules().confirms = true;
    let again = peer.consuming().await;
    peer.rules().waiting = 0;
    door.ready().await;
    again.deliver(1..=1);
    assert_eq!(peer.settled(1).await.0, [1]);
    drop(dead);
    assert_eq!(door.reconnects(), 1);
}

#[tokio::test]
async fn a_handshake_that_never_ends_holds_neither_the_worker_nor_a_connection() {
    for handshake in [Handshake::SilentFromTheStart, Handshake::SilentAfterStart, Handshake::SilentAfterTune] {
        let mut peer = Peer::listen().await;
        peer.rules().handshake = handshake;
        // Ten attempts in one round, all of them hanging.
        let mut settings = settings(&vec![peer.url(); 10]);
        settings.connect_timeout = Duration::from_millis(100);
        let door = Door::open(&settings, answer);
        let mut open = 0;
        for _ in 0..10 {
            peer.next("an attempt", |seen| matches!(seen, Seen::Accepted).then_some(())).await;
            open += 1;
            // Each attempt is over, at the socket too, before the next one begins.
            peer.next("the end of it", |seen| matches!(seen, Seen::Ended).then_some(())).await;
            open -= 1;
        }
        assert_eq!(open, 0);
        let why = door.health.ready().unwrap_err();
        assert!(why.contains("starting") || why.contains("connect_timeout"), "{why}");
        assert_eq!(door.health.live(Instant::now()), Ok(()));
        peer.rules().handshake = Handshake::Complete;
        peer.consuming().await;
        door.ready().await;
        door.stop().await;
    }
}

#[tokio::test]
async fn a_handshake_that_is_broken_off_is_tried_again() {
    for handshake in [Handshake::Refuse(320, "CONNECTION_FORCED - node is shutting down"), Handshake::Garbage] {
        let mut peer = Peer::listen().await;
        peer.rules().handshake = handshake;
        let door = Door::open(&settings(&[peer.url()]), answer);
        for _ in 0..2 {
            peer.next("an attempt", |seen| matches!(seen, Seen::Accepted).then_some(())).await;
        }
        peer.rules().handshake = Handshake::Complete;
        peer.consuming().await;
        door.ready().await;
        door.stop().await;
    }
}

#[tokio::test]
async fn a_refused_virtual_host_ends_the_start_but_not_a_worker_that_was_ready() {
    let refuse = Handshake::Refuse(530, "NOT_ALLOWED - vhost / not found");
    let mut peer = Peer::listen().await;
    peer.rules().handshake = refuse;
    let door = Door::open(&settings(&[peer.url()]), answer);
    let error = soon("the worker gives up", door.worker).await.unwrap().unwrap_err();
    assert!(matches!(&error, StartError::Connect(_)) && error.to_string().contains("vhost"), "{error}");

    peer.rules().handshake = Handshake::Complete;
    let door = Door::open(&settings(&[peer.url()]), answer);
    let consume = peer.consuming().await;
    door.ready().await;
    peer.rules().handshake = refuse;
    consume.cancel();
    door.not_ready().await;
    until("it is tried in vain", || door.health.ready().is_err_and(|why| why.contains("vhost"))).await;
    peer.rules().handshake = Handshake::Complete;
    peer.consuming().await;
    door.ready().await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_generation_and_the_next_one_works() {
    let mut setting = Setting::new(1).await;
    setting.publish.raw(&[0xff; 64]);
    setting.door.not_ready().await;
    assert!(setting.verdicts.all(1).await[&1].starts_with("unconfirmed"));
    setting.peer.rules().confirms = true;
    let again = setting.peer.consuming().await;
    again.deliver(1..=1);
    assert_eq!(setting.peer.settled(1).await.0, [1]);
}

#[tokio::test]
async fn a_node_that_hangs_is_passed_over_for_one_that_answers() {
    let silent = Peer::listen().await;
    silent.rules().handshake = Handshake::SilentFromTheStart;
    let mut peer = Peer::listen().await;
    peer.rules().confirms = true;
    let mut settings = settings(&[silent.url(), peer.url()]);
    settings.connect_timeout = Duration::from_millis(200);
    settings.urls.push(Secret::new(silent.url()));
    let began = Instant::now();
    let door = Door::open(&settings, answer);
    peer.consuming().await.deliver(1..=1);
    assert_eq!(peer.settled(1).await.0, [1]);
    assert!(began.elapsed() < SOON / 2);
    door.stop().await;
}
