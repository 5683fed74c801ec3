//! The file of a scenario, with all checks that need no machine.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use devices::fault::Fault;
use devices::topology::{DeviceSpec, Topology, TopologyError};
use iommu::submit::{ParsePolicyError, Policy};
use iommu::time::parse_duration;
use lab::toml_file::{self, FileError, Mistake, TomlFile};
use regex_lite::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::{Spanned, Table};
use vmm::MemorySize;

use super::fix::Fix;
use crate::host::{HostChoice, HostKind};

/// A scenario: a machine, the steps of the guest, faults, and expectations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// One line.
    pub(super) title: String,
    /// The purpose of the scenario, in some lines.
    pub(super) about: String,
    /// Steps of the guest's runner, in this order.
    pub(super) steps: Vec<Step>,
    /// For the kernel's command line, besides what all scenarios have.
    #[serde(default)]
    pub(super) cmdline: String,
    /// Virtual CPUs.
    #[serde(default = "two")]
    pub(super) cpus: u8,
    /// RAM.
    #[serde(default = "half_a_gigabyte", deserialize_with = "text")]
    pub(super) memory: MemorySize,
    /// What carries out the guest's Device-TLB invalidations; without it `policy` decides.
    host: Option<HostKind>,
    /// The policy of a forwarded host for invalidations that take too long.
    policy: Option<Spanned<String>>,
    /// A longer run counts as failed.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub(super) time_limit: Duration,
    /// Whether the guest lives to the end of its steps.
    #[serde(default = "yes")]
    pub(super) survives: bool,
    /// The way in which the guest ends the run before the runner has done all steps.
    pub(super) ends: Option<End>,
    /// The most stale accesses that the run may have, if that is an expectation.
    pub(super) stale_accesses: Option<u64>,
    /// Settings of the remapping units, as a file for `--unit-config` has them.
    #[serde(default)]
    pub(super) unit: Table,
    /// A change of the kernel on which expectations depend.
    pub(super) fix: Option<Fix>,
    /// Ports and functions, as a file for `--topology` has them.
    device: Vec<Spanned<DeviceSpec>>,
    /// Faults, as a file for `--faults` has them.
    #[serde(default)]
    pub(super) fault: Vec<Fault>,
    /// Expectations besides the results of the steps.
    #[serde(default)]
    pub(super) expect: Vec<Expectation>,
    /// The host that `host` and `policy` describe.
    #[serde(skip)]
    pub(super) below: HostChoice,
    /// The hierarchy that `device` describes.
    #[serde(skip)]
    pub(super) topology: Option<Topology>,
}

/// A way in which a guest ends its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
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

/// One step of the guest: `disk`, `wait:3`.
///
/// `!remove` must fail; `?remove` may succeed or fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The word for the runner, without `!` and `?`.
    pub(super) words: String,
    /// The expected result; `None` for `?`.
    pub(super) succeeds: Option<bool>,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (words, succeeds) = match text.split_at_checked(1) {
            Some(("!", rest)) => (rest, Some(false)),
            Some(("?", rest)) => (rest, None),
            _ => (text.as_str(), Some(true)),
        };
        if words.is_empty() || words.contains(|character: char| character.is_whitespace()) {
            return Err(D::Error::custom(format!(
                "'{text}' is not a step; write one word, such as disk or wait:3"
            )));
        }
        Ok(Self { words: words.to_owned(), succeeds })
    }
}

/// A regular expression.
#[derive(Debug)]
pub(super) struct Pattern(pub(super) Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Regex::new(&text).map(Self).map_err(|error| {
            D::Error::custom(format!("'{text}' is not a regular expression: {error}"))
        })
    }
}

/// An expectation of the scenario.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawExpectation")]
pub(super) struct Expectation {
    /// The meaning of the expectation, for the KTAP line.
    pub(super) that: String,
    /// The kernels for which it holds, by how their release begins; all, if there is none.
    pub(super) kernels: Vec<String>,
    /// Restricts it to kernels with the scenario's fix (`true`) or without it (`false`).
    pub(super) fixed: Option<bool>,
    /// The check.
    pub(super) look: Look,
}

/// The check of an expectation.
#[derive(Debug)]
pub(super) enum Look {
    /// A line of the console matches.
    Console(Pattern),
    /// No line of the console does.
    Absent(Pattern),
    /// There are so many events of this kind, with these fields.
    Event { kind: String, with: Table, count: Bounds },
    /// A figure that the guest has printed is within bounds.
    Value { name: String, bounds: Bounds },
}

/// From `at_least` to `at_most`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) at_least: u64,
    pub(super) at_most: u64,
}

impl Bounds {
    pub(super) fn contain(self, value: u64) -> bool {
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

/// An unusable scenario.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    /// The file cannot be read, or is invalid.
    #[error(transparent)]
    File(#[from] FileError),
    /// `--kernel` is missing.
    #[error(
        "a scenario boots Linux: add --kernel and --initrd; 'resources/linux/get 6.12' prints a \
         directory with vmlinuz and initramfs"
    )]
    NoKernel,
}

impl Scenario {
    /// Reads a file, and checks all that can be checked without a machine.
    pub(super) fn read(path: &Path) -> Result<Self, ScenarioError> {
        let file = TomlFile::read(path, "a scenario")?;
        Ok(Self::parse(file.text()).map_err(|mistake| file.wrong(mistake))?)
    }

    /// The scenario, or which byte is wrong and why.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let mut scenario: Self = toml_file::parse(text)?;
        scenario.below = scenario.choose_host()?;
        let places: Vec<usize> = scenario.device.iter().map(|device| device.span().start).collect();
        let mut devices: Vec<DeviceSpec> =
            scenario.device.drain(..).map(Spanned::into_inner).collect();
        // Linux is tested with devices that take as long as they may.
        devices.iter_mut().for_each(DeviceSpec::use_specified_times);
        let topology = Topology::new(&devices).map_err(|error: TopologyError| {
            (places[error.index], format!("{}: {}", error.device, error.reason))
        })?;
        scenario.topology = Some(topology);
        let needs_fix = scenario.expect.iter().find(|expectation| expectation.fixed.is_some());
        match (&scenario.fix, needs_fix) {
            (None, Some(Expectation { that, .. })) => {
                Err((0, format!("'{that}' asks for a fix, and there is no [fix] that says which")))
            }
            _ => Ok(scenario),
        }
    }

    fn choose_host(&self) -> Result<HostChoice, Mistake> {
        let Some(policy) = &self.policy else {
            return HostChoice::new(self.host, None).map_err(|error| (0, error.to_string()));
        };
        let mistake = |reason: String| (policy.span().start, reason);
        let parsed: Policy = policy
            .get_ref()
            .parse()
            .map_err(|error: ParsePolicyError| mistake(error.to_string()))?;
        HostChoice::new(self.host, Some(parsed)).map_err(|error| mistake(error.to_string()))
    }
}
