//! `ghostlink doctor`: what this host's KVM can do, for people and for scripts.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use vmm::doctor::{Report, Requirement, examine};

use super::FAILURE;

/// Options of `ghostlink doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// End with status 1 unless this host can run such guests
    #[arg(long, value_enum, value_name = "GUESTS")]
    require: Option<Guests>,

    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Guests that a host may be asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guests {
    /// The built-in guest, kvm-unit-tests, and the like
    BareMetal,
    /// Linux with user space
    Linux,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people
    Text,
    /// One JSON object
    Json,
}

/// Examines this host; returns the exit status.
pub(super) fn run(args: &DoctorArgs) -> io::Result<u8> {
    let report = examine();
    match args.format {
        Format::Text => write_text(&report)?,
        Format::Json => {
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    let required = args.require.map(|guests| match guests {
        Guests::BareMetal => Requirement::BareMetal,
        Guests::Linux => Requirement::Linux,
    });
    Ok(match required {
        Some(requirement) if report.check(requirement).is_err() => FAILURE,
        _ => 0,
    })
}

fn write_text(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let hardware = match report.hardware {
        Some(flag) => flag.to_owned(),
        None => "neither vmx nor svm".to_owned(),
    };
    writeln!(out, "{:26} {hardware}", "processor")?;
    if let Some(version) = report.api_version {
        writeln!(out, "{:26} opened, interface version {version}", "/dev/kvm")?;
    }
    if let Some(cpus) = report.recommended_cpus {
        writeln!(out, "{:26} up to {cpus} recommended", "virtual CPUs")?;
    }
    if let Some(speed) = report.kernel_instructions_per_second {
        let emulated = if report.is_emulated() { ": in an emulator" } else { "" };
        let millions = speed as f64 / 1e6;
        writeln!(out, "{:26} {millions:.1} million instructions/s{emulated}", "guest kernel code")?;
    }
    for finding in &report.findings {
        writeln!(out, "{:26} {}", finding.name, finding.outcome)?;
    }
    let guests = [
        ("bare-metal guests", Requirement::BareMetal),
        ("Linux with user space", Requirement::Linux),
    ];
    writeln!(out)?;
    for (name, requirement) in guests {
        match (report.check(requirement), &report.unusable) {
            (Ok(()), _) => writeln!(out, "{name:26} yes")?,
            (Err(_), None) => writeln!(out, "{name:26} no: they need what fails above")?,
            (Err(reason), Some(_)) => writeln!(out, "{name:26} no: {reason}")?,
        }
    }
    if report.check(Requirement::Linux).is_err() {
        writeln!(
            out,
            "\nFor Linux take a host with VMX or SVM, bare metal or nested; or the complete one that \
             QEMU emulates:\nghostlink testhost -- ghostlink run --kernel .."
        )?;
    }
    Ok(())
}
