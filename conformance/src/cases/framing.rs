//! Framing: sizes, headers, pipelining.

use std::time::Duration;

use bytes::Bytes;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::{CLIENT_ID, with_size};
use crate::wire::answer::{ApiVersions, Metadata};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::Produce;
use crate::wire::reader::Layout;
use crate::wire::request::Header;
use crate::wire::{Request, read_response};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "FRM-01",
        level: Level::Wire,
        sentence: "one request gets one answer with its correlation id, and nothing follows",
        source: "Kafka protocol guide, \"Protocol Request and Response\"",
        needs: &[],
        run: |c| Box::pin(one_request_one_answer(c)),
    },
    Case {
        id: "FRM-02",
        level: Level::Wire,
        sentence: "50 requests written before reading are answered in their order",
        source: "Kafka protocol guide, \"Network\"; SocketServer.scala (channels are muted)",
        needs: &[],
        run: |c| Box::pin(pipelined_requests(c)),
    },
    Case {
        id: "FRM-04",
        level: Level::Wire,
        sentence: "a frame that arrives byte by byte is one request",
        source: "NetworkReceive.java",
        needs: &[],
        run: |c| Box::pin(byte_by_byte(c)),
    },
    Case {
        id: "FRM-09",
        level: Level::Wire,
        sentence: "an unknown API key closes that connection and no other",
        source: "ApiKeys.java forId; SocketServer.scala processCompletedReceives",
        needs: &[],
        run: |c| Box::pin(unknown_api_key(c)),
    },
    Case {
        id: "FRM-10",
        level: Level::Wire,
        sentence: "Produce v0, v1 and v2 close the connection although they are advertised",
        source: "KIP-896, KAFKA-18659; RequestContext.java parseRequest",
        needs: &[],
        run: |c| Box::pin(removed_produce_versions(c)),
    },
    Case {
        id: "FRM-12",
        level: Level::Wire,
        sentence: "a null client id is accepted",
        source: "RequestHeader.json (ClientId is nullable)",
        needs: &[],
        run: |c| Box::pin(null_client_id(c)),
    },
];

/// Long enough for a second answer that should not exist.
const QUIET: Duration = Duration::from_millis(300);

async fn one_request_one_answer(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    connection
        .ask(&Metadata::of(&[]), c.version::<Metadata>())
        .await?;
    connection.expect_silence("after the answer", QUIET).await
}

async fn pipelined_requests(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    let version = c.version::<Metadata>();
    let mut expected = Vec::new();
    let mut bytes = Vec::new();
    for index in 0..50 {
        // Two APIs of different cost, so that an answer could overtake another.
        let (correlation_id, frame) = match index % 2 {
            0 => connection.encode(&Metadata::all(), version)?,
            _ => connection.encode(&ApiVersions, 0)?,
        };
        expected.push(correlation_id);
        connection.note_sent("one of 50 requests in one write", &frame);
        bytes.extend_from_slice(&with_size(&frame));
    }
    connection.send_raw(&bytes).await?;
    let mut observed = Vec::new();
    for index in 0..expected.len() {
        let frame = connection.frame(&format!("answer {index}")).await?;
        observed.push(frame.first_chunk().map_or(-1, |id| i32::from_be_bytes(*id)));
    }
    expect_eq(
        "order of answers",
        format!("{expected:?}"),
        format!("{observed:?}"),
    )
}

async fn byte_by_byte(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    let version = c.version::<Metadata>();
    let (correlation_id, frame) = connection.encode(&Metadata::of(&[]), version)?;
    connection.note_sent("a Metadata request, byte by byte,", &frame);
    for byte in with_size(&frame) {
        connection.send_raw(&[byte]).await?;
        // Without a pause the kernel may join what was written.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = connection
        .answer::<Metadata>(correlation_id, version)
        .await?;
    match answer.brokers.is_empty() {
        true => Err(Objection::new("Metadata", "at least one broker", "none")),
        false => connection.expect_silence("after the answer", QUIET).await,
    }
}

async fn unknown_api_key(c: Context) -> Result<(), Objection> {
    let mut bystander = c.connect().await?;
    for api_key in [-1, 9999] {
        let mut connection = c.connect().await?;
        let header = plain_header(api_key, 0, Some(CLIENT_ID));
        connection
            .send_frame(&format!("API key {api_key}"), &header.frame(&[]))
            .await?;
        connection
            .expect_close(&format!("API key {api_key}"))
            .await?;
    }
    bystander.ask(&ApiVersions, 0).await.map(drop)
}

async fn removed_produce_versions(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let batch = crate::wire::batch::BatchSpec::numbered("v", 1, c.now_ms()).encode();
    let encoded = topic.produce(0, batch).body(3);
    let body = encoded.map_err(|error| Objection::new("encode", "a request", error))?;
    // Up to v2 the body is that of v3 without the transactional id, here two bytes of null.
    let body: Bytes = body.slice(2..);
    for version in 0..=2 {
        let mut connection = c.leader(&topic, 0).await?;
        let frame = plain_header(Produce::API_KEY, version, Some(CLIENT_ID)).frame(&body);
        let step = format!("Produce v{version}");
        connection.send_frame(&step, &frame).await?;
        connection.expect_close(&step).await?;
    }
    c.expect_values::<&str>(&topic, 0, &[]).await
}

async fn null_client_id(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    let encoded = ApiVersions.body(0);
    let body = encoded.map_err(|error| Objection::new("encode", "a request", error))?;
    let frame = plain_header(ApiVersions::API_KEY, 0, None).frame(&body);
    connection
        .send_frame("ApiVersions v0 with a null client id", &frame)
        .await?;
    let frame = connection.frame("ApiVersions v0").await?;
    let (correlation_id, answer) = read_response::<ApiVersions>(&frame, 0)
        .map_err(|error| Objection::new("ApiVersions v0", "an answer", error))?;
    expect_eq("correlation id", CORRELATION_ID, correlation_id)?;
    expect_eq("error code", ErrorCode::NONE, answer.error)
}

const CORRELATION_ID: i32 = 77;

fn plain_header(api_key: i16, version: i16, client_id: Option<&str>) -> Header<'_> {
    Header {
        api_key,
        version,
        correlation_id: CORRELATION_ID,
        client_id,
        layout: Layout::Plain,
    }
}
