//! Metadata: which topics a broker tells of.

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::wire::answer::{Metadata, MetadataById, TopicMetadata};
use crate::wire::error_code::ErrorCode;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "MD-01",
        level: Level::Wire,
        sentence: "a null list asks for all topics, an empty list for none",
        source: "MetadataRequest.json (from v1)",
        needs: &[],
        run: |c| Box::pin(all_and_none(c)),
    },
    Case {
        id: "MD-02",
        level: Level::Wire,
        sentence: "an unknown topic that may not be created is answered with 3 and stays unknown",
        source: "KafkaApis.scala handleTopicMetadataRequest; KIP-361",
        needs: &[],
        run: |c| Box::pin(unknown_topic(c)),
    },
    Case {
        id: "MD-04",
        level: Level::Wire,
        sentence: "a name that no topic can have is answered with 17",
        source: "Topic.java validate; KafkaApis.scala getTopicMetadata",
        needs: &[],
        run: |c| Box::pin(impossible_names(c)),
    },
    Case {
        id: "MD-06",
        level: Level::Wire,
        sentence: "from v12 a topic is found by its id, and an unknown id is answered with 100, \
                   a null name and that id",
        source: "KIP-516; KafkaApis.scala handleTopicMetadataRequest",
        needs: &[],
        run: |c| Box::pin(topics_by_id(c)),
    },
    Case {
        id: "MD-09",
        level: Level::Wire,
        sentence: "Kafka's own topics are internal, whether they exist or not, and others are not",
        source: "Topic.java isInternal; KafkaApis.scala metadataResponseTopic",
        needs: &[],
        run: |c| Box::pin(internal_topics(c)),
    },
];

/// The versions from there on that the target offers.
pub(super) fn versions(c: &Context, from: i16) -> std::ops::RangeInclusive<i16> {
    from..=c.version::<Metadata>()
}

async fn all_and_none(c: Context) -> Result<(), Objection> {
    let topic = c.topic(2).await?;
    let mut connection = c.connect().await?;
    for version in versions(&c, 1) {
        let step = format!("Metadata v{version}, null list");
        let all = connection.ask(&Metadata::all(), version).await?;
        match all.topic(&topic.name) {
            Some(row) => {
                expect_eq(&step, ErrorCode::NONE, row.error)?;
                expect_eq(&step, 2, row.partitions.len())?;
            }
            None => {
                let seen = format!("{} other topics", all.topics.len());
                return Err(Objection::new(step, format!("topic {}", topic.name), seen));
            }
        }
        let step = format!("Metadata v{version}, empty list");
        let none = connection.ask(&Metadata::of(&[]), version).await?;
        expect_eq(step, 0, none.topics.len())?;
    }
    Ok(())
}

async fn unknown_topic(c: Context) -> Result<(), Objection> {
    let name = c.topic_name();
    let mut connection = c.connect().await?;
    for version in versions(&c, 4) {
        // Asked once per version: had one of them created the topic, the next would see it.
        let answer = connection.ask(&Metadata::of(&[&name]), version).await?;
        let expected = unknown_row(&name, 3);
        expect_eq(format!("Metadata v{version}"), expected, Row(answer.topics))?;
    }
    Ok(())
}

async fn impossible_names(c: Context) -> Result<(), Objection> {
    let long = "x".repeat(250);
    let mut connection = c.connect().await?;
    for version in versions(&c, 4) {
        for name in ["a b", "..", ".", "", "a/b", "ä", &long] {
            let answer = connection.ask(&Metadata::of(&[name]), version).await?;
            let expected = unknown_row(name, 17);
            expect_eq(
                format!("Metadata v{version}, {name:?}"),
                expected,
                Row(answer.topics),
            )?;
        }
    }
    Ok(())
}

async fn topics_by_id(c: Context) -> Result<(), Objection> {
    const UNKNOWN: [u8; 16] = [0xcd; 16];
    let topic = c.topic(2).await?;
    let mut connection = c.connect().await?;
    for version in versions(&c, 12) {
        let request = MetadataById {
            ids: vec![topic.id, UNKNOWN],
        };
        let mut rows = connection.ask(&request, version).await?.topics;
        rows.sort_by_key(|row| row.error);
        let step = format!("Metadata v{version} by id");
        let unknown = TopicMetadata {
            error: ErrorCode(100),
            name: None,
            id: UNKNOWN,
            internal: false,
            partitions: Vec::new(),
        };
        expect_eq(
            &step,
            Row(vec![unknown]),
            Row(rows.split_off(1.min(rows.len()))),
        )?;
        let known = rows.pop().filter(|row| row.id == topic.id);
        let known = known.ok_or_else(|| Objection::new(&step, "the known topic", "no row"))?;
        expect_eq(&step, ErrorCode::NONE, known.error)?;
        let name = known.name.unwrap_or_default();
        expect_eq(&step, &topic.name, &name)?;
        expect_eq(&step, 2, known.partitions.len())?;
    }
    Ok(())
}

async fn internal_topics(c: Context) -> Result<(), Objection> {
    let own = ["__consumer_offsets", "__transaction_state"];
    let topic = c.topic(1).await?;
    let stranger = c.topic_name();
    let mut connection = c.connect().await?;
    for version in versions(&c, 4) {
        let mut names = own.to_vec();
        names.extend([topic.name.as_str(), stranger.as_str()]);
        let answer = connection.ask(&Metadata::of(&names), version).await?;
        for name in names {
            let step = format!("Metadata v{version}, {name}");
            let row = answer.topic(name);
            let row = row.ok_or_else(|| Objection::new(&step, "a row", "none"))?;
            expect_eq(&step, own.contains(&name), row.internal)?;
        }
    }
    Ok(())
}

fn unknown_row(name: &str, code: i16) -> Row {
    Row(vec![TopicMetadata {
        error: ErrorCode(code),
        name: Some(name.to_owned()),
        id: [0; 16],
        internal: false,
        partitions: Vec::new(),
    }])
}

/// Topic rows for comparison.
#[derive(PartialEq)]
struct Row(Vec<TopicMetadata>);

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows: Vec<String> = self
            .0
            .iter()
            .map(|row| format!("{row} (id {:?}, internal {})", row.id, row.internal))
            .collect();
        write!(f, "{} rows: {}", rows.len(), rows.join("; "))
    }
}
