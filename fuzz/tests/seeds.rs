//! Seeds that come from declared machines are what those machines are.

use std::fs;

use gpu_numa_fuzz::Target;

/// The machines that are seeds of the target `tree`: few CPUs, so that a change hits what matters.
const MACHINES: [&str; 5] = [
    "hygon-2s-tiny",
    "spr-2s-tiny-firmware",
    "spr-2s-tiny-nocaches",
    "spr-2s2g-tiny",
    "trento-1s2g-tiny",
];

#[test]
fn seeds_of_trees_are_the_declared_machines() {
    let folder = Target::named("tree").expect("the target is there").seeds();
    for name in MACHINES {
        let seed = fs::read(folder.join(name)).unwrap_or_default();
        assert!(
            seed == machines::named(name).tree().seed(),
            "{name} is declared otherwise; write it anew: cargo run -p gpu-numa-machines --bin gpu-numa-machine -- \
             {name} --seed >fuzz/seeds/tree/{name}"
        );
    }
}
