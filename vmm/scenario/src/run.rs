//! One run of a scenario on this machine's KVM.

use std::io;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use iommu::event::{EventSink, Tracer};
use steps::Stamped;
use vmm::{Console, DebugConsole, Exit, VcpuSnapshot, Vm, VmConfig};

use crate::boot::Boot;
use crate::file::Scenario;
use crate::fix::Assume;
use crate::observation::{Observation, message_of, printable};
use crate::result::RunResult;
use crate::tally::Tally;

/// Kernel options of every scenario. `quiet`, because each byte on the console is an exit.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off";

/// The most that is kept of a console, in bytes: a guest decides how much it prints.
const CONSOLE_MAX: usize = 16 << 20;
/// The lines of the debug console that can wait to be read, before the guest has to.
const DEBUG_LINES: usize = 256;
/// The most that is kept of a line.
const LINE_MAX: usize = 4096;

/// Takes a line of the console, without control characters.
pub type OnLine = Box<dyn FnMut(&str) -> io::Result<()> + Send>;
/// Takes the state of the CPUs of a silent guest.
pub type OnSilence = Box<dyn FnMut(&[VcpuSnapshot]) + Send>;

/// Options of a run.
#[derive(Default)]
pub struct Options {
    /// For the kernel's command line, behind the scenario's own.
    pub cmdline: String,
    /// What is assumed of the kernel and the scenario's fix.
    pub assume: Assume,
    /// A further receiver of events.
    pub sink: Option<Arc<dyn EventSink>>,
    /// Called for each line of the console.
    pub on_line: Option<OnLine>,
    /// Called if the console stays silent for this time.
    pub on_silence: Option<(Duration, OnSilence)>,
    /// Instead of the scenario's time limit.
    pub time_limit: Option<Duration>,
}

/// A run without result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine could not be built, or could not go on.
    #[error(transparent)]
    Vmm(#[from] vmm::Error),
    /// A signal has ended the run.
    #[error("the run was ended by {0}")]
    Interrupted(Exit),
    /// The receiver of the console does not take it.
    #[error("cannot pass the console on: {0}")]
    Output(io::Error),
}

impl Scenario {
    /// The machine of the scenario, with its console at nothing.
    pub fn vm_config(&self, boot: &Boot, cmdline: &str) -> VmConfig {
        VmConfig {
            kernel: boot.kernel.clone(),
            cmdline: self.cmdline(cmdline),
            modules: boot.modules.clone(),
            memory: self.memory,
            cpus: self.cpus,
            root_complex: self.root_complex.clone(),
            console: Console::default(),
            debugcon: DebugConsole::default(),
            tracer: Tracer::none(),
            time_limit: Some(self.time_limit),
        }
    }

    /// The kernel's command line: the runner takes what is behind `--`.
    pub(crate) fn cmdline(&self, more: &str) -> String {
        let steps = self.steps.iter().map(|step| step.step.to_string());
        let parts = [CMDLINE, self.cmdline.trim(), more.trim(), "--"];
        let parts = parts.into_iter().filter(|part| !part.is_empty()).map(str::to_owned);
        let parts = parts.chain(steps);
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// Runs the scenario once, and judges the run.
///
/// # Errors
///
/// The machine cannot be built or go on, a signal comes, or `on_line` fails.
pub fn run(scenario: &Scenario, boot: &Boot, options: Options) -> Result<RunResult, RunError> {
    let Options { cmdline, assume, sink, on_line, on_silence, time_limit } = options;
    let tally = Arc::new(Tally::new(&scenario.expect, sink));
    let (sender, pieces) = channel();
    let (debug_sender, debug_lines) = sync_channel(DEBUG_LINES);
    let mut vm = Vm::new(VmConfig {
        console: Console::Channel(sender),
        debugcon: DebugConsole::Channel(debug_sender),
        tracer: Tracer::to(tally.clone()),
        time_limit: Some(time_limit.unwrap_or(scenario.time_limit)),
        ..scenario.vm_config(boot, &cmdline)
    })?;
    if let Some((after, report)) = on_silence {
        vm.on_silence(after, report);
    }
    let on_line = on_line.map(|on_line| Arc::new(Mutex::new(on_line)));
    let pass_on = on_line.clone();
    let reader = thread::spawn(move || read(&pieces, pass_on.as_ref()));
    let listener = thread::spawn(move || read(&debug_lines, on_line.as_ref()));
    let handle = vm.handle();
    let start = Instant::now();
    let exit = vm.run()?;
    let seconds = start.elapsed().as_secs_f64();
    let stale = handle.stale_counts().unwrap_or_default();
    // The channels close when the machine is gone.
    drop(handle);
    let [console, said] = [reader, listener]
        .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    let (console, said) = (console.map_err(RunError::Output)?, said.map_err(RunError::Output)?);
    if let Exit::Signal(_) = exit {
        return Err(RunError::Interrupted(exit));
    }
    let counts = tally.counts();
    let said = said.iter().filter_map(|line| line.parse::<Stamped>().ok());
    let messages = console.iter().filter_map(|line| message_of(line)).chain(said).collect();
    let console = console.into_iter().filter(|line| message_of(line).is_none()).collect();
    let observation = Observation { console, messages, counts, stale, exit, seconds };
    Ok(observation.judge(scenario, &boot.name, assume))
}

/// Reads a console up to its end, and returns its lines.
fn read(
    pieces: &Receiver<Vec<u8>>,
    on_line: Option<&Arc<Mutex<OnLine>>>,
) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let (mut line, mut kept) = (Vec::new(), 0);
    let mut end = |line: &mut Vec<u8>| -> io::Result<()> {
        let text = printable(&String::from_utf8_lossy(line));
        line.clear();
        if kept >= CONSOLE_MAX {
            return Ok(());
        }
        kept += text.len();
        if let Some(on_line) = on_line {
            on_line.lock().unwrap_or_else(PoisonError::into_inner)(&text)?;
        }
        lines.push(text);
        Ok(())
    };
    for byte in pieces.iter().flatten() {
        match byte {
            b'\n' => end(&mut line)?,
            _ if line.len() < LINE_MAX => line.push(byte),
            _ => {}
        }
    }
    if !line.is_empty() {
        end(&mut line)?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (sender, receiver) = channel();
        for piece in pieces {
            sender.send(piece.to_vec()).unwrap();
        }
        drop(sender);
        read(&receiver, None).unwrap()
    }

    #[test]
    fn a_guest_cannot_end_a_line_of_the_report_or_move_the_cursor() {
        assert_eq!(
            lines(&[b"a\r\nb\rnot ok 1\x1b[2J\n", b"\xe2\x80\xa8c\xff\td"]),
            ["a", "b\\rnot ok 1\\u{1b}[2J", "\\u{2028}c\u{fffd}\td"]
        );
    }

    #[test]
    fn a_console_without_end_does_not_fill_memory() {
        let long = lines(&[&vec![b'x'; 3 * LINE_MAX], b"\n", b"y"]);
        assert_eq!(long.iter().map(String::len).collect::<Vec<_>>(), [LINE_MAX, 1]);
        let piece = [&[b'x'; LINE_MAX][..], b"\n"].concat();
        let (sender, receiver) = channel();
        for _ in 0..2 * CONSOLE_MAX / LINE_MAX {
            sender.send(piece.clone()).unwrap();
        }
        drop(sender);
        let kept: usize = read(&receiver, None).unwrap().iter().map(String::len).sum();
        assert!(kept <= CONSOLE_MAX + LINE_MAX, "{kept}");
    }
}
