//! Options for the ports and functions of the machine, and `ghostlink devices`, which lists their types.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use devices::topology::{DeviceSpec, TYPES, Topology, TopologyError, simple_devices};
use lab::toml_file::{FileError, TomlFile};
use serde::Deserialize;
use toml::Spanned;

/// Options for the PCIe hierarchy.
#[derive(Debug, Args)]
pub(super) struct TopologyArgs {
    /// Root ports rp0, rp1.., each with an endpoint behind it, 1 to 8 [default: 2, or 0 with --device or
    /// --topology]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    ports: Option<u8>,

    /// Add a port, a switch or a function, such as switch,id=sw0,bus=rp0,ports=2; may be repeated,
    /// see 'ghostlink devices'
    #[arg(long, value_name = "DEVICE")]
    device: Vec<DeviceSpec>,

    /// TOML file with devices, each a table `[[device]]` with the same keys
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
}

/// An invalid hierarchy.
#[derive(Debug, thiserror::Error)]
pub(super) enum TopologyArgsError {
    /// The file is of no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// A device contradicts the others.
    #[error("{origin}: {device}: {reason}")]
    Device {
        /// The option or the place in a file that describes it.
        origin: String,
        /// The device, as written.
        device: String,
        /// The reason.
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    device: Vec<Spanned<DeviceSpec>>,
}

/// Devices, each with the place that describes it.
#[derive(Debug, Default)]
struct Described {
    devices: Vec<DeviceSpec>,
    origins: Vec<String>,
}

impl Described {
    fn add(&mut self, device: DeviceSpec, origin: String) {
        self.devices.push(device);
        self.origins.push(origin);
    }
}

impl TopologyArgs {
    /// The hierarchy of `--ports`, with `edus` devices `edu` (of the option `edu_option`), of the
    /// file, and of `--device`, all together.
    pub(super) fn into_topology(
        self,
        edus: Option<u8>,
        edu_option: &str,
    ) -> Result<Topology, TopologyArgsError> {
        let (ports, edus) = match (&self.topology, &self.device[..]) {
            (None, []) => (self.ports.unwrap_or(2), edus.unwrap_or(1)),
            _ => (self.ports.unwrap_or(0), edus.unwrap_or(0)),
        };
        let mut all = Described::default();
        for device in simple_devices(ports, 0) {
            all.add(device, "--ports".to_owned());
        }
        for device in simple_devices(0, edus) {
            all.add(device, edu_option.to_owned());
        }
        if let Some(path) = &self.topology {
            read(path, &mut all)?;
        }
        for device in self.device {
            all.add(device, "--device".to_owned());
        }
        let Described { devices, mut origins } = all;
        let topology = Topology::new(&devices).map_err(|error| {
            let TopologyError { index, device, reason } = error;
            TopologyArgsError::Device { origin: origins.swap_remove(index), device, reason }
        })?;
        for (device, origin) in devices.iter().zip(&origins) {
            if let Some(warning) = device.warning() {
                eprintln!("ghostlink: {origin}: {device}: {warning}");
            }
        }
        Ok(topology)
    }
}

fn read(path: &Path, all: &mut Described) -> Result<(), TopologyArgsError> {
    let file = TomlFile::read(path, "devices")?;
    for device in file.parse::<File>()?.device {
        let origin = file.origin(device.span().start);
        all.add(device.into_inner(), origin);
    }
    Ok(())
}

/// Lists the types with their keys.
pub(super) fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "--device TYPE,KEY=VALUE,.. or [[device]] in a file; defaults are in brackets.")?;
    for (name, keys) in TYPES {
        writeln!(out, "\n{name}")?;
        for (key, text) in keys {
            writeln!(out, "  {key:22} {text}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Topology, String> {
        let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = directory.as_path().join("topology.toml");
        std::fs::write(&path, text).unwrap();
        let args = TopologyArgs { ports: None, device: Vec::new(), topology: Some(path) };
        args.into_topology(None, "--edu").map_err(|error| error.to_string())
    }

    const GOOD: &str = r#"
[[device]]
type = "root-port"
id = "rp0"
slot = 3

[[device]]
type = "ats-endpoint"
bus = "rp0"
pri = false
serial = 0x1_0000_0000
"#;

    #[test]
    fn a_file_says_the_same_as_options() {
        let device = ["root-port,id=rp0,slot=3", "ats-endpoint,bus=rp0,pri=off,serial=0x100000000"];
        let device = device.map(|text| text.parse().unwrap()).to_vec();
        let options = TopologyArgs { ports: None, device, topology: None };
        assert_eq!(parse(GOOD), Ok(options.into_topology(None, "--edu").unwrap()));
    }

    #[test]
    fn short_forms_are_the_default() {
        let args = |ports, device| TopologyArgs { ports, device, topology: None };
        let simple = |args: TopologyArgs, edus| args.into_topology(edus, "--edu").unwrap();
        assert_eq!(simple(args(None, vec![]), Some(0)), Topology::simple(2, 0));
        assert_eq!(simple(args(Some(3), vec![]), None), Topology::simple(3, 1));
        let described: Vec<DeviceSpec> = simple_devices(1, 0);
        assert_eq!(simple(args(None, described), None), Topology::simple(1, 0));
    }

    #[test]
    fn mistakes_have_a_position_and_a_name() {
        for (wrong, line, expected) in [
            (GOOD.replace("\"root-port\"", "\"root-prot\""), 3, "unknown variant `root-prot`"),
            (GOOD.replace("slot = 3", "slto = 3"), 2, "unknown field `slto`, expected one of `id`"),
            (GOOD.replace("slot = 3", "slot = 300"), 2, "a number of 8 bits"),
            (GOOD.replace("bus = \"rp0\"", "bus = \"rp1\""), 7, "there is no port 'rp1'"),
            (GOOD.replace("serial", "addr = \"0.1\"\nserial"), 7, "give it to function 0"),
            (GOOD.replace("id = \"rp0\"", "id = rp0"), 4, "string"),
        ] {
            let error = parse(&wrong).unwrap_err();
            assert!(error.contains(&format!("line {line}, ")), "{error}");
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
