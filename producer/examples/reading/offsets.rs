//! How far a group has come: what a consumer asks when it starts. For a program without one.
//!
//! It speaks to one broker at a time, in versions that Kafka has had since 3.0.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetFetchRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// UNSTABLE_OFFSET_COMMIT: a transaction is open that may change the offset.
const UNSTABLE: i16 = 88;
/// A coordinator that is not there yet, or loads: 14, 15, 16.
const COMING: std::ops::RangeInclusive<i16> = 14..=16;

/// Asks, and reads the answer.
pub(crate) async fn ask<R: Request>(
    broker: &mut TcpStream,
    version: i16,
    request: &R,
) -> Result<R::Response> {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(text("example")));
    header.encode(&mut frame, R::header_version(version))?;
    request.encode(&mut frame, version)?;
    let mut sized = BytesMut::new();
    sized.put_i32(frame.len().try_into()?);
    sized.put(frame);
    broker.write_all(&sized).await?;
    let length = usize::try_from(broker.read_i32().await?)?;
    if length > LARGEST_ANSWER {
        return Err(format!("an answer of {length} bytes").into());
    }
    let mut answer = vec![0; length];
    broker.read_exact(&mut answer).await?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
    let response = R::Response::decode(&mut answer, version)?;
    match answer.has_remaining() {
        false => Ok(response),
        true => Err("an answer with more than belongs there".into()),
    }
}

/// A connection to the first that takes one, of HOST:PORT, several separated by commas.
pub(crate) async fn connect(bootstrap: &str) -> Result<TcpStream> {
    let mut refused = format!("{bootstrap}: no address").into();
    for address in bootstrap.split(',') {
        match TcpStream::connect(address.trim()).await {
            Ok(broker) => return Ok(broker),
            Err(error) => refused = format!("{address}: {error}").into(),
        }
    }
    Err(refused)
}

/// The next offset that a group will read of each of these partitions; none where it has never
/// been. Waits while a transaction is open that may change them.
pub(crate) async fn next_offsets(
    bootstrap: &str,
    (group, topic): (&str, &str),
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>> {
    let mut broker = connect(bootstrap).await?;
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    let topics = OffsetFetchRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partition_indexes(partitions.to_vec());
    let question = OffsetFetchRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![topics]))
        .with_require_stable(true);
    loop {
        let found = ask(&mut broker, 4, &find).await?;
        let [coordinator] = found.coordinators.as_slice() else {
            return Err("not one coordinator".into());
        };
        let mut code = coordinator.error_code;
        if code == 0 {
            let address = format!("{}:{}", coordinator.host.as_str(), coordinator.port);
            let mut coordinator = TcpStream::connect(address).await?;
            let answer = ask(&mut coordinator, 7, &question).await?;
            let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let codes = rows.clone().map(|row| row.error_code);
            code = codes.chain([answer.error_code]).max().unwrap_or(0);
            if code == 0 {
                let known = rows.filter(|row| row.committed_offset >= 0);
                return Ok(known
                    .map(|row| (row.partition_index, row.committed_offset))
                    .collect());
            }
        }
        if code != UNSTABLE && !COMING.contains(&code) {
            return Err(format!("the offsets of {group}: code {code}").into());
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// As the protocol's crate wants it.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
