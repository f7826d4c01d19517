//! Level 3: as many connections as one may think of, and nothing of them afterwards.

mod raw;

use core::time::Duration;
use std::fs;

use kafka_mockbroker::inspect::Event;
use kafka_mockbroker::{BrokerId, MockCluster};
use raw::Client;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

const CONNECTIONS: usize = 10_000;

/// For a machine under load; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each asks once while all are open.
async fn ask_all<S: AsyncRead + AsyncWrite + Unpin>(clients: &mut [Client<S>]) {
    for client in &mut *clients {
        client.ask(7).await;
    }
    for client in clients {
        assert_eq!(client.answer().await, Some(7));
    }
}

/// Connections that were made and those that ended since, as the journal tells.
fn made_and_ended(cluster: &MockCluster) -> (usize, usize) {
    let journal = cluster.journal();
    let count = |event: &Event| journal.iter().filter(|entry| entry.event == *event).count();
    (count(&Event::Connected), count(&Event::Disconnected))
}

#[tokio::test]
async fn ten_thousand_connections_in_memory_leave_no_task() {
    let cluster = MockCluster::builder().start_in_memory().unwrap();
    tokio::task::yield_now().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let connect = |_| Client::new(cluster.connect(9092).unwrap(), PATIENCE);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    ask_all(&mut clients).await;
    assert_eq!(
        Handle::current().metrics().num_alive_tasks(),
        tasks + CONNECTIONS
    );
    drop(clients);
    while Handle::current().metrics().num_alive_tasks() > tasks {
        tokio::task::yield_now().await;
    }
    assert_eq!(made_and_ended(&cluster), (CONNECTIONS, CONNECTIONS));
    assert_eq!(cluster.diagnostics(), []);
}

/// Both ends of a connection are descriptors of this process; some are left for the rest.
fn allowed_connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    // Without a list of limits: the smallest that is usual.
    let soft: usize = soft.map_or(256, |soft| soft.parse().unwrap_or(usize::MAX));
    (soft.saturating_sub(100) / 2).min(CONNECTIONS)
}

#[tokio::test]
async fn connections_on_sockets_end_with_their_clients() {
    let cluster = MockCluster::builder().start().unwrap();
    let address = cluster.address(BrokerId(1)).unwrap();
    let allowed = allowed_connections();
    println!("{allowed} connections of {CONNECTIONS}: what the limit of open files allows");
    let mut clients = Vec::new();
    for _ in 0..allowed {
        let stream = TcpStream::connect(&address).await.unwrap();
        clients.push(Client::new(stream, PATIENCE));
    }
    ask_all(&mut clients).await;
    drop(clients);
    let ended = async {
        while made_and_ended(&cluster).1 < allowed {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(made_and_ended(&cluster), (allowed, allowed));
}
