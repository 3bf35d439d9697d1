//! The head of `node.json`: what a launch reads of it, as words with a blank between.
//!
//! slurmstepd waits for a snapshot to be read, and reading JSON takes most of that.  So the file begins with the same facts
//! in a form that is read in one pass, and with a checksum of all that follows, so that a file that is cut or edited, and
//! one of another release, is read as the JSON that it still is.  The checksum keeps nobody out: that only root can have
//! written the file is for its reader to see to.
//!
//! A word is a number, a name of the document, a list as the kernel writes it (`.` for an empty one), or `-` for what is not
//! known; a list of things begins with how many there are.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, IntoDeserializer};

use super::{SCHEMA, Snapshot};
use crate::machine::{
    Gpu, KfdGpu, KfdNode, Locality, Machine, MeasuredLatency, MigInstance, Nic, NumaNode, Package,
    RdmaPort, bounds,
};
use crate::pci::{PciAddress, PciDevice};
use crate::set::IndexSet;
use crate::text;

/// The form; another one is read as JSON.
const FORM: &str = "2";
/// What a file with such a head begins with.
const BEFORE: &str = "{\"schema\":\"gpu-numa/snapshot/1\",\"launch\":\"";
/// Hex digits of the checksum.
const DIGITS: usize = 16;

/// The snapshot's JSON with the head in it; as it was where the snapshot has no such form.
pub(super) fn with_head(snapshot: &Snapshot, json: String) -> String {
    let mut words = Words(FORM.to_owned());
    let known = BEFORE
        .split_once(",\"launch")
        .map_or("", |(known, _)| known);
    let (Some(()), Some(rest)) = (words.snapshot(snapshot), json.strip_prefix(known)) else {
        return json;
    };
    let checked = format!("{}\"{rest}", words.0);
    format!(
        "{BEFORE}{:0DIGITS$x} {checked}",
        checksum(checked.as_bytes())
    )
}

/// Adds the head to the schema: no field of the snapshot has it.
#[cfg(feature = "schema")]
pub(super) fn describe(schema: &mut schemars::Schema) {
    if let Some(properties) = schema
        .pointer_mut("/properties")
        .and_then(|all| all.as_object_mut())
    {
        let head = serde_json::json!({
            "description": "What a launch reads, in a form of its own that may change with each release: a checksum of \
                            all that follows, and words. A file without it, or whose checksum is another, is read all the same.",
            "type": "string",
        });
        properties.insert("launch".to_owned(), head);
    }
}

/// What the head of a file says; none where there is none, or it is not of what follows.
pub(super) fn read(text: &str) -> Option<Snapshot> {
    let (digits, rest) = text.strip_prefix(BEFORE)?.split_at_checked(DIGITS)?;
    let checked = rest.strip_prefix(' ')?;
    if u64::from_str_radix(digits, 16).ok()? != checksum(checked.as_bytes()) {
        return None;
    }
    let (words, _) = checked.split_once('"')?;
    read_words(words)
}

/// What the words of a head say; none where they are no writer's.
pub(super) fn read_words(words: &str) -> Option<Snapshot> {
    let mut words = Reader(Some(words));
    if words.next()? != FORM {
        return None;
    }
    let snapshot = words.snapshot()?;
    words.0.is_none().then_some(snapshot)
}

/// Eight bytes at a time (FNV's step on words, and a turn so that the high half counts).
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        step(sum, u64::from_le_bytes(*word))
    });
    let sum = rest
        .iter()
        .fold(sum, |sum, byte| step(sum, u64::from(*byte)));
    step(sum, bytes.len() as u64)
}

/// Words that are written; each function gives none for what has no such form.
struct Words(String);

impl Words {
    fn word(&mut self, word: impl fmt::Display) -> Option<()> {
        let start = self.0.len() + 1;
        write!(self.0, " {word}").ok()?;
        let word = self.0.get(start..)?;
        let fits = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'\\';
        (!word.is_empty() && word.bytes().all(fits)).then_some(())
    }

    fn some(&mut self, word: Option<impl fmt::Display>) -> Option<()> {
        match word {
            Some(word) => self.word(word),
            None => self.word('-'),
        }
    }

    /// A text of others; one that looks like none has no such form.
    fn text(&mut self, text: Option<&str>) -> Option<()> {
        (text != Some("-")).then_some(())?;
        self.some(text)
    }

    fn set<K>(&mut self, set: &IndexSet<K>) -> Option<()> {
        if set.is_empty() {
            self.word('.')
        } else {
            self.word(set)
        }
    }

    fn some_set<K>(&mut self, set: Option<&IndexSet<K>>) -> Option<()> {
        match set {
            Some(set) => self.set(set),
            None => self.word('-'),
        }
    }

    /// A value that is one of several, by its name in the document.
    fn name(&mut self, value: impl Serialize) -> Option<()> {
        let json = serde_json::to_string(&value).ok()?;
        self.word(json.trim_matches('"'))
    }

    fn list<T>(
        &mut self,
        list: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut write: impl FnMut(&mut Self, T) -> Option<()>,
    ) -> Option<()> {
        let list = list.into_iter();
        self.word(list.len())?;
        for one in list {
            write(self, one)?;
        }
        Some(())
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> Option<()> {
        self.text(snapshot.boot_id.as_deref())?;
        self.text(snapshot.driver.as_deref())?;
        self.word(snapshot.created_unix)?;
        let machine = &snapshot.machine;
        self.set(&machine.online)?;
        self.word(u8::from(machine.nvlink_visible))?;
        self.list(&machine.packages, |words, package| {
            words.word(package.id)?;
            words.set(&package.cpus)?;
            words.set(&package.numa_nodes)
        })?;
        self.list(&machine.numa_nodes, |words, node| {
            words.word(node.id)?;
            words.some(node.package)?;
            words.set(&node.cpus)?;
            words.some(node.memory_bytes)?;
            words.name(node.kind)?;
            words.list(&node.distances, |words, (to, distance)| {
                words.word(to)?;
                words.word(distance)
            })
        })?;
        self.list(&machine.cores, |words, cpus| words.set(cpus))?;
        self.list(&machine.last_level_caches, |words, cpus| words.set(cpus))?;
        self.list(&machine.latencies, |words, known| {
            words.word(known.cpu_node)?;
            words.word(known.memory_node)?;
            words.word(known.nanoseconds)
        })?;
        self.list(&machine.gpus, Self::gpu)?;
        self.list(&machine.nics, |words, nic| {
            words.word(nic.pci)?;
            words.word(nic.vendor)?;
            words.word(nic.device)?;
            words.list(&nic.names, |words, name| words.text(Some(name)))?;
            words.list(&nic.ports, |words, port| {
                words.text(Some(&port.device))?;
                words.word(port.port)?;
                words.some(port.speed_mbit_s)
            })?;
            words.some(nic.locality.package)?;
            words.some_set(nic.locality.numa_nodes.as_ref())
        })?;
        self.list(&machine.pci, |words, device| {
            words.word(device.address)?;
            words.some(device.parent)?;
            let (domain, bus) = device.root_bus.unzip();
            words.some(domain)?;
            words.some(bus)
        })?;
        // Few machines have any, and their heads alone are longer for it.
        if machine.speed_classes.is_empty() {
            return Some(());
        }
        self.list(&machine.speed_classes, |words, cpus| words.set(cpus))
    }

    fn gpu(&mut self, gpu: &Gpu) -> Option<()> {
        self.word(gpu.pci)?;
        self.word(gpu.vendor)?;
        self.word(gpu.device)?;
        self.some(gpu.minor)?;
        self.name(gpu.minor_source)?;
        self.text(gpu.uuid.as_deref())?;
        self.list(&gpu.mig, |words, instance| {
            words.text(Some(&instance.uuid))?;
            words.some(instance.gpu_instance)?;
            words.some(instance.compute_instance)
        })?;
        self.list(&gpu.nvlinks, |words, (to, links)| {
            words.word(to)?;
            words.word(links)
        })?;
        self.list(&gpu.kfd, |words, kfd| {
            words.list(&kfd.nodes, |words, part| {
                words.word(part.node)?;
                words.some(part.minor)?;
                words.text(part.uuid.as_deref())
            })?;
            words.some(kfd.numa_node)?;
            words.list(&kfd.beyond, |words, gpu| words.word(gpu))?;
            words.text(kfd.compute_partition.as_deref())?;
            words.text(kfd.memory_partition.as_deref())
        })?;
        self.word(u8::from(gpu.only_in_nvml))?;
        self.some(gpu.locality.package)?;
        self.some_set(gpu.locality.numa_nodes.as_ref())?;
        self.name(gpu.locality.numa_source)?;
        self.some_set(gpu.locality.cpus.as_ref())?;
        self.some_set(gpu.locality.nearest_cpus.as_ref())
    }
}

/// Words that are still to be read; none at their end.
struct Reader<'t>(Option<&'t str>);

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let rest = self.0?;
        let Some(at) = rest.bytes().position(|byte| byte == b' ') else {
            self.0 = None;
            return Some(rest);
        };
        self.0 = rest.get(at + 1..);
        rest.get(..at)
    }

    fn parse<T: FromStr>(&mut self) -> Option<T> {
        self.next()?.parse().ok()
    }

    /// What a word says, none where it says that it is not known.
    fn some<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        match self.next()? {
            "-" => Some(None),
            word => parse(word).map(Some),
        }
    }

    fn number(&mut self) -> Option<Option<u32>> {
        self.some(|word| word.parse().ok())
    }

    fn text(&mut self) -> Option<Option<String>> {
        self.some(|word| Some(text::plain(word)))
    }

    fn set<K>(&mut self) -> Option<IndexSet<K>> {
        parse_set(self.next()?)
    }

    fn some_set<K>(&mut self) -> Option<Option<IndexSet<K>>> {
        self.some(parse_set)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.next()? {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }

    fn name<T: Deserialize<'t>>(&mut self) -> Option<T> {
        let name: StrDeserializer<'t, serde::de::value::Error> = self.next()?.into_deserializer();
        T::deserialize(name).ok()
    }

    /// A list of things that need no bound but the text's own length.
    fn list<T, L: FromIterator<T>>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<L> {
        let count: usize = self.parse()?;
        (0..count).map(|_| read(self)).collect()
    }

    /// A list that a machine's document bounds.
    fn bounded<T: bounds::HasCpus>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count: usize = self.parse()?;
        // An element has two characters at least, so a count alone gets no memory.
        let room = self.0.map_or(0, str::len) / 2;
        let mut list = bounds::List::with_room(count.min(room));
        for _ in 0..count {
            list.push(read(self)?).ok()?;
        }
        Some(list.into_elements())
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        let (boot_id, driver, created_unix) = (self.text()?, self.text()?, self.parse()?);
        let (online, nvlink_visible) = (self.set()?, self.flag()?);
        let mut machine = Machine {
            online,
            nvlink_visible,
            packages: self.bounded(|words| {
                Some(Package {
                    id: words.parse()?,
                    cpus: words.set()?,
                    numa_nodes: words.set()?,
                })
            })?,
            numa_nodes: self.bounded(Self::numa_node)?,
            cores: self.bounded(Self::set)?,
            last_level_caches: self.bounded(Self::set)?,
            latencies: self.list(|words| {
                Some(MeasuredLatency {
                    cpu_node: words.parse()?,
                    memory_node: words.parse()?,
                    nanoseconds: words.parse()?,
                })
            })?,
            gpus: self.bounded(Self::gpu)?,
            nics: self.bounded(Self::nic)?,
            pci: self.list(|words| {
                let (address, parent) = (words.parse()?, words.some(|word| word.parse().ok())?);
                let domain = words.number()?;
                let bus = words.some(|word| word.parse().ok())?;
                Some(PciDevice::placed(address, parent, domain.zip(bus)))
            })?,
            ..Machine::default()
        };
        if self.0.is_some() {
            machine.speed_classes = self.bounded(Self::set)?;
            (!machine.speed_classes.is_empty()).then_some(())?;
        }
        Some(Snapshot {
            schema: SCHEMA.to_owned(),
            boot_id,
            driver,
            created_unix,
            machine,
        })
    }

    fn numa_node(&mut self) -> Option<NumaNode> {
        Some(NumaNode {
            id: self.parse()?,
            package: self.number()?,
            cpus: self.set()?,
            memory_bytes: self.some(|word| word.parse().ok())?,
            kind: self.name()?,
            distances: self.list(|words| Some((words.parse()?, words.parse()?)))?,
        })
    }

    fn gpu(&mut self) -> Option<Gpu> {
        Some(Gpu {
            pci: self.parse()?,
            vendor: self.parse()?,
            device: self.parse()?,
            minor: self.number()?,
            minor_source: self.name()?,
            uuid: self.text()?,
            name: None,
            mig: self.list(|words| {
                Some(MigInstance {
                    uuid: words.text()??,
                    gpu_instance: words.number()?,
                    compute_instance: words.number()?,
                })
            })?,
            nvlinks: self.list(|words| Some((words.parse::<PciAddress>()?, words.parse()?)))?,
            nvml_place: None,
            kfd: self.list::<_, Vec<_>>(Self::kfd)?.pop(),
            only_in_nvml: self.flag()?,
            locality: Locality {
                package: self.number()?,
                numa_nodes: self.some_set()?,
                numa_source: self.name()?,
                cpus: self.some_set()?,
                nearest_cpus: self.some_set()?,
            },
        })
    }

    fn nic(&mut self) -> Option<Nic> {
        Some(Nic {
            pci: self.parse()?,
            vendor: self.parse()?,
            device: self.parse()?,
            names: self.list(|words| words.text()?)?,
            ports: self.list(|words| {
                Some(RdmaPort {
                    device: words.text()??,
                    port: words.parse()?,
                    speed_mbit_s: words.number()?,
                })
            })?,
            locality: Locality {
                package: self.number()?,
                numa_nodes: self.some_set()?,
                ..Locality::default()
            },
        })
    }

    fn kfd(&mut self) -> Option<KfdGpu> {
        Some(KfdGpu {
            nodes: self.list(|words| {
                Some(KfdNode {
                    node: words.parse()?,
                    minor: words.number()?,
                    uuid: words.text()?,
                })
            })?,
            numa_node: self.number()?,
            beyond: self.list(Self::parse)?,
            compute_partition: self.text()?,
            memory_partition: self.text()?,
        })
    }
}

fn parse_set<K>(word: &str) -> Option<IndexSet<K>> {
    if word == "." {
        Some(IndexSet::new())
    } else {
        word.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::HostNow;

    fn snapshot() -> Snapshot {
        let text = r#"{"online":"0-3,300","packages":[{"id":0,"cpus":"0-3,300","numa_nodes":"0-1"}],
            "numa_nodes":[{"id":0,"package":0,"cpus":"0-3","memory_bytes":5,"kind":"dram","distances":{"0":10,"1":21}},
                          {"id":1,"package":null,"cpus":"","memory_bytes":null,"kind":"gpu"}],
            "cores":["0-1","2-3","300"],"last_level_caches":["0-3"],"speed_classes":["300","0-3"],"hostname":"gpu1","nvlink_visible":true,
            "latencies":[{"cpu_node":0,"memory_node":0,"nanoseconds":90}],
            "gpus":[{"pci":"0000:01:00.0","vendor":"10de","device":"2330","minor":0,"minor_source":"driver","uuid":"GPU-1",
                     "name":"NVIDIA H100","mig":[{"uuid":"MIG-1","gpu_instance":3}],"nvlinks":{"0000:03:00.0":4},
                     "package":0,"numa_nodes":"0","numa_source":"nearest_node","cpus":"0-3","nearest_cpus":"0-1"},
                    {"pci":"0001:03:00.0","vendor":"1002","device":"74a1","only_in_nvml":true,
                     "kfd":{"nodes":[{"node":2,"minor":128,"uuid":"GPU-2"},{"node":3}],"beyond":["0000:01:00.0"],
                            "compute_partition":"DPX"},
                     "package":null,"numa_nodes":null,"numa_source":"unknown","cpus":null}],
            "nics":[{"pci":"0000:02:00.0","vendor":"15b3","device":"1021","names":["mlx5_0"],
                     "ports":[{"device":"mlx5_0","port":1,"speed_mbit_s":400000}],
                     "package":0,"numa_nodes":"0","numa_source":"numa_node","cpus":"0-3"}],
            "pci":[{"address":"0000:01:00.0","parent":"0000:00:01.0","root_bus":[0,0],"class":197120,"vendor":4318,"device":9008},
                   {"address":"0000:02:00.0","class":131072,"vendor":5555,"device":4129}]}"#;
        let now = HostNow {
            boot_id: Some("3f1c-77".to_owned()),
            ..HostNow::default()
        };
        Snapshot::new(serde_json::from_str(text).unwrap(), &now, 7)
    }

    #[test]
    fn the_head_says_what_a_launch_reads() {
        let snapshot = snapshot();
        let text = snapshot.to_json().unwrap();
        assert!(text.starts_with(BEFORE) && text.ends_with("}\n"), "{text}");
        let read = read(&text).unwrap();
        assert_eq!(read.machine, snapshot.machine.clone().for_launch());
        assert_eq!(
            (read.boot_id, read.driver, read.created_unix),
            (snapshot.boot_id.clone(), None, 7)
        );
        // It is JSON all the same.
        assert_eq!(Snapshot::parse(&text).unwrap(), snapshot);
    }

    #[test]
    fn a_file_that_was_cut_or_edited_is_read_as_json() {
        let text = snapshot().to_json().unwrap();
        for cut in [0, 30, BEFORE.len() + 3, 200, text.len() - 1] {
            assert!(read(&text[..cut]).is_none(), "{cut}");
        }
        let edited = text.replace("\"cores\":[\"0-1\"", "\"cores\":[\"0\"");
        assert!(edited != text && read(&edited).is_none());
        let by_json = Snapshot::parse_for_launch(&edited).unwrap();
        assert_eq!(by_json.machine.cores[0].to_string(), "0");
        for at in BEFORE.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(read(std::str::from_utf8(&bytes).unwrap()).is_none(), "{at}");
        }
    }

    #[test]
    fn the_fuzzers_seed_is_a_head() {
        let seed = include_str!("../../../fuzz/seeds/snapshot/head");
        let machine = read_words(seed).unwrap().machine;
        assert_eq!((machine.gpus.len(), machine.nics.len()), (2, 1));
        assert_eq!(machine.gpus[1].parts(), 2);
    }

    /// A head with the checksum that it needs.
    fn headed(words: &str) -> String {
        let checked = format!("{words}\",\"machine\":{{}}}}\n");
        format!("{BEFORE}{:016x} {checked}", checksum(checked.as_bytes()))
    }

    #[test]
    fn a_head_that_no_writer_makes_is_left() {
        let none = "0 0 0 0 0 0 0 0";
        assert!(read(&headed(&format!("2 - - 7 0-3 0 {none}"))).is_some());
        let with_speeds = read(&headed(&format!("2 - - 7 0-3 0 {none} 2 2-3 0-1"))).unwrap();
        assert_eq!(with_speeds.machine.speed_classes.len(), 2);
        for odd in [
            &format!("1 - - 7 0-3 0 {none}"),
            &format!("2 - - 7 0-3 2 {none}"),
            &format!("2 - - 7 3-0 0 {none}"),
            &format!("2 - - 7 0-3 0 {none} 0"),
            &format!("2 - - 7 0-3 0 {none} 2 0-1 1-3"),
            "2 - - 7 0-3 0 0 0 99999999999 0",
            "2 - - 7 0-3 0 0 0 2 0-1 1-2 0 0 0 0 0",
            "2 - -",
            "",
        ] {
            assert!(read(&headed(odd)).is_none(), "{odd}");
        }
    }

    #[test]
    fn what_has_no_such_form_is_json_alone() {
        let mut odd = snapshot();
        odd.driver = Some("two words".to_owned());
        let text = odd.to_json().unwrap();
        assert!(!text.contains("launch") && read(&text).is_none());
        let read = Snapshot::parse_for_launch(&text).unwrap();
        assert_eq!(read.machine, odd.machine.for_launch());
    }
}
