//! Every parser of the core under changed and made-up text, for as long as one asks.
//!
//! No parser may panic, hang or grow without bound, and what it accepts must hold: sets within their limit, GPUs
//! that the machine has, CPUs that the step has.  Without a coverage-guided fuzzer, which needs a nightly
//! toolchain, texts are changed from seeds that each grammar accepts, at every level from bytes to lines.
//! `GPU_NUMA_FUZZ_SECONDS` is the time for each parser (default 1); `GPU_NUMA_FUZZ_SEED` the first random number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and reports what it did"
)]

use std::time::{Duration, Instant};

use nccl_topo::emit::{Form, emit};
use topology::allowed::{StepView, find_step_cpus, parse_mask_list};
use topology::binding::{StepRequest, TaskRequest, plan_step};
use topology::machine::Machine;
use topology::option::{Items, Settings};
use topology::pci::PciAddress;
use topology::set::{CpuSet, MAX_INDEX};
use topology::snapshot::Snapshot;
use topology::visible::{TaskView, find_visible};

/// The longest text that is made, in bytes.
const LONGEST: usize = 64 << 10;
/// One text may take this long; most take microseconds.
const SLOW: Duration = Duration::from_secs(5);

/// xorshift64*: a few lines, and the same texts for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What grammars trip over.
const MORSELS: &[&str] = &[
    "",
    ",",
    "-",
    "=",
    ":",
    "0",
    "-1",
    "4294967295",
    "18446744073709551616",
    "65535",
    "65536",
    "0-65535",
    "3-1",
    "\u{0}",
    "\n",
    "\t",
    " ",
    "\"",
    "'",
    "\\",
    "<",
    "/>",
    "<!--",
    "-->",
    "<!DOCTYPE x [<!ENTITY a \"b\">]>",
    "&a;",
    "[",
    "]",
    "{",
    "}",
    "[0-999999999]",
    "%s%n",
    "é",
    "\u{202e}",
    "\u{1b}[31m",
    "null",
    "1e999",
    "GPU-",
    "MIG-",
    "0000:3b:00.0",
    "ffffffff:ff:1f.7",
    "0x",
    "ffffffff,",
    "always=",
    "include ",
    "optional ",
    "required ",
];

/// A text near the seeds.
fn change(random: &mut Random, seeds: &[&str]) -> String {
    let mut bytes = random.pick(seeds).as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(1 + bytes.len() / 4)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 if at < bytes.len() => bytes[at] = b'0' + random.below(10) as u8,
            5 => {
                let other = random.pick(seeds).as_bytes();
                let from = random.below(other.len() + 1);
                drop(bytes.splice(at..end, other[from..].iter().copied()));
            }
            6 => {
                let piece = bytes[at..end].repeat(1 + random.below(64));
                drop(bytes.splice(at..at, piece));
            }
            _ => drop(bytes.splice(at..end, random.pick(MORSELS).bytes())),
        }
        bytes.truncate(LONGEST);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Gives changed texts to `look` until the time is up.
fn fuzz(name: &str, seeds: &[&str], mut look: impl FnMut(&str, &mut Random)) {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |text| text.parse().unwrap())
    };
    let time = Duration::from_secs(number("GPU_NUMA_FUZZ_SECONDS", 1));
    let mut random = Random(number("GPU_NUMA_FUZZ_SEED", 0x9e37_79b9_7f4a_7c15).max(1));
    let (begin, mut count, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    while begin.elapsed() < time {
        let text = change(&mut random, seeds);
        let one = Instant::now();
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&text, &mut random)));
        assert!(result.is_ok(), "{name}: text {count}: {text:?}");
        slowest = slowest.max(one.elapsed());
        assert!(slowest < SLOW, "{name}: {slowest:?} for {text:?}");
        count += 1;
    }
    println!("{name}: {count} texts, the slowest took {slowest:?}");
}

const SNAPSHOT: &str = r#"{"schema":"gpu-numa/snapshot/1","boot_id":"b","driver":"580.82","created_unix":1,"machine":{
"hostname":"n1","online":"0-7","packages":[{"id":0,"cpus":"0-3","numa_nodes":"0"},{"id":1,"cpus":"4-7","numa_nodes":"1"}],
"numa_nodes":[{"id":0,"package":0,"cpus":"0-3","memory_bytes":1073741824,"kind":"dram","distances":{"0":10,"1":21}},
{"id":1,"package":1,"cpus":"4-7","memory_bytes":1073741824,"kind":"dram","distances":{"0":21,"1":10}}],
"cores":["0-1","2-3","4-5","6-7"],"last_level_caches":["0-3","4-7"],
"processor":{"arch":"x86_64","vendor":"GenuineIntel","family":6,"model":143},
"pci":[{"address":"0000:20:00.0","root_bus":[0,32],"class":394240,"vendor":32902,"device":1,"numa_node":0,"link":{}},
{"address":"0000:21:00.0","parent":"0000:20:00.0","root_bus":[0,32],"class":197120,"vendor":4318,"device":9008,"numa_node":0,
"link":{"max_speed_gts":32.0,"max_width":16,"current_speed_gts":2.5,"current_width":16}},
{"address":"0000:81:00.0","root_bus":[0,128],"class":197120,"vendor":4318,"device":9008,"numa_node":1,"link":{}}],
"gpus":[{"pci":"0000:21:00.0","vendor":"10de","device":"2330","minor":0,"uuid":"GPU-aa","numa_nodes":"0","numa_source":"numa_node","cpus":"0-3"},
{"pci":"0000:81:00.0","vendor":"10de","device":"2330","minor":1,"uuid":"GPU-bb","mig":[{"uuid":"MIG-cc"}],"numa_nodes":"1","numa_source":"numa_node","cpus":"4-7"}],
"nics":[{"pci":"0000:22:00.0","vendor":"15b3","device":"1021","names":["mlx5_0"],"numa_nodes":"0","numa_source":"numa_node","cpus":"0-3"}],
"nvlink_visible":false}}"#;

fn machine() -> Machine {
    Snapshot::parse(SNAPSHOT).unwrap().machine
}

#[test]
fn option_strings() {
    let seeds = [
        "best-effort,exclusive,mem=preferred,map=auto,nccl=on",
        "single-numa-node,node,mem=bind,verbose,override",
        "off",
        "restricted,l3,mem=interleave,map=localid,nccl=log,quiet",
    ];
    fuzz("option", &seeds, |text, _| {
        let (lenient, problems) = Items::parse_leniently(text);
        if let Ok(items) = Items::parse(text) {
            assert!(problems.is_empty() && items == lenient);
        }
        for problem in problems {
            let line = problem.to_string();
            assert!(
                line.len() < 2_000 && !line.chars().any(char::is_control),
                "{line:?}"
            );
        }
    });
}

#[test]
fn sets_addresses_and_masks() {
    let seeds = [
        "0-3,8",
        "0",
        "0-63,128-191",
        "0000:3b:00.0",
        "0xff,0x0f",
        "0xff00000000,0x1",
    ];
    fuzz("set", &seeds, |text, _| {
        if let Ok(set) = text.parse::<CpuSet>() {
            assert!(set.iter().all(|index| index <= MAX_INDEX));
            assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }
        if let Ok(address) = text.parse::<PciAddress>() {
            assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
        }
        for mask in parse_mask_list(text) {
            assert!(mask.iter().all(|index| index <= MAX_INDEX));
        }
    });
}

#[test]
fn cuda_visible_devices_and_slurms_lists() {
    let machine = machine();
    let all: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let seeds = [
        "0,1",
        "1",
        "GPU-aa,GPU-bb",
        "MIG-cc",
        "MIG-GPU-aa/0/0",
        "-1",
        "",
        "NoDevFiles",
        "0,-1,1",
    ];
    fuzz("visible", &seeds, |text, random| {
        let mut maybe = |other: &str| match random.below(3) {
            0 => None,
            1 => Some(other.to_owned()),
            _ => Some(text.to_owned()),
        };
        let view = TaskView {
            cuda_visible: Some(text.to_owned()),
            cuda_order: maybe("FASTEST_FIRST"),
            step_list: maybe("0,1"),
            on_host: maybe("2"),
            openable: all.clone(),
        };
        let seen = find_visible(&machine, &view).gpus;
        assert!(
            seen.len() <= all.len() && seen.iter().all(|gpu| all.contains(gpu)),
            "{seen:?}"
        );
    });
}

/// A snapshot is read by root; whatever is in it, a task's CPUs are the step's.
#[test]
fn snapshots_and_what_is_planned_on_them() {
    fuzz("snapshot", &[SNAPSHOT], |text, random| {
        let Ok(snapshot) = Snapshot::parse(text) else {
            return;
        };
        let again = Snapshot::parse(&snapshot.to_json().unwrap()).unwrap();
        assert_eq!(again.to_json().unwrap(), snapshot.to_json().unwrap());
        let machine = &snapshot.machine;
        for form in [Form::SingleHost, Form::MultiHost] {
            if let Ok(emitted) = emit(machine, form) {
                assert!(
                    nccl_topo::reader::parse(&emitted.xml).is_ok(),
                    "{}",
                    emitted.xml
                );
            }
        }
        let cpuset = CpuSet::from_range(random.below(4) as u32, random.below(12) as u32);
        let step_cpus = find_step_cpus(
            machine,
            &StepView {
                cpuset: cpuset.clone(),
                ..StepView::default()
            },
        );
        assert!(step_cpus.difference(&cpuset).is_empty());
        let step = StepRequest {
            settings: random_settings(random),
            step_cpus: step_cpus.clone(),
            asked: 1 + random.below(5) as u32,
            tasks: random_tasks(random, machine),
            kernel: "5.15".parse().unwrap(),
            allowed_nodes: None,
            may_refuse: random.below(2) == 0,
        };
        for task in plan_step(machine, &step)
            .tasks
            .iter()
            .filter(|task| task.bind_cpus)
        {
            assert!(
                !task.cpus.is_empty() && task.cpus.difference(&step_cpus).is_empty(),
                "{} of {step_cpus}",
                task.cpus
            );
        }
    });
}

fn random_settings(random: &mut Random) -> Settings {
    let policy = *random.pick(&["best-effort", "restricted", "single-numa-node", "none"]);
    let width = *random.pick(&["exclusive", "node", "socket", "l3"]);
    let memory = *random.pick(&["mem=preferred", "mem=bind", "mem=interleave", "mem=none"]);
    Settings::from(&Items::parse(&format!("{policy},{width},{memory}")).unwrap())
}

fn random_tasks(random: &mut Random, machine: &Machine) -> Vec<TaskRequest> {
    (0..1 + random.below(6))
        .map(|_| TaskRequest {
            visible: machine
                .gpus
                .iter()
                .filter(|_| random.below(2) == 0)
                .map(|gpu| gpu.pci)
                .take(64)
                .collect(),
            ..TaskRequest::default()
        })
        .collect()
}

#[test]
fn nccl_topology_files() {
    let seeds = [
        "<system version=\"1\">\n  <cpu numaid=\"0\" affinity=\"ff\" arch=\"x86_64\" vendor=\"GenuineIntel\" \
         familyid=\"6\" modelid=\"143\">\n    <pci busid=\"0000:21:00.0\" class=\"0x030200\" \
         link_speed=\"32.0 GT/s PCIe\" link_width=\"16\">\n      <gpu dev=\"0\" sm=\"90\" rank=\"0\"/>\n    \
         </pci>\n  </cpu>\n</system>\n",
        "<!-- c --><system version=\"1\"><cpu numaid=\"-1\"><nic><net name=\"eth0\" dev=\"0\"/></nic></cpu></system>",
    ];
    fuzz("nccl", &seeds, |text, _| {
        let _ = nccl_topo::reader::read(text);
        let _ = nccl_topo::reader::parse(text);
    });
}

#[test]
fn slurms_configuration() {
    let seeds = [
        "include /etc/slurm/plugstack.conf.d/*.conf\noptional /x/gpu_numa_bind.so always=none,verbose lock=mem\n",
        "NodeName=gpu[01-16] CPUs=128 Sockets=2 \\\n CoresPerSocket=32 ThreadsPerCore=2 Gres=gpu:8 # c\n",
        "gpu[01-16,20],n[1-3]x[2-4],login",
        "NodeName=n1 Name=gpu Type=h100 File=/dev/nvidia[0-3] Cores=0-31\nAutoDetect=nvml\n",
    ];
    fuzz("slurm", &seeds, |text, _| {
        let _ = topology::slurm::plugstack::parse(text, "plugstack.conf");
        let _ = topology::slurm::config::parse(text, "slurm.conf");
        assert!(topology::slurm::hostlist::expand(text, 100).len() <= 100);
        let _ = topology::slurm::hostlist::contains(text, "gpu07");
        let _ = topology::slurm::release::Release::find(text);
    });
}

#[test]
fn override_files_and_sysfs_texts() {
    let seeds = [
        "0000:3b:00.0 1\n# c\n0000:5e:00.0 2\n",
        "ffffffff,00000000",
        "32.0 GT/s PCIe",
        "16",
    ];
    fuzz("sysfs", &seeds, |text, _| {
        let (_, complaints) = topology::sysfs::parse_overrides(text, "localities");
        assert!(
            complaints.iter().all(|line| !line.contains('\u{1b}')),
            "{complaints:?}"
        );
    });
}
