//! `ghostlink kernel-config`: the options that a kernel needs as a guest.

use std::path::PathBuf;

use clap::Args;
use linux::{KernelConfig, Need, REQUIREMENTS, Requirement, fragment};

use crate::{CliError, FAILURE};

/// Options of `ghostlink kernel-config`.
#[derive(Debug, Args)]
pub(super) struct KernelConfigArgs {
    /// Print only what this configuration lacks, with status 1 if it lacks anything: a .config, a build
    /// tree, a kernel's image, or an installed release
    #[arg(long, value_name = "FILE|TREE|RELEASE")]
    check: Option<PathBuf>,
}

/// Prints the fragment, or what of it a configuration lacks; returns the exit status.
pub(super) fn run(args: &KernelConfigArgs) -> Result<u8, CliError> {
    let Some(what) = &args.check else {
        print(&format!("{HEADER}{}", fragment(REQUIREMENTS)))?;
        return Ok(0);
    };
    let config = KernelConfig::find(what)?;
    let (optional, required): (Vec<&Requirement>, Vec<_>) =
        config.unmet().partition(|row| matches!(row.need, Need::Optional(_)));
    let origin = config.origin();
    let optional: String = optional
        .iter()
        .map(|row| format!("# Optional, {}: {}\n", row.option, row.purpose()))
        .collect();
    if required.is_empty() {
        print(&format!("# {origin} has all that scenarios need.\n{optional}"))?;
        return Ok(0);
    }
    print(&format!("{optional}{}", fragment(required.iter().copied())))?;
    let (count, options) = (required.len(), if required.len() == 1 { "option" } else { "options" });
    eprintln!(
        "ghostlink: {origin} lacks {count} {options}; add this output to .config, run make olddefconfig, \
         and build"
    );
    Ok(FAILURE)
}

/// The beginning of the fragment.
const HEADER: &str = "\
# What ghostlink's scenarios need of a kernel. In its tree:
#   make defconfig && ghostlink kernel-config >ghostlink.config
#   scripts/kconfig/merge_config.sh .config ghostlink.config && make
";

fn print(text: &str) -> Result<(), CliError> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::Output)
}
