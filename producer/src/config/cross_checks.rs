//! What keys demand of each other.
//!
//! *Invariants*
//! 1. What the user wrote stands, or is an error, or is adjusted and told with its reason; nothing
//!    gives way unseen.
//!
//! *Source*: Kafka's `ProducerConfig.postProcessParsedConfig` and what it calls,
//! `KafkaProducer.configureDeliveryTimeout`, `ExponentialBackoff`.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use crate::config::error::ConfigError;
use crate::config::values::Values;

/// Checks values against each other, and puts in force what gives way.
pub(crate) fn cross_check(values: &mut Values) -> Result<(), ConfigError> {
    adjust_waits(values);
    check_idempotence(values)?;
    check_transactions(values)?;
    name_client(values);
    check_delivery_timeout(values)?;
    check_resolving(values)?;
    adjust_sizes(values);
    check_partitioner(values)
}

/// A first wait above the longest one is never waited: the longest is, without growth.
fn adjust_waits(values: &mut Values) {
    const RECONNECT: &str = "reconnect.backoff.ms";
    const RECONNECT_MAX: &str = "reconnect.backoff.max.ms";
    if values.is_given(RECONNECT) && !values.is_given(RECONNECT_MAX) {
        let only = values.number(RECONNECT);
        if only != values.number(RECONNECT_MAX) {
            let reason = format!("{RECONNECT} was given without it, and is the only wait");
            values.adjust(RECONNECT_MAX, only, reason);
        }
    }
    for (first, longest) in [
        ("retry.backoff.ms", "retry.backoff.max.ms"),
        (RECONNECT, RECONNECT_MAX),
        (
            "socket.connection.setup.timeout.ms",
            "socket.connection.setup.timeout.max.ms",
        ),
    ] {
        let longest_ms = values.number(longest);
        if values.number(first) > longest_ms {
            let reason = format!("more than {longest}, which is waited from the first time on");
            values.adjust(first, longest_ms, reason);
        }
    }
}

/// Idempotence needs `acks=all`, retries and at most five requests in flight. Asked for by name it
/// is an error to lack the first two; as a default it gives way. The third is always an error.
fn check_idempotence(values: &mut Values) -> Result<(), ConfigError> {
    const KEY: &str = "enable.idempotence";
    const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
    if !values.is_true(KEY) {
        return Ok(());
    }
    let lacking = if values.number("retries") == 0 {
        Some(("retries", "1 to 2147483647"))
    } else if matches!(values.text("acks"), "0" | "1") {
        Some(("acks", "all, -1"))
    } else {
        None
    };
    if let Some((key, allowed)) = lacking
        && values.is_given(KEY)
    {
        let explanation = format!("{KEY}=true does not allow it; allowed with it: {allowed}");
        return Err(ConfigError::conflict(key, values.text(key), explanation));
    }
    if values.number(IN_FLIGHT) > 5 {
        let value = values.text(IN_FLIGHT);
        let explanation = format!("{KEY}=true does not allow it; allowed with it: 1 to 5");
        return Err(ConfigError::conflict(IN_FLIGHT, value, explanation));
    }
    if let Some((key, _)) = lacking {
        let value = values.text(key);
        let reason = format!("{key}={value} does not allow it; retries may duplicate records");
        values.adjust(KEY, false, reason);
    }
    Ok(())
}

/// Transactions stand on idempotence; an empty id is a mistake, not none.
fn check_transactions(values: &mut Values) -> Result<(), ConfigError> {
    const ID: &str = "transactional.id";
    if !values.is_given(ID) {
        return Ok(());
    }
    let id = values.text(ID);
    if id.is_empty() {
        let explanation = "empty; leave it out for a producer without transactions".to_owned();
        return Err(ConfigError::conflict(ID, id, explanation));
    }
    if !values.is_true("enable.idempotence") {
        let explanation = "needs enable.idempotence=true, acks=all and retries".to_owned();
        return Err(ConfigError::conflict(ID, id, explanation));
    }
    Ok(())
}

/// A producer without a name is `producer-<n>`, the n-th of this process, as Kafka's producer.
fn name_client(values: &mut Values) {
    static NAMELESS: AtomicU64 = AtomicU64::new(0);
    if !values.text("client.id").is_empty() {
        return;
    }
    let transactional_id = values.text("transactional.id").to_owned();
    if !transactional_id.is_empty() {
        let reason = "none was given; named for its transactional.id".to_owned();
        values.adjust(
            "client.id",
            format_args!("producer-{transactional_id}"),
            reason,
        );
    } else {
        let n = NAMELESS.fetch_add(1, Ordering::Relaxed) + 1;
        let reason = "none was given".to_owned();
        values.adjust("client.id", format_args!("producer-{n}"), reason);
    }
}

/// Only batches with a sequence can be sent again without a second copy of them.
fn check_resolving(values: &Values) -> Result<(), ConfigError> {
    const KEY: &str = "outcome.resolve.timeout.ms";
    const IDEMPOTENCE: &str = "enable.idempotence";
    if values.number(KEY) > 0 && !values.is_true(IDEMPOTENCE) {
        let explanation =
            format!("needs {IDEMPOTENCE}=true: without it, asking may write records twice");
        return Err(ConfigError::conflict(KEY, values.text(KEY), explanation));
    }
    if values.number(KEY) > 0 && !values.text("transactional.id").is_empty() {
        let explanation =
            "a transaction with such a record is aborted, which settles it".to_owned();
        return Err(ConfigError::conflict(KEY, values.text(KEY), explanation));
    }
    Ok(())
}

/// The whole time of a record covers lingering and one request; a default is raised to that.
fn check_delivery_timeout(values: &mut Values) -> Result<(), ConfigError> {
    const KEY: &str = "delivery.timeout.ms";
    const LINGER: &str = "linger.ms";
    let int_max = u64::from(i32::MAX.unsigned_abs());
    if values.number(LINGER) > int_max {
        let reason = format!("{KEY} is at most that, and covers it");
        values.adjust(LINGER, int_max, reason);
    }
    let needed_ms = values
        .number(LINGER)
        .saturating_add(values.number("request.timeout.ms"))
        .min(int_max);
    if values.number(KEY) >= needed_ms {
        return Ok(());
    }
    if values.is_given(KEY) {
        let explanation = format!(
            "less than linger.ms + request.timeout.ms; allowed with them: {needed_ms} to {int_max}"
        );
        return Err(ConfigError::conflict(KEY, values.text(KEY), explanation));
    }
    let reason = "it covers linger.ms + request.timeout.ms".to_owned();
    values.adjust(KEY, needed_ms, reason);
    Ok(())
}

fn adjust_sizes(values: &mut Values) {
    const BATCH: &str = "batch.size";
    const REQUEST: &str = "max.request.size";
    const MEMORY: &str = "buffer.memory";
    // A record of more than max.request.size is refused when it opens a batch; batches within that
    // size spare the check for each record that joins one.
    let request_bytes = values.number(REQUEST);
    if values.number(BATCH) > request_bytes {
        let reason = format!("a batch is sent in one request, of at most {REQUEST}");
        values.adjust(BATCH, request_bytes, reason);
    }
    let countable = u64::try_from(Semaphore::MAX_PERMITS).unwrap_or(u64::MAX);
    if values.number(MEMORY) > countable {
        let reason = "no more can be counted on this machine".to_owned();
        values.adjust(MEMORY, countable, reason);
    }
}

fn check_partitioner(values: &mut Values) -> Result<(), ConfigError> {
    const RACK_AWARE: &str = "partitioner.rack.aware";
    const RACK: &str = "client.rack";
    const CLASS: &str = "partitioner.class";
    const ADAPTIVE: &str = "partitioner.adaptive.partitioning.enable";
    const AVAILABILITY: &str = "partitioner.availability.timeout.ms";
    if values.is_true(RACK_AWARE) && values.text(RACK).is_empty() {
        let explanation = format!("needs {RACK}, which is empty");
        let value = values.text(RACK_AWARE);
        return Err(ConfigError::conflict(RACK_AWARE, value, explanation));
    }
    if values.is_true(ADAPTIVE) && !values.text(CLASS).is_empty() {
        let reason = format!("{CLASS} chooses partitions");
        values.adjust(ADAPTIVE, false, reason);
    }
    if values.number(AVAILABILITY) > 0 && !values.is_true(ADAPTIVE) {
        let reason = format!("it has no effect without {ADAPTIVE}");
        values.adjust(AVAILABILITY, 0, reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::ConfigErrorKind;
    use rstest::rstest;
    use std::collections::BTreeMap;

    fn checked(pairs: &[(&str, &str)]) -> Result<Values, ConfigError> {
        let given: BTreeMap<_, _> = pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let mut values = Values::new(&given).expect("each allowed");
        cross_check(&mut values)?;
        Ok(values)
    }

    const NONAME: (&str, &str) = ("client.id", "shop");
    const EXPLICIT: (&str, &str) = ("enable.idempotence", "true");
    const SIX: (&str, &str) = ("max.in.flight.requests.per.connection", "6");
    const RESOLVING: (&str, &str) = ("outcome.resolve.timeout.ms", "1");
    const LONG_MAX: &str = "9223372036854775807";

    #[test]
    fn defaults_need_no_adjustment() {
        let values = checked(&[NONAME]).expect("allowed");
        assert_eq!(values.adjusted_keys(), [""; 0]);
    }

    #[rstest]
    #[case::v2(&[EXPLICIT, ("retries", "0")], "retries", "1 to")]
    #[case::v3_none(&[EXPLICIT, ("acks", "0")], "acks", "all")]
    #[case::v3_leader(&[EXPLICIT, ("acks", "1")], "acks", "all")]
    #[case::v4(&[SIX], SIX.0, "1 to 5")]
    #[case::v4_explicit(&[EXPLICIT, SIX], SIX.0, "1 to 5")]
    #[case::v4_even_if_given_up(&[SIX, ("acks", "1")], SIX.0, "1 to 5")]
    #[case::resolving_in_transactions(
        &[RESOLVING, ("transactional.id", "tx")],
        RESOLVING.0,
        "aborted"
    )]
    #[case::resolving(&[("acks", "1"), RESOLVING], RESOLVING.0, "enable.idempotence=true")]
    #[case::v7(&[("delivery.timeout.ms", "30004")], "delivery.timeout.ms", "30005 to")]
    #[case::v11(&[("partitioner.rack.aware", "true")], "partitioner.rack.aware", "client.rack")]
    #[case::v11_blank(
        &[("partitioner.rack.aware", "true"), ("client.rack", " ")],
        "partitioner.rack.aware",
        "client.rack"
    )]
    fn a_contradiction_names_key_and_what_is_allowed(
        #[case] pairs: &[(&str, &str)],
        #[case] key: &str,
        #[case] told: &str,
    ) {
        let error = checked(pairs).expect_err("contradiction");
        assert_eq!(error.kind(), ConfigErrorKind::Conflict);
        assert_eq!(error.key(), key);
        assert!(error.to_string().contains(told), "{error}");
    }

    #[rstest]
    #[case::v2(&[("retries", "0")], "enable.idempotence", "false", "retries=0")]
    #[case::v3_none(&[("acks", "0")], "enable.idempotence", "false", "acks=0")]
    #[case::v3_leader(&[("acks", "1")], "enable.idempotence", "false", "acks=1")]
    #[case::v7(&[("request.timeout.ms", "200000")], "delivery.timeout.ms", "200005", "linger.ms")]
    #[case::v8(
        &[("reconnect.backoff.ms", "2000")],
        "reconnect.backoff.max.ms",
        "2000",
        "reconnect.backoff.ms"
    )]
    #[case::v8_shorter(
        &[("reconnect.backoff.ms", "20")],
        "reconnect.backoff.max.ms",
        "20",
        "reconnect.backoff.ms"
    )]
    #[case::v9(&[("retry.backoff.ms", "1001")], "retry.backoff.ms", "1000", "retry.backoff.max.ms")]
    #[case::v9_reconnect(
        &[("reconnect.backoff.ms", "9"), ("reconnect.backoff.max.ms", "8")],
        "reconnect.backoff.ms",
        "8",
        "reconnect.backoff.max.ms"
    )]
    #[case::v9_setup(
        &[("socket.connection.setup.timeout.ms", "30001")],
        "socket.connection.setup.timeout.ms",
        "30000",
        "socket.connection.setup.timeout.max.ms"
    )]
    #[case::v12(
        &[("partitioner.class", crate::config::keys::ROUND_ROBIN)],
        "partitioner.adaptive.partitioning.enable",
        "false",
        "partitioner.class"
    )]
    #[case::availability_without_adaptive(
        &[
            ("partitioner.availability.timeout.ms", "9"),
            ("partitioner.adaptive.partitioning.enable", "false"),
        ],
        "partitioner.availability.timeout.ms",
        "0",
        "partitioner.adaptive"
    )]
    #[case::batch_in_request(&[("batch.size", "2000000")], "batch.size", "1048576", "max.request")]
    fn what_gives_way_is_told_with_its_reason(
        #[case] pairs: &[(&str, &str)],
        #[case] key: &'static str,
        #[case] value: &str,
        #[case] reason: &str,
    ) {
        let values = checked(&[pairs, &[NONAME]].concat()).expect("allowed");
        assert_eq!(values.adjusted_keys(), [key]);
        assert_eq!(values.text(key), value);
        let told = &values.adjusted(key).expect("adjusted").reason;
        assert!(told.contains(reason), "{told}");
    }

    #[test]
    fn lingering_longer_than_any_delivery_is_cut_to_the_longest() {
        let values = checked(&[NONAME, ("linger.ms", LONG_MAX)]).expect("allowed");
        assert_eq!(values.text("linger.ms"), "2147483647");
        assert_eq!(values.text("delivery.timeout.ms"), "2147483647");
    }

    #[test]
    fn memory_beyond_what_can_be_counted_is_cut() {
        let values = checked(&[NONAME, ("buffer.memory", LONG_MAX)]).expect("allowed");
        assert_eq!(values.adjusted_keys(), ["buffer.memory"]);
        assert_eq!(values.bytes("buffer.memory"), Semaphore::MAX_PERMITS);
    }

    #[test]
    fn more_than_five_in_flight_are_allowed_without_idempotence() {
        let values = checked(&[SIX, ("enable.idempotence", "false")]).expect("allowed");
        assert_eq!(values.text(SIX.0), "6");
    }

    #[test]
    fn a_producer_without_a_name_gets_a_number() {
        let [first, second] = [(); 2].map(|()| checked(&[]).expect("defaults"));
        let names = [first.text("client.id"), second.text("client.id")];
        assert!(
            names.iter().all(|name| name.starts_with("producer-")),
            "{names:?}"
        );
        assert_ne!(names[0], names[1]);
    }
}
