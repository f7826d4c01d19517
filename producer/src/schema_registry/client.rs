//! What is asked of a registry, and remembered.
//!
//! *Invariants*
//! 1. What was answered once is not asked again, until so much is remembered that all is forgotten.
//! 2. A refusal that asking again cannot mend is told at once; anything else is tried again, with
//!    waits that double.
//!
//! *Source*: `POST /subjects/{subject}/versions` and `POST /subjects/{subject}` of Confluent's
//! schema registry.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::error::{RegistryError, RegistryErrorKind};
use super::http::{Answer, Base};
use super::{Schema, SchemaFormat, SchemaId};

/// A schema registry. Cheap to clone; all clones remember together.
///
/// Its methods need a tokio runtime with IO and time enabled.
#[derive(Clone)]
pub struct SchemaRegistry {
    shared: Arc<Shared>,
    request_timeout: Duration,
    attempts_max: u32,
}

struct Shared {
    /// Asked in turn; at least one.
    bases: Vec<Base>,
    remembered: Mutex<BTreeMap<Asked, SchemaId>>,
}

/// What an answer is remembered by.
type Asked = (Question, String, Schema);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Register,
    LookUp,
}

impl SchemaRegistry {
    /// The registry at these URLs, separated by commas: the next one is asked when one cannot be
    /// reached, or is at fault. Nothing is asked here.
    ///
    /// # Errors
    ///
    /// A [`RegistryError`] of kind [`RegistryErrorKind::InvalidUrl`]. Only `http` is spoken.
    pub fn new(urls: &str) -> Result<Self, RegistryError> {
        let bases: Result<Vec<Base>, _> = urls.split(',').map(Base::new).collect();
        Ok(Self {
            shared: Arc::new(Shared {
                bases: bases?,
                remembered: Mutex::default(),
            }),
            request_timeout: Duration::from_secs(10),
            attempts_max: 4,
        })
    }

    /// How long one answer may take. Default: 10 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How often each URL is asked at most, from 1, with waits of 100 ms, 200 ms, … up to 1 s in
    /// between. Default: 4.
    #[must_use]
    pub fn attempts_max(mut self, count: u32) -> Self {
        self.attempts_max = count.max(1);
        self
    }

    /// The id of this schema under this subject; it is registered if it is not yet.
    ///
    /// # Errors
    ///
    /// A [`RegistryError`]: the registry cannot be reached, or it refuses, 409 for one as the
    /// schema is not compatible with those before it.
    ///
    /// # Cancellation
    ///
    /// Dropping the future may leave the schema registered.
    pub async fn register(
        &self,
        subject: &str,
        schema: &Schema,
    ) -> Result<SchemaId, RegistryError> {
        self.id(Question::Register, subject, schema).await
    }

    /// The id of this schema under this subject, which must be registered already
    /// (`auto.register.schemas=false`).
    ///
    /// # Errors
    ///
    /// A [`RegistryError`]: the registry cannot be reached, or it does not know the subject (code
    /// 40401) or the schema (40403).
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn look_up(&self, subject: &str, schema: &Schema) -> Result<SchemaId, RegistryError> {
        self.id(Question::LookUp, subject, schema).await
    }

    async fn id(
        &self,
        question: Question,
        subject: &str,
        schema: &Schema,
    ) -> Result<SchemaId, RegistryError> {
        let asked: Asked = (question, subject.to_owned(), schema.clone());
        if let Some(id) = self.shared.remembered().get(&asked) {
            return Ok(*id);
        }
        let path = match question {
            Question::Register => format!("/subjects/{}/versions", encoded(subject)),
            Question::LookUp => format!("/subjects/{}", encoded(subject)),
        };
        let answer = self.ask(&path, &body(schema)).await?;
        let id = id_in(&path, &answer)?;
        let mut remembered = self.shared.remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(asked, id);
        Ok(id)
    }

    /// Asks each URL in turn, and all of them again after a wait.
    async fn ask(&self, path: &str, body: &str) -> Result<Answer, RegistryError> {
        let mut wait = WAIT_MIN;
        let mut attempt = 1;
        loop {
            let mut last = None;
            for base in &self.shared.bases {
                let asked = base.post(path, body, self.request_timeout).await;
                match asked.and_then(|answer| accepted(path, answer)) {
                    Ok(answer) => return Ok(answer),
                    Err(error) if error.may_retry() => last = Some(error),
                    Err(error) => return Err(error),
                }
            }
            if let Some(error) = last
                && attempt >= self.attempts_max
            {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

impl Shared {
    fn remembered(&self) -> MutexGuard<'_, BTreeMap<Asked, SchemaId>> {
        // Whole after each insertion, whoever panics between two.
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaRegistry")
            .field("bases", &self.shared.bases)
            .finish_non_exhaustive()
    }
}

fn accepted(path: &str, answer: Answer) -> Result<Answer, RegistryError> {
    let Answer { status, body } = answer;
    if (200..300).contains(&status) {
        return Ok(Answer { status, body });
    }
    let told: Option<Value> = serde_json::from_slice(&body).ok();
    let told = told.as_ref();
    let code = told.and_then(|told| told["error_code"].as_u64());
    let code = code.and_then(|code| u32::try_from(code).ok());
    let message = told.and_then(|told| told["message"].as_str());
    let kind = RegistryErrorKind::Refused { status, code };
    Err(RegistryError::new(kind, path, message.unwrap_or_default()))
}

fn id_in(path: &str, answer: &Answer) -> Result<SchemaId, RegistryError> {
    let bad = |message: String| RegistryError::new(RegistryErrorKind::BadAnswer, path, message);
    let told: Value =
        serde_json::from_slice(&answer.body).map_err(|error| bad(error.to_string()))?;
    let id = told["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    id.map(SchemaId)
        .ok_or_else(|| bad("it names no id".to_owned()))
}

fn body(schema: &Schema) -> String {
    let mut body = json!({ "schema": schema.text });
    match schema.format {
        // Older registries know no other, and refuse the field.
        SchemaFormat::Avro => {}
        SchemaFormat::Protobuf => body["schemaType"] = "PROTOBUF".into(),
        SchemaFormat::Json => body["schemaType"] = "JSON".into(),
    }
    if !schema.references.is_empty() {
        let references = schema.references.iter().map(|reference| {
            json!({
                "name": reference.name,
                "subject": reference.subject,
                "version": reference.version,
            })
        });
        body["references"] = references.collect();
    }
    body.to_string()
}

/// A part of a path: all but letters, digits and `-._~` as `%XX`.
fn encoded(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// As many as Confluent's own clients remember.
const REMEMBERED_MAX: usize = 1_000;
