//! Kafka's own console consumer, run inside the container.
//!
//! *Source*: `ConsoleConsumer.java`, `DefaultMessageFormatter.java` of Kafka's tools; the order of
//! a line's parts is theirs.

use testcontainers::core::ExecCommand;
use testcontainers::{ContainerAsync, GenericImage};

use super::super::NULL;

const PROGRAM: &str = "/opt/kafka/bin/kafka-console-consumer.sh";
/// The listener that is reached from inside.
const BOOTSTRAP: &str = "localhost:19092";
/// Longest wait for a record.
const TIMEOUT_MS: &str = "30000";
const PARTS: [&str; 5] = ["timestamp", "partition", "offset", "headers", "key"];
const DESERIALIZER: &str = "org.apache.kafka.common.serialization.BytesDeserializer";

/// What it writes of the first `records` records of a topic.
pub(super) async fn read(
    container: &ContainerAsync<GenericImage>,
    topic: &str,
    records: usize,
) -> Result<String, String> {
    let command = ExecCommand::new(command(topic, records));
    let ran = container.exec(command).await;
    let mut ran = ran.map_err(|error| error.to_string())?;
    let written = ran
        .stdout_to_vec()
        .await
        .map_err(|error| error.to_string())?;
    if written.is_empty() {
        let said = ran.stderr_to_vec().await.unwrap_or_default();
        return Err(format!(
            "nothing is read: {}",
            String::from_utf8_lossy(&said)
        ));
    }
    Ok(String::from_utf8_lossy(&written).into_owned())
}

fn command(topic: &str, records: usize) -> Vec<String> {
    let records = records.to_string();
    let plain = [PROGRAM, "--bootstrap-server", BOOTSTRAP, "--topic", topic];
    let bounds = [
        "--from-beginning",
        "--max-messages",
        &records,
        "--timeout-ms",
        TIMEOUT_MS,
    ];
    let printed = PARTS.map(|part| format!("print.{part}=true"));
    let read =
        ["key", "value", "headers"].map(|part| format!("{part}.deserializer={DESERIALIZER}"));
    let properties = printed
        .into_iter()
        .chain(read)
        .chain([format!("null.literal={NULL}")]);
    let words = plain.into_iter().chain(bounds).map(str::to_owned);
    let properties = properties.flat_map(|one| ["--formatter-property".to_owned(), one]);
    words.chain(properties).collect()
}
