//! Options that say how the remapping units are built.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use devices::root_complex::{IO_APIC_ID, RootComplexConfig};
use iommu::event::UnitRole;
use iommu::ids::{Bdf, ParseBdfError};
use iommu::time::Timeout;
use iommu::unit::{Ordering, ParseUnitPresetError, UnitConfig, UnitPreset};
use lab::toml_file::TomlFile;
pub(super) use scenario::unit::UnitError;
use scenario::unit::{Units, with};
use toml::Value;

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
            units.change(settings, Some(&path))?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
