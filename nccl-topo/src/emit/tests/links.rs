//! Speeds and widths.

use super::*;

#[test]
fn links_are_the_lesser_maximum_of_device_and_port_and_never_the_current() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    device(&mut machine, "0000:03:00.0").link.current_speed_gts = Some(2.5);
    device(&mut machine, "0000:02:00.0").link.max_speed_gts = Some(16.0);
    device(&mut machine, "0000:04:00.0").link.max_width = Some(8);
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(
        values(&root, "pci", "link_speed")[1..3],
        ["16.0 GT/s PCIe", "32.0 GT/s PCIe"]
    );
    assert_eq!(values(&root, "pci", "link_width")[1..3], ["16", "8"]);
    let [idle] = emitted
        .corrections
        .iter()
        .filter(|c| c.what.contains("link_width 16"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{:?}", emitted.corrections)
    };
    assert_eq!(idle.device, Some(at("0000:03:00.0")));
    assert!(idle.evidence.contains("2.5 GT/s x16"), "{}", idle.evidence);
}

#[test]
fn a_gpu_link_that_is_not_recorded_stops_the_file_where_gpus_are_on_several_packages() {
    let mut two = with_switches(machine(2, 1, 4), 1);
    for address in ["0000:03:00.0", "0000:02:00.0"] {
        device(&mut two, address).link = topology::pci::Link::default();
    }
    let device_unknown = at("0000:03:00.0");
    assert_eq!(
        emit(&two, Form::SingleHost),
        Err(NotEmitted::LinkUnknown {
            device: device_unknown
        })
    );
}

/// Every link with nothing recorded but its bandwidth when read, as in hwloc's XML.
fn with_bandwidth(mut machine: Machine, gb_s: f64) -> Machine {
    for device in &mut machine.pci {
        device.link = topology::pci::Link {
            current_bandwidth_gb_s: Some(gb_s),
            ..Default::default()
        };
    }
    machine
}

#[test]
fn the_speed_when_read_serves_where_the_ring_is_as_forced_on_it() {
    let two = with_bandwidth(with_switches(machine(2, 1, 4), 2), 63.015_385);
    let (emitted, root) = emitted(&two, Form::SingleHost);
    assert_eq!(values(&root, "pci", "link_speed")[1], "32.0 GT/s PCIe");
    let of_links = emitted
        .corrections
        .iter()
        .filter(|c| c.what.ends_with("\"32.0 GT/s PCIe\" and link_width 16"));
    assert!(of_links.clone().count() >= 4);
    assert!(
        of_links
            .into_iter()
            .all(|c| c.evidence.contains("its maximum is unknown"))
    );
}

#[test]
fn the_speed_of_a_link_that_slept_does_not_serve() {
    let two = with_bandwidth(with_switches(machine(2, 1, 4), 2), 4.0);
    let found = emit(&two, Form::SingleHost);
    assert!(
        matches!(found, Err(NotEmitted::LinkUnknown { .. })),
        "{found:?}"
    );
}

#[test]
fn the_speed_when_read_does_not_serve_where_the_ring_would_cross_too_often() {
    let four = with_bandwidth(without_switches(machine(4, 1, 4), 2, false), 15.753_846);
    let found = emit(&four, Form::SingleHost).unwrap_err().to_string();
    assert!(
        found.contains(
            "at 8 GT/s x16, its speed when the machine was read, NCCL's ring would cross"
        ),
        "{found}"
    );
}

#[test]
fn a_link_that_is_not_recorded_is_written_empty_where_nothing_hangs_on_it() {
    let mut one = with_switches(machine(1, 2, 4), 1);
    for address in ["0000:03:00.0", "0000:02:00.0"] {
        device(&mut one, address).link = topology::pci::Link::default();
    }
    let (emitted, root) = emitted(&one, Form::SingleHost);
    assert_eq!(values(&root, "pci", "link_speed")[1], "");
    assert!(
        emitted
            .corrections
            .iter()
            .any(|c| c.what.contains("is empty"))
    );
}
