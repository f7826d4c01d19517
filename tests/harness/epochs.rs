//! Which epochs were given to whom by those who coordinate transactions.
//!
//! Apache Kafka 4.3.1 gives one to two processes, in one constellation: the level of transactions
//! was raised, an older process ends a transaction with EndTxn 5, and the newer one, a single epoch
//! ahead, has just ended one in the same way with EndTxn 4 (conformance case EOS-23, which the
//! cluster here follows). Of what two processes do with one epoch nothing can be promised.
//!
//! *Source*: `InitProducerIdResponse.json` from version 2 on, `EndTxnResponse.json` from 5 on.
//!
//! *Not here*: what becomes of such a run (`faults.rs`).

use std::collections::BTreeMap;

use kafka_mockbroker::Api;

/// What answers gave.
#[derive(Debug, Default)]
pub(crate) struct EpochsGiven {
    /// By producer id and epoch: who got them first.
    owners: BTreeMap<(i64, i16), u32>,
    shared: bool,
}

impl EpochsGiven {
    /// An answer reached a producer.
    pub(crate) fn on_answer(&mut self, producer: u32, (api, version): (Api, i16), frame: &[u8]) {
        let begins = api == Api::InitProducerId && version >= 2;
        let ends = api == Api::EndTxn && version >= 5;
        // Correlation id, no tags, throttle time.
        let Some([0, 0, id @ .., e0, e1]) = frame.get(9..).and_then(<[u8]>::first_chunk::<12>)
        else {
            return;
        };
        let id: &[u8; 8] = id;
        let given = (i64::from_be_bytes(*id), i16::from_be_bytes([*e0, *e1]));
        if begins || ends {
            let owner = *self.owners.entry(given).or_insert(producer);
            self.shared |= ends && owner != producer;
        }
    }

    /// Whether an end gave somebody the epoch of another.
    pub(crate) fn shared(&self) -> bool {
        self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: i64, epoch: i16) -> Vec<u8> {
        let parts: [&[u8]; 4] = [&[7; 4], &[0; 5], &[0; 2], &id.to_be_bytes()];
        [&parts.concat(), &epoch.to_be_bytes()[..], &[0]].concat()
    }

    #[test]
    fn an_epoch_of_another_is_shared_only_by_an_end() {
        let mut given = EpochsGiven::default();
        given.on_answer(1, (Api::InitProducerId, 5), &answer(9, 3));
        given.on_answer(1, (Api::EndTxn, 5), &answer(9, 4));
        given.on_answer(2, (Api::EndTxn, 4), &answer(9, 4));
        given.on_answer(2, (Api::EndTxn, 5), &answer(8, 4));
        given.on_answer(2, (Api::InitProducerId, 5), &answer(9, 4));
        assert!(!given.shared());
        given.on_answer(2, (Api::EndTxn, 5), &answer(9, 4));
        assert!(given.shared());
    }
}
