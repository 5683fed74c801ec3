//! PCI segments besides segment 0: each has a root bus, remapping units and configuration space of its
//! own, so that a function in it can have the number of one in another segment.
//!
//! Root ports and units say which segment they are in; all else is where the port above it is. The
//! entries of each segment are planned as those of a machine without others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::plan::Step;
use super::platform::{Drhd, Platform};
use super::{DeviceSpec, MAX_BUSES, Topology, TopologyError, plan};
use crate::chipset::map::{MAX_SEGMENTS, MAX_UNITS, segment_ecam};

/// Buses below bus 0 of a further segment, which its ECAM has.
const MAX_SEGMENT_BUSES: usize = (segment_ecam(0).size >> 20) as usize - 1;

/// A PCI segment besides segment 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its number, from 1.
    pub number: u16,
    /// The name of its unit with `INCLUDE_PCI_ALL`.
    pub unit: String,
    /// Its root ports with all below them, and its units for some of those.
    pub topology: Topology,
}

/// The steps that build segment 0, what firmware reports of it besides, and the further segments.
pub(super) fn plan(
    devices: &[DeviceSpec],
) -> Result<(Vec<Step>, Platform, Vec<Segment>), TopologyError> {
    let entries = Entries::new(devices);
    entries.check_units()?;
    let numbers = entries.check_numbers()?;
    let (steps, platform) = entries.plan(0, MAX_BUSES)?;
    let segment = |(number, unit): (u16, &Drhd)| {
        let (steps, platform) = entries.plan(number, MAX_SEGMENT_BUSES)?;
        let topology = Topology { steps, platform, ..Topology::default() };
        Ok(Segment { number, unit: unit.id.clone(), topology })
    };
    let segments = numbers.into_iter().map(segment).collect::<Result<_, _>>()?;
    Ok((steps, platform, segments))
}

/// All entries, each with its segment.
struct Entries<'a> {
    devices: &'a [DeviceSpec],
    segments: Vec<u16>,
}

impl<'a> Entries<'a> {
    fn new(devices: &'a [DeviceSpec]) -> Self {
        let mut named: HashMap<&str, u16> = HashMap::new();
        let mut segments = vec![0; devices.len()];
        // An entry can stand in front of the one that it is below: each round gets one level down.
        loop {
            let before = named.len();
            for (device, segment) in devices.iter().zip(&mut segments) {
                let found = match device {
                    DeviceSpec::RootPort(port) => Some(port.segment),
                    DeviceSpec::Drhd(unit) => Some(unit.segment),
                    _ => match device.bus() {
                        Some(bus) => named.get(entry(bus)).copied(),
                        None => Some(0),
                    },
                };
                *segment = found.unwrap_or(0);
                if let (Some(id), Some(segment)) = (device.id(), found) {
                    named.insert(id, segment);
                }
            }
            if named.len() == before {
                return Self { devices, segments };
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a DeviceSpec, u16)> {
        let entries = self.devices.iter().zip(&self.segments).enumerate();
        entries.map(|(index, (device, segment))| (index, device, *segment))
    }

    fn error<T>(&self, index: usize, reason: String) -> Result<T, TopologyError> {
        Err(TopologyError { index, device: self.devices[index].to_string(), reason })
    }

    /// The further segments with their units for the rest, in ascending order. Each has a unit and a
    /// root port.
    fn check_numbers(&self) -> Result<BTreeMap<u16, &'a Drhd>, TopologyError> {
        let mut seen = BTreeSet::new();
        for (index, _, segment) in self.iter().filter(|(.., segment)| *segment != 0) {
            if seen.insert(segment) && seen.len() > MAX_SEGMENTS {
                let reason = format!(
                    "segment={segment} is one too many; there are addresses for {MAX_SEGMENTS} \
                     segments besides segment 0"
                );
                return self.error(index, reason);
            }
        }
        let mut units = BTreeMap::new();
        for (index, device, segment) in self.iter() {
            let DeviceSpec::Drhd(drhd) = device else { continue };
            let has_port = |(_, device, other): (usize, &DeviceSpec, u16)| {
                matches!(device, DeviceSpec::RootPort(_)) && other == segment
            };
            if segment != 0 && !self.iter().any(has_port) {
                let reason =
                    format!("segment {segment} is empty; add a root-port with segment={segment}");
                return self.error(index, reason);
            }
            if !drhd.scope.0.is_empty() {
                continue;
            }
            if segment == 0 {
                let reason = "the rest of segment 0 has a unit already; give it scope=, or another \
                              segment=";
                return self.error(index, reason.to_owned());
            }
            if let Some(other) = units.insert(segment, drhd) {
                let reason = format!(
                    "drhd '{}' is the unit for the rest of segment {segment} already; give one of \
                     them scope=",
                    other.id
                );
                return self.error(index, reason);
            }
        }
        let without = |(.., segment): &(usize, &DeviceSpec, u16)| {
            *segment != 0 && !units.contains_key(segment)
        };
        match self.iter().find(without) {
            Some((index, _, segment)) => self.error(
                index,
                format!(
                    "segment {segment} has no unit for all of its functions; add \
                     drhd,id=NAME,segment={segment} without scope="
                ),
            ),
            None => Ok(units),
        }
    }

    /// There are not too many units, and what scopes name is in their segments.
    fn check_units(&self) -> Result<(), TopologyError> {
        let mut units = 1;
        for (index, device, segment) in self.iter() {
            let (scope, rule) = match device {
                DeviceSpec::Drhd(drhd) if units == MAX_UNITS => {
                    let reason = format!(
                        "a machine can have {MAX_UNITS} units, with the one for the rest of segment 0; \
                         drhd '{}' is one too many",
                        drhd.id
                    );
                    return self.error(index, reason);
                }
                DeviceSpec::Drhd(drhd) => {
                    (&drhd.scope, "a unit has functions of its own segment only")
                }
                DeviceSpec::Rmrr(rmrr) => {
                    (&rmrr.scope, "only functions in segment 0 have such memory")
                }
                _ => continue,
            };
            units += usize::from(matches!(device, DeviceSpec::Drhd(_)));
            for name in &scope.0 {
                let is_it = |(_, device, _): &(usize, &DeviceSpec, u16)| {
                    device.id().is_some_and(|id| id == entry(name))
                };
                if let Some((.., other)) = self.iter().find(is_it)
                    && other != segment
                {
                    let reason =
                        format!("'{name}' is in segment {other}, not in {segment}; {rule}");
                    return self.error(index, reason);
                }
            }
        }
        Ok(())
    }

    /// Plans the entries of one segment. Its unit for the rest is no step.
    fn plan(&self, segment: u16, buses: usize) -> Result<(Vec<Step>, Platform), TopologyError> {
        if self.segments.iter().all(|other| *other == segment) {
            return plan::plan(self.devices, buses);
        }
        let is_rest = |device: &DeviceSpec| matches!(device, DeviceSpec::Drhd(drhd) if drhd.scope.0.is_empty());
        let own = self.iter().filter(|(_, device, of)| *of == segment && !is_rest(device));
        let (indices, devices): (Vec<usize>, Vec<DeviceSpec>) =
            own.map(|(index, device, _)| (index, device.clone())).unzip();
        plan::plan(&devices, buses)
            .map_err(|error| TopologyError { index: indices[error.index], ..error })
    }
}

/// The entry with the port `name`: of a switch's port the switch.
fn entry(name: &str) -> &str {
    name.split_once('.').map_or(name, |(switch, _)| switch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(texts: &[&str]) -> Result<Topology, String> {
        let devices: Vec<DeviceSpec> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Topology::new(&devices).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_below_a_port_is_in_its_segment_whatever_the_order() {
        let topology = topology(&[
            "nvme,id=disk,bus=sw.1",
            "switch,id=sw,bus=far,ports=2",
            "root-port,id=near",
            "ats-endpoint,bus=near",
            "root-port,id=far,segment=0x10",
            "drhd,id=u,segment=16",
            "drhd,id=v,segment=16,scope=far",
        ])
        .unwrap();
        let [segment] = topology.segments() else { panic!("{topology:?}") };
        assert_eq!((segment.number, &segment.unit[..]), (16, "u"));
        let ports = |topology: &Topology| topology.root_ports().map(|port| port.function).collect();
        let (near, far): (Vec<_>, Vec<_>) = (ports(&topology), ports(&segment.topology));
        assert_eq!(near, far, "both are 00:01.0");
        assert_eq!(topology.units().len(), 0);
        assert_eq!(segment.topology.units()[0].id, "v");
        let names: Vec<_> = topology.port_infos().into_iter().map(|port| port.name).collect();
        assert_eq!(names, ["near", "far", "sw", "sw.0", "sw.1"]);
    }

    #[test]
    fn refusals_name_the_entry_and_what_to_do() {
        let far = "root-port,id=far,segment=1";
        let unit = "drhd,id=u,segment=1";
        let cases: [(&[&str], &str); 10] = [
            (&["root-port,id=rp0", far], "device 2 (root-port 'far'): segment 1 has no unit"),
            (
                &[far, "drhd,id=u,segment=1,scope=far"],
                "device 1 (root-port 'far'): segment 1 has no unit",
            ),
            (
                &[far, "root-port,id=rp", "drhd,id=u,segment=2"],
                "device 3 (drhd 'u'): segment 2 is empty; add a root-port with segment=2",
            ),
            (
                &[far, unit, "drhd,id=v,segment=1"],
                "device 3 (drhd 'v'): drhd 'u' is the unit for the rest of segment 1 already",
            ),
            (&["root-port,id=rp0", "drhd,id=v"], "device 2 (drhd 'v'): the rest of segment 0 has"),
            (
                &["root-port,id=rp0", far, unit, "drhd,id=v,segment=1,scope=rp0"],
                "device 4 (drhd 'v'): 'rp0' is in segment 0, not in 1; a unit has functions of its \
                 own segment only",
            ),
            (
                &["root-port,id=rp0", far, unit, "drhd,id=v,scope=far"],
                "device 4 (drhd 'v'): 'far' is in segment 1, not in 0; a unit has functions of its \
                 own segment only",
            ),
            (
                &[far, unit, "nvme,id=d,bus=far", "rmrr,id=r,scope=d,base=0x200000,size=0x1000"],
                "device 4 (rmrr 'r'): 'd' is in segment 1, not in 0; only functions in segment 0 \
                 have such memory",
            ),
            (
                &[
                    far,
                    unit,
                    "root-port,id=b,segment=2",
                    "root-port,id=c,segment=3",
                    "root-port,id=d,segment=65535",
                ],
                "device 5 (root-port 'd'): segment=65535 is one too many; there are addresses for 3",
            ),
            (
                &[far, unit, "ats-endpoint,bus=far,id=e", "ats-endpoint,bus=far,id=f"],
                "device 4 (ats-endpoint 'f'): 00.0 below 'far' is taken by ats-endpoint 'e'",
            ),
        ];
        for (texts, expected) in cases {
            let error = topology(texts).unwrap_err();
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
        let error = "root-port,id=a,segment=65536".parse::<DeviceSpec>().unwrap_err().to_string();
        assert!(error.contains("65536") && error.contains("16 bits"), "{error}");
    }

    #[test]
    fn units_of_all_segments_count_and_a_segment_has_as_many_buses_as_its_ecam() {
        let mut texts =
            vec!["root-port,id=far,segment=1".to_owned(), "drhd,id=u,segment=1".to_owned()];
        texts.push("switch,id=sw,bus=far,ports=32".to_owned());
        let plan = |texts: &[String]| topology(&texts.iter().map(|t| &t[..]).collect::<Vec<_>>());
        assert!(plan(&texts).is_ok());
        texts.push("switch,id=sx,bus=sw.0,ports=32".to_owned());
        let error = plan(&texts).unwrap_err();
        assert!(error.contains("'sx'") && error.contains("no bus numbers left"), "{error}");
        texts.truncate(2);
        for n in 0..7 {
            texts.push(format!("root-port,id=p{n}"));
            texts.push(format!("drhd,id=d{n},scope=p{n}"));
        }
        let error = plan(&texts).unwrap_err();
        assert!(error.contains("drhd 'd6' is one too many"), "{error}");
        texts.truncate(14);
        assert!(plan(&texts).is_ok());
    }
}
