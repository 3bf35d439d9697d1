//! What NCCL has no room for or cannot read, and odd trees.

use super::*;

#[test]
fn sixteen_gpus_fit() {
    let (emitted, root) = emitted(&with_switches(machine(2, 4, 8), 2), Form::SingleHost);
    assert_eq!(emitted.gpus.len(), 16);
    assert_eq!(root.count(), 1 + 2 + 8 + 16 + 8);
}

#[test]
fn virtual_functions_are_left_out_when_there_is_no_room() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    let port = device(&mut machine, "0000:0f:00.0").parent.unwrap();
    for index in 1..=200_u32 {
        nic(
            &mut machine,
            &format!("0000:0f:{:02x}.{}", index / 8, index % 8),
            port,
            0,
        );
    }
    let (emitted, root) = emitted(&machine, Form::SingleHost);
    let nics = values(&root, "pci", "class")
        .into_iter()
        .filter(|c| c.starts_with("0x02"));
    assert_eq!(nics.count(), 2);
    assert_eq!(
        emitted
            .corrections
            .iter()
            .filter(|c| c.what.contains("left out"))
            .count(),
        200
    );
}

#[test]
fn too_many_adapters_give_no_file() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    for bus in 0x20..0xa0 {
        let root = root_port(
            &mut machine,
            &format!("0000:00:{:02x}.{}", bus / 8, bus % 8),
            0,
        );
        nic(&mut machine, &format!("0000:{bus:02x}:00.0"), root, 0);
    }
    assert!(matches!(
        emit(&machine, Form::SingleHost),
        Err(NotEmitted::TooLarge { limit: 256, .. })
    ));
}

#[test]
fn other_network_controllers_and_other_vendors_gpus_are_not_written() {
    let mut machine = with_switches(machine(2, 1, 4), 2);
    device(&mut machine, "0000:0f:00.0").class = 0x02_8000;
    machine.gpus[1].vendor = 0x1002;
    let (_, root) = emitted(&machine, Form::SingleHost);
    let busids = values(&root, "pci", "busid");
    assert!(
        !busids.contains(&"0000:0f:00.0") && !busids.contains(&"0000:04:00.0"),
        "{busids:?}"
    );
}

#[test]
fn a_value_that_nccl_cannot_read_back_gives_no_file() {
    for vendor in [
        "Genuine\"Intel",
        "Genuine\tIntel",
        "G\u{e9}nuine",
        &"x".repeat(254),
    ] {
        let mut machine = with_switches(machine(1, 1, 4), 1);
        machine.processor.as_mut().unwrap().vendor = Some(vendor.to_owned());
        let value = vendor.to_owned();
        assert_eq!(
            emit(&machine, Form::SingleHost),
            Err(NotEmitted::Unwritable { value })
        );
    }
}

#[test]
fn a_bridge_that_is_not_recorded_gives_no_file() {
    let mut machine = with_switches(machine(1, 1, 4), 1);
    machine
        .pci
        .retain(|device| device.address != at("0000:01:00.0"));
    let device = at("0000:01:00.0");
    assert_eq!(
        emit(&machine, Form::SingleHost),
        Err(NotEmitted::DeviceNotRecorded { device })
    );
}

#[test]
fn the_climb_ends_at_a_domain_beyond_16_bits_as_nccls_does() {
    let mut machine = machine(1, 1, 4);
    let root = root_port(&mut machine, "10000:e0:02.0", 0);
    let upstream = root_port(&mut machine, "10000:e1:00.0", 0);
    let downstream = root_port(&mut machine, "10000:e2:00.0", 0);
    device(&mut machine, "10000:e1:00.0").parent = Some(root);
    device(&mut machine, "10000:e2:00.0").parent = Some(upstream);
    gpu(&mut machine, "10000:e3:00.0", downstream, 0);
    let (_, root) = emitted(&machine, Form::SingleHost);
    assert_eq!(values(&root, "pci", "busid"), ["10000:e3:00.0"]);
}

#[test]
fn bridges_that_form_a_circle_give_no_file() {
    let mut machine = with_switches(machine(1, 1, 4), 1);
    let low = at("0000:02:00.0");
    device(&mut machine, "0000:00:01.0").parent = Some(low);
    let device = at("0000:03:00.0");
    assert_eq!(
        emit(&machine, Form::SingleHost),
        Err(NotEmitted::EndlessBridges { device })
    );
}
