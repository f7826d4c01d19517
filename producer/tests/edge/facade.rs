//! What is told through the facade of the crate `metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kafka_producer::Record;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::peer::PRODUCE;
use crate::{MS, joined, orders, settle, to_first};

/// What was told, by `name{label=value,…}`; a histogram's are its values.
type Told = BTreeMap<String, Vec<f64>>;

/// A recorder that keeps everything.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Told>>);

/// Where the values of one metric are kept.
struct Note {
    notes: Notes,
    key: String,
}

impl Notes {
    fn told(&self) -> Told {
        self.0.lock().expect("not poisoned").clone()
    }

    /// A metric of this key, which starts with these values.
    fn note(&self, key: &Key, start: &[f64]) -> Arc<Note> {
        let labels = key.labels().map(|l| format!("{}={}", l.key(), l.value()));
        let labels = labels.collect::<Vec<_>>().join(",");
        let key = format!("{}{{{labels}}}", key.name());
        let mut told = self.0.lock().expect("not poisoned");
        let before = told.insert(key.clone(), start.to_vec());
        assert_eq!(before, None, "{key} is asked for once");
        let notes = self.clone();
        Arc::new(Note { notes, key })
    }
}

impl Note {
    fn change(&self, change: impl FnOnce(&mut Vec<f64>)) {
        let mut told = self.notes.0.lock().expect("not poisoned");
        change(told.get_mut(&self.key).expect("asked for"));
    }
}

impl CounterFn for Note {
    fn increment(&self, by: u64) {
        let by = f64::from(u32::try_from(by).expect("small"));
        self.change(|values| values[0] += by);
    }

    fn absolute(&self, _: u64) {
        panic!("counters only count up");
    }
}

impl GaugeFn for Note {
    fn increment(&self, by: f64) {
        self.change(|values| values[0] += by);
    }

    fn decrement(&self, by: f64) {
        self.change(|values| values[0] -= by);
    }

    fn set(&self, value: f64) {
        self.change(|values| values[0] = value);
    }
}

impl HistogramFn for Note {
    fn record(&self, value: f64) {
        self.change(|values| values.push(value));
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, unit: Option<Unit>, _: SharedString) {
        assert!(unit.is_some());
    }

    fn describe_gauge(&self, _: KeyName, unit: Option<Unit>, _: SharedString) {
        assert!(unit.is_some());
    }

    fn describe_histogram(&self, _: KeyName, unit: Option<Unit>, _: SharedString) {
        assert!(unit.is_some());
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key, &[0.0]))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.note(key, &[0.0]))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.note(key, &[]))
    }
}

#[track_caller]
fn assert_told(told: &Told, expected: &[(&str, &[f64])]) {
    for (name, values) in expected {
        let found = told.get(&format!("kafka_producer_{name}"));
        assert_eq!(found.map(Vec::as_slice), Some(*values), "{name}: {told:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_told_to_the_recorder_with_its_labels() {
    let recorder = Notes::default();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let peer = orders();
    let builder = joined(&peer).client_id("shop").linger(20 * MS);
    let producer = builder.build().expect("allowed");
    let topic = producer.topic("orders").await.expect("known");
    let sends = [(); 3].map(|()| Record::new().partition(0).value("v"));
    for delivery in topic.send_all(sends).await {
        delivery.expect("accepted").await.expect("written");
    }
    peer.hold(PRODUCE);
    let held = producer.send(to_first("v")).await.expect("accepted");
    producer
        .send(Record::to("orders").partition(9).value("v"))
        .await
        .expect_err("no such partition");
    settle().await;
    let told = recorder.told();
    assert_told(
        &told,
        &[
            ("record_send_total{client_id=shop,topic=orders}", &[3.0]),
            ("record_error_total{client_id=shop,topic=orders}", &[0.0]),
            ("record_refused_total{client_id=shop}", &[1.0]),
            ("records_per_request{client_id=shop}", &[3.0]),
            ("connection_count{client_id=shop}", &[1.0]),
            ("requests_in_flight{client_id=shop}", &[0.0]),
            ("buffer_total_bytes{client_id=shop}", &[33_554_432.0]),
            ("buffer_available_bytes{client_id=shop}", &[33_554_432.0]),
        ],
    );
    let queued = &told["kafka_producer_record_queue_time_seconds{client_id=shop,topic=orders}"];
    assert!((0.020..0.022).contains(&queued[0]), "{queued:?} seconds");
    for (stage, seconds) in [("filling", &queued[..1]), ("ready", &[0.0])] {
        let told = &told[&format!("kafka_producer_batch_{stage}_time_seconds{{client_id=shop}}")];
        assert_eq!(told, seconds, "{stage}");
    }
    let sizes = &told["kafka_producer_batch_size_bytes{client_id=shop,topic=orders}"];
    let bytes = &told["kafka_producer_byte_total{client_id=shop,topic=orders}"];
    assert_eq!(sizes, bytes);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_and_waited_for_is_told_to_the_recorder() {
    let recorder = Notes::default();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let peer = orders();
    let builder = joined(&peer).client_id("shop").retries(0);
    let producer = builder.build().expect("allowed");
    peer.hold(PRODUCE);
    let delivery = producer.send(to_first("v")).await.expect("accepted");
    settle().await;
    peer.hang_up();
    delivery.await.expect_err("lost");
    let told = recorder.told();
    assert_told(
        &told,
        &[
            ("record_error_total{client_id=shop,topic=orders}", &[1.0]),
            ("record_unknown_total{client_id=shop,topic=orders}", &[1.0]),
            ("connection_creation_total{client_id=shop}", &[1.0]),
            ("connection_close_total{client_id=shop}", &[1.0]),
            ("connection_count{client_id=shop}", &[0.0]),
            ("metadata_wait_time_seconds{client_id=shop}", &[0.0]),
        ],
    );
}
