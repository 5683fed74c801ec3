//! The unit of comparison: a host, a fault, and the moment of the fault.

use std::fmt;
use std::time::Duration;

use devices::fault::{FaultMode, current_name};
use devices::pcie::link::Obeys;
use iommu::submit::{FlushPath, PRESETS, Policy, Preset};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use serde::{Serialize, Serializer};

use crate::host::HostChoice;

/// The moment of a fault, relative to the observed flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// Before it begins; the ATC holds the page. A neighbour uses the same queue.
    Before,
    /// After its Invalidate Request was sent, and before it arrives. There is no neighbour, since the
    /// trigger counts the requests of all functions.
    Sent,
}

impl When {
    /// The word for options and tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Sent => "sent",
        }
    }
}

/// Faults that KVM and the simulation share, with their moments. `docs/validation.md` lists the others.
pub(crate) const FAULTS: &[(&str, When)] = &[
    ("none", When::Before),
    ("silent", When::Before),
    ("silent", When::Sent),
    ("surprise", When::Before),
    ("surprise", When::Sent),
    ("disable", When::Before),
    ("no-completion", When::Before),
    ("ignore-invalidate", When::Before),
    ("late:200ms", When::Before),
    ("slow:60ms", When::Before),
    ("dup", When::Before),
    ("early", When::Before),
    ("flap:150ms", When::Before),
    ("flap:150ms:keep", When::Before),
];

/// No fault of [`FAULTS`] has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("KVM and the simulation do not share a fault '{name}'; they share {known}")]
pub(crate) struct UnknownFault {
    name: String,
    known: String,
}

/// The rows of [`FAULTS`] with that name: `silent` for all of them, `silent/sent` for one. Earlier
/// names of modes are read too.
///
/// # Errors
/// A name that none has.
pub(crate) fn faults(name: &str) -> Result<Vec<(&'static str, When)>, UnknownFault> {
    let name = &*current_name(name);
    let is_meant = |&&(mode, when): &&(&str, When)| {
        name == mode || name.strip_prefix(mode) == Some(&format!("/{}", when.name()))
    };
    let rows: Vec<_> = FAULTS.iter().filter(is_meant).copied().collect();
    if rows.is_empty() {
        let known = FAULTS.iter().map(|(mode, when)| format!("{mode}/{}", when.name()));
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(UnknownFault { name: name.to_owned(), known });
    }
    Ok(rows)
}

/// The longest bound of a policy that is run unless others are asked for.
const LONG: Duration = Duration::from_secs(10);

/// The presets whose bound is below 10 s, and with `long` the others, of those with a row in tables
/// that apply: a guest's flush is an unmap. A preset that takes a duration also runs with 100 ms.
pub(crate) fn usual_policies(long: bool, ordering: Ordering) -> Vec<Policy> {
    let applies = |preset: &&Preset| {
        let policy = preset.policy();
        preset.in_tables && policy.applies_to(ordering) && policy.describes(FlushPath::Unmap)
    };
    let is_long = |policy: &Policy| matches!(policy.deadline, Timeout::After(t) if t >= LONG);
    let short = PRESETS.iter().filter(applies).filter_map(|preset| {
        let policy = preset.policy();
        if preset.takes_duration && is_long(&policy) {
            return format!("{}:100ms", preset.name).parse().ok();
        }
        (!is_long(&policy)).then_some(policy)
    });
    let usual = PRESETS.iter().filter(applies).map(Preset::policy);
    let long = usual.filter(|policy| long && is_long(policy));
    short.chain(long).collect()
}

/// A host, a fault, and the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The host below the guest, with its policy for invalidations that take too long.
    pub(crate) host: HostChoice,
    /// The fault mode, or `none`.
    pub(crate) fault: &'static str,
    /// The moment of the fault.
    pub(crate) when: When,
    /// The order in which the units complete waits.
    pub(crate) ordering: Ordering,
    /// CPUs for each device, 1 to 4, that share the lock of its domain.
    pub(crate) cpus: u8,
    /// When ATCs drop what an Invalidate Request names.
    pub(crate) obeys: Obeys,
}

/// The most CPUs for each device.
pub(crate) const MAX_CPUS: u8 = 4;

/// How much longer than a policy's bound the unit waits before it raises ITE.
const AFTER_BOUND: Duration = Duration::from_millis(300);
/// The same with several CPUs for each device, of which one after the other runs into its bound: the
/// unit's time-out is no multiple of the usual bounds, so that both do not come at once.
const AFTER_BOUNDS: Duration = Duration::from_millis(350);

impl Pair {
    /// Nothing happens, with a host that has this policy.
    pub(super) fn healthy(policy: Policy) -> Self {
        Self {
            host: HostChoice::Forwarded(policy),
            fault: "none",
            when: When::Before,
            ordering: Ordering::Serial,
            cpus: 1,
            obeys: Obeys::default(),
        }
    }

    /// The policy of the driver that waits: the host's, or that of the guest's driver on bare metal,
    /// which waits as Linux does.
    pub(super) fn policy(&self) -> Policy {
        match &self.host {
            HostChoice::Direct => PRESETS[0].policy(),
            HostChoice::Forwarded(policy) => policy.clone(),
        }
    }

    /// The fault's mode; nothing for `none`.
    pub(super) fn mode(&self) -> Option<FaultMode> {
        self.fault.parse().ok()
    }

    /// Devices, each with CPUs that flush: the victim, and its neighbour where there is one.
    pub(super) fn devices(&self) -> u8 {
        match self.when {
            When::Before => 2,
            When::Sent => 1,
        }
    }

    /// The unit's own time-out. It is shorter than on hardware, and longer than the policy's bound, so
    /// that both occur.
    pub(crate) fn ict(&self) -> Duration {
        let bound = match self.policy().deadline {
            Timeout::After(bound) => bound,
            Timeout::Never => Duration::ZERO,
        };
        bound + if self.cpus > 1 { AFTER_BOUNDS } else { AFTER_BOUND }
    }

    /// The time for which a flush is watched: a caller that still waits then counts as waiting without
    /// end. Two of the unit's time-outs fit in, and no third; or one more for each further CPU.
    pub(crate) fn patience(&self) -> Duration {
        self.ict() * (3 + 2 * u32::from(self.cpus)) / 2
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, fault, when, ordering, cpus, .. } = self;
        write!(f, "{host}, {fault}/{}, {ordering}, {cpus} CPUs", when.name())
    }
}

/// Names, as JSON.
impl Serialize for Pair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Names<'a> {
            host: &'a str,
            policy: Option<&'a str>,
            fault: &'a str,
            when: When,
            ordering: Ordering,
            cpus_per_device: u8,
            obeys: Obeys,
            ict_ns: u128,
            patience_ns: u128,
        }
        let names = Names {
            host: self.host.kind(),
            policy: self.host.policy(),
            fault: self.fault,
            when: self.when,
            ordering: self.ordering,
            cpus_per_device: self.cpus,
            obeys: self.obeys,
            ict_ns: self.ict().as_nanos(),
            patience_ns: self.patience().as_nanos(),
        };
        names.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_table_can_be_chosen_by_its_name() {
        for (mode, when) in FAULTS {
            assert!(*mode == "none" || mode.parse::<FaultMode>().is_ok(), "{mode}");
            assert_eq!(faults(&format!("{mode}/{}", when.name())), Ok(vec![(*mode, *when)]));
        }
        assert_eq!(faults("silent").map(|rows| rows.len()), Ok(2));
        let message = faults("dpc").unwrap_err().to_string();
        assert!(message.contains("'dpc'") && message.contains("silent/sent"), "{message}");
    }

    #[test]
    fn bounds_of_cpus_in_a_row_end_at_other_times_than_the_units_time_out() {
        let mut pair = Pair::healthy("bounded:100ms".parse().unwrap());
        assert_eq!((pair.ict().as_millis(), pair.patience().as_millis()), (400, 1000));
        (pair.cpus, pair.ordering) = (4, Ordering::Blocking);
        assert_eq!((pair.ict().as_millis(), pair.patience().as_millis()), (450, 2475));
        assert_eq!(pair.to_string(), "forwarded, bounded:100ms, none/before, blocking, 4 CPUs");
    }

    #[test]
    fn what_takes_minutes_is_left_out_unless_it_is_asked_for() {
        let names = |long| -> Vec<String> {
            usual_policies(long, Ordering::Serial).into_iter().map(|policy| policy.name).collect()
        };
        let has = |names: &[String], name: &str| names.iter().any(|other| other == name);
        for name in ["linux-7.0-unmap", "bounded:100ms", "bounded+watchdog:100ms", "smmuv3", "xen"]
        {
            assert!(has(&names(false), name) && has(&names(true), name), "{name}");
        }
        for name in ["pcie-90s", "bounded+watchdog:1m30s", "riscv"] {
            assert!(!has(&names(false), name) && has(&names(true), name), "{name}");
        }
    }
}
