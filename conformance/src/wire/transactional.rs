//! InitProducerId with a transactional id.
//!
//! *Not here*: without one (`answer.rs`).

use bytes::Bytes;

use super::Request;
use super::answer::{InitProducerId, InitProducerIdAnswer};
use super::reader::{DecodeError, Reader};
use super::request::{self, EncodeError};

/// Asks for the producer id of a transactional id; whatever it has open is aborted.
#[derive(Clone, Debug)]
pub struct InitTransactional {
    /// The transactional id.
    pub id: String,
}

impl Request for InitTransactional {
    type Answer = InitProducerIdAnswer;
    const API_KEY: i16 = InitProducerId::API_KEY;
    const NAME: &'static str = InitProducerId::NAME;
    const VERSION_MAX: i16 = InitProducerId::VERSION_MAX;
    const FLEXIBLE_FROM: i16 = InitProducerId::FLEXIBLE_FROM;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::init_producer_id(Some(&self.id), InitProducerId::NEW, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        InitProducerId::read_answer(reader, version)
    }
}
