//! What the manual pages of commands hold beside what clap knows: values in the synopsis, files, variables, statuses.

use clap::Command;
use clap_mangen::roff::{Roff, bold, italic, roman};
use launch::job::job_variables;
use launch::rank::rank_variables;
use topology::option::TABLE;

/// Files that commands read or write.
const FILES: [(&str, &str); 6] = [
    (
        "/run/gpu-numa-bind/metrics",
        "counters of what steps got, where the site counts; the plugin adds to it, gpu-numa metrics reads it",
    ),
    (
        "/run/gpu-numa-bind/node.json",
        "the machine, as gpu-numa snapshot wrote it; the plugins read it",
    ),
    (
        "/run/gpu-numa-bind/nccl-topo.xml, nccl-topo-multi.xml",
        "NCCL's topology files, for jobs on one host and on several",
    ),
    (
        "/etc/gpu-numa-bind/localities",
        "the NUMA nodes of GPUs for which firmware names none",
    ),
    (
        "/etc/gpu-numa-bind/latencies",
        "what gpu-numa measure --save measured; show and the snapshot take it in place of firmware's rating",
    ),
    (
        "/etc/gpu-numa-bind/switches",
        "the devices below PCI switches that a virtual machine hides",
    ),
];

/// Variables that commands read, each with what for.
fn variables() -> Vec<(String, &'static str)> {
    vec![
        (
            "GPU_NUMA_BIND".to_owned(),
            "items for the kinds that --option does not name (run, plan)",
        ),
        (
            rank_variables(),
            "the number of a process on its host, the first that is set (run --per-rank, verify)",
        ),
        (
            "GPU_NUMA_RUN, GPU_NUMA_BIND_REPORT".to_owned(),
            "set by gpu-numa run and by the Slurm plugin: what was chosen for a process (verify)",
        ),
        (
            job_variables(),
            "the job whose processes are meant where --job names none (verify, heal)",
        ),
        (
            "SLURM_CONF".to_owned(),
            "where slurm.conf is (doctor, gres-conf)",
        ),
        (
            "COLUMNS, NO_COLOR, CLICOLOR_FORCE".to_owned(),
            "the width of a page, and whether it is coloured",
        ),
    ]
}

/// `page`, that of `command`, completed.
pub(crate) fn complete(page: &str, command: &Command) -> String {
    let mut page = page.to_owned();
    for argument in command.get_arguments() {
        let takes_value = argument.get_action().takes_values();
        let (Some(long), Some([value, ..]), true) =
            (argument.get_long(), argument.get_value_names(), takes_value)
        else {
            continue;
        };
        let bare = format!("[\\fB\\-\\-{}\\fR]", long.replace('-', "\\-"));
        let least = argument
            .get_num_args()
            .map_or(1, |range| range.min_values());
        let whole = if least == 0 {
            format!("{} [\\fI{value}\\fR]]", bare.trim_end_matches(']'))
        } else {
            format!("{} \\fI{value}\\fR]", bare.trim_end_matches(']'))
        };
        page = page.replacen(&bare, &whole, 1);
    }
    let page = with_items_apart(&page).replace(".SH EXTRA", ".SH NOTES");
    let (page, status) = status_apart(&page);
    page + &status_section(&status) + &tail()
}

/// The page with a line for each item of `--option`; roff joins lines that do not begin with a blank.
fn with_items_apart(page: &str) -> String {
    let mut apart = String::with_capacity(page.len());
    for line in page.lines() {
        let bare = line.replace("\\-", "-");
        let is_item = TABLE.iter().any(|row| {
            let rest = bare.strip_prefix(row.word);
            rest.is_some_and(|rest| rest.starts_with(": ") || rest.starts_with(" (default): "))
        });
        if is_item {
            apart.push_str(".br\n");
        }
        apart.push_str(line);
        apart.push('\n');
    }
    apart
}

/// Begins the paragraph of a command's help that says its exit statuses.
const STATUS: &str = "Exit status: ";

/// What the exit status of a command says whose help has no word on it.
const USUAL_STATUS: &str =
    "0 when it is done, 1 when it looked and found something wrong, 2 when it could not look.";

/// The page without what its notes say of the exit status, and that.
fn status_apart(page: &str) -> (String, String) {
    let (mut rest, mut status) = (String::with_capacity(page.len()), USUAL_STATUS.to_owned());
    for line in page.lines() {
        match line.strip_prefix(STATUS) {
            Some(own) => own.clone_into(&mut status),
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (rest.trim_end().to_owned() + "\n", status)
}

/// The section on the exit status, of roff's text.
fn status_section(status: &str) -> String {
    let mut letters = status.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let text: String = first.into_iter().chain(letters).collect();
    format!(".SH \"EXIT STATUS\"\n{text}\n")
}

fn tail() -> String {
    let mut tail = Roff::new();
    tail.control("SH", ["FILES"]);
    for (file, meaning) in FILES {
        tail.control("TP", []);
        tail.text([italic(file)]);
        tail.text([roman(meaning)]);
    }
    tail.control("SH", ["ENVIRONMENT"]);
    for (variable, meaning) in variables() {
        tail.control("TP", []);
        tail.text([bold(variable)]);
        tail.text([roman(meaning)]);
    }
    tail.control("SH", ["SEE ALSO"]);
    tail.text([roman(
        "gpu-numa(1), gpu-numa-bind(7), srun(1), numactl(8), nvidia-smi(1)",
    )]);
    tail.render()
}
