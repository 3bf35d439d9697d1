use super::*;
use crate::machine::{KfdGpu, KfdNode, MigInstance};
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
    assert_eq!(within(Some("1,3"), "GPU-ffff"), [0u32; 0]);
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
        "GPU-2AAAB",
        "GPU-2",
        "MIG-2ccc",
        "MIG-GPU-2aaa-bbbb/1/0",
    ] {
        assert_eq!(seen(&view(&[0, 1, 2, 3], Some(entry))), [2], "{entry}");
    }
}

#[test]
fn cuda_shows_the_gpus_before_what_names_none() {
    // As CUDA of driver 580.159 has them on one H200, GPU 1 of this machine.
    for (list, sees, is_said) in [
        ("0", true, false),
        ("1", false, true),
        ("-1", false, false),
        ("0,99", true, true),
        ("99,0", false, true),
        ("0,-1,0", true, false),
        ("0,1,0", true, true),
        ("0,,0", true, true),
        (",0", false, true),
        (" 0", true, false),
        (" 0 ,-1", true, false),
        ("+0", true, false),
        ("-0", true, false),
        ("-2", false, false),
        ("00", true, false),
        ("01", false, true),
        ("0x1", true, false),
        ("0.5", true, false),
        ("0 1", true, false),
        ("1e0", false, true),
        ("+ 0", false, true),
        ("4294967296", true, false),
        ("99999999999999999999", false, false),
        ("abc", false, true),
        ("0,abc", true, true),
        ("all", false, true),
        ("GPU-1aaa-bbbb", true, false),
        ("GPU-1AAABBBB", true, false),
        ("GPU-1aaa-", true, false),
        ("GPU--", true, false),
        ("GPU-", false, true),
        ("GPU", false, true),
        ("gpu-1aaa", false, true),
        ("GPU-1aaa-zz", false, true),
        ("GPU-1a ", false, true),
        (" GPU-1aaa", false, true),
        ("GPU-ffff,GPU-1aaa", false, true),
        ("GPU-1aaa,0", true, true),
        ("0,GPU-1aaa", true, true),
        ("GPU-1aaa,GPU-1aaa", false, true),
        ("0,0", false, true),
        ("0,00", false, true),
        ("0,0x1", false, true),
    ] {
        let mut machine = machine();
        machine.gpus.iter_mut().for_each(|gpu| gpu.mig.clear());
        let visible = find_visible(&machine, &view(&[1], Some(list)));
        let expected = if sees { vec![address(1)] } else { Vec::new() };
        assert_eq!(visible.gpus, expected, "{list}");
        assert_eq!(visible.remark.is_some(), is_said, "{list}");
        assert!(!visible.is_guess, "{list}");
    }
}

#[test]
fn a_name_that_may_be_a_gpus_falls_back_to_the_openable_with_a_line() {
    let mut unnamed = machine();
    for gpu in &mut unnamed.gpus {
        (gpu.uuid, gpu.mig) = (None, Vec::new());
    }
    for (machine, entry) in [(machine(), "MIG-ffff"), (unnamed, "GPU-ffff")] {
        let visible = find_visible(&machine, &view(&[1], Some(entry)));
        assert_eq!(visible.gpus, [address(1)]);
        assert!(visible.is_guess);
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

/// Four of AMD's, which its driver found in the order 2, 3, 0, 1.
fn amd(parts: u32) -> Machine {
    let mut machine = machine();
    for (index, gpu) in (0u32..).zip(&mut machine.gpus) {
        let uuid = Some(format!("GPU-{index}aaabbbbccccdddd"));
        let nodes = (0..parts).map(|part| KfdNode {
            node: 2 + (index + 2) % 4 * parts + part,
            minor: Some(128 + index * parts + part),
            uuid: uuid.clone(),
        });
        gpu.kfd = Some(KfdGpu {
            nodes: nodes.collect(),
            ..KfdGpu::default()
        });
        (gpu.vendor, gpu.uuid) = (0x1002, uuid);
        gpu.mig.clear();
    }
    machine
}

fn amd_seen(parts: u32, openable: &[u32], list: &str) -> (Vec<u32>, bool) {
    let view = TaskView {
        vendor: GpuVendor::of(0x1002),
        ..view(openable, Some(list))
    };
    let seen = find_visible(&amd(parts), &view);
    let gpus = seen.gpus.iter().map(|gpu| gpu.bus.into());
    (gpus.collect(), seen.remark.is_some())
}

#[test]
fn rocr_counts_in_the_order_in_which_the_driver_found_them() {
    let all = &[0, 1, 2, 3];
    assert_eq!(amd_seen(1, all, "0"), (vec![2], false));
    assert_eq!(amd_seen(1, all, "3,0x2, 01"), (vec![1, 0, 3], false));
    assert_eq!(amd_seen(1, &[1, 2], "1,0"), (vec![1, 2], false));
}

#[test]
fn rocr_ends_a_list_at_what_names_no_further_gpu() {
    let all = &[0, 1, 2, 3];
    for (list, seen) in [
        ("4", vec![]),
        ("1,1,0", vec![3]),
        ("1,x,0", vec![3]),
        ("1,,0", vec![3]),
        ("GPU-", vec![]),
        ("gpu-", vec![]),
        ("GPU-3AAA,GPU-f", vec![3]),
        ("08", vec![]),
    ] {
        assert_eq!(amd_seen(1, all, list), (seen, true), "{list}");
    }
    assert_eq!(amd_seen(1, all, "2,-1,0"), (vec![0], false));
    assert_eq!(amd_seen(1, all, "gpu-1aaaBBBB"), (vec![1], false));
    assert_eq!(amd_seen(1, all, ""), (vec![], false));
}

#[test]
fn rocr_counts_the_parts_of_gpus_that_are_divided() {
    let two = &[0, 0, 1, 1, 2, 2, 3, 3];
    assert_eq!(amd_seen(2, two, "0,1,2"), (vec![2, 2, 3], false));
    assert_eq!(amd_seen(2, &[0, 2, 2], "2"), (vec![0], false));
    // All parts have the GPU's id, so it names none of them.
    assert_eq!(amd_seen(2, two, "GPU-1"), (vec![], true));
}

/// What HIP shows of four GPUs that ROCR numbers 2, 3, 0, 1.
#[test]
fn hip_ends_a_list_at_the_first_entry_that_is_no_number_as_it_writes_them() {
    for (list, seen) in [
        ("3,0", vec![1, 2]),
        ("3,3,0", vec![1, 2]),
        ("3, 0", vec![1]),
        ("3,,0", vec![1]),
        ("3,", vec![1]),
        ("3,00", vec![1]),
        ("3,+0", vec![1]),
        ("3,-1,0", vec![1]),
        ("3,abc,0", vec![1]),
        ("3,4,0", vec![1]),
        ("3,0x1", vec![1]),
        (" 3", vec![]),
        ("03,0", vec![]),
        ("-0", vec![]),
        ("-1", vec![]),
        ("abc,3", vec![]),
        ("NoDevFiles", vec![]),
        ("99999999999999999999", vec![]),
        ("", vec![]),
        (" ", vec![]),
        (",3", vec![]),
        ("GPU-1aaabbbbccccdddd,0", vec![1, 2]),
        ("GPU-1aaa,1", vec![1, 3]),
        ("GPU-", vec![2]),
        ("GPU-1AAA", vec![]),
        ("gpu-1aaa", vec![]),
        (" GPU-1aaa", vec![]),
        ("3,GPU-f,0", vec![1]),
        ("\"3,0\"", vec![1, 2]),
        (" \"3,0\"  ", vec![1, 2]),
        ("\"3\",0", vec![]),
        ("\"3", vec![]),
    ] {
        let view = TaskView {
            vendor: GpuVendor::of(0x1002),
            within: Some(list.to_owned()),
            on_host: Some("4".to_owned()),
            ..view(&[0, 1, 2, 3], None)
        };
        let own = find_visible(&amd(1), &view);
        let gpus: Vec<u32> = own.gpus.iter().map(|gpu| gpu.bus.into()).collect();
        assert_eq!((gpus, own.remark), (seen, None), "{list}");
    }
}

/// As Slurm 22.05 sets them without a device fence: both variables where gres.conf has no Flags=, CUDA's alone with
/// `nvidia_gpu_env`.
#[test]
fn hips_variable_counts_all_that_rocr_shows_not_what_the_step_was_given() {
    let seen = |visible: Option<&str>, within: &str| {
        let view = TaskView {
            vendor: GpuVendor::of(0x1002),
            within: Some(within.to_owned()),
            within_name: "CUDA_VISIBLE_DEVICES",
            step_list: Some(within.to_owned()),
            ..view(&[0, 1, 2, 3], visible)
        };
        let own = find_visible(&amd(1), &view);
        let gpus: Vec<u32> = own.gpus.iter().map(|gpu| gpu.bus.into()).collect();
        (gpus, own.remark.unwrap_or_default())
    };
    assert_eq!(seen(None, "2"), (vec![0], String::new()));
    assert_eq!(seen(None, "0,2,3"), (vec![2, 0, 1], String::new()));
    assert_eq!(seen(Some("0"), "0"), (vec![2], String::new()));
    let (gpus, remark) = seen(Some("0,2,3"), "0,2,3");
    assert_eq!(gpus, [2, 1]);
    assert!(remark.contains("HIP shows 2 of 3 GPUs"), "{remark}");
    let (gpus, remark) = seen(Some("2,3"), "2,3");
    assert_eq!(gpus, [0, 1]);
    assert!(remark.contains("HIP shows no GPU; taking"), "{remark}");
}

#[test]
fn hip_reads_cudas_variable_where_its_own_is_quotes_around_nothing() {
    let seen = |hip: &str, cuda: &str| {
        let asked = Asked {
            openable: &[0, 1, 2, 3].map(address),
            on_host: Some("4".to_owned()),
            step_list: None,
        };
        let lists = [("HIP_VISIBLE_DEVICES", hip), ("CUDA_VISIBLE_DEVICES", cuda)];
        let env = |name: &str| {
            let own = lists.iter().find(|(own, _)| *own == name);
            own.map(|(_, list)| (*list).to_owned())
        };
        find_all(&amd(1), &asked, env).gpus.len()
    };
    assert_eq!(seen("\"\"", "0"), 1);
    assert_eq!(seen("\"\"", "\"\""), 4);
    assert_eq!(seen("", "0"), 0);
    assert_eq!(seen("0,1", "0"), 2);
}

#[test]
fn which_gpu_a_name_stands_for_is_not_known_where_a_unique_id_is_not() {
    let mut machine = amd(1);
    machine.gpus[3].uuid = None;
    machine.gpus[3].kfd.as_mut().unwrap().nodes[0].uuid = None;
    let seen = |list: &str| {
        let view = TaskView {
            vendor: GpuVendor::of(0x1002),
            within: Some(list.to_owned()),
            ..view(&[0, 1, 2, 3], None)
        };
        find_visible(&machine, &view).gpus.len()
    };
    assert_eq!(seen("GPU-f"), 4);
    assert_eq!(seen("GPU-1aaa,f"), 1);
}

#[test]
fn slurms_same_numbers_in_both_variables_are_said() {
    let view = TaskView {
        vendor: GpuVendor::of(0x1002),
        within: Some("2,3".to_owned()),
        within_name: "CUDA_VISIBLE_DEVICES",
        ..view(&[0, 1, 2, 3], Some("2,3"))
    };
    let seen = find_visible(&amd(1), &view);
    assert_eq!(seen.gpus, [address(0), address(1)]);
    assert!(seen.remark.unwrap().contains("Flags=amd_gpu_env"));
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
