//! The abilities of this host's KVM, as it tells them and as a few bytes of guest code show them, and
//! which guests follow from that.
//!
//! A KVM without hardware support runs the guest's kernel in an emulator with gaps, or delivers system
//! calls in ways that no processor does. No capability tells: only trying does.

mod assembler;
mod probe;

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use devices::root_complex::RootComplexConfig;
use devices::topology::Topology;
use iommu::event::{Tracer, UnitRole};
use iommu::unit::UnitConfig;
use serde::Serialize;

use crate::config::{Console, DebugConsole, Kernel, MemorySize, VmConfig};
use crate::kvm::{self, FailureKind};
use crate::{Error, Exit, Vm};
use assembler::{Leaf, Register};
use probe::Trial;

/// When a probe is given up. The slowest takes some tenths of a second in an emulator.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rounds of the loop whose speed is measured: 0.15 s in an emulator.
const ROUNDS: u32 = 100_000;
/// A difference that is shorter cannot be told from noise.
const SHORTEST: Duration = Duration::from_millis(1);
/// Below so many instructions a second an emulator is at work, and not a processor.
const EMULATED: u64 = 20_000_000;

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// It works as on a processor.
    Works,
    /// The processor says that it has no such instruction: software will not use it.
    Absent,
    /// It does not work.
    Fails(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::Absent => f.write_str("not there, which is told"),
            Self::Fails(reason) => write!(f, "FAILS: {reason}"),
        }
    }
}

/// Something that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the probe.
    pub name: &'static str,
    /// Its result.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The kinds of guests that a host may be asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// Bare-metal guests, kvm-unit-tests, a kernel's own threads.
    BareMetal,
    /// Linux with user space.
    Linux,
}

/// The abilities of a host's KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The reason for which KVM cannot be used at all. All other fields are then empty.
    pub unusable: Option<String>,
    /// The version of KVM's interface, 12 on every kernel since 2.6.22.
    pub api_version: Option<i32>,
    /// `vmx`, `svm`, or nothing: there is no hardware support.
    pub hardware: Option<&'static str>,
    /// The highest number of virtual CPUs that KVM recommends for one machine.
    pub recommended_cpus: Option<usize>,
    /// Instructions of guest kernel code a second, in a small loop. Rough; at 200 million and above it can
    /// be any number.
    pub kernel_instructions_per_second: Option<u64>,
    /// The probes and their results, in the order of trial.
    pub findings: Vec<Finding>,
}

/// Asks and tries everything. Takes about a second where an emulator is at work.
pub fn examine() -> Report {
    let hardware = hardware();
    let (api_version, recommended_cpus) = match kvm::limits() {
        Ok(limits) => limits,
        Err(error) => return Report::unusable(error, hardware),
    };
    let (speed, took) = match timed_loop() {
        Ok(found) => found,
        Err(error) => return Report::unusable(error, hardware),
    };
    let speed = (speed == Outcome::Works).then(|| {
        let instructions = u128::from(ROUNDS) * 2 * 1_000_000_000;
        u64::try_from(instructions / took.max(SHORTEST).as_nanos()).unwrap_or(u64::MAX)
    });
    let try_all = || {
        let finding = |(name, image): &'static (&'static str, Vec<u8>)| {
            Ok::<_, Error>(Finding { name, outcome: run(image)? })
        };
        PROBES.iter().map(finding).collect::<Result<Vec<_>, _>>()
    };
    match try_all() {
        Ok(findings) => Report {
            unusable: None,
            api_version: Some(api_version),
            hardware,
            recommended_cpus: Some(recommended_cpus),
            kernel_instructions_per_second: speed,
            findings,
        },
        Err(error) => Report::unusable(error, hardware),
    }
}

impl Report {
    fn unusable(error: Error, hardware: Option<&'static str>) -> Self {
        Self {
            unusable: Some(error.to_string()),
            api_version: None,
            hardware,
            recommended_cpus: None,
            kernel_instructions_per_second: None,
            findings: Vec::new(),
        }
    }

    /// Whether guest kernel code runs in an emulator.
    pub fn is_emulated(&self) -> bool {
        self.kernel_instructions_per_second.is_some_and(|speed| speed < EMULATED)
    }

    /// Whether this host can run such guests; if not, why.
    ///
    /// # Errors
    /// The failed probes, as text.
    pub fn check(&self, requirement: Requirement) -> Result<(), String> {
        if let Some(reason) = &self.unusable {
            return Err(reason.clone());
        }
        if requirement == Requirement::BareMetal {
            return match self.kernel_instructions_per_second {
                Some(_) => Ok(()),
                None => Err("a loop of two instructions does not get to its end".to_owned()),
            };
        }
        let failing = self.findings.iter().filter_map(|finding| match &finding.outcome {
            Outcome::Fails(reason) => Some(format!("{} ({reason})", finding.name)),
            Outcome::Works | Outcome::Absent => None,
        });
        match failing.collect::<Vec<_>>() {
            failing if failing.is_empty() => Ok(()),
            failing => Err(failing.join(", ")),
        }
    }
}

/// The processor's support for virtual machines, as the host's kernel lists it.
fn hardware() -> Option<&'static str> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["vmx", "svm"].into_iter().find(|flag| flags.split_whitespace().any(|word| word == *flag))
}

/// The probes, each with its guest. Linux does all of them.
static PROBES: LazyLock<Vec<(&'static str, Vec<u8>)>> = LazyLock::new(|| {
    let instruction = |needs, code| Trial::Instruction { needs, code };
    let (basic, extended) = (Leaf(1), Leaf(7));
    let (ebx, ecx) = (Register::Ebx, Register::Ecx);
    [
        ("system call by SYSCALL", Trial::Syscall),
        ("system call by INT 0x80", Trial::SoftwareInterrupt),
        ("INT3", instruction(None, &[0xcc])),
        ("POPCNT", instruction(Some((basic, ecx, 23)), probe::POPCNT)),
        ("CMPXCHG16B", instruction(Some((basic, ecx, 13)), probe::CMPXCHG16B)),
        ("XSAVE", instruction(Some((basic, ecx, 26)), probe::XSAVE)),
        ("SSE move", instruction(None, probe::SSE_MOVE)),
        ("STAC, CLAC", instruction(Some((extended, ebx, 20)), probe::STAC)),
    ]
    .map(|(name, trial)| (name, probe::image(trial)))
    .to_vec()
});

static LOOP: LazyLock<Vec<u8>> = LazyLock::new(|| probe::image(Trial::Loop { rounds: ROUNDS }));

/// Runs the loop, and says how long that has taken, without what a machine takes to start.
fn timed_loop() -> Result<(Outcome, Duration), Error> {
    static NOTHING: LazyLock<Vec<u8>> = LazyLock::new(|| probe::image(Trial::Loop { rounds: 1 }));
    let timed = |image| {
        let start = Instant::now();
        run(image).map(|outcome| (outcome, start.elapsed()))
    };
    let (_, empty) = timed(&*NOTHING)?;
    let (outcome, full) = timed(&*LOOP)?;
    Ok((outcome, full.saturating_sub(empty)))
}

/// Runs a guest to its end.
fn run(image: &'static [u8]) -> Result<Outcome, Error> {
    let root_complex = RootComplexConfig {
        topology: Topology::default(),
        ..RootComplexConfig::direct(UnitConfig::new(UnitRole::Guest))
    };
    let config = VmConfig {
        kernel: Kernel::Image { name: "a probe", bytes: image },
        cmdline: String::new(),
        modules: Vec::new(),
        memory: MemorySize::MIN,
        cpus: 1,
        root_complex,
        console: Console::Capture(Arc::new(Mutex::new(Vec::new()))),
        debugcon: DebugConsole::Discard,
        tracer: Tracer::none(),
        time_limit: Some(PATIENCE),
    };
    Ok(match Vm::new(config)?.run() {
        Ok(Exit::DebugExit(probe::WORKS)) => Outcome::Works,
        Ok(Exit::DebugExit(probe::ABSENT)) => Outcome::Absent,
        Ok(Exit::DebugExit(vector)) => Outcome::Fails(exception(vector)),
        Ok(Exit::TimeLimit) => Outcome::Fails("does not end".to_owned()),
        // The person at the terminal wants to go.
        Ok(exit) => Outcome::Fails(format!("was ended: {exit:?}")),
        Err(Error::Guest(failure)) => Outcome::Fails(match failure.kind {
            FailureKind::Emulation => "KVM cannot emulate it".to_owned(),
            kind => kind.to_string(),
        }),
        Err(error) => return Err(error),
    })
}

fn exception(vector: u32) -> String {
    let name = match vector {
        6 => "invalid opcode".to_owned(),
        13 => "general protection: the handler was entered without its privilege".to_owned(),
        14 => "page fault".to_owned(),
        other => format!("vector {other}"),
    };
    format!("raises exception '{name}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> Report {
        let findings =
            outcomes.iter().map(|outcome| Finding { name: "x", outcome: outcome.clone() });
        Report {
            unusable: None,
            api_version: Some(12),
            hardware: None,
            recommended_cpus: Some(8),
            kernel_instructions_per_second: Some(1_400_000),
            findings: findings.collect(),
        }
    }

    #[test]
    fn linux_needs_everything_that_the_processor_says_it_has() {
        let good = report(&[Outcome::Works, Outcome::Absent]);
        assert_eq!(good.check(Requirement::Linux), Ok(()));
        let bad = report(&[Outcome::Works, Outcome::Fails("raises #UD".to_owned())]);
        assert_eq!(bad.check(Requirement::Linux), Err("x (raises #UD)".to_owned()));
        assert_eq!(bad.check(Requirement::BareMetal), Ok(()));
        assert!(bad.is_emulated());
    }

    #[test]
    fn without_kvm_nothing_runs_and_the_reason_is_kept() {
        let none = Report::unusable(Error::NoKvm, Some("vmx"));
        for requirement in [Requirement::BareMetal, Requirement::Linux] {
            assert!(none.check(requirement).unwrap_err().starts_with("there is no /dev/kvm"));
        }
    }

    #[test]
    fn a_report_is_one_flat_object_for_scripts() {
        let text = serde_json::to_string(&report(&[Outcome::Fails("so".to_owned())])).unwrap();
        assert!(text.contains(r#"{"name":"x","outcome":"fails","reason":"so"}"#), "{text}");
    }
}
