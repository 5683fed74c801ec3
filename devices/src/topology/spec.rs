//! The entries of a description: one for each root port, switch and function. A TOML file and the
//! command line have the same keys.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::plan::Medium;
use super::platform::{Andd, Drhd, Rmrr};
use super::text::{Address, number, on_off, some_number, some_on_off, some_text};
use crate::dma::atc::Geometry;
use crate::endpoint::traffic::Traffic;
use crate::pcie::caps::ats::AtsFeatures;
use crate::pcie::caps::express::HotPlug;
use crate::pcie::readiness::{NotReadyAnswer, Readiness, ReadyTime};

/// One entry of a description.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DeviceSpec {
    /// A root port on bus 0.
    RootPort(RootPort),
    /// A switch: an upstream port with downstream ports on a bus of its own.
    Switch(Switch),
    /// A function of an ATS test endpoint.
    AtsEndpoint(Endpoint),
    /// An NVMe controller with its first namespace.
    Nvme(Disk),
    /// One more namespace of an NVMe controller.
    NvmeNs(Namespace),
    /// QEMU's `edu`, on bus 0.
    Edu(Integrated),
    /// QEMU's `iommu-testdev`, on bus 0.
    IommuTestdev(Integrated),
    /// A remapping unit for some root ports and functions on bus 0.
    Drhd(Drhd),
    /// Reserved memory of functions.
    Rmrr(Rmrr),
    /// A device of the ACPI namespace.
    Andd(Andd),
    /// A High Precision Event Timer.
    Hpet(Onboard),
    /// QEMU's `pc-testdev`.
    PcTestdev(Onboard),
}

/// A root port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPort {
    /// Its name, for `bus=` of other entries and `port=` of faults.
    pub id: String,
    /// Its address on bus 0. Default: the next free device from 1 up.
    #[serde(default)]
    pub addr: Option<Address>,
    /// Physical Slot Number. Default: the next free one from its device number up.
    #[serde(default, deserialize_with = "some_number")]
    pub slot: Option<u8>,
    /// The hot-plug features of its slot.
    #[serde(default)]
    pub hotplug: HotPlug,
    /// Functions below may use ATS: the port is in an ATSR structure.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub ats: bool,
    /// Users can reach the slot: the DSDT has `ExternalFacingPort`.
    #[serde(default, deserialize_with = "on_off")]
    pub external: bool,
    /// The PCI segment whose bus 0 it is on, and all that is below it.
    #[serde(default, deserialize_with = "number")]
    pub segment: u16,
    /// Vendor ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub vendor: Option<u16>,
    /// Device ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub device: Option<u16>,
    /// Revision ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub revision: Option<u8>,
}

impl RootPort {
    /// A port `id` with default properties.
    pub fn new(id: String) -> Self {
        Self {
            id,
            addr: None,
            slot: None,
            hotplug: HotPlug::default(),
            ats: true,
            external: false,
            segment: 0,
            vendor: None,
            device: None,
            revision: None,
        }
    }
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Its name; its downstream ports are `id.0`, `id.1` and so on.
    pub id: String,
    /// The port above.
    pub bus: String,
    /// Number of downstream ports.
    #[serde(deserialize_with = "number")]
    pub ports: u8,
    /// The hot-plug features of their slots.
    #[serde(default)]
    pub hotplug: HotPlug,
    /// Vendor ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub vendor: Option<u16>,
    /// Device ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub device: Option<u16>,
    /// Revision ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub revision: Option<u8>,
}

/// A function of an ATS test endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its name.
    #[serde(default)]
    pub id: Option<String>,
    /// The port above.
    pub bus: String,
    /// Its device and function number. From 1.0 up it needs ARI.
    #[serde(default)]
    pub addr: Address,
    /// It has an ATC, and the ATS capability.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub ats: bool,
    /// It makes page requests. Default: as `ats`.
    #[serde(default, deserialize_with = "some_on_off")]
    pub pri: Option<bool>,
    /// It sends PASIDs.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub pasid: bool,
    /// Entries of its ATC. Default: 64.
    #[serde(default, deserialize_with = "some_number")]
    pub atc: Option<u16>,
    /// Ways of its ATC. Default: fully associative.
    #[serde(default, deserialize_with = "some_number")]
    pub ways: Option<u16>,
    /// Invalidate Requests that it takes at once. Default: 32.
    #[serde(default, deserialize_with = "some_number")]
    pub queue_depth: Option<u8>,
    /// Its Translation Requests have page-aligned addresses.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub page_aligned: bool,
    /// The traffic of its first generator.
    #[serde(default, deserialize_with = "some_text")]
    pub traffic: Option<Traffic>,
    /// How long it takes to become ready after a reset. Default: no time.
    #[serde(default, deserialize_with = "some_text")]
    pub reset: Option<ReadyTime>,
    /// How long it takes to become ready in D0. Default: no time.
    #[serde(default, deserialize_with = "some_text")]
    pub wake: Option<ReadyTime>,
    /// Its answer to configuration requests meanwhile.
    #[serde(default)]
    pub ready: NotReadyAnswer,
    /// Number of virtual functions.
    #[serde(default, deserialize_with = "number")]
    pub vfs: u16,
    /// Device Serial Number. Default: a hash of the name.
    #[serde(default, deserialize_with = "some_number")]
    pub serial: Option<u64>,
    /// Vendor ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub vendor: Option<u16>,
    /// Device ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub device: Option<u16>,
    /// Subsystem Vendor ID. Default: as `vendor`.
    #[serde(default, deserialize_with = "some_number")]
    pub subvendor: Option<u16>,
    /// Subsystem ID. Default: as `device`.
    #[serde(default, deserialize_with = "some_number")]
    pub subsystem: Option<u16>,
    /// Revision ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub revision: Option<u8>,
}

impl Endpoint {
    /// Function 0 below the port `bus`, with default properties.
    pub fn new(bus: String) -> Self {
        Self {
            id: None,
            bus,
            addr: Address::default(),
            ats: true,
            pri: None,
            pasid: true,
            atc: None,
            ways: None,
            queue_depth: None,
            page_aligned: true,
            traffic: None,
            reset: None,
            wake: None,
            ready: NotReadyAnswer::default(),
            vfs: 0,
            serial: None,
            vendor: None,
            device: None,
            subvendor: None,
            subsystem: None,
            revision: None,
        }
    }
}

impl Endpoint {
    /// The features of its ATC.
    pub(super) fn ats_features(&self) -> AtsFeatures {
        let default = AtsFeatures::default();
        let queue_depth = self.queue_depth.unwrap_or(default.queue_depth);
        AtsFeatures { queue_depth, page_aligned: self.page_aligned }
    }

    /// Entries and ways of its ATC.
    pub(super) fn entries_and_ways(&self) -> (u16, u16) {
        let entries = self.atc.unwrap_or(Geometry::default().entries());
        (entries, self.ways.unwrap_or(entries))
    }
}

/// An NVMe controller with its first namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its name, for `bus=` of further namespaces. It is also the Serial Number.
    #[serde(default)]
    pub id: Option<String>,
    /// The port above.
    pub bus: String,
    /// The size of its namespace in memory, in MiB. Default: 64. The host needs twice as much,
    /// because flushed data is kept apart.
    #[serde(default, deserialize_with = "some_number")]
    pub mib: Option<u16>,
    /// The file of its namespace.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// It has an ATC, and the ATS capability.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub ats: bool,
    /// It hangs once after power-on, instead of executing the I/O command after so many.
    #[serde(default, deserialize_with = "some_number")]
    pub hang: Option<u32>,
    /// Number of virtual functions. Default: no SR-IOV.
    #[serde(default, deserialize_with = "some_number")]
    pub vfs: Option<u16>,
    /// As [`Endpoint::reset`].
    #[serde(default, deserialize_with = "some_text")]
    pub reset: Option<ReadyTime>,
    /// As [`Endpoint::wake`].
    #[serde(default, deserialize_with = "some_text")]
    pub wake: Option<ReadyTime>,
    /// As [`Endpoint::ready`].
    #[serde(default)]
    pub ready: NotReadyAnswer,
    /// Vendor ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub vendor: Option<u16>,
    /// Device ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub device: Option<u16>,
    /// Subsystem Vendor ID. Default: as `vendor`.
    #[serde(default, deserialize_with = "some_number")]
    pub subvendor: Option<u16>,
    /// Subsystem ID. Default: as `device`.
    #[serde(default, deserialize_with = "some_number")]
    pub subsystem: Option<u16>,
    /// Revision ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub revision: Option<u8>,
}

/// A further namespace of an NVMe controller, with the next namespace id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its name.
    #[serde(default)]
    pub id: Option<String>,
    /// The controller.
    pub bus: String,
    /// As [`Disk::mib`].
    #[serde(default, deserialize_with = "some_number")]
    pub mib: Option<u16>,
    /// As [`Disk::file`].
    #[serde(default)]
    pub file: Option<PathBuf>,
}

impl Disk {
    /// A controller below the port `bus`, with default properties.
    pub fn new(bus: String) -> Self {
        Self {
            id: None,
            bus,
            mib: None,
            file: None,
            ats: true,
            hang: None,
            vfs: None,
            reset: None,
            wake: None,
            ready: NotReadyAnswer::default(),
            vendor: None,
            device: None,
            subvendor: None,
            subsystem: None,
            revision: None,
        }
    }

    pub(super) fn medium(&self) -> Medium {
        medium(self.mib, self.file.as_ref())
    }
}

impl Namespace {
    pub(super) fn medium(&self) -> Medium {
        medium(self.mib, self.file.as_ref())
    }
}

fn medium(mib: Option<u16>, file: Option<&PathBuf>) -> Medium {
    const DEFAULT_MIB: u16 = 64;
    match file {
        Some(path) => Medium::File(path.clone()),
        None => Medium::Memory { mib: mib.unwrap_or(DEFAULT_MIB) },
    }
}

/// A function on bus 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integrated {
    /// Its name.
    #[serde(default)]
    pub id: Option<String>,
    /// Its address on bus 0. Default: the next free device from 0x0c up.
    #[serde(default)]
    pub addr: Option<Address>,
    /// Its entry in an SATC structure.
    #[serde(default)]
    pub satc: Satc,
    /// Vendor ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub vendor: Option<u16>,
    /// Device ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub device: Option<u16>,
    /// Subsystem Vendor ID. Default: as `vendor`.
    #[serde(default, deserialize_with = "some_number")]
    pub subvendor: Option<u16>,
    /// Subsystem ID. Default: as `device`.
    #[serde(default, deserialize_with = "some_number")]
    pub subsystem: Option<u16>,
    /// Revision ID. Default: the type's own.
    #[serde(default, deserialize_with = "some_number")]
    pub revision: Option<u8>,
}

/// A device of the chipset: it has fixed ports and addresses, and there is one at the most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Onboard {
    /// Its name.
    #[serde(default)]
    pub id: Option<String>,
}

/// Whether an SATC structure has an integrated function: a trusted device of the platform that has
/// an ATC (`VT-d 8.8`). ATSR structures are for functions below root ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Satc {
    /// No structure has it.
    #[default]
    Off,
    /// A structure without `ATC_REQUIRED` has it.
    On,
    /// A structure with `ATC_REQUIRED` has it: it needs its ATC to work.
    Required,
}

fn on() -> bool {
    true
}

impl DeviceSpec {
    /// Gives a function that has no `reset` or `wake` the times that the specification lets software
    /// wait for.
    pub fn use_specified_times(&mut self) {
        let (reset, wake) = match self {
            Self::AtsEndpoint(Endpoint { reset, wake, .. })
            | Self::Nvme(Disk { reset, wake, .. }) => (reset, wake),
            _ => return,
        };
        reset.get_or_insert(ReadyTime::RESET);
        wake.get_or_insert(ReadyTime::WAKE);
    }

    /// The times in which the function of the entry becomes ready.
    pub(super) fn readiness(&self) -> Readiness {
        let (reset, wake, answer) = match self {
            Self::AtsEndpoint(Endpoint { reset, wake, ready, .. })
            | Self::Nvme(Disk { reset, wake, ready, .. }) => (*reset, *wake, *ready),
            _ => return Readiness::default(),
        };
        let time = |time: Option<ReadyTime>| time.map(|time| time.0).unwrap_or_default();
        Readiness { reset: time(reset), wake: time(wake), answer }
    }

    /// `mib` and `file` of a namespace.
    pub(super) fn media(&self) -> (Option<u16>, Option<&Path>) {
        match self {
            Self::Nvme(Disk { mib, file, .. }) | Self::NvmeNs(Namespace { mib, file, .. }) => {
                (*mib, file.as_deref())
            }
            _ => (None, None),
        }
    }

    /// The name of the entry.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::RootPort(port) => Some(&port.id),
            Self::Switch(switch) => Some(&switch.id),
            Self::AtsEndpoint(endpoint) => endpoint.id.as_deref(),
            Self::Nvme(disk) => disk.id.as_deref(),
            Self::NvmeNs(namespace) => namespace.id.as_deref(),
            Self::Edu(device) | Self::IommuTestdev(device) => device.id.as_deref(),
            Self::Drhd(drhd) => Some(&drhd.id),
            Self::Rmrr(rmrr) => Some(&rmrr.id),
            Self::Andd(andd) => Some(&andd.id),
            Self::Hpet(device) | Self::PcTestdev(device) => device.id.as_deref(),
        }
    }

    /// The port above, or the controller of a namespace; `None` on bus 0.
    pub fn bus(&self) -> Option<&str> {
        match self {
            Self::Switch(switch) => Some(&switch.bus),
            Self::AtsEndpoint(endpoint) => Some(&endpoint.bus),
            Self::Nvme(disk) => Some(&disk.bus),
            Self::NvmeNs(namespace) => Some(&namespace.bus),
            Self::RootPort(_)
            | Self::Edu(_)
            | Self::IommuTestdev(_)
            | Self::Drhd(_)
            | Self::Rmrr(_)
            | Self::Andd(_)
            | Self::Hpet(_)
            | Self::PcTestdev(_) => None,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::RootPort(_) => "root-port",
            Self::Switch(_) => "switch",
            Self::AtsEndpoint(_) => "ats-endpoint",
            Self::Nvme(_) => "nvme",
            Self::NvmeNs(_) => "nvme-ns",
            Self::Edu(_) => "edu",
            Self::IommuTestdev(_) => "iommu-testdev",
            Self::Drhd(_) => "drhd",
            Self::Rmrr(_) => "rmrr",
            Self::Andd(_) => "andd",
            Self::Hpet(_) => "hpet",
            Self::PcTestdev(_) => "pc-testdev",
        }
    }
}

/// The type, and the name or the bus.
impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())?;
        match (self.id(), self.bus()) {
            (Some(id), _) => write!(f, " '{id}'"),
            (None, Some(bus)) => write!(f, " on '{bus}'"),
            (None, None) => Ok(()),
        }
    }
}
