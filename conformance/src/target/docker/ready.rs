//! When a broker in a container is ready: when it answers what the cases will ask.
//!
//! The engine accepts connections to a published port before anything listens behind it, and a
//! broker that logged its start still refuses producer ids while the coordinator of transactions
//! loads its log. So the broker is asked: ApiVersions, FindCoordinator and InitProducerId of a
//! transactional id, InitProducerId without one. Only code 0 to all of them is ready.
//!
//! *Source*: message layouts in `clients/src/main/resources/common/message` of Apache Kafka; the
//! versions are the oldest of each, which have no tagged fields.
//!
//! *Not here*: what else those requests can answer; that is what the cases judge.

use std::future::Future;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for a broker to become ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(90);
/// Longest wait for one round of questions.
const ROUND_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The transactional id of the question.
const TRANSACTIONAL_ID: &str = "conformance-readiness";
/// The transaction's time-out in the question.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

/// Waits until the broker at `address` answers; gives up early when `running` says that it ended.
pub(super) async fn wait<F, R>(address: &str, mut running: F) -> Result<(), String>
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let end = Instant::now() + READY_WAIT_MAX;
    loop {
        let missing = match timeout(ROUND_WAIT_MAX, ask_at(address)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(missing)) => missing,
            Err(_) => format!("no answer within {ROUND_WAIT_MAX:?}"),
        };
        if !running().await {
            return Err("the broker ended".to_owned());
        }
        if Instant::now() >= end {
            return Err(format!("not ready within {READY_WAIT_MAX:?}: {missing}"));
        }
        sleep(ROUND_PAUSE).await;
    }
}

async fn ask_at(address: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    ask_all(&mut stream).await
}

/// One request and where its answer's error code stands, counted after the correlation id.
struct Question {
    name: &'static str,
    api_key: i16,
    version: i16,
    body: Bytes,
    code_at: usize,
}

fn questions() -> [Question; 4] {
    [
        Question {
            name: "ApiVersions",
            api_key: 18,
            version: 0,
            body: Bytes::new(),
            code_at: 0,
        },
        Question {
            name: "FindCoordinator",
            api_key: 10,
            version: 1,
            body: {
                let mut body = BytesMut::new();
                put_string(&mut body, TRANSACTIONAL_ID);
                body.put_i8(1); // the coordinator of transactions
                body.freeze()
            },
            code_at: 4,
        },
        init_producer_id(Some(TRANSACTIONAL_ID)),
        init_producer_id(None),
    ]
}

fn init_producer_id(transactional_id: Option<&str>) -> Question {
    let mut body = BytesMut::new();
    match transactional_id {
        Some(id) => put_string(&mut body, id),
        None => body.put_i16(-1),
    }
    body.put_i32(TRANSACTION_TIMEOUT_MS);
    Question {
        name: "InitProducerId",
        api_key: 22,
        version: 0,
        body: body.freeze(),
        code_at: 4,
    }
}

fn put_string(to: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    to.put_i16(length);
    to.put_slice(text.as_bytes());
}

async fn ask_all<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), String> {
    for question in questions() {
        match ask(stream, &question).await {
            Ok(0) => {}
            Ok(code) => return Err(format!("{} answers code {code}", question.name)),
            Err(error) => return Err(format!("{}: {error}", question.name)),
        }
    }
    Ok(())
}

async fn ask<S>(stream: &mut S, question: &Question) -> std::io::Result<i16>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frame = BytesMut::new();
    frame.put_i16(question.api_key);
    frame.put_i16(question.version);
    frame.put_i32(1);
    put_string(&mut frame, "conformance");
    frame.put_slice(&question.body);
    let size = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    stream.write_i32(size).await?;
    stream.write_all(&frame).await?;
    stream.flush().await?;

    let size = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    let malformed = || std::io::Error::other(format!("an answer of {size} bytes"));
    if size > ANSWER_BYTES_MAX {
        return Err(malformed());
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).await?;
    let code_at = 4 + question.code_at; // after the correlation id
    match answer.get(code_at..code_at + 2) {
        Some(&[high, low]) => Ok(i16::from_be_bytes([high, low])),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Answers each question with one code, in the layouts that a broker uses.
    async fn broker(mut stream: DuplexStream, codes: [i16; 4]) {
        for (code, question) in codes.into_iter().zip(questions()) {
            let Ok(size) = stream.read_i32().await else {
                return;
            };
            let mut request = vec![0; usize::try_from(size).unwrap()];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(request[..2], question.api_key.to_be_bytes());
            let mut answer = BytesMut::new();
            answer.put_i32(1);
            answer.put_bytes(0, question.code_at);
            answer.put_i16(code);
            answer.put_bytes(0, 10);
            stream
                .write_i32(i32::try_from(answer.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }

    #[rstest]
    #[case([0, 0, 0, 0], Ok(()))]
    #[case([35, 0, 0, 0], Err("ApiVersions answers code 35"))]
    #[case([0, 15, 0, 0], Err("FindCoordinator answers code 15"))]
    #[case([0, 0, 14, 0], Err("InitProducerId answers code 14"))]
    #[case([0, 0, 0, 41], Err("InitProducerId answers code 41"))]
    #[tokio::test]
    async fn broker_is_ready_when_every_question_is_answered_with_zero(
        #[case] codes: [i16; 4],
        #[case] verdict: Result<(), &str>,
    ) {
        let (mut ours, theirs) = duplex(4096);
        let broker = tokio::spawn(broker(theirs, codes));
        let observed = ask_all(&mut ours).await;
        drop(ours);
        broker.await.unwrap();
        assert_eq!(observed, verdict.map_err(str::to_owned));
    }

    #[tokio::test]
    async fn open_connection_without_an_answer_is_not_ready() {
        let (mut ours, theirs) = duplex(4096);
        drop(theirs);
        let observed = ask_all(&mut ours).await.unwrap_err();
        assert!(observed.starts_with("ApiVersions: "), "{observed}");
    }

    #[tokio::test]
    async fn answer_of_absurd_size_is_refused_unread() {
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_i32(i32::MAX).await.unwrap();
        let observed = ask_all(&mut ours).await.unwrap_err();
        assert_eq!(observed, "ApiVersions: an answer of 2147483647 bytes");
    }

    #[tokio::test]
    async fn broker_that_ended_is_not_waited_for() {
        // Port 1 of the loopback: nobody listens there.
        let observed = wait("127.0.0.1:1", || async { false }).await;
        assert_eq!(observed, Err("the broker ended".to_owned()));
    }
}
