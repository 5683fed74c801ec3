//! The files beside `results.jsonl`: the same numbers for spreadsheets and for readers.

use std::path::Path;

use super::error::LabError;
use super::plan::Plan;
use super::report::Report;
use super::store::write_whole;
use super::summary::Summary;
use super::{csv, timelines};

/// The cells, for spreadsheets.
pub const CSV: &str = "cells.csv";
/// The report, for readers.
pub const REPORT: &str = "report.html";

/// Writes them all.
///
/// # Errors
///
/// One cannot be written, or a run that is shown in the report cannot be run.
pub(super) fn write(directory: &Path, plan: &Plan, summary: &Summary) -> Result<(), LabError> {
    write_whole(&directory.join(CSV), |out| csv::write(summary, out))?;
    let timelines = timelines::choose(plan, summary)?;
    let page = Report::new(plan, summary, &timelines).html();
    write_whole(&directory.join(REPORT), |out| out.write_all(page.as_bytes()))?;
    Ok(())
}
