//! The file of a scenario, with all checks that need no machine.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use devices::fault::{Fault, Schedule};
use devices::pcie::link::Obeys;
use devices::root_complex::RootComplexConfig;
use devices::topology::{DeviceSpec, Topology, TopologyError};
use iommu::time::parse_duration;
use lab::policies::find;
use lab::text::{position, suggestion};
use lab::toml_file::{self, FileError, Mistake, TomlFile};
use regex_lite::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use steps::ParseStepError;
use toml::{Spanned, Table};
use vmm::MemorySize;

use crate::fix::Fix;
use crate::host::{HostChoice, HostKind};
use crate::{names, unit};

/// A scenario: a machine, the steps of the guest, faults, and expectations.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The name of its file, without `.toml`.
    pub name: String,
    /// One line.
    pub title: String,
    /// The purpose of the scenario, in some lines.
    pub about: String,
    /// Steps of the guest's runner, in this order.
    pub steps: Vec<Step>,
    /// For the kernel's command line, besides what all scenarios have.
    pub cmdline: String,
    /// Virtual CPUs.
    pub cpus: u8,
    /// RAM.
    pub memory: MemorySize,
    /// What carries out the guest's Device-TLB invalidations.
    pub host: HostChoice,
    /// A longer run counts as failed.
    pub time_limit: Duration,
    /// Whether the guest lives to the end of its steps.
    pub survives: bool,
    /// The way in which the guest ends the run before the runner has done all steps.
    pub ends: Option<End>,
    /// The most stale accesses that the run may have, if that is an expectation.
    pub stale_accesses: Option<u64>,
    /// Units, hierarchy and faults.
    pub root_complex: RootComplexConfig,
    /// Options that the kernel must have built in, without `CONFIG_`, besides those of the steps.
    pub needs: Vec<String>,
    /// A change of the kernel on which expectations depend.
    pub fix: Option<Fix>,
    /// Expectations besides the results of the steps.
    pub expect: Vec<Expectation>,
}

/// A scenario as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    about: String,
    steps: Spanned<Vec<Step>>,
    #[serde(default)]
    cmdline: String,
    #[serde(default = "two")]
    cpus: u8,
    #[serde(default = "half_a_gigabyte", deserialize_with = "text")]
    memory: MemorySize,
    host: Option<HostKind>,
    policy: Option<Spanned<String>>,
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    time_limit: Duration,
    #[serde(default = "yes")]
    survives: bool,
    ends: Option<End>,
    stale_accesses: Option<u64>,
    #[serde(default)]
    obeys: Obeys,
    unit: Option<Spanned<Table>>,
    #[serde(default)]
    needs: Vec<KernelOption>,
    fix: Option<Spanned<Fix>>,
    device: Vec<Spanned<DeviceSpec>>,
    #[serde(default)]
    fault: Vec<Spanned<Fault>>,
    #[serde(default)]
    expect: Vec<Spanned<Expectation>>,
}

/// An option of the kernel's configuration.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct KernelOption(String);

impl TryFrom<String> for KernelOption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_part = |next: char| next.is_ascii_alphanumeric() || next == '_';
        match text.strip_prefix("CONFIG_") {
            Some(name) => Err(format!("write '{name}', without CONFIG_")),
            None if text.is_empty() || !text.chars().all(is_part) => {
                Err(format!("'{text}' is not an option of a kernel; write such as IOMMU_DEBUGFS"))
            }
            None => Ok(Self(text)),
        }
    }
}

/// A way in which a guest ends its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The guest resets the machine.
    Reset,
    /// The guest switches the machine off.
    PowerOff,
}

fn two() -> u8 {
    2
}

fn yes() -> bool {
    true
}

fn half_a_gigabyte() -> MemorySize {
    MemorySize::from_mib(512).unwrap_or_default()
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

/// A value that is written as the command line takes it.
fn text<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// One step of the guest, and whether it is to succeed.
///
/// `!remove` must fail; `?remove` may succeed or fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The step.
    pub step: steps::Step,
    /// The expected result; `None` for `?`.
    pub succeeds: Option<bool>,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (word, succeeds) = match text.split_at_checked(1) {
            Some(("!", rest)) => (rest, Some(false)),
            Some(("?", rest)) => (rest, None),
            _ => (text.as_str(), Some(true)),
        };
        let step = word.parse().map_err(|error: ParseStepError| {
            let name = word.split(':').next().unwrap_or(word);
            match suggestion(name, steps::HELP.iter().map(steps::Help::name)) {
                Some(meant) if meant != name => {
                    D::Error::custom(format!("'{word}' is not a step; did you mean {meant}?"))
                }
                _ => D::Error::custom(error),
            }
        })?;
        Ok(Self { step, succeeds })
    }
}

/// A regular expression.
#[derive(Debug, Clone)]
pub struct Pattern(pub Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Regex::new(&text).map(Self).map_err(|error| {
            D::Error::custom(format!("'{text}' is not a regular expression: {error}"))
        })
    }
}

/// An expectation of the scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawExpectation")]
pub struct Expectation {
    /// The meaning of the expectation, for the KTAP line.
    pub that: String,
    /// The kernels for which it holds, by how their release begins; all, if there is none.
    pub kernels: Vec<String>,
    /// Restricts it to kernels with the scenario's fix (`true`) or without it (`false`).
    pub fixed: Option<bool>,
    /// The check.
    pub look: Look,
}

/// The check of an expectation.
#[derive(Debug, Clone)]
pub enum Look {
    /// A line of the console matches.
    Console(Pattern),
    /// No line of the console does.
    Absent(Pattern),
    /// There are so many events of this kind, with these fields.
    Event {
        /// The name of the event, as `--events` prints it.
        kind: String,
        /// Values of its fields.
        with: Table,
        /// Their number.
        count: Bounds,
    },
    /// A figure that the guest has printed is within bounds.
    Value {
        /// The name of the figure.
        name: String,
        /// The bounds.
        bounds: Bounds,
    },
}

/// From `at_least` to `at_most`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The least.
    pub at_least: u64,
    /// The most; `u64::MAX` if there is no bound.
    pub at_most: u64,
}

impl Bounds {
    /// Whether the value is within.
    pub fn contain(self, value: u64) -> bool {
        (self.at_least..=self.at_most).contains(&value)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at_most {
            u64::MAX => write!(f, "at least {}", self.at_least),
            most if most == self.at_least => write!(f, "{most}"),
            most => write!(f, "{} to {most}", self.at_least),
        }
    }
}

/// An expectation as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpectation {
    that: String,
    #[serde(default)]
    kernels: Vec<String>,
    fixed: Option<bool>,
    console: Option<Pattern>,
    absent: Option<Pattern>,
    event: Option<String>,
    #[serde(default)]
    with: Table,
    value: Option<String>,
    at_least: Option<u64>,
    at_most: Option<u64>,
}

impl TryFrom<RawExpectation> for Expectation {
    type Error = String;

    fn try_from(raw: RawExpectation) -> Result<Self, String> {
        let RawExpectation { that, kernels, fixed, with, at_least, at_most, .. } = raw;
        let bounded = at_least.is_some() || at_most.is_some();
        let least = at_least.unwrap_or(u64::from(at_most.is_none()));
        let bounds = Bounds { at_least: least, at_most: at_most.unwrap_or(u64::MAX) };
        if bounds.at_least > bounds.at_most {
            return Err(format!("'{that}': at_least is above at_most"));
        }
        if bounds.at_least == 0 && bounds.at_most == u64::MAX {
            return Err(format!(
                "'{that}': at_least = 0 holds for every value; give at_least = 1 or more, or at_most"
            ));
        }
        let filtered = !with.is_empty();
        let look = match (raw.console, raw.absent, raw.event, raw.value) {
            (Some(pattern), None, None, None) if !bounded && !filtered => Look::Console(pattern),
            (None, Some(pattern), None, None) if !bounded && !filtered => Look::Absent(pattern),
            (None, None, Some(kind), None) => Look::Event { kind, with, count: bounds },
            (None, None, None, Some(name)) if bounded && !filtered => Look::Value { name, bounds },
            _ => {
                return Err(format!(
                    "'{that}' needs one of console, absent, event, value; event takes with, event \
                     and value take at_least and at_most"
                ));
            }
        };
        Ok(Self { that, kernels, fixed, look })
    }
}

impl Scenario {
    /// Reads a file, and checks all that can be checked without a machine.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not right.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let file = TomlFile::read(path, "a scenario")?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, file.text()).map_err(|mistake| file.wrong(mistake))
    }

    /// The scenario, or which byte is wrong and why.
    ///
    /// # Errors
    ///
    /// The text is not a scenario, or one that names what does not exist or expects what cannot fail.
    pub fn parse(name: &str, text: &str) -> Result<Self, Mistake> {
        let mut file: File = toml_file::parse(text)?;
        let host = file.choose_host()?;
        let root_complex = file.root_complex(host.clone())?;
        let scenario = Self {
            name: name.to_owned(),
            title: file.title.clone(),
            about: file.about.clone(),
            steps: file.steps.get_ref().clone(),
            cmdline: file.cmdline.clone(),
            cpus: file.cpus,
            memory: file.memory,
            host,
            time_limit: file.time_limit,
            survives: file.survives,
            ends: file.ends,
            stale_accesses: file.stale_accesses,
            root_complex,
            needs: file.needs.iter().map(|option| option.0.clone()).collect(),
            fix: file.fix.as_ref().map(|fix| fix.get_ref().clone()),
            expect: file.expect.iter().map(|expect| expect.get_ref().clone()).collect(),
        };
        let steps = file.steps.span().start;
        names::check_steps(&scenario).map_err(|reason| (steps, reason))?;
        for fault in &file.fault {
            names::check_trigger(&fault.get_ref().trigger, &scenario)
                .map_err(|reason| (fault.span().start, reason))?;
        }
        for expectation in &file.expect {
            names::check(expectation.get_ref(), &scenario)
                .map_err(|reason| (expectation.span().start, reason))?;
        }
        let depends = scenario.expect.iter().any(|expectation| expectation.fixed.is_some());
        match &file.fix {
            Some(fix) if !depends => Err((
                fix.span().start,
                "no expectation depends on the fix; give some 'fixed'".to_owned(),
            )),
            _ => Ok(scenario),
        }
    }

    /// The scenario of that name that is built in.
    pub fn builtin(name: &str) -> Option<Result<Self, FileError>> {
        let (name, text) = resources::SCENARIOS.iter().find(|(other, _)| *other == name)?;
        Some(Self::embedded(name, text))
    }

    /// All scenarios that are built in, by name.
    ///
    /// # Errors
    ///
    /// One of them is not right, which a test excludes.
    pub fn all() -> Result<Vec<Self>, FileError> {
        resources::SCENARIOS.iter().map(|(name, text)| Self::embedded(name, text)).collect()
    }

    fn embedded(name: &str, text: &str) -> Result<Self, FileError> {
        Self::parse(name, text).map_err(|(at, reason)| FileError::Content {
            path: format!("resources/scenarios/{name}.toml").into(),
            position: position(text, at),
            reason,
        })
    }
}

impl File {
    fn choose_host(&self) -> Result<HostChoice, Mistake> {
        let Some(policy) = &self.policy else {
            return HostChoice::new(self.host, None).map_err(|error| (0, error.to_string()));
        };
        let mistake = |reason: String| (policy.span().start, reason);
        let parsed = find(policy.get_ref(), &[]).map_err(mistake)?;
        HostChoice::new(self.host, Some(parsed)).map_err(|error| mistake(error.to_string()))
    }

    fn root_complex(&mut self, host: HostChoice) -> Result<RootComplexConfig, Mistake> {
        let (at, unit) = match self.unit.take() {
            Some(unit) => (unit.span().start, unit.into_inner()),
            None => (0, Table::new()),
        };
        let config =
            unit::root_complex(host, unit, None).map_err(|error| (at, error.to_string()))?;
        let places: Vec<usize> = self.device.iter().map(|device| device.span().start).collect();
        let mut devices: Vec<DeviceSpec> = self.device.drain(..).map(Spanned::into_inner).collect();
        // Linux is tested with devices that take as long as they may.
        devices.iter_mut().for_each(DeviceSpec::use_specified_times);
        let topology = Topology::new(&devices).map_err(|error: TopologyError| {
            (places[error.index], format!("{}: {}", error.device, error.reason))
        })?;
        let faults: Vec<Fault> = self.fault.iter().map(|fault| fault.get_ref().clone()).collect();
        Schedule::new(&faults, &topology.port_infos())
            .map_err(|error| (self.fault[error.number - 1].span().start, error.to_string()))?;
        Ok(RootComplexConfig { topology, faults, obeys: self.obeys, oracle: true, ..config })
    }
}
