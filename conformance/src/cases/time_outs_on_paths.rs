//! Time-outs of requests and connections, and a flush that ends whatever becomes of records.
//!
//! *Source*: `NetworkClient.java`, `ClusterConnectionStates.java`, `KafkaProducer.java` of Kafka's
//! clients; KIP-601.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kafka_producer::Record;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::driven::{Certainty, expect_within, failure, outlive_trouble};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::wire::Request;
use crate::wire::answer::ApiVersions;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TMO-04",
        level: Level::Client,
        sentence: "at request.timeout.ms the connection is closed and all that was on it is \
                   sent again",
        source: "NetworkClient.java handleTimedOutRequests",
        needs: &[],
        run: |c| Box::pin(request_time_out(c)),
    },
    Case {
        id: "TMO-06",
        level: Level::Client,
        sentence: "a flush returns when all before it has ended, also in failure, and does \
                   not wait for what comes later",
        source: "KafkaProducer.java flush",
        needs: &[],
        run: |c| Box::pin(flush_ends(c)),
    },
    Case {
        id: "TMO-10",
        level: Level::Client,
        sentence: "an address at which connecting never ends is given up at \
                   socket.connection.setup.timeout.ms, and the next one tried",
        source: "ClusterConnectionStates.java; KIP-601",
        needs: &[],
        run: |c| Box::pin(black_hole(c)),
    },
];

async fn request_time_out(c: Context) -> Result<(), Objection> {
    let started = Instant::now();
    let path = outlive_trouble(&c, Trouble::RepliesKept(1)).await?;
    expect_eq("replies kept", 1, path.hits())?;
    // The request time-out is a second here.
    let bounds = (Duration::from_secs(1), Duration::from_secs(15));
    expect_within("with one time-out", started.elapsed(), bounds)?;
    let connections = path.asked(ApiVersions::API_KEY);
    let seen = format!("{connections} connections are one more");
    expect_eq(seen, true, connections > 1)
}

async fn flush_ends(c: Context) -> Result<(), Objection> {
    // A record without a key is refused there for good.
    let topic = c.topic_with(1, &[("cleanup.policy", "compact")]).await?;
    let builder = c.client().batch_size(0).linger(Duration::ZERO);
    let producer = client::build(builder)?;
    let to = || Record::to(topic.name.as_str()).partition(0);
    let refused = client::send(&producer, to().value("refused")).await?;
    let written = client::send(&producer, to().key("k").value("written")).await?;
    let others = c.topic(1).await?;
    let later = async {
        loop {
            let record = Record::to(others.name.as_str()).value("later");
            drop(client::send(&producer, record).await?);
            tokio::task::yield_now().await;
        }
    };
    let started = Instant::now();
    // Whether the flush tells of the failure is its own matter.
    let ended: Result<(), Objection> = tokio::select! {
        biased;
        _ = producer.flush() => Ok(()),
        failed = later => failed,
    };
    ended?;
    let at_most = Duration::from_secs(10);
    expect_within("the flush", started.elapsed(), (Duration::ZERO, at_most))?;
    let both = async {
        let (certainty, _) = failure("refused", refused).await?;
        let absent = certainty == Certainty::NotWritten;
        expect_eq("the first is in no log", true, absent)?;
        client::expect_delivery("written", written, Some(0)).await
    };
    // They ended before the flush did.
    let both = tokio::time::timeout(Duration::ZERO, both).await;
    both.map_err(|_| Objection::new("after the flush", "both have ended", "they have not"))??;
    c.expect_values(&topic, 0, &["written"]).await
}

async fn black_hole(c: Context) -> Result<(), Objection> {
    const SET_UP: Duration = Duration::from_millis(700);
    const PRODUCERS: usize = 12;
    let hole = BlackHole::dig().await?;
    let topic = c.topic(1).await?;
    let mut addresses = c.target().bootstrap();
    addresses.truncate(1);
    addresses.insert(0, hole.address.to_string());
    let mut longest = Duration::ZERO;
    for offset in 0..PRODUCERS {
        let builder = c.client().bootstrap_servers(addresses.join(","));
        let builder = builder.socket_connection_setup_timeout(SET_UP);
        let producer = client::build(builder.max_block(Duration::from_secs(20)))?;
        let started = Instant::now();
        let record = Record::to(topic.name.as_str()).partition(0).value("a");
        let delivery = client::send(&producer, record).await?;
        client::expect_delivery("a", delivery, i64::try_from(offset).ok()).await?;
        longest = longest.max(started.elapsed());
    }
    // Give or take a fifth; one of them at least began with the address where nobody answers.
    let bounds = (SET_UP.mul_f64(0.79), Duration::from_secs(15));
    expect_within("the longest way", longest, bounds)?;
    c.expect_values(&topic, 0, &["a"; PRODUCERS]).await
}

/// A port at which connecting does not end: nobody accepts, and its queue is full.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    async fn dig() -> Result<Self, Objection> {
        let failed = |error: std::io::Error| Objection::new("listen", "a port", error);
        let socket = TcpSocket::new_v4().map_err(failed)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).map_err(failed)?;
        let listener = socket.listen(1).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut waiting = Vec::new();
        loop {
            let connecting = TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(300), connecting).await {
                Ok(connected) if waiting.len() < 64 => waiting.push(connected.map_err(failed)?),
                Ok(_) => {
                    let seen = "64 connections were made";
                    return Err(Objection::new("a port that is full", "silence", seen));
                }
                Err(_) => {
                    return Ok(Self {
                        address,
                        _listener: listener,
                        _waiting: waiting,
                    });
                }
            }
        }
    }
}
