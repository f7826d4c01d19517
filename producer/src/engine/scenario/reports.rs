//! What is told to whoever counts and logs.

use super::*;
use crate::engine::report::{BatchEvent, BeforeSent, ConnectionEvent, NodeKey, Stood};
use crate::error::FailureKind;
use crate::types::{BrokerId, ProducerEpoch, ProducerId};

impl World {
    /// What was told of batches since the last look.
    fn batch_events(&mut self) -> Vec<BatchEvent> {
        let reports = core::mem::take(&mut self.reports).into_iter();
        let events = reports.filter_map(|report| match report {
            Report::Batch { event, .. } => Some(event),
            _ => None,
        });
        events.collect()
    }

    /// The first connection's events.
    fn first_connection(&self) -> Vec<(NodeKey, ConnectionEvent)> {
        let events = self.reports.iter().filter_map(|report| match report {
            Report::Connection {
                connection: ConnectionId(0),
                node,
                event,
            } => Some((*node, event.clone())),
            _ => None,
        });
        events.collect()
    }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_batch_is_told_with_its_waits() {
    let mut config = settings();
    config.linger = ms(20);
    let mut world = World::ready(config, script());
    world.append(0);
    world.pass_ms(20);
    let sent = world.take_sent();
    world.pass_ms(7);
    world.answer(&sent, 0, 0);
    let batch = world.reports.iter().find_map(|report| match report {
        Report::Batch { batch, .. } => Some(*batch),
        _ => None,
    });
    let batch = batch.expect("told");
    assert_eq!((batch.partition, batch.attempts), (at(0), 1));
    assert_eq!((batch.broker, batch.records), (Some(BrokerId(1)), 1));
    let stamp = batch.stamp.expect("idempotent");
    assert_eq!((stamp.id, stamp.epoch), (ProducerId(7), ProducerEpoch(0)));
    assert_eq!(
        world.batch_events(),
        [
            BatchEvent::Sent {
                waited: ms(20),
                before: BeforeSent {
                    filling: ms(20),
                    compressing: None,
                    ready: ms(0),
                },
            },
            BatchEvent::Written { after: Some(ms(7)) },
        ]
    );
}

/// The second batch's opening seals the first, which waits for an answer all the same.
#[test]
fn a_batch_tells_how_long_it_filled_and_how_long_it_waited_for_its_turn() {
    let mut world = World::ready(settings(), script());
    world.append(0);
    let probe = world.take_sent();
    world.append(0);
    world.pass_ms(30);
    world.append(0);
    world.pass_ms(12);
    world.reports.clear();
    world.answer(&probe, 0, 0);
    let ways: Vec<BeforeSent> = world
        .batch_events()
        .iter()
        .filter_map(|event| match event {
            BatchEvent::Sent { before, .. } => Some(*before),
            _ => None,
        })
        .collect();
    let way = |filling, ready| BeforeSent {
        filling: ms(filling),
        compressing: None,
        ready: ms(ready),
    };
    assert_eq!(ways, [way(30, 12), way(12, 0)]);
}

#[test]
fn a_retry_tells_why_and_how_long_it_waits() {
    let mut world = World::flowing(settings(), script());
    world.reports.clear();
    world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 19, -1);
    let events = world.batch_events();
    let BatchEvent::Retried { failure, back_off } = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!(
        failure.kind,
        FailureKind::Refused(crate::error::ErrorCode(19))
    );
    assert!((ms(80)..ms(120)).contains(back_off), "{back_off:?}");
    world.pass_ms(120);
    let sent = world.take_sent();
    world.answer(&sent, 0, 1);
    let waited = world.batch_events();
    assert!(
        matches!(waited[0], BatchEvent::Sent { waited, .. } if waited == *back_off),
        "from the batch's opening: {waited:?}"
    );
}

#[test]
fn a_batch_that_was_lost_is_unsettled_and_the_next_epoch_is_told() {
    let mut config = settings();
    config.retries_max = 0;
    let mut world = World::flowing(config, script());
    world.reports.clear();
    world.append(0);
    let sent = world.take_sent();
    world.lose(sent.connection);
    let bumps: Vec<_> = world
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::EpochBumped {
                partition,
                id,
                epoch,
            } => Some((*partition, *id, *epoch)),
            _ => None,
        })
        .collect();
    assert_eq!(bumps, [(at(0), ProducerId(7), ProducerEpoch(1))]);
    let events = world.batch_events();
    assert!(
        matches!(events[1], BatchEvent::Unsettled { .. }),
        "{events:?}"
    );
}

#[test]
fn a_first_run_of_sequences_is_no_bump() {
    let world = World::flowing(settings(), script());
    let bumped = |report: &&Report| matches!(report, Report::EpochBumped { .. });
    assert_eq!(world.reports.iter().find(bumped), None);
}

#[test]
fn a_connection_that_is_refused_never_stood() {
    let mut script = script();
    script.closed_ports = vec![9000];
    let world = World::ready(settings(), script);
    let events = world.first_connection();
    let [(node, ConnectionEvent::Lost { stood, reason, .. })] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*node, *stood), (NodeKey::Bootstrap(0), Stood::Never));
    assert_eq!(&**reason, "bootstrap:9000: connection refused");
}

#[test]
fn a_connection_is_made_ready_and_lost() {
    let mut world = World::new(settings(), script());
    world.script.nodes[0].port = 9000;
    world.want_orders();
    world.lose(ConnectionId(0));
    let events = world.first_connection();
    let lost = &events[2];
    assert_eq!(events[0].1, ConnectionEvent::Made);
    assert_eq!(events[1].1, ConnectionEvent::Ready);
    let ConnectionEvent::Lost {
        stood, back_off, ..
    } = lost.1
    else {
        panic!("{lost:?}")
    };
    assert_eq!(stood, Stood::Once);
    assert!((ms(40)..ms(60)).contains(&back_off), "{back_off:?}");
}

#[test]
fn a_throttle_is_told_with_the_answer_that_brought_it() {
    let mut world = World::flowing(settings(), script());
    world.reports.clear();
    world.append(0);
    let sent = world.take_sent();
    let row = Row {
        partition: 0,
        code: 0,
        base_offset: 1,
        leader: None,
    };
    world.answer_with(&sent, &[row], 250, &[]);
    let node = NodeKey::Broker(BrokerId(1));
    let produced = Report::Produced {
        node,
        after: ms(0),
        throttle: ms(250),
    };
    let throttled = Report::Throttled {
        node,
        wait: ms(250),
    };
    assert!(world.reports.contains(&produced), "{:?}", world.reports);
    assert!(world.reports.contains(&throttled), "{:?}", world.reports);
}
