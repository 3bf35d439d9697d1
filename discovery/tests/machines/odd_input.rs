//! Made-up machines, and input that is not what it should be.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use discovery::{Source, read_machine_with};
use machines::Recording;
use topology::machine::{Machine, NodeKind, NumaSource};

use crate::read;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

/// Two packages with a node and a GPU each; the second GPU's node is not known to firmware.
fn server() -> Recording {
    machines::named("spr-2s2g-tiny-half-nonode").record()
}

fn sources(machine: &Machine) -> Vec<(NumaSource, Option<String>)> {
    let of = |gpu: &topology::machine::Gpu| {
        let nodes = gpu.locality.numa_nodes.as_ref().map(ToString::to_string);
        (gpu.locality.numa_source, nodes)
    };
    machine.gpus.iter().map(of).collect()
}

#[test]
fn a_made_up_server_is_read_through_hwloc_and_sysfs() {
    let root = server();
    let machine = read(root.root()).unwrap();
    assert_eq!(machine.remarks, Vec::<String>::new());
    assert_eq!(machine.packages.len(), 2);
    assert_eq!(
        sources(&machine),
        [
            (NumaSource::NumaNode, Some("0".to_owned())),
            (NumaSource::Unknown, None)
        ]
    );
}

#[test]
fn the_sites_word_places_what_firmware_does_not() {
    let root = server();
    write(
        root.root(),
        "etc/gpu-numa-bind/localities",
        "0000:81:00.0 1\n0000:82:00.0 one",
    );
    let machine = read(root.root()).unwrap();
    assert_eq!(
        sources(&machine)[1],
        (NumaSource::Override, Some("1".to_owned()))
    );
    assert!(
        machine.remarks[0].starts_with("/etc/gpu-numa-bind/localities:2: "),
        "{:?}",
        machine.remarks
    );
}

#[test]
fn without_hwloc_the_machine_is_the_same_but_for_a_remark() {
    let root = server();
    let source = Source::Path(root.root().to_owned());
    let mut machine = read_machine_with(&source, Path::new("/nonexistent/gpu-numa")).unwrap();
    assert!(machine.remarks[0].starts_with("hwloc: its helper process cannot be started"));
    machine.remarks.clear();
    let mut with_hwloc = read(root.root()).unwrap();
    for device in &mut with_hwloc.pci {
        device.attached_nodes = None;
        device.attached_cpus = None;
    }
    assert_eq!(machine, with_hwloc);
}

#[test]
fn a_path_that_is_no_machine_is_an_error_in_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("root/sys")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    for (name, text) in [
        ("empty.xml", ""),
        ("text", "GPU0 GPU1\n"),
        ("half.json", "{\"schema\":\"gpu-numa/snapshot/1\","),
        ("other.json", "{}"),
        (
            "half.xml",
            "<?xml version=\"1.0\"?><topology version=\"2.0\"><object type=\"Machine\"",
        ),
        ("three.xml", "<topology version=\"3.0\"></topology>"),
        ("four.xml", "<topology version=\"4.0\"></topology>"),
        (
            "nccl.xml",
            "<system version=\"1\">\n<cpu numaid=\"x\"/>\n</system>",
        ),
    ] {
        fs::write(at(name), text).unwrap();
    }
    for (path, says) in [
        (at("missing"), "No such file"),
        (at("empty"), "holds no sys/"),
        (at("root"), "holds no sys/devices/system"),
        ("/dev/null".into(), "neither a directory nor a regular file"),
        (at("empty.xml"), "no known format"),
        (at("text"), "no known format"),
        (at("half.json"), "EOF"),
        (at("other.json"), "snapshot"),
        (at("half.xml"), "hwloc cannot read it"),
        (at("three.xml"), "hwloc cannot read it"),
        (at("four.xml"), "an hwloc 4.0 XML"),
        (at("nccl.xml"), ":2: <cpu numaid=\"x\">"),
    ] {
        let error = read(&path).unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()), "{error}");
        assert!(error.contains(says), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

const XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x0000000f" complete_cpuset="0x0000000f" allowed_cpuset="0x0000000f" nodeset="0x00000003" complete_nodeset="0x00000003" allowed_nodeset="0x00000003" gp_index="1">
    <object type="Package" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="2">
      <object type="NUMANode" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="3" local_memory="1073741824"/>
      <object type="PU" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="4"/>
      <object type="PU" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="5"/>
      <object type="Bridge" gp_index="10" bridge_type="0-1" depth="0" bridge_pci="0000:[20-21]">
        <object type="PCIDev" gp_index="11" pci_busid="0000:21:00.0" pci_type="0302 [10de:26b9] [0000:0000] a1" pci_link_speed="31.507692"/>
      </object>
    </object>
    <object type="Package" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="6">
      <object type="NUMANode" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="7" local_memory="1073741824"/>
      <object type="PU" os_index="2" cpuset="0x00000004" complete_cpuset="0x00000004" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="8"/>
      <object type="PU" os_index="3" cpuset="0x00000008" complete_cpuset="0x00000008" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="9"/>
    </object>
  </object>
</topology>
"#;

/// Slurm counts sockets and cores in hwloc's order, in which dies come before caches and cores.
#[test]
fn dies_of_an_hwloc_file_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dies.xml");
    let die = |cpu: u32, nodes: &str, id: u32| {
        let cpus = format!("0x{:08x}", 1 << cpu);
        format!(
            "<object type=\"Die\" os_index=\"{cpu}\" cpuset=\"{cpus}\" complete_cpuset=\"{cpus}\" nodeset=\"{nodes}\" complete_nodeset=\"{nodes}\" \
             gp_index=\"{id}\">"
        )
    };
    let mut xml = String::new();
    for line in XML.lines() {
        let cpu = (0..4).find(|cpu| line.contains(&format!("type=\"PU\" os_index=\"{cpu}\"")));
        if let Some(cpu) = cpu {
            let nodes = if cpu < 2 { "0x00000001" } else { "0x00000002" };
            xml += &format!("{}{line}</object>\n", die(cpu, nodes, 20 + cpu));
        } else {
            xml += line;
            xml.push('\n');
        }
    }
    fs::write(&path, xml).unwrap();
    let dies: Vec<String> = read(&path)
        .unwrap()
        .dies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(dies, ["0", "1", "2", "3"]);
}

/// A file that takes hwloc over would find itself with nothing: seen while the child waits for its input.
#[test]
fn the_process_that_reads_an_hwloc_xml_has_no_rights() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-numa-probe"))
        .args(["__probe", "hwloc-xml"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/status", child.id());
    let begin = Instant::now();
    let status = loop {
        let status = fs::read_to_string(&path).unwrap();
        if status.contains("Seccomp:\t2") || begin.elapsed() > Duration::from_secs(10) {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let limits = fs::read_to_string(path.replace("status", "limits")).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(XML.as_bytes()).unwrap();
    drop(stdin);
    let answer = child.wait_with_output().unwrap().stdout;
    for expected in [
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
    ] {
        assert!(status.contains(expected), "{expected}\n{status}");
    }
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    let memory = limits
        .lines()
        .find(|line| line.starts_with("Max address space"));
    assert!(!memory.unwrap().contains("unlimited"), "{limits}");
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.contains("\"Ok\""),
        "it answers all the same: {answer}"
    );
}

/// hwloc up to 2.4 leaves out nodes without memory: what held the device has CPUs, and no node.
#[test]
fn a_device_near_a_node_that_an_hwloc_xml_leaves_out_has_that_nodes_cpus() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topo.xml");
    let (head, body) = XML.split_once("gp_index=\"1\">").unwrap();
    let body: String = body
        .split_inclusive('\n')
        .filter(|line| !line.contains("NUMANode\" os_index=\"0\""))
        .collect();
    let head = head.replace("nodeset=\"0x00000003\"", "nodeset=\"0x00000002\"");
    let body = body.replace("nodeset=\"0x00000001\"", "nodeset=\"0x0\"");
    fs::write(&path, format!("{head}gp_index=\"1\">{body}")).unwrap();
    let machine = read(&path).unwrap();
    assert_eq!(machine.cpu_nodes().to_string(), "1");
    assert_eq!(machine.cpus_of_no_node().to_string(), "0-1");
    let place = &machine.gpus[0].locality;
    assert_eq!(place.numa_nodes, None);
    assert_eq!(place.cpus.as_ref().unwrap().to_string(), "0-1");
    assert_eq!(place.package, Some(0));
}

/// hwloc gives a GPU's memory the CPUs near it, and says what it is by a subtype.
#[test]
fn memory_of_a_gpu_in_an_hwloc_xml_is_a_node_of_its_own() {
    let second = XML.match_indices("type=\"Package\"").nth(1).unwrap().0;
    let (first, rest) = XML.split_at(second);
    let mut text = String::new();
    for line in first.split_inclusive('\n') {
        if line.contains("NUMANode") {
            text += line;
            text += "<object type=\"NUMANode\" subtype=\"GPUMemory\" os_index=\"8\" cpuset=\"0x00000003\" \
                     complete_cpuset=\"0x00000003\" nodeset=\"0x00000100\" complete_nodeset=\"0x00000100\" \
                     gp_index=\"20\" local_memory=\"1073741824\"/>\n";
            continue;
        }
        text += &line
            .replace("nodeset=\"0x00000001\"", "nodeset=\"0x00000101\"")
            .replace("nodeset=\"0x00000003\"", "nodeset=\"0x00000103\"");
    }
    text += rest;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topo.xml");
    fs::write(&path, text).unwrap();
    let machine = read(&path).unwrap();
    let kinds: Vec<_> = machine
        .numa_nodes
        .iter()
        .map(|node| (node.id, node.kind))
        .collect();
    assert_eq!(
        kinds,
        [(0, NodeKind::Dram), (1, NodeKind::Dram), (8, NodeKind::Gpu)]
    );
    assert!(machine.node(8).unwrap().cpus.is_empty());
    assert_eq!(machine.node(0).unwrap().cpus.to_string(), "0-1");
}

#[test]
fn an_hwloc_xml_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topo.xml");
    fs::write(&path, XML).unwrap();
    let machine = read(&path).unwrap();
    assert_eq!(machine.numa_nodes.len(), 2);
    assert_eq!(
        sources(&machine),
        [(NumaSource::Hwloc, Some("0".to_owned()))]
    );
    assert_eq!(
        machine.gpus[0].locality.cpus.as_ref().unwrap().to_string(),
        "0-1"
    );
    assert_eq!(machine.pci[0].root_bus, Some((0, 0x20)));
}

#[test]
fn a_bridge_to_no_bus_costs_its_root_bus_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topo.xml");
    for odd in ["0-0", "1-0"] {
        fs::write(&path, XML.replace("\"0-1\"", &format!("\"{odd}\""))).unwrap();
        let machine = read(&path).unwrap();
        assert_eq!(
            sources(&machine),
            [(NumaSource::Hwloc, Some("0".to_owned()))],
            "{odd}"
        );
        assert_eq!(machine.pci[0].root_bus, None, "{odd}");
        assert!(
            machine.remarks[0].contains("bridges that lead to no PCI bus: 1"),
            "{:?}",
            machine.remarks
        );
    }
}

/// Whatever hwloc does with it (it may well stop its process), there is a machine or an error.
#[test]
fn a_changed_or_cut_hwloc_xml_gives_a_machine_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topo.xml");
    let mut state = 0x2545_f491_u32;
    for round in 0..120 {
        let mut bytes = XML.as_bytes().to_vec();
        for _ in 0..=round % 4 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let at = 150 + state as usize % (bytes.len() - 150);
            bytes[at] = b"0f\"<>-9 x"[state as usize >> 20 & 7];
        }
        if round % 10 == 9 {
            bytes.truncate(state as usize % bytes.len());
        }
        fs::write(&path, &bytes).unwrap();
        if let Err(error) = read(&path) {
            assert!(
                error.to_string().starts_with(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
}
