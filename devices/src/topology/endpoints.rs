//! The functions below ports: ATS test endpoints, and NVMe controllers with their namespaces.

use std::collections::BTreeMap;

use super::plan::{FunctionKind, Plan, Step};
use super::{Address, DeviceSpec, Disk, Endpoint, Namespace, Satc, TopologyError};
use crate::dma::atc::Geometry;
use crate::endpoint::{EndpointConfig, VirtualFunctions};
use crate::nvme::{MAX_NAMESPACES, NvmeFeatures};
use crate::pcie::readiness::NotReadyAnswer;

impl<'a> Plan<'a> {
    pub(super) fn add_endpoints(&mut self) -> Result<(), TopologyError> {
        let mut devices: BTreeMap<usize, Vec<(usize, &'a Endpoint)>> = BTreeMap::new();
        for (index, device) in self.devices.iter().enumerate() {
            let DeviceSpec::AtsEndpoint(endpoint) = device else { continue };
            let above = self.bus(index, &endpoint.bus)?;
            if let Some(other) = self.places.get(&(Some(above), Address::default()))
                && let DeviceSpec::Switch(switch) = &self.devices[*other]
            {
                let reason = format!("'{}' leads to switch '{}'", endpoint.bus, switch.id);
                return Err(self.error(index, reason));
            }
            if endpoint.ats && !self.ports[above].ats {
                let reason = "ATS is on, and the root port has ats=off; give it ats=off, too";
                return Err(self.error(index, reason.to_owned()));
            }
            self.place(index, Some(above), endpoint.addr)?;
            devices.entry(above).or_default().push((index, endpoint));
        }
        for (above, mut functions) in devices {
            functions.sort_by_key(|(_, endpoint)| endpoint.addr);
            self.add_functions(above, &functions)?;
        }
        Ok(())
    }

    /// Adds the functions of one device, in the order of their numbers.
    fn add_functions(
        &mut self,
        above: usize,
        functions: &[(usize, &Endpoint)],
    ) -> Result<(), TopologyError> {
        let mut physical = functions.iter().filter(|(_, endpoint)| endpoint.vfs > 0);
        let (with_vfs, second) = (physical.next(), physical.next());
        if let Some((index, _)) = second {
            let reason = "another function of the device has virtual functions; one can".to_owned();
            return Err(self.error(*index, reason));
        }
        let last = functions.last().map_or(0, |(_, endpoint)| endpoint.addr.devfn());
        let virtual_functions = match with_vfs {
            Some((index, pf)) => {
                Some(self.virtual_functions(*index, pf.vfs, pf.addr.devfn(), last)?)
            }
            None => None,
        };
        let has_ari = last > 7 || with_vfs.is_some();
        for (at, (index, endpoint)) in functions.iter().enumerate() {
            let devfn = endpoint.addr.devfn();
            let next = functions.get(at + 1).map_or(0, |(_, next)| next.addr.devfn());
            let (entries, ways) = endpoint.entries_and_ways();
            let config = EndpointConfig {
                ats: endpoint.ats,
                ats_features: endpoint.ats_features(),
                pri: endpoint.pri.unwrap_or(endpoint.ats),
                pasid: endpoint.pasid,
                atc: Geometry::new(entries, ways).unwrap_or_default(),
                traffic: endpoint.traffic,
                immediate_readiness: endpoint.ready == NotReadyAnswer::Immediate,
                serial: serial(functions[0].1),
                is_multi_function: functions.len() > 1,
                is_function_0: devfn == 0,
                next_function: has_ari.then_some(next),
                virtual_functions: virtual_functions.filter(|_| endpoint.vfs > 0),
            };
            let kind = FunctionKind::AtsEndpoint(config);
            let (above, satc, device) = (Some(above), Satc::Off, &self.devices[*index]);
            let (readiness, ids) = (device.readiness(), device.ids());
            self.steps.push(Step::Function { above, devfn, kind, readiness, satc, ids });
        }
        Ok(())
    }

    /// The `total` virtual functions of the function at `devfn`. The device's last function is at
    /// `last`.
    fn virtual_functions(
        &mut self,
        index: usize,
        total: u16,
        devfn: u8,
        last: u8,
    ) -> Result<VirtualFunctions, TopologyError> {
        let last_virtual = u16::from(last) + total;
        if last_virtual > 0xff {
            let reason = format!("vfs={total} are more than the function numbers left");
            return Err(self.error(index, reason));
        }
        // Without ARI they are on the next bus.
        let needs_ari = last_virtual > 7;
        self.virtual_buses += usize::from(needs_ari);
        if self.ports.len() + self.virtual_buses > self.max_buses {
            let reason = "there are no bus numbers left for its virtual functions".to_owned();
            return Err(self.error(index, reason));
        }
        let offset = u16::from(last - devfn) + 1;
        Ok(VirtualFunctions { total, offset, needs_ari })
    }

    pub(super) fn add_disks(&mut self) -> Result<(), TopologyError> {
        self.check_namespaces()?;
        for (index, device) in self.devices.iter().enumerate() {
            let DeviceSpec::Nvme(disk) = device else { continue };
            let above = self.bus(index, &disk.bus)?;
            if disk.ats && !self.ports[above].ats {
                let reason = "it has ATS, and the root port has ats=off; give it ats=off, too";
                return Err(self.error(index, reason.to_owned()));
            }
            let beside = (Some(above), Address::default())..=(Some(above), Address::new(0x1f, 7));
            if let Some((_, other)) = self.places.range(beside).next() {
                let reason = format!("'{}' has {} already", disk.bus, self.devices[*other]);
                return Err(self.error(index, reason));
            }
            self.place(index, Some(above), Address::default())?;
            let serial = disk.id.as_ref().unwrap_or(&disk.bus).clone();
            let more = namespaces_of(self.devices, disk).map(|(_, namespace)| namespace.medium());
            let namespaces = std::iter::once(disk.medium()).chain(more).collect();
            let immediate_readiness = disk.ready == NotReadyAnswer::Immediate;
            let virtual_functions = match disk.vfs {
                Some(total) => Some(self.virtual_functions(index, total, 0, 0)?),
                None => None,
            };
            let (ats, hang_after) = (disk.ats, disk.hang);
            let features = NvmeFeatures { ats, immediate_readiness, hang_after, virtual_functions };
            let kind = FunctionKind::Nvme { serial, namespaces, features };
            let (above, devfn, satc) = (Some(above), 0, Satc::Off);
            let (readiness, ids) = (device.readiness(), device.ids());
            self.steps.push(Step::Function { above, devfn, kind, readiness, satc, ids });
        }
        Ok(())
    }

    /// Checks that each namespace has a controller, and that no controller has too many.
    fn check_namespaces(&self) -> Result<(), TopologyError> {
        for (index, device) in self.devices.iter().enumerate() {
            let DeviceSpec::NvmeNs(namespace) = device else { continue };
            let is_it = |device: &&DeviceSpec| device.id() == Some(&namespace.bus);
            let reason = match self.devices.iter().find(is_it) {
                Some(DeviceSpec::Nvme(disk)) => {
                    // The controller's own entry is namespace 1.
                    let before = namespaces_of(self.devices, disk).filter(|(at, _)| *at < index);
                    if before.count() + 1 < MAX_NAMESPACES {
                        continue;
                    }
                    format!("'{}' can have {MAX_NAMESPACES} namespaces", namespace.bus)
                }
                Some(other) => format!("{other} is no NVMe controller"),
                None => {
                    let name = &namespace.bus;
                    format!("there is no NVMe controller '{name}'; add one with id={name}")
                }
            };
            return Err(self.error(index, reason));
        }
        Ok(())
    }
}

/// The namespaces of a controller beyond the first, each with the index of its entry.
fn namespaces_of<'a>(
    devices: &'a [DeviceSpec],
    disk: &'a Disk,
) -> impl Iterator<Item = (usize, &'a Namespace)> {
    devices.iter().enumerate().filter_map(|(index, device)| match device {
        DeviceSpec::NvmeNs(namespace) if Some(&namespace.bus) == disk.id.as_ref() => {
            Some((index, namespace))
        }
        _ => None,
    })
}

/// The serial number: that of the entry, or the FNV-1a hash of the name. It is the same in each
/// run.
fn serial(function_0: &Endpoint) -> u64 {
    let name = function_0.id.as_ref().unwrap_or(&function_0.bus);
    let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    function_0.serial.unwrap_or_else(|| name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}
