//! Groups that are deleted, and offsets of theirs.
//!
//! *Source*: KIP-229, KIP-496; `GroupCoordinatorShard.java` deleteGroups,
//! `OffsetMetadataManager.java` deleteOffsets, `ClassicGroup.java`; the codes are those observed on
//! 4.3.1.

use bytes::{BufMut, Bytes, BytesMut};

use super::txn_offsets::{Committer, OFFSET, group_coordinator, join, join_saying, offset};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::context::Context;
use crate::topic::Topic;
use crate::wire::answer::InitProducerId;
use crate::wire::group_deletion::{DeleteGroups, OffsetDelete, OffsetDeleteAnswer};
use crate::wire::group_offsets::CommittedOffset;
use crate::wire::groups::{Claim, TxnOffsetCommit};
use crate::wire::transactional::Decision;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "GRP-01",
        level: Level::Wire,
        sentence: "DeleteGroups deletes a group without members and its offsets, in one row \
                   however often it is named; 69 for what is no group",
        source: "KIP-229; GroupCoordinatorShard.java deleteGroups",
        needs: &[],
        run: |c| Box::pin(deleted_groups(c)),
    },
    Case {
        id: "GRP-02",
        level: Level::Wire,
        sentence: "a group with members is not deleted (68), and keeps its offsets",
        source: "KIP-229; ClassicGroup.java validateDeleteGroup",
        needs: &[],
        run: |c| Box::pin(groups_in_use(c)),
    },
    Case {
        id: "GRP-03",
        level: Level::Wire,
        sentence: "OffsetDelete deletes the offsets that it names, be they there or not; 3 for \
                   unknown partitions, 69 and 24 without rows for what is no group",
        source: "KIP-496; OffsetMetadataManager.java deleteOffsets; OffsetDeleteResponse.java",
        needs: &[],
        run: |c| Box::pin(deleted_offsets(c)),
    },
    Case {
        id: "GRP-04",
        level: Level::Wire,
        sentence: "offsets of a topic that members of their group read are not deleted (86), nor \
                   any where it is not known what they read",
        source: "KIP-496; ClassicGroup.java computeSubscribedTopics, isSubscribedToTopic",
        needs: &[],
        run: |c| Box::pin(offsets_in_use(c)),
    },
    Case {
        id: "GRP-05",
        level: Level::Wire,
        sentence: "what a transaction would commit is deleted too, with its group and alone: its \
                   commit then brings nothing back",
        source: "OffsetMetadataManager.java deleteAllOffsets, deleteOffsets",
        needs: &[],
        run: |c| Box::pin(pending_offsets(c)),
    },
];

/// A group that has committed an offset, and has no members.
async fn with_an_offset(c: &Context) -> Result<Committer, Objection> {
    let mut committer = pending(c).await?;
    committer.transactor.ended(Decision::Commit).await?;
    committer.await_offset(OFFSET).await?;
    Ok(committer)
}

/// The same while its transaction is open.
async fn pending(c: &Context) -> Result<Committer, Objection> {
    let mut committer = Committer::start(c).await?;
    committer.join(3).await?;
    let version = c.version::<TxnOffsetCommit>();
    let code = committer.commit(version, Claim::none()).await?;
    expect_eq("TxnOffsetCommit", 0, code)?;
    Ok(committer)
}

/// What whoever coordinates `group` answers to its deletion, and that of what else is named.
async fn delete(
    c: &Context,
    version: i16,
    group: &str,
    beside: &[&str],
) -> Result<String, Objection> {
    let named = core::iter::once(&group).chain(beside);
    let groups = named.map(|group| (*group).to_owned()).collect();
    let mut coordinator = group_coordinator(c, group).await?;
    let rows = coordinator.ask(&DeleteGroups { groups }, version).await?;
    let rows = rows.iter().map(|(group, error)| (group.as_str(), error.0));
    Ok(format!("{:?}", rows.collect::<Vec<_>>()))
}

/// The same of rows.
fn rows(rows: &[(&str, i16)]) -> String {
    format!("{rows:?}")
}

async fn deleted_groups(c: Context) -> Result<(), Objection> {
    for version in 0..=c.version::<DeleteGroups>() {
        let mut committer = with_an_offset(&c).await?;
        let group = committer.group.clone();
        let step = format!("DeleteGroups v{version}");
        let told = delete(&c, version, &group, &[&group]).await?;
        expect_eq(&step, rows(&[(&group, 0)]), told)?;
        let left = committer.fetch(7, true).await?.offset;
        expect_eq("its offset", -1, left)?;
        for none in [group.as_str(), &format!("{group}-not"), ""] {
            let told = delete(&c, version, none, &[]).await?;
            expect_eq(format!("{step}, {none:?}"), rows(&[(none, 69)]), told)?;
        }
        let none = DeleteGroups { groups: Vec::new() };
        let told = committer.coordinator.ask(&none, version).await?;
        expect_eq(format!("{step}, none"), 0, told.len())?;
    }
    Ok(())
}

async fn groups_in_use(c: Context) -> Result<(), Objection> {
    let mut committer = with_an_offset(&c).await?;
    let group = committer.group.clone();
    join(&c, &group, None).await?;
    for version in 0..=c.version::<DeleteGroups>() {
        let told = delete(&c, version, &group, &[]).await?;
        expect_eq(
            format!("DeleteGroups v{version}"),
            rows(&[(&group, 68)]),
            told,
        )?;
    }
    let left = committer.fetch(7, true).await?.offset;
    expect_eq("its offset", OFFSET, left)
}

/// A group's topics with partitions, of which offsets are to be deleted.
async fn delete_offsets(
    c: &Context,
    group: &str,
    topics: &[(&Topic, &[i32])],
) -> Result<OffsetDeleteAnswer, Objection> {
    let named = topics.iter();
    let topics = named.map(|(topic, partitions)| (topic.name.clone(), partitions.to_vec()));
    let request = OffsetDelete {
        group: group.to_owned(),
        topics: topics.collect(),
    };
    let mut coordinator = group_coordinator(c, group).await?;
    let mut answer = coordinator.ask(&request, 0).await?;
    answer.rows.sort();
    Ok(answer)
}

fn expect_deleted(
    step: &str,
    (code, rows): (i16, &[(&Topic, i32, i16)]),
    answer: &OffsetDeleteAnswer,
) -> Result<(), Objection> {
    let expected = rows.iter();
    let expected = expected.map(|(topic, index, code)| (topic.name.as_str(), *index, *code));
    let seen = answer.rows.iter();
    let seen = seen.map(|(topic, index, error)| (topic.as_str(), *index, error.0));
    let expected = format!("code {code}, {:?}", expected.collect::<Vec<_>>());
    let seen = format!("code {}, {:?}", answer.error.0, seen.collect::<Vec<_>>());
    expect_eq(step, expected, seen)
}

async fn deleted_offsets(c: Context) -> Result<(), Objection> {
    let mut committer = with_an_offset(&c).await?;
    let (group, topic) = (committer.group.clone(), committer.topic.clone());
    let mut nowhere = topic.clone();
    nowhere.name = c.topic_name();
    let not = format!("{group}-not");
    for (what, group, code) in [("unknown", not.as_str(), 69), ("unnamed", "", 24)] {
        let answer = delete_offsets(&c, group, &[(&topic, &[0, 9])]).await?;
        expect_deleted(what, (code, &[]), &answer)?;
    }
    let answer = delete_offsets(&c, &group, &[(&topic, &[]), (&nowhere, &[3])]).await?;
    expect_deleted("nothing", (0, &[(&nowhere, 3, 3)]), &answer)?;
    expect_eq("its offset", OFFSET, offset(&c, &group, &topic).await?)?;
    let named: [(&Topic, &[i32]); 2] = [(&topic, &[9, 0]), (&nowhere, &[3])];
    let answer = delete_offsets(&c, &group, &named).await?;
    let rows = [(&topic, 0, 0), (&topic, 9, 3), (&nowhere, 3, 3)];
    expect_deleted("what is there", (0, &rows), &answer)?;
    let left = committer.fetch(7, true).await?.offset;
    expect_eq("its offset", -1, left)?;
    let answer = delete_offsets(&c, &group, &[(&topic, &[0, 0])]).await?;
    let rows = [(&topic, 0, 0), (&topic, 0, 0)];
    expect_deleted("again, twice", (0, &rows), &answer)?;
    let answer = delete_offsets(&c, &group, &[]).await?;
    expect_deleted("for no topic", (0, &[]), &answer)
}

/// A topic that every broker with a group has: its name is no run's.
const READ: &str = "__consumer_offsets";

/// What a consumer tells its leader that reads it: version 0, one topic, no data.
fn subscription() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[0, 0, 0, 0, 0, 1]);
    bytes.put_u16(u16::try_from(READ.len()).unwrap_or_default());
    bytes.put_slice(READ.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

async fn offsets_in_use(c: Context) -> Result<(), Objection> {
    let committer = with_an_offset(&c).await?;
    let (group, topic) = (committer.group.clone(), committer.topic.clone());
    let mut read = topic.clone();
    read.name = READ.to_owned();
    join_saying(&c, &group, None, &subscription()).await?;
    let named: [(&Topic, &[i32]); 2] = [(&topic, &[0]), (&read, &[0, 99])];
    let answer = delete_offsets(&c, &group, &named).await?;
    let rows = [(&read, 0, 86), (&read, 99, 3), (&topic, 0, 0)];
    expect_deleted("one topic is read", (0, &rows), &answer)?;
    expect_eq("its offset", -1, offset(&c, &group, &topic).await?)?;

    let committer = with_an_offset(&c).await?;
    let (group, topic) = (committer.group.clone(), committer.topic.clone());
    join(&c, &group, None).await?;
    let named: [(&Topic, &[i32]); 2] = [(&topic, &[0]), (&read, &[0])];
    let answer = delete_offsets(&c, &group, &named).await?;
    let rows = [(&read, 0, 86), (&topic, 0, 86)];
    expect_deleted("who knows which", (0, &rows), &answer)?;
    expect_eq("its offset", OFFSET, offset(&c, &group, &topic).await?)
}

async fn pending_offsets(c: Context) -> Result<(), Objection> {
    let mut committer = pending(&c).await?;
    let (group, topic) = (committer.group.clone(), committer.topic.clone());
    let answer = delete_offsets(&c, &group, &[(&topic, &[0])]).await?;
    expect_deleted("OffsetDelete", (0, &[(&topic, 0, 0)]), &answer)?;
    expect_nothing(&mut committer).await?;

    let mut committer = pending(&c).await?;
    let group = committer.group.clone();
    let told = delete(&c, c.version::<DeleteGroups>(), &group, &[]).await?;
    expect_eq("DeleteGroups", rows(&[(&group, 0)]), told)?;
    expect_nothing(&mut committer).await
}

/// Neither before the commit nor after it has the group an offset.
async fn expect_nothing(committer: &mut Committer) -> Result<(), Objection> {
    let before = committer.fetch(7, true).await?;
    expect_eq("while it is open", "-1, code 0", told(&before).as_str())?;
    committer.transactor.ended(Decision::Commit).await?;
    // The next transaction of the id begins once all markers of this one are there.
    committer
        .transactor
        .settled_init(InitProducerId::NEW)
        .await?;
    let after = committer.fetch(7, true).await?;
    expect_eq("after the commit", "-1, code 0", told(&after).as_str())
}

fn told(offset: &CommittedOffset) -> String {
    format!("{}, code {}", offset.offset, offset.error.0)
}
