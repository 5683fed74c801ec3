//! `ghostlink shell`: boots a kernel in the machine of a scenario, into a shell in which each step is
//! a command.

use std::path::{Path, PathBuf};

use clap::Args;
use linux::{GuestKernel, Initramfs, ModuleState};
use scenario::{Boot, Scenario};
use vmm::doctor::{Requirement, examine};
use vmm::{Console, Exit, Module, Vm, VmConfig};

use crate::CliError;
use crate::test::{KernelsError, SelectError};

/// The word for the runner, instead of steps.
const WORD: &str = "shell";

/// Options of `ghostlink shell`.
#[derive(Debug, Args)]
pub(super) struct ShellArgs {
    /// Scenario whose machine, faults and kernel options are taken: a name, or a TOML file
    #[arg(value_name = "SCENARIO", default_value = "boot-legacy")]
    scenario: String,

    /// Kernel to boot: a bzImage, a vmlinux, a build tree, an unpacked package, or the release of an
    /// installed kernel
    #[arg(long, value_name = "WHAT")]
    kernel: String,

    /// Where the kernel's modules are, if not where they are usual
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,

    /// Words for the kernel's command line, behind those of the scenario
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,

    /// Write events as JSON lines to this file
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// Runs the shell; returns the exit status, which is 0 after `exit` and Ctrl-A x.
pub(super) fn run(args: ShellArgs) -> Result<u8, CliError> {
    let mut scenario = scenario(&args.scenario)?;
    let kernel =
        GuestKernel::find(Path::new(&args.kernel), args.modules.as_deref()).map_err(|source| {
            KernelsError::Kernel { what: args.kernel.clone(), source: Box::new(source) }
        })?;
    examine().check(Requirement::Linux).map_err(CliError::NoLinux)?;
    // What is in the initramfs depends on the steps: any may be typed.
    let vfio = !matches!(kernel.module("vfio_pci"), ModuleState::Absent | ModuleState::Unknown);
    let words = ["nvme", "kexec", "vfio:bind"].into_iter().take(if vfio { 3 } else { 2 });
    scenario.steps = words
        .filter_map(|word| word.parse().ok())
        .map(|step| scenario::Step { step, succeeds: None })
        .collect();
    let mut boot = Boot::new(&args.kernel, &kernel, &scenario)?;
    add_busybox(&mut boot.modules);
    let tracer = super::tracer(args.events.as_deref())?;
    let config = scenario.vm_config(&boot, &args.cmdline);
    let options = config.cmdline.split(" -- ").next().unwrap_or_default();
    let cmdline = format!("{options} -- {WORD}");
    let console = Console::Stdio;
    let vm = Vm::new(VmConfig { cmdline, console, tracer, time_limit: None, ..config })?;
    match vm.run()? {
        Exit::DebugExit(0) => Ok(0),
        exit => Ok(exit.status()),
    }
}

fn scenario(name: &str) -> Result<Scenario, CliError> {
    if name.contains('/') || name.ends_with(".toml") {
        return Ok(Scenario::read(Path::new(name)).map_err(SelectError::File)?);
    }
    let unknown = || SelectError::Unknown { name: name.to_owned(), hint: String::new() };
    Ok(Scenario::builtin(name).ok_or_else(unknown)?.map_err(SelectError::File)?)
}

/// Adds this machine's busybox to the initramfs, if there is a static one.
fn add_busybox(modules: &mut [Module]) {
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| {
        let program = std::fs::read(path).ok()?;
        is_static(&program).then_some(program)
    });
    if let (Some(program), [Module::Bytes { bytes, .. }]) = (found, modules) {
        let mut further = Initramfs::new();
        further.directory("bin").file("bin/busybox", 0o755, program);
        // An initramfs may be several archives in a row, each at a multiple of four bytes.
        let mut all = bytes.to_vec();
        all.resize(all.len().next_multiple_of(4), 0);
        all.extend(further.build());
        *bytes = all.into();
    }
}

/// Whether an ELF64 file has no program interpreter (`PT_INTERP`).
fn is_static(program: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let bytes = |at: usize, length: usize| program.get(at..at.checked_add(length)?);
    let number = |at: usize, length: usize| {
        let bytes = bytes(at, length)?;
        Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let kinds = || {
        let start = usize::try_from(number(32, 8)?).ok()?;
        let (size, count) = (number(54, 2)? as usize, number(56, 2)? as usize);
        let kind = |index: usize| number(start.checked_add(index * size)?, 4);
        (0..count).map(kind).collect::<Option<Vec<u64>>>()
    };
    program.starts_with(b"\x7fELF\x02\x01")
        && kinds().is_some_and(|kinds| !kinds.contains(&INTERPRETER.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_has_no_interpreter() {
        assert!(is_static(resources::RUNNER));
        let here = std::fs::read("/proc/self/exe").unwrap();
        assert!(!is_static(&here));
        assert!(!is_static(b"\x7fELF\x02\x01") && !is_static(b"#!/bin/sh") && !is_static(&[]));
        // A table behind the end of the file.
        let mut cut = resources::RUNNER[..64].to_vec();
        assert!(!is_static(&cut));
        cut[32..40].fill(0xff);
        assert!(!is_static(&cut));
    }

    #[test]
    fn a_scenario_that_does_not_exist_is_named() {
        let error = scenario("boot-lagacy").unwrap_err().to_string();
        assert!(error.contains("boot-lagacy") && error.contains("test --list"), "{error}");
    }
}
