//! The entries of a description: one for each root port, switch and function. A TOML file and the
//! command line have the same keys.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::plan::Medium;
use super::platform::{Andd, Rmrr};
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
    /// Reserved memory of functions.
    Rmrr(Rmrr),
    /// A device of the ACPI namespace.
    Andd(Andd),
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
}

impl RootPort {
    /// A port `id` with default properties.
    pub fn new(id: String) -> Self {
        let hotplug = HotPlug::default();
        Self { id, addr: None, slot: None, hotplug, ats: true, external: false }
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
    /// As [`Endpoint::reset`].
    #[serde(default, deserialize_with = "some_text")]
    pub reset: Option<ReadyTime>,
    /// As [`Endpoint::wake`].
    #[serde(default, deserialize_with = "some_text")]
    pub wake: Option<ReadyTime>,
    /// As [`Endpoint::ready`].
    #[serde(default)]
    pub ready: NotReadyAnswer,
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
        let ready = NotReadyAnswer::default();
        Self { id: None, bus, mib: None, file: None, reset: None, wake: None, ready }
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
            Self::Rmrr(rmrr) => Some(&rmrr.id),
            Self::Andd(andd) => Some(&andd.id),
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
            | Self::Rmrr(_)
            | Self::Andd(_) => None,
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
            Self::Rmrr(_) => "rmrr",
            Self::Andd(_) => "andd",
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

/// All types with their keys. Each key has an explanation, with its default in brackets.
pub const TYPES: [(&str, &[(&str, &str)]); 9] = [
    (
        "root-port",
        &[
            ("id=NAME", "needed; functions and switches below it say bus=NAME"),
            ("addr=DEVICE.FUNCTION", "on bus 0, in hexadecimal [the next free device from 1 up]"),
            ("slot=N", "its slot's number [the next free one from its device number up]"),
            ("hotplug=HOW", "surprise, button (with power control) or none [surprise]"),
            ("ats=on|off", "functions below may use ATS [on]"),
            ("external=on|off", "users can reach the slot: ExternalFacingPort in the DSDT [off]"),
        ],
    ),
    (
        "switch",
        &[
            ("id=NAME", "needed; its ports are NAME.0, NAME.1 and so on"),
            ("bus=PORT", "needed: the port below which it is"),
            ("ports=N", "needed: how many downstream ports, 1 to 32"),
            ("hotplug=HOW", "of its downstream ports, as for a root port [surprise]"),
        ],
    ),
    (
        "ats-endpoint",
        &[
            ("id=NAME", "for messages"),
            ("bus=PORT", "needed: the port below which it is"),
            ("addr=DEVICE.FUNCTION", "which function it is, 1.0 and up need ARI [0.0]"),
            ("ats=on|off", "it has an ATC [on]"),
            ("pri=on|off", "it makes page requests [as ats]"),
            ("pasid=on|off", "it sends PASIDs [on]"),
            ("atc=N", "translations that its ATC holds, 1 to 4096 [64]"),
            ("ways=N", "places for each: atc is a power of two times as many [as atc]"),
            ("queue_depth=N", "Invalidate Requests that it takes at once, 1 to 32 [32]"),
            ("page_aligned=on|off", "its Translation Requests have page-aligned addresses [on]"),
            ("traffic=WHAT", "sends by itself: read|write:LENGTH[*BURST]/PERIOD@ADDRESS[+SPAN]"),
            ("reset=TIME", "how long it takes to become ready after a reset, up to 1m [0s]"),
            ("wake=TIME", "how long it takes to become ready in D0, after D3hot, up to 1m [0s]"),
            (
                "ready=ANSWER",
                "to configuration meanwhile: rrs or timeout; immediate claims 0s [rrs]",
            ),
            ("vfs=N", "it has SR-IOV, with so many virtual functions, up to 64 [0]"),
            ("serial=N", "the device's serial number, of function 0 [made of the names]"),
        ],
    ),
    (
        "nvme",
        &[
            ("id=NAME", "for messages; its serial number [the port's name]"),
            ("bus=PORT", "needed: the port below which it is"),
            ("mib=N", "how many MiB namespace 1 has, in memory, 1 to 4096 [64]"),
            ("file=PATH", "or the file that it is in, as long as that is"),
            ("reset=TIME", "as for ats-endpoint"),
            ("wake=TIME", "as for ats-endpoint"),
            ("ready=ANSWER", "as for ats-endpoint"),
        ],
    ),
    (
        "nvme-ns",
        &[
            ("id=NAME", "for messages"),
            ("bus=NAME", "needed: the nvme whose next namespace it is, up to 16 in all"),
            ("mib=N", "as for nvme"),
            ("file=PATH", "as for nvme"),
        ],
    ),
    ("edu", &INTEGRATED),
    ("iommu-testdev", &INTEGRATED),
    (
        "rmrr",
        &[
            ("id=NAME", "needed"),
            ("scope=NAME[+NAME..]", "needed: the functions that use the memory"),
            ("base=ADDRESS", "needed: the beginning of a page from 1 MiB up, in memory"),
            ("size=N", "needed: bytes, whole pages"),
        ],
    ),
    (
        "andd",
        &[
            ("id=NAME", "needed: its name in the ACPI namespace, up to 4 of A to Z, 0 to 9 and _"),
            ("addr=DEVICE.FUNCTION", "needed: the source id of its requests, on bus 0"),
        ],
    ),
];

const INTEGRATED: [(&str, &str); 3] = [
    ("id=NAME", "for messages"),
    ("addr=DEVICE.FUNCTION", "on bus 0, in hexadecimal [the next free device from 10 up]"),
    (
        "satc=off|on|required",
        "whether an SATC structure names it, with ATC_REQUIRED or without [off]",
    ),
];
