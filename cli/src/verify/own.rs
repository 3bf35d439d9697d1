//! `gpu-numa verify` without a PID: whether a look at this command itself says anything.

use std::path::Path;

use launch::environment::RunChoice;
use launch::job;
use launch::numa_maps::nodes_of;
use launch::observe;
use launch::process::Process;
use launch::rank::is_rank;
use launch::variables::OwnEnvironment;
use topology::machine::Machine;

/// What is said where it does not.
pub(super) const NOTHING_TO_CHECK: &str = "PID is missing: this command runs in no job and is bound to nothing, so there is nothing \
                                           to check; did $(pgrep ...) find no process? (--self looks at this command itself)";

/// Whether a job, a launcher or `gpu-numa run` started this process, or somebody bound it: what it then has is what a
/// program in its place has.
pub(super) fn is_worth_a_look(machine: &Machine) -> bool {
    job::own_job(&OwnEnvironment).is_some()
        || is_rank(&OwnEnvironment)
        || RunChoice::read(&OwnEnvironment).is_some()
        || observe::own_cpus().is_ok_and(|own| own != machine.online)
        || has_memory_policy()
}

/// Whether memory comes from named nodes.
fn has_memory_policy() -> bool {
    let own = Process::read(Path::new("/"), std::process::id());
    own.is_some_and(|own| nodes_of(&own.memory.policy).is_some())
}
