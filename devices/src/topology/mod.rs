//! The ports, switches and functions of a machine: they are described, checked as a whole, and
//! built.
//!
//! ```text
//!   --device root-port,id=rp0 ---+
//!   --device switch,bus=rp0 -----+--> Vec<DeviceSpec> --(check)--> Topology --(build)--> Hierarchy
//!   [[device]] in a TOML file ---+                       |
//!                                                        +--> TopologyError: which entry, and why
//! ```
//!
//! Entries may have any order. A key that is left out has a default: a root port gets the next free
//! device number and slot, a device on bus 0 the next free device number from 0x0c up.

mod check;
mod endpoints;
mod ids;
mod plan;
mod platform;
mod segments;
mod spec;
mod text;
mod types;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use iommu::event::Tracer;
use iommu::ids::Bdf;

use crate::Error;
use crate::edu::Edu;
use crate::endpoint::AtsEndpoint;
use crate::fault::PortInfo;
use crate::iommu_testdev::IommuTestdev;
use crate::nvme::storage::{BLOCK_SIZE, MemoryStorage, Storage};
use crate::nvme::{DEFAULT_LATENCY, Nvme};
use crate::pcie::caps::express::HotPlug;
use crate::pcie::header::{HeaderType, Ids};
use crate::pcie::{Function, Hierarchy, PhysicalFunction};
use plan::{FunctionKind, Medium, Step};
use platform::Platform;
pub use platform::{
    Andd, DeviceScope, Drhd, Names, NamespaceDevice, ReservedMemory, Rmrr, ScopedUnit,
};
pub use segments::Segment;
pub use spec::{
    DeviceSpec, Disk, Endpoint, Integrated, Namespace, Onboard, RootPort, Satc, Switch,
};
pub use text::{Address, ParseAddressError, ParseDeviceError};
pub use types::TYPES;

/// Root ports that a machine can have.
pub const MAX_ROOT_PORTS: usize = 8;
/// Downstream ports that a switch can have: the device numbers of its own bus.
pub const MAX_SWITCH_PORTS: u8 = 32;
/// Switches on the path to a function.
pub const MAX_DEPTH: usize = 4;
/// Buses below bus 0.
pub const MAX_BUSES: usize = 255;
/// The size of the largest namespace in memory, in MiB.
pub const MAX_MIB: u16 = 4096;
/// Virtual functions that a function can have.
pub const MAX_VFS: u16 = 64;

/// The first device number of functions on bus 0 without `addr=`. It is behind the root ports, and
/// below 0x10: QEMU's tests of scalable mode build only the lower context table of a bus, which has
/// devices 0 to 15. INTA of this device leads to the first of the four pins.
pub const FIRST_INTEGRATED: u8 = 0xc;

/// Why a topology cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device {} ({device}): {reason}", index + 1)]
pub struct TopologyError {
    /// The index of the entry, from 0.
    pub index: usize,
    /// The device that the entry describes.
    pub device: String,
    /// The rule that the device breaks.
    pub reason: String,
}

/// `ports` root ports `rp0`, `rp1`.. with an ATS test endpoint `ep0`, `ep1`.. behind each, and
/// `edus` devices `edu0`, `edu1`.. on bus 0.
pub fn simple_devices(ports: u8, edus: u8) -> Vec<DeviceSpec> {
    let root_ports = (0..ports).map(|n| DeviceSpec::RootPort(RootPort::new(format!("rp{n}"))));
    let endpoints = (0..ports).map(|n| {
        let endpoint = Endpoint::new(format!("rp{n}"));
        DeviceSpec::AtsEndpoint(Endpoint { id: Some(format!("ep{n}")), ..endpoint })
    });
    let edus =
        (0..edus).map(|n| Integrated { id: Some(format!("edu{n}")), ..Integrated::default() });
    root_ports.chain(endpoints).chain(edus.map(DeviceSpec::Edu)).collect()
}

/// The properties of a root port in ACPI tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootPortInfo {
    /// The id of the root port.
    pub function: Bdf,
    /// Functions below it may use ATS.
    pub ats: bool,
    /// Users can reach its slot.
    pub external: bool,
}

/// The opened files of namespaces, by path.
pub type Media = HashMap<PathBuf, Box<dyn Storage>>;

/// A topology that can be built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Each port comes before the functions and ports below it.
    steps: Vec<Step>,
    platform: Platform,
    /// The machine has a High Precision Event Timer.
    pub hpet: bool,
    /// The machine has QEMU's `pc-testdev`.
    pub pc_testdev: bool,
    /// The PCI segments besides segment 0, in ascending order.
    segments: Vec<Segment>,
}

impl Topology {
    /// Checks `devices` as a whole.
    ///
    /// # Errors
    /// The first entry that cannot be built, and why.
    pub fn new(devices: &[DeviceSpec]) -> Result<Self, TopologyError> {
        check::check(devices)?;
        let (steps, platform, segments) = segments::plan(devices)?;
        let hpet = devices.iter().any(|device| matches!(device, DeviceSpec::Hpet(_)));
        let pc_testdev = devices.iter().any(|device| matches!(device, DeviceSpec::PcTestdev(_)));
        Ok(Self { steps, platform, hpet, pc_testdev, segments })
    }

    /// The topology of [`simple_devices`].
    ///
    /// # Panics
    /// Above [`MAX_ROOT_PORTS`] ports, or more devices than bus 0 has numbers from 0x0c up.
    pub fn simple(ports: u8, edus: u8) -> Self {
        Self::new(&simple_devices(ports, edus)).expect("there are as many places")
    }

    /// The functions on bus 0, without ports and host bridge.
    pub fn integrated(&self) -> impl Iterator<Item = Bdf> {
        self.steps.iter().filter_map(|step| match step {
            Step::Function { above: None, devfn, .. } => Some(Bdf::from_bits((*devfn).into())),
            _ => None,
        })
    }

    /// The functions on bus 0 with this entry in SATC structures.
    pub fn satc(&self, what: Satc) -> impl Iterator<Item = Bdf> {
        self.steps.iter().filter_map(move |step| match step {
            Step::Function { devfn, satc, .. } if *satc == what => {
                Some(Bdf::from_bits((*devfn).into()))
            }
            _ => None,
        })
    }

    /// The root ports.
    pub fn root_ports(&self) -> impl Iterator<Item = RootPortInfo> {
        self.steps.iter().filter_map(|step| match step {
            Step::Port { above: None, devfn, ats, external, .. } => {
                let function = Bdf::from_bits((*devfn).into());
                Some(RootPortInfo { function, ats: *ats, external: *external })
            }
            _ => None,
        })
    }

    /// Segment 0 as it is.
    pub(crate) fn without_segments(&self) -> Self {
        Self { segments: Vec::new(), ..self.clone() }
    }

    /// The PCI segments besides segment 0, in ascending order. All else that a topology says is
    /// about segment 0.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The remapping units for some functions, in the order of the entries.
    pub fn units(&self) -> &[ScopedUnit] {
        &self.platform.units
    }

    /// Whether one of [`Self::units`] has that name.
    pub(crate) fn has_unit(&self, name: &str) -> bool {
        self.units().iter().any(|unit| unit.id == name)
    }

    /// Reserved memory of functions, in the order of the entries.
    pub fn reserved_memory(&self) -> &[ReservedMemory] {
        &self.platform.reserved
    }

    /// Devices of the ACPI namespace, in the order of the entries.
    pub fn namespace_devices(&self) -> &[NamespaceDevice] {
        &self.platform.namespace
    }

    /// The properties of the ports of all segments that a schedule of faults needs, in the order of
    /// their indices.
    pub fn port_infos(&self) -> Vec<PortInfo> {
        let info = |step: &Step| match step {
            Step::Port { name, port_type, .. } => Some(PortInfo {
                name: name.clone(),
                has_link: port_type.slot().is_some(),
                has_button: port_type.slot().is_some_and(|slot| slot.hot_plug == HotPlug::Button),
            }),
            Step::Function { .. } => None,
        };
        let further = self.segments.iter().flat_map(|segment| segment.topology.port_infos());
        self.steps.iter().filter_map(info).chain(further).collect()
    }

    /// The files that [`Self::build`] needs, for all segments.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let further = self.segments.iter().flat_map(|segment| &segment.topology.steps);
        let namespaces = self.steps.iter().chain(further).flat_map(|step| match step {
            Step::Function { kind: FunctionKind::Nvme { namespaces, .. }, .. } => &namespaces[..],
            _ => &[],
        });
        namespaces.filter_map(|medium| match medium {
            Medium::File(path) => Some(path.as_path()),
            Medium::Memory { .. } => None,
        })
    }

    /// Builds the hierarchy. Takes the files that it needs from `media`.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if a function's capabilities do not fit, [`Error::NoMedium`] for
    /// a file that is not in `media`.
    pub fn build(&self, media: &mut Media, tracer: &Tracer) -> Result<Hierarchy, Error> {
        let mut hierarchy = Hierarchy::empty(tracer.clone());
        for step in &self.steps {
            match step {
                Step::Port { name, above, devfn, port_type, ids, .. } => {
                    let port = hierarchy.add_port(name, *above, *devfn, *port_type)?;
                    hierarchy.set_port_ids(port, *ids);
                }
                Step::Function { above, devfn, kind, readiness, ids, .. } => {
                    let mut function = function(kind, *ids, media, tracer)?;
                    function.for_each_core(&mut |core| {
                        ids.replace(&mut core.config, HeaderType::Endpoint);
                    });
                    hierarchy.add_slow_function(*above, *devfn, function, *readiness);
                }
            }
        }
        Ok(hierarchy)
    }
}

fn function(
    kind: &FunctionKind,
    ids: Ids,
    media: &mut Media,
    tracer: &Tracer,
) -> Result<Box<dyn Function>, Error> {
    Ok(match kind {
        FunctionKind::AtsEndpoint(config) => match config.virtual_functions {
            Some(virtual_functions) => {
                Box::new(PhysicalFunction::<AtsEndpoint>::new(*config, virtual_functions, tracer)?)
            }
            None => Box::new(AtsEndpoint::new(*config, tracer.clone())?),
        },
        FunctionKind::Nvme { serial, namespaces, features } => {
            let namespaces = namespaces.iter().map(|medium| open(medium, media));
            let namespaces = namespaces.collect::<Result<_, _>>()?;
            let latency = DEFAULT_LATENCY;
            match features.virtual_functions {
                Some(virtual_functions) => {
                    let nvme = PhysicalFunction::<Nvme>::new(
                        namespaces,
                        serial,
                        latency,
                        *features,
                        virtual_functions,
                        tracer,
                    )?;
                    Box::new(nvme.with_vendors(ids))
                }
                None => {
                    let nvme = Nvme::new(namespaces, serial, latency, *features, tracer.clone())?;
                    Box::new(nvme.with_vendors(ids))
                }
            }
        }
        FunctionKind::Edu => Box::new(Edu::new()?),
        FunctionKind::IommuTestdev => Box::new(IommuTestdev::new()),
    })
}

fn open(medium: &Medium, media: &mut Media) -> Result<Box<dyn Storage>, Error> {
    match medium {
        Medium::Memory { mib } => {
            let blocks = u32::from(*mib) * (1 << 20) / BLOCK_SIZE as u32;
            Ok(Box::new(MemoryStorage::new(blocks)))
        }
        Medium::File(path) => {
            media.remove(path).ok_or_else(|| Error::NoMedium { path: path.clone() })
        }
    }
}

#[cfg(test)]
mod tests;
