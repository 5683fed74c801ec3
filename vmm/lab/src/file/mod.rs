//! The file in which users write policies, faults, workloads and units of
//! their own, and select those that
//! are compared. Every command that takes one of these tables takes the whole file.
//!
//! ```toml
//! policies = ["linux", "patient"]     # what is compared; all, if it is missing
//! seeds = 100
//!
//! [[policy]]
//! name = "patient"
//! base = "bounded:5s"                 # where what is not said comes from; linux if not said
//! watchdog = true
//!
//! [[fault]]
//! name = "slower"
//! about = "answers take two seconds"
//! fault = "before=completion:20,mode=slow:2s"
//! ```

use std::path::Path;

use crate::sim::{Catalog, FaultRow, UnitRow, Workload};
use devices::pcie::link::Obeys;
use iommu::time::Timeout;
use iommu::unit::Ordering;
use toml::Spanned;

use super::matrix::Selection;
use super::policies::Row;
use crate::toml_file::{self, FileError, Mistake, TomlFile};

/// Defines the type of a file that has tables of rows beside its own keys. Flattening would lose the
/// places of the rows, and with them line and column of a mistake.
macro_rules! file_with_rows {
    ($(#[$meta:meta])* struct $name:ident { $($keys:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($keys)*
            #[serde(default)]
            policy: Vec<toml::Spanned<$crate::policies::Row>>,
            #[serde(default)]
            fault: Vec<toml::Spanned<$crate::sim::FaultRow>>,
            #[serde(default)]
            workload: Vec<toml::Spanned<$crate::sim::Workload>>,
            #[serde(default)]
            unit: Vec<toml::Spanned<$crate::sim::UnitRow>>,
        }

        impl $name {
            /// Takes the rows out of the file.
            fn take_rows(&mut self) -> $crate::file::Rows {
                $crate::file::Rows {
                    policy: std::mem::take(&mut self.policy),
                    fault: std::mem::take(&mut self.fault),
                    workload: std::mem::take(&mut self.workload),
                    unit: std::mem::take(&mut self.unit),
                }
            }
        }
    };
}

pub(crate) use file_with_rows;

file_with_rows! {
/// A file with rows, and with a selection of rows.
struct File {
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    faults: Vec<String>,
    #[serde(default)]
    workloads: Vec<String>,
    #[serde(default)]
    units: Vec<String>,
    #[serde(default)]
    cpus_per_device: Vec<u16>,
    seeds: Option<u64>,
    ict: Option<Timeout>,
    obeys: Option<Obeys>,
    /// What `units` was called before there was a table of them.
    ordering: Option<Spanned<Ordering>>,
}
}

/// Reads a user's rows into `catalog`, and returns the selection in the file.
///
/// # Errors
///
/// The file cannot be read, or its contents are invalid.
pub fn read(path: &Path, catalog: &mut Catalog) -> Result<Selection, FileError> {
    let file = TomlFile::read(path, "policies, faults or workloads")?;
    parse(file.text(), catalog).map_err(|mistake| file.wrong(mistake))
}

/// As [`read`], from a text; an error has the offset of its byte.
fn parse(text: &str, catalog: &mut Catalog) -> Result<Selection, Mistake> {
    let mut file: File = toml_file::parse(text)?;
    file.take_rows().add_to(catalog)?;
    let mut units = file.units;
    if let Some(ordering) = file.ordering {
        if !units.is_empty() {
            let reason = "`ordering` is the earlier name of `units`; keep only `units`";
            return Err((ordering.span().start, reason.to_owned()));
        }
        units.push(ordering.get_ref().to_string());
    }
    Ok(Selection {
        policies: file.policies,
        faults: file.faults,
        workloads: file.workloads,
        units,
        cpus_per_device: file.cpus_per_device,
        seeds: file.seeds,
        ict: file.ict,
        obeys: file.obeys,
    })
}

/// The rows of a file, each with its place there.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) policy: Vec<Spanned<Row>>,
    pub(crate) fault: Vec<Spanned<FaultRow>>,
    pub(crate) workload: Vec<Spanned<Workload>>,
    pub(crate) unit: Vec<Spanned<UnitRow>>,
}

impl Rows {
    /// Adds them to `catalog`.
    ///
    /// # Errors
    ///
    /// A row is invalid, or its name is taken.
    pub(crate) fn add_to(self, catalog: &mut Catalog) -> Result<(), Mistake> {
        for row in self.policy {
            let policy = row.into_inner().into_policy(&catalog.policies)?;
            catalog.policies.push(policy);
        }
        for row in self.fault {
            add(catalog, &row, |row| Catalog { faults: vec![row], ..empty() })?;
        }
        for row in self.workload {
            add(catalog, &row, |row| Catalog { workloads: vec![row], ..empty() })?;
        }
        for row in self.unit {
            add(catalog, &row, |row| Catalog { units: vec![row], ..empty() })?;
        }
        Ok(())
    }
}

fn add<T: Clone>(
    catalog: &mut Catalog,
    row: &Spanned<T>,
    rows: impl FnOnce(T) -> Catalog,
) -> Result<(), Mistake> {
    let rows = rows(row.get_ref().clone());
    catalog.add(rows).map_err(|error| (row.span().start, error.to_string()))
}

const fn empty() -> Catalog {
    Catalog { policies: Vec::new(), faults: Vec::new(), workloads: Vec::new(), units: Vec::new() }
}

#[cfg(test)]
mod tests;
