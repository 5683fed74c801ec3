//! One step of the guest.

mod arguments;
mod help;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::str::FromStr;

pub use arguments::{Disk, DomainType, MachineReset, Pattern, VfioAction, VtdMode, Word};
pub use help::{HELP, Help};

/// The most steps of a scenario. Linux panics if init has more arguments than
/// `CONFIG_INIT_ENV_ARG_LIMIT`, which is 32 by default and counts init's name.
pub const MAX_STEPS: usize = 31;

/// The longest wait, in seconds.
const MAX_WAIT: u32 = 3600;

/// One step of the guest: `disk`, `wait:3`. [`HELP`] says what each does. Its `Display` is the word
/// for the kernel's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "HELP describes each variant")]
pub enum Step {
    Vtd(VtdMode),
    Strict,
    Lazy,
    /// 1 to 4096.
    Cpus(u16),
    /// The number of disks, from 1 up.
    Nvme(u8),
    /// The number of virtual functions.
    Vfs(u8),
    /// All disks without a number.
    Ats(Option<Disk>),
    Domain(Disk, DomainType),
    Reserved(Disk),
    Disk(Disk),
    Same(Disk, Disk),
    Interrupts,
    Lspci,
    /// All functions without a number.
    Config(Option<Disk>),
    Ports,
    Log,
    Alive,
    Reads(Disk),
    Read {
        disk: Disk,
        cpu: u16,
    },
    Answers(Disk),
    Bar(Disk),
    Beat,
    Stall,
    Mark(Word),
    Gone(Disk),
    Removed(Disk),
    Until(Pattern),
    /// In seconds, 0 to 3600.
    Wait(u32),
    Remove(Disk),
    Unbind(Disk),
    Bind(Disk),
    Rescan,
    ResetFunction(Disk),
    ResetController(Disk),
    Affinity {
        disk: Disk,
        cpu: u16,
    },
    Disable(Disk),
    Enable(Disk),
    Suspend,
    Debugfs,
    GroupType(DomainType),
    Vfio(VfioAction),
    Kdump,
    Kexec,
    Reset(MachineReset),
    PowerOff,
}

/// A word is not a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseStepError {
    /// No step has this name.
    Name(String),
    /// The argument is not right for the step.
    Argument {
        /// The word.
        word: String,
        /// How the step is written.
        form: &'static str,
    },
}

impl Error for ParseStepError {}

impl fmt::Display for ParseStepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(word) => {
                write!(f, "'{}' is not a step; the steps are ", short(word))?;
                let mut last = "";
                for name in HELP.iter().map(Help::name) {
                    match last {
                        _ if name == last => continue,
                        "" => f.write_str(name)?,
                        _ => write!(f, ", {name}")?,
                    }
                    last = name;
                }
                Ok(())
            }
            Self::Argument { word, form } => {
                write!(f, "'{}' is not a step; write {form}", short(word))?;
                match form.split(':').next() {
                    Some("until") => f.write_str(
                        ", of at most 500 ASCII characters without blanks and double quotes: a dot \
                         stands for each",
                    ),
                    Some("mark") => {
                        f.write_str(", of at most 64 ASCII letters, digits, '_', '-' and '.'")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// `word` as it can be quoted in an error of one line.
fn short(word: &str) -> String {
    let mut quoted: String = word.chars().take(60).flat_map(char::escape_debug).collect();
    if word.chars().nth(60).is_some() {
        quoted.push_str("..");
    }
    quoted
}

/// A decimal number without sign and leading zeros, so that each has one form.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let right =
        text == "0" || text.bytes().next().is_some_and(|byte| (b'1'..=b'9').contains(&byte));
    right.then(|| text.parse().ok()).flatten()
}

fn disk(argument: Option<&str>) -> Option<Disk> {
    argument.map_or(Some(Disk(0)), |text| number(text).map(Disk))
}

/// `None` if there is an argument that is wrong, `Some(None)` if there is none.
fn optional_disk(argument: Option<&str>) -> Option<Option<Disk>> {
    match argument {
        None => Some(None),
        some => disk(some).map(Some),
    }
}

fn pair(argument: &str) -> Option<(Disk, &str)> {
    let (first, second) = argument.split_once(':')?;
    Some((disk(Some(first))?, second))
}

fn disk_and_cpu(argument: &str) -> Option<(Disk, u16)> {
    let (disk, cpu) = pair(argument)?;
    Some((disk, number(cpu)?))
}

impl FromStr for Step {
    type Err = ParseStepError;

    fn from_str(word: &str) -> Result<Self, ParseStepError> {
        let (name, argument) = match word.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (word, None),
        };
        let Some(first) = HELP.iter().find(|help| help.name() == name) else {
            return Err(ParseStepError::Name(word.to_owned()));
        };
        let form = match name {
            "vfio" => "vfio:bind|open|map|unmap|reset|close|release",
            _ => first.form,
        };
        let error = || ParseStepError::Argument { word: word.to_owned(), form };
        match argument {
            None => Self::without_argument(name).or_else(|| Self::of_disk(name, Disk(0))),
            Some(argument) => Self::with_argument(name, argument)
                .or_else(|| Self::of_disk(name, disk(Some(argument))?)),
        }
        .ok_or_else(error)
    }
}

impl Step {
    /// Steps that take no argument, or can do without.
    fn without_argument(name: &str) -> Option<Self> {
        Some(match name {
            "strict" => Self::Strict,
            "lazy" => Self::Lazy,
            "nvme" => Self::Nvme(1),
            "ats" => Self::Ats(None),
            "interrupts" => Self::Interrupts,
            "lspci" => Self::Lspci,
            "config" => Self::Config(None),
            "ports" => Self::Ports,
            "log" => Self::Log,
            "alive" => Self::Alive,
            "beat" => Self::Beat,
            "stall" => Self::Stall,
            "rescan" => Self::Rescan,
            "suspend" => Self::Suspend,
            "debugfs" => Self::Debugfs,
            "kdump" => Self::Kdump,
            "kexec" => Self::Kexec,
            "poweroff" => Self::PowerOff,
            _ => return None,
        })
    }

    /// Steps whose argument is a disk, and which take disk 0 without one.
    fn of_disk(name: &str, disk: Disk) -> Option<Self> {
        Some(match name {
            "reserved" => Self::Reserved(disk),
            "disk" => Self::Disk(disk),
            "reads" => Self::Reads(disk),
            "read" => Self::Read { disk, cpu: 0 },
            "answers" => Self::Answers(disk),
            "bar" => Self::Bar(disk),
            "gone" => Self::Gone(disk),
            "removed" => Self::Removed(disk),
            "remove" => Self::Remove(disk),
            "unbind" => Self::Unbind(disk),
            "bind" => Self::Bind(disk),
            "reset_function" => Self::ResetFunction(disk),
            "reset_controller" => Self::ResetController(disk),
            "disable" => Self::Disable(disk),
            "enable" => Self::Enable(disk),
            _ => return None,
        })
    }

    fn with_argument(name: &str, argument: &str) -> Option<Self> {
        Some(match name {
            "vtd" => Self::Vtd(argument.parse().ok()?),
            "cpus" => Self::Cpus(number(argument).filter(|count| (1..=4096).contains(count))?),
            "nvme" => Self::Nvme(number(argument).filter(|count| *count > 0)?),
            "vfs" => Self::Vfs(number(argument)?),
            "ats" => Self::Ats(optional_disk(Some(argument))?),
            "config" => Self::Config(optional_disk(Some(argument))?),
            "domain" => {
                let (disk, domain) = pair(argument)?;
                Self::Domain(disk, domain.parse().ok()?)
            }
            "same" => {
                let (first, second) = pair(argument)?;
                Self::Same(first, disk(Some(second))?)
            }
            "read" => {
                let (disk, cpu) = disk_and_cpu(argument)?;
                Self::Read { disk, cpu }
            }
            "affinity" => {
                let (disk, cpu) = disk_and_cpu(argument)?;
                Self::Affinity { disk, cpu }
            }
            "mark" => Self::Mark(argument.parse().ok()?),
            "until" => Self::Until(argument.parse().ok()?),
            "wait" => Self::Wait(number(argument).filter(|seconds| *seconds <= MAX_WAIT)?),
            "group_type" => Self::GroupType(argument.parse().ok()?),
            "vfio" => Self::Vfio(argument.parse().ok()?),
            "reset" => Self::Reset(argument.parse().ok()?),
            _ => return None,
        })
    }
}

impl Step {
    /// The name, which is the word without its arguments: `wait`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Vtd(_) => "vtd",
            Self::Strict => "strict",
            Self::Lazy => "lazy",
            Self::Cpus(_) => "cpus",
            Self::Nvme(_) => "nvme",
            Self::Vfs(_) => "vfs",
            Self::Ats(_) => "ats",
            Self::Domain(..) => "domain",
            Self::Reserved(_) => "reserved",
            Self::Disk(_) => "disk",
            Self::Same(..) => "same",
            Self::Interrupts => "interrupts",
            Self::Lspci => "lspci",
            Self::Config(_) => "config",
            Self::Ports => "ports",
            Self::Log => "log",
            Self::Alive => "alive",
            Self::Reads(_) => "reads",
            Self::Read { .. } => "read",
            Self::Answers(_) => "answers",
            Self::Bar(_) => "bar",
            Self::Beat => "beat",
            Self::Stall => "stall",
            Self::Mark(_) => "mark",
            Self::Gone(_) => "gone",
            Self::Removed(_) => "removed",
            Self::Until(_) => "until",
            Self::Wait(_) => "wait",
            Self::Remove(_) => "remove",
            Self::Unbind(_) => "unbind",
            Self::Bind(_) => "bind",
            Self::Rescan => "rescan",
            Self::ResetFunction(_) => "reset_function",
            Self::ResetController(_) => "reset_controller",
            Self::Affinity { .. } => "affinity",
            Self::Disable(_) => "disable",
            Self::Enable(_) => "enable",
            Self::Suspend => "suspend",
            Self::Debugfs => "debugfs",
            Self::GroupType(_) => "group_type",
            Self::Vfio(_) => "vfio",
            Self::Kdump => "kdump",
            Self::Kexec => "kexec",
            Self::Reset(_) => "reset",
            Self::PowerOff => "poweroff",
        }
    }
}

impl Step {
    /// The names of the values that the step prints on a guest with `cpus` CPUs.
    pub fn values(&self, cpus: u16) -> Vec<String> {
        let name = match self {
            Self::Stall => return (0..cpus).map(|cpu| format!("stall_cpu{cpu}_ms")).collect(),
            Self::Read { .. }
            | Self::Bar(_)
            | Self::Config(_)
            | Self::Remove(_)
            | Self::Unbind(_)
            | Self::Bind(_)
            | Self::Rescan
            | Self::ResetFunction(_)
            | Self::ResetController(_)
            | Self::Affinity { .. }
            | Self::Suspend
            | Self::GroupType(_)
            | Self::Kexec => self.name().to_owned(),
            Self::Vfio(VfioAction::Bind | VfioAction::Release) => return Vec::new(),
            Self::Vfio(action) => format!("vfio_{action}"),
            Self::Reset(MachineReset::Reboot) => "reboot".to_owned(),
            Self::PowerOff => "poweroff".to_owned(),
            _ => return Vec::new(),
        };
        vec![format!("{name}_ms")]
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Vtd(mode) => write!(f, "{name}:{mode}"),
            Self::Cpus(count) => write!(f, "{name}:{count}"),
            Self::Vfs(count) => write!(f, "{name}:{count}"),
            Self::Nvme(count) if *count != 1 => write!(f, "{name}:{count}"),
            Self::Ats(Some(disk)) | Self::Config(Some(disk)) => write!(f, "{name}:{disk}"),
            Self::Domain(disk, domain) => write!(f, "{name}:{disk}:{domain}"),
            Self::Same(first, second) => write!(f, "{name}:{first}:{second}"),
            Self::Read { disk, cpu } if *cpu != 0 => write!(f, "{name}:{disk}:{cpu}"),
            Self::Affinity { disk, cpu } => write!(f, "{name}:{disk}:{cpu}"),
            Self::Mark(word) => write!(f, "{name}:{}", word.as_str()),
            Self::Until(pattern) => write!(f, "{name}:{}", pattern.as_str()),
            Self::Wait(seconds) => write!(f, "{name}:{seconds}"),
            Self::GroupType(domain) => write!(f, "{name}:{domain}"),
            Self::Vfio(action) => write!(f, "{name}:{action}"),
            Self::Reset(kind) => write!(f, "{name}:{kind}"),
            Self::Reserved(disk)
            | Self::Disk(disk)
            | Self::Reads(disk)
            | Self::Read { disk, .. }
            | Self::Answers(disk)
            | Self::Bar(disk)
            | Self::Gone(disk)
            | Self::Removed(disk)
            | Self::Remove(disk)
            | Self::Unbind(disk)
            | Self::Bind(disk)
            | Self::ResetFunction(disk)
            | Self::ResetController(disk)
            | Self::Disable(disk)
            | Self::Enable(disk)
                if *disk != Disk(0) =>
            {
                write!(f, "{name}:{disk}")
            }
            _ => f.write_str(name),
        }
    }
}
