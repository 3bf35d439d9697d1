//! The declared machines of `tests/machines`, read as `gpu-numa --from` reads them: through hwloc and `/sys`.

use machines::Declared;
use topology::machine::Machine;

use crate::read;

/// What hwloc adds to what `/sys` says: the object that each device is attached to.
fn without_attachments(mut machine: Machine) -> Machine {
    for device in &mut machine.pci {
        device.attached_nodes = None;
        device.attached_cpus = None;
    }
    machine.firmware = None;
    machine.hidden_switches = Vec::new();
    machine
}

fn check(declared: &Declared) {
    let (name, recording) = (&declared.name, declared.record());
    let machine = read(recording.root()).unwrap_or_else(|error| panic!("{error}"));
    let begins = &declared.truth.remarks;
    assert_eq!(
        machine.remarks.len(),
        begins.len(),
        "{name}: {:?}",
        machine.remarks
    );
    for (remark, begins) in machine.remarks.iter().zip(begins) {
        assert!(remark.starts_with(begins.as_str()), "{name}: {remark}");
    }
    let read = Machine {
        remarks: Vec::new(),
        ..without_attachments(machine)
    };
    let expected = declared.machine();
    for (read, expected) in read.gpus.iter().zip(&expected.gpus) {
        assert_eq!(read, expected, "{name}");
    }
    assert_eq!(read, expected, "{name}");
}

#[test]
fn declared_machines_are_read_as_they_are() {
    let all = machines::all();
    // Reading waits for a child process; two at a time use both.
    let (first, second) = all.split_at(all.len() / 2);
    std::thread::scope(|scope| {
        for part in [first, second] {
            scope.spawn(move || part.iter().for_each(check));
        }
    });
}
