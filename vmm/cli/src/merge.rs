//! `ghostlink merge`: joins the parts of a comparison.

use std::path::PathBuf;

use clap::Args;

use super::compare::{Format, show};
use crate::CliError;

/// Options of `ghostlink merge`.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// Directories that 'compare --shard i/n --out DIR' has written, in any order
    #[arg(required = true, value_name = "DIR")]
    parts: Vec<PathBuf>,

    /// Directory for the joined comparison
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Joins them; returns the exit status.
pub(super) fn run(args: &MergeArgs) -> Result<u8, CliError> {
    let (plan, summary) = lab::merge(&args.parts, &args.out)?;
    show(args.format, &plan, &summary, Some(&args.out)).map_err(CliError::Output)?;
    Ok(0)
}
