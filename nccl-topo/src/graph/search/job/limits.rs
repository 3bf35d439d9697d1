//! What the machine allows: bandwidths to try, and what leaves a GPU.

use super::Job;
use super::state::{Pattern, as_f32};
use crate::graph::nodes::{Graph, LinkType, PlaceKind};
use crate::graph::path_type::PathType;
use crate::processor::LOCAL_BANDWIDTH_GB_S;

/// Bandwidths to try, widest first.
pub(super) struct Speeds(pub(super) &'static [f32]);

impl Speeds {
    pub(super) fn at(&self, index: usize) -> f32 {
        self.0.get(index).copied().unwrap_or_default()
    }

    pub(super) fn last(&self) -> usize {
        self.0.len() - 1
    }

    /// The first that fits, else the last.
    pub(super) fn first(&self, fits: impl Fn(f32) -> bool) -> usize {
        (0..self.last())
            .find(|index| fits(self.at(*index)))
            .unwrap_or(self.last())
    }
}

impl Job<'_> {
    /// The widest of `speeds` that a GPU can carry.
    pub(super) fn first_speed(&self, speeds: &Speeds) -> usize {
        let mut total = self.device_total();
        let devices = if self.graph.rules().gpus_have_devices {
            self.graph.of_kind(PlaceKind::Dev).count()
        } else {
            self.count
        };
        if self.trial.pattern != Pattern::Ring && devices > 1 {
            // A tree need not close, so less of the total is enough.
            total *= as_f32(devices) / as_f32(devices - 1);
        }
        let least = as_f32(self.trial.min_channels);
        let widest = self.widest();
        speeds.first(|speed| speed <= widest && speed * least <= total)
    }

    /// The most that a channel may carry (`ncclTopoSearchInit`).
    fn widest(&self) -> f32 {
        if self.between_hosts {
            self.paths.widest_to_net_gb_s
        } else {
            self.paths.widest_gb_s
        }
    }

    /// The most that leaves a GPU: its PCI link, or all its NVLinks (`getTotalBw`).
    pub(super) fn device_total(&self) -> f32 {
        let mut most = 0.0_f32;
        for device in self
            .graph
            .of_kind(PlaceKind::Dev)
            .filter_map(|id| self.graph.node(id))
        {
            let of = |kind| device.links.iter().filter(move |link| link.kind == kind);
            let nvlinks: f32 = of(LinkType::NvLink).map(|link| link.bandwidth_gb_s).sum();
            let pci = of(LinkType::Pci)
                .next_back()
                .map_or(0.0, |link| link.bandwidth_gb_s);
            most = most.max(nvlinks).max(pci);
        }
        if self.count == 1 && !self.between_hosts {
            LOCAL_BANDWIDTH_GB_S
        } else {
            most
        }
    }

    /// Whether NVLink joins the GPUs in two groups (`ncclTopoSplitNvLink`).
    pub(super) fn nvlink_is_split(&self) -> bool {
        let mut domain: Vec<_> = (0..self.count).collect();
        for gpu in 0..self.count {
            let own = domain.get(gpu).copied().unwrap_or(gpu);
            for (other, joined) in domain.iter_mut().enumerate().skip(gpu + 1) {
                if self
                    .paths
                    .between(gpu, other)
                    .is_some_and(|path| path.kind == PathType::Nvl)
                {
                    *joined = own;
                }
            }
        }
        let members = |group| domain.iter().filter(|other| **other == group).count();
        (0..self.count).filter(|group| members(*group) > 1).count() == 2
    }
}

/// The least compute capability of the GPUs, major times 10 plus minor; 0 where there is no GPU.
pub(in crate::graph::search) fn capability(graph: &Graph) -> u32 {
    let kind = if graph.rules().gpus_have_devices {
        PlaceKind::Dev
    } else {
        PlaceKind::Gpu
    };
    let nodes = graph.of_kind(kind).filter_map(|id| graph.node(id));
    nodes
        .map(|node| node.compute_capability)
        .min()
        .unwrap_or_default()
}
