//! The host's own topology files, which the service writes beside the snapshot: their names, and which one a job
//! uses.

use topology::machine::{Gpu, Machine};
use topology::pci::VENDOR_AMAZON;

use crate::emit::Form;

impl Form {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::SingleHost, Self::MultiHost];

    /// The form for a job on `hosts` hosts.
    pub fn for_hosts(hosts: u32) -> Self {
        if hosts > 1 {
            Self::MultiHost
        } else {
            Self::SingleHost
        }
    }

    /// The name of its file in [`DIRECTORY`](topology::snapshot::DIRECTORY).
    pub fn file_name(self) -> &'static str {
        match self {
            Self::SingleHost => "nccl-topo.xml",
            Self::MultiHost => "nccl-topo-multi.xml",
        }
    }
}

/// The form of the file that a job on `hosts` hosts uses; none where NCCL is left to itself.
///
/// That is where NCCL does not run on a GPU, and where Amazon's EFA adapters bring an NCCL plugin with a topology
/// of its own, unless the site wants ours all the same (`despite_efa`).
pub fn form_for_job(machine: &Machine, hosts: u32, despite_efa: bool) -> Option<Form> {
    let is_nccls = machine.gpus.iter().all(Gpu::has_nccl);
    let has_efa = machine.nics.iter().any(|nic| nic.vendor == VENDOR_AMAZON);
    (is_nccls && (despite_efa || !has_efa)).then(|| Form::for_hosts(hosts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_job_uses_the_file_of_its_hosts() {
        let machine = with_switches(machine(2, 1, 4), 1);
        for (hosts, name) in [(1, "nccl-topo.xml"), (2, "nccl-topo-multi.xml")] {
            let form = form_for_job(&machine, hosts, false);
            assert_eq!(form.map(Form::file_name), Some(name));
        }
    }

    #[test]
    fn nccl_is_left_to_itself_beside_efa_and_gpus_of_others() {
        let mut efa = with_switches(machine(2, 1, 4), 1);
        efa.nics[0].vendor = VENDOR_AMAZON;
        assert_eq!(form_for_job(&efa, 1, false), None);
        assert_eq!(form_for_job(&efa, 1, true), Some(Form::SingleHost));
        let mut mixed = with_switches(machine(2, 1, 4), 1);
        mixed.gpus[0].vendor = 0x1002;
        assert_eq!(form_for_job(&mixed, 1, true), None);
    }
}
