//! NCCL files, good and bad.

use super::*;

const SERVER: &str = r#"<?xml version="1.0"?>
<system version="1">
  <!-- two sockets -->
  <cpu numaid="0" affinity="000000ff" arch="x86_64" vendor="AuthenticAMD" familyid="175" modelid="17">
    <pci busid="ffff:ff:01.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0000:18:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
        <gpu dev="0" sm="90"><nvlink target="0000:c4:00.0" count="18" tclass="0x068000"/></gpu>
      </pci>
      <pci busid="0000:19:00.0" class="0x020700"><nic><net name="mlx5_0" dev="0"/></nic></pci>
    </pci>
  </cpu>
  <cpu numaid="1" affinity="0000ff00" arch="x86_64">
	<pci busid='0000:98:00.0' class="0x030200">
        <gpu dev="1" sm="90"><nvlink target="0000:c4:00.0" count="18" tclass="0x068000"/></gpu>
    </pci>
  </cpu>
</system>
"#;

fn fault_of(text: &str) -> String {
    parse_machine(text).unwrap_err().to_string()
}

#[test]
fn a_server_is_read() {
    let machine = parse_machine(SERVER).unwrap();
    assert_eq!(machine.numa_nodes.len(), 2);
    assert_eq!(machine.gpus.len(), 2);
    let far = &machine.gpus[1];
    assert_eq!(far.locality.numa_nodes.as_ref().unwrap().to_string(), "1");
    assert_eq!(far.locality.cpus.as_ref().unwrap().to_string(), "8-15");
    assert_eq!(far.nvlinks[&machine.gpus[0].pci], 18);
    assert!(machine.nvlink_visible);
    assert_eq!(machine.nics[0].names, ["mlx5_0"]);
    assert_eq!(machine.processor.unwrap().family, Some(25));
    assert_eq!(machine.pci[0].link.max_speed_gts, Some(32.0));
}

#[test]
fn a_device_under_an_unknown_cpu_is_unknown() {
    let machine = parse_machine(&SERVER.replace("numaid=\"1\"", "numaid=\"-1\"")).unwrap();
    assert_eq!(machine.numa_nodes.len(), 1);
    let text = SERVER.replace(
        "</system>",
        "<cpu numaid=\"2\" affinity=\"ff0000\"/></system>",
    );
    let machine = parse_machine(&text.replace("numaid=\"1\"", "numaid=\"-1\"")).unwrap();
    assert_eq!(machine.gpus[1].locality, Locality::default());
}

/// So injected files have it, and dumps of containers that hide the CPUs.
#[test]
fn a_cpu_without_affinity_is_a_node_whose_cpus_are_not_known() {
    for affinity in ["", " affinity=\"\""] {
        let text = SERVER.replace(" affinity=\"0000ff00\"", affinity);
        let machine = parse_machine(&text).unwrap();
        assert_eq!(machine.unrecorded_nodes().to_string(), "1");
        let nodes = |gpu: usize| machine.gpus[gpu].locality.numa_nodes.clone();
        assert_eq!(nodes(0).unwrap().to_string(), "0");
        assert_eq!(nodes(1).unwrap().to_string(), "1");
        assert_eq!(machine.gpus[1].locality.cpus, None);
    }
    // A mask of zeros says that there is none.
    let zeros = SERVER.replace("0000ff00", "00000000");
    let machine = parse_machine(&zeros).unwrap();
    assert!(machine.unrecorded_nodes().is_empty());
}

#[test]
fn a_device_that_is_there_twice_is_where_it_was_first() {
    let machine = parse_machine(&SERVER.replace("0000:98:00.0", "0000:18:00.0")).unwrap();
    assert_eq!(machine.gpus.len(), 1);
    assert_eq!(
        machine.gpus[0]
            .locality
            .numa_nodes
            .as_ref()
            .unwrap()
            .to_string(),
        "0"
    );
}

#[test]
fn faults_name_their_line() {
    let short = SERVER.replace("0000:98:00.0", "98:00.0");
    assert!(
        fault_of(&short).starts_with("13: <pci busid=\"98:00.0\">"),
        "{}",
        fault_of(&short)
    );
    let numaid = SERVER.replace("numaid=\"1\"", "numaid=\"one\"");
    assert!(fault_of(&numaid).starts_with("12: <cpu numaid=\"one\">"));
    let class = SERVER.replace("0x020700", "NIC");
    assert!(fault_of(&class).starts_with("9: <pci class=\"NIC\">"));
    let mask = SERVER.replace("0000ff00", "0000ff0000");
    assert!(fault_of(&mask).contains("expected hex words"));
}

#[test]
fn a_file_that_ends_early_or_does_not_match_is_an_error() {
    let early = fault_of("<system version=\"1\">\n <cpu numaid=\"0\">\n");
    assert_eq!(early, "2: the file ends within an element");
    let other = fault_of("<system>\n<cpu numaid=\"0\"></pci></cpu></system>");
    assert!(other.starts_with("2: expected 'cpu' tag"), "{other}");
    assert!(fault_of("<system version=\"1").starts_with("1: "));
    assert!(fault_of("<system><system/></system>").contains("within an element"));
}

#[test]
fn elements_that_nest_very_deep_are_an_error() {
    for depth in [100, 20_000] {
        let text = format!(
            "<system>{}{}</system>",
            "<x>".repeat(depth),
            "</x>".repeat(depth)
        );
        assert!(fault_of(&text).contains("deeper than"), "{depth}");
    }
}

#[test]
fn entities_that_grow_are_an_error() {
    let mut text = "<!DOCTYPE system [<!ENTITY a0 \"aaaaaaaaaa\">".to_owned();
    for at in 1..20 {
        text += &format!(
            "<!ENTITY a{at} \"{}\">",
            format!("&a{};", at - 1).repeat(10)
        );
    }
    text += "]><system version=\"1\">&a19;</system>";
    assert!(parse_machine(&text).is_err());
}

#[test]
fn a_link_that_one_end_names_is_the_pairs() {
    let machine = parse_machine(
        "<system version=\"1\"><cpu numaid=\"0\">\
         <pci busid=\"0000:18:00.0\" class=\"0x030200\"><gpu><nvlink target=\"0000:19:00.0\" count=\"4\"/></gpu></pci>\
         <pci busid=\"0000:19:00.0\" class=\"0x030200\"/></cpu></system>",
    )
    .unwrap();
    assert_eq!(machine.gpus[0].nvlinks[&machine.gpus[1].pci], 4);
    assert!(machine.gpus[1].nvlinks.is_empty());
}

/// A GPU with `count` links into switches at each of so many addresses.
fn gpus(addresses: u32, count: &str) -> String {
    let gpu = |at: u32| {
        format!(
            "<pci busid=\"{:04x}:{:02x}:00.0\" class=\"0x030200\"><nvlink count=\"{count}\" tclass=\"0x068000\"/>\
             <nvlink count=\"{count}\" tclass=\"0x068000\"/></pci>",
            at >> 8,
            at & 0xff
        )
    };
    let gpus: String = (0..addresses).map(gpu).collect();
    format!("<system version=\"1\"><cpu numaid=\"0\">{gpus}</cpu></system>")
}

#[test]
fn links_beyond_counting_are_very_many() {
    let machine = parse_machine(&gpus(2, "4294967295")).unwrap();
    assert_eq!(machine.gpus[0].nvlinks[&machine.gpus[1].pci], u32::MAX);
    assert!(parse_machine(&gpus(2, "4294967296")).is_err());
}

#[test]
fn a_file_of_very_many_gpus_costs_seconds_at_the_most() {
    let begin = std::time::Instant::now();
    assert_eq!(parse_machine(&gpus(1_000, "1")).unwrap().gpus.len(), 1_000);
    assert!(fault_of(&gpus(10_000, "1")).contains("more than"));
    assert!(begin.elapsed().as_secs() < 20);
}

#[test]
fn no_cut_and_no_changed_byte_panics() {
    for end in 0..SERVER.len() {
        let _ = parse_machine(&SERVER[..end]);
    }
    for at in 0..SERVER.len() {
        for byte in [b'<', b'"', b'9', b' ', b'z', b'>'] {
            let mut bytes = SERVER.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse_machine(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn a_gpu_in_parts_is_no_machine() {
    let with = |gpu: &str| {
        format!(
            "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"0000:18:00.0\" class=\"0x030200\">{gpu}</pci></cpu>\
             </system>"
        )
    };
    let parts = with("<gpu mlopart=\"0\"/><gpu mlopart=\"1\"/>");
    let said = fault_of(&parts);
    assert!(
        said.ends_with("GPU 0000:18:00.0 is in parts (mlopart=\"0\"), which are not modelled"),
        "{said}"
    );
    // NCCL writes this for a GPU that is whole.
    let machine = parse_machine(&with("<gpu mlopart=\"-1\"/>")).unwrap();
    assert_eq!(machine.gpus.len(), 1);
}
