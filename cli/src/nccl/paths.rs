//! `gpu-numa nccl paths`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use discovery::Source;
use nccl_topo::capability::machine_capability;
use nccl_topo::element::Element;
use nccl_topo::emit::{Form, emit_with};
use nccl_topo::graph::{PathType, Searches};
use nccl_topo::model::nets::{NetDevice, named_in, rdma_ports, with_nets};
use nccl_topo::model::parts::{Held, held_of, shared};
use nccl_topo::model::{
    COMPUTE_CAPABILITY, Completed, Filled, completed, filled, gpus_of, left_out, with_links,
};
use nccl_topo::reader::{self, System};
use nccl_topo::rules::since;
use nccl_topo::settings::p2p_level;
use serde::Serialize;
use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::command::{CommandError, Format, From, Outcome, gpu_entries};
use crate::hardware;
use crate::nccl::version::{For, ForNccl};
use crate::out::{self, Out};

mod page;
mod view;

use page::print;
use view::{PathsView, View, is_alike};

/// Show the paths, rings and trees that NCCL makes of a file, or of this machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl paths
  gpu-numa nccl paths /etc/nccl/topo.xml --nets eth
  gpu-numa nccl paths topo.xml --gpus 0000:03:00.0,0000:83:00.0 --json
  gpu-numa nccl paths --from /srv/recorded/node7 --hosts 2 --p2p off

Computed as NCCL 2.30.7 does where no libnccl is found here and --nccl names no other version; the first line names the \
versions that the page is of.  There is one rank per GPU, or per part of it where the file has parts (MLOPart).  Without FILE, the file is that of \
gpu-numa nccl emit.  --gpus lists the ranks in order.  With a machine, sockets and NVLinks are the machine's; without \
one, each <cpu> of the file counts as a socket.

Where NICs make NCCL count a host as several nodes, their rings come first, and then those of a host that it keeps \
whole (NCCL_NET_DISABLE_INTRA=1).")]
pub(crate) struct PathsOf {
    /// The topology file [default: that of gpu-numa nccl emit]
    file: Option<PathBuf>,
    /// The communicator's GPUs in rank order: numbers in file order, or PCI addresses; an address with /0 or /1
    /// is a part of a GPU (MLOPart)
    #[arg(long, value_name = "LIST")]
    gpus: Option<String>,
    /// Equal hosts of the job
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::usage::whole(1..=65_536))]
    hosts: u32,
    /// How far P2P goes: on (as NCCL chooses), off (NCCL_P2P_DISABLE=1), or a value of NCCL_P2P_LEVEL
    #[arg(long, value_name = "LEVEL", default_value = "on", value_parser = parse_p2p)]
    p2p: P2p,
    /// The network devices: the RDMA ports of the file and machine, one socket without a PCI device, or none
    /// [default: ib where there are some, else eth]
    #[arg(long, value_name = "KIND")]
    nets: Option<Nets>,
    /// Compute capability of GPUs whose file does not say, as 90 for 9.0 [default: that of the machine, else 80]
    #[arg(long, value_name = "N", value_parser = parse_capability)]
    sm: Option<u32>,
    #[command(flatten)]
    nccl: ForNccl,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
}

/// Which network devices the job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Nets {
    /// None.
    None,
    /// A socket without a PCI device.
    Eth,
    /// RDMA ports.
    Ib,
}

/// How far P2P goes; none is NCCL's own choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct P2p(pub(super) Option<PathType>);

/// Reads `off` or a level for clap.
pub(super) fn parse_p2p(text: &str) -> Result<P2p, String> {
    match text.to_ascii_uppercase().as_str() {
        "ON" => Ok(P2p(None)),
        "OFF" => Ok(P2p(Some(PathType::Loc))),
        // NCCL reads the number that a text begins with, however large; here only one that is meant is taken.
        level => Some(level)
            .filter(|level| level.parse::<u8>().is_ok() || level.chars().all(char::is_alphabetic))
            .and_then(p2p_level)
            .map(|level| P2p(Some(level)))
            .ok_or_else(|| {
                "expected on, off, or a level as LOC, NVL, PIX, PXB, PHB or SYS".to_owned()
            }),
    }
}

/// NVIDIA's compute capabilities that NCCL 2.30's builds and tuning tables know of, 5.0 to 12.1.
pub(crate) const CAPABILITIES: [u32; 21] = [
    50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 88, 89, 90, 100, 101, 103, 110, 120, 121,
];

/// Reads `90` for clap.
fn parse_capability(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    number
        .filter(|number| CAPABILITIES.contains(number))
        .ok_or_else(|| {
            let known = CAPABILITIES.map(|number| number.to_string()).join(", ");
            format!("expected a compute capability without its point, one of {known}")
        })
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PathsDocument {
    schema: &'static str,
    #[serde(flatten)]
    view: PathsView,
    /// The same for other versions of NCCL, where something differs.
    others: Vec<PathsView>,
}

impl PathsOf {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let is_here = matches!(self.from.source(), Source::ThisMachine);
        let machine = match &self.file {
            Some(_) if is_here => None,
            Some(_) | None => Some(self.from.read()?),
        };
        let searches = Searches::default();
        let versions = self.nccl.versions(is_here);
        let files = self.files(machine.as_ref(), &versions, &searches)?;
        let Some(SeenFile { system, .. }) = files.first() else {
            return Ok(Outcome::Wanting);
        };
        let all = held_of(system);
        let ranks = match &self.gpus {
            Some(list) => {
                let entries = gpu_entries("--gpus", list)?.into_iter();
                let named = entries.map(|entry| gpu(system, &all, entry));
                let named: Vec<String> = named.collect::<Result<_, _>>()?;
                expect_once(&named)?;
                named
            }
            None => all,
        };
        if let Some(why) = refusal(system, &ranks, machine.as_ref()) {
            out::message(&why);
            return Ok(Outcome::Wanting);
        }
        let has_parts = ranks.iter().any(|rank| Held::of(rank).part.is_some());
        let of_machine = machine.as_ref().and_then(machine_capability);
        let capability = self.sm.or(of_machine).unwrap_or(COMPUTE_CAPABILITY);
        let mut views = files.iter().filter_map(|file| {
            if has_parts && !file.version.rules.gpus_have_parts {
                out::message(&format!(
                    "no paths: parts of a GPU (MLOPart) are devices of their own from NCCL {} on, and not in {}",
                    since(|rules| rules.gpus_have_parts)
                        .map_or_else(String::new, |first| first.to_string()),
                    file.version.name
                ));
                return None;
            }
            let nets = self.net_devices(&file.system, machine.as_ref());
            let system = with_nets(&file.system, &nets);
            let link_note = link_note(&system, machine.as_ref());
            let notes = link_note.iter().chain(&file.notes);
            let view = View {
                ranks: &ranks,
                hosts: self.hosts,
                p2p_limit: self.p2p.0,
                version: &file.version,
                sockets: machine.as_ref(),
                capability,
                nets_are_assumed: nets == [NetDevice::socket()],
                is_corrected: self.file.is_none(),
                assumes_no_nvlink: link_note.is_some(),
                notes: &notes.cloned().collect::<Vec<_>>(),
                searches: &searches,
                system: &system,
            };
            let stops_at = view.model(true).model.stops_at;
            if stops_at.is_empty() {
                return Some(view.build());
            }
            out::message(&format!(
                "no paths: NCCL {} stops at this file: it needs {}, and fills in only what is above a rank's own GPU and above \
                 NICs that the file has no <net> of",
                view.version.name,
                named(&stops_at)
            ));
            None
        });
        let Some(mut first) = views.next() else {
            return Ok(Outcome::Wanting);
        };
        let (alike, others): (Vec<_>, Vec<_>) = views.partition(|other| is_alike(other, &first));
        first.also = alike.into_iter().map(|view| view.nccl).collect();
        let document = PathsDocument {
            schema: "gpu-numa/nccl-paths/1",
            view: first,
            others,
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(Outcome::Done)
    }

    /// The file that is named, as the versions read it that take it, else the machine's own; with what NCCL adds on the
    /// machine.  Empty where there is none, which is said.
    fn files(
        &self,
        machine: Option<&Machine>,
        versions: &[For],
        searches: &Searches,
    ) -> Result<Vec<SeenFile>, CommandError> {
        let taken = match (&self.file, machine) {
            (Some(file), _) => super::read_accepted(file, versions)?,
            (None, Some(machine)) => {
                match emit_with(machine, Form::for_hosts(self.hosts), searches) {
                    Ok(emitted) => versions
                        .iter()
                        .filter_map(|one| {
                            let reading = reader::read_for(&emitted.xml, one.rules);
                            Some((one.clone(), reading.system?))
                        })
                        .collect(),
                    Err(why) => {
                        out::message(&format!("no NCCL topology file: {why}"));
                        Vec::new()
                    }
                }
            }
            (None, None) => Vec::new(),
        };
        let seen = taken.into_iter().map(|(version, system)| match machine {
            Some(machine) => {
                let completed = completed(&system, machine);
                let filled = filled(&completed.system, machine, version.rules);
                let mut notes = absent_notes(&completed);
                notes.extend(filled_notes(&filled));
                SeenFile {
                    notes,
                    system: with_links(&filled.system, machine),
                    version,
                }
            }
            None => SeenFile {
                notes: left_out_note(&left_out(&system, version.rules)),
                system,
                version,
            },
        });
        Ok(seen.collect())
    }

    /// The network devices of the job.
    fn net_devices(&self, system: &System, machine: Option<&Machine>) -> Vec<NetDevice> {
        let mut ports = named_in(system);
        for port in machine.map(rdma_ports).unwrap_or_default() {
            match ports.iter_mut().find(|known| known.name == port.name) {
                Some(known) => *known = port,
                None => ports.push(port),
            }
        }
        let kind = self.nets.unwrap_or(if ports.is_empty() {
            Nets::Eth
        } else {
            Nets::Ib
        });
        match kind {
            Nets::None => Vec::new(),
            Nets::Eth => vec![NetDevice::socket()],
            Nets::Ib => ports,
        }
    }
}

/// A file as a version of NCCL has it.
struct SeenFile {
    version: For,
    system: System,
    /// What was filled in, or could not be, in words.
    notes: Vec<String>,
}

/// The most attributes that a note names.
const MOST_NAMED: usize = 3;

/// The first attributes of a list, and how many more there are.
fn named(attributes: &[String]) -> String {
    let mut text: Vec<String> = attributes.iter().take(MOST_NAMED).cloned().collect();
    let more = attributes.len().saturating_sub(MOST_NAMED);
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

/// The devices of the machine that the file does not have.
fn absent_notes(completed: &Completed) -> Vec<String> {
    let addresses = |devices: &[PciAddress]| {
        let texts: Vec<String> = devices.iter().map(ToString::to_string).collect();
        named(&texts)
    };
    let (added, unplaced) = (&completed.added, &completed.unplaced);
    let of_added = (!added.is_empty()).then(|| {
        format!(
            "The file does not have {}; placed where firmware reports it, as NCCL does.",
            addresses(added)
        )
    });
    let of_unplaced = (!unplaced.is_empty()).then(|| {
        format!(
            "The file does not have {}, which NCCL places where firmware reports it; that is not known here, and it is left out.",
            addresses(unplaced)
        )
    });
    of_added.into_iter().chain(of_unplaced).collect()
}

/// What NCCL fills in of the file on the machine.
fn filled_notes(filled: &Filled) -> Vec<String> {
    let mut notes = Vec::new();
    if !filled.added.is_empty() {
        notes.push(format!(
            "The file leaves out {}; filled in from the machine, as NCCL does above GPUs and NICs that it uses.",
            named(&filled.added)
        ));
    }
    if !filled.at_highest_speed.is_empty() {
        notes.push(format!(
            "NCCL takes the link of {} at the speed that it has at the moment, here assumed to be its highest.",
            named(&filled.at_highest_speed)
        ));
    }
    notes.extend(left_out_note(&filled.missing));
    notes
}

/// What NCCL would fill in and is not known here.
fn left_out_note(missing: &[String]) -> Vec<String> {
    let note = (!missing.is_empty()).then(|| {
        format!(
            "The file leaves out {}. NCCL fills these in on its machine, which is not known here, and paths may differ; \
             --from names a machine.",
            named(missing)
        )
    });
    note.into_iter().collect()
}

/// What is not known of NVLinks: the machine's were not visible, or no machine is asked and the file names none.
fn link_note(system: &System, machine: Option<&Machine>) -> Option<String> {
    match machine {
        Some(machine) => hardware::hidden_links(machine),
        None if names_links(&system.root) || gpus_of(system).len() < 2 => None,
        None => Some(
            "The file names no NVLink. NCCL finds NVLinks by itself, and paths over them take the place of those above; \
             --from joins those of a machine."
                .to_owned(),
        ),
    }
}

/// Why there are no paths of these ranks: a GPU that is no rank's alone.
fn refusal(system: &System, ranks: &[String], machine: Option<&Machine>) -> Option<String> {
    let is_asked = |busid: &String| ranks.iter().any(|rank| Held::of(rank).busid == busid);
    let mut several = shared(system);
    several.retain(is_asked);
    let machine = machine.into_iter().flat_map(|machine| &machine.gpus);
    let instances = machine.filter(|gpu| !gpu.mig.is_empty());
    let instances = instances.map(|gpu| gpu.pci.to_string()).filter(is_asked);
    let kinds = [
        ("shared by several ranks", several),
        ("divided by MIG", instances.collect()),
    ];
    let said: Vec<String> = kinds
        .into_iter()
        .filter(|(_, gpus)| !gpus.is_empty())
        .map(|(what, gpus)| {
            let verb = if gpus.len() == 1 { "is" } else { "are" };
            format!("{} {verb} {what}", gpus.join(", "))
        })
        .collect();
    (!said.is_empty()).then(|| {
        format!(
            "no paths: {}, and such ranks are not modelled; --gpus can name the others",
            said.join("; ")
        )
    })
}

/// Whether an element or one below it is an NVLink.
fn names_links(element: &Element) -> bool {
    element.name == "nvlink" || element.children.iter().any(names_links)
}

/// A rank holds one GPU, and NCCL refuses a communicator that names one twice.
fn expect_once(gpus: &[String]) -> Result<(), CommandError> {
    let twice = (1..gpus.len()).find_map(|place| {
        let (before, rest) = gpus.split_at_checked(place)?;
        rest.first().filter(|gpu| before.contains(gpu))
    });
    if let Some(gpu) = twice {
        return Err(CommandError::Argument(format!(
            "--gpus: \"{gpu}\" is named twice; expected each GPU once"
        )));
    }
    let held: Vec<Held> = gpus.iter().map(|gpu| Held::of(gpu)).collect();
    let is_whole = |one: &&Held| one.part.is_none();
    let in_both = |whole: &&Held| {
        let mut parts = held.iter().filter(|other| other.part.is_some());
        parts.any(|part| part.busid == whole.busid)
    };
    held.iter()
        .filter(is_whole)
        .find(in_both)
        .map_or(Ok(()), |gpu| {
            Err(CommandError::Argument(format!(
                "--gpus: \"{}\" is named whole and in parts; expected one of both",
                gpu.busid
            )))
        })
}

/// A GPU of the file, or a part of one, by its number or PCI address.
fn gpu(system: &System, all: &[String], entry: &str) -> Result<String, CommandError> {
    let found = match entry.strip_prefix("GPU").unwrap_or(entry).parse::<usize>() {
        Ok(number) => all.get(number).cloned(),
        Err(_) => {
            let busid = Held::of(entry).busid;
            let is_there = gpus_of(system).iter().any(|known| known == busid);
            is_there.then(|| entry.to_owned())
        }
    };
    found.ok_or_else(|| {
        CommandError::Argument(format!(
            "--gpus \"{entry}\": no such GPU in the file; expected a number from 0 or one of {}; a part of a GPU is its PCI \
             address with /0 or /1",
            all.join(", ")
        ))
    })
}
