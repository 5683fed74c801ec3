//! Takes the steps.
//!
//! - [`state`]: steps that look at a healthy machine.
//! - [`acts`]: steps that do one thing, bounded in time, on a CPU that may get stuck.
//! - [`time`]: steps that wait and measure.
//! - [`endings`]: steps after which this kernel does not run any more.

mod acts;
mod endings;
mod state;
mod time;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use steps::{Disk, Message, Outcome, Quantity, Step, Text, VfioAction};

use crate::boot;
use crate::child::{self, Done, Evidence, News};
use crate::kernel_log::{KernelLog, Record};
use crate::modules::Modules;
use crate::pci::Function;
use crate::shell::{self, Terminal};
use crate::speaker::Speaker;
use crate::vfio::Holder;

/// The argument of a process that ends at once.
pub(crate) const PROBE: &str = "probe";

/// The pause between two looks at what is awaited.
const PAUSE: Duration = Duration::from_millis(10);
/// Records of the log that are passed on between two looks.
const LOGGED_AT_ONCE: usize = 4;
/// The time that passing on the rest of the log may take.
const LOG_DELAY: Duration = Duration::from_secs(20);
/// The time that a stuck CPU may delay the console, before the machine ends.
const CONSOLE_DELAY: Duration = Duration::from_secs(2);

/// Why a step does not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// It has failed.
    Failed(String),
    /// This kernel cannot do it.
    Skip(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Taken = Result<(), Failure>;

/// Succeeds if `condition` holds.
fn require(condition: bool, reason: &str) -> Taken {
    if condition { Ok(()) } else { Err(reason.into()) }
}

/// A disk and the port above it, as they were when the driver found the disk. It may have no driver
/// any more.
#[derive(Debug, Clone)]
struct FoundDisk {
    function: Function,
    port: Function,
}

/// The runner.
pub(crate) struct Runner {
    speaker: Speaker,
    log: KernelLog,
    modules: Modules,
    /// By the disks' numbers.
    disks: Vec<Option<FoundDisk>>,
    hearts: Vec<time::Heart>,
    vfio: Option<Holder>,
    cpus: usize,
}

impl Runner {
    /// A runner that can speak.
    pub(crate) fn new() -> io::Result<Self> {
        let speaker = Speaker::new()?;
        let mut runner = Self {
            log: KernelLog::open().map_err(|error| {
                speaker.show(&format!("cannot open /dev/kmsg: {error}"));
                error
            })?,
            modules: Modules::read()?,
            speaker,
            disks: Vec::new(),
            hearts: Vec::new(),
            vfio: None,
            cpus: boot::cpus(),
        };
        child::keep_busy(runner.last_cpu())?;
        runner.pump();
        Ok(runner)
    }

    /// Takes all steps, then ends the machine.
    pub(crate) fn run(&mut self, words: &[String]) {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = Text::new(release.trim());
        self.speaker.say(Message::Start { release, cpus: self.cpus as u32 });
        // A second kernel goes on behind the step that has started it.
        let before = endings::steps_before();
        self.speaker.say(Message::Plan { steps: before + words.len() as u32 });
        if before > 0 {
            self.result(before, &Step::Kexec.to_string(), Outcome::Ok);
        }
        for (number, word) in (before + 1..).zip(words) {
            self.speaker.say(Message::Step { number, word: Text::new(word) });
            let rest = &words[(number - before) as usize..];
            let result = match word.parse::<Step>() {
                Ok(step) => self.take(&step, number, rest),
                Err(error) => Err(Failure::Failed(error.to_string())),
            };
            self.conclude(number, word, result);
        }
        self.pass_log_on();
        self.speaker.say(Message::End);
        self.pause(CONSOLE_DELAY);
        // Power-off would wait for devices that do not answer.
        self.speaker.end_machine();
    }

    /// Reads commands on the serial line, then ends the machine.
    pub(crate) fn shell(&mut self) {
        let terminal = Terminal::open().and_then(|terminal| {
            self.speaker.repeat_on(terminal.output()?);
            Ok(terminal)
        });
        let last_cpu = self.last_cpu();
        match terminal {
            Ok(terminal) => {
                let runner = RefCell::new(&mut *self);
                let mut number = 0;
                let take = |step: &Step, word: &str| {
                    let mut runner = runner.borrow_mut();
                    number += 1;
                    let result = runner.take(step, number, &[shell::WORD.to_owned()]);
                    runner.conclude(number, word, result);
                };
                let log = || {
                    let mut runner = runner.borrow_mut();
                    runner.pump();
                    runner.log.records().map(Record::line).collect()
                };
                shell::run(terminal, last_cpu, take, log);
            }
            Err(error) => self.show(format!("cannot open /dev/ttyS0: {error}")),
        }
        self.speaker.end_machine();
    }

    fn conclude(&mut self, number: u32, word: &str, result: Taken) {
        self.pump();
        let outcome = match result {
            Ok(()) => Outcome::Ok,
            Err(Failure::Skip(reason)) => Outcome::Skip(Text::new(&reason)),
            Err(Failure::Failed(reason)) => {
                self.speaker.show(&reason);
                Outcome::NotOk
            }
        };
        self.result(number, word, outcome);
    }

    fn result(&self, number: u32, word: &str, outcome: Outcome) {
        self.speaker.say(Message::Result { number, word: Text::new(word), outcome });
    }

    fn take(&mut self, step: &Step, number: u32, rest: &[String]) -> Taken {
        match step {
            Step::Vtd(mode) => self.vtd(*mode),
            Step::Strict => self.invalidation_policy("strict"),
            Step::Lazy => self.invalidation_policy("lazy"),
            Step::Cpus(count) => self.cpus_online(*count),
            Step::Nvme(count) => self.nvme(*count),
            Step::Vfs(count) => self.vfs(*count),
            Step::Ats(disk) => self.ats(*disk),
            Step::Domain(disk, domain) => self.domain(*disk, *domain),
            Step::Reserved(disk) => self.reserved(*disk),
            Step::Disk(disk) => self.verify_disk(*disk),
            Step::Same(first, second) => self.same(*first, *second),
            Step::Interrupts => self.interrupts(),
            Step::Lspci => self.lspci(),
            Step::Config(disk) => self.read_config(*disk),
            Step::Ports => self.ports(),
            Step::Log => self.warnings(),
            Step::Alive => self.alive(),
            Step::Reads(disk) => self.reads(*disk),
            Step::Read { disk, cpu } => self.read_once(*disk, *cpu),
            Step::Answers(disk) => self.answers(*disk),
            Step::Bar(disk) => self.read_bar(*disk),
            Step::Beat => self.beat(),
            Step::Stall => self.stall(),
            Step::Mark(word) => {
                self.speaker.say(Message::Mark(word.clone()));
                Ok(())
            }
            Step::Gone(disk) => self.gone(*disk),
            Step::Removed(disk) => self.removed(*disk),
            Step::Until(pattern) => self.until(pattern),
            Step::Wait(seconds) => {
                self.pause(Duration::from_secs((*seconds).into()));
                Ok(())
            }
            Step::Remove(disk) => self.write_to_function("remove", *disk, "remove", "1"),
            Step::Unbind(disk) => self.unbind(*disk),
            Step::Bind(disk) => self.bind(*disk),
            Step::Rescan => self.bounded_write("rescan", "/sys/bus/pci/rescan".into(), "1"),
            Step::ResetFunction(disk) => {
                self.write_to_function("reset_function", *disk, "reset", "1")
            }
            Step::ResetController(disk) => self.reset_controller(*disk),
            Step::Affinity { disk, cpu } => self.affinity(*disk, *cpu),
            Step::Disable(disk) => Ok(self.disk(*disk)?.port.disable_link(true)?),
            Step::Enable(disk) => Ok(self.disk(*disk)?.port.disable_link(false)?),
            Step::Suspend => self.suspend(),
            Step::Debugfs => self.debugfs(),
            Step::GroupType(domain) => self.group_type(*domain),
            Step::Vfio(VfioAction::Bind) => self.vfio_bind(),
            Step::Vfio(VfioAction::Release) => {
                self.vfio = None;
                self.give_to("nvme", Disk(0))
            }
            Step::Vfio(action) => self.vfio_act(*action),
            Step::Kdump => self.kdump(),
            Step::Kexec => self.kexec(number, rest),
            Step::Reset(kind) => self.reset_machine(*kind),
            Step::PowerOff => self.power_off(),
        }
    }

    /// The disk with this number, which the step `nvme` has found.
    fn disk(&self, disk: Disk) -> Result<FoundDisk, Failure> {
        let found = self.disks.get(usize::from(disk.0)).and_then(Option::as_ref);
        found.cloned().ok_or_else(|| {
            Failure::Failed(format!("disk {disk} is unknown: take the step nvme before"))
        })
    }

    /// A file of the disk's function in sysfs.
    fn disk_file(&self, disk: Disk, name: &str) -> Result<PathBuf, Failure> {
        Ok(self.disk(disk)?.function.file(name))
    }

    fn last_cpu(&self) -> usize {
        self.cpus - 1
    }

    /// Passes on what the kernel has logged, and takes the states of ended processes.
    fn pump(&mut self) {
        self.log.pump(&self.speaker, LOGGED_AT_ONCE);
        child::reap();
    }

    /// Passes on all of the kernel's log, at most for [`LOG_DELAY`].
    fn pass_log_on(&mut self) {
        let end = Instant::now() + LOG_DELAY;
        while !self.log.pump(&self.speaker, 1) && Instant::now() < end {}
    }

    fn pause(&mut self, time: Duration) {
        let _ = self.wait_for(time, |_| None::<()>);
    }

    /// Calls `look` until it returns something, at most for `limit`.
    fn wait_for<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + limit;
        loop {
            self.pump();
            if let Some(found) = look(self) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(PAUSE));
        }
    }

    fn wait_until(
        &mut self,
        limit: Duration,
        reason: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Taken {
        let found = self.wait_for(limit, |runner| holds(runner).then_some(()));
        found.ok_or_else(|| format!("{reason} within {} s", limit.as_secs()).into())
    }

    /// Does `work` in a process on `cpu`, and waits for it. `None` if it takes longer than `limit`;
    /// the process is left alone then.
    fn in_process(
        &mut self,
        cpu: usize,
        limit: Duration,
        work: impl FnOnce(&mut Evidence) -> Result<(), String>,
    ) -> Result<Option<Done>, Failure> {
        let mut work = child::work(cpu, work)?;
        let done = self.wait_for(limit, |runner| {
            loop {
                match work.news() {
                    News::Evidence(text) => runner.speaker.show(&text),
                    News::Done(done) => return Some(done),
                    News::Nothing => return None,
                }
            }
        });
        Ok(done)
    }

    /// As [`Self::in_process`]; fails if the work fails or takes longer.
    fn on_last_cpu(
        &mut self,
        limit: Duration,
        work: impl FnOnce(&mut Evidence) -> Result<(), String>,
    ) -> Taken {
        match self.in_process(self.last_cpu(), limit, work)? {
            Some(done) => Ok(done.result?),
            None => Err(format!("not done within {} s", limit.as_secs()).into()),
        }
    }

    /// Does `work` on `cpu`, and says how long it has taken, as the value `NAME_ms`.
    fn bounded(
        &mut self,
        name: &str,
        cpu: usize,
        limit: Duration,
        work: impl FnOnce(&mut Evidence) -> Result<(), String>,
    ) -> Taken {
        if cpu >= self.cpus {
            return Err(format!("there is no CPU {cpu}: {} are online", self.cpus).into());
        }
        match self.in_process(cpu, limit, work)? {
            Some(done) => {
                self.value(&format!("{name}_ms"), Quantity::Number(done.took.as_millis() as u64));
                Ok(done.result?)
            }
            None => {
                self.value(&format!("{name}_ms"), Quantity::Never);
                Err(format!("not done within {} s", limit.as_secs()).into())
            }
        }
    }

    fn value(&self, name: &str, quantity: Quantity) {
        if let Ok(name) = name.parse() {
            self.speaker.say(Message::Value { name, quantity });
        }
    }

    fn show(&self, text: impl AsRef<str>) {
        self.speaker.show(text.as_ref());
    }
}
