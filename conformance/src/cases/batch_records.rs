//! Record batches, continued: what stands behind the header.
//!
//! *Source*: `DefaultRecord.java`, `DefaultRecordBatch.java`; the answers, some of them surprising,
//! are those observed on 4.3.1.

use bytes::Bytes;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::lane::Lane;
use crate::wire::batch::{BatchSpec, Payload, RecordSpec, record_of, varint};
use crate::wire::codec::Codec;
use crate::wire::produce::Row;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "RBV-21",
        level: Level::Wire,
        sentence: "a compressed payload that does not unpack is refused with -1, an empty one of \
                   zstd with 87, and gzip and lz4 ignore what follows their stream",
        source: "CompressionType.java; observed on 4.3.1",
        needs: &[],
        run: |c| Box::pin(broken_payload(c)),
    },
    Case {
        id: "RBV-23",
        level: Level::Wire,
        sentence: "lengths inside a record that do not fit are refused with 87, a length that \
                   overflows with -1, and any key or value length below 0 is null",
        source: "DefaultRecord.java readFrom; ByteUtils.java readVarint; observed on 4.3.1",
        needs: &[],
        run: |c| Box::pin(lengths_that_lie(c)),
    },
    Case {
        id: "RBV-24",
        level: Level::Wire,
        sentence: "bytes left after the last record are refused with 87",
        source: "DefaultRecordBatch.java RecordIterator",
        needs: &[],
        run: |c| Box::pin(bytes_left(c)),
    },
    Case {
        id: "RBV-26",
        level: Level::Wire,
        sentence: "a header with a null key is refused with 87, with an empty key it is stored",
        source: "DefaultRecord.java readHeaders",
        needs: &[],
        run: |c| Box::pin(header_without_key(c)),
    },
    Case {
        id: "RBV-27",
        level: Level::Wire,
        sentence: "a batch that unpacks to a thousand times its size is stored and comes back",
        source: "observed on 4.3.1: max.message.bytes counts packed bytes",
        needs: &[],
        run: |c| Box::pin(great_expansion(c)),
    },
];

/// A record's body behind attributes, timestamp delta and offset delta of 0.
fn body(parts: &[&[u8]]) -> Vec<u8> {
    [&[0, 0, 0], parts.concat().as_slice()].concat()
}

/// The rest of a record with key "k", value "v" and no header.
const KEY_VALUE: &[u8] = &[2, b'k', 2, b'v', 0];

fn unpacked(c: &Context, codec: Codec, records: Vec<u8>) -> BatchSpec {
    BatchSpec {
        codec,
        payload: Payload::Unpacked(records.into()),
        ..BatchSpec::numbered("v", 1, c.now_ms())
    }
}

async fn broken_payload(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        let mut offset = 0;
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            if codec == Codec::Zstd && lane.version < 7 {
                continue;
            }
            let sound = BatchSpec {
                codec,
                ..BatchSpec::numbered("v", 20, c.now_ms())
            };
            let plain = sound.records_encoded();
            let packed = codec
                .pack(&plain)
                .map_err(|error| Objection::new("pack", "bytes", error))?;
            let mut flipped = packed.clone();
            flipped[0] ^= 0xff;
            let broken = [
                ("garbage", b"garbage".to_vec()),
                ("plain records", plain),
                ("first byte turned", flipped),
                ("cut to half", packed[..packed.len() / 2].to_vec()),
                ("last byte cut", packed[..packed.len() - 1].to_vec()),
            ];
            for (what, payload) in broken {
                refuse(&mut lane, (&sound, payload), (what, -1)).await?;
            }
            let code = if codec == Codec::Zstd { 87 } else { -1 };
            refuse(&mut lane, (&sound, Vec::new()), ("empty", code)).await?;
            let stray = [&packed[..], b"stray"].concat();
            match codec {
                Codec::Gzip | Codec::Lz4 => {
                    let batch = with_payload(&sound, stray);
                    let row = Row::written(lane.partition, offset, lane.version);
                    let step = format!("{codec:?}, stray bytes behind the stream");
                    lane.expect(&step, batch, row).await?;
                    offset += 20;
                }
                _ => refuse(&mut lane, (&sound, stray), ("stray bytes", -1)).await?,
            }
        }
        let end = c.end_offset(&lane.topic, lane.partition).await?;
        expect_eq("end of the log", offset, end)?;
    }
    Ok(())
}

fn with_payload(sound: &BatchSpec, payload: Vec<u8>) -> Bytes {
    let batch = BatchSpec {
        payload: Payload::Packed(payload.into()),
        ..sound.clone()
    };
    batch.encode()
}

async fn refuse(
    lane: &mut Lane,
    (sound, payload): (&BatchSpec, Vec<u8>),
    (what, code): (&str, i16),
) -> Result<(), Objection> {
    let step = format!("{:?}, {what}", sound.codec);
    lane.expect_refused_by_log(&step, with_payload(sound, payload), code)
        .await
}

/// What, the records, the code when plain, the code when packed with gzip. Packed, Kafka does not
/// look at a record's length, and stores what no consumer can read: that is not asked here.
type Lie = (&'static str, Vec<u8>, i16, Option<i16>);

fn lies() -> Vec<Lie> {
    let sound = body(&[KEY_VALUE]);
    let behind = |length: i64| [varint(length), sound.clone()].concat();
    let fits = i64::try_from(sound.len()).unwrap_or(i64::MAX);
    let far = varint(1_000);
    vec![
        (
            "record length overflows",
            [vec![0xff; 10], sound.clone()].concat(),
            -1,
            Some(87),
        ),
        ("record length -1", behind(-1), 87, None),
        ("record length 0", behind(0), 87, None),
        ("record length one too long", behind(fits + 1), 87, None),
        (
            "key longer than the record",
            record_of(&body(&[&far, b"k", &[2, b'v', 0]])),
            87,
            Some(87),
        ),
        (
            "value longer than the record",
            record_of(&body(&[&[2, b'k'], &far, b"v", &[0]])),
            87,
            Some(87),
        ),
        (
            "header count -1",
            record_of(&body(&[&KEY_VALUE[..4], &varint(-1)])),
            87,
            Some(87),
        ),
        (
            "header count 1,000",
            record_of(&body(&[&KEY_VALUE[..4], &far])),
            87,
            Some(87),
        ),
        (
            "bytes after the headers",
            record_of(&body(&[KEY_VALUE, b"x"])),
            87,
            Some(87),
        ),
    ]
}

async fn lengths_that_lie(c: Context) -> Result<(), Objection> {
    let lies = lies();
    for mut lane in c.lanes().await? {
        for (what, records, plain, packed) in &lies {
            let by_codec = [(Codec::None, Some(*plain)), (Codec::Gzip, *packed)];
            for (codec, code) in by_codec {
                let Some(code) = code else { continue };
                let batch = unpacked(&c, codec, records.clone()).encode();
                lane.expect_refused_by_log(&format!("{codec:?}, {what}"), batch, code)
                    .await?;
            }
        }
        lane.expect_values::<&str>(&[]).await?;
        // Below 0 is null, whatever the number.
        let key = record_of(&body(&[&varint(-2), &[2, b'v', 0]]));
        let value = record_of(&body(&[&[2, b'k'], &varint(-2), &[0]]));
        lane.expect_written("key length -2", &unpacked(&c, Codec::None, key), 0)
            .await?;
        lane.expect_written("value length -2", &unpacked(&c, Codec::Gzip, value), 1)
            .await?;
        let stored = c.records(&lane.topic, lane.partition).await?;
        let observed: Vec<&RecordSpec> = stored.iter().map(|record| &record.content).collect();
        let expected = [
            RecordSpec::of("v"),
            RecordSpec {
                key: Some(Bytes::from_static(b"k")),
                ..RecordSpec::default()
            },
        ];
        expect_eq(
            "records in the log",
            format!("{expected:?}"),
            format!("{observed:?}"),
        )?;
    }
    Ok(())
}

async fn bytes_left(c: Context) -> Result<(), Objection> {
    let record = record_of(&body(&[KEY_VALUE]));
    for mut lane in c.lanes().await? {
        for codec in [Codec::None, Codec::Gzip] {
            for (what, left) in [("a byte", vec![0]), ("a record", record.clone())] {
                let records = [record.clone(), left].concat();
                let batch = unpacked(&c, codec, records).encode();
                lane.expect_refused_by_log(&format!("{codec:?}, {what} left"), batch, 87)
                    .await?;
            }
        }
        lane.expect_values::<&str>(&[]).await?;
        let batch = unpacked(&c, Codec::None, record.clone());
        lane.expect_written("nothing left", &batch, 0).await?;
    }
    Ok(())
}

async fn header_without_key(c: Context) -> Result<(), Objection> {
    for mut lane in c.lanes().await? {
        for codec in [Codec::None, Codec::Gzip] {
            for length in [-1, -2] {
                let headers = [&varint(1)[..], &varint(length), &[2, b'h']].concat();
                let record = record_of(&body(&[&KEY_VALUE[..4], &headers]));
                let step = format!("{codec:?}, header key length {length}");
                let batch = unpacked(&c, codec, record).encode();
                lane.expect_refused_by_log(&step, batch, 87).await?;
            }
        }
        lane.expect_values::<&str>(&[]).await?;
        let record = RecordSpec {
            headers: vec![(String::new(), Some(Bytes::from_static(b"h")))],
            ..RecordSpec::of("v")
        };
        lane.expect_written("empty key", &BatchSpec::of(vec![record], c.now_ms()), 0)
            .await?;
    }
    Ok(())
}

async fn great_expansion(c: Context) -> Result<(), Objection> {
    const UNPACKED: usize = 5_000_000;
    let topic = c.topic(1).await?;
    let mut connection = c.leader(&topic, 0).await?;
    let version = c.produce_versions().into_iter().max().unwrap_or(3);
    let batch = BatchSpec {
        codec: Codec::Gzip,
        ..BatchSpec::of(vec![RecordSpec::of(vec![0; UNPACKED])], c.now_ms())
    };
    let encoded = batch.encode();
    if encoded.len() > UNPACKED / 900 {
        let expected = "a batch that shrank 900 times";
        return Err(Objection::new("a batch to send", expected, encoded.len()));
    }
    let request = topic.produce(0, encoded);
    let row = Row::written(0, 0, version);
    c.expect_row(&mut connection, (&request, version), ("5 MB of zeros", row))
        .await?;
    let stored = c.records(&topic, 0).await?;
    let values: Vec<usize> = stored
        .iter()
        .map(|record| record.content.value.as_ref().map_or(0, Bytes::len))
        .collect();
    expect_eq(
        "bytes of the values",
        format!("[{UNPACKED}]"),
        format!("{values:?}"),
    )
}
