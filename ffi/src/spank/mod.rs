//! SPANK, Slurm's plugin interface: [`sys`] declares it, [`Spank`] calls it.
//!
//! The functions are the host process's (srun, sbatch, salloc, slurmd, slurmstepd): nothing is linked.
//! Declarations and enums are the same in every release from 22.05 to 26.05 (spank.h compared).

mod handle;
pub mod log;
pub mod sys;

pub use handle::{
    Context, Spank, SpankError, context, host_api_number, read_args, read_option_value,
};
