//! What is told as events and spans of `tracing`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use kafka_producer::Record;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::peer::{PRODUCE, Peer};
use crate::{joined, orders, settle, to_first};

/// Fields by name; an event's words are `message`.
type Fields = BTreeMap<&'static str, String>;

/// An event as it was told.
#[derive(Clone, Debug)]
struct Told {
    level: Level,
    fields: Fields,
    /// The spans it stands in, outermost first, with their fields.
    spans: Vec<(&'static str, Fields)>,
}

/// Everything this crate tells on this thread.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<Told>>>);

/// While `tracing` knows of one subscriber alone, whoever comes to an event first says for all
/// threads whether it is listened to, and a test beside this one listens to nothing. So there is a
/// second one, which nobody uses, for as long as the tests run.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));

impl Listener {
    fn start() -> (Self, DefaultGuard) {
        LazyLock::force(&SECOND);
        let listener = Self::default();
        let subscriber = Registry::default().with(listener.clone());
        (listener, tracing::subscriber::set_default(subscriber))
    }

    fn all(&self) -> Vec<Told> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// The only event with these words.
    #[track_caller]
    fn only(&self, words: &str) -> Told {
        let told = self.all();
        let mut found = told.iter().filter(|one| one.fields["message"] == words);
        let one = found.next().cloned();
        assert!(found.next().is_none(), "told twice: {words}");
        one.unwrap_or_else(|| panic!("{words} is not among {told:#?}"))
    }
}

impl Told {
    #[track_caller]
    fn assert_fields(&self, level: Level, expected: &[(&str, &str)]) {
        assert_eq!(self.level, level, "{self:?}");
        for (name, value) in expected {
            let found = self.fields.get(name).map(String::as_str);
            assert_eq!(found, Some(*value), "{name} of {self:#?}");
        }
    }
}

struct Reading<'a>(&'a mut Fields);

impl Visit for Reading<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Reading(&mut fields));
        let span = context.span(id).expect("just made");
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("kafka_producer") {
            return;
        }
        let mut fields = Fields::new();
        event.record(&mut Reading(&mut fields));
        let scope = context.event_scope(event).into_iter();
        let spans = scope.flat_map(|scope| scope.from_root()).map(|span| {
            let fields = span.extensions().get::<Fields>().cloned();
            (span.name(), fields.expect("each has some"))
        });
        self.0.lock().expect("not poisoned").push(Told {
            level: *event.metadata().level(),
            fields,
            spans: spans.collect(),
        });
    }
}

#[test]
fn what_a_thread_that_does_not_listen_comes_to_first_is_heard_here() {
    let (listener, _listening) = Listener::start();
    let say = || tracing::info!(target: "kafka_producer", "said");
    std::thread::spawn(say).join().expect("it does not panic");
    say();
    listener.only("said");
}

#[tokio::test(start_paused = true)]
async fn a_connections_life_is_told_within_its_span() {
    let (listener, _listening) = Listener::start();
    let peer = orders();
    let producer = joined(&peer).client_id("shop").build().expect("allowed");
    producer.deliver(to_first("v")).await.expect("written");
    peer.hang_up();
    settle().await;
    let lost = listener.only("connection lost");
    let expected = [
        ("connection", "0"),
        ("reason", "broker:9092: closed by the broker"),
    ];
    lost.assert_fields(Level::INFO, &expected);
    assert!(lost.fields.contains_key("back_off_ms"), "{lost:?}");
    let [(outer, of_producer), (inner, of_connection)] = &lost.spans[..] else {
        panic!("{lost:#?}")
    };
    assert_eq!((*outer, *inner), ("producer", "connection"));
    assert_eq!(of_producer["client_id"], "shop");
    assert_eq!(of_connection["address"], "broker:9092");
    listener
        .only("connection ready")
        .assert_fields(Level::DEBUG, &[("broker", "-1")]);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_address_is_a_warning() {
    let (listener, _listening) = Listener::start();
    let producer = joined(&orders().unreachable()).build().expect("allowed");
    let mut topic = Box::pin(producer.topic("orders"));
    assert!(!crate::is_ready(&mut topic));
    settle().await;
    let reason = ("reason", "broker:9092: refused");
    listener
        .only("cannot connect")
        .assert_fields(Level::WARN, &[("broker", "-1"), reason]);
}

#[tokio::test(start_paused = true)]
async fn what_is_learnt_is_told() {
    let (listener, _listening) = Listener::start();
    let producer = joined(&Peer::new(&[("orders", 2)]))
        .build()
        .expect("allowed");
    producer.topic("orders").await.expect("known");
    producer
        .topic("pears")
        .await
        .expect_err("unknown to the peer");
    let known = [("topic", "orders"), ("partitions", "2")];
    listener
        .only("topic known")
        .assert_fields(Level::DEBUG, &known);
    let refused = [("topic", "pears"), ("code", "17")];
    listener
        .only("topic refused")
        .assert_fields(Level::WARN, &refused);
    let given = [("producer_id", "4000"), ("epoch", "0")];
    listener
        .only("producer id given")
        .assert_fields(Level::INFO, &given);
}

#[tokio::test(start_paused = true)]
async fn a_batchs_way_is_told_with_its_attempts() {
    let (listener, _listening) = Listener::start();
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    peer.refuse_produce(19);
    producer.deliver(to_first("v")).await.expect("written");
    let of_batch = [
        ("topic", "orders"),
        ("partition", "0"),
        ("batch", "0"),
        ("records", "1"),
    ];
    let again = listener.only("batch will be sent again");
    again.assert_fields(Level::DEBUG, &of_batch);
    again.assert_fields(
        Level::DEBUG,
        &[("attempt", "1"), ("broker", "1"), ("code", "19")],
    );
    let written = listener.only("batch written");
    written.assert_fields(Level::TRACE, &of_batch);
    written.assert_fields(Level::TRACE, &[("attempt", "2")]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_failed_is_a_warning_that_says_whether_it_may_be_written() {
    let (listener, _listening) = Listener::start();
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    peer.refuse_produce(42);
    producer.deliver(to_first("v")).await.expect_err("refused");
    let refused = [("cause", "refused"), ("code", "42"), ("attempt", "1")];
    listener
        .only("batch failed; not written")
        .assert_fields(Level::WARN, &refused);
    // The next epoch follows the gap.
    let bumped = [("topic", "orders"), ("partition", "0"), ("epoch", "1")];
    listener
        .only("sequences start anew")
        .assert_fields(Level::INFO, &bumped);

    peer.hold(PRODUCE);
    let delivery = producer.send(to_first("v")).await.expect("accepted");
    settle().await;
    let closed = producer.close_timeout(Duration::ZERO).await;
    closed.expect_err("gives the batch up");
    delivery.await.expect_err("given up");
    listener
        .only("batch failed; possibly written")
        .assert_fields(Level::WARN, &[("cause", "producer closed")]);
}

#[tokio::test(start_paused = true)]
async fn what_records_hold_is_never_told_nor_anything_for_each_of_them() {
    let (listener, _listening) = Listener::start();
    let peer = orders();
    let producer = joined(&peer).build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let before = listener.all().len();
    let record = || {
        let record = Record::new().key("topsecret").value("topsecret");
        record.header("topsecret", "topsecret").partition(0)
    };
    drop(topic.send_all((0..100).map(|_| record())).await);
    producer.flush().await.expect("written");
    let told = listener.all();
    assert!(told.len() - before < 10, "{told:#?}");
    let text = format!("{told:?}");
    assert!(!text.contains("topsecret"), "{text}");
}
