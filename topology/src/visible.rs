//! Which GPUs a task sees.
//!
//! The vendor's variable (`CUDA_VISIBLE_DEVICES`) and `SLURM_STEP_GPUS` number GPUs from 0 inside a device
//! cgroup, so in four tasks of one step they may all say 0 and mean four GPUs (gres.c,
//! `gres_use_local_device_index`, Slurm 22.05 to 26.05).  What counts is which devices the kernel lets the
//! task open; the variables are read as CUDA reads them, as indexes into those in PCI order.

use crate::machine::{Gpu, Machine, one_of_uuid};
use crate::option::printable;
use crate::pci::PciAddress;
use crate::vendor::{OrderVariable, Variables};

/// What a task's environment and the kernel say of its GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskView {
    /// The GPUs that the task may open.
    pub openable: Vec<PciAddress>,
    /// The variable that lists the GPUs that a program sees ([`crate::vendor::Variables::visible`]).
    pub visible: Option<String>,
    /// The variable of the runtime above that counts within these ([`crate::vendor::Variables::within`]).
    pub within: Option<String>,
    /// The variable that says how they are numbered ([`crate::vendor::Variables::order`]).
    pub order: Option<String>,
    /// `SLURM_STEP_GPUS` (for a batch script `SLURM_JOB_GPUS`) as the step had it before the fork.
    pub step_list: Option<String>,
    /// `SLURM_GPUS_ON_NODE`.
    pub on_host: Option<String>,
}

impl TaskView {
    /// What the variables say, by `env`; the step's list is only known before the fork.
    pub fn read(
        machine: &Machine,
        openable: Vec<PciAddress>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let variables = &machine.launch_vendor().variables;
        Self {
            openable,
            visible: env(variables.visible),
            within: variables.within.iter().find_map(|name| env(name)),
            order: variables.order.and_then(|order| env(order.name)),
            step_list: None,
            on_host: env("SLURM_GPUS_ON_NODE"),
        }
    }
}

/// The GPUs that a task sees, in the order of its own numbering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visible {
    /// Their addresses.
    pub gpus: Vec<PciAddress>,
    /// What was odd, for a person.
    pub remark: Option<String>,
}

/// The GPUs that a task sees on `machine`.
///
/// Inlined, as all that each task of a step runs: code that lies together costs a new process fewer page faults.
#[inline]
pub fn find_visible(machine: &Machine, view: &TaskView) -> Visible {
    let outer = find_outer(machine, view);
    let Some(list) = &view.within else {
        return outer;
    };
    let gpus: Vec<&Gpu> = outer
        .gpus
        .iter()
        .filter_map(|pci| machine.gpu(*pci))
        .collect();
    // HIP drops an entry that names no GPU and all behind it, and shows no GPU where the list is empty
    // (clr, rocclr/device/rocm/rocdevice.cpp and rocclr/utils/flags.cpp, from ROCm 5.6 on).  Which GPU a name stands for is not
    // known here where no UUID is.
    match parse_list(machine, &gpus, list) {
        Ok(gpus) => Visible {
            gpus,
            remark: outer.remark,
        },
        Err(odd) if odd.named.parse::<i64>().is_ok() => Visible {
            gpus: odd.before,
            remark: outer.remark,
        },
        Err(_) => outer,
    }
}

/// Without the variable of the runtime above.
#[inline]
fn find_outer(machine: &Machine, view: &TaskView) -> Visible {
    if !has_gpus(view) {
        return Visible::default();
    }
    let openable: Vec<&Gpu> = machine
        .gpus
        .iter()
        .filter(|gpu| view.openable.contains(&gpu.pci))
        .collect();
    let all = || openable.iter().map(|gpu| gpu.pci).collect::<Vec<_>>();
    let Some(list) = &view.visible else {
        return Visible {
            gpus: bound_by_step(machine, view, &openable),
            remark: None,
        };
    };
    let variables = &machine.launch_vendor().variables;
    if let Some(order) = by_speed(variables, view).filter(|_| !are_alike(&openable)) {
        return Visible {
            gpus: all(),
            remark: Some(format!(
                "{} is {} and the GPUs differ, so their numbers are not known; taking all that it may open",
                order.name, order.by_speed
            )),
        };
    }
    match parse_list(machine, &openable, list) {
        Ok(gpus) => Visible { gpus, remark: None },
        // Variables inherited from the batch script, in a step that Slurm gave no GPU.
        Err(_) if openable.is_empty() && view.step_list.is_none() && askable(machine) > 0 => {
            Visible::default()
        }
        Err(odd) => Visible {
            gpus: all(),
            remark: Some(odd_entry(variables.visible, odd.named, openable.is_empty())),
        },
    }
}

fn odd_entry(variable: &str, odd: &str, none_openable: bool) -> String {
    let odd = printable(odd);
    if none_openable {
        format!("{variable} names \"{odd}\", but none of the GPUs known here may be opened")
    } else {
        format!("{variable} names \"{odd}\", which is no GPU that it may open; taking all of those")
    }
}

/// Whether the environment says that the step has GPUs at all: openable devices alone do not, because a
/// host without a device fence lets every task open all.
#[inline]
fn has_gpus(view: &TaskView) -> bool {
    if let Some(list) = &view.visible {
        return !matches!(list.trim(), "" | "NoDevFiles" | "-1");
    }
    let listed = view
        .step_list
        .as_ref()
        .is_some_and(|list| !list.trim().is_empty());
    let counted = view
        .on_host
        .as_ref()
        .is_some_and(|count| count.trim().parse::<u32>().is_ok_and(|n| n > 0));
    listed || counted || view.within.is_some()
}

/// Without the vendor's variable: all openable ones, but without a fence only those of the step's list.
fn bound_by_step(machine: &Machine, view: &TaskView, openable: &[&Gpu]) -> Vec<PciAddress> {
    let all = openable.iter().map(|gpu| gpu.pci).collect();
    let listed = view
        .step_list
        .as_deref()
        // Where GPUs are divided by MIG it numbers instances.
        .filter(|_| machine.gpus.iter().all(|gpu| gpu.mig.is_empty()))
        .and_then(|list| parse_list(machine, openable, list).ok());
    match listed {
        Some(listed) if openable.len() == askable(machine) && !listed.is_empty() => listed,
        Some(_) | None => all,
    }
}

/// How many GPUs have a device file whose name is known.
fn askable(machine: &Machine) -> usize {
    let named = machine.gpus.iter().filter(|gpu| gpu.minor.is_some());
    named.count()
}

/// The order variable, where it says that numbers depend on the models.
fn by_speed(variables: &Variables, view: &TaskView) -> Option<OrderVariable> {
    variables
        .order
        .filter(|order| view.order.as_deref() == Some(order.by_speed))
}

fn are_alike(gpus: &[&Gpu]) -> bool {
    gpus.windows(2).all(|pair| match pair {
        [a, b] => a.device == b.device,
        _ => true,
    })
}

/// An entry of a list that names no openable GPU.
#[derive(Debug)]
struct OddEntry<'l> {
    named: &'l str,
    /// The GPUs of the entries before it.
    before: Vec<PciAddress>,
}

/// Reads a list as CUDA does: indexes into the openable GPUs in PCI order, UUIDs or their beginnings, a
/// -1 ends it.  The error is the first entry that names no openable GPU.
#[inline]
fn parse_list<'l>(
    machine: &Machine,
    openable: &[&Gpu],
    list: &'l str,
) -> Result<Vec<PciAddress>, OddEntry<'l>> {
    let mut gpus = Vec::with_capacity(openable.len());
    for entry in list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .take(4096)
    {
        if entry == "-1" {
            break;
        }
        let found = match entry.parse::<usize>() {
            Ok(index) => openable.get(index).copied(),
            Err(_) => one_of_uuid(openable.iter().copied(), entry)
                .or_else(|| by_uuid_anywhere(machine, entry)),
        };
        let Some(gpu) = found else {
            return Err(OddEntry {
                named: entry,
                before: gpus,
            });
        };
        if !gpus.contains(&gpu.pci) {
            gpus.push(gpu.pci);
        }
    }
    Ok(gpus)
}

/// Over the GPUs whose minor number is not known and which so cannot be asked for.
fn by_uuid_anywhere<'m>(machine: &'m Machine, entry: &str) -> Option<&'m Gpu> {
    one_of_uuid(machine.gpus.iter().filter(|gpu| gpu.minor.is_none()), entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MigInstance;
    use crate::pci::PciDevice;

    fn machine() -> Machine {
        let gpus = (0..4u32)
            .map(|index| Gpu {
                minor: Some(3 - index),
                uuid: Some(format!("GPU-{index}aaa-bbbb")),
                mig: vec![MigInstance {
                    uuid: format!("MIG-{index}ccc"),
                    ..MigInstance::default()
                }],
                ..Gpu::of(&PciDevice::new(address(index), 0x03_0200, 0x10de, 0x2330))
            })
            .collect();
        Machine {
            gpus,
            ..Machine::default()
        }
    }

    fn address(index: u32) -> PciAddress {
        format!("0000:{index:02x}:00.0").parse().unwrap()
    }

    fn view(openable: &[u32], cuda: Option<&str>) -> TaskView {
        TaskView {
            openable: openable.iter().map(|index| address(*index)).collect(),
            visible: cuda.map(str::to_owned),
            ..TaskView::default()
        }
    }

    fn seen(view: &TaskView) -> Vec<u32> {
        find_visible(&machine(), view)
            .gpus
            .iter()
            .map(|gpu| gpu.bus.into())
            .collect()
    }

    #[test]
    fn zero_means_the_one_that_the_cgroup_lets_open() {
        assert_eq!(seen(&view(&[2], Some("0"))), [2]);
        assert_eq!(seen(&view(&[1, 3], Some("1,0"))), [3, 1]);
    }

    #[test]
    fn without_a_fence_the_number_counts_over_the_host() {
        assert_eq!(seen(&view(&[0, 1, 2, 3], Some("2"))), [2]);
    }

    #[test]
    fn an_unset_variable_means_all_openable_bounded_by_the_step() {
        let mut machine = machine();
        machine.gpus.iter_mut().for_each(|gpu| gpu.mig.clear());
        let seen = |view: &TaskView| -> Vec<u32> {
            let gpus = find_visible(&machine, view).gpus;
            gpus.iter().map(|gpu| gpu.bus.into()).collect()
        };
        let mut open = view(&[0, 1, 2, 3], None);
        assert_eq!(
            seen(&open),
            [0u32; 0],
            "nothing says that the step has GPUs"
        );
        open.on_host = Some("2".to_owned());
        assert_eq!(seen(&open), [0, 1, 2, 3]);
        open.step_list = Some("1,2".to_owned());
        assert_eq!(seen(&open), [1, 2]);
        let fenced = TaskView {
            step_list: Some("1,2".to_owned()),
            ..view(&[1, 2], None)
        };
        assert_eq!(seen(&fenced), [1, 2]);
    }

    #[test]
    fn the_steps_list_of_a_host_with_mig_numbers_instances() {
        let mut all = view(&[0, 1, 2, 3], None);
        all.step_list = Some("2".to_owned());
        let mut machine = machine();
        assert_eq!(find_visible(&machine, &all).gpus.len(), 4);
        machine.gpus.iter_mut().for_each(|gpu| gpu.mig.clear());
        assert_eq!(find_visible(&machine, &all).gpus, [address(2)]);
    }

    #[test]
    fn the_runtime_above_counts_within_what_the_one_below_shows() {
        let within = |outer, list: &str| {
            seen(&TaskView {
                within: Some(list.to_owned()),
                on_host: Some("4".to_owned()),
                ..view(&[0, 1, 2, 3], outer)
            })
        };
        assert_eq!(within(Some("1,3"), "1"), [3]);
        assert_eq!(within(Some("3,1"), "0"), [3]);
        assert_eq!(within(None, "2,0"), [2, 0]);
        assert_eq!(within(None, ""), [0u32; 0]);
        assert_eq!(within(Some("1,3"), ""), [0u32; 0]);
        assert_eq!(within(Some("1,3"), "7"), [0u32; 0]);
        assert_eq!(within(Some("1,3"), "1,7,0"), [3]);
        assert_eq!(within(Some("1,3"), "0,-1,1"), [1]);
        assert_eq!(within(Some("1,3"), "GPU-ffff"), [1, 3]);
    }

    #[test]
    fn gpus_of_which_no_device_file_is_known_are_said() {
        let mut machine = machine();
        machine.gpus.iter_mut().for_each(|gpu| gpu.minor = None);
        let visible = find_visible(&machine, &view(&[], Some("1")));
        assert!(visible.gpus.is_empty() && visible.remark.is_some());
        let by_uuid = find_visible(&machine, &view(&[], Some("GPU-1aaa")));
        assert_eq!(by_uuid.gpus, [address(1)]);
    }

    #[test]
    fn uuids_and_mig_instances_name_their_gpu() {
        for entry in [
            "GPU-2aaa-bbbb",
            "GPU-2aaa",
            "gpu-2AAA",
            "MIG-2ccc",
            "MIG-GPU-2aaa-bbbb/1/0",
        ] {
            assert_eq!(seen(&view(&[0, 1, 2, 3], Some(entry))), [2], "{entry}");
        }
    }

    #[test]
    fn what_names_nothing_falls_back_to_the_openable_with_a_line() {
        for entry in ["7", "GPU-ffff", "GPU-", "x"] {
            let visible = find_visible(&machine(), &view(&[1], Some(entry)));
            assert_eq!(visible.gpus, [address(1)]);
            assert!(visible.remark.unwrap().contains(&format!("\"{entry}\"")));
        }
    }

    #[test]
    fn a_step_without_gpus_inside_a_job_with_some_sees_none() {
        let inherited = view(&[], Some("0,1"));
        assert_eq!(find_visible(&machine(), &inherited), Visible::default());
        let given = TaskView {
            step_list: Some("0".to_owned()),
            ..inherited
        };
        assert!(find_visible(&machine(), &given).remark.is_some());
    }

    #[test]
    fn no_device_means_none() {
        for none in ["", "NoDevFiles", "-1"] {
            assert_eq!(seen(&view(&[0], Some(none))), [0u32; 0]);
        }
        assert_eq!(seen(&view(&[0, 1], Some("0,-1,1"))), [0]);
    }

    #[test]
    fn fastest_first_on_mixed_models_means_all() {
        let mut mixed = machine();
        mixed.gpus[3].device = 0x26b9;
        let mut fastest = view(&[0, 3], Some("0"));
        fastest.order = Some("FASTEST_FIRST".to_owned());
        assert_eq!(find_visible(&mixed, &fastest).gpus.len(), 2);
        assert_eq!(find_visible(&machine(), &fastest).gpus, [address(0)]);
    }
}
