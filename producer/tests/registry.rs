//! The client of schema registries, against one that is played over TCP.
#![cfg(feature = "schema-registry")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_producer::schema_registry::{
    RegistryErrorKind, Schema, SchemaId, SchemaReference, SchemaRegistry, SubjectName,
};
use kafka_producer::serializer::Part;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A registry that gives these answers, one after the other, and notes what it was asked.
struct Registry {
    url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Registry {
    async fn start(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let answers: Vec<_> = answers
            .iter()
            .map(|&(status, body)| (status, body.to_owned()))
            .collect();
        tokio::spawn(async move {
            for (status, body) in answers {
                let (stream, _) = listener.accept().await.expect("a connection");
                let request = serve(stream, status, &body).await;
                notes.lock().expect("not poisoned").push(request);
            }
        });
        Self {
            url: format!("http://{address}"),
            asked,
        }
    }

    fn client(&self) -> SchemaRegistry {
        SchemaRegistry::new(&self.url).expect("a URL")
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// Reads a request, answers it, and gives its path and body.
async fn serve(mut stream: TcpStream, status: u16, body: &str) -> (String, Value) {
    let mut read = Vec::new();
    loop {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.expect("a request");
        read.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse().expect("a length"))
        });
        if rest.len() >= length.unwrap_or(0) {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.expect("taken");
            let path = head.split(' ').nth(1).expect("a path").to_owned();
            return (path, serde_json::from_str(rest).expect("JSON"));
        }
    }
}

fn schema() -> Schema {
    Schema::json(r#"{"type": "object"}"#)
}

#[tokio::test]
async fn a_schema_is_registered_once_and_remembered() {
    let registry = Registry::start(&[(200, r#"{"id": 7}"#)]).await;
    let client = registry.client();
    for _ in 0..3 {
        let id = client.clone().register("orders-value", &schema()).await;
        assert_eq!(id, Ok(SchemaId(7)));
    }
    let body = json!({"schema": r#"{"type": "object"}"#, "schemaType": "JSON"});
    let path = "/subjects/orders-value/versions".to_owned();
    assert_eq!(registry.asked(), [(path, body)]);
}

#[tokio::test]
async fn a_schema_is_looked_up_with_what_it_refers_to() {
    let registry = Registry::start(&[(200, r#"{"id": 8, "version": 2}"#)]).await;
    let schema = Schema::protobuf("message Order {}").reference(SchemaReference {
        name: "fruit.proto".to_owned(),
        subject: "fruit".to_owned(),
        version: 3,
    });
    let id = registry.client().look_up("com.shop/Order", &schema).await;
    assert_eq!(id, Ok(SchemaId(8)));
    let reference = json!({"name": "fruit.proto", "subject": "fruit", "version": 3});
    let body = json!({
        "schema": "message Order {}",
        "schemaType": "PROTOBUF",
        "references": [reference],
    });
    let path = "/subjects/com.shop%2FOrder".to_owned();
    assert_eq!(registry.asked(), [(path, body)]);
}

#[tokio::test]
async fn a_refusal_is_told_at_once_in_the_registrys_words() {
    let words = r#"{"error_code": 40401, "message": "Subject not found"}"#;
    let registry = Registry::start(&[(404, words)]).await;
    let client = registry.client();
    let error = client.look_up("pears", &schema()).await.expect_err("404");
    let code = Some(40_401);
    let status = 404;
    assert_eq!(error.kind(), RegistryErrorKind::Refused { status, code });
    assert!(!error.may_retry());
    assert_eq!(
        error.to_string(),
        "/subjects/pears: refused with status 404, code 40401: Subject not found"
    );
}

#[tokio::test]
async fn a_registry_at_fault_is_asked_again_and_then_told() {
    let registry = Registry::start(&[(503, ""), (200, r#"{"id": 9}"#), (500, "")]).await;
    let client = registry.client();
    let id = client.register("orders-value", &schema()).await;
    assert_eq!(id, Ok(SchemaId(9)));
    let once = client.attempts_max(1);
    let error = once.register("other", &schema()).await.expect_err("500");
    assert!(error.may_retry(), "{error}");
    assert_eq!(registry.asked().len(), 3);
}

#[tokio::test]
async fn the_next_url_is_asked_when_one_cannot_be_reached() {
    let registry = Registry::start(&[(200, r#"{"id": 10}"#)]).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = nobody.local_addr().expect("bound");
    drop(nobody);
    let urls = format!("http://{gone}, {}", registry.url);
    let client = SchemaRegistry::new(&urls).expect("URLs");
    let id = client.register("orders-value", &schema()).await;
    assert_eq!(id, Ok(SchemaId(10)));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let timeout = Duration::from_millis(20);
    let client = SchemaRegistry::new(&url).expect("a URL");
    let client = client.request_timeout(timeout).attempts_max(1);
    let error = client.register("s", &schema()).await.expect_err("silence");
    assert_eq!(error.kind(), RegistryErrorKind::TimedOut(timeout));
}

#[tokio::test]
async fn an_answer_without_an_id_is_told() {
    let registry = Registry::start(&[(200, r#"{"id": -1}"#)]).await;
    let error = registry.client().register("s", &schema()).await;
    let error = error.expect_err("no id");
    assert_eq!(error.kind(), RegistryErrorKind::BadAnswer);
}

#[test]
fn subjects_are_named_as_confluents_strategies_do() {
    let name = "com.shop.Order";
    for (strategy, expected) in [
        (SubjectName::Topic, "orders-value"),
        (SubjectName::Record(name), "com.shop.Order"),
        (SubjectName::TopicRecord(name), "orders-com.shop.Order"),
    ] {
        assert_eq!(strategy.of("orders", Part::Value), expected);
    }
    assert_eq!(SubjectName::Topic.of("orders", Part::Key), "orders-key");
}
