//! The description of a run: policy, fault, workload, unit, seed and costs. All of it is data.

use std::time::Duration;

use devices::fault::{Fault, Trigger};
use devices::pcie::link::Obeys;
use iommu::event::UnitRole;
use iommu::submit::{FlushPath, Policy};
use iommu::time::Timeout;
use iommu::unit::UnitConfig;
use serde::{Deserialize, Serialize};

use super::memory::PASIDS;
use super::{RunId, SimulationError, UnitRow, slot_map, text};

/// The drivers' use of mappings. It decides when pages are used again, and which CPU waits for
/// which invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Every page is unmapped, invalidated and given back when its I/O is done.
    Strict,
    /// Pages are unmapped at once and invalidated later, by a timer or when there are many of them:
    /// all of the domain. They are given back then.
    Lazy,
    /// As [`Self::Strict`], and each CPU works in an address space of its own, with a PASID: shared
    /// virtual addressing, or a device that is cut into pieces.
    Sva,
    /// After a batch all of the domain is unmapped and invalidated at once.
    Teardown,
    /// As [`Self::Teardown`], after a Function Level Reset, as VFIO does it.
    Detach,
    /// As [`Self::Strict`], and after every batch of its first CPU a device is reset. Its other users
    /// do not know of that: their I/O fails during the reset, and they unmap its pages then.
    Reset,
    /// As [`Self::Strict`] by a driver that does not reset its devices. The victim writes to the page of
    /// each flush some more times, the other devices once.
    Direct,
    /// As [`Self::Direct`] in a guest, whose own unit does the IOTLB part: only the Device-TLB part
    /// comes here. A page is out of the guest's unit then, so that its device can only reach it by
    /// its ATC.
    Forwarded,
}

impl Kind {
    /// The path in a kernel that it is about.
    pub const fn path(self) -> FlushPath {
        match self {
            Self::Reset => FlushPath::Reset,
            _ => self.unmap_path(),
        }
    }

    /// The path in a kernel on which its CPUs give pages back. A driver that lets its device go is on
    /// [`FlushPath::Teardown`] in every kind, and one that is about to reset it on
    /// [`FlushPath::Reset`].
    pub(super) const fn unmap_path(self) -> FlushPath {
        match self {
            Self::Strict
            | Self::Lazy
            | Self::Sva
            | Self::Reset
            | Self::Direct
            | Self::Forwarded => FlushPath::Unmap,
            Self::Teardown | Self::Detach => FlushPath::Teardown,
        }
    }

    /// Whether the drivers do what the built-in guest does: no resets, and some more writes to the
    /// page of each flush.
    pub(super) const fn is_built_in_guest(self) -> bool {
        matches!(self, Self::Direct | Self::Forwarded)
    }
}

/// The work of the machine's drivers and devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name in a [`RunId`].
    pub name: String,
    /// Its description, in a line.
    pub about: String,
    /// The drivers' use of mappings.
    pub kind: Kind,
    /// Devices: functions with ATS, up to 4096.
    pub devices: u16,
    /// How many of them are functions of one card, 1 to 256: they share its root port and its link.
    /// There are at most 240 cards, and the fault happens to the first.
    #[serde(default = "one_function")]
    pub functions: u16,
    /// CPUs. CPU n does I/O to device n modulo their number.
    pub cpus: u16,
    /// I/Os that each CPU does at the first pace; the fault happens among them.
    pub burst: u32,
    /// The mean time between two I/Os of a CPU in the burst.
    #[serde(with = "text::duration")]
    pub period: Duration,
    /// The mean time between two I/Os of a CPU after the burst, up to the horizon.
    #[serde(with = "text::duration")]
    pub trickle: Duration,
    /// Further accesses of a device to pages that it was once given, per I/O.
    pub touches: u32,
    /// I/Os of a CPU whose pages are given back together. With [`Kind::Reset`] the I/Os of the first
    /// CPU of a device between two resets.
    #[serde(default = "one")]
    pub batch: u32,
    /// When the CPUs beyond the first of each device begin.
    #[serde(skip)]
    pub crowd_from: Duration,
    /// The driver's wait descriptors have FN set: the unit executes nothing behind one before it is
    /// done.
    #[serde(default)]
    pub fence: bool,
    /// The Invalidate Queue Depth that devices announce, 1 to 32: the unit has no more requests
    /// pending in a device, and does not fetch past the next one (`PCIe 10.5.1`).
    #[serde(default = "queue_depth")]
    pub queue_depth: u8,
    /// The mean time between two moves of an interrupt to another CPU, each of which invalidates the
    /// interrupt entry cache by the same queue. One CPU more does that.
    #[serde(default)]
    pub irq_moves: Timeout,
    /// [`Kind::Lazy`]: how long after an unmapping the flush timer goes off.
    #[serde(default = "flush_after", with = "text::duration")]
    pub flush_after: Duration,
    /// [`Kind::Lazy`]: how many pages wait for it at most.
    #[serde(default = "flush_limit")]
    pub flush_limit: u32,
}

const fn one() -> u32 {
    1
}

const fn queue_depth() -> u8 {
    32
}

const fn one_function() -> u16 {
    1
}

/// As in Linux since 5e0d2a6fc094, which brought the lazy flush.
const fn flush_after() -> Duration {
    Duration::from_millis(10)
}

/// From the same commit; today's ring has 256 entries.
const fn flush_limit() -> u32 {
    250
}

impl Workload {
    /// I/Os of a CPU whose pages are given back together.
    pub(super) const fn held(&self) -> u32 {
        match self.kind {
            Kind::Reset => 1,
            _ => self.batch,
        }
    }

    /// The same work with `cpus` CPUs for each device, called `name@cpus`. At most 65,535 CPUs.
    #[must_use]
    pub fn with_cpus_per_device(&self, cpus: u16) -> Self {
        Self {
            name: format!("{}@{cpus}", self.name),
            about: format!("{}; {cpus} CPUs for each device", self.about),
            cpus: self.devices.saturating_mul(cpus),
            ..self.clone()
        }
    }

    /// A workload of that kind with the pace, the batch and the limits of most rows of the tables.
    pub fn new(name: &str, about: &str, kind: Kind, devices: u16, cpus: u16) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            kind,
            devices,
            functions: one_function(),
            cpus,
            burst: 20,
            period: Duration::from_micros(25),
            trickle: Duration::from_secs(5),
            touches: 2,
            batch: one(),
            crowd_from: Duration::ZERO,
            fence: false,
            queue_depth: queue_depth(),
            irq_moves: Timeout::Never,
            flush_after: flush_after(),
            flush_limit: flush_limit(),
        }
    }
}

/// A fault with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRow {
    /// Its name in a [`RunId`].
    pub name: String,
    /// Its description, in a line.
    pub about: String,
    /// The fault and its trigger, as in `before=completion:20,mode=no-completion`; nothing, if it
    /// is missing. It happens to the first port unless it names another: `rp0`, `rp1` and so on.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// A second fault, as that of another device that is mute too. What it happens to is no healthy
    /// device either.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub second: Option<Fault>,
    /// A fault that is counted happens up to this much later, as the seed decides.
    #[serde(default)]
    pub spread: u32,
    /// Whether a device that conforms to PCIe can show it, also one that has failed. `false` for
    /// what PCIe forbids.
    #[serde(default = "conforming")]
    pub conforming: bool,
}

impl FaultRow {
    /// The faults of the row.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.fault.iter().chain(&self.second)
    }
}

const fn conforming() -> bool {
    true
}

/// The costs of operations, in time. The defaults are those of [`Costs::default`], whose sources
/// are in `docs/simulation.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Costs {
    /// A CPU puts one descriptor on the ring.
    #[serde(with = "text::duration")]
    pub descriptor: Duration,
    /// A CPU writes IQT.
    #[serde(with = "text::duration")]
    pub doorbell: Duration,
    /// A CPU reads its status word once. It sees a write this much later.
    #[serde(with = "text::duration")]
    pub poll: Duration,
    /// A CPU gets a lock that another has let go.
    #[serde(with = "text::duration")]
    pub lock: Duration,
    /// A CPU maps a page, or unmaps it.
    #[serde(with = "text::duration")]
    pub map: Duration,
    /// An Invalidate Request goes from the unit to a function.
    #[serde(with = "text::duration")]
    pub request: Duration,
    /// An Invalidate Completion goes from a function to the unit, once the ATC has done its work.
    #[serde(with = "text::duration")]
    pub completion: Duration,
    /// An ATC drops what an Invalidate Request covers.
    #[serde(with = "text::duration")]
    pub atc_invalidate: Duration,
    /// A read of a function's vendor ID.
    #[serde(with = "text::duration")]
    pub presence_check: Duration,
    /// A device does one I/O.
    #[serde(with = "text::duration")]
    pub io: Duration,
    /// After this time a driver gives up an I/O that has not completed.
    #[serde(with = "text::duration")]
    pub io_timeout: Duration,
    /// From a port's interrupt to the moment when its handler marks the device as disconnected.
    #[serde(with = "text::duration")]
    pub hot_plug: Duration,
    /// After this time a device that was reset is used again.
    #[serde(with = "text::duration")]
    pub reset: Duration,
}

impl Default for Costs {
    fn default() -> Self {
        let (nanos, micros) = (Duration::from_nanos, Duration::from_micros);
        Self {
            descriptor: nanos(20),
            doorbell: nanos(100),
            poll: nanos(50),
            lock: nanos(100),
            map: nanos(200),
            request: nanos(500),
            completion: nanos(500),
            atc_invalidate: nanos(300),
            presence_check: micros(70),
            io: micros(10),
            io_timeout: Duration::from_secs(30),
            hot_plug: Duration::from_millis(5),
            reset: Duration::from_millis(100),
        }
    }
}

/// Everything that decides what happens in a run. Two runs with equal specs are equal, event by
/// event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The host's policy for invalidations that take too long.
    pub policy: Policy,
    /// The fault.
    pub fault: FaultRow,
    /// The workload.
    pub workload: Workload,
    /// The seed of all random choices.
    pub seed: u64,
    /// The name of the remapping unit's row.
    pub unit_name: String,
    /// The configuration of the remapping unit.
    pub unit: UnitConfig,
    /// When ATCs drop what an Invalidate Request names.
    #[serde(default)]
    pub obeys: Obeys,
    /// The costs of operations, in time.
    pub costs: Costs,
    /// When the run ends. No I/O begins that may not have ended, by its data or by its time-out, a
    /// tenth of this time before: a CPU that waits at the horizon has waited for that long.
    #[serde(with = "text::duration")]
    pub horizon: Duration,
}

impl RunSpec {
    /// PCIe's recommendation for the Invalidation Completion Time-out: one minute plus half of it
    /// (`PCIe 10.3.1`).
    pub const ICT: Duration = Duration::from_secs(90);
    /// Long enough for two such time-outs.
    pub const HORIZON: Duration = Duration::from_secs(200);

    /// A run in the default machine: a unit that raises ITE after [`Self::ICT`] and is
    /// serial, in legacy mode unless the workload needs PASIDs; default costs, [`Self::HORIZON`].
    pub fn new(policy: Policy, fault: FaultRow, workload: Workload, seed: u64) -> Self {
        let is_scalable = workload.kind == Kind::Sva;
        let unit = UnitConfig {
            ict: Timeout::After(Self::ICT),
            scalable_mode: is_scalable,
            first_stage: is_scalable,
            second_stage: is_scalable,
            pasid_bits: is_scalable.then_some(20),
            domain_bits: Self::domain_bits(workload.devices),
            interrupt_remapping: workload.irq_moves != Timeout::Never,
            ..UnitConfig::new(UnitRole::Host)
        };
        Self {
            policy,
            fault,
            workload,
            seed,
            unit_name: UnitRow::DEFAULT.to_owned(),
            unit,
            obeys: Obeys::default(),
            costs: Costs::default(),
            horizon: Self::HORIZON,
        }
    }

    /// The same run on another unit.
    #[must_use]
    pub fn on(mut self, unit: &UnitRow) -> Self {
        self.unit_name.clone_from(&unit.name);
        unit.apply(&mut self.unit);
        self
    }

    /// The smallest width of domain ids, in bits, with an id for each device. Id 0 is not used.
    fn domain_bits(devices: u16) -> u8 {
        let mut widths = (8..16).step_by(2);
        widths.find(|bits| devices < 1 << bits).unwrap_or(16)
    }

    /// When no more I/O begins.
    pub(super) fn quiet(&self) -> Duration {
        self.horizon.saturating_sub(self.horizon / 10).saturating_sub(self.costs.io_timeout)
    }

    /// How long after the horizon a wait may still end: as long again as the run, and ten times as
    /// long as the unit and the policy wait. What has not ended by then is lost.
    pub(super) fn patience(&self) -> Duration {
        let bounds =
            [self.unit.ict, self.policy.deadline].into_iter().filter_map(|bound| match bound {
                Timeout::After(time) => Some(time),
                Timeout::Never => None,
            });
        self.horizon.saturating_add(bounds.max().unwrap_or_default().saturating_mul(10))
    }

    /// The name of the run. Costs and horizon are no part of it.
    pub fn id(&self) -> RunId {
        RunId {
            policy: self.policy.name.clone(),
            fault: self.fault.name.clone(),
            workload: self.workload.name.clone(),
            unit: self.unit_name.clone(),
            seed: self.seed,
        }
    }

    /// Refuses what cannot be simulated.
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        let workload = &self.workload;
        let per_device = u64::from(workload.cpus.div_ceil(workload.devices.max(1)));
        let needs_pasids = workload.kind == Kind::Sva;
        let rules = [
            ((1..=slot_map::MAX_DEVICES).contains(&workload.devices), "it has 1 to 4096 devices"),
            ((1..=slot_map::MAX_FUNCTIONS).contains(&workload.functions), "functions is 1 to 256"),
            (
                workload.devices.div_ceil(workload.functions.max(1)) <= slot_map::MAX_SLOTS,
                "it has at most 240 cards; let more of its devices be functions of one, as in functions = 32",
            ),
            (
                u32::from(workload.devices) < 1 << self.unit.domain_bits,
                "it needs a domain for each device; give the unit more domain_bits",
            ),
            ((1..=4096).contains(&workload.cpus), "it has 1 to 4096 CPUs"),
            ((1..=64).contains(&workload.batch), "batch is 1 to 64"),
            ((1..=32).contains(&workload.queue_depth), "queue_depth is 1 to 32"),
            ((1..=4096).contains(&workload.flush_limit), "flush_limit is 1 to 4096"),
            (!workload.trickle.is_zero(), "trickle is longer than nothing"),
            (
                !self.quiet().is_zero(),
                "no I/O would end before the horizon; make the horizon longer than io_timeout and a tenth",
            ),
            (!workload.period.is_zero(), "period is longer than nothing"),
            (
                workload.irq_moves == Timeout::Never || self.unit.interrupt_remapping,
                "irq_moves needs a unit with interrupt_remapping",
            ),
            (!needs_pasids || self.unit.pasid_bits.is_some(), "sva needs a unit with pasid_bits"),
            (!needs_pasids || per_device < PASIDS, "sva has at most 63 CPUs for each device"),
            (
                self.fault
                    .faults()
                    .all(|fault| matches!(fault.trigger, Trigger::At(_) | Trigger::Count(..))),
                "a fault here happens at=T, or at one of the points that are counted: there is no guest \
                 to ring a doorbell or to write to a console",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => {
                let what = format!("{}", self.id());
                Err(SimulationError::Refused { what, reason: reason.to_owned() })
            }
            None => Ok(()),
        }
    }
}
