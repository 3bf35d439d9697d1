//! What the plugin costs: not run with the others, for it wants a release build and a quiet machine.
//!
//! ```sh
//! cargo build --release -p gpu-numa-spank
//! GPU_NUMA_SPANK_SO=$PWD/target/release/libgpu_numa_bind.so \
//!     cargo test -p gpu-numa-tests --test abi -- --ignored --nocapture speed
//! ```

use crate::host::{Scenario, run};
use crate::world::World;

/// Made-up servers have 2 packages, 8 NUMA nodes, 256 CPUs and 8 GPUs.
const ROUNDS: usize = 400;

/// The tasks of one step first come together as in a real one; then single tasks run their hook, for whom
/// all others are there already.  The aim is 200 microseconds on a quiet server; the bound is for a busy one.
#[test]
#[ignore = "a measurement"]
fn a_tasks_hook_takes_well_under_a_millisecond() {
    let world = World::declared("abi-2s4n16c2t");
    for tasks in [1usize, 8, 64] {
        for width in ["exclusive", "node", "l3"] {
            let gpus: Vec<usize> = (0..tasks).map(|task| task % 8).collect();
            let scenario = Scenario::on(&world, tasks)
                .option(width)
                .fence(&world, &gpus)
                .line(format_args!("rounds {ROUNDS}"));
            let outcome = run(scenario);
            let mut alone: Vec<u64> = outcome.nanos("task_init")[tasks..].to_vec();
            alone.sort_unstable();
            let [least, quarter, median] = [0, 4, 2].map(|part| {
                let at = ROUNDS.checked_div(part).unwrap_or(0);
                alone[at] / 1000
            });
            let before_fork = outcome.nanos("user_init")[0] / 1000;
            eprintln!(
                "{tasks:2} tasks, {width:9}: task_init {median:4} us (median of {ROUNDS}; \
                 quarter {quarter:4}, least {least:4}), user_init {before_fork:4} us"
            );
            if std::env::var_os("GPU_NUMA_SPANK_SO").is_some() {
                assert!(median < 1000, "{median} us");
            }
        }
    }
}
