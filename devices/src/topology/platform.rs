//! Entries that are neither port nor function, which firmware reports in ACPI tables: remapping units
//! for some functions, reserved memory of functions, and devices that only the ACPI namespace has.

use iommu::ids::{Bdf, PAGE_SIZE};
use serde::{Deserialize, Deserializer};

use super::plan::{Plan, Step};
use super::text::{Address, number};
use super::{DeviceSpec, TopologyError};
use crate::Error;
use crate::chipset::map::Range;

/// Boot data is below, which an operating system reads and writes.
const LOWEST_RESERVED: u64 = 1 << 20;
/// The highest address behind reserved memory: that of the largest host address width.
const HIGHEST_RESERVED: u64 = 1 << 52;

/// A remapping unit for some root ports and functions on bus 0: a DRHD structure without
/// `INCLUDE_PCI_ALL` (`VT-d 8.3`). The unit that each machine has is responsible for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drhd {
    /// Its name, for its settings.
    pub id: String,
    /// Root ports, with all that is below them, and functions on bus 0. Without any it is the unit
    /// with `INCLUDE_PCI_ALL` of a further PCI segment.
    #[serde(default)]
    pub scope: Names,
    /// Its PCI segment.
    #[serde(default, deserialize_with = "number")]
    pub segment: u16,
}

/// Memory that functions use by DMA before an operating system starts: an RMRR structure (`VT-d
/// 8.4`). The memory map has it as reserved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rmrr {
    /// Its name.
    pub id: String,
    /// The functions.
    pub scope: Names,
    /// Its first address, at the beginning of a page.
    #[serde(deserialize_with = "number")]
    pub base: u64,
    /// Its size in bytes: whole pages.
    #[serde(deserialize_with = "number")]
    pub size: u64,
}

/// A device without configuration space that does DMA: an ANDD structure (`VT-d 8.7`), and a device
/// of the same name in the DSDT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Andd {
    /// Its name in the namespace, below `\_SB`: one to four of A to Z, 0 to 9 and `_`.
    pub id: String,
    /// The source id of its requests, on bus 0.
    pub addr: Address,
}

/// Names of entries, with `+` between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(text.split('+').map(str::to_owned).collect()))
    }
}

/// A device scope of DMAR, from bus 0 down (`VT-d 8.3.1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceScope {
    /// The scope is a port with all that is below it, and not a single function.
    pub is_bridge: bool,
    /// The device and function numbers of the ports on the path, and of the target at its end.
    pub path: Vec<Address>,
}

/// A remapping unit besides the one with `INCLUDE_PCI_ALL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedUnit {
    /// The name of its entry.
    pub id: String,
    /// Root ports and functions on bus 0. No other unit has them.
    pub scopes: Vec<DeviceScope>,
}

impl ScopedUnit {
    /// The device and function numbers of its root ports and functions on bus 0.
    pub fn devfns(&self) -> impl Iterator<Item = u8> {
        self.scopes.iter().filter_map(|scope| scope.path.first()).map(|address| address.devfn())
    }
}

/// Reserved memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedMemory {
    /// The name of its entry.
    pub id: String,
    /// Whole pages.
    pub range: Range,
    /// The functions that use it.
    pub scopes: Vec<DeviceScope>,
}

impl ReservedMemory {
    /// Checks that it is in one of the pieces of memory `ram`.
    pub(crate) fn check(&self, ram: &[Range]) -> Result<(), Error> {
        let Range { start, size } = self.range;
        let holds = |piece: &Range| piece.start <= start && self.range.end() <= piece.end();
        if ram.iter().any(holds) {
            return Ok(());
        }
        let pieces: Vec<String> = ram
            .iter()
            .map(|piece| format!("{:#x} to {:#x}", piece.start, piece.end() - 1))
            .collect();
        let reason = format!("is not in memory, which is {}", pieces.join(" and "));
        Err(Error::ReservedMemory { id: self.id.clone(), start, end: start + size - 1, reason })
    }
}

/// A device of the ACPI namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceDevice {
    /// Its name below `\_SB`, one to four characters.
    pub name: String,
    /// The source id of its requests.
    pub source: Bdf,
}

/// The entries for ACPI tables, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) units: Vec<ScopedUnit>,
    pub(super) reserved: Vec<ReservedMemory>,
    pub(super) namespace: Vec<NamespaceDevice>,
}

impl Plan<'_> {
    /// Collects what ACPI tables say beyond ports and functions, which all have their places.
    pub(super) fn platform(&self) -> Result<Platform, TopologyError> {
        let mut platform = Platform::default();
        for (index, device) in self.devices.iter().enumerate() {
            match device {
                DeviceSpec::Drhd(drhd) => {
                    let unit = self.scoped_unit(index, drhd, &platform.units)?;
                    platform.units.push(unit);
                }
                DeviceSpec::Rmrr(rmrr) => {
                    let region = self.reserved_memory(index, rmrr)?;
                    self.check_overlap(index, &region, &platform.reserved)?;
                    platform.reserved.push(region);
                }
                DeviceSpec::Andd(andd) => {
                    let device = self.namespace_device(index, andd, &platform.namespace)?;
                    platform.namespace.push(device);
                }
                _ => {}
            }
        }
        Ok(platform)
    }

    fn scoped_unit(
        &self,
        index: usize,
        drhd: &Drhd,
        others: &[ScopedUnit],
    ) -> Result<ScopedUnit, TopologyError> {
        let mut unit = ScopedUnit { id: drhd.id.clone(), scopes: Vec::new() };
        for name in &drhd.scope.0 {
            let scope = self.scope(index, name)?;
            let [address] = scope.path[..] else {
                let reason = format!("'{name}' is not on bus 0; name the root port above it");
                return Err(self.error(index, reason));
            };
            let claims = |unit: &&ScopedUnit| unit.devfns().any(|devfn| devfn == address.devfn());
            if let Some(other) = others.iter().chain([&unit]).find(claims) {
                let reason =
                    format!("drhd '{}' has '{name}' already; a function has one unit", other.id);
                return Err(self.error(index, reason));
            }
            unit.scopes.push(scope);
        }
        Ok(unit)
    }

    fn reserved_memory(&self, index: usize, rmrr: &Rmrr) -> Result<ReservedMemory, TopologyError> {
        let Rmrr { id, scope, base, size } = rmrr;
        let error = |reason| Err(self.error(index, reason));
        if !base.is_multiple_of(PAGE_SIZE) || !size.is_multiple_of(PAGE_SIZE) || *size == 0 {
            return error(format!("base={base:#x},size={size:#x} are not whole pages of 0x1000"));
        }
        if *base < LOWEST_RESERVED {
            return error(format!("base={base:#x} is below 1 MiB, where boot data is"));
        }
        if base.checked_add(*size).is_none_or(|end| end > HIGHEST_RESERVED) {
            return error(format!(
                "base={base:#x},size={size:#x} ends above {HIGHEST_RESERVED:#x}"
            ));
        }
        let mut scopes = Vec::new();
        for name in &scope.0 {
            let found = self.scope(index, name)?;
            if found.is_bridge {
                return error(format!("'{name}' is a port; name functions below it"));
            }
            scopes.push(found);
        }
        Ok(ReservedMemory { id: id.clone(), range: Range { start: *base, size: *size }, scopes })
    }

    fn check_overlap(
        &self,
        index: usize,
        region: &ReservedMemory,
        others: &[ReservedMemory],
    ) -> Result<(), TopologyError> {
        let overlaps = |other: &&ReservedMemory| {
            region.range.start < other.range.end() && other.range.start < region.range.end()
        };
        let Some(other) = others.iter().find(overlaps) else { return Ok(()) };
        let (start, end) = (other.range.start, other.range.end() - 1);
        let reason = format!(
            "it overlaps rmrr '{}' at {start:#x} to {end:#x}; name all functions in one",
            other.id
        );
        Err(self.error(index, reason))
    }

    fn namespace_device(
        &self,
        index: usize,
        andd: &Andd,
        others: &[NamespaceDevice],
    ) -> Result<NamespaceDevice, TopologyError> {
        let Andd { id, addr } = andd;
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let starts_well = !id.starts_with(|c: char| c.is_ascii_digit());
        if !(1..=4).contains(&id.len()) || !id.chars().all(is_name) || !starts_well {
            let reason = "a name in the ACPI namespace has up to 4 of A to Z, 0 to 9 and _, and no digit \
                          first";
            return Err(self.error(index, format!("'{id}' cannot be: {reason}")));
        }
        if RESERVED_NAMES.contains(&id.trim_end_matches('_')) {
            return Err(self.error(index, format!("the DSDT has \\_SB.{id} already")));
        }
        let source = Bdf::from_bits(addr.devfn().into());
        let is_function = self.places.contains_key(&(None, *addr)) || addr.devfn() >> 3 == 0;
        if is_function || others.iter().any(|other| other.source == source) {
            return Err(self.error(index, format!("{addr} on bus 0 is another device's source id")));
        }
        Ok(NamespaceDevice { name: id.clone(), source })
    }

    /// The scope of the port or function `name`.
    pub(super) fn scope(&self, index: usize, name: &str) -> Result<DeviceScope, TopologyError> {
        if let Some(port) = self.ports.iter().position(|port| port.name == name) {
            let (above, devfn) = self.port_place(port);
            return Ok(DeviceScope { is_bridge: true, path: self.path(above, Address(devfn)) });
        }
        let named = self.devices.iter().position(|device| device.id() == Some(name));
        let place = named.and_then(|entry| self.places.iter().find(|(_, other)| **other == entry));
        match place {
            Some(((above, addr), _)) => {
                Ok(DeviceScope { is_bridge: false, path: self.path(*above, *addr) })
            }
            None => {
                let known: Vec<&str> =
                    self.places.values().filter_map(|entry| self.devices[*entry].id()).collect();
                let known = if known.is_empty() { "none" } else { &known.join(", ") };
                let reason =
                    format!("scope '{name}' names no function; those with a name: {known}");
                Err(self.error(index, reason))
            }
        }
    }

    /// The path to `addr` on the bus below the port `above`.
    fn path(&self, mut above: Option<usize>, addr: Address) -> Vec<Address> {
        let mut path = vec![addr];
        while let Some(port) = above {
            let (next, devfn) = self.port_place(port);
            path.push(Address(devfn));
            above = next;
        }
        path.reverse();
        path
    }

    /// The port above `port`, and its device and function number there.
    fn port_place(&self, port: usize) -> (Option<usize>, u8) {
        let mut ports = self.steps.iter().filter_map(|step| match step {
            Step::Port { above, devfn, .. } => Some((*above, *devfn)),
            Step::Function { .. } => None,
        });
        ports.nth(port).unwrap_or((None, 0))
    }
}

/// The names of other devices below `\_SB`.
const RESERVED_NAMES: [&str; 6] = ["PCI0", "PCI1", "PCI2", "PCI3", "MBRD", "COM1"];
