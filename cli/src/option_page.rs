//! The manual page gpu-numa-bind(7): the option of srun, sbatch and salloc, from the table of its items.

use clap_mangen::roff::{Roff, bold, italic, roman};
use topology::option::{ItemKind, rows_of};

/// The page, in roff.
pub(crate) fn option_page() -> String {
    let mut page = Roff::new();
    let version = concat!("gpu-numa-bind ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["gpu-numa-bind", "7", "", version]);
    page.control("SH", ["NAME"]);
    page.text([roman(
        "gpu-numa-bind - bind the tasks of a Slurm job to the CPUs and memory near their GPUs",
    )]);
    page.control("SH", ["SYNOPSIS"]);
    for command in ["srun", "sbatch", "salloc"] {
        page.text([
            bold(format!("{command} --gpu-numa-bind")),
            roman("[="),
            italic("ITEM"),
            roman("[,"),
            italic("ITEM"),
            roman("...]] ..."),
        ]);
        page.control("br", []);
    }
    page.control("SH", ["ITEMS"]);
    page.text([roman(
        "At most one item of each kind. Of a kind that is not named, the environment variable GPU_NUMA_BIND decides, \
         then the site, then the default.",
    )]);
    for kind in ItemKind::ALL {
        page.control("SS", [kind.name()]);
        for row in rows_of(kind) {
            let default = if row.is_default() { " (default)" } else { "" };
            page.control("TP", []);
            page.text([bold(row.word), roman(default)]);
            page.text([roman(row.meaning)]);
        }
    }
    page.control("SH", ["ENVIRONMENT"]);
    for (variable, meaning) in [
        (
            "GPU_NUMA_BIND",
            "items for the kinds that the option does not name; alone it does not switch binding on",
        ),
        (
            "GPU_NUMA_BIND_REPORT",
            "set for each task: what was decided for it, as one line of JSON",
        ),
    ] {
        page.control("TP", []);
        page.text([bold(variable)]);
        page.text([roman(meaning)]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(
        "gpu-numa(1), gpu-numa-plan(1), gpu-numa-run(1), gpu-numa-verify(1), gpu-numa-doctor(1), srun(1)",
    )]);
    page.render()
}
