//! `ghostlink demo`: runs the built-in guest once on bare metal and once above a host with each
//! policy, and compares its waiting times.
//!
//! Times are scaled so that all of it takes half a minute: the physical unit gives up after two
//! seconds, where PCIe allows a function one to two minutes to answer, and the guest after three,
//! where a lock-up detector takes ten seconds or twenty.

mod output;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, ValueEnum};
use devices::fault::{Fault, FaultMode, Trigger};
use devices::root_complex::RootComplexConfig;
use iommu::event::{Recorder, Tracer, UnitRole};
use iommu::ids::Bdf;
use iommu::submit::{PRESETS, Preset};
use iommu::time::Timeout;
use iommu::unit::{Ordering, UnitConfig};
use vmm::{Console, DebugConsole, Exit, Kernel, MemorySize, Summary, Vm, VmConfig};

use super::host::{self, HostChoice, HostKind};
use super::policies::PoliciesArgs;
use super::progress::Progress;
use crate::CliError;

/// The function behind the first port, as the built-in guest numbers buses.
const VICTIM: Bdf = Bdf::new(1, 0, 0);
/// Time after which the guest gives up on a flush. A real guest would not.
const GIVE_UP: Duration = Duration::from_secs(3);
/// A longer run counts as failed.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The policies that are run unless others are asked for.
const SHOWN: [&str; 4] = ["linux", "bounded", "amd", "present+bounded"];

/// Options of `ghostlink demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Only this kind of host: the guest's unit is the physical one (direct), or a host with a policy
    /// is below it (forwarded) [default: both, or forwarded with --policy]
    #[arg(long, value_name = "direct|forwarded")]
    host: Option<HostKind>,

    /// Only this policy; may be given several times [default: linux, bounded, amd, present+bounded]
    #[arg(long, value_name = "POLICY")]
    policy: Vec<String>,

    #[command(flatten)]
    policies: PoliciesArgs,

    /// Time after which the physical unit raises ITE, or never. PCIe recommends 1m 30s
    #[arg(long, value_name = "TIME", default_value = "2s")]
    ict: Timeout,

    /// Order in which waits in the units' queues complete: serial (after everything in front),
    /// parallel (after what stands between a wait and the previous one), or blocking (as serial, and
    /// nothing is fetched behind a pending wait)
    #[arg(long, value_name = "ORDER", default_value_t)]
    ordering: Ordering,
}

impl Default for DemoArgs {
    fn default() -> Self {
        let ict = Timeout::After(Duration::from_secs(2));
        let policies = PoliciesArgs::default();
        Self {
            format: Format::Table,
            host: None,
            policy: Vec::new(),
            policies,
            ict,
            ordering: Ordering::default(),
        }
    }
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people.
    Table,
    /// A JSON object for each run, on a line of its own.
    Json,
}

/// The fault of the victim's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Nothing.
    Healthy,
    /// It vanishes, and nothing says so.
    Silent,
    /// It vanishes, and the physical unit never raises ITE.
    SilentNoIte,
}

impl Scenario {
    const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Silent => "silent",
            Self::SilentNoIte => "silent-no-ite",
        }
    }
}

/// One run, before it and after it.
#[derive(Debug)]
struct Run {
    host: HostChoice,
    scenario: Scenario,
    /// Time-out of the physical unit.
    ict: Timeout,
    ordering: Ordering,
}

/// Runs everything; returns the exit status.
pub(super) fn run(args: &DemoArgs) -> Result<u8, CliError> {
    let runs = plan(args)?;
    let progress = Progress::new(runs.len());
    let mut rows = Vec::with_capacity(runs.len());
    for (index, run) in runs.into_iter().enumerate() {
        progress.begin(index, format!("{}, {}", run.host, run.scenario.name()));
        let summary = match boot(&run)? {
            RunEnd::Interrupted(status) => return Ok(status),
            RunEnd::Done(summary) => summary,
        };
        if args.format == Format::Json {
            progress.suspended(|| output::write_json(&run, &summary)).map_err(CliError::Output)?;
        }
        rows.push((run, summary));
    }
    progress.finish();
    if args.format == Format::Table {
        output::write_table(args, &rows).map_err(CliError::Output)?;
    }
    Ok(0)
}

/// All runs. The healthy ones come first, as the reference for the others.
fn plan(args: &DemoArgs) -> Result<Vec<Run>, CliError> {
    let shown = PRESETS.iter().filter(|preset| SHOWN.contains(&preset.name)).map(Preset::policy);
    let shown = shown.filter(|policy| policy.applies_to(args.ordering));
    let hosts = host::compared(args.host, &args.policy, &args.policies, shown.collect())?;
    let mut scenarios = vec![(Scenario::Healthy, args.ict), (Scenario::Silent, args.ict)];
    if args.ict != Timeout::Never {
        scenarios.push((Scenario::SilentNoIte, Timeout::Never));
    }
    let ordering = args.ordering;
    let run = |(scenario, ict)| {
        hosts.iter().cloned().map(move |host| Run { host, scenario, ict, ordering })
    };
    Ok(scenarios.into_iter().flat_map(run).collect())
}

/// The end of a boot.
enum RunEnd {
    Done(Summary),
    /// A signal or Ctrl-A x, with this exit status.
    Interrupted(u8),
}

fn boot(run: &Run) -> Result<RunEnd, CliError> {
    let events = Arc::new(Recorder::default());
    let console = Arc::new(Mutex::new(Vec::new()));
    let vm = Vm::new(run.config(Tracer::to(events.clone()), console.clone()))?;
    match vm.run()? {
        Exit::DebugExit(0) => Ok(RunEnd::Done(Summary::new(&events.events(), VICTIM))),
        exit @ (Exit::Signal(_) | Exit::Stopped) => Ok(RunEnd::Interrupted(exit.status())),
        exit => Err(CliError::Guest {
            host: run.host.to_string(),
            scenario: run.scenario.name(),
            exit,
            console: last_lines(&console),
        }),
    }
}

/// The last lines of the console.
fn last_lines(console: &Mutex<Vec<u8>>) -> String {
    const LINES: usize = 8;
    let console = console.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = String::from_utf8_lossy(&console).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

impl Run {
    fn config(&self, tracer: Tracer, console: Arc<Mutex<Vec<u8>>>) -> VmConfig {
        let scenario = if self.scenario == Scenario::Healthy { "healthy" } else { "silent" };
        let (ict, ordering) = (self.ict, self.ordering);
        let unit = UnitConfig { ict, ordering, ..UnitConfig::new(UnitRole::Guest) };
        let silent =
            Fault { trigger: Trigger::Doorbell, port: None, mode: FaultMode::Silent, lasts: None };
        let root_complex = self.host.clone().into_root_complex(unit);
        VmConfig {
            kernel: Kernel::Image { name: "the built-in guest", bytes: resources::GUEST },
            cmdline: format!(
                "test=drop blame=owner unmap=on scenario={scenario} giveup_ms={}",
                GIVE_UP.as_millis()
            ),
            modules: Vec::new(),
            memory: MemorySize::default(),
            cpus: 2,
            root_complex: RootComplexConfig { faults: vec![silent], oracle: true, ..root_complex },
            console: Console::Capture(console),
            debugcon: DebugConsole::Discard,
            tracer,
            time_limit: Some(TIME_LIMIT),
        }
    }
}
