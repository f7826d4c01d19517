//! The memory that tiny batches take, held against the bound of the logs.

mod frames;
mod world;

use frames::Batch;
use peak_alloc::PeakAlloc;
use world::{World, outcome, to_orders};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const BOUND_BYTES: usize = 4 << 20;

#[test]
fn tiny_batches_take_no_more_memory_than_the_bound_says() {
    let mut world = World::configured(&[]);
    world.engine.bound_log_bytes(BOUND_BYTES as u64);
    let connection = world.connect(world::LEADER);
    let mut code = 0;
    while code == 0 {
        code = outcome(world.send(connection, to_orders(1, Batch::plain(1)))).0;
    }
    assert_eq!(code, 56);
    let full = ALLOCATOR.current_usage();
    world.engine.delete_topic("orders", world.now).unwrap();
    let logs = full - ALLOCATOR.current_usage();
    assert!(
        (BOUND_BYTES / 4..=BOUND_BYTES).contains(&logs),
        "{logs} bytes of {BOUND_BYTES}"
    );
}
