//! Checks of entries that need no addresses: names, ranges, and keys that exclude each other.

use std::collections::HashMap;
use std::mem::discriminant;
use std::path::Path;

use crate::dma::atc::Geometry;
use crate::pcie::caps::ats::AtsFeatures;
use crate::pcie::header::Ids;

use super::{
    DeviceSpec, Disk, Endpoint, MAX_MIB, MAX_ROOT_PORTS, MAX_SWITCH_PORTS, MAX_VFS, TopologyError,
};

/// Checks each entry, and the names of all.
pub(super) fn check(devices: &[DeviceSpec]) -> Result<(), TopologyError> {
    let mut names: HashMap<&str, &DeviceSpec> = HashMap::new();
    let mut root_ports = 0;
    let mut files: HashMap<&Path, &DeviceSpec> = HashMap::new();
    let mut onboard: Vec<&DeviceSpec> = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let error = |reason| TopologyError { index, device: device.to_string(), reason };
        if let Some(id) = device.id() {
            check_id(id).map_err(error)?;
            if let Some(other) = names.insert(id, device) {
                return Err(error(format!("{other} has that name, too; choose another")));
            }
        }
        check_ids(device.ids()).map_err(error)?;
        match device.media() {
            (Some(_), Some(_)) => {
                return Err(error(
                    "a namespace is in memory or in a file: mib= or file=".to_owned(),
                ));
            }
            (Some(mib), None) if !(1..=MAX_MIB).contains(&mib) => {
                return Err(error(format!("mib={mib} is not 1 to {MAX_MIB}")));
            }
            (None, Some(path)) => {
                if let Some(other) = files.insert(path, device) {
                    return Err(error(format!("{other} is in '{}' already", path.display())));
                }
            }
            _ => {}
        }
        match device {
            DeviceSpec::RootPort(_) => {
                root_ports += 1;
                if root_ports > MAX_ROOT_PORTS {
                    return Err(error(format!("there can be {MAX_ROOT_PORTS} root ports")));
                }
            }
            DeviceSpec::Switch(switch) if !(1..=MAX_SWITCH_PORTS).contains(&switch.ports) => {
                let ports = switch.ports;
                return Err(error(format!("ports={ports} is not 1 to {MAX_SWITCH_PORTS}")));
            }
            DeviceSpec::AtsEndpoint(endpoint) => check_endpoint(endpoint).map_err(error)?,
            DeviceSpec::Nvme(disk) => check_disk(disk).map_err(error)?,
            DeviceSpec::Hpet(_) | DeviceSpec::PcTestdev(_) => {
                let same = |other: &&&DeviceSpec| discriminant(**other) == discriminant(device);
                if let Some(other) = onboard.iter().find(same) {
                    return Err(error(format!("there is one already ({other}); leave one out")));
                }
                onboard.push(device);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Software takes these vendors for an empty place.
fn check_ids(ids: Ids) -> Result<(), String> {
    if let Some(vendor @ (0 | 0xffff)) = ids.vendor {
        return Err(format!(
            "vendor={vendor:#x} says that no function is there (PCIe 7.5.1.1.1); give another"
        ));
    }
    Ok(())
}

fn check_id(id: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || !id.chars().all(is_plain) {
        return Err(format!("'{id}' is no name; write letters, digits, - and _"));
    }
    Ok(())
}

fn check_disk(disk: &Disk) -> Result<(), String> {
    match disk.vfs {
        Some(vfs) if !(1..=MAX_VFS).contains(&vfs) => Err(format!(
            "vfs={vfs} is not 1 to {MAX_VFS}; leave vfs= out for a controller without SR-IOV"
        )),
        _ => Ok(()),
    }
}

fn check_endpoint(endpoint: &Endpoint) -> Result<(), String> {
    if endpoint.pri == Some(true) && !endpoint.ats {
        return Err("page requests need ATS (PCIe 10.4); leave pri=on or ats=off out".to_owned());
    }
    if !endpoint.ats && (endpoint.atc.is_some() || endpoint.ways.is_some()) {
        return Err("without ATS there is no ATC; leave atc=, ways= or ats=off out".to_owned());
    }
    let (depth, deepest) = (endpoint.ats_features().queue_depth, AtsFeatures::MAX_QUEUE_DEPTH);
    if !(1..=deepest).contains(&depth) {
        return Err(format!("queue_depth={depth} is not 1 to {deepest}"));
    }
    let (atc, ways) = endpoint.entries_and_ways();
    if Geometry::new(atc, ways).is_none() {
        let most = Geometry::MAX_ENTRIES;
        return Err(format!(
            "atc={atc},ways={ways} cannot be; atc=, up to {most}, is ways= times a power of two"
        ));
    }
    if endpoint.vfs > MAX_VFS {
        return Err(format!("vfs={} is more than {MAX_VFS}", endpoint.vfs));
    }
    if endpoint.serial.is_some() && endpoint.addr.devfn() != 0 {
        return Err("the device has one serial number; give it to function 0".to_owned());
    }
    Ok(())
}
