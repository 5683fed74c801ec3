//! The words of the command line for `test=drop`.

use core::fmt;

use crate::cmdline::Cmdline;
use crate::machine::time::Ticks;
use crate::vtd::TimeoutPolicy;

/// The most healthy flushes that are measured.
pub const MAX_FLUSHES: usize = 512;

/// The most CPUs for each device.
pub const MAX_CPUS_EACH: usize = 4;

/// The fault of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The link stays up.
    Healthy,
    /// The link drops, and no status bit or interrupt reports it.
    Silent,
}

/// The time at which the link drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// When this program rings the doorbell.
    Doorbell,
    /// At a time that the run chooses (`--drop-link at=...`).
    Wait,
}

/// The words of the `drop` test.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `scenario=silent` (default) or `healthy`.
    pub scenario: Scenario,
    /// `drop=doorbell` (default) or `wait`.
    pub drop: Drop,
    /// `blame=finder` (default), `owner` or `first`.
    pub timeout_policy: TimeoutPolicy,
    /// `flushes=N`: healthy flushes to measure, 1 to [`MAX_FLUSHES`], 64 by default.
    pub flushes: usize,
    /// `costs=on`: also measure the parts of a flush.
    pub costs: bool,
    /// `unmap=on`: unmap the page before the measured flush, and have the device write to it
    /// afterwards.
    pub unmap: bool,
    /// `cpus_each=N`: CPUs for each device, 1 to 4.
    pub cpus_each: usize,
    /// `giveup_ms=N`: when a flush counts as stalled, 5000 by default.
    pub give_up: Ticks,
    /// `wait_ms=N`: how long `drop=wait` waits for the link to drop, 60000 by default.
    pub wait: Ticks,
}

impl Settings {
    /// Parses the words. The error is a message about a value that the word does not take.
    pub fn parse(cmdline: &Cmdline) -> Result<Self, &'static str> {
        let scenario = match cmdline.get("scenario").unwrap_or("silent") {
            "silent" => Scenario::Silent,
            "healthy" => Scenario::Healthy,
            _ => return Err("scenario= takes silent or healthy"),
        };
        let drop = match cmdline.get("drop").unwrap_or("doorbell") {
            "doorbell" => Drop::Doorbell,
            "wait" => Drop::Wait,
            _ => return Err("drop= takes doorbell or wait"),
        };
        let timeout_policy = match cmdline.get("blame").unwrap_or("finder") {
            "finder" => TimeoutPolicy::Finder,
            "owner" => TimeoutPolicy::Owner,
            "first" => TimeoutPolicy::First,
            _ => return Err("blame= takes finder, owner or first"),
        };
        let costs = match cmdline.get("costs").unwrap_or("off") {
            "off" => false,
            "on" => true,
            _ => return Err("costs= takes on or off"),
        };
        let unmap = match cmdline.get("unmap").unwrap_or("off") {
            "off" => false,
            "on" => true,
            _ => return Err("unmap= takes on or off"),
        };
        let flushes = number(cmdline, "flushes", 64)? as usize;
        if !(1..=MAX_FLUSHES).contains(&flushes) {
            return Err("flushes= takes 1 to 512");
        }
        let cpus_each = number(cmdline, "cpus_each", 1)? as usize;
        if !(1..=MAX_CPUS_EACH).contains(&cpus_each) {
            return Err("cpus_each= takes 1 to 4");
        }
        let give_up = Ticks::from_ms(number(cmdline, "giveup_ms", 5_000)?);
        let wait = Ticks::from_ms(number(cmdline, "wait_ms", 60_000)?);
        Ok(Self { scenario, drop, timeout_policy, flushes, costs, unmap, cpus_each, give_up, wait })
    }
}

fn number(cmdline: &Cmdline, key: &str, default: u64) -> Result<u64, &'static str> {
    if cmdline.get(key).is_none() {
        return Ok(default);
    }
    cmdline.number(key).ok_or("flushes=, cpus_each=, giveup_ms= and wait_ms= take decimal numbers")
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drop = if self.drop == Drop::Wait { "wait" } else { "doorbell" };
        match self.scenario {
            Scenario::Healthy => f.write_str("healthy"),
            Scenario::Silent => write!(f, "silent loss by {drop}"),
        }
    }
}
