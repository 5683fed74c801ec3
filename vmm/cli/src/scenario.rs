//! `ghostlink run --scenario FILE`: boots Linux, injects faults, and compares the result with the
//! expectations of the file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iommu::event::EventSink;
use iommu::time::Timeout;
use scenario::{Boot, Options, Outcome, RunError, RunResult, Scenario, Status, run as run_once};
use vmm::{Kernel, Module};

use super::run::{report_silent_guest, warn_missing_options};
use crate::json_lines::JsonLines;
use crate::{CliError, FAILURE};

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
    let kernel = args.kernel.ok_or(CliError::NoKernel)?;
    let boot = Boot {
        name: kernel.display().to_string(),
        kernel: Kernel::File(kernel),
        modules: args.initrd,
    };
    let sink = args.events.as_deref().map(sink).transpose()?;
    warn_missing_options(&scenario.vm_config(&boot, &args.cmdline));
    print(&head(&scenario)).map_err(CliError::Output)?;
    let options = Options {
        cmdline: args.cmdline,
        sink,
        on_line: Some(Box::new(|line| print(&format!("# | {line}\n")))),
        on_silence: match args.silence {
            Timeout::Never => None,
            Timeout::After(after) => {
                Some((after, Box::new(move |cpus| report_silent_guest(after, cpus))))
            }
        },
        ..Options::default()
    };
    let result = match run_once(&scenario, &boot, options) {
        Ok(result) => result,
        Err(RunError::Vmm(error)) => return Err(error.into()),
        Err(RunError::Output(error)) => return Err(CliError::Output(error)),
        Err(RunError::Interrupted(exit)) => return Ok(exit.status()),
    };
    print(&report(&result)).map_err(CliError::Output)?;
    let failed = result.outcome != Outcome::Pass;
    Ok(if failed { FAILURE } else { 0 })
}

/// A sink for events that writes JSON lines.
fn sink(path: &Path) -> Result<Arc<dyn EventSink>, CliError> {
    match JsonLines::create(path) {
        Ok(file) => Ok(Arc::new(file)),
        Err(source) => Err(CliError::Events { path: path.to_owned(), source }),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

fn head(scenario: &Scenario) -> String {
    let lines = scenario.about.trim().lines();
    let about: String = lines.map(|line| format!("#   {line}\n")).collect();
    let Scenario { name, title, host, .. } = scenario;
    format!("KTAP version 1\n# {name}: {title}\n#   host: {host}\n{about}")
}

fn report(result: &RunResult) -> String {
    let RunResult { scenario: name, verdicts, release, .. } = result;
    let release = release.as_deref().unwrap_or("unknown");
    let mut text = format!("# {name}: {}\n", result.stale);
    if let Some(fix) = &result.fix {
        let has = if fix.judged_as_fixed { "has" } else { "lacks" };
        let (commit, subject) = (&fix.commit, &fix.subject);
        text += &format!("# {name}: this kernel {has} {commit} (\"{subject}\")\n");
    }
    text += &format!("# {name}: kernel {release}\n1..{}\n", verdicts.len());
    for (index, verdict) in verdicts.iter().enumerate() {
        let word = if verdict.status == Status::Failed { "not ok" } else { "ok" };
        let skip = if verdict.status == Status::Skipped { " # SKIP" } else { "" };
        text += &format!("{word} {} {}{skip}\n", index + 1, verdict.that);
        for line in &verdict.evidence {
            text += &format!("#   {line}\n");
        }
    }
    if let Outcome::NotJudged(reason) = &result.outcome {
        text += &format!("# {name}: not judged: {reason}\n");
    }
    let [passed, failed, skipped] =
        [Status::Ok, Status::Failed, Status::Skipped].map(|status| result.count(status));
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    text + &format!("# {name}: {passed} passed, {failed} failed{skipped}\n")
}
