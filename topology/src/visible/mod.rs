//! Which GPUs a task sees.
//!
//! The vendor's variable (`CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES`) and `SLURM_STEP_GPUS` number GPUs from 0 inside a
//! device cgroup, so in four tasks of one step they may all say 0 and mean four GPUs (gres.c,
//! `gres_use_local_device_index`, Slurm 22.05 to 26.05).  What counts is which devices the kernel lets the
//! task open; the variables are read as the vendor's runtime reads them, as indexes into those.

mod lists;
#[cfg(test)]
mod tests;

use self::lists::{
    Fault, OddEntry, is_quoted_nothing, parse_cuda, parse_hip, parse_list, parse_rocr,
};
use crate::machine::{Gpu, Machine};
use crate::option::printable;
use crate::pci::PciAddress;
use crate::vendor::{GpuVendor, ListRules, OrderVariable, VENDORS};

/// What a task's environment and the kernel say of its GPUs, those of one vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskView {
    /// The vendor; none for the machine's ([`Machine::launch_vendor`]).
    pub vendor: Option<&'static GpuVendor>,
    /// The GPUs that the task may open; one that is divided stands once for each part that it may open.
    pub openable: Vec<PciAddress>,
    /// The variable that lists the GPUs that a program sees ([`crate::vendor::Variables::visible`]).
    pub visible: Option<String>,
    /// The variable of the runtime above that counts within these ([`crate::vendor::Variables::within`]).
    pub within: Option<String>,
    /// Its name.
    pub within_name: &'static str,
    /// The variable that says how they are numbered ([`crate::vendor::Variables::order`]).
    pub order: Option<String>,
    /// `SLURM_STEP_GPUS` (for a batch script `SLURM_JOB_GPUS`) as the step had it before the fork.
    pub step_list: Option<String>,
    /// `SLURM_GPUS_ON_NODE`.
    pub on_host: Option<String>,
}

impl TaskView {
    /// What the variables of `vendor` say, by `env`.
    fn read(
        vendor: &'static GpuVendor,
        asked: &Asked<'_>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let variables = &vendor.variables;
        let within = variables.within.iter();
        let mut within = within.filter_map(|name| Some((*name, env(name)?)));
        let within = within.find(|(_, list)| !is_quoted_nothing(list));
        let (within_name, within) = within.map_or(("", None), |(name, list)| (name, Some(list)));
        Self {
            vendor: Some(vendor),
            openable: asked.openable.to_vec(),
            visible: env(variables.visible),
            within,
            within_name,
            order: variables.order.and_then(|order| env(order.name)),
            step_list: asked.step_list.map(str::to_owned),
            on_host: asked.on_host.clone(),
        }
    }
}

/// What is known of a task's GPUs beside its environment.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// As [`TaskView::openable`], of all vendors.
    pub openable: &'a [PciAddress],
    /// As [`TaskView::step_list`].
    pub step_list: Option<&'a str>,
    /// As [`TaskView::on_host`].
    pub on_host: Option<String>,
}

/// The GPUs that a task sees, in the order of its own numbering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visible {
    /// Their addresses; one that is divided stands once for each part that the task sees.
    pub gpus: Vec<PciAddress>,
    /// What was odd, for a person.
    pub remark: Option<String>,
    /// Whether the variable could not be read as the runtime reads it, so that `gpus` are all that may be opened.
    pub is_guess: bool,
}

/// The GPUs of all vendors that a task with the environment `env` sees.
///
/// On a host with GPUs of several vendors one vendor's variable says nothing of the others' GPUs: where only another's is
/// set, the task has those that the kernel lets it open, if it fences any.
#[inline]
pub fn find_all(
    machine: &Machine,
    asked: &Asked<'_>,
    env: impl Fn(&str) -> Option<String>,
) -> Visible {
    let mut vendors = machine.launch_vendors();
    let first = vendors.next().unwrap_or(machine.launch_vendor());
    let Some(second) = vendors.next() else {
        return find_visible(machine, &TaskView::read(first, asked, env));
    };
    let all: Vec<&'static GpuVendor> = [first, second].into_iter().chain(vendors).collect();
    let any_is_set = all
        .iter()
        .any(|vendor| env(vendor.variables.visible).is_some());
    let files: usize = all.iter().map(|vendor| askable(machine, vendor)).sum();
    let is_fenced = asked.openable.len() < files;
    let mut seen = Visible::default();
    for vendor in all {
        // Slurm's list numbers the GPUs of all lines of gres.conf, in an order that is not known here.
        let mut view = TaskView::read(vendor, asked, &env);
        view.step_list = None;
        if view.visible.is_none() && any_is_set && !is_fenced {
            continue;
        }
        let own = find_visible(machine, &view);
        seen.gpus.extend(own.gpus);
        seen.remark = seen.remark.or(own.remark);
        seen.is_guess |= own.is_guess;
    }
    seen
}

/// The GPUs of the view's vendor that a task sees on `machine`.
///
/// Inlined, as all that each task of a step runs: code that lies together costs a new process fewer page faults.
#[inline]
pub fn find_visible(machine: &Machine, view: &TaskView) -> Visible {
    let vendor = view.vendor.unwrap_or(machine.launch_vendor());
    let outer = find_outer(machine, vendor, view);
    let Some(list) = &view.within else {
        return outer;
    };
    let gpus: Vec<&Gpu> = outer
        .gpus
        .iter()
        .filter_map(|pci| machine.gpu(*pci))
        .collect();
    let Some(within) = parse_hip(machine, &gpus, list) else {
        return outer;
    };
    // Slurm gives both variables the same numbers where a line of gres.conf names no vendor's (gres_common.c,
    // `gres_common_gpu_set_env`, 22.05 to 26.05), and these count within each other.
    let is_doubled = view.within == view.visible && within.len() < outer.gpus.len();
    if !is_doubled || list.trim().is_empty() {
        return Visible {
            gpus: within,
            ..outer
        };
    }
    let visible = vendor.variables.visible;
    let (shown, gpus) = match within.len() {
        0 => (format!("no GPU; taking those of {visible}"), outer.gpus),
        some => (format!("{some} of {} GPUs", outer.gpus.len()), within),
    };
    Visible {
        gpus,
        remark: Some(format!(
            "{} is \"{}\" and counts within {visible}, so HIP shows {shown} (gres.conf: Flags=amd_gpu_env sets {visible} alone)",
            view.within_name,
            printable(list),
        )),
        ..outer
    }
}

/// The GPUs of a vendor in the order in which its runtime numbers them.
pub fn runtime_order<'m>(machine: &'m Machine, vendor: &GpuVendor) -> Vec<&'m Gpu> {
    let own = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor.id);
    let mut gpus: Vec<&Gpu> = own.collect();
    let first = |gpu: &Gpu| Some(gpu.kfd.as_ref()?.nodes.first()?.node);
    // Without KFD's order, that of their addresses, in which Linux finds them on most hosts.
    if vendor.variables.list == ListRules::Rocr && gpus.iter().all(|gpu| first(gpu).is_some()) {
        gpus.sort_by_key(|gpu| first(gpu));
    }
    gpus
}

/// All GPUs, those of [`Machine::launch_vendor`] first, each vendor's as [`runtime_order`] has them: the order of the lines that
/// `gpu-numa gres-conf` writes, and so of Slurm's numbers.
pub fn counted_order(machine: &Machine) -> Vec<&Gpu> {
    let first = machine.launch_vendor();
    let others = VENDORS.iter().filter(|vendor| *vendor != first);
    let known = std::iter::once(first).chain(others);
    let mut gpus: Vec<&Gpu> = known
        .flat_map(|vendor| runtime_order(machine, vendor))
        .collect();
    gpus.extend(machine.gpus.iter().filter(|gpu| gpu.maker().is_none()));
    gpus
}

/// The addresses of a vendor's GPUs among `openable`, as its runtime numbers them; one that is divided stands once for each part
/// that is there.
pub fn runtime_numbers(
    machine: &Machine,
    vendor: &GpuVendor,
    openable: &[PciAddress],
) -> Vec<PciAddress> {
    let gpus = in_order(machine, vendor, openable).into_iter();
    gpus.map(|gpu| gpu.pci).collect()
}

/// The GPUs that the task may open, as its runtime numbers them; one that is divided stands once for each part.
fn in_order<'m>(machine: &'m Machine, vendor: &GpuVendor, openable: &[PciAddress]) -> Vec<&'m Gpu> {
    let gpus = runtime_order(machine, vendor);
    match vendor.variables.list {
        ListRules::Cuda | ListRules::LevelZero => {
            let own = gpus.into_iter();
            own.filter(|gpu| openable.contains(&gpu.pci)).collect()
        }
        ListRules::Rocr => {
            let parts = |gpu: &'m Gpu| {
                let times = openable.iter().filter(|pci| **pci == gpu.pci).count();
                std::iter::repeat_n(gpu, times.min(gpu.parts()))
            };
            gpus.into_iter().flat_map(parts).collect()
        }
    }
}

/// Without the variable of the runtime above.
#[inline]
fn find_outer(machine: &Machine, vendor: &GpuVendor, view: &TaskView) -> Visible {
    if !has_gpus(view) {
        return Visible::default();
    }
    let openable = in_order(machine, vendor, &view.openable);
    let all = || openable.iter().map(|gpu| gpu.pci).collect::<Vec<_>>();
    let Some(list) = &view.visible else {
        return Visible {
            gpus: match view.within {
                // It counts all that may be opened, whatever the step was given.
                Some(_) => all(),
                None => bound_by_step(machine, vendor, view, &openable),
            },
            ..Visible::default()
        };
    };
    let variables = &vendor.variables;
    if let Some(order) = by_speed(vendor, view).filter(|_| !are_alike(&openable)) {
        return Visible {
            gpus: all(),
            remark: Some(format!(
                "{} is {} and the GPUs differ, so their numbers are not known; taking all that it may open",
                order.name, order.by_speed
            )),
            is_guess: true,
        };
    }
    let parsed = match variables.list {
        ListRules::Cuda => parse_cuda(machine, &openable, list),
        // Whole GPUs are meant where numbers are; a list with tiles ("0.1") names none of these.
        ListRules::LevelZero => parse_list(machine, &openable, list),
        ListRules::Rocr => parse_rocr(machine, &openable, list),
    };
    match parsed {
        Ok(gpus) => Visible {
            gpus,
            ..Visible::default()
        },
        // Variables inherited from the batch script, in a step that Slurm gave no GPU.
        Err(_)
            if openable.is_empty() && view.step_list.is_none() && askable(machine, vendor) > 0 =>
        {
            Visible::default()
        }
        Err(odd) if odd.fault != Fault::NotKnown => Visible {
            remark: Some(ending_entry(vendor, &odd)),
            gpus: odd.before,
            is_guess: false,
        },
        Err(odd) => Visible {
            gpus: all(),
            remark: Some(odd_entry(variables.visible, odd.named, openable.is_empty())),
            is_guess: true,
        },
    }
}

fn ending_entry(vendor: &GpuVendor, odd: &OddEntry<'_>) -> String {
    let (variable, named) = (vendor.variables.visible, printable(odd.named));
    match (odd.fault, vendor.variables.list) {
        (Fault::Again, _) => format!(
            "{variable} names a GPU twice (\"{named}\"); CUDA does not start with such a list, so no GPU is seen"
        ),
        (_, ListRules::Rocr) => format!(
            "{variable} names \"{named}\", which is no further GPU that it may open; ROCm shows none from there on"
        ),
        (_, _) => format!(
            "{variable} names \"{named}\", which is no GPU that it may open; CUDA shows none from there on"
        ),
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
fn bound_by_step(
    machine: &Machine,
    vendor: &GpuVendor,
    view: &TaskView,
    openable: &[&Gpu],
) -> Vec<PciAddress> {
    let all = openable.iter().map(|gpu| gpu.pci).collect();
    // Slurm numbers them by address, in whatever order the runtime has them (rocm_smi_main.cc sorts by it too).
    let mut by_address = openable.to_vec();
    by_address.sort_by_key(|gpu| gpu.pci);
    let listed = view
        .step_list
        .as_deref()
        // Where GPUs are divided by MIG it numbers instances.
        .filter(|_| machine.gpus.iter().all(|gpu| gpu.mig.is_empty()))
        .and_then(|list| parse_list(machine, &by_address, list).ok());
    match listed {
        Some(listed) if openable.len() == askable(machine, vendor) && !listed.is_empty() => listed,
        Some(_) | None => all,
    }
}

/// How many device files of the vendor's GPUs have a name that is known.
fn askable(machine: &Machine, vendor: &GpuVendor) -> usize {
    let own = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor.id);
    let named = own.filter(|gpu| gpu.minor.is_some());
    named.map(Gpu::parts).sum()
}

/// The order variable, where it says that numbers depend on the models.
fn by_speed(vendor: &GpuVendor, view: &TaskView) -> Option<OrderVariable> {
    vendor
        .variables
        .order
        .filter(|order| view.order.as_deref() == Some(order.by_speed))
}

fn are_alike(gpus: &[&Gpu]) -> bool {
    gpus.windows(2).all(|pair| match pair {
        [a, b] => a.device == b.device,
        _ => true,
    })
}
