//! `gpu-numa show` as somebody reads it who has not seen the machine.

use crate::common::Host;

/// The page in one line, so that where a sentence is wrapped does not matter.
fn words(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_kernel_says_has_no_mark_and_the_words_in_use_are_explained() {
    let page = words(&Host::new().page(&["show"]));
    assert!(!page.contains('*'), "{page}");
    assert!(
        page.contains("PIX: through one PCIe switch; SYS: between NUMA nodes."),
        "{page}"
    );
    assert!(!page.contains("PHB:") && !page.contains("NV#:"), "{page}");
    assert!(
        page.contains("To keep a job of 2 GPUs on one socket, ask for: --gpus-per-socket=2 --sockets-per-node=1"),
        "{page}"
    );
    assert!(
        page.contains("srun -n4 --gpus-per-task=1 --gpu-numa-bind"),
        "{page}"
    );
}

#[test]
fn an_inferred_node_is_marked_with_its_evidence() {
    let host = Host::new();
    host.write(&host.pci("0000:24:00.0", "numa_node"), "-1");
    host.write(&host.pci("0000:24:00.0", "local_cpulist"), "0-15");
    host.write(&host.pci("0000:24:00.0", "local_cpus"), "ffff");
    let page = words(&host.page(&["show"]));
    assert!(page.contains("GPU1 PIX X"), "{page}");
    assert!(page.contains("0* 0-3,8-11"), "{page}");
    assert!(
        page.contains(
            "* inferred from the devices below the same bridge; the kernel reports no NUMA node (`gpu-numa show --explain GPU1`"
        ),
        "{page}"
    );
}
