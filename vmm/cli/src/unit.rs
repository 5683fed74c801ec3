//! Options that say how the remapping units are built.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use devices::root_complex::{IO_APIC_ID, RootComplexConfig};
use iommu::event::UnitRole;
use iommu::ids::{Bdf, ParseBdfError};
use iommu::time::Timeout;
use iommu::unit::{Ordering, ParseUnitPresetError, UnitConfig, UnitConfigError, UnitPreset};
use lab::toml_file::{FileError, TomlFile};
use toml::{Table, Value};

use super::host::HostChoice;

/// Options for the guest's unit, and for the physical one if a host is below the guest.
#[derive(Debug, Args)]
pub(super) struct UnitArgs {
    /// Time that a function has for its answer before the physical unit raises ITE, or never. The
    /// physical unit is the guest's own, or that of a forwarded host
    #[arg(long, value_name = "TIME", default_value = "60s")]
    ict: Timeout,

    /// Order in which waits in the units' queues complete: serial (after everything in front), parallel
    /// (after what stands between a wait and the previous one), or blocking (as serial, and nothing is
    /// fetched behind a pending wait)
    #[arg(long, value_name = "ORDER", default_value_t)]
    ordering: Ordering,

    #[arg(
        long,
        value_name = "KEY=VALUE",
        // Not a doc comment, which would want backticks.
        help = "Settings of the remapping units: preset=server-legacy, server-scalable or full, then \
                others such as interrupt_remapping=true; NAME.KEY=VALUE is for the unit of --device \
                drhd,id=NAME; may be repeated, and overrides all else"
    )]
    unit: Vec<Setting>,

    /// TOML file with such settings
    #[arg(long, value_name = "FILE")]
    unit_config: Option<PathBuf>,

    /// Requester id of the I/O APIC for interrupt remapping, or none for no source validation
    #[arg(long, value_name = "BUS:DEVICE.FUNCTION", default_value_t = RequesterId(Some(IO_APIC_ID)))]
    io_apic_id: RequesterId,
}

/// A requester id, or `none`.
#[derive(Debug, Clone, Copy)]
struct RequesterId(Option<Bdf>);

impl FromStr for RequesterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => text
                .parse()
                .map(|id| Self(Some(id)))
                .map_err(|error: ParseBdfError| format!("{error}; or none")),
        }
    }
}

impl fmt::Display for RequesterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// One setting, as a line of TOML says it. A text may be without quotation marks.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    /// The argument of `--unit`, for messages.
    text: String,
    key: String,
    value: Value,
}

/// The argument is not `KEY=VALUE`.
#[derive(Debug, thiserror::Error)]
#[error("a setting is KEY=VALUE, such as interrupt_remapping=true or fault_records=1")]
struct NotASetting;

impl FromStr for Setting {
    type Err = NotASetting;

    fn from_str(text: &str) -> Result<Self, NotASetting> {
        let (key, value) = text.split_once('=').ok_or(NotASetting)?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || value.is_empty() {
            return Err(NotASetting);
        }
        let parsed = value.parse().unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok(Self { text: text.to_owned(), key: key.to_owned(), value: parsed })
    }
}

impl Setting {
    /// The preset that it names.
    fn preset(&self) -> Result<UnitPreset, UnitError> {
        let name = self.value.as_str().unwrap_or_default();
        name.parse().map_err(|error: ParseUnitPresetError| UnitError::Setting {
            origin: format!("'{}'", self.text),
            reason: error.to_string(),
        })
    }
}

/// Invalid settings of the unit.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnitError {
    /// The file is of no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// A setting does not exist, or not with that value.
    #[error("{origin} is not a setting of the unit: {reason}")]
    Setting {
        /// The option or the file that has it.
        origin: String,
        /// The rule that the setting breaks.
        reason: String,
    },
    /// The settings contradict each other.
    #[error(transparent)]
    Impossible(#[from] UnitConfigError),
    /// Those of a further unit do.
    #[error("unit '{name}': {error}")]
    Further {
        /// Its name.
        name: String,
        /// The contradiction.
        error: UnitConfigError,
    },
}

impl UnitArgs {
    /// A root complex with such units.
    pub(super) fn into_root_complex(
        self,
        host: HostChoice,
    ) -> Result<RootComplexConfig, UnitError> {
        let io_apic = self.io_apic_id.0;
        let (unit, unit_settings) = self.into_configs()?;
        Ok(RootComplexConfig { io_apic, unit_settings, ..host.into_root_complex(unit) })
    }

    /// The physical unit, and the further units with settings of their own.
    fn into_configs(self) -> Result<(UnitConfig, Vec<(String, UnitConfig)>), UnitError> {
        let (presets, settings): (Vec<_>, Vec<_>) =
            self.unit.into_iter().partition(|setting| setting.key == "preset");
        let base = match presets.last() {
            Some(setting) => setting.preset()?.config(UnitRole::Guest),
            None => UnitConfig::new(UnitRole::Guest),
        };
        let mut units = Units::new(UnitConfig { ict: self.ict, ordering: self.ordering, ..base });
        if let Some(path) = self.unit_config {
            let settings = TomlFile::read(&path, "settings of the unit")?.parse()?;
            units.change(settings, &path)?;
        }
        let (further, settings): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|setting| setting.key.contains('.'));
        for Setting { text, key, value } in settings {
            units.first = with(units.first, [(key, value)], || format!("'{text}'"))?;
        }
        for Setting { text, key, value } in further {
            let (name, key) = key.split_once('.').unwrap_or_default();
            let unit = units.further(name);
            *unit = with(*unit, [(key.to_owned(), value)], || format!("'{text}'"))?;
        }
        units.check()
    }
}

/// A root complex with units as `settings`, which are from the file `path`, have them.
pub(super) fn root_complex(
    host: HostChoice,
    settings: Table,
    path: &Path,
) -> Result<RootComplexConfig, UnitError> {
    let mut units = Units::new(UnitConfig::new(UnitRole::Guest));
    units.change(settings, path)?;
    let (unit, unit_settings) = units.check()?;
    Ok(RootComplexConfig { unit_settings, ..host.into_root_complex(unit) })
}

/// The unit that each machine has, and the further ones with settings of their own.
struct Units {
    first: UnitConfig,
    further: Vec<(String, UnitConfig)>,
}

impl Units {
    fn new(first: UnitConfig) -> Self {
        Self { first, further: Vec::new() }
    }

    /// The further unit of that name, which is as the first one until it is changed.
    fn further(&mut self, name: &str) -> &mut UnitConfig {
        let index = self.further.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            self.further.push((name.to_owned(), self.first));
            self.further.len() - 1
        });
        &mut self.further[index].1
    }

    /// Changes what the file `path` says: a table is of the unit with its name.
    fn change(&mut self, settings: Table, path: &Path) -> Result<(), UnitError> {
        let (further, settings): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|(_, value)| value.is_table());
        let origin = |text: &str| format!("'{}' in '{}'", text.trim(), path.display());
        for setting in settings {
            let shown = Table::from_iter([setting.clone()]).to_string();
            self.first = with(self.first, [setting], || origin(&shown))?;
        }
        for (name, settings) in further {
            let unit = self.further(&name);
            for setting in settings.as_table().cloned().unwrap_or_default() {
                let shown = format!("{name}.{}", Table::from_iter([setting.clone()]));
                *unit = with(*unit, [setting], || origin(&shown))?;
            }
        }
        Ok(())
    }

    fn check(self) -> Result<(UnitConfig, Vec<(String, UnitConfig)>), UnitError> {
        self.first.check()?;
        for (name, unit) in &self.further {
            unit.check().map_err(|error| UnitError::Further { name: name.clone(), error })?;
        }
        Ok((self.first, self.further))
    }
}

/// The unit with some settings changed.
fn with(
    config: UnitConfig,
    settings: [(String, Value); 1],
    origin: impl FnOnce() -> String,
) -> Result<UnitConfig, UnitError> {
    let change = || {
        let mut table = Table::try_from(config).map_err(|error| error.to_string())?;
        table.extend(settings);
        table.try_into().map_err(|error: toml::de::Error| first_line(error.message()))
    };
    change().map_err(|reason| UnitError::Setting { origin: origin(), reason })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostChoice;

    fn units(text: &str) -> Result<RootComplexConfig, String> {
        let settings = text.parse().unwrap();
        root_complex(HostChoice::Direct, settings, Path::new("file")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_table_has_the_settings_of_the_unit_with_its_name() {
        let config =
            units("fault_records = 4\n[u]\nfault_records = 1\n[v]\ndomain_bits = 8").unwrap();
        assert_eq!(config.guest_unit.fault_records, 4);
        let settings = config.unit_settings.iter();
        let settings: Vec<_> = settings
            .map(|(name, unit)| (&name[..], unit.fault_records, unit.domain_bits))
            .collect();
        assert_eq!(settings, [("u", 1, 16), ("v", 4, 8)], "the others are those of the first unit");
    }

    #[test]
    fn options_have_the_name_in_front_of_the_key() {
        let unit = ["u.fault_records=1", "fault_records=4", "u.proximity=2"];
        let args = UnitArgs {
            ict: Timeout::Never,
            ordering: Ordering::Serial,
            unit: unit.map(|text| text.parse().unwrap()).to_vec(),
            unit_config: None,
            io_apic_id: RequesterId(None),
        };
        let (first, further) = args.into_configs().unwrap();
        assert_eq!((first.fault_records, first.proximity), (4, None));
        let [(name, unit)] = &further[..] else { panic!("{further:?}") };
        assert_eq!((&name[..], unit.fault_records, unit.proximity), ("u", 1, Some(2)));
    }

    #[test]
    fn errors_name_the_unit() {
        for (text, expected) in [
            ("[u]\ndomain_bits = 5", "unit 'u': impossible remapping unit: domain_bits"),
            ("[u]\ndomain_bit = 5", "'u.domain_bit = 5' in 'file' is not a setting of the unit"),
        ] {
            let error = units(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
