//! What the plugin costs: not run with the others, for it wants a release build and a quiet machine.
//!
//! ```sh
//! cargo build --release -p gpu-numa-spank
//! GPU_NUMA_SPANK_SO=$PWD/target/release/libgpu_numa_bind.so \
//!     cargo test -p gpu-numa-tests --test abi -- --ignored --nocapture speed
//! ```

use crate::host::{Scenario, run};
use crate::world::World;

/// The median, in microseconds.
fn median_us(mut nanos: Vec<u64>) -> u64 {
    nanos.sort_unstable();
    nanos[nanos.len() / 2] / 1000
}

/// On a made-up server of 2 packages, 8 NUMA nodes, 256 CPUs and 8 GPUs.  The tasks of one step first come
/// together as in a real one; then single tasks run their hook, for whom all others are there already.
#[test]
#[ignore = "a measurement"]
fn a_tasks_hook_takes_less_than_200_microseconds() {
    let world = World::made_up(2, 4, 16, 2);
    const ROUNDS: usize = 400;
    let mut slowest = 0;
    for tasks in [1usize, 8, 64] {
        for width in ["exclusive", "node", "l3"] {
            let gpus: Vec<usize> = (0..tasks).map(|task| task % 8).collect();
            let scenario = Scenario::on(&world, tasks)
                .option(width)
                .fence(&world, &gpus)
                .line(format_args!("rounds {ROUNDS}"));
            let outcome = run!(scenario);
            let nanos = outcome.nanos("task_init");
            let alone = median_us(nanos[tasks..].to_vec());
            let before_fork = outcome.nanos("user_init")[0] / 1000;
            eprintln!(
                "{tasks:2} tasks, {width:9}: task_init {alone:5} us (median of {ROUNDS}), \
                 user_init {before_fork:5} us"
            );
            if tasks <= 8 {
                slowest = slowest.max(alone);
            }
        }
    }
    // A build for debugging says nothing.
    if std::env::var_os("GPU_NUMA_SPANK_SO").is_some() {
        assert!(slowest < 200, "{slowest} us");
    }
}
