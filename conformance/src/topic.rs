//! A topic of a case: made, served, led.
//!
//! *Invariants*
//! 1. A topic is created for one case and named for it; no case sees another's records.
//! 2. A topic is handed out when its leaders answer: right after creation a broker answers 3, then
//!    6 naming itself, and only then serves (observed on 4.3.1).
//! 3. Who leads now is asked of all brokers, and the newest answer counts.

use bytes::Bytes;

use crate::case::Objection;
use crate::context::Context;
use crate::io::connection::Connection;
use crate::wire::answer::{CreateTopic, LATEST, ListOffsets, Metadata};
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{Produce, TIMEOUT_MS, TopicData};

/// A topic made for a case.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero when the broker has none.
    pub id: [u8; 16],
    /// The leader's address by partition.
    leaders: Vec<String>,
}

/// A topic as one broker tells it.
#[derive(Clone, Debug)]
struct Led {
    topic: Topic,
    /// How often a leader was chosen, by partition.
    epochs: Vec<i32>,
}

impl Led {
    /// Of each partition the leader that was chosen last.
    fn newer(one: Option<Self>, other: Self) -> Self {
        let Some(mut newer) = one else {
            return other;
        };
        let others = other.epochs.into_iter().zip(other.topic.leaders);
        let own = newer.epochs.iter_mut().zip(&mut newer.topic.leaders);
        for ((epoch, leader), (other_epoch, other_leader)) in own.zip(others) {
            if other_epoch > *epoch {
                (*epoch, *leader) = (other_epoch, other_leader);
            }
        }
        newer
    }
}

impl Topic {
    /// The address of a partition's leader, as it was when the topic was handed out.
    pub fn leader_of(&self, partition: i32) -> Option<&str> {
        let index = usize::try_from(partition).ok()?;
        self.leaders.get(index).map(String::as_str)
    }

    /// A Produce request with acks=all that writes `records` to `partition`.
    pub fn produce(&self, partition: i32, records: Bytes) -> Produce {
        self.produce_all(vec![(partition, records)])
    }

    /// A Produce request with acks=all that writes to several partitions.
    pub fn produce_all(&self, partitions: Vec<(i32, Bytes)>) -> Produce {
        let partitions = partitions
            .into_iter()
            .map(|(index, records)| (index, Some(records)))
            .collect();
        let data = TopicData {
            name: self.name.clone(),
            id: self.id,
            partitions,
        };
        Produce {
            transactional_id: None,
            acks: -1,
            timeout_ms: TIMEOUT_MS,
            topics: vec![data],
        }
    }
}

impl Context {
    /// Creates a topic of `partitions` partitions, one replica each, and waits until its leaders
    /// serve it.
    ///
    /// # Errors
    ///
    /// When it is refused, or not served in time.
    ///
    /// # Cancellation
    ///
    /// The topic may have been created.
    pub async fn topic(&self, partitions: i32) -> Result<Topic, Objection> {
        self.topic_with(partitions, &[]).await
    }

    /// As [`Self::topic`], with the topic configuration `configs` by Kafka's names.
    ///
    /// # Errors
    ///
    /// As [`Self::topic`].
    ///
    /// # Cancellation
    ///
    /// The topic may have been created.
    pub async fn topic_with(
        &self,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Topic, Objection> {
        self.replicated_topic((partitions, 1), configs).await
    }

    /// As [`Self::topic_with`], with `replicas` of each partition.
    ///
    /// # Errors
    ///
    /// As [`Self::topic`].
    ///
    /// # Cancellation
    ///
    /// The topic may have been created.
    pub async fn replicated_topic(
        &self,
        size: (i32, i16),
        configs: &[(&str, &str)],
    ) -> Result<Topic, Objection> {
        let name = self.topic_name();
        let mut connection = self.connect().await?;
        self.create_by(&mut connection, (&name, size, configs))
            .await?;
        self.served_by(&mut connection, &name, size.0).await
    }

    /// Creates a topic of that name with one replica, and does not wait for it to be served.
    ///
    /// # Errors
    ///
    /// When it is refused.
    ///
    /// # Cancellation
    ///
    /// The topic may have been created.
    pub async fn create(&self, name: &str, partitions: i32) -> Result<(), Objection> {
        let mut connection = self.connect().await?;
        self.create_by(&mut connection, (name, (partitions, 1), &[]))
            .await
    }

    async fn create_by(
        &self,
        connection: &mut Connection,
        (name, (partitions, replicas), configs): (&str, (i32, i16), &[(&str, &str)]),
    ) -> Result<(), Objection> {
        let request = CreateTopic {
            name: name.to_owned(),
            partitions,
            replicas,
            configs: configs
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        };
        let answer = connection
            .ask(&request, self.version::<CreateTopic>())
            .await?;
        if answer.error != ErrorCode::NONE {
            let observed = format!("code {}, message {:?}", answer.error, answer.message);
            return Err(Objection::new("create a topic", "code 0 NONE", observed));
        }
        Ok(())
    }

    /// The topic of that name, once the leaders of so many partitions serve it.
    ///
    /// # Errors
    ///
    /// When they do not in time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn served(&self, name: &str, partitions: i32) -> Result<Topic, Objection> {
        let mut connection = self.connect().await?;
        self.served_by(&mut connection, name, partitions).await
    }

    async fn served_by(
        &self,
        connection: &mut Connection,
        name: &str,
        partitions: i32,
    ) -> Result<Topic, Objection> {
        let patience = self.patience(format!("topic {name} is served"));
        loop {
            let seen = match self.look_up(connection, name, partitions).await? {
                Ok(Led { topic, .. }) => match self.unserved(&topic).await? {
                    None => return Ok(topic),
                    Some(seen) => seen,
                },
                Err(seen) => seen,
            };
            patience.wait(seen).await?;
        }
    }

    /// Waits until the leaders of `topic` serve it again, as after a restart.
    ///
    /// # Errors
    ///
    /// When they do not in time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn await_served(&self, topic: &Topic) -> Result<(), Objection> {
        let patience = self.patience(format!("topic {} is served again", topic.name));
        loop {
            let seen = match self.unserved(topic).await {
                Ok(None) => return Ok(()),
                Ok(Some(seen)) => seen,
                Err(objection) => objection.observed,
            };
            patience.wait(seen).await?;
        }
    }

    /// The topic with the leaders it has now: of what the brokers that answer tell, the newest. One
    /// that stood still or was cut off tells the leaders of before, with an older epoch, until it
    /// hears what happened.
    ///
    /// # Errors
    ///
    /// When no broker answers, or one that does knows no leader in time.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn led_now(&self, topic: &Topic) -> Result<Topic, Objection> {
        let patience = self.patience(format!("the leaders of {} are known", topic.name));
        let partitions = i32::try_from(topic.leaders.len()).unwrap_or(i32::MAX);
        loop {
            match self.newest_leaders(&topic.name, partitions).await {
                Ok(topic) => return Ok(topic),
                Err(seen) => patience.wait(seen).await?,
            }
        }
    }

    async fn newest_leaders(&self, name: &str, partitions: i32) -> Result<Topic, String> {
        let mut newest: Option<Led> = None;
        let mut seen = "the target names no address".to_owned();
        for address in self.target().bootstrap() {
            let told = async {
                let mut connection = self.connect_to(&address).await?;
                self.look_up(&mut connection, name, partitions).await
            };
            match told.await {
                Ok(led) => newest = Some(Led::newer(newest, led?)),
                Err(objection) => seen = objection.observed,
            }
        }
        newest.map(|led| led.topic).ok_or(seen)
    }

    /// The topic as Metadata has it now, or in words why it is not complete.
    async fn look_up(
        &self,
        connection: &mut Connection,
        name: &str,
        partitions: i32,
    ) -> Result<Result<Led, String>, Objection> {
        let version = self.version::<Metadata>();
        let answer = connection.ask(&Metadata::of(&[name]), version).await?;
        let Some(topic) = answer.topic(name) else {
            return Ok(Err("no such row".into()));
        };
        if topic.error != ErrorCode::NONE {
            return Ok(Err(format!("Metadata: code {}", topic.error)));
        }
        let mut leaders = Vec::new();
        let mut epochs = Vec::new();
        for index in 0..partitions {
            let row = topic.partitions.iter().find(|row| row.index == index);
            let led = row.and_then(|row| Some((row, answer.address(row.leader)?)));
            let Some((row, address)) = led else {
                return Ok(Err(format!("Metadata: partition {index} has no leader")));
            };
            leaders.push(address.to_owned());
            epochs.push(row.leader_epoch);
        }
        let topic = Topic {
            name: name.to_owned(),
            id: topic.id,
            leaders,
        };
        Ok(Ok(Led { topic, epochs }))
    }

    /// What a leader says when it does not serve its partitions yet.
    async fn unserved(&self, topic: &Topic) -> Result<Option<String>, Objection> {
        let mut addresses = topic.leaders.clone();
        addresses.sort();
        addresses.dedup();
        for address in addresses {
            let led = topic
                .leaders
                .iter()
                .enumerate()
                .filter(|(_, leader)| **leader == address);
            let partitions = led
                .filter_map(|(index, _)| i32::try_from(index).ok())
                .collect();
            let request = ListOffsets {
                topic: topic.name.clone(),
                partitions,
                timestamp: LATEST,
            };
            let mut leader = self.connect_to(&address).await?;
            let rows = leader.ask(&request, self.version::<ListOffsets>()).await?;
            if let Some(row) = rows.iter().find(|row| row.error != ErrorCode::NONE) {
                let seen = format!("ListOffsets of partition {}: code {}", row.index, row.error);
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(leaders: [(&str, i32); 2]) -> Led {
        let topic = Topic {
            name: "t".to_owned(),
            id: [0; 16],
            leaders: leaders.map(|(leader, _)| leader.to_owned()).to_vec(),
        };
        let epochs = leaders.map(|(_, epoch)| epoch).to_vec();
        Led { topic, epochs }
    }

    #[test]
    fn leader_is_the_one_that_was_chosen_last_whoever_tells_it() {
        let one = led([("a", 3), ("b", 7)]);
        let other = led([("c", 4), ("d", 6)]);
        for (first, then) in [(one.clone(), other.clone()), (other, one)] {
            let newer = Led::newer(Some(first), then);
            assert_eq!(newer.topic.leaders, ["c", "b"]);
            assert_eq!(newer.epochs, [4, 7]);
        }
    }
}
