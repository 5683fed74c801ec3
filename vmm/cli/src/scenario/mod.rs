//! `ghostlink run --scenario FILE`: boots Linux, injects faults, and compares the result with the
//! expectations of the file.
//!
//! ```text
//!   FILE --> Scenario --> VmConfig --> Vm::run --+--> console, line by line --> stdout, as comments
//!                |                               +--> events
//!                +--> expectations -----------------> verdicts --> KTAP, exit status
//! ```
//!
//! The guest's part is the runner in `resources/linux/init`: steps behind `--` on its command line.

mod file;
mod fix;
mod judge;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use devices::root_complex::RootComplexConfig;
use devices::stale::StaleCounts;
use iommu::event::{EventSink, Recorder, TimedEvent, Tracer};
use iommu::time::Timeout;
use vmm::{Console, Exit, Kernel, Module, Vm, VmConfig};

use super::run::{warn_missing_options, watch_silence};
use super::unit;
use crate::CliError;
use crate::json_lines::JsonLines;
pub(super) use file::ScenarioError;
use file::{End, Scenario};
use judge::{Observed, Verdict};

/// Kernel options of every scenario. `quiet`, because each byte on the console is an exit.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off";

/// Options of `ghostlink run` that go with a scenario.
pub(super) struct ScenarioArgs {
    pub(super) kernel: Option<PathBuf>,
    pub(super) initrd: Vec<Module>,
    pub(super) cmdline: String,
    pub(super) events: Option<PathBuf>,
    /// Silence of the console after which the CPUs are reported.
    pub(super) silence: Timeout,
}

/// Runs the scenario in `path`; 0 if everything was as expected.
pub(super) fn run(path: &Path, args: ScenarioArgs) -> Result<u8, CliError> {
    let scenario = Scenario::read(path)?;
    let kernel = Kernel::File(args.kernel.ok_or(ScenarioError::NoKernel)?);
    let recorder = Arc::new(Recorder::default());
    let tracer = tracer(recorder.clone(), args.events.as_deref())?;
    let (sender, lines) = channel();
    let config = VmConfig {
        kernel,
        cmdline: cmdline(&scenario, &args.cmdline),
        modules: args.initrd,
        memory: scenario.memory,
        cpus: scenario.cpus,
        root_complex: root_complex(&scenario, path)?,
        console: Console::Channel(sender),
        tracer,
        time_limit: Some(scenario.time_limit),
    };
    warn_missing_options(&config);
    let mut vm = Vm::new(config)?;
    watch_silence(&mut vm, args.silence);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    print(&head(&name, &scenario))?;
    let printer = thread::spawn(move || show(&lines));
    let handle = vm.handle();
    let exit = vm.run()?;
    let found = handle.stale_counts().unwrap_or_default();
    // The console's channel closes when the machine is gone.
    drop(handle);
    let console = printer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    if let Exit::Signal(_) = exit {
        return Ok(exit.status());
    }
    let events = recorder.events();
    let observed = Observed::new(&console, &events);
    let mut verdicts = vec![reached_the_end(exit, &scenario)];
    verdicts.extend(observed.judge(&scenario));
    verdicts.extend(scenario.stale_accesses.map(|most| judge_stale(most, &found)));
    print(&format!("# {name}: {found}\n"))?;
    if let (Some(fix), Some(has)) = (&scenario.fix, observed.has_fix(&scenario)) {
        print(&format!("# {name}: this kernel {} {fix}\n", if has { "has" } else { "lacks" }))?;
    }
    report(&name, observed.kernel(), &verdicts)
}

fn head(name: &str, scenario: &Scenario) -> String {
    let lines = scenario.about.trim().lines();
    let about: String = lines.map(|line| format!("#   {line}\n")).collect();
    let host = &scenario.below;
    format!("KTAP version 1\n# {name}: {}\n#   host: {host}\n{about}", scenario.title)
}

fn cmdline(scenario: &Scenario, more: &str) -> String {
    let steps: Vec<&str> = scenario.steps.iter().map(|step| step.words.as_str()).collect();
    let parts = [CMDLINE, scenario.cmdline.trim(), more.trim(), "--"];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).chain(steps).collect();
    parts.join(" ")
}

fn root_complex(scenario: &Scenario, path: &Path) -> Result<RootComplexConfig, CliError> {
    let config = unit::root_complex(scenario.below.clone(), scenario.unit.clone(), path)?;
    Ok(RootComplexConfig {
        topology: scenario.topology.clone().unwrap_or(config.topology),
        faults: scenario.fault.clone(),
        oracle: true,
        ..config
    })
}

/// Sends events to a recorder and to a file.
struct Tee(Arc<Recorder>, JsonLines<std::fs::File>);

impl EventSink for Tee {
    fn record(&self, event: TimedEvent) {
        self.0.record(event.clone());
        self.1.record(event);
    }
}

fn tracer(recorder: Arc<Recorder>, path: Option<&Path>) -> Result<Tracer, CliError> {
    let Some(path) = path else { return Ok(Tracer::to(recorder)) };
    match JsonLines::create(path) {
        Ok(file) => Ok(Tracer::to(Arc::new(Tee(recorder, file)))),
        Err(source) => Err(CliError::Events { path: path.to_owned(), source }),
    }
}

/// Prints the console as it comes, each line as a comment; returns all of it.
fn show(pieces: &Receiver<Vec<u8>>) -> Result<String, CliError> {
    let mut console = Vec::new();
    let mut shown = 0;
    for piece in pieces {
        console.extend_from_slice(&piece);
        while let Some(length) = console[shown..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&console[shown..shown + length]);
            print(&format!("# | {}\n", line.trim_end()))?;
            shown += length + 1;
        }
    }
    Ok(String::from_utf8_lossy(&console).into_owned())
}

fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// The runner writes 0 to the debug-exit port at its end.
fn reached_the_end(exit: Exit, scenario: &Scenario) -> Verdict {
    let at_end = exit == Exit::DebugExit(0);
    let (that, ok) = match (scenario.ends, scenario.survives) {
        (Some(End::Reset), _) => ("the guest resets the machine", exit == Exit::Reset),
        (Some(End::PowerOff), _) => ("the guest switches the machine off", exit == Exit::PowerOff),
        (None, true) => ("the runner gets to its end", at_end),
        (None, false) => ("the guest dies before", !at_end),
    };
    Verdict { ok, that: that.into(), evidence: vec![format!("the run ended by {exit}")] }
}

/// DMA that was not judged may have been stale.
fn judge_stale(most: u64, found: &StaleCounts) -> Verdict {
    let StaleCounts { stale_accesses, not_judged, not_followed, .. } = *found;
    let ok = stale_accesses <= most && (not_judged, not_followed) == (0, 0);
    let that = match most {
        0 => "no DMA by a translation whose invalidation has ended".to_owned(),
        most => format!("DMA by translations whose invalidation has ended: {most} at the most"),
    };
    Verdict { ok, that, evidence: vec![found.to_string()] }
}

fn report(name: &str, kernel: Option<&str>, verdicts: &[Verdict]) -> Result<u8, CliError> {
    let mut text =
        format!("# {name}: kernel {}\n1..{}\n", kernel.unwrap_or("unknown"), verdicts.len());
    for (index, Verdict { ok, that, evidence }) in verdicts.iter().enumerate() {
        let result = if *ok { "ok" } else { "not ok" };
        text += &format!("{result} {} {that}\n", index + 1);
        for line in evidence {
            text += &format!("#   {line}\n");
        }
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.ok).count();
    text += &format!("# {name}: {} passed, {failed} failed\n", verdicts.len() - failed);
    print(&text)?;
    Ok(u8::from(failed > 0))
}
