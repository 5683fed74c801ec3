//! One fault of a schedule: what happens, where, when, and for how long.
//!
//! ```text
//!   at=3s,port=rp1,mode=surprise,for=500ms          on a command line
//!
//!   [[fault]]                                       in a TOML file
//!   after = "invalidations:12"
//!   port = "rp0"
//!   mode = "no-completion"
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use humantime::format_duration;
use iommu::time::parse_duration;
use serde::Deserialize;

use super::mode::FaultMode;

/// A moment of the protocol that can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// Before the guest's write of IQT takes effect.
    Tail,
    /// After the guest's unit has fetched a descriptor and begun what it asks for.
    Descriptor,
    /// After the physical unit has sent an Invalidate Request, before the function has got it.
    Request,
    /// After the function has got an Invalidate Request, before its completion is sent up.
    Completion,
    /// After the physical unit has taken an Invalidate Completion.
    Invalidation,
    /// After the host has told the guest's unit that an invalidation is complete, before that
    /// completes any wait.
    Status,
    /// After a DMA request of a function below the port has passed its link.
    Dma,
}

impl Point {
    /// In the order in which they come.
    pub const ALL: [Self; 7] = [
        Self::Tail,
        Self::Descriptor,
        Self::Request,
        Self::Completion,
        Self::Invalidation,
        Self::Status,
        Self::Dma,
    ];

    /// When it is reached, in a line.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Tail => "before the guest's N-th write of the queue's tail takes effect",
            Self::Descriptor => "after the guest's unit has fetched N descriptors",
            Self::Request => "after the N-th Invalidate Request is sent, before it arrives",
            Self::Completion => "after it has arrived, before its completion is sent",
            Self::Invalidation => "after N Invalidate Completions have been taken",
            Self::Status => "after N answers, before the guest's unit completes what waits",
            Self::Dma => "after N DMA requests have come up the port's link",
        }
    }

    /// How it is written: the key and the first half of the value.
    pub const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Tail => ("before", "tail"),
            Self::Descriptor => ("after", "descriptors"),
            Self::Request => ("after", "requests"),
            Self::Completion => ("before", "completion"),
            Self::Invalidation => ("after", "invalidations"),
            Self::Status => ("before", "status"),
            Self::Dma => ("after", "dma"),
        }
    }
}

/// A port by which the guest sends lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuestConsole {
    /// COM1.
    Serial,
    /// The debug console, port 0xe9.
    Debug,
}

impl GuestConsole {
    /// Both consoles.
    pub const ALL: [Self; 2] = [Self::Serial, Self::Debug];

    /// The first part of a trigger's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Debug => "debugcon",
        }
    }
}

/// When a fault happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// This long after the start.
    At(Duration),
    /// When the guest rings the bench's doorbell, before its OUT instruction retires.
    Doorbell,
    /// When a line of this console of the guest matches this regular expression.
    Line(GuestConsole, String),
    /// When a point is reached for the n-th time; n is at least 1.
    Count(Point, u64),
}

/// A fault of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fault {
    /// When it happens.
    pub trigger: Trigger,
    /// The name of the port to which it happens; the first one if there is none.
    pub port: Option<String>,
    /// The fault's mode.
    pub mode: FaultMode,
    /// When it ends; never, if there is nothing.
    pub lasts: Option<Duration>,
}

/// The error of [`Fault::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseFaultError {
    reason: String,
}

fn error(reason: impl Into<String>) -> ParseFaultError {
    ParseFaultError { reason: reason.into() }
}

/// A fault as it is written: every value a text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    at: Option<String>,
    on: Option<String>,
    after: Option<String>,
    before: Option<String>,
    port: Option<String>,
    mode: Option<String>,
    r#for: Option<String>,
}

impl Words {
    fn slot(&mut self, key: &str) -> Option<&mut Option<String>> {
        Some(match key {
            "at" => &mut self.at,
            "on" => &mut self.on,
            "after" => &mut self.after,
            "before" => &mut self.before,
            "port" => &mut self.port,
            "mode" => &mut self.mode,
            "for" => &mut self.r#for,
            _ => return None,
        })
    }

    fn trigger(&self) -> Result<Trigger, ParseFaultError> {
        let words =
            [("at", &self.at), ("on", &self.on), ("after", &self.after), ("before", &self.before)];
        let mut given = words.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
        let (key, value) = given
            .next()
            .ok_or_else(|| error("it does not say when; add at=, on=, after= or before="))?;
        if let Some((other, _)) = given.next() {
            return Err(error(format!("{key}= and {other}= cannot both say when")));
        }
        match key {
            "at" => Ok(Trigger::At(duration(value)?)),
            "on" => parse_on(value),
            _ => parse_count(key, value),
        }
    }
}

fn duration(text: &str) -> Result<Duration, ParseFaultError> {
    parse_duration(text).map_err(|reason| error(reason.to_string()))
}

fn parse_on(value: &str) -> Result<Trigger, ParseFaultError> {
    if value == "doorbell" {
        return Ok(Trigger::Doorbell);
    }
    let of_console = |console: GuestConsole| {
        let rest = value.strip_prefix(console.name())?.strip_prefix(":/")?;
        let expression = rest.strip_suffix('/').filter(|expression| !expression.is_empty())?;
        Some(Trigger::Line(console, expression.to_owned()))
    };
    GuestConsole::ALL.into_iter().find_map(of_console).ok_or_else(|| {
        error(format!(
            "on={value} is unknown; write on=doorbell, on=serial:/REGEX/ or on=debugcon:/REGEX/"
        ))
    })
}

fn parse_count(key: &str, value: &str) -> Result<Trigger, ParseFaultError> {
    let (name, number) = value.split_once(':').unwrap_or((value, ""));
    let Some(point) = Point::ALL.into_iter().find(|point| point.text() == (key, name)) else {
        let known = Point::ALL.map(Point::text).map(|(key, name)| format!("{key}={name}:N"));
        return Err(error(format!("{key}={value} is unknown; write {}", known.join(", "))));
    };
    match number.parse() {
        Ok(0) => Err(error(format!("{key}={value}: counting begins with 1"))),
        Ok(number) => Ok(Trigger::Count(point, number)),
        Err(_) => Err(error(format!("{key}={value} needs a number, as in {key}={name}:12"))),
    }
}

impl TryFrom<Words> for Fault {
    type Error = ParseFaultError;

    fn try_from(words: Words) -> Result<Self, ParseFaultError> {
        let trigger = words.trigger()?;
        let mode =
            words.mode.as_deref().ok_or_else(|| error("it has no mode=; add mode=silent"))?;
        let mode: FaultMode = mode.parse().map_err(|reason| error(format!("{reason}")))?;
        let lasts = words.r#for.as_deref().map(duration).transpose()?;
        if mode == FaultMode::AllOnesUnit && words.port.is_some() {
            return Err(error("all-ones-unit happens to no port; leave port= out"));
        }
        if lasts.is_some() && matches!(mode, FaultMode::Flap { .. }) {
            return Err(error("flap ends by itself; leave for= out"));
        }
        if lasts.is_some() && mode == FaultMode::Dpc {
            return Err(error("only software ends a containment; leave for= out"));
        }
        Ok(Self { trigger, port: words.port, mode, lasts })
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Words::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = Words::default();
        let mut rest = Some(text);
        while let Some(left) = rest {
            let column = text.len() - left.len() + 1;
            let (part, behind) = cut(left);
            rest = behind;
            let here = |reason: &str| error(format!("column {column}: {reason}"));
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| here(&format!("'{part}' is not of the form key=value")))?;
            let slot = words.slot(key).ok_or_else(|| {
                here(&format!(
                    "there is no key '{key}'; there are at, on, after, before, port, mode, for"
                ))
            })?;
            if slot.replace(value.to_owned()).is_some() {
                return Err(here(&format!("{key}= is given twice")));
            }
        }
        words.try_into()
    }
}

/// The first part of a list separated by commas, and the rest. A regular expression may contain
/// commas: it ends at a slash before a comma or the end.
fn cut(text: &str) -> (&str, Option<&str>) {
    const EXPRESSIONS: [&str; 2] = ["on=serial:/", "on=debugcon:/"];
    let end = match EXPRESSIONS.into_iter().find(|start| text.starts_with(start)) {
        Some(start) => text[start.len()..].find("/,").map(|at| start.len() + at + 1),
        None => text.find(','),
    };
    match end {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trigger {
            Trigger::At(time) => write!(f, "at={}", format_duration(*time))?,
            Trigger::Doorbell => f.write_str("on=doorbell")?,
            Trigger::Line(console, expression) => {
                write!(f, "on={}:/{expression}/", console.name())?;
            }
            Trigger::Count(point, number) => {
                let (key, name) = point.text();
                write!(f, "{key}={name}:{number}")?;
            }
        }
        if let Some(port) = &self.port {
            write!(f, ",port={port}")?;
        }
        write!(f, ",mode={}", self.mode)?;
        if let Some(time) = self.lasts {
            write!(f, ",for={}", format_duration(time))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
