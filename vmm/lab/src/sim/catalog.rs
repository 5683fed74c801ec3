//! The tables in which the names of a run stand: policies, faults, workloads, units. Rows of one's own
//! are added by [`Catalog::add`].

use std::time::Duration;

use devices::fault::{FaultMode, current_name};
use iommu::submit::{PRESETS, Policy, Preset};
use iommu::time::Timeout;
use serde::{Deserialize, Serialize};

use super::{FaultRow, Kind, RunId, RunSpec, UnitRow, Workload};

/// Faults, by name, what they stand for, and when they happen.
const FAULTS: &[(&str, &str, &str)] = &[
    ("none", "nothing goes wrong", ""),
    (
        "silent",
        "the link is gone, and takes an Invalidate Request with it",
        "after=requests:20,mode=silent",
    ),
    ("ghost", "the same, and the port reports an active link", "after=requests:20,mode=ghost"),
    ("disable", "Link Disable is set", "after=requests:20,mode=disable"),
    (
        "surprise",
        "the card is pulled out, with the hot-plug events",
        "after=requests:20,mode=surprise",
    ),
    (
        "safe",
        "the button is pressed, and the card goes when the slot is off",
        "after=requests:20,mode=safe",
    ),
    ("dpc", "an uncorrectable error that the port contains", "after=requests:20,mode=dpc"),
    ("aer", "the link is gone, and AER alone reports it", "after=requests:20,mode=aer"),
    (
        "no-completion",
        "ATCs drop what they are told to, and send no completion",
        "before=completion:20,mode=no-completion",
    ),
    (
        "ignore-invalidate",
        "ATCs keep what they are told to drop, and send no completion",
        "after=requests:20,mode=ignore-invalidate",
    ),
    (
        "ignore-invalidate:30s",
        "the same, for 30 s",
        "after=requests:20,mode=ignore-invalidate,for=30s",
    ),
    (
        "early",
        "ATCs keep what they are told to drop, and answer all the same",
        "after=requests:20,mode=early",
    ),
    (
        "byte-swap",
        "ATCs read addresses in the wrong byte order, and drop another page",
        "after=requests:20,mode=byte-swap",
    ),
    (
        "drop-at-next",
        "ATCs answer at once, and drop the range when the next request comes",
        "after=requests:20,mode=drop-at-next",
    ),
    ("sleep", "the functions are put into D3hot", "after=requests:20,mode=sleep"),
    (
        "sleep:30s",
        "the functions are put into D3hot for 30 s",
        "after=requests:20,mode=sleep,for=30s",
    ),
    (
        "slow-reset",
        "devices take 2 s to become ready after a reset, and drivers wait for them",
        "at=100us,mode=slow-reset:2s",
    ),
    (
        "merge",
        "answers wait for 100 us, and come as one with several ITags",
        "before=completion:20,mode=merge:100us",
    ),
    (
        "split",
        "each answer comes in 8 messages, Completion Count 8",
        "before=completion:20,mode=split:8",
    ),
    (
        "choke",
        "ATCs take 2 requests at once, each for 50 ms, and lose further ones",
        "before=completion:20,mode=choke:2:50ms",
    ),
    ("slow", "answers take 1 ms to 90 s", "before=completion:20,mode=slow:1ms..90s"),
    ("slow:50ms", "answers take 50 ms in the mean", "before=completion:20,mode=slow:exp:50ms"),
    ("lossy", "one in a hundred answers is lost", "before=completion:20,mode=lossy:0.01"),
    ("dup", "every answer comes twice", "before=completion:20,mode=dup"),
    ("late", "answers take 2 s", "before=completion:20,mode=late:2s"),
    (
        "flap",
        "the link is gone for 200 ms, and the device is reset",
        "after=requests:20,mode=flap:200ms",
    ),
    (
        "flap:keep",
        "the same, and the device has noticed nothing",
        "after=requests:20,mode=flap:200ms:keep",
    ),
];

/// The faults that PCIe forbids, with the section. A device that stops has failed, which is not
/// forbidden; the remapping unit has a time-out for it.
const FORBIDDEN: &[(&str, &str)] = &[
    ("early", "PCIe 10.3.2: a completion follows the invalidation"),
    ("byte-swap", "PCIe 10.3.2: the range of the request is invalidated"),
    ("drop-at-next", "PCIe 10.3.2: a completion follows the invalidation"),
    ("choke", "PCIe 10.3.5: a function accepts as many requests as its Invalidate Queue Depth"),
    ("dup", "PCIe 10.3.2: as many completions as Completion Count says"),
    ("slow-reset", "PCIe 6.6.2: a function is ready within 100 ms after FLR"),
    ("flap:keep", "PCIe 6.6.1: a link that was down resets the function"),
];

/// The default of [`FaultRow::spread`] for the built-in faults.
const SPREAD: u32 = 16;

fn workloads() -> Vec<Workload> {
    let batch =
        |batch, workload: Workload| Workload { batch, burst: batch * workload.burst, ..workload };
    vec![
        Workload::new(
            "strict",
            "two devices with two CPUs each; each page is invalidated when its I/O is done",
            Kind::Strict,
            2,
            4,
        ),
        Workload::new(
            "lazy",
            "the same with pages that are unmapped at once and invalidated every 10 ms, or 250 at a time",
            Kind::Lazy,
            2,
            4,
        ),
        Workload::new(
            "victim",
            "two devices with a CPU each: the innocent one shares nothing but the queue",
            Kind::Strict,
            2,
            2,
        ),
        Workload::new(
            "sva",
            "two devices, and two CPUs for each that work in address spaces of their own",
            Kind::Sva,
            2,
            4,
        ),
        batch(
            8,
            Workload::new(
                "teardown",
                "two devices; after every eighth I/O all of the domain is unmapped at once",
                Kind::Teardown,
                2,
                2,
            ),
        ),
        batch(
            8,
            Workload::new(
                "detach",
                "two devices; after every eighth I/O a Function Level Reset, then as teardown",
                Kind::Detach,
                2,
                2,
            ),
        ),
        batch(
            8,
            Workload::new(
                "reset",
                "two devices with four CPUs each; after every eighth I/O of its first CPU a device is \
                 reset, while the others unmap",
                Kind::Reset,
                2,
                8,
            ),
        ),
        busy(),
        irqs(),
        Workload::new("wide", "64 devices on 64 CPUs", Kind::Strict, 64, 64),
        Workload {
            functions: 16,
            ..Workload::new(
                "ari",
                "two cards with 16 functions each, and a CPU for each function",
                Kind::Strict,
                32,
                32,
            )
        },
    ]
}

fn busy() -> Workload {
    Workload {
        trickle: Duration::from_millis(50),
        ..Workload::new(
            "busy",
            "as strict, and after the burst each CPU still does one I/O per 50 ms",
            Kind::Strict,
            2,
            4,
        )
    }
}

fn irqs() -> Workload {
    Workload {
        irq_moves: Timeout::After(Duration::from_millis(50)),
        ..Workload::new(
            "irqs",
            "as strict, and one more CPU moves an interrupt every 50 ms, by the same queue",
            Kind::Strict,
            2,
            4,
        )
    }
}

/// Policies, faults, workloads and units, each under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The policies.
    #[serde(default, rename = "policy")]
    pub policies: Vec<Policy>,
    /// The faults.
    #[serde(default, rename = "fault")]
    pub faults: Vec<FaultRow>,
    /// The workloads.
    #[serde(default, rename = "workload")]
    pub workloads: Vec<Workload>,
    /// The units.
    #[serde(default, rename = "unit")]
    pub units: Vec<UnitRow>,
}

/// An invalid row of a table, or an unknown name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A name stands twice in a table.
    #[error("there is already a {table} '{name}'; give it another name")]
    Duplicate {
        /// The table.
        table: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is none, because it stands in a [`RunId`].
    #[error("'{name}' cannot name a {table}: it is empty, or has a space, a slash or an '@'")]
    Name {
        /// The table.
        table: &'static str,
        /// The name.
        name: String,
    },
    /// A name that stands in no table.
    #[error("there is no {table} '{name}'; there are {known}")]
    Unknown {
        /// The table.
        table: &'static str,
        /// The name.
        name: String,
        /// The names in the table.
        known: String,
    },
    /// A workload with an impossible number of CPUs for each device.
    #[error(
        "'{0}' is not a number of CPUs for each device; write a number from 1, as in strict@16"
    )]
    Cpus(String),
}

impl Default for Catalog {
    /// The built-in tables: the presets with a row, all faults, all workloads, all units.
    fn default() -> Self {
        let fault = |(name, about, text): &(&str, &str, &str)| {
            let forbidden = FORBIDDEN.iter().find(|(other, _)| other == name);
            FaultRow {
                name: (*name).to_owned(),
                about: match forbidden {
                    Some((_, rule)) => format!("{about} (forbidden by {rule})"),
                    None => (*about).to_owned(),
                },
                fault: text.parse().ok(),
                second: None,
                spread: SPREAD,
                conforming: forbidden.is_none(),
            }
        };
        Self {
            policies: PRESETS
                .iter()
                .filter(|preset| preset.in_tables)
                .map(Preset::policy)
                .collect(),
            faults: FAULTS.iter().map(fault).collect(),
            workloads: workloads(),
            units: UnitRow::built_in(),
        }
    }
}

impl Catalog {
    /// Adds the rows of `other`.
    ///
    /// # Errors
    /// [`CatalogError::Duplicate`] and [`CatalogError::Name`]; nothing has changed then.
    pub fn add(&mut self, other: Self) -> Result<(), CatalogError> {
        check("policy", &self.policies, &other.policies, |row| &row.name)?;
        check("fault", &self.faults, &other.faults, |row| &row.name)?;
        check("workload", &self.workloads, &other.workloads, |row| &row.name)?;
        check("unit", &self.units, &other.units, |row| &row.name)?;
        self.policies.extend(other.policies);
        self.faults.extend(other.faults);
        self.workloads.extend(other.workloads);
        self.units.extend(other.units);
        Ok(())
    }

    /// The policy with that name: a row, or a preset without a row or with a duration of its own.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`].
    pub fn policy(&self, name: &str) -> Result<Policy, CatalogError> {
        match find("policy", &self.policies, name, |row| &row.name) {
            Ok(row) => Ok(row.clone()),
            Err(error) => name.parse().map_err(|_| with_presets(error)),
        }
    }

    /// The fault with that name, or with the name of today for an earlier one; or a fault mode that
    /// answers late, as in `slow:exp:50ms`.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`].
    pub fn fault(&self, name: &str) -> Result<FaultRow, CatalogError> {
        let row = find("fault", &self.faults, name, |row| &row.name).cloned();
        row.or_else(|error| {
            let current = current_name(name);
            let known = self.faults.iter().find(|row| row.name == current).cloned();
            known.or_else(|| late_answers(name)).ok_or(error)
        })
    }

    /// The workload with that name: a row, or a row and a number of CPUs for each device, as in
    /// `strict@16`.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] and [`CatalogError::Cpus`].
    pub fn workload(&self, name: &str) -> Result<Workload, CatalogError> {
        let row = |name| find("workload", &self.workloads, name, |row| &row.name);
        match (row(name), name.split_once('@')) {
            (Ok(row), _) => Ok(row.clone()),
            (Err(error), None) => Err(error),
            (Err(_), Some((base, cpus))) => {
                let number = cpus.parse().ok().filter(|number| *number > 0);
                let number = number.ok_or_else(|| CatalogError::Cpus(cpus.to_owned()))?;
                row(base).map(|row| row.with_cpus_per_device(number))
            }
        }
    }

    /// The unit with that name.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`].
    pub fn unit(&self, name: &str) -> Result<&UnitRow, CatalogError> {
        find("unit", &self.units, name, |row| &row.name)
    }

    /// The run that `id` names, in the default machine.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] and [`CatalogError::Cpus`].
    pub fn spec(&self, id: &RunId) -> Result<RunSpec, CatalogError> {
        let (policy, fault) = (self.policy(&id.policy)?, self.fault(&id.fault)?);
        let spec = RunSpec::new(policy, fault, self.workload(&id.workload)?, id.seed);
        Ok(spec.on(self.unit(&id.unit)?))
    }
}

/// The error for an unknown policy, with the presets that have no row.
fn with_presets(error: CatalogError) -> CatalogError {
    match error {
        CatalogError::Unknown { table, name, known } => {
            let others = PRESETS.iter().filter(|preset| !preset.in_tables);
            let names = std::iter::once(known).chain(others.map(|preset| preset.name.to_owned()));
            let known = names.collect::<Vec<_>>().join(", ");
            CatalogError::Unknown { table, name, known }
        }
        other => other,
    }
}

/// The row for a mode that answers late, which is its own name.
fn late_answers(name: &str) -> Option<FaultRow> {
    let mode: FaultMode = name.parse().ok()?;
    let is_slow = matches!(mode, FaultMode::Slow(_) | FaultMode::Late(_));
    is_slow.then(|| FaultRow {
        name: name.to_owned(),
        about: format!("answers come late: {mode}"),
        fault: format!("before=completion:20,mode={name}").parse().ok(),
        second: None,
        spread: SPREAD,
        conforming: true,
    })
}

fn find<'a, T>(
    table: &'static str,
    rows: &'a [T],
    name: &str,
    name_of: impl Fn(&T) -> &String,
) -> Result<&'a T, CatalogError> {
    rows.iter().find(|row| name_of(row) == name).ok_or_else(|| {
        let known: Vec<&str> = rows.iter().map(|row| name_of(row).as_str()).collect();
        CatalogError::Unknown { table, name: name.to_owned(), known: known.join(", ") }
    })
}

fn check<T>(
    table: &'static str,
    old: &[T],
    new: &[T],
    name_of: impl Fn(&T) -> &String,
) -> Result<(), CatalogError> {
    for (index, row) in new.iter().enumerate() {
        let name = name_of(row).clone();
        if name.is_empty() || name.contains(|c: char| "/@".contains(c) || c.is_whitespace()) {
            return Err(CatalogError::Name { table, name });
        }
        if old.iter().chain(&new[..index]).any(|other| *name_of(other) == name) {
            return Err(CatalogError::Duplicate { table, name });
        }
    }
    Ok(())
}
