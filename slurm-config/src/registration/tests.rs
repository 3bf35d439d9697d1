use super::shared::SHARED;
use super::*;
use crate::config::of_text;
use crate::node;
use crate::rules::TABLE;
use crate::rules::{CoresRule, FlagsRule};

/// What a slurmd and slurmctld of `rule` make of a node of two sockets of four cores.
fn outcome(gres: &str, declared: &str, found: Option<&[(&str, &str, &str)]>) -> String {
    outcome_under(CoresRule::WholeSockets, gres, declared, found)
}

fn outcome_under(
    rule: CoresRule,
    gres: &str,
    declared: &str,
    found: Option<&[(&str, &str, &str)]>,
) -> String {
    let lines = of_text(gres, "gres.conf");
    let gres = NodeGres::of(&lines, "n1", "gpu");
    let text = format!("NodeName=n1 Sockets=2 CoresPerSocket=4 Gres={declared}");
    let node = node::find(&of_text(&text, "slurm.conf"), None).unwrap();
    let record = |(kind, file, cores): &(&str, &str, &str)| Record {
        kind: Some(type_of_name(kind)),
        file: Some((*file).to_owned()),
        count: 1,
        cores: Some(Ok(cores.parse().unwrap())),
        links: None,
        is_of_several_files: false,
        is_misspelt: false,
    };
    let found = found.map(|found| found.iter().map(record).collect());
    let series = TABLE.iter().rev().find(|series| series.cores == rule);
    match Registration::of(&gres, &node, found, series.unwrap(), &SHARED) {
        Err(fatal) => format!("fatal: {fatal}"),
        Ok(own) => match own.judge(rule, node.geometry().shape()) {
            Err(refused) => format!("drained: {refused}"),
            Ok(()) => format!("{} records", own.records.len()),
        },
    }
}

const TWO: &str = "Name=gpu File=/dev/nvidia0 Cores=0-3\nName=gpu File=/dev/nvidia1 Cores=4-7\n";
const TYPED: &str = "Name=gpu Type=L40S File=/dev/nvidia0 Cores=0-3\n\
                     Name=gpu Type=L40S File=/dev/nvidia1 Cores=4-7\n";

#[test]
fn slurmctld_passes_over_a_name_in_other_capitals() {
    let none = "drained: slurmd has 0 of 2 GPUs";
    let told = |gres: &str, found| outcome(gres, "gpu:2", found);
    assert_eq!(told(&TWO.replace("=gpu", "=GPU"), None), none);
    // What AutoDetect finds has the right name.
    let found: &[(&str, &str, &str)] = &[
        ("L40S", "/dev/nvidia0", "0-3"),
        ("L40S", "/dev/nvidia1", "4-7"),
    ];
    let two = "2 records";
    assert_eq!(told(&TWO.replace("=gpu", "=Gpu"), Some(found)), two);
    let shards = TWO.to_owned() + "Name=Shard Count=8\n";
    let none = "drained: the node's GPUs have 0 of 8 shard: those of other device files or of another name are passed over";
    assert_eq!(outcome(&shards, "gpu:2,shard:8", None), none);
    // Nor does a line take the flags of one whose name differs in capitals.
    let flags = TWO.replacen(" Cores", " Flags=nvidia_gpu_env Cores", 1);
    let other = flags.replace("Cores=4-7", "Cores=4-7 Flags=opencl_env");
    assert!(told(&other, None).starts_with("fatal: "));
    let other = other.replacen("=gpu", "=GPU", 1);
    assert_eq!(told(&other, None), "drained: slurmd has 1 of 2 GPUs");
}

/// As a real 22.05.8 answered (`make test-gres`).
#[test]
fn types_are_compared_letter_by_letter_and_a_line_without_one_has_none() {
    assert_eq!(outcome(TWO, "gpu:2", None), "2 records");
    assert_eq!(
        outcome(TWO, "gpu:l40s:2", None),
        "drained: slurmd has 0 of 2 GPUs"
    );
    assert_eq!(outcome(TYPED, "gpu:2", None), "2 records");
    assert_eq!(outcome(TYPED, "gpu:L40S:2", None), "2 records");
    assert_eq!(
        outcome(TYPED, "gpu:l40s:2", None),
        "drained: slurmd has 0 of 2 GPUs of type l40s"
    );
    assert_eq!(
        outcome(TYPED, "gpu:h100:2", None),
        "drained: slurmd has 0 of 2 GPUs"
    );
}

#[test]
fn a_line_of_gres_conf_serves_all_items_of_its_type() {
    let line = "Name=gpu Type=l40s File=/dev/nvidia[0-3]\n";
    for (declared, expected) in [
        ("gpu:l40s:2,gpu:l40s:2", "1 records"),
        ("gpu:l40s:2,gpu:h100:2", "drained: slurmd has 2 of 4 GPUs"),
    ] {
        assert_eq!(outcome(line, declared, None), expected, "{declared}");
    }
}

/// As a real 22.05.8, 24.11.5 and 25.11.7 answered: slurmd compares the file's text with what it finds.
#[test]
fn one_file_in_brackets_is_not_the_found_one() {
    let found = [
        ("L40S", "/dev/nvidia0", "0-3"),
        ("L40S", "/dev/nvidia1", "4-7"),
    ];
    let lines = |second: &str| {
        format!(
            "AutoDetect=nvml\nName=gpu Type=l40s File=/dev/nvidia0\nName=gpu Type=l40s File={second}\n"
        )
    };
    for (second, declared, expected) in [
        ("/dev/nvidia1", "gpu:l40s:2", "2 records"),
        ("/dev/nvidia[1]", "gpu:l40s:2", "2 records"),
        (
            "/dev/nvidia[1]",
            "gpu:l40s:3",
            "fatal: /dev/nvidia1 is given twice (\"duplicate device file name\")",
        ),
        (
            "/dev/nvidia1",
            "gpu:l40s:3",
            "drained: slurmd has 2 of 3 GPUs",
        ),
    ] {
        assert_eq!(
            outcome(&lines(second), declared, Some(&found)),
            expected,
            "{second} {declared}"
        );
    }
}

#[test]
fn files_that_slurmd_refuses_are_named() {
    for (gres, declared, why) in [
        (
            "Name=gpu\nName=gpu\n",
            "gpu:2",
            "several lines with neither",
        ),
        (
            "Name=gpu File=/dev/nvidia0\nName=gpu\n",
            "gpu:2",
            "some lines name device files",
        ),
        (
            "Name=gpu Type=a File=/dev/nvidia0\nName=gpu File=/dev/nvidia1\n",
            "gpu:2",
            "some lines have Type=",
        ),
        (
            "Name=gpu File=/dev/nvidia[0-1] Count=3\n",
            "gpu:2",
            "Count=3, but File= names 2",
        ),
        (
            "Name=gpu MultipleFiles=/dev/nvidia0\n",
            "gpu:1",
            "MultipleFiles= names one",
        ),
        (
            "Name=gpu File=/dev/nvidia0 MultipleFiles=/dev/nvidia0,/dev/nvidia1\n",
            "gpu:1",
            "a line has both File=",
        ),
        (
            "Name=gpu File=/dev/nvidia0 Count=4x\n",
            "gpu:1",
            "Count=4x is no number",
        ),
        (
            "Name=gpu File=/dev/nvidia[0-1]\nName=gpu File=/dev/nvidia1\n",
            "gpu:3",
            "/dev/nvidia1 is given twice",
        ),
        (
            "NodeName=n1 AutoDetect=nvml\nNodeName=n1 AutoDetect=off\n",
            "gpu:1",
            "two AutoDetect=",
        ),
        (
            TYPED,
            "gpu:L40S:1,gpu:1",
            "some GPUs of the node's Gres= have a type",
        ),
    ] {
        let got = outcome(gres, declared, None);
        assert!(got.starts_with(&format!("fatal: {why}")), "{gres} {got}");
    }
}

#[test]
fn cores_are_judged_by_the_release() {
    let half = "Name=gpu File=/dev/nvidia0 Cores=0-1\n";
    assert_eq!(
        outcome_under(CoresRule::AnySet, half, "gpu:1", None),
        "1 records"
    );
    assert_eq!(
        outcome_under(CoresRule::OneSocketOrAll, half, "gpu:1", None),
        "drained: cores 0-1 are not one whole socket or all cores"
    );
    let far = "Name=gpu File=/dev/nvidia0 Cores=8-11\n";
    assert_eq!(
        outcome(far, "gpu:1", None),
        "drained: cores 8-11 go beyond the node's last core"
    );
    assert_eq!(
        outcome_under(CoresRule::AnySet, far, "gpu:1", None),
        "1 records"
    );
}

/// As real ones of every release answered: two of four GPUs, each with links to four.
#[test]
fn links_are_to_no_more_gpus_than_the_node_has() {
    let gres = "Name=gpu File=/dev/nvidia0 Cores=0-3 Links=-1,0,0\nName=gpu File=/dev/nvidia1 Cores=4-7 Links=0,-1,0\n";
    let got = outcome(gres, "gpu:2", None);
    assert!(
        got.starts_with("drained: links to 3 GPUs are given and the node's line has 2"),
        "{got}"
    );
    assert_eq!(
        outcome(
            &gres.replace(",0\n", "\n").replace("-1,0,0", "-1,0"),
            "gpu:2",
            None
        ),
        "2 records"
    );
}

/// As real ones of every release answered (`make test-gres`).
#[test]
fn links_count_only_where_slurmctld_looks_at_places() {
    let gres = "Name=gpu File=/dev/nvidia0 Links=-1,0,0\n";
    assert_eq!(outcome(gres, "gpu:1", None), "1 records");
    let typed = gres.replace("File", "Type=a File");
    for (gres, declared) in [
        (gres.to_owned() + "Name=shard Count=2\n", "gpu:1,shard:2"),
        (typed, "gpu:a:1"),
    ] {
        let got = outcome(&gres, declared, None);
        assert!(got.starts_with("drained: links to 3 GPUs"), "{got}");
    }
}

/// Lines that name other words than a maker's own: which releases then set no variable for its GPUs.
#[test]
fn a_line_of_flags_may_leave_jobs_without_their_variable() {
    use FlagsRule::{All, AllWithEnvironment, Environment};
    for (flags, environment, all, with) in [
        ("", Some(true), Some(true), Some(true)),
        ("explicit", Some(true), Some(false), Some(true)),
        ("CountOnly", Some(true), Some(false), Some(true)),
        ("env_uuid", Some(true), Some(false), Some(true)),
        ("nvidia_env", Some(true), Some(false), Some(true)),
        (
            "explicit,nvidia_gpu_env",
            Some(true),
            Some(true),
            Some(true),
        ),
        (
            "nvidia_gpu_env,env_uuid",
            Some(true),
            Some(true),
            Some(true),
        ),
        ("no_gpu_env", Some(false), Some(false), Some(false)),
        ("amd_gpu_env", Some(false), Some(false), Some(false)),
        ("opencl_env,explicit", Some(false), Some(false), Some(false)),
        // At these slurmd stops.
        ("no_gpu_env,opencl_env", None, None, None),
    ] {
        let own = match flags {
            "" => "Name=gpu File=x\n".to_owned(),
            flags => format!("Name=gpu File=x Flags={flags}\n"),
        };
        let of = |gres: &str, rule| {
            let lines = of_text(gres, "gres.conf");
            sets_variable(
                &NodeGres::of(&lines, "n1", "gpu").every,
                "nvidia_gpu_env",
                rule,
            )
        };
        // The next line takes them on, unless there are none that slurmd knows.
        for next in ["", "Name=gpu File=y\n"] {
            let gres = own.clone() + next;
            let is_known = !["env_uuid", "nvidia_env"].contains(&flags);
            let all = if next.is_empty() || is_known {
                all
            } else {
                Some(true)
            };
            let got = [Environment, All, AllWithEnvironment].map(|rule| of(&gres, rule));
            assert_eq!(got, [environment, all, with], "{gres}");
        }
    }
    let lines = of_text("Name=shard Count=8 Flags=no_gpu_env\n", "gres.conf");
    let every = NodeGres::of(&lines, "n1", "gpu").every;
    assert_eq!(sets_variable(&every, "nvidia_gpu_env", All), None);
}

#[test]
fn flags_are_the_same_on_every_line() {
    use FlagsRule::{All, AllWithEnvironment, Environment};
    let of = |gres: &str, rule| {
        let lines = of_text(gres, "gres.conf");
        check_lines(&NodeGres::of(&lines, "n1", "gpu").every, rule).is_err()
    };
    for (first, second, environment, all, with) in [
        ("", "", false, false, false),
        ("nvidia_gpu_env", "nvidia_gpu_env", false, false, false),
        ("nvidia_gpu_env", "", false, false, false),
        ("", "nvidia_gpu_env", true, true, true),
        ("opencl_env", "nvidia_gpu_env", true, true, true),
        (
            "nvidia_gpu_env,opencl_env",
            "opencl_env,NVIDIA_GPU_ENV",
            false,
            false,
            false,
        ),
        ("nvidia_gpu_env,no_gpu_env", "", true, true, true),
        ("", "no_gpu_env", true, true, true),
        ("", "CountOnly", false, true, false),
        ("", "env_uuid", false, true, false),
        ("env_uuid", "", false, false, false),
        ("env_uuid", "env_uuid", false, false, false),
        (
            "nvidia_gpu_env,env_uuid",
            "nvidia_gpu_env",
            false,
            false,
            true,
        ),
    ] {
        let line = |flags: &str| match flags {
            "" => "Name=gpu File=x\n".to_owned(),
            flags => format!("Name=gpu File=x Flags={flags}\n"),
        };
        let gres = line(first) + &line(second);
        let got = (
            of(&gres, Environment),
            of(&gres, All),
            of(&gres, AllWithEnvironment),
        );
        assert_eq!(got, (environment, all, with), "{gres}");
    }
    // Another GRES between them: its flags are not compared with those of GPUs.
    let gres = "Name=gpu File=x\nName=shard Count=8 Flags=one_sharing\nName=gpu File=y Flags=nvidia_gpu_env\n";
    assert!(of(gres, Environment) && !of(gres, All));
}

#[test]
fn shards_need_gpus_and_all_of_them() {
    for (lines, declared, expected) in [
        ("Name=shard Count=8\n", "gpu:2,shard:8", "2 records"),
        ("", "gpu:2,shard:8", "2 records"),
        ("Name=shard Count=16\n", "gpu:2,shard:8", "2 records"),
        ("Name=shard Count=7\n", "gpu:2,shard:7", "2 records"),
        (
            "Name=shard Count=4 File=/dev/nvidia0\nName=shard Count=4 File=/dev/nvidia1\n",
            "gpu:2,shard:8",
            "2 records",
        ),
        (
            "Name=shard Count=8 File=/dev/nvidia0\n",
            "gpu:2,shard:8",
            "2 records",
        ),
        (
            "Name=shard Count=8 File=/dev/nvidia9\n",
            "gpu:2,shard:8",
            "drained: the node's GPUs have 0 of 8 shard: those of other device files or of another name are passed over",
        ),
        (
            "Name=mps Count=100\n",
            "gpu:2,mps:400",
            "fatal: gres.conf has 100 mps and the node's line 400 (\"multiple configurations\")",
        ),
        (
            "Name=shard Count=4\nName=shard Count=4\n",
            "gpu:2",
            "fatal: gres/shard has several lines without File=, or lines with and without it",
        ),
        (
            "Name=shard Count=8\n",
            "shard:8",
            "fatal: gres/shard without a GPU that has a device file (\"failed to merge SHARED and SHARING configuration\")",
        ),
    ] {
        let got = outcome(&(TWO.to_owned() + lines), declared, None);
        assert_eq!(got, expected, "{lines}{declared}");
    }
}

#[test]
fn autodetect_gives_a_type_that_is_a_part_of_the_name() {
    let found: &[(&str, &str, &str)] = &[
        ("NVIDIA A100-PCIE-40GB", "/dev/nvidia0", "0-3"),
        ("NVIDIA RTX PRO 6000 Blackwell", "/dev/nvidia1", "4-7"),
    ];
    for (gres, declared, expected) in [
        ("AutoDetect=nvml\n", "gpu:2", "2 records"),
        (
            "AutoDetect=nvml\n",
            "gpu:a100:1,gpu:rtx_pro_6000:1",
            "2 records",
        ),
        ("AutoDetect=nvml\n", "gpu:A100:1,gpu:6000:1", "2 records"),
        (
            "AutoDetect=nvml\n",
            "gpu:a100:1,gpu:rtxpro6000:1",
            "drained: slurmd has 1 of 2 GPUs",
        ),
        (
            "AutoDetect=nvml\n",
            "gpu:3",
            "drained: slurmd has 2 of 3 GPUs",
        ),
        ("AutoDetect=nvml\n", "gpu:1", "1 records"),
        (
            "AutoDetect=nvml\nName=gpu File=/dev/nvidia0 Cores=4-7\n",
            "gpu:2",
            "drained: slurmd has 1 of 2 GPUs",
        ),
    ] {
        assert_eq!(
            outcome(gres, declared, Some(found)),
            expected,
            "{gres}{declared}"
        );
    }
}

/// Cores for GPUs (`RestrictedCoresPerGPU=`) of a node of two sockets of four cores.
fn restricted(gres: &str, declared: &str, per_gpu: u64, kept: &str) -> String {
    let lines = of_text(gres, "gres.conf");
    let gres = NodeGres::of(&lines, "n1", "gpu");
    let text = format!("NodeName=n1 Sockets=2 CoresPerSocket=4 Gres={declared}");
    let node = node::find(&of_text(&text, "slurm.conf"), None).unwrap();
    let series = TABLE.last().unwrap();
    let own = Registration::of(&gres, &node, None, series, &SHARED).unwrap();
    let kept = kept.parse().unwrap();
    match own.judge_restricted(per_gpu, &kept, series.cores, node.geometry().shape()) {
        Err(refused) => refused.to_string(),
        Ok(()) => "enough".to_owned(),
    }
}

/// As real ones of 24.11 and later answered (`make test-gres`, rows `cores-for-gpus...`).
#[test]
fn gpus_have_cores_of_their_own() {
    let four =
        "Name=gpu File=/dev/nvidia[0-1] Cores=0-3\nName=gpu File=/dev/nvidia[2-3] Cores=4-7\n";
    for (gres, declared, per_gpu, kept, expected) in [
        (four, "gpu:4", 2, "", "enough"),
        (
            four,
            "gpu:4",
            3,
            "",
            "RestrictedCoresPerGPU=3 needs 6 cores of 0-3, of which 4 are left",
        ),
        (
            four,
            "gpu:4",
            2,
            "7",
            "RestrictedCoresPerGPU=2 needs 4 cores of 4-7, of which 3 are left",
        ),
        (
            "Name=gpu File=/dev/nvidia0\n",
            "gpu:1",
            1,
            "",
            "RestrictedCoresPerGPU= needs GPUs with Cores= or a type (\"don't have any topology\")",
        ),
        (
            "Name=gpu Type=a File=/dev/nvidia0\n",
            "gpu:a:1",
            1,
            "",
            "enough",
        ),
        (
            "Name=gpu File=/dev/nvidia0 Cores=0-1\nName=gpu File=/dev/nvidia1 Cores=4-7\n",
            "gpu:2",
            9,
            "",
            "enough",
        ),
        (
            "Name=gpu File=/dev/nvidia0 Cores=8-11\n",
            "gpu:1",
            9,
            "",
            "enough",
        ),
    ] {
        assert_eq!(
            restricted(gres, declared, per_gpu, kept),
            expected,
            "{gres}"
        );
    }
}
