//! Transactions, continued: offsets of groups that are committed in them.
//!
//! *Source*: KIP-98, KIP-447, KIP-890; `GroupCoordinatorService.java`,
//! `OffsetMetadataManager.java`; the codes are those observed on 4.3.1.

use bytes::Bytes;

use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::io::connection::Connection;
use crate::topic::Topic;
use crate::transactor::Transactor;
use crate::wire::group_offsets::{CommittedOffset, FindGroupCoordinator};
use crate::wire::groups::{
    AddOffsets, Claim, JoinGroup, JoinGroupAnswer, OffsetFetch, TxnOffsetCommit,
};
use crate::wire::transactional::Decision;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TXN-31",
        level: Level::Wire,
        sentence: "offsets that a transaction commits are a group's once it is committed, and \
                   never when it is aborted",
        source: "OffsetMetadataManager.java commitTransactionalOffset, replayEndTransactionMarker",
        needs: &[],
        run: |c| Box::pin(count_with_the_transaction(c)),
    },
    Case {
        id: "TXN-32",
        level: Level::Wire,
        sentence: "while a transaction may change an offset, whoever wants a stable one is \
                   refused with 88",
        source: "KIP-447; OffsetMetadataManager.java fetchOffsets (UNSTABLE_OFFSET_COMMIT)",
        needs: &[],
        run: |c| Box::pin(not_stable(c)),
    },
    Case {
        id: "TXN-33",
        level: Level::Wire,
        sentence: "offsets in the name of an older generation (22), of a member that the group \
                   does not have (25), or of a fenced instance (82) are refused from version 3 on",
        source: "KIP-447; ClassicGroup.java validateOffsetCommit",
        needs: &[],
        run: |c| Box::pin(members_that_are_not(c)),
    },
    Case {
        id: "TXN-34",
        level: Level::Wire,
        sentence: "from TxnOffsetCommit 5 on offsets join their transaction by themselves; before \
                   it they are refused (120 in version 4, 48 in version 3)",
        source: "KIP-890; CoordinatorPartitionWriter.java",
        needs: &[],
        run: |c| Box::pin(join_by_themselves(c)),
    },
];

/// From here on members are told of (KIP-447).
const CLAIMS_FROM: i16 = 3;
/// From here on offsets join by themselves.
const JOINS_FROM: i16 = 5;
/// From here on stable offsets can be asked for.
const STABLE_FROM: i16 = 7;
/// What a [`Committer`] commits.
pub(super) const OFFSET: i64 = 42;
const SESSION_MS: i32 = 30_000;

/// A group of a case's own, and a transactor that commits for it.
pub(super) struct Committer {
    context: Context,
    pub(super) topic: Topic,
    pub(super) group: String,
    pub(super) coordinator: Connection,
    pub(super) transactor: Transactor,
}

impl Committer {
    pub(super) async fn start(c: &Context) -> Result<Self, Objection> {
        let topic = c.topic(1).await?;
        let group = c.topic_name();
        Self::of(c, topic, group).await
    }

    /// One for a group and partition 0 of a topic.
    pub(super) async fn of(c: &Context, topic: Topic, group: String) -> Result<Self, Objection> {
        Ok(Self {
            context: c.clone(),
            coordinator: group_coordinator(c, &group).await?,
            transactor: c.transactor().await?,
            topic,
            group,
        })
    }

    pub(super) async fn join(&mut self, version: i16) -> Result<(), Objection> {
        let request = AddOffsets {
            id: self.transactor.id.clone(),
            stamp: self.transactor.stamp,
            group: self.group.clone(),
        };
        let patience = self.context.patience("offsets join".to_owned());
        loop {
            let error = self.transactor.coordinator.ask(&request, version).await?;
            match error.0 {
                0 => return Ok(()),
                // The transaction before is not complete yet.
                51 => patience.wait(format!("code {error}")).await?,
                code => return expect_eq(format!("AddOffsetsToTxn v{version}"), 0, code),
            }
        }
    }

    /// The code with which offset 42 is taken.
    pub(super) async fn commit(&mut self, version: i16, claim: Claim) -> Result<i16, Objection> {
        let request = TxnOffsetCommit {
            id: self.transactor.id.clone(),
            stamp: self.transactor.stamp,
            group: self.group.clone(),
            claim,
            topic: self.topic.name.clone(),
            offset: OFFSET,
        };
        let patience = self.context.patience("offsets are judged".to_owned());
        loop {
            let error = self.coordinator.ask(&request, version).await?;
            match error.0 {
                14..=16 | 51 => patience.wait(format!("code {error}")).await?,
                code => return Ok(code),
            }
        }
    }

    pub(super) async fn fetch(
        &mut self,
        version: i16,
        stable: bool,
    ) -> Result<CommittedOffset, Objection> {
        let request = OffsetFetch {
            group: self.group.clone(),
            topic: self.topic.name.clone(),
            stable,
        };
        self.coordinator.ask(&request, version).await
    }

    /// Waits until the group has this offset.
    pub(super) async fn await_offset(&mut self, offset: i64) -> Result<(), Objection> {
        let version = self.context.version::<OffsetFetch>();
        let patience = self.context.patience(format!("the offset is {offset}"));
        loop {
            let answer = self.fetch(version, true).await?;
            if answer.error.0 == 0 && answer.offset == offset {
                return Ok(());
            }
            patience.wait(format!("{answer:?}")).await?;
        }
    }

    async fn join_group(&mut self, instance: &str) -> Result<JoinGroupAnswer, Objection> {
        join(&self.context, &self.group, Some(instance)).await
    }
}

/// A new member of a group, by JoinGroup 3, or 5 of one that names itself.
pub(super) async fn join(
    c: &Context,
    group: &str,
    instance: Option<&str>,
) -> Result<JoinGroupAnswer, Objection> {
    join_saying(c, group, instance, &Bytes::from_static(b"m")).await
}

/// The same with what the member says to its leader.
pub(super) async fn join_saying(
    c: &Context,
    group: &str,
    instance: Option<&str>,
    metadata: &Bytes,
) -> Result<JoinGroupAnswer, Objection> {
    let request = JoinGroup {
        group: group.to_owned(),
        session_ms: SESSION_MS,
        member: String::new(),
        instance: instance.map(str::to_owned),
        metadata: metadata.clone(),
    };
    let version = if instance.is_some() { 5 } else { 3 };
    let mut coordinator = group_coordinator(c, group).await?;
    let patience = c.patience("a member joins".to_owned());
    loop {
        let answer = coordinator.ask(&request, version).await?;
        match answer.error.0 {
            0 => return Ok(answer),
            14..=16 => patience.wait(format!("code {}", answer.error)).await?,
            code => {
                let observed = format!("code {code}");
                return Err(Objection::new("JoinGroup", "code 0 NONE", observed));
            }
        }
    }
}

/// The offset that a group has in partition 0, stable or not; −1 for none.
pub(super) async fn offset(c: &Context, group: &str, topic: &Topic) -> Result<i64, Objection> {
    let answer = committed_offset(c, (group, topic), false).await?;
    expect_eq("OffsetFetch", 0, answer.error.0)?;
    Ok(answer.offset)
}

/// Waits until a group has this offset in partition 0, stable or not.
pub(super) async fn await_offset(
    c: &Context,
    (group, topic): (&str, &Topic),
    expected: i64,
) -> Result<(), Objection> {
    let patience = c.patience(format!("the offset of {group} is {expected}"));
    loop {
        let fetched = offset(c, group, topic).await?;
        if fetched == expected {
            return Ok(());
        }
        patience.wait(format!("{fetched}")).await?;
    }
}

/// The same once no transaction may change it any more: a commit is told before its markers are
/// written.
pub(super) async fn stable_offset(
    c: &Context,
    group: &str,
    topic: &Topic,
) -> Result<i64, Objection> {
    let patience = c.patience(format!("no transaction may change how far {group} is"));
    loop {
        let answer = committed_offset(c, (group, topic), true).await?;
        match answer.error.0 {
            14..=16 | 88 => patience.wait(format!("code {}", answer.error)).await?,
            code => {
                expect_eq("OffsetFetch", 0, code)?;
                return Ok(answer.offset);
            }
        }
    }
}

/// What a group's coordinator answers for partition 0.
async fn committed_offset(
    c: &Context,
    (group, topic): (&str, &Topic),
    stable: bool,
) -> Result<CommittedOffset, Objection> {
    let request = OffsetFetch {
        group: group.to_owned(),
        topic: topic.name.clone(),
        stable,
    };
    let mut coordinator = group_coordinator(c, group).await?;
    coordinator.ask(&request, c.version::<OffsetFetch>()).await
}

pub(super) async fn group_coordinator(c: &Context, group: &str) -> Result<Connection, Objection> {
    let request = FindGroupCoordinator {
        group: group.to_owned(),
    };
    let patience = c.patience(format!("{group} has a coordinator"));
    loop {
        let mut connection = c.connect().await?;
        let answer = connection
            .ask(&request, c.version::<FindGroupCoordinator>())
            .await?;
        if answer.error.0 == 0 {
            return c.connect_to(&answer.address).await;
        }
        patience.wait(format!("code {}", answer.error)).await?;
    }
}

async fn count_with_the_transaction(c: Context) -> Result<(), Objection> {
    for version in 0..JOINS_FROM {
        for decision in [Decision::Abort, Decision::Commit] {
            let mut committer = Committer::start(&c).await?;
            committer
                .join(version.min(c.version::<AddOffsets>()))
                .await?;
            let code = committer.commit(version, Claim::none()).await?;
            expect_eq(format!("TxnOffsetCommit v{version}"), 0, code)?;
            let before = committer.fetch(1, false).await?.offset;
            expect_eq("before the end", -1, before)?;
            committer.transactor.ended(decision).await?;
            let offset = match decision {
                Decision::Commit => OFFSET,
                Decision::Abort => -1,
            };
            committer.await_offset(offset).await?;
        }
    }
    Ok(())
}

async fn not_stable(c: Context) -> Result<(), Objection> {
    for decision in [Decision::Abort, Decision::Commit] {
        let mut committer = Committer::start(&c).await?;
        committer.join(c.version::<AddOffsets>()).await?;
        let code = committer.commit(CLAIMS_FROM, Claim::none()).await?;
        expect_eq("TxnOffsetCommit", 0, code)?;
        for version in 1..=c.version::<OffsetFetch>() {
            for stable in [false, true] {
                if stable && version < STABLE_FROM {
                    continue;
                }
                let answer = committer.fetch(version, stable).await?;
                let step = format!("OffsetFetch v{version}, stable {stable}");
                let code = if stable { 88 } else { 0 };
                expect_eq(&step, code, answer.error.0)?;
                expect_eq(step, -1, answer.offset)?;
            }
        }
        committer.transactor.ended(decision).await?;
        let offset = match decision {
            Decision::Commit => OFFSET,
            Decision::Abort => -1,
        };
        committer.await_offset(offset).await?;
    }
    Ok(())
}

async fn members_that_are_not(c: Context) -> Result<(), Objection> {
    for version in CLAIMS_FROM..=c.version::<TxnOffsetCommit>() {
        let mut committer = Committer::start(&c).await?;
        committer.join(c.version::<AddOffsets>()).await?;
        let first = committer.join_group("instance").await?;
        let second = committer.join_group("instance").await?;
        let claim = |generation, member: &str, instance: Option<&str>| Claim {
            generation,
            member: member.to_owned(),
            instance: instance.map(str::to_owned),
        };
        let (now, member) = (second.generation, second.member.as_str());
        let claims = [
            ("an older generation", claim(now - 1, member, None), 22),
            ("a stranger", claim(now, "stranger", None), 25),
            (
                "who was the instance before",
                claim(now, &first.member, Some("instance")),
                82,
            ),
            ("a member", claim(now, member, Some("instance")), 0),
        ];
        for (what, claim, code) in claims {
            let taken = committer.commit(version, claim).await?;
            let step = format!("TxnOffsetCommit v{version}, {what}");
            expect_eq(step, code, taken)?;
        }
        committer.transactor.ended(Decision::Commit).await?;
        committer.await_offset(OFFSET).await?;
    }
    Ok(())
}

async fn join_by_themselves(c: Context) -> Result<(), Objection> {
    for version in CLAIMS_FROM..=c.version::<TxnOffsetCommit>() {
        let mut committer = Committer::start(&c).await?;
        let code = match version {
            JOINS_FROM.. => 0,
            4 => 120,
            _ => 48,
        };
        let taken = committer.commit(version, Claim::none()).await?;
        expect_eq(format!("TxnOffsetCommit v{version}"), code, taken)?;
        if code == 0 {
            committer.transactor.ended(Decision::Commit).await?;
            committer.await_offset(OFFSET).await?;
        }
    }
    Ok(())
}
