//! Clusters that break one rule each, and the case that finds it: what a case that starts brokers
//! of its own is worth. Loopback TCP and the real clock; all run at once, since most of it waits.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kafka_conformance::case::{Case, Level};
use kafka_conformance::cases;
use kafka_conformance::runner::{RunOptions, TargetOutcome, run_target};
use kafka_conformance::target::{
    Action, Capabilities, Capability, Doing, MockTarget, OwnBrokers, Target, TargetKind,
    Unavailable,
};
use kafka_conformance::verdict::Verdict;
use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::{Api, ErrorCode, FaultGuard, MockCluster, Rule, Verdict as Fault};

/// How a cluster is wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// Not at all: what the case says without a mutation.
    Nothing,
    /// It does not heed a key of its configuration.
    Ignores(&'static str),
    /// It has another value for a key.
    Takes(&'static str, &'static str),
    /// Something that is done to a broker has no effect.
    Survives(Action),
    /// What is done to a broker has the effect of something else.
    Confuses(Action, Action),
    /// Every answer to Produce has this code, whatever became of the batch.
    Says(i16),
    /// An answer to Produce with this code, without looking at the batch.
    SaysUnread(i16),
    /// The second broker does not answer Metadata.
    SecondIsMute,
    /// Every answer of an API has this code, whatever became of the request.
    Tells(Api, i16),
    /// The same without looking at the request.
    TellsUnread(Api, i16),
    /// Metadata has this code for every topic, from the nth request on.
    MetadataSays(i16, u64),
    /// Offsets that are committed with a transaction are acknowledged and not kept.
    ForgetsOffsets,
}

/// Each new rule of a case, broken. The comment says which one where the line does not.
const MUTATIONS: &[(&str, Wrong)] = &[
    ("FRM-15", Wrong::Ignores("connections.max.idle.ms")),
    // Too early.
    ("FRM-15", Wrong::Takes("connections.max.idle.ms", "300")),
    ("MD-03", Wrong::Ignores("auto.create.topics.enable")),
    ("MD-03", Wrong::MetadataSays(17, 4)),
    ("MD-07", Wrong::Survives(Action::Kill)),
    ("MD-08", Wrong::Survives(Action::Kill)),
    ("MD-08", Wrong::MetadataSays(5, 4)),
    ("MD-10", Wrong::SecondIsMute),
    ("PRD-06", Wrong::Says(0)),
    // Stored although refused.
    ("PRD-06", Wrong::Says(19)),
    // The watermark goes on.
    ("PRD-07", Wrong::Survives(Action::Pause)),
    ("PRD-07", Wrong::Says(0)),
    // Never seen again.
    ("PRD-07", Wrong::Survives(Action::Resume)),
    ("PRD-08", Wrong::Survives(Action::Pause)),
    // 7, but nothing is stored.
    ("PRD-08", Wrong::SaysUnread(7)),
    ("PRD-20", Wrong::Says(0)),
    ("PRD-20", Wrong::SaysUnread(3)),
    ("IDM-10", Wrong::Says(0)),
    // 0 is refused too.
    ("IDM-10", Wrong::Says(45)),
    ("IDM-15", Wrong::Says(0)),
    ("IDM-15", Wrong::Survives(Action::Kill)),
    // A restart that keeps all five.
    ("IDM-16", Wrong::Survives(Action::Kill)),
    ("IDM-16", Wrong::Says(0)),
    // Not started again.
    ("IDM-16", Wrong::Confuses(Action::Start, Action::Kill)),
    ("IDM-17", Wrong::Ignores("producer.id.expiration.ms")),
    ("IDM-17", Wrong::Says(0)),
    ("TXN-02", Wrong::Tells(Api::InitProducerId, 0)),
    ("TXN-02", Wrong::Tells(Api::AddPartitionsToTxn, 0)),
    ("TXN-02", Wrong::Tells(Api::EndTxn, 15)),
    ("TXN-16", Wrong::Says(0)),
    ("TXN-16", Wrong::Says(47)),
    ("TXN-27", Wrong::Tells(Api::EndTxn, 0)),
    ("TXN-27", Wrong::Tells(Api::AddPartitionsToTxn, 0)),
    ("TXN-28", Wrong::Says(0)),
    ("TXN-28", Wrong::Tells(Api::EndTxn, 0)),
    ("TXN-28", Wrong::Tells(Api::AddPartitionsToTxn, 0)),
    ("TXN-31", Wrong::Tells(Api::TxnOffsetCommit, 48)),
    // Told as committed, and not.
    ("TXN-31", Wrong::TellsUnread(Api::TxnOffsetCommit, 0)),
    ("TXN-32", Wrong::Tells(Api::OffsetFetch, 0)),
    ("TXN-33", Wrong::Tells(Api::TxnOffsetCommit, 0)),
    ("TXN-33", Wrong::Tells(Api::TxnOffsetCommit, 25)),
    ("TXN-34", Wrong::Tells(Api::TxnOffsetCommit, 0)),
    ("TXN-34", Wrong::TellsUnread(Api::TxnOffsetCommit, 0)),
    ("TXN-35", Wrong::Says(0)),
    ("TXN-36", Wrong::Survives(Action::Kill)),
    ("TXN-37", Wrong::Survives(Action::Kill)),
    // Told as committed, and not.
    ("TXN-37", Wrong::TellsUnread(Api::EndTxn, 0)),
    ("TXN-38", Wrong::Ignores("transactional.id.expiration.ms")),
    ("TXN-39", Wrong::Survives(Action::Kill)),
    // It stays down.
    ("TXN-39", Wrong::Survives(Action::Start)),
    ("TXN-41", Wrong::Tells(Api::DescribeTransactions, 105)),
    ("TXN-41", Wrong::TellsUnread(Api::ListTransactions, 0)),
    ("TXN-41", Wrong::TellsUnread(Api::DescribeProducers, 0)),
    ("TXN-61", Wrong::Tells(Api::WriteTxnMarkers, 47)),
    // Told as written, and not.
    ("TXN-61", Wrong::TellsUnread(Api::WriteTxnMarkers, 0)),
    ("TXN-62", Wrong::Tells(Api::WriteTxnMarkers, 0)),
    ("TXN-62", Wrong::TellsUnread(Api::WriteTxnMarkers, 3)),
    ("TXN-63", Wrong::Tells(Api::WriteTxnMarkers, 0)),
    ("TXN-63", Wrong::TellsUnread(Api::WriteTxnMarkers, 47)),
    ("TXN-64", Wrong::TellsUnread(Api::WriteTxnMarkers, 0)),
    ("TXN-65", Wrong::TellsUnread(Api::WriteTxnMarkers, -1)),
    ("TXN-65", Wrong::Tells(Api::WriteTxnMarkers, 0)),
    // The transaction completes.
    ("TXN-66", Wrong::TellsUnread(Api::WriteTxnMarkers, 0)),
    ("TXN-67", Wrong::TellsUnread(Api::WriteTxnMarkers, 0)),
    ("TXN-67", Wrong::Tells(Api::WriteTxnMarkers, 0)),
    ("GRP-01", Wrong::TellsUnread(Api::DeleteGroups, 0)),
    ("GRP-01", Wrong::Tells(Api::DeleteGroups, 0)),
    ("GRP-02", Wrong::Tells(Api::DeleteGroups, 0)),
    ("GRP-02", Wrong::Tells(Api::OffsetFetch, 69)),
    ("GRP-03", Wrong::TellsUnread(Api::OffsetDelete, 0)),
    ("GRP-03", Wrong::Tells(Api::OffsetDelete, 0)),
    ("GRP-04", Wrong::Tells(Api::OffsetDelete, 0)),
    ("GRP-04", Wrong::Tells(Api::OffsetDelete, 86)),
    ("GRP-05", Wrong::TellsUnread(Api::OffsetDelete, 0)),
    ("GRP-05", Wrong::TellsUnread(Api::DeleteGroups, 0)),
    // The newer process is not told from the older.
    ("EOS-23", Wrong::Tells(Api::EndTxn, 0)),
    ("EOS-23", Wrong::Tells(Api::EndTxn, 90)),
    ("EOS-24", Wrong::Says(0)),
    ("EOS-24", Wrong::Tells(Api::EndTxn, 0)),
    ("EOS-24", Wrong::Tells(Api::AddPartitionsToTxn, 0)),
];

/// What breaks the client cases that a broker which acknowledges and stores nothing does not.
const CLIENT_MUTATIONS: &[(&str, Wrong)] = &[
    // Refused at once instead of waited for.
    ("MD-15", Wrong::MetadataSays(17, 1)),
    ("MD-16", Wrong::Survives(Action::Kill)),
    ("LDR-01", Wrong::Survives(Action::Kill)),
    ("LDR-02", Wrong::Survives(Action::Stop)),
    ("LDR-12", Wrong::Survives(Action::Pause)),
    ("TMO-01", Wrong::Survives(Action::Pause)),
    ("TMO-05", Wrong::Survives(Action::Pause)),
    ("EOS-06", Wrong::ForgetsOffsets),
];

/// Client cases whose judgement no broker can change: two builds that are refused, a port at which
/// nobody is, a runtime that ends, and a broker that is restricted until nothing is asked of it.
const WITHOUT_A_BROKER: [&str; 5] = ["APV-10", "IDM-34", "TMO-09", "TMO-11", "TMO-17"];

/// A mock that is wrong, and so are those beside it.
struct Spoiled {
    inner: Arc<dyn Target>,
    wrong: Wrong,
    _faults: Mutex<Vec<FaultGuard>>,
}

impl Spoiled {
    fn new(inner: Arc<dyn Target>, wrong: Wrong) -> Self {
        let faults = inner
            .mock()
            .map_or_else(Vec::new, |mock| inject(mock, wrong));
        Self {
            inner,
            wrong,
            _faults: Mutex::new(faults),
        }
    }
}

fn inject(mock: &MockCluster, wrong: Wrong) -> Vec<FaultGuard> {
    let produce = || Rule::on(Api::Produce).always();
    let rule = match wrong {
        Wrong::Says(code) => produce().then(Fault::ApplyThenAnswer(ErrorCode(code))),
        Wrong::SaysUnread(code) => produce().then(Fault::Answer(ErrorCode(code))),
        Wrong::Tells(api, code) => Rule::on(api)
            .always()
            .then(Fault::ApplyThenAnswer(ErrorCode(code))),
        Wrong::TellsUnread(api, code) => {
            let answer = Fault::Answer(ErrorCode(code));
            Rule::on(api).always().then(answer)
        }
        Wrong::SecondIsMute => Rule::on(Api::Metadata)
            .broker(BrokerId(2))
            .always()
            .then(Fault::CloseBefore),
        Wrong::MetadataSays(code, nth) => Rule::on(Api::Metadata)
            .nth(nth)
            .always()
            .then(Fault::ApplyThenAnswer(ErrorCode(code))),
        Wrong::ForgetsOffsets => Rule::on(Api::TxnOffsetCommit)
            .always()
            .then(Fault::Answer(ErrorCode(0))),
        _ => return Vec::new(),
    };
    vec![mock.inject(rule)]
}

impl Target for Spoiled {
    fn name(&self) -> &str {
        "spoiled"
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Mock
    }

    fn bootstrap(&self) -> Vec<String> {
        self.inner.bootstrap()
    }

    fn broker_version(&self) -> Option<String> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn beside<'a>(&'a self, wanted: &'a OwnBrokers<'a>) -> Doing<'a, Arc<dyn Target>> {
        Box::pin(async {
            let mut settings = wanted.settings.to_vec();
            match self.wrong {
                Wrong::Ignores(key) => settings.retain(|(other, _)| *other != key),
                Wrong::Takes(key, value) => {
                    settings.retain(|(other, _)| *other != key);
                    settings.push((key, value));
                }
                _ => {}
            }
            let wanted = OwnBrokers {
                settings: &settings,
                ..*wanted
            };
            let inner = self.inner.beside(&wanted).await?;
            let target: Arc<dyn Target> = Arc::new(Self::new(inner, self.wrong));
            Ok(target)
        })
    }

    fn mock(&self) -> Option<&MockCluster> {
        self.inner.mock()
    }

    fn act(&self, node: i32, action: Action) -> Doing<'_, ()> {
        match self.wrong {
            Wrong::Survives(other) if other == action => {
                Box::pin(std::future::ready(Ok::<(), Unavailable>(())))
            }
            Wrong::Confuses(from, to) if from == action => self.inner.act(node, to),
            _ => self.inner.act(node, action),
        }
    }
}

async fn verdict(id: &'static str, wrong: Wrong) -> Verdict {
    let mock = MockTarget::start().expect("ports are free");
    let case = cases::all().find(|case| case.id == id).expect("a case");
    let target = Arc::new(Spoiled::new(Arc::new(mock), wrong));
    let options = RunOptions::of_this_run();
    let report = run_target(target, &[*case], &options, |_, _| {}).await;
    match report.outcome {
        TargetOutcome::Ran { mut results, .. } => results.remove(0).verdict,
        TargetOutcome::Unavailable(unavailable) => panic!("{unavailable}"),
    }
}

async fn verdicts(list: Vec<(&'static str, Wrong)>) -> Vec<(&'static str, Wrong, Verdict)> {
    let running: Vec<_> = list
        .into_iter()
        .map(|(id, wrong)| (id, wrong, tokio::spawn(verdict(id, wrong))))
        .collect();
    let mut ended = Vec::new();
    for (id, wrong, running) in running {
        ended.push((id, wrong, running.await.expect("it does not panic")));
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_that_is_broken_is_found_by_its_case() {
    let acquitted = acquitted(MUTATIONS.to_vec()).await;
    assert!(acquitted.is_empty(), "{}", acquitted.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_case_finds_a_broker_that_acknowledges_and_stores_nothing() {
    // Nothing is to reach the broker in TXN-53.
    let excused: Vec<&str> = ["MD-15", "TXN-53"]
        .into_iter()
        .chain(WITHOUT_A_BROKER)
        .collect();
    let clients = cases::all().filter(|case| case.level == Level::Client);
    // The mock has no consumer of Kafka's, and moves no partition.
    let lacking = [Capability::OwnConsumer, Capability::Reassignment];
    let clients = clients.filter(|case| !lacking.iter().any(|of| case.needs.contains(of)));
    let judged = clients.filter(|case| !excused.contains(&case.id));
    let mut list: Vec<_> = judged.map(|case| (case.id, Wrong::SaysUnread(0))).collect();
    list.extend(CLIENT_MUTATIONS);
    let mut all = Vec::new();
    for part in list.chunks(AT_ONCE) {
        all.extend(acquitted(part.to_vec()).await);
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// More clusters and clients at one time would find one another's load.
const AT_ONCE: usize = 12;

/// Those that were not found, in words.
async fn acquitted(list: Vec<(&'static str, Wrong)>) -> Vec<String> {
    let mut bad = Vec::new();
    for (id, wrong, verdict) in verdicts(list).await {
        match verdict {
            // A case that hangs or panics would be red whatever the broker did.
            Verdict::Fail(objection) if objection.step == "the case itself" => {
                bad.push(format!("{id}, {wrong:?}: {}", objection.observed));
            }
            Verdict::Fail(_) => {}
            other => bad.push(format!("{id} acquits {wrong:?}: {other:?}")),
        }
    }
    bad
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_where_nothing_is_wrong() {
    let ids: BTreeSet<&str> = MUTATIONS.iter().map(|(id, _)| *id).collect();
    let honest = ids.into_iter().map(|id| (id, Wrong::Nothing)).collect();
    for (id, _, verdict) in verdicts(honest).await {
        assert_eq!(verdict, Verdict::Pass, "{id}");
    }
}

#[test]
fn every_case_that_needs_more_than_answers_has_a_mutation() {
    let broken: BTreeSet<&str> = MUTATIONS.iter().map(|(id, _)| *id).collect();
    let missing: Vec<&Case> = cases::all()
        .filter(|case| case.level == Level::Wire && !case.needs.is_empty())
        .filter(|case| !broken.contains(case.id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
