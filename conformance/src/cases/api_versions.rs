//! ApiVersions: what a broker says it speaks.

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::{CLIENT_ID, Connection};
use crate::wire::answer::{ApiRange, ApiVersions, ApiVersionsAnswer, InitProducerId, Metadata};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::Produce;
use crate::wire::reader::{Layout, Reader};
use crate::wire::request::Header;
use crate::wire::{Request, read_response};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "APV-01",
        level: Level::Wire,
        sentence: "v0 to v4 give one table: ascending keys, min at most max, with Produce, \
                   Metadata and InitProducerId",
        source: "ApiVersionsResponse.java; KIP-35, KIP-511",
        needs: &[],
        run: |c| Box::pin(same_table_at_every_version(c)),
    },
    Case {
        id: "APV-02",
        level: Level::Wire,
        sentence: "version 127 is answered with 35 in the layout of v0 and the range of \
                   ApiVersions alone, and the connection stays usable",
        source: "KIP-511; ApiVersionsRequest.java getErrorResponse",
        needs: &[],
        run: |c| Box::pin(version_from_the_future(c)),
    },
    Case {
        id: "APV-03",
        level: Level::Wire,
        sentence: "the response header has no tagged fields at v3 and v4",
        source: "KIP-511; ApiVersionsResponse.json",
        needs: &[],
        run: |c| Box::pin(plain_response_header(c)),
    },
    Case {
        id: "APV-04",
        level: Level::Wire,
        sentence: "an empty or illegal software name or version is refused with 42 and no table, \
                   and the connection stays usable",
        source: "KIP-511; ApiVersionsRequest.java isValid",
        needs: &[],
        run: |c| Box::pin(illegal_software(c)),
    },
    Case {
        id: "APV-05",
        level: Level::Wire,
        sentence: "Produce is advertised from 0 to 13 (Kafka 4.1 and later)",
        source: "ProduceRequest.json; KAFKA-18659 (v0 to v2 stay advertised)",
        needs: &[],
        run: |c| Box::pin(produce_range(c)),
    },
    Case {
        id: "APV-06",
        level: Level::Wire,
        sentence: "from v3 the finalized features name transaction.version 2 and \
                   metadata.version, with an epoch of 0 or more (a new cluster of Kafka 4)",
        source: "KIP-584, KIP-1022; ApiVersionsResponse.json",
        needs: &[],
        run: |c| Box::pin(finalized_features(c)),
    },
];

async fn same_table_at_every_version(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    for version in 0..=4 {
        let step = format!("ApiVersions v{version}");
        let answer = connection.ask(&ApiVersions, version).await?;
        expect_eq(&step, ErrorCode::NONE, answer.error)?;
        check_table(&answer).map_err(|objection| objection.within(&step))?;
        let table = |apis: &[ApiRange]| {
            apis.iter()
                .map(ApiRange::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        expect_eq(&step, table(&c.probe().apis.apis), table(&answer.apis))?;
    }
    Ok(())
}

fn check_table(answer: &ApiVersionsAnswer) -> Result<(), Objection> {
    for range in &answer.apis {
        if range.min < 0 || range.min > range.max {
            return Err(Objection::new("range", "0 ≤ min ≤ max", range));
        }
    }
    if !answer.apis.is_sorted_by(|a, b| a.api_key < b.api_key) {
        let keys: Vec<i16> = answer.apis.iter().map(|range| range.api_key).collect();
        return Err(Objection::new(
            "keys",
            "ascending, each once",
            format!("{keys:?}"),
        ));
    }
    let needed = [
        (Produce::NAME, Produce::API_KEY),
        (Metadata::NAME, Metadata::API_KEY),
        (InitProducerId::NAME, InitProducerId::API_KEY),
    ];
    match needed
        .into_iter()
        .find(|(_, key)| answer.range(*key).is_none())
    {
        Some((name, key)) => Err(Objection::new(
            "table",
            format!("{name} ({key})"),
            "no entry",
        )),
        None => Ok(()),
    }
}

async fn version_from_the_future(c: Context) -> Result<(), Objection> {
    let step = "ApiVersions v127";
    let mut connection = c.connect().await?;
    // A body of the newest version; the broker cannot know how to read it anyway.
    let encoded = ApiVersions.body(4);
    let body = encoded.map_err(|error| Objection::new("encode", "a request", error))?;
    let header = Header {
        api_key: ApiVersions::API_KEY,
        version: 127,
        correlation_id: 9,
        client_id: Some(CLIENT_ID),
        layout: Layout::Flexible,
    };
    connection.send_frame(step, &header.frame(&body)).await?;
    let frame = connection.frame(step).await?;
    let (correlation_id, answer) = read_response::<ApiVersions>(&frame, 0)
        .map_err(|error| Objection::new(step, "an answer in the layout of v0", error))?;
    expect_eq(step, 9, correlation_id)?;
    expect_eq(step, ErrorCode(35), answer.error)?;
    let own = c.probe().apis.range(ApiVersions::API_KEY);
    let own: Vec<ApiRange> = own.into_iter().collect();
    expect_eq(step, format!("{own:?}"), format!("{:?}", answer.apis))?;
    let again = connection.ask(&ApiVersions, 0).await?;
    expect_eq(
        "the same connection afterwards",
        ErrorCode::NONE,
        again.error,
    )
}

async fn plain_response_header(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    for version in [3, 4] {
        let step = format!("ApiVersions v{version}");
        let correlation_id = connection.send(&ApiVersions, version).await?;
        let frame = connection.frame(&step).await?;
        let decode = |error| Objection::new(&step, "correlation id, then the body", error);
        let mut reader = Reader::new(&frame, Layout::Flexible);
        expect_eq(
            &step,
            correlation_id,
            reader.i32("correlation id").map_err(decode)?,
        )?;
        // With a tag buffer here the body would be off by one byte and not read to its end.
        let answer = ApiVersions::read_answer(&mut reader, version).map_err(decode)?;
        reader.finish().map_err(decode)?;
        expect_eq(&step, ErrorCode::NONE, answer.error)?;
    }
    Ok(())
}

async fn produce_range(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    let answer = connection.ask(&ApiVersions, 3).await?;
    let observed = answer.range(Produce::API_KEY);
    let expected = ApiRange {
        api_key: Produce::API_KEY,
        min: 0,
        max: 13,
    };
    let observed = observed.map_or("no entry".to_owned(), |range| range.to_string());
    expect_eq("entry of Produce", expected.to_string(), observed)
}

async fn illegal_software(c: Context) -> Result<(), Objection> {
    let illegal = [
        ("", "1.0"),
        ("a", ""),
        ("a b", "1.0"),
        ("-a", "1.0"),
        ("a-", "1.0"),
        ("a_b", "1.0"),
        (".", "1.0"),
        ("\u{e4}", "1.0"),
        ("a", "1."),
        ("a", "1 0"),
    ];
    let mut connection = c.connect().await?;
    for version in [3, 4] {
        for (name, software_version) in illegal {
            let step = format!("ApiVersions v{version}, {name:?} {software_version:?}");
            let answer = ask_as(&mut connection, version, (name, software_version)).await?;
            expect_eq(&step, ErrorCode(42), answer.error)?;
            expect_eq(&step, 0, answer.apis.len())?;
        }
        let long = "x".repeat(100);
        for name in ["a.b-c", &long] {
            let step = format!("ApiVersions v{version}, {name:?}");
            let answer = ask_as(&mut connection, version, (name, "1.0-x")).await?;
            expect_eq(&step, ErrorCode::NONE, answer.error)?;
        }
    }
    Ok(())
}

/// Asks for ApiVersions as software of that name and version, each at most 126 bytes.
async fn ask_as(
    connection: &mut Connection,
    version: i16,
    (name, software_version): (&str, &str),
) -> Result<ApiVersionsAnswer, Objection> {
    let mut body = Vec::new();
    for text in [name, software_version] {
        // A compact string: one byte holds its length and one.
        body.push(u8::try_from(text.len() + 1).unwrap_or(u8::MAX));
        body.extend_from_slice(text.as_bytes());
    }
    body.push(0); // no tags
    let header = Header {
        api_key: ApiVersions::API_KEY,
        version,
        correlation_id: 10,
        client_id: Some(CLIENT_ID),
        layout: Layout::Flexible,
    };
    let step = format!("ApiVersions v{version} as {name:?} {software_version:?}");
    connection.send_frame(&step, &header.frame(&body)).await?;
    let frame = connection.frame(&step).await?;
    let (_, answer) = read_response::<ApiVersions>(&frame, version)
        .map_err(|error| Objection::new(&step, "an answer", error))?;
    Ok(answer)
}

async fn finalized_features(c: Context) -> Result<(), Objection> {
    let mut connection = c.connect().await?;
    for version in [3, 4] {
        let step = format!("ApiVersions v{version}, finalized features");
        let answer = connection.ask(&ApiVersions, version).await?;
        let finalized = answer
            .finalized
            .ok_or_else(|| Objection::new(&step, "some", "none"))?;
        if finalized.epoch < 0 {
            return Err(Objection::new(
                &step,
                "an epoch of 0 or more",
                finalized.epoch,
            ));
        }
        let level = |name: &str| {
            let feature = finalized.features.iter().find(|(known, _)| known == name);
            feature.map_or(0, |(_, level)| *level)
        };
        expect_eq(&step, 2, level("transaction.version"))?;
        if level("metadata.version") < METADATA_VERSION_MIN {
            let observed = format!("{:?}", finalized.features);
            return Err(Objection::new(
                &step,
                "a metadata.version that Kafka 4 knows",
                observed,
            ));
        }
    }
    Ok(())
}

/// The lowest metadata.version that Kafka 4 knows (3.3).
const METADATA_VERSION_MIN: i16 = 7;
