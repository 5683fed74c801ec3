//! The file in which users write policies, faults and workloads of their own, and what is compared: all of it in
//! one, and every command that takes one of them takes all.
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

use std::path::{Path, PathBuf};

use devices::sim::{Catalog, FaultRow, Workload};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use serde::Deserialize;
use toml::Spanned;

use super::matrix::Selection;
use super::policies::Row;
use super::text::{position, suggestion};

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read '{}': {source}; name a TOML file with policies, faults or workloads", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not say what it should.
    #[error("'{}', {position}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line and column.
        position: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// A file with rows, and with what is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    faults: Vec<String>,
    #[serde(default)]
    workloads: Vec<String>,
    seeds: Option<u64>,
    ict: Option<Timeout>,
    ordering: Option<Ordering>,
    #[serde(default)]
    policy: Vec<Spanned<Row>>,
    #[serde(default)]
    fault: Vec<Spanned<FaultRow>>,
    #[serde(default)]
    workload: Vec<Spanned<Workload>>,
}

/// Reads rows of a user's own into `catalog`, and returns what else the file says.
///
/// # Errors
///
/// It cannot be read, or does not say what it should.
pub fn read(path: &Path, catalog: &mut Catalog) -> Result<Selection, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(&text, catalog).map_err(|(at, reason)| FileError::Content {
        path: path.to_owned(),
        position: position(&text, at),
        reason,
    })
}

/// The same of a text; a mistake is told with its byte.
fn parse(text: &str, catalog: &mut Catalog) -> Result<Selection, (usize, String)> {
    let file: File = toml::from_str(text).map_err(|error| {
        (error.span().map_or(0, |span| span.start), with_suggestion(error.message()))
    })?;
    for row in file.policy {
        let policy = row.into_inner().into_policy(&catalog.policies)?;
        catalog.policies.push(policy);
    }
    for row in file.fault {
        add(catalog, &row, |row| Catalog { faults: vec![row], ..empty() })?;
    }
    for row in file.workload {
        add(catalog, &row, |row| Catalog { workloads: vec![row], ..empty() })?;
    }
    Ok(Selection {
        policies: file.policies,
        faults: file.faults,
        workloads: file.workloads,
        seeds: file.seeds,
        ict: file.ict,
        ordering: file.ordering,
    })
}

fn add<T: Clone>(
    catalog: &mut Catalog,
    row: &Spanned<T>,
    rows: impl FnOnce(T) -> Catalog,
) -> Result<(), (usize, String)> {
    let rows = rows(row.get_ref().clone());
    catalog.add(rows).map_err(|error| (row.span().start, error.to_string()))
}

const fn empty() -> Catalog {
    Catalog { policies: Vec::new(), faults: Vec::new(), workloads: Vec::new() }
}

/// What TOML says of a mistake, on one line, and what may have been meant by an unknown word.
fn with_suggestion(message: &str) -> String {
    let line = message.trim().replace('\n', " ");
    let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    let unknown = line.starts_with("unknown field") || line.starts_with("unknown variant");
    match quoted.split_first() {
        Some((word, known)) if unknown => match suggestion(word, known.iter().copied()) {
            Some(meant) => format!("{line}; did you mean `{meant}`?"),
            None => line,
        },
        _ => line,
    }
}

#[cfg(test)]
mod tests;
