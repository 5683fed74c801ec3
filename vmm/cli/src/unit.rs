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

    /// Whether a wait in the units' queues completes after everything in front of it (serial), or
    /// only after what stands between it and the previous wait (parallel)
    #[arg(long, value_name = "ORDER", default_value_t)]
    ordering: Ordering,

    #[arg(
        long,
        value_name = "KEY=VALUE",
        // Not a doc comment, which would want backticks.
        help = "Settings of the remapping units: preset=server-legacy, server-scalable or full, then \
                others such as interrupt_remapping=true; may be repeated, and overrides all else"
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
}

impl UnitArgs {
    /// A root complex with such units.
    pub(super) fn into_root_complex(
        self,
        host: HostChoice,
    ) -> Result<RootComplexConfig, UnitError> {
        let io_apic = self.io_apic_id.0;
        Ok(RootComplexConfig { io_apic, ..host.into_root_complex(self.into_config()?) })
    }

    /// The physical unit.
    fn into_config(self) -> Result<UnitConfig, UnitError> {
        let (presets, settings): (Vec<_>, Vec<_>) =
            self.unit.into_iter().partition(|setting| setting.key == "preset");
        let base = match presets.last() {
            Some(setting) => setting.preset()?.config(UnitRole::Guest),
            None => UnitConfig::new(UnitRole::Guest),
        };
        let mut config = UnitConfig { ict: self.ict, ordering: self.ordering, ..base };
        if let Some(path) = self.unit_config {
            config = from_file(config, &path)?;
        }
        for Setting { text, key, value } in settings {
            config = with(config, Table::from_iter([(key, value)]), || format!("'{text}'"))?;
        }
        config.check()?;
        Ok(config)
    }
}

/// A root complex with units as `settings`, which are from the file `path`, have them.
pub(super) fn root_complex(
    host: HostChoice,
    settings: Table,
    path: &Path,
) -> Result<RootComplexConfig, UnitError> {
    let config = from_table(UnitConfig::new(UnitRole::Guest), settings, path)?;
    config.check()?;
    Ok(host.into_root_complex(config))
}

fn from_file(config: UnitConfig, path: &Path) -> Result<UnitConfig, UnitError> {
    let settings = TomlFile::read(path, "settings of the unit")?.parse()?;
    from_table(config, settings, path)
}

fn from_table(config: UnitConfig, settings: Table, path: &Path) -> Result<UnitConfig, UnitError> {
    let mut settings = settings.into_iter().map(|setting| Table::from_iter([setting]));
    settings.try_fold(config, |config, setting| {
        let shown = setting.to_string();
        with(config, setting, || format!("'{}' in '{}'", shown.trim(), path.display()))
    })
}

/// The unit with some settings changed.
fn with(
    config: UnitConfig,
    settings: Table,
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
