//! ApiVersions: what a broker says it speaks.

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::CLIENT_ID;
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
        id: "APV-05",
        level: Level::Wire,
        sentence: "Produce is advertised from 0 to 13 (Kafka 4.1 and later)",
        source: "ProduceRequest.json; KAFKA-18659 (v0 to v2 stay advertised)",
        needs: &[],
        run: |c| Box::pin(produce_range(c)),
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
