//! What `gpu-numa plan` says of the same tasks on the same machine.

use std::process::Command;

use serde_json::Value;

use crate::input::{Shape, Task};
use crate::set::{Set, parse_set, show_set};
use crate::step::Judged;

/// `gpu-numa plan` on the same machine, for the same tasks.
pub(crate) fn judge_plan(
    shape: &Shape,
    judged: &Judged,
    tasks: &[&Task],
    before: &[&Task],
    snapshot: &str,
) -> Vec<String> {
    if !matches!(shape.expect.as_str(), "best" | "fits" | "near" | "kept")
        || shape.name.contains("--cpu-bind")
        || shape.name.contains("--mem-bind")
    {
        return Vec::new();
    }
    let mut words = vec![
        "--overcommit".to_owned(),
        "--allowed".to_owned(),
        show_set(judged.step),
    ];
    for was in before {
        words.extend(["--mask".to_owned(), was.get("cpus").to_owned()]);
    }
    compare(
        "planned",
        &ask(shape, tasks, snapshot, &words, &shape.items),
        tasks,
    )
}

/// Whether the step is alone in a job that has the whole host, and Slurm's default distribution is all that makes its CPUs.
pub(crate) fn is_exact(shape: &Shape) -> bool {
    let others = [
        " -m ",
        "--hint",
        "--threads-per-core",
        "--cpu-bind",
        "--ntasks-per",
        "--overlap",
        " -O",
        "--cores-per-socket",
    ];
    shape.slurm == "-"
        && shape.held == 0
        && shape.expect == "best"
        && shape
            .name
            .split_once(" --exclusive :: srun --exact ")
            .is_some_and(|(_, step)| !step.contains("srun"))
        && !others.iter().any(|word| shape.name.contains(word))
}

/// `plan --exact`, which is told no CPU: those of the tasks under Slurm alone, and those that they are bound to.
pub(crate) fn judge_exact(
    shape: &Shape,
    tasks: &[&Task],
    before: &[&Task],
    snapshot: &str,
    release: &str,
) -> Vec<String> {
    let words = ["--exact", "--slurm-release", release].map(str::to_owned);
    let mut wrong = compare(
        "Slurm alone: planned",
        &ask(shape, tasks, snapshot, &words, "off"),
        before,
    );
    wrong.extend(compare(
        "planned",
        &ask(shape, tasks, snapshot, &words, &shape.items),
        tasks,
    ));
    wrong
}

/// The CPUs of each task that `gpu-numa plan` gives, with `words` beside what all shapes have.
fn ask(
    shape: &Shape,
    tasks: &[&Task],
    snapshot: &str,
    words: &[String],
    items: &str,
) -> Result<Vec<Set>, String> {
    let Some(program) = std::env::var_os("GPU_NUMA_CLI") else {
        return Ok(tasks.iter().map(|task| task.cpus()).collect());
    };
    let mut command = Command::new(program);
    command.args(["plan", "--from", snapshot, "--json", "--kernel", "6.1"]);
    command.args(["--cpus-per-task", &shape.asked.to_string()]);
    command.args(words);
    if items != "-" {
        command.args(["--option", items]);
    }
    for task in tasks {
        command.args(["--gpus", &task.visible().join(",")]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let Ok(plan) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    };
    let planned = plan.get("tasks").and_then(Value::as_array).into_iter();
    Ok(planned
        .flatten()
        .map(|task| parse_set(task.get("cpus").and_then(Value::as_str).unwrap_or_default()))
        .collect())
}

fn compare(what: &str, planned: &Result<Vec<Set>, String>, tasks: &[&Task]) -> Vec<String> {
    let has: Vec<Set> = tasks.iter().map(|task| task.cpus()).collect();
    let lists = |sets: &[Set]| {
        sets.iter()
            .map(|set| show_set(*set))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    match planned {
        Err(error) => vec![error.clone()],
        Ok(planned) if *planned == has => Vec::new(),
        Ok(planned) => vec![format!("{what} {}, has {}", lists(planned), lists(&has))],
    }
}
