//! The settings of the remapping units, as tables of TOML have them.

use std::path::Path;

use devices::root_complex::RootComplexConfig;
use iommu::event::UnitRole;
use iommu::unit::{UnitConfig, UnitConfigError};
use lab::toml_file::{FileError, with_suggestion};
use toml::{Table, Value};

use crate::host::HostChoice;

/// Invalid settings of the unit.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
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

/// A root complex with units as `settings` have them. `path`, for messages, is their file.
///
/// # Errors
///
/// A setting does not exist, or they contradict each other.
pub fn root_complex(
    host: HostChoice,
    settings: Table,
    path: Option<&Path>,
) -> Result<RootComplexConfig, UnitError> {
    let mut units = Units::new(UnitConfig::new(UnitRole::Guest));
    units.change(settings, path)?;
    let (unit, unit_settings) = units.check()?;
    Ok(RootComplexConfig { unit_settings, ..host.into_root_complex(unit) })
}

/// The unit that each machine has, and the further ones with settings of their own.
#[derive(Debug)]
pub struct Units {
    /// The first.
    pub first: UnitConfig,
    further: Vec<(String, UnitConfig)>,
}

impl Units {
    /// Units of which the first is `first`, and no others.
    pub fn new(first: UnitConfig) -> Self {
        Self { first, further: Vec::new() }
    }

    /// The further unit of that name, which is as the first one until it is changed.
    pub fn further(&mut self, name: &str) -> &mut UnitConfig {
        let index = self.further.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            self.further.push((name.to_owned(), self.first));
            self.further.len() - 1
        });
        &mut self.further[index].1
    }

    /// Changes what `settings` say: a table is of the unit with its name. `path`, for messages, is their
    /// file.
    ///
    /// # Errors
    ///
    /// A setting does not exist, or not with that value.
    pub fn change(&mut self, settings: Table, path: Option<&Path>) -> Result<(), UnitError> {
        let (further, settings): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|(_, value)| value.is_table());
        let place = path.map_or_else(String::new, |path| format!(" in '{}'", path.display()));
        let origin = |text: &str| format!("'{}'{place}", text.trim());
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

    /// The configurations of the first unit, and of the further ones by name.
    ///
    /// # Errors
    ///
    /// Settings contradict each other.
    pub fn check(self) -> Result<(UnitConfig, Vec<(String, UnitConfig)>), UnitError> {
        self.first.check()?;
        for (name, unit) in &self.further {
            unit.check().map_err(|error| UnitError::Further { name: name.clone(), error })?;
        }
        Ok((self.first, self.further))
    }
}

/// The unit with some settings changed.
///
/// # Errors
///
/// A setting does not exist, or not with that value; the message has its `origin`.
pub fn with(
    config: UnitConfig,
    settings: [(String, Value); 1],
    origin: impl FnOnce() -> String,
) -> Result<UnitConfig, UnitError> {
    let change = || {
        let mut table = Table::try_from(config).map_err(|error| error.to_string())?;
        table.extend(settings);
        table.try_into().map_err(|error: toml::de::Error| with_suggestion(error.message()))
    };
    change().map_err(|reason| UnitError::Setting { origin: origin(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostChoice;

    fn units(text: &str) -> Result<RootComplexConfig, String> {
        let settings = text.parse().unwrap();
        root_complex(HostChoice::Direct, settings, Some(Path::new("file")))
            .map_err(|e| e.to_string())
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
