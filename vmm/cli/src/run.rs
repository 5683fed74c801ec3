//! `ghostlink run`: boot one guest.

use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use devices::pcie::link::Obeys;
use devices::root_complex::RootComplexConfig;
use devices::stale::StaleCounts;
use iommu::time::{Timeout, parse_duration};
use linux::KernelConfig;
use vmm::{
    Console, DebugConsole, Exit, FailureKind, Kernel, MemorySize, Module, Suspended, VcpuSnapshot,
    Vm, VmConfig,
};

use super::faults::FaultArgs;
use super::host::HostArgs;
use super::topology::TopologyArgs;
use super::unit::UnitArgs;
use crate::CliError;

/// Options of `ghostlink run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// bzImage, 64-bit ELF file (vmlinux) or multiboot image to boot [default: the built-in guest]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// Command line for the kernel
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,

    /// Initramfs; or the modules of a multiboot image, in QEMU's form: 'FILE ARGUMENTS,FILE ARGUMENTS,..'
    #[arg(long, value_name = "FILE")]
    initrd: Option<Modules>,

    /// Guest memory
    #[arg(long, value_name = "SIZE", default_value_t)]
    memory: MemorySize,

    /// Virtual CPUs, 1 to 8
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,

    #[command(flatten)]
    host: HostArgs,

    #[command(flatten)]
    unit: UnitArgs,

    #[command(flatten)]
    topology: TopologyArgs,

    /// Add QEMU's 'edu' device at 00:0c.0; its INTA is wired to pin 20 of the I/O APIC
    #[arg(long)]
    edu: bool,

    #[command(flatten)]
    faults: FaultArgs,

    /// Write the lines of the debug console, port 0xe9, to this file or to standard output
    #[arg(long, value_name = "FILE|stdio")]
    debugcon: Option<PathBuf>,

    /// Write events as JSON lines to this file
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,

    /// When devices drop what an Invalidate Request names: when they answer it, which is the worst that
    /// PCIe permits, or when it arrives
    #[arg(long, value_name = "at-answer|at-once", default_value_t)]
    obeys: Obeys,

    #[arg(
        long,
        help = "Find DMA by translations whose invalidation was reported complete, or has failed: \
                events 'stale_access', and a summary at the end. 'ghostlink test' always does this"
    )]
    oracle: bool,

    /// End the run after this time, with status 124
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    time_limit: Option<Duration>,

    /// Report the state of the CPUs if the console stays silent for this time, or never
    #[arg(long, value_name = "TIME", default_value = "30s")]
    silence: Timeout,

    /// End the run when the guest resets itself, instead of restarting the guest: with status 0, or
    /// 4 after a triple fault
    #[arg(long)]
    no_reboot: bool,
}

/// The debug console that `--debugcon` describes. A file is created, or emptied.
fn debug_console(path: Option<PathBuf>) -> Result<DebugConsole, CliError> {
    let Some(path) = path else { return Ok(DebugConsole::Discard) };
    if path.as_os_str() == "stdio" {
        return Ok(DebugConsole::Stdout);
    }
    match File::create(&path) {
        Ok(file) => Ok(DebugConsole::File(Arc::new(file))),
        Err(source) => Err(CliError::DebugConsole { path, source }),
    }
}

/// The value of `--initrd`.
#[derive(Debug, Clone, Default)]
struct Modules(Vec<Module>);

impl FromStr for Modules {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let module = |part: &str| {
            let path = part.split(' ').next().unwrap_or(part);
            Module::File { path: path.into(), string: part.to_owned() }
        };
        Ok(Self(text.split(',').map(module).collect()))
    }
}

/// Runs one guest, as often as it resets itself; returns the exit status.
pub(super) fn run(args: RunArgs) -> Result<u8, CliError> {
    let (no_reboot, silence) = (args.no_reboot, args.silence);
    let mut config = args.into_config()?;
    warn_missing_options(&config);
    let end = config.time_limit.map(|limit| Instant::now() + limit);
    let mut found = StaleCounts::default();
    let mut suspended = None;
    loop {
        let mut vm = match suspended.take() {
            Some(suspended) => Vm::resume(config.clone(), suspended)?,
            None => Vm::new(config.clone())?,
        };
        watch_silence(&mut vm, silence);
        let handle = vm.handle();
        let outcome = vm.run();
        if !matches!(outcome, Err(vmm::Error::Stuck { .. }))
            && let Some(counts) = handle.stale_counts()
        {
            found.merge(&counts);
        }
        let exit = match outcome {
            // As on a PC: the chipset resets a processor that has shut down.
            Err(vmm::Error::Guest(failure))
                if failure.kind == FailureKind::TripleFault && !no_reboot =>
            {
                eprintln!("ghostlink: {failure}");
                Exit::Reset
            }
            outcome => {
                report_stale(&config, &found);
                outcome?
            }
        };
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match exit {
            Exit::Sleep => {
                suspended = handle.suspended();
                if !sleeps(suspended.as_ref(), left) {
                    return Ok(Exit::TimeLimit.status());
                }
            }
            Exit::Reset if !no_reboot => {
                eprintln!("ghostlink: the guest has reset itself; restarting it");
            }
            exit => return Ok(exit.status()),
        }
        config.root_complex.sticky = handle.sticky_registers();
        config.time_limit = end.map(|end| end.saturating_duration_since(Instant::now()));
    }
}

/// Waits until the guest's alarm wakes the machine up. `false` if `limit` has passed before, or if
/// there is no alarm and no limit.
fn sleeps(suspended: Option<&Suspended>, limit: Option<Duration>) -> bool {
    match suspended.and_then(Suspended::wake_after) {
        Some(wake) if limit.is_none_or(|limit| wake < limit) => {
            eprintln!("ghostlink: the guest sleeps for {} ms, until its alarm", wake.as_millis());
            std::thread::sleep(wake);
            true
        }
        Some(wake) => {
            eprintln!(
                "ghostlink: the guest sleeps for {} s, longer than --time-limit",
                wake.as_secs()
            );
            false
        }
        None => {
            eprintln!(
                "ghostlink: the guest sleeps, and nothing wakes it up: it has not set an alarm of the \
                 real-time clock with RTC_EN in PM1a enable"
            );
            false
        }
    }
}

/// Prints what the oracle has found, if there was one.
fn report_stale(config: &VmConfig, found: &StaleCounts) {
    if config.root_complex.oracle {
        eprintln!("ghostlink: {found}");
    }
}

/// Warns about options that the kernel lacks, if its configuration can be found.
fn warn_missing_options(config: &VmConfig) {
    let Kernel::File(path) = &config.kernel else { return };
    let missing = KernelConfig::of_image(path).and_then(|found| {
        let name = path.display().to_string();
        found.missing_options(&name, config.cpus > 1, !config.modules.is_empty())
    });
    if let Some(missing) = missing {
        eprintln!("ghostlink: {missing}");
    }
}

/// Makes `vm` report the state of its CPUs if its console stays silent for `silence`.
fn watch_silence(vm: &mut Vm, silence: Timeout) {
    if let Timeout::After(after) = silence {
        vm.on_silence(after, move |cpus| report_silent_guest(after, cpus));
    }
}

fn report_silent_guest(after: Duration, cpus: &[VcpuSnapshot]) {
    eprintln!(
        "ghostlink: the console has been silent for {}; Linux needs console=ttyS0 on its command line, \
         and prints earlier with earlyprintk=serial,ttyS0",
        Timeout::After(after)
    );
    for cpu in cpus {
        eprintln!("ghostlink: {cpu}");
    }
}

impl RunArgs {
    fn into_config(self) -> Result<VmConfig, CliError> {
        let tracer = super::tracer(self.events.as_deref())?;
        let kernel = match self.kernel {
            Some(path) => Kernel::File(path),
            None => Kernel::Image { name: "the built-in guest", bytes: resources::GUEST },
        };
        let topology = self.topology.into_topology(Some(self.edu.into()), "--edu")?;
        let root_complex = RootComplexConfig {
            faults: self.faults.into_faults(&topology)?,
            topology,
            obeys: self.obeys,
            oracle: self.oracle,
            ..self.unit.into_root_complex(self.host.into_host()?)?
        };
        Ok(VmConfig {
            kernel,
            cmdline: self.cmdline,
            modules: self.initrd.unwrap_or_default().0,
            memory: self.memory,
            cpus: self.cpus,
            root_complex,
            console: Console::Stdio,
            debugcon: debug_console(self.debugcon)?,
            tracer,
            time_limit: self.time_limit,
        })
    }
}
