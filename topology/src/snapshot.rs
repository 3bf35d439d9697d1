//! The snapshot: a machine as it was read at boot, stamped so that a stale one is noticed.

mod compact;

pub use compact::Head;

use serde::{Deserialize, Serialize};

use crate::machine::{Machine, launch};
use crate::pci::PciAddress;
use crate::set::CpuSet;
use crate::text;

/// The format that this release writes and reads.
pub const SCHEMA: &str = "gpu-numa/snapshot/1";

/// Where the service leaves it.
pub const DIRECTORY: &str = "/run/gpu-numa-bind";
/// The machine's file in [`DIRECTORY`].
pub const NODE_FILE: &str = "node.json";

/// The longest snapshot that is read, in bytes; a machine of 16 packages and 4,096 CPUs needs a tenth.
pub const MAX_BYTES: u64 = 16 << 20;

/// A machine and when it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = compact::describe))]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: String,
    /// The boot it was read in; none where the kernel has no boot id.
    #[serde(default, deserialize_with = "text::read_some_plain")]
    pub boot_id: Option<String>,
    /// NVIDIA driver version; none where there is no driver.
    #[serde(default, deserialize_with = "text::read_some_plain")]
    pub driver: Option<String>,
    /// How often KFD had listed AMD's GPUs anew; none where there is no KFD.
    #[serde(
        default,
        deserialize_with = "text::read_some_plain",
        skip_serializing_if = "Option::is_none"
    )]
    pub generation: Option<String>,
    /// When it was read, in seconds since 1970.
    pub created_unix: u64,
    /// The machine.
    pub machine: Machine,
}

/// A snapshot as a launch reads it.
#[derive(Deserialize)]
struct LaunchSnapshot {
    schema: String,
    #[serde(default, deserialize_with = "text::read_some_plain")]
    boot_id: Option<String>,
    #[serde(default, deserialize_with = "text::read_some_plain")]
    driver: Option<String>,
    #[serde(default, deserialize_with = "text::read_some_plain")]
    generation: Option<String>,
    created_unix: u64,
    #[serde(deserialize_with = "launch::read")]
    machine: Machine,
}

/// Why a text is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not JSON, or not of this shape.
    #[error("not a snapshot: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("snapshot of format \"{0}\"; expected \"{SCHEMA}\"")]
    Schema(String),
    /// It no longer holds.
    #[error("stale: {0}")]
    Stale(#[from] Stale),
}

/// What the host says now, to compare a snapshot with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNow {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// NVIDIA driver version.
    pub driver: Option<String>,
    /// `/sys/devices/system/cpu/online`.
    pub online: CpuSet,
    /// Those GPUs of the snapshot that are still there, and others that the driver has.
    pub gpus: Vec<PciAddress>,
    /// How often KFD has listed AMD's GPUs anew since it was loaded, as when one is divided or its driver comes later than the
    /// snapshot (amdkfd, kfd_topology.c, `generation_count`); none where there are no such GPUs, or no KFD.
    pub generation: Option<String>,
}

/// What makes a snapshot stale.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It is from another boot, or from another host.
    #[error("it is from another boot")]
    Boot,
    /// The driver was changed.
    #[error("it was read under driver {then}, now {now}")]
    Driver {
        /// Then.
        then: String,
        /// Now.
        now: String,
    },
    /// CPUs came or went.
    #[error("it has CPUs {then} online, now {now} are")]
    Cpus {
        /// Then.
        then: CpuSet,
        /// Now.
        now: CpuSet,
    },
    /// The driver listed its GPUs anew.
    #[error(
        "the driver has listed its GPUs anew, as when one is divided (generation {then}, now {now})"
    )]
    Generation {
        /// Then.
        then: String,
        /// Now.
        now: String,
    },
    /// A GPU came.
    #[error("it lacks GPU {0}, which the driver has")]
    NewGpu(PciAddress),
    /// A GPU is gone.
    #[error("it has GPU {0}, which is gone")]
    Gpu(PciAddress),
}

impl Snapshot {
    /// Stamps a machine.
    pub fn new(machine: Machine, now: &HostNow, created_unix: u64) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            boot_id: now.boot_id.clone(),
            driver: now.driver.clone(),
            generation: now.generation.clone(),
            created_unix,
            machine,
        }
    }

    /// Reads what [`Snapshot::to_json`] wrote.
    ///
    /// # Errors
    /// [`SnapshotError`]: not JSON of this shape, or another format.
    pub fn parse(text: &str) -> Result<Self, SnapshotError> {
        let snapshot: Self = serde_json::from_str(text)?;
        snapshot.of_known_schema()
    }

    /// The same with no more of the machine than [`Machine::for_launch`] keeps, in a fifth of the time: by the head that
    /// [`Snapshot::to_json`] writes, or where that is not of this text, by the JSON.
    ///
    /// # Errors
    /// As [`Snapshot::parse`]; what is wrong with the rest of the machine is not seen.
    pub fn parse_for_launch(text: &str) -> Result<Self, SnapshotError> {
        if let Some(snapshot) = compact::read(text) {
            return Ok(snapshot);
        }
        let read: LaunchSnapshot = serde_json::from_str(text)?;
        let snapshot = Self {
            schema: read.schema,
            boot_id: read.boot_id,
            driver: read.driver,
            generation: read.generation,
            created_unix: read.created_unix,
            machine: read.machine,
        };
        snapshot.of_known_schema()
    }

    /// The words of a head without their checksum: for a fuzzer, which would never find that.
    #[doc(hidden)]
    pub fn parse_head(words: &str) -> Option<Self> {
        compact::read_words(words)
    }

    fn of_known_schema(self) -> Result<Self, SnapshotError> {
        if self.schema == SCHEMA {
            Ok(self)
        } else {
            let schema = crate::option::printable(&self.schema);
            Err(SnapshotError::Schema(schema))
        }
    }

    /// The snapshot as JSON text, a line at the end; at its head, in the field `launch`, what a launch reads of it.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<String, SnapshotError> {
        Ok(compact::with_head(
            self,
            serde_json::to_string(self)? + "\n",
        ))
    }

    /// The first thing that no longer holds.
    pub fn staleness(&self, now: &HostNow) -> Option<Stale> {
        if self.boot_id != now.boot_id {
            return Some(Stale::Boot);
        }
        let word = |said: &Option<String>| said.clone().unwrap_or_else(|| "none".to_owned());
        if self.driver != now.driver {
            return Some(Stale::Driver {
                then: word(&self.driver),
                now: word(&now.driver),
            });
        }
        if self.machine.online != now.online {
            return Some(Stale::Cpus {
                then: self.machine.online.clone(),
                now: now.online.clone(),
            });
        }
        let gone = self
            .machine
            .gpus
            .iter()
            // Of one that no file lists no file can say that it is gone.
            .find(|gpu| !gpu.only_in_nvml && !now.gpus.contains(&gpu.pci));
        if let Some(gpu) = gone {
            return Some(Stale::Gpu(gpu.pci));
        }
        if self.generation != now.generation {
            return Some(Stale::Generation {
                then: word(&self.generation),
                now: word(&now.generation),
            });
        }
        let new = now
            .gpus
            .iter()
            .find(|gpu| self.machine.gpu(**gpu).is_none());
        new.map(|gpu| Stale::NewGpu(*gpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> HostNow {
        HostNow {
            boot_id: Some("b".to_owned()),
            driver: Some("580.82".to_owned()),
            online: CpuSet::from_range(0, 7),
            gpus: Vec::new(),
            generation: Some("2".to_owned()),
        }
    }

    fn snapshot() -> Snapshot {
        let machine = Machine {
            online: CpuSet::from_range(0, 7),
            ..Machine::default()
        };
        Snapshot::new(machine, &now(), 1)
    }

    #[test]
    fn text_round_trips() {
        let text = snapshot().to_json().unwrap();
        assert_eq!(Snapshot::parse(&text).unwrap(), snapshot());
    }

    #[test]
    fn a_launch_reads_what_it_looks_at() {
        let text = r#"{"schema":"gpu-numa/snapshot/1","boot_id":"b","driver":"580.82","created_unix":7,"machine":{
            "hostname":"gpu1","online":"0-3","packages":[{"id":0,"cpus":"0-3","numa_nodes":"0"}],
            "numa_nodes":[{"id":0,"package":0,"cpus":"0-3","memory_bytes":5,"kind":"dram","distances":{"0":10}}],
            "cores":["0-1","2-3"],"last_level_caches":["0-3"],"board":"X",
            "latencies":[{"cpu_node":0,"memory_node":0,"nanoseconds":90}],
            "pci":[{"address":"0000:01:00.0","class":197120,"vendor":4318,"device":9008,"link":{}}],
            "gpus":[{"pci":"0000:01:00.0","vendor":"10de","device":"2330","minor":0,"uuid":"GPU-1","name":"H100",
                     "package":0,"numa_nodes":"0","numa_source":"numa_node","cpus":"0-3"}],
            "nics":[{"pci":"0000:02:00.0","vendor":"15b3","device":"1021","names":["mlx5_0"],
                     "ports":[{"device":"mlx5_0","port":1}],
                     "package":0,"numa_nodes":"0","numa_source":"numa_node","cpus":"0-3"}],
            "nvlink_visible":true,"p2p":[{"a":"0000:01:00.0","b":"0000:03:00.0","state":"ok"}],"remarks":["odd"]}}"#;
        let whole = Snapshot::parse(text).unwrap();
        let of_launch = Snapshot::parse_for_launch(text).unwrap();
        assert_eq!(of_launch.machine, whole.machine.clone().for_launch());
        assert_eq!(of_launch.machine.gpus.len(), 1);
        assert_eq!(
            (of_launch.boot_id, of_launch.driver, of_launch.created_unix),
            (whole.boot_id, whole.driver, whole.created_unix)
        );
    }

    #[test]
    fn truncated_or_foreign_text_is_refused() {
        let text = snapshot().to_json().unwrap();
        assert!(Snapshot::parse(&text[..text.len() / 2]).is_err());
        assert!(Snapshot::parse_for_launch(&text[..text.len() - 3]).is_err());
        let foreign = text.replace("snapshot/1", "snapshot/9");
        assert!(Snapshot::parse_for_launch(&foreign).is_err());
        let error = Snapshot::parse(&foreign).unwrap_err().to_string();
        assert_eq!(
            error,
            "snapshot of format \"gpu-numa/snapshot/9\"; expected \"gpu-numa/snapshot/1\""
        );
    }

    #[test]
    fn what_changed_since_makes_it_stale() {
        assert_eq!(snapshot().staleness(&now()), None);
        let boot = HostNow {
            boot_id: Some("c".to_owned()),
            ..now()
        };
        assert_eq!(snapshot().staleness(&boot), Some(Stale::Boot));
        let cpus = HostNow {
            online: CpuSet::from_range(0, 6),
            ..now()
        };
        assert!(matches!(
            snapshot().staleness(&cpus),
            Some(Stale::Cpus { .. })
        ));
        let driver = HostNow {
            driver: None,
            ..now()
        };
        let says = snapshot().staleness(&driver).unwrap().to_string();
        assert_eq!(says, "it was read under driver 580.82, now none");
        let anew = HostNow {
            generation: Some("17".to_owned()),
            ..now()
        };
        let says = snapshot().staleness(&anew).unwrap().to_string();
        assert!(says.ends_with("(generation 2, now 17)"), "{says}");
    }
}
