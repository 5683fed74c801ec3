//! Joins the parts that several machines have run. The result has the same bytes as a run on one machine.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::compare::Results;
use super::error::LabError;
use super::plan::Plan;
use super::shard::Shard;
use super::store::{self, RESULTS, Store, StoreError};
use super::summary::Summary;
use super::views;

/// Parts that cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Nothing to merge.
    #[error("nothing to merge; name the directories of all parts")]
    Nothing,
    /// Two parts are of different comparisons.
    #[error("'{}' does not belong with '{}': {what}; merge parts of one comparison", other.display(), first.display())]
    Different {
        /// The first directory.
        first: PathBuf,
        /// The other one.
        other: PathBuf,
        /// The difference.
        what: String,
    },
    /// A part is missing.
    #[error(
        "the part {0} is missing; run 'ghostlink compare --shard {0}' with the options of the others, and name its directory"
    )]
    Missing(Shard),
    /// A part is there twice.
    #[error("'{}' and '{}' are both the part {shard}; name one of them", first.display(), second.display())]
    Twice {
        /// The part.
        shard: Shard,
        /// A directory with it.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
}

/// Joins the parts in `directories` into `out`, and sums them up.
///
/// # Errors
///
/// Parts are missing, unfinished or of different comparisons; `out` cannot be written.
pub fn merge(directories: &[PathBuf], out: &Path) -> Result<(Plan, Summary), LabError> {
    let (plan, ordered) = order(directories)?;
    let mut parts = Vec::with_capacity(ordered.len());
    for directory in &ordered {
        parts.push((store::read_results(directory)?, directory, 0));
    }
    let unused = |_: &str| Err("the directory is new".to_owned());
    let mut store = Store::open(out, &plan.json(), false, unused)?;
    let mut results = Results::new(&plan);
    let count = parts.len();
    while let Some(place) = results.next() {
        let (lines, directory, read) = &mut parts[place.cell % count];
        *read += 1;
        let (path, line) = (directory.join(RESULTS), *read);
        let wrong = |what: String| StoreError::Line { path: path.clone(), line, what };
        let line = lines.next().transpose()?.ok_or_else(|| wrong("a run is missing".to_owned()))?;
        results.add_line(&line).map_err(wrong)?;
        store.append(&line)?;
    }
    for (mut lines, directory, read) in parts {
        if lines.next().transpose()?.is_some() {
            let what = "there are more runs than planned".to_owned();
            return Err(
                StoreError::Line { path: directory.join(RESULTS), line: read + 1, what }.into()
            );
        }
    }
    let summary = results.summary;
    store.complete()?;
    views::write(out, &plan, &summary)?;
    Ok((plan, summary))
}

/// The plan of the whole, and the directories in the order of their parts.
fn order(directories: &[PathBuf]) -> Result<(Plan, Vec<&PathBuf>), LabError> {
    let Some(first) = directories.first() else { return Err(MergeError::Nothing.into()) };
    let whole = Plan { shard: Shard::WHOLE, ..Plan::read(first)? };
    let mut parts: Vec<Option<&PathBuf>> = Vec::new();
    for directory in directories {
        let plan = Plan::read(directory)?;
        let shard = plan.shard;
        parts.resize(parts.len().max(shard.count()), None);
        let same = Plan { shard: Shard::WHOLE, ..plan };
        let counts = (shard.count() != parts.len())
            .then(|| format!("it is the part {shard}, of another number of parts"));
        if let Some(what) = store::difference(&same.json(), &whole.json()).or(counts) {
            let (first, other) = (first.clone(), directory.clone());
            return Err(MergeError::Different { first, other, what }.into());
        }
        if let Some(first) = parts[shard.index()].replace(directory) {
            let (first, second) = (first.clone(), directory.clone());
            return Err(MergeError::Twice { shard, first, second }.into());
        }
    }
    let count = NonZeroUsize::new(parts.len()).ok_or(MergeError::Nothing)?;
    let missing = parts.iter().position(Option::is_none);
    match missing.and_then(|index| Shard::new(index, count)) {
        Some(shard) => Err(MergeError::Missing(shard).into()),
        None => Ok((whole, parts.into_iter().flatten().collect())),
    }
}
