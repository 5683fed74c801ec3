//! `ghostlink policies`: what there is, and what each stands for.

use std::io::{self, Write};

use iommu::submit::PRESETS;

/// Writes the list to standard output.
pub(super) fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for preset in PRESETS {
        let policy = preset.policy();
        writeln!(out, "{}", preset.usage())?;
        writeln!(out, "    {}", preset.reproduces)?;
        writeln!(out, "    source: {}", preset.source)?;
        writeln!(
            out,
            "    precheck {}, deadline {}, on time-out {}, on ITE {} ({} slots), completion by {}{}",
            policy.precheck,
            policy.deadline,
            policy.on_timeout,
            policy.on_ite,
            policy.ite_marks,
            policy.completion,
            if policy.watchdog { ", watchdog" } else { "" },
        )?;
    }
    Ok(())
}
