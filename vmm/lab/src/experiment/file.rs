//! The file of an experiment.
//!
//! ```toml
//! about = "does a longer bound make giving up safe?"
//! finding = "No: it makes it later."      # for the page of the experiment
//! policies = ["bounded"]
//! faults = ["ignore-invalidate"]
//! units = ["serial", "parallel"]
//! show = ["longest", "stale"]
//! across = "unit"                       # its values are columns
//! figure = { x = "deadline", show = ["longest", "stale"] }
//!
//! [[axis]]
//! name = "deadline"
//! values = ["1ms", "100ms"]
//! ```
//!
//! `[[policy]]`, `[[fault]]` and `[[workload]]` add rows, as in the other files.

use serde::Deserialize;
use toml::Spanned;

use super::{Dimension, Experiment, Figure, MEASURES, Measure, axis};
use crate::file::file_with_rows;
use crate::matrix::explain;
use crate::sim::{Catalog, RunId, RunSpec};
use crate::text::suggestion;
use crate::toml_file::{self, Mistake};

/// Seeds for each combination, if nothing else is said.
const SEEDS: u64 = 20;
/// The most combinations of one experiment.
const MAX_COMBINATIONS: usize = 10_000;

file_with_rows! {
/// The whole file.
struct File {
    about: String,
    #[serde(default)]
    finding: String,
    policies: Vec<Spanned<String>>,
    faults: Vec<Spanned<String>>,
    workloads: Vec<Spanned<String>>,
    units: Vec<Spanned<String>>,
    seeds: Option<Spanned<u64>>,
    show: Vec<Spanned<String>>,
    across: Option<Spanned<String>>,
    figure: Option<FigureRow>,
    #[serde(default)]
    axis: Vec<AxisRow>,
}
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FigureRow {
    x: Spanned<String>,
    show: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AxisRow {
    name: Spanned<String>,
    values: Vec<Spanned<toml::Value>>,
}

impl Experiment {
    /// Reads the experiment `name` from the text of its file. `seeds` replaces the number in the
    /// file.
    ///
    /// # Errors
    ///
    /// The byte of the mistake, and what to do: a name or a setting that does not exist, a value that
    /// the setting refuses, an axis without values, a combination that cannot be simulated.
    pub fn parse(name: &str, text: &str, seeds: Option<u64>) -> Result<Self, Mistake> {
        let mut file: File = toml_file::parse(text)?;
        let mut catalog = Catalog::default();
        file.take_rows().add_to(&mut catalog)?;
        let dimensions = dimensions(&file)?;
        let of_file = file.seeds.as_ref().map(|seeds| (seeds.span().start, *seeds.get_ref()));
        let (at, of_file) = of_file.unwrap_or((0, SEEDS));
        let seeds = seeds.unwrap_or(of_file);
        if seeds == 0 {
            return Err((at, "0 seeds are no runs; give at least 1".to_owned()));
        }
        let across = file.across.as_ref().map(|name| find(&dimensions, name)).transpose()?;
        let figure = file.figure.as_ref().map(|figure| {
            let measures = measures(&figure.show)?;
            Ok(Figure { x: find(&dimensions, &figure.x)?, measures })
        });
        let mut experiment = Self {
            name: name.to_owned(),
            about: file.about.clone(),
            finding: file.finding.trim().to_owned(),
            seeds,
            show: measures(&file.show)?,
            across,
            figure: figure.transpose()?,
            dimensions,
            specs: Vec::new(),
        };
        experiment.specs = specs(&experiment, &file, &catalog)?;
        if experiment.specs.is_empty() {
            let reason = "no policy here exists on any of these units; add a unit or a policy";
            return Err((file.units[0].span().start, reason.to_owned()));
        }
        Ok(experiment)
    }
}

/// All dimensions, also those with one value.
fn dimensions(file: &File) -> Result<Vec<Dimension>, Mistake> {
    let tables = [
        ("policies", "policy", &file.policies),
        ("faults", "fault", &file.faults),
        ("workloads", "workload", &file.workloads),
        ("units", "unit", &file.units),
    ];
    let mut dimensions = Vec::new();
    for (key, name, values) in tables {
        if values.is_empty() {
            return Err((0, format!("{key} is empty; name at least one {name}")));
        }
        distinct(values.iter().map(|value| (value.span().start, value.get_ref().clone())))?;
        let values = values.iter().map(|value| value.get_ref().clone()).collect();
        dimensions.push(Dimension { name: name.to_owned(), values });
    }
    for row in &file.axis {
        let (at, name) = (row.name.span().start, row.name.get_ref());
        if row.values.is_empty() {
            let reason =
                format!("the axis '{name}' has no values; give at least one, or leave it out");
            return Err((at, reason));
        }
        if dimensions.iter().any(|other| other.name == *name) {
            return Err((at, format!("there are two axes '{name}'; give one with all values")));
        }
        let texts = row.values.iter().map(|value| (value.span().start, label(value.get_ref())));
        distinct(texts)?;
        let values = row.values.iter().map(|value| label(value.get_ref())).collect();
        dimensions.push(Dimension { name: name.clone(), values });
    }
    let combinations = dimensions.iter().map(|dimension| dimension.values.len()).product::<usize>();
    if combinations > MAX_COMBINATIONS {
        let reason = format!(
            "{combinations} combinations are more than {MAX_COMBINATIONS}; give fewer rows or values"
        );
        return Err((0, reason));
    }
    Ok(dimensions)
}

fn distinct(values: impl Iterator<Item = (usize, String)>) -> Result<(), Mistake> {
    let mut seen = std::collections::BTreeSet::new();
    for (at, value) in values {
        if !seen.insert(value.clone()) {
            return Err((at, format!("'{value}' is there twice; give it once")));
        }
    }
    Ok(())
}

/// A value as a table shows it.
fn label(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The dimension that a file names.
fn find(dimensions: &[Dimension], name: &Spanned<String>) -> Result<usize, Mistake> {
    let is_meant = |dimension: &Dimension| dimension.name == *name.get_ref();
    dimensions.iter().position(is_meant).ok_or_else(|| {
        let known: Vec<&str> = dimensions.iter().map(|it| it.name.as_str()).collect();
        let reason =
            format!("'{}' is not varied here; name one of {}", name.get_ref(), known.join(", "));
        (name.span().start, reason)
    })
}

fn measures(names: &[Spanned<String>]) -> Result<Vec<&'static Measure>, Mistake> {
    let find = |name: &Spanned<String>| {
        MEASURES.iter().find(|measure| measure.name == name.get_ref()).ok_or_else(|| {
            let known = MEASURES.iter().map(|measure| measure.name);
            let reason = match suggestion(name.get_ref(), known.clone()) {
                Some(meant) => {
                    format!("there is no measure '{}'; did you mean '{meant}'?", name.get_ref())
                }
                None => format!(
                    "there is no measure '{}'; there are {}",
                    name.get_ref(),
                    known.collect::<Vec<_>>().join(", ")
                ),
            };
            (name.span().start, reason)
        })
    };
    names.iter().map(find).collect()
}

/// A run of each combination that exists.
fn specs(
    experiment: &Experiment,
    file: &File,
    catalog: &Catalog,
) -> Result<Vec<(usize, RunSpec)>, Mistake> {
    let combinations = experiment.dimensions.iter().map(|it| it.values.len()).product();
    let mut specs = Vec::with_capacity(combinations);
    for place in 0..combinations {
        let at = experiment.at(place);
        let [policy, fault, workload, unit] = [at[0], at[1], at[2], at[3]];
        let (policy, fault) = (&file.policies[policy], &file.faults[fault]);
        let (workload, unit) = (&file.workloads[workload], &file.units[unit]);
        let named = |name: &Spanned<String>, reason: String| (name.span().start, reason);
        catalog.policy(policy.get_ref()).map_err(|error| named(policy, explain(&error)))?;
        catalog.fault(fault.get_ref()).map_err(|error| named(fault, explain(&error)))?;
        catalog.workload(workload.get_ref()).map_err(|error| named(workload, explain(&error)))?;
        let id = RunId {
            policy: policy.get_ref().clone(),
            fault: fault.get_ref().clone(),
            workload: workload.get_ref().clone(),
            unit: unit.get_ref().clone(),
            seed: 0,
        };
        let mut spec = catalog.spec(&id).map_err(|error| named(unit, explain(&error)))?;
        for (row, at) in file.axis.iter().zip(&at[4..]) {
            let value = &row.values[*at];
            axis::set(&mut spec, row.name.get_ref(), value.get_ref())
                .map_err(|reason| (value.span().start, reason))?;
        }
        let has_unit = spec.policy.applies_to(spec.unit.ordering);
        if !has_unit || !spec.policy.describes(spec.workload.kind.path()) {
            continue;
        }
        spec.check().map_err(|error| named(workload, error.to_string()))?;
        specs.push((place, spec));
    }
    Ok(specs)
}
