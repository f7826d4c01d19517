//! Framing, continued: sizes that lie, versions that do not exist, bytes that nobody knows.
//!
//! *Source*: `NetworkReceive.java`, `SocketServer.scala`, `RequestContext.java`; the answers are
//! those observed on 4.3.1.

use std::time::Duration;

use bytes::Bytes;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::{CLIENT_ID, Connection};
use crate::target::Capability;
use crate::wire::answer::{ApiVersions, InitProducerId, Metadata};
use crate::wire::batch::BatchSpec;
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{Produce, ProduceAnswer};
use crate::wire::reader::Layout;
use crate::wire::request::Header;
use crate::wire::{Request, read_response};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "FRM-05",
        level: Level::Wire,
        sentence: "a size below 0, or too small for a header, closes the connection",
        source: "NetworkReceive.java readFrom; SocketServer.scala processCompletedReceives",
        needs: &[],
        run: |c| Box::pin(size_too_small(c)),
    },
    Case {
        id: "FRM-06",
        level: Level::Wire,
        sentence: "a size above socket.request.max.bytes closes the connection before the body, \
                   the limit itself does not",
        source: "NetworkReceive.java readFrom; socket.request.max.bytes (100 MiB)",
        needs: &[],
        run: |c| Box::pin(size_too_large(c)),
    },
    Case {
        id: "FRM-08",
        level: Level::Wire,
        sentence: "a header without its body closes the connection",
        source: "RequestContext.java parseRequest; SocketServer.scala processCompletedReceives",
        needs: &[],
        run: |c| Box::pin(no_body(c)),
    },
    Case {
        id: "FRM-11",
        level: Level::Wire,
        sentence: "a Produce or Metadata version above the highest closes the connection",
        source: "SocketServer.scala processCompletedReceives (isApiVersionSupported)",
        needs: &[],
        run: |c| Box::pin(version_too_high(c)),
    },
    Case {
        id: "FRM-13",
        level: Level::Wire,
        sentence: "tagged fields that nobody knows are ignored in header and body",
        source: "KIP-482",
        needs: &[],
        run: |c| Box::pin(unknown_tags(c)),
    },
    Case {
        id: "FRM-14",
        level: Level::Wire,
        sentence: "bytes after a request's last field are ignored",
        source: "observed on 4.3.1: RequestContext.java does not look at what is left",
        needs: &[],
        run: |c| Box::pin(bytes_after_the_end(c)),
    },
    Case {
        id: "FRM-15",
        level: Level::Wire,
        sentence: "a connection without traffic is closed after connections.max.idle.ms, whether \
                   it was ever used or not, and one with traffic is not",
        source: "Selector.java IdleExpiryManager; SocketServer.scala",
        needs: &[Capability::OwnBrokers],
        run: |c| Box::pin(idle_connections(c)),
    },
    Case {
        id: "FRM-16",
        level: Level::Wire,
        sentence: "200 connections that are open at once are all served",
        source: "SocketServer.scala; max.connections (no limit by default)",
        needs: &[],
        run: |c| Box::pin(many_connections(c)),
    },
];

/// The limit that Kafka has by default.
const REQUEST_BYTES_MAX: i32 = 104_857_600;
/// Long enough for a close that should not come.
const QUIET: Duration = Duration::from_millis(300);

async fn size_too_small(c: Context) -> Result<(), Objection> {
    for size in [-1, i32::MIN, 0, 7] {
        let mut connection = c.connect().await?;
        // As many bytes as a size of 7 asks for; to the others they are the next frame's.
        let bytes = [&size.to_be_bytes()[..], &[0, 18, 0, 0, 0, 0, 0]].concat();
        connection.note_raw(&format!("a frame of size {size}"), &bytes);
        connection.send_raw(&bytes).await?;
        connection.expect_close(&format!("size {size}")).await?;
    }
    Ok(())
}

async fn size_too_large(c: Context) -> Result<(), Objection> {
    for size in [REQUEST_BYTES_MAX + 1, i32::MAX] {
        let mut connection = c.connect().await?;
        connection.note_raw(&format!("the size {size}"), &size.to_be_bytes());
        connection.send_raw(&size.to_be_bytes()).await?;
        connection.expect_close(&format!("size {size}")).await?;
    }
    let mut connection = c.connect().await?;
    let size = REQUEST_BYTES_MAX.to_be_bytes();
    connection.note_raw("the largest size", &size);
    connection.send_raw(&size).await?;
    connection
        .expect_silence("the largest size, the body to come", QUIET)
        .await
}

async fn no_body(c: Context) -> Result<(), Objection> {
    let bodiless = [
        (Metadata::NAME, Metadata::API_KEY, 4),
        (Produce::NAME, Produce::API_KEY, 7),
        (InitProducerId::NAME, InitProducerId::API_KEY, 1),
    ];
    for (name, api_key, version) in bodiless {
        let mut connection = c.connect().await?;
        let step = format!("{name} v{version}, header alone");
        connection
            .send_frame(&step, &header(api_key, version, Layout::Plain).frame(&[]))
            .await?;
        connection.expect_close(&step).await?;
    }
    Ok(())
}

async fn version_too_high(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
    let produce = body(&topic.produce(0, batch), Produce::VERSION_MAX)?;
    let metadata = body(&Metadata::of(&[]), Metadata::VERSION_MAX)?;
    let asked = [
        (Produce::NAME, Produce::API_KEY, produce),
        (Metadata::NAME, Metadata::API_KEY, metadata),
    ];
    for (name, api_key, body) in asked {
        let offered = c.probe().apis.range(api_key);
        let version = offered.map_or(i16::MAX, |range| range.max + 1);
        let mut connection = c.leader(&topic, 0).await?;
        let step = format!("{name} v{version}");
        let frame = header(api_key, version, Layout::Flexible).frame(&body);
        connection.send_frame(&step, &frame).await?;
        connection.expect_close(&step).await?;
    }
    c.expect_values::<&str>(&topic, 0, &[]).await
}

/// Two tagged fields whose numbers no message of Kafka uses: 9,998 (empty) and 9,999.
const UNKNOWN_TAGS: &[u8] = &[2, 0x8e, 0x4e, 0, 0x8f, 0x4e, 3, 0xab, 0xcd, 0xef];

async fn unknown_tags(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut connection = c.leader(&topic, 0).await?;
    for version in [3, 4] {
        let answer = ask_tagged(&mut connection, &ApiVersions, version).await?;
        expect_eq("ApiVersions", ErrorCode::NONE, answer.error)?;
    }
    let request = Metadata::of(&[&topic.name]);
    for version in [9, 12] {
        let answer = ask_tagged(&mut connection, &request, version).await?;
        let observed = answer.topic(&topic.name).map(|row| row.error);
        let expected = format!("{:?}", Some(ErrorCode::NONE));
        expect_eq("Metadata", expected, format!("{observed:?}"))?;
    }
    let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
    let request = topic.produce(0, batch);
    let versions = c.produce_versions().into_iter();
    let flexible: Vec<i16> = versions
        .filter(|&version| version >= Produce::FLEXIBLE_FROM)
        .collect();
    for version in &flexible {
        let answer = ask_tagged(&mut connection, &request, *version).await?;
        expect_eq("Produce", "[0]".to_owned(), codes(&answer))?;
    }
    c.expect_values(&topic, 0, &vec!["v-0"; flexible.len()])
        .await
}

/// Asks with unknown tags at the end of header and body.
async fn ask_tagged<R: Request>(
    connection: &mut Connection,
    request: &R,
    version: i16,
) -> Result<R::Answer, Objection> {
    let body = body(request, version)?;
    // The last byte says that the body has no tags.
    let body = &body[..body.len().saturating_sub(1)];
    let rest = [UNKNOWN_TAGS, body, UNKNOWN_TAGS].concat();
    let frame = header(R::API_KEY, version, Layout::Plain).frame(&rest);
    ask_raw::<R>(connection, version, &frame).await
}

async fn bytes_after_the_end(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let mut connection = c.leader(&topic, 0).await?;
    for version in [0, 3] {
        let answer = ask_with_more(&mut connection, &ApiVersions, version).await?;
        expect_eq("ApiVersions", ErrorCode::NONE, answer.error)?;
    }
    for version in [4, 12] {
        let request = Metadata::of(&[]);
        let answer = ask_with_more(&mut connection, &request, version).await?;
        expect_eq("Metadata, topics", 0, answer.topics.len())?;
    }
    c.producer().await?; // waits until the broker has fetched its block of ids
    let answer = ask_with_more(&mut connection, &InitProducerId::NEW, 4).await?;
    // Each broker has a block of its own.
    if ![ErrorCode::NONE, ErrorCode(14)].contains(&answer.error) {
        return Err(Objection::new(
            "InitProducerId",
            "code 0 NONE",
            answer.error,
        ));
    }
    let batch = BatchSpec::numbered("v", 1, c.now_ms()).encode();
    let request = topic.produce(0, batch);
    for version in [7, 12] {
        let answer = ask_with_more(&mut connection, &request, version).await?;
        expect_eq("Produce", "[0]".to_owned(), codes(&answer))?;
    }
    c.expect_values(&topic, 0, &["v-0", "v-0"]).await
}

async fn ask_with_more<R: Request>(
    connection: &mut Connection,
    request: &R,
    version: i16,
) -> Result<R::Answer, Objection> {
    let rest = [&body(request, version)?[..], b"more"].concat();
    let frame = header(R::API_KEY, version, R::layout(version)).frame(&rest);
    ask_raw::<R>(connection, version, &frame).await
}

async fn ask_raw<R: Request>(
    connection: &mut Connection,
    version: i16,
    frame: &[u8],
) -> Result<R::Answer, Objection> {
    let step = format!("{} v{version}", R::NAME);
    connection.send_frame(&step, frame).await?;
    let answer = connection.frame(&step).await?;
    let (correlation_id, answer) = read_response::<R>(&answer, version)
        .map_err(|error| Objection::new(&step, "an answer", error))?;
    expect_eq(&step, CORRELATION_ID, correlation_id)?;
    Ok(answer)
}

async fn idle_connections(c: Context) -> Result<(), Objection> {
    const LIMIT: (&str, &str) = ("connections.max.idle.ms", "2000");
    /// Within the limit: nothing may happen yet.
    const EARLY: Duration = Duration::from_millis(1_200);
    let c = c.beside(1, &[LIMIT]).await?;
    let (mut unused, mut used, mut busy) =
        (c.connect().await?, c.connect().await?, c.connect().await?);
    used.ask(&ApiVersions, 0).await?;
    busy.ask(&ApiVersions, 0).await?;
    unused.expect_silence("within the limit", EARLY).await?;
    // Longer than the limit in all, in steps that are shorter.
    for _ in 0..3 {
        busy.ask(&ApiVersions, 0).await?;
        busy.expect_silence("between two requests", EARLY).await?;
    }
    unused.expect_close("never used").await?;
    used.expect_close("used once").await?;
    busy.ask(&ApiVersions, 0).await.map(drop)
}

async fn many_connections(c: Context) -> Result<(), Objection> {
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(c.connect().await?);
    }
    let mut asked = Vec::new();
    for connection in &mut connections {
        asked.push(connection.send(&ApiVersions, 0).await?);
    }
    for (connection, correlation_id) in connections.iter_mut().zip(asked) {
        let answer = connection.answer::<ApiVersions>(correlation_id, 0).await?;
        expect_eq("ApiVersions", ErrorCode::NONE, answer.error)?;
    }
    Ok(())
}

fn codes(answer: &ProduceAnswer) -> String {
    let rows = answer.topics.iter().flat_map(|topic| &topic.rows);
    let codes: Vec<i16> = rows.map(|row| row.code.0).collect();
    format!("{codes:?}")
}

const CORRELATION_ID: i32 = 78;

fn header(api_key: i16, version: i16, layout: Layout) -> Header<'static> {
    Header {
        api_key,
        version,
        correlation_id: CORRELATION_ID,
        client_id: Some(CLIENT_ID),
        layout,
    }
}

fn body<R: Request>(request: &R, version: i16) -> Result<Bytes, Objection> {
    request
        .body(version)
        .map_err(|error| Objection::new("encode", "a request", error))
}
