//! `ghostlink`: boots guests in front of PCIe links that vanish, and compares policies for them. See
//! `ghostlink --help`.
//!
//! Each crate parses its own option values; each mistake is reported on one line.
#![forbid(unsafe_code)]

mod compare;
mod demo;
mod doctor;
mod error;
mod experiment;
mod explain;
mod explore;
mod faults;
mod host;
mod json_lines;
mod kernel_config;
mod merge;
mod policies;
mod progress;
mod qtest;
mod run;
mod shell;
mod test;
mod testhost;
mod topology;
mod unit;
mod validate;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use iommu::event::Tracer;

use error::CliError;
use json_lines::JsonLines;

/// Exit status for mistakes on the command line.
const USAGE: u8 = vmm::Error::USER;
/// Exit status for failures after the command line was accepted.
const FAILURE: u8 = 1;

/// What happens to a machine when a PCIe device stops answering invalidations?
///
/// Without a command: demo.
#[derive(Debug, Parser)]
#[command(name = "ghostlink", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot one guest, and end with its exit status
    Run(run::RunArgs),
    /// List the policies, and the system that each reproduces
    Policies(policies::ListArgs),
    /// Try every order of events, and report orders that break an invariant
    Explore(explore::ExploreArgs),
    /// List fault modes, and the moments at which they can start
    Faults,
    /// List device types and their options
    Devices,
    /// Run the built-in guest once with each policy, and compare its waiting times
    Demo(demo::DemoArgs),
    /// Test what this host's KVM supports, and which guests can run here
    Doctor(doctor::DoctorArgs),
    /// Simulate every policy with every fault, and compare the results
    Compare(compare::CompareArgs),
    /// Run the experiments of docs/results.md: a question, a table and a figure each
    Experiment(experiment::ExperimentArgs),
    /// Join the parts of a comparison that several machines have run
    Merge(merge::MergeArgs),
    /// Replay one simulated run, and explain its events in order
    Explain(explain::ExplainArgs),
    /// Boot kernels in scenarios, and compare what they do with what is expected
    Test(Box<test::TestArgs>),
    /// Run the built-in guest and the simulation with the same policies and faults, and compare them
    Validate(validate::command::ValidateArgs),
    /// Print the configuration that a kernel needs to be a guest, or check one
    KernelConfig(kernel_config::KernelConfigArgs),
    /// Run a command on a machine with a complete KVM, which QEMU emulates; for machines whose KVM
    /// cannot run Linux
    ///
    /// The command sees the files of this machine at their own paths, and can write to the current
    /// directory and below. It finds this program in its PATH. Standard output, standard error and the
    /// exit status are those of the command. The status is 125 if the command could not be started, 124
    /// after the time limit, and 123 if the test host crashed or hung.
    ///
    /// QEMU and a kernel of Debian are taken from the cache, or downloaded by apt-get; nothing is
    /// installed. The test host is booted once and saved in the cache; each command gets a machine of
    /// its own that is restored from there.
    Testhost(testhost::TestHostArgs),
    /// Boot a kernel in the machine of a scenario, into a shell in which each step is a command. Ctrl-A x
    /// ends it
    Shell(shell::ShellArgs),
    /// Serve QEMU's qtest protocol: the machine without CPUs, driven by a script
    Qtest(qtest::QtestArgs),
}

fn main() -> ExitCode {
    ExitCode::from(run())
}

/// Runs the command; returns the exit status.
fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    match cli.command.unwrap_or_else(|| Command::Demo(demo::DemoArgs::default())) {
        Command::Run(args) => report(run::run(args)),
        Command::Policies(args) => report(policies::list(&args)),
        Command::Explore(args) => report(explore::run(&args)),
        Command::Faults => report(faults::list().map(|()| 0).map_err(CliError::Output)),
        Command::Devices => report(topology::list().map(|()| 0).map_err(CliError::Output)),
        Command::Demo(args) => report(demo::run(&args)),
        Command::Doctor(args) => report(doctor::run(&args).map_err(CliError::Output)),
        Command::Compare(args) => report(compare::run(&args)),
        Command::Experiment(args) => report(experiment::run(&args)),
        Command::Merge(args) => report(merge::run(&args)),
        Command::Explain(args) => report(explain::run(&args)),
        Command::Test(args) => report(test::run(&args)),
        Command::Validate(args) => report(validate::command::run(&args)),
        Command::KernelConfig(args) => report(kernel_config::run(&args)),
        Command::Testhost(args) => report(testhost::run(args)),
        Command::Shell(args) => report(shell::run(args)),
        Command::Qtest(args) => report(qtest::run(args)),
    }
}

/// A tracer that writes JSON lines to `path`; without a path it drops events.
fn tracer(path: Option<&Path>) -> Result<Tracer, CliError> {
    let Some(path) = path else { return Ok(Tracer::none()) };
    match JsonLines::create(path) {
        Ok(sink) => Ok(Tracer::to(Arc::new(sink))),
        Err(source) => Err(CliError::Events { path: path.to_owned(), source }),
    }
}

/// Prints an error, if there is one; returns the exit status.
fn report(result: Result<u8, CliError>) -> u8 {
    result.unwrap_or_else(|error| {
        eprintln!("ghostlink: {error}");
        error.status()
    })
}

/// Prints the first paragraph of clap's message on one line, with a reference to `--help`.
fn report_usage(error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Fails only if standard output is closed.
        let _ = error.print();
        return 0;
    }
    eprintln!("ghostlink: {}; see 'ghostlink --help'", first_paragraph(&error.to_string()));
    USAGE
}

fn first_paragraph(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The message for a wrong command line.
    fn complaint(arguments: &str) -> String {
        let arguments = ["ghostlink"].into_iter().chain(arguments.split_whitespace());
        first_paragraph(&Cli::try_parse_from(arguments).unwrap_err().to_string())
    }

    #[test]
    fn mistakes_are_told_on_one_line_with_the_value_and_what_would_be_right() {
        for (arguments, value, right) in [
            ("run --memory 5", "'5'", "256M"),
            ("policies --format xml", "'xml'", "json"),
            ("run --ict 60", "'60'", "60s"),
            ("run --time-limit soon", "'soon'", "60s"),
            ("run --drop-link now", "'now'", "key=value"),
            ("run --fault at=1s,mode=quiet", "'quiet'", "silent"),
            ("run --ordering random", "'random'", "serial, parallel or blocking"),
            ("run --cpus 9", "'9'", "1..=8"),
            ("run --ports 0", "'0'", "1..=8"),
            ("run --device edo", "`edo`", "`edu`"),
            ("run --device edu,adr=10", "`adr`", "`addr`"),
            ("run --device edu,addr=10.8", "'10.8'", "0.1"),
            ("run --device switch,id=a,bus=rp0,ports=x", "\"x\"", "a number"),
            ("run --device root-port,id=a,hotplug=yes", "`yes`", "`surprise`"),
            ("run --device ats-endpoint,bus=rp0,ats=no", "\"no\"", "on or off"),
            ("run --device edu,edu", "'edu'", "KEY=VALUE"),
            ("run --unit fault_records", "'fault_records'", "KEY=VALUE"),
            ("run --io-apic-id ff:20.0", "'ff:20.0'", "none"),
            ("testhost --cpus 0 true", "'0'", "1..=32"),
            ("testhost --memory 64 true", "'64'", "512"),
            ("testhost --time-limit soon true", "'soon'", "60s"),
            ("testhost", "<COMMAND>", "required"),
            ("fly", "'fly'", "subcommand"),
        ] {
            let text = complaint(arguments);
            assert!(!text.contains('\n'), "{text}");
            assert!(text.contains(value) && text.contains(right), "{arguments}: {text}");
        }
    }
}
