//! The head of `node.json`: what a launch reads of it, as words with a blank between.
//!
//! slurmstepd waits for a snapshot to be read, and reading JSON takes most of that.  So the file begins with the same facts
//! in a form that is read in one pass, and with a checksum of all that follows, so that a file that is cut or edited, and
//! one of another release, is read as the JSON that it still is.  The checksum keeps nobody out: that only root can have
//! written the file is for its reader to see to.
//!
//! A word is a number, a name of the document, a list as the kernel writes it (`.` for an empty one), or `-` for what is not
//! known; a list of things begins with how many there are.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

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
const FORM: &str = "4";
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

/// Where the words begin, behind the checksum and a blank.
const WORDS: usize = BEFORE.len() + DIGITS + 1;

/// The head of a file that is read piece by piece: kept as far as its words go, while the rest only goes into the checksum.
#[derive(Debug, Default)]
pub struct Head {
    /// The file up to the end of the words, or what was read of that.
    kept: Vec<u8>,
    /// Whether that is all of it.
    is_whole: bool,
    /// Of what comes behind the checksum.
    sum: Checksum,
}

impl Head {
    /// Takes the next piece of the file.
    pub fn take(&mut self, piece: &[u8]) {
        let (words, rest) = if self.is_whole {
            (&[][..], piece)
        } else {
            let before = WORDS.saturating_sub(self.kept.len()).min(piece.len());
            let words = piece.get(before..).unwrap_or_default();
            let end = first_quote(words);
            self.is_whole = end.is_some();
            let end = end.map_or(piece.len(), |words| before + words);
            let (head, rest) = piece.split_at(end);
            self.kept.extend_from_slice(head);
            (head.get(before..).unwrap_or_default(), rest)
        };
        self.sum.add(words);
        self.sum.add(rest);
    }

    /// What the head says; none where the file has none, or it is not of what follows.
    pub fn snapshot(self) -> Option<Snapshot> {
        let head = std::str::from_utf8(&self.kept).ok()?;
        let (digits, words) = head.strip_prefix(BEFORE)?.split_at_checked(DIGITS)?;
        let sum = u64::from_str_radix(digits, 16).ok()?;
        if !self.is_whole || sum != self.sum.finish() {
            return None;
        }
        read_words(words.strip_prefix(' ')?)
    }
}

/// Where the first quotation mark stands: looked for eight bytes at a time, for a head has thousands.
fn first_quote(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    let (chunks, _) = bytes.as_chunks::<8>();
    let has_quote = |chunk: &[u8; 8]| {
        // A byte that is 0 borrows from its highest bit (Hacker's Delight, 6-1).
        let bits = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'"'));
        bits.wrapping_sub(ONES) & !bits & (ONES << 7) != 0
    };
    let before = 8 * chunks.iter().take_while(|chunk| !has_quote(chunk)).count();
    let rest = bytes.get(before..)?;
    let found = rest.iter().position(|byte| *byte == b'"')?;
    Some(before + found)
}

/// What the head of a file says; none where there is none, or it is not of what follows.
pub(super) fn read(text: &str) -> Option<Snapshot> {
    let mut head = Head::default();
    // Most texts that are read whole have none.
    text.starts_with(BEFORE)
        .then(|| head.take(text.as_bytes()))?;
    head.snapshot()
}

/// What the words of a head say; none where they are no writer's.
pub(super) fn read_words(words: &str) -> Option<Snapshot> {
    let mut words = Reader(Some(words.as_bytes()));
    if words.next()? != FORM {
        return None;
    }
    let snapshot = words.snapshot()?;
    words.0.is_none().then_some(snapshot)
}

/// Eight bytes at a time (FNV's step on words, and a turn so that the high half counts).
#[derive(Debug)]
struct Checksum {
    sum: u64,
    /// The last bytes, fewer than eight.
    rest: [u8; 8],
    rest_bytes: usize,
    all_bytes: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            sum: 0xcbf2_9ce4_8422_2325,
            rest: [0; 8],
            rest_bytes: 0,
            all_bytes: 0,
        }
    }
}

impl Checksum {
    fn step(sum: u64, word: u64) -> u64 {
        (sum ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.all_bytes += bytes.len() as u64;
        let mut bytes = bytes;
        if self.rest_bytes > 0 {
            let free = self.rest.get_mut(self.rest_bytes..).unwrap_or_default();
            let (first, more) = bytes.split_at(free.len().min(bytes.len()));
            for (to, from) in free.iter_mut().zip(first) {
                *to = *from;
            }
            self.rest_bytes += first.len();
            bytes = more;
            if self.rest_bytes < self.rest.len() {
                return;
            }
            self.sum = Self::step(self.sum, u64::from_le_bytes(self.rest));
        }
        let (words, rest) = bytes.as_chunks::<8>();
        self.sum = words.iter().fold(self.sum, |sum, word| {
            Self::step(sum, u64::from_le_bytes(*word))
        });
        for (to, from) in self.rest.iter_mut().zip(rest) {
            *to = *from;
        }
        self.rest_bytes = rest.len();
    }

    fn finish(&self) -> u64 {
        let rest = self.rest.iter().take(self.rest_bytes);
        let sum = rest.fold(self.sum, |sum, byte| Self::step(sum, u64::from(*byte)));
        Self::step(sum, self.all_bytes)
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::default();
    sum.add(bytes);
    sum.finish()
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
        self.text(snapshot.generation.as_deref())?;
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
            match nic.aside {
                Some(why) => words.name(why)?,
                None => words.some(None::<u32>)?,
            }
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
///
/// Numbers, addresses and sets, which most words are, are read where they stand: to find a word's end first, and to go
/// through a text's characters then, took three times as long.
struct Reader<'t>(Option<&'t [u8]>);

impl<'t> Reader<'t> {
    /// Goes beyond a word of so many bytes; none where it is another's beginning.
    fn skip(&mut self, used: usize) -> Option<()> {
        let (_, rest) = self.0?.split_at_checked(used)?;
        self.0 = match rest.split_first() {
            Some((b' ', rest)) => Some(rest),
            Some(_) => return None,
            None => None,
        };
        Some(())
    }

    fn next(&mut self) -> Option<&'t str> {
        let rest = self.0?;
        let end = rest.iter().position(|byte| *byte == b' ');
        let word = rest.get(..end.unwrap_or(rest.len()))?;
        self.skip(word.len())?;
        std::str::from_utf8(word).ok()
    }

    /// Whether the next word says that something is not known, which it then goes beyond.
    fn is_unknown(&mut self) -> bool {
        matches!(self.0, Some([b'-'] | [b'-', b' ', ..])) && self.skip(1).is_some()
    }

    /// What a word says, none where it says that it is not known.
    fn some<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.is_unknown() {
            return Some(None);
        }
        read(self).map(Some)
    }

    fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        let (mut value, mut used) = (0u64, 0);
        for byte in self.0? {
            let digit = byte.wrapping_sub(b'0');
            // As many digits as always fit.
            if digit > 9 || used == 19 {
                break;
            }
            value = value * 10 + u64::from(digit);
            used += 1;
        }
        (used > 0).then_some(())?;
        self.skip(used)?;
        T::try_from(value).ok()
    }

    fn some_number<T: TryFrom<u64>>(&mut self) -> Option<Option<T>> {
        self.some(Self::number)
    }

    fn address(&mut self) -> Option<PciAddress> {
        let (address, used) = PciAddress::at_start(self.0?)?;
        self.skip(used)?;
        Some(address)
    }

    fn text(&mut self) -> Option<Option<String>> {
        self.some(|words| words.next().map(text::plain))
    }

    fn set<K>(&mut self) -> Option<IndexSet<K>> {
        if let Some([b'.'] | [b'.', b' ', ..]) = self.0 {
            self.skip(1)?;
            return Some(IndexSet::new());
        }
        let (set, used) = IndexSet::at_start(self.0?)?;
        self.skip(used)?;
        Some(set)
    }

    fn some_set<K>(&mut self) -> Option<Option<IndexSet<K>>> {
        self.some(Self::set)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0u8 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn name<T: Deserialize<'t>>(&mut self) -> Option<T> {
        let name: StrDeserializer<'t, serde::de::value::Error> = self.next()?.into_deserializer();
        T::deserialize(name).ok()
    }

    /// How many of a list follow, and for how many there is to be room: an element has two characters at least, so a count
    /// alone gets no memory.
    fn count(&mut self) -> Option<(usize, usize)> {
        let count = self.number()?;
        Some((count, count.min(self.0.map_or(0, <[u8]>::len) / 2)))
    }

    /// A list of things that need no bound but the text's own length.
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let (count, room) = self.count()?;
        let mut list = Vec::with_capacity(room);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Some(list)
    }

    /// The same by keys.
    fn map<K: Ord, T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Option<(K, T)>,
    ) -> Option<BTreeMap<K, T>> {
        let (count, _) = self.count()?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let (key, value) = read(self)?;
            map.insert(key, value);
        }
        Some(map)
    }

    /// A list that a machine's document bounds.
    fn bounded<T: bounds::HasCpus>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (count, room) = self.count()?;
        let mut list = bounds::List::with_room(room);
        for _ in 0..count {
            list.push(read(self)?).ok()?;
        }
        Some(list.into_elements())
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        let (boot_id, driver) = (self.text()?, self.text()?);
        let (generation, created_unix) = (self.text()?, self.number()?);
        let (online, nvlink_visible) = (self.set()?, self.flag()?);
        let mut machine = Machine {
            online,
            nvlink_visible,
            packages: self.bounded(|words| {
                Some(Package {
                    id: words.number()?,
                    cpus: words.set()?,
                    numa_nodes: words.set()?,
                })
            })?,
            numa_nodes: self.bounded(Self::numa_node)?,
            cores: self.bounded(Self::set)?,
            last_level_caches: self.bounded(Self::set)?,
            latencies: self.list(|words| {
                Some(MeasuredLatency {
                    cpu_node: words.number()?,
                    memory_node: words.number()?,
                    nanoseconds: words.number()?,
                })
            })?,
            gpus: self.bounded(Self::gpu)?,
            nics: self.bounded(Self::nic)?,
            pci: self.list(|words| {
                let (address, parent) = (words.address()?, words.some(Self::address)?);
                let (domain, bus) = (words.some_number()?, words.some_number()?);
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
            generation,
            created_unix,
            machine,
        })
    }

    fn numa_node(&mut self) -> Option<NumaNode> {
        Some(NumaNode {
            id: self.number()?,
            package: self.some_number()?,
            cpus: self.set()?,
            memory_bytes: self.some_number()?,
            kind: self.name()?,
            distances: self.map(|words| Some((words.number()?, words.number()?)))?,
        })
    }

    fn gpu(&mut self) -> Option<Gpu> {
        Some(Gpu {
            pci: self.address()?,
            vendor: self.number()?,
            device: self.number()?,
            minor: self.some_number()?,
            minor_source: self.name()?,
            uuid: self.text()?,
            name: None,
            mig: self.list(|words| {
                Some(MigInstance {
                    uuid: words.text()??,
                    gpu_instance: words.some_number()?,
                    compute_instance: words.some_number()?,
                })
            })?,
            nvlinks: self.map(|words| Some((words.address()?, words.number()?)))?,
            nvml_place: None,
            kfd: self.list(Self::kfd)?.pop(),
            only_in_nvml: self.flag()?,
            locality: Locality {
                package: self.some_number()?,
                numa_nodes: self.some_set()?,
                numa_source: self.name()?,
                cpus: self.some_set()?,
                nearest_cpus: self.some_set()?,
            },
        })
    }

    fn nic(&mut self) -> Option<Nic> {
        Some(Nic {
            pci: self.address()?,
            vendor: self.number()?,
            device: self.number()?,
            names: self.list(|words| words.text()?)?,
            ports: self.list(|words| {
                Some(RdmaPort {
                    device: words.text()??,
                    port: words.number()?,
                    speed_mbit_s: words.some_number()?,
                })
            })?,
            aside: self.some(Self::name)?,
            locality: Locality {
                package: self.some_number()?,
                numa_nodes: self.some_set()?,
                ..Locality::default()
            },
        })
    }

    fn kfd(&mut self) -> Option<KfdGpu> {
        Some(KfdGpu {
            nodes: self.list(|words| {
                Some(KfdNode {
                    node: words.number()?,
                    minor: words.some_number()?,
                    uuid: words.text()?,
                })
            })?,
            numa_node: self.some_number()?,
            beyond: self.list(Self::address)?,
            compute_partition: self.text()?,
            memory_partition: self.text()?,
        })
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
                     "ports":[{"device":"mlx5_0","port":1,"speed_mbit_s":400000}],"aside":"virtual-function",
                     "package":0,"numa_nodes":"0","numa_source":"numa_node","cpus":"0-3"}],
            "pci":[{"address":"0000:01:00.0","parent":"0000:00:01.0","root_bus":[0,0],"class":197120,"vendor":4318,"device":9008},
                   {"address":"0000:02:00.0","class":131072,"vendor":5555,"device":4129}]}"#;
        let now = HostNow {
            boot_id: Some("3f1c-77".to_owned()),
            generation: Some("2".to_owned()),
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
            (
                read.boot_id,
                read.driver,
                read.generation.as_deref(),
                read.created_unix
            ),
            (snapshot.boot_id.clone(), None, Some("2"), 7)
        );
        // It is JSON all the same.
        assert_eq!(Snapshot::parse(&text).unwrap(), snapshot);
    }

    #[test]
    fn a_file_may_come_in_pieces_of_any_size() {
        let snapshot = snapshot();
        let text = snapshot.to_json().unwrap();
        let by = |size: usize, text: &str| {
            let mut head = Head::default();
            text.as_bytes()
                .chunks(size)
                .for_each(|piece| head.take(piece));
            head.snapshot()
        };
        let launch = snapshot.machine.for_launch();
        for size in (1..100).chain([1000, 4096, text.len()]) {
            assert_eq!(by(size, &text).unwrap().machine, launch, "{size}");
            assert!(by(size, &text[..text.len() - 1]).is_none(), "{size}");
            assert!(
                by(size, &text.replace("mlx5_0", "mlx5_1")).is_none(),
                "{size}"
            );
        }
        assert!(by(4096, "").is_none() && by(1, "{}").is_none());
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
        assert!(read(&headed(&format!("4 - - - 7 0-3 0 {none}"))).is_some());
        let with_speeds = read(&headed(&format!("4 - - - 7 0-3 0 {none} 2 2-3 0-1"))).unwrap();
        assert_eq!(with_speeds.machine.speed_classes.len(), 2);
        for odd in [
            &format!("2 - - - 7 0-3 0 {none}"),
            &format!("4 - - - 7 0-3 2 {none}"),
            &format!("4 - - - 7 3-0 0 {none}"),
            &format!("4 - - - 7 0-3 0 {none} 0"),
            &format!("4 - - - 7 0-3 0 {none} 2 0-1 1-3"),
            "4 - - - 7 0-3 0 0 0 99999999999 0",
            "4 - - - 7 0-3 0 0 0 2 0-1 1-2 0 0 0 0 0",
            "4 - - -",
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
