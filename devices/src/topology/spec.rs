//! What can be described: an entry for each root port, switch and function, the same in a TOML file
//! and on a command line.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::plan::Medium;
use super::text::{Address, number, on_off, some_number, some_on_off, some_text};
use crate::dma::atc::Geometry;
use crate::endpoint::traffic::Traffic;
use crate::pcie::caps::express::HotPlug;

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
}

/// A root port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPort {
    /// Its name, by which others are put below it and faults happen to it.
    pub id: String,
    /// Where it is on bus 0; on the next free device from 1 up if nothing is said.
    #[serde(default)]
    pub addr: Option<Address>,
    /// The number of its slot; the next free one from its device number up if nothing is said.
    #[serde(default, deserialize_with = "some_number")]
    pub slot: Option<u8>,
    /// How cards come and go.
    #[serde(default)]
    pub hotplug: HotPlug,
    /// Functions below may use ATS: an ATSR structure would name this port.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub ats: bool,
}

impl RootPort {
    /// A port of that name, the rest as by default.
    pub fn new(id: String) -> Self {
        Self { id, addr: None, slot: None, hotplug: HotPlug::default(), ats: true }
    }
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Its name; its downstream ports are `id.0`, `id.1` and so on.
    pub id: String,
    /// The port below which it is.
    pub bus: String,
    /// How many downstream ports it has.
    #[serde(deserialize_with = "number")]
    pub ports: u8,
    /// How cards come to the slots of those, and go.
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
    /// The port below which it is.
    pub bus: String,
    /// Which function of the device there it is. From 1.0 up they need ARI.
    #[serde(default)]
    pub addr: Address,
    /// It has an ATC, and the ATS capability.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub ats: bool,
    /// It makes page requests; as `ats` if nothing is said.
    #[serde(default, deserialize_with = "some_on_off")]
    pub pri: Option<bool>,
    /// It sends PASIDs.
    #[serde(default = "on", deserialize_with = "on_off")]
    pub pasid: bool,
    /// How many translations its ATC holds; 64 if nothing is said.
    #[serde(default, deserialize_with = "some_number")]
    pub atc: Option<u16>,
    /// In how many places each of them can be; in all, if nothing is said.
    #[serde(default, deserialize_with = "some_number")]
    pub ways: Option<u16>,
    /// What it sends by itself.
    #[serde(default, deserialize_with = "some_text")]
    pub traffic: Option<Traffic>,
    /// How many virtual functions it has.
    #[serde(default, deserialize_with = "number")]
    pub vfs: u16,
    /// The device's serial number; made of names if nothing is said.
    #[serde(default, deserialize_with = "some_number")]
    pub serial: Option<u64>,
}

impl Endpoint {
    /// Function 0 below the port `bus`, the rest as by default.
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
            traffic: None,
            vfs: 0,
            serial: None,
        }
    }
}

impl Endpoint {
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
    /// Its name, which is also its serial number, and by which more namespaces are put into it.
    #[serde(default)]
    pub id: Option<String>,
    /// The port below which it is.
    pub bus: String,
    /// How many MiB its namespace has, in memory; 64 if nothing is said. The host gives twice as much:
    /// what was flushed is kept apart.
    #[serde(default, deserialize_with = "some_number")]
    pub mib: Option<u16>,
    /// The file that its namespace is in, all of it.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

/// A namespace of an NVMe controller, with the next number.
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
    /// A disk below the port `bus`, the rest as by default.
    pub fn new(bus: String) -> Self {
        Self { id: None, bus, mib: None, file: None }
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
    /// Where it is on bus 0; on the next free device from 0x10 up if nothing is said.
    #[serde(default)]
    pub addr: Option<Address>,
    /// What firmware says of its ATC.
    #[serde(default)]
    pub satc: Satc,
}

/// Whether firmware names an integrated function in an SATC structure, as one of the platform's own that have an
/// ATC and are trusted with it (`VT-d 8.8`). Behind root ports an ATSR structure says as much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Satc {
    /// It is not named.
    #[default]
    Off,
    /// It is.
    On,
    /// It is, and needs its ATC to work (`ATC_REQUIRED`).
    Required,
}

fn on() -> bool {
    true
}

impl DeviceSpec {
    /// What a namespace is kept in, as MiB in memory and as a file.
    pub(super) fn media(&self) -> (Option<u16>, Option<&Path>) {
        match self {
            Self::Nvme(Disk { mib, file, .. }) | Self::NvmeNs(Namespace { mib, file, .. }) => {
                (*mib, file.as_deref())
            }
            _ => (None, None),
        }
    }

    /// The name that the user has given it.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::RootPort(port) => Some(&port.id),
            Self::Switch(switch) => Some(&switch.id),
            Self::AtsEndpoint(endpoint) => endpoint.id.as_deref(),
            Self::Nvme(disk) => disk.id.as_deref(),
            Self::NvmeNs(namespace) => namespace.id.as_deref(),
            Self::Edu(device) | Self::IommuTestdev(device) => device.id.as_deref(),
        }
    }

    /// The port below which it is, or the controller that it is in; on bus 0 there is none.
    pub fn bus(&self) -> Option<&str> {
        match self {
            Self::Switch(switch) => Some(&switch.bus),
            Self::AtsEndpoint(endpoint) => Some(&endpoint.bus),
            Self::Nvme(disk) => Some(&disk.bus),
            Self::NvmeNs(namespace) => Some(&namespace.bus),
            Self::RootPort(_) | Self::Edu(_) | Self::IommuTestdev(_) => None,
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
        }
    }
}

/// Its type, and its name or where it is.
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

/// All types, each with its keys, and what they mean.
pub const TYPES: [(&str, &[(&str, &str)]); 7] = [
    (
        "root-port",
        &[
            ("id=NAME", "needed; functions and switches below it say bus=NAME"),
            ("addr=DEVICE.FUNCTION", "on bus 0, in hexadecimal [the next free device from 1 up]"),
            ("slot=N", "its slot's number [the next free one from its device number up]"),
            ("hotplug=HOW", "surprise, button (with power control) or none [surprise]"),
            ("ats=on|off", "functions below may use ATS [on]"),
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
            ("traffic=WHAT", "sends by itself: read|write:LENGTH[*BURST]/PERIOD@ADDRESS[+SPAN]"),
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
];

const INTEGRATED: [(&str, &str); 3] = [
    ("id=NAME", "for messages"),
    ("addr=DEVICE.FUNCTION", "on bus 0, in hexadecimal [the next free device from 10 up]"),
    (
        "satc=off|on|required",
        "whether an SATC structure names it, with ATC_REQUIRED or without [off]",
    ),
];
