//! The pair in the simulation: a victim and a neighbour. Below a guest only the Device-TLB part of each
//! flush reaches the host side. On bare metal all of it does, and the simulated driver stands for the
//! guest's.
//!
//! ```text
//!   victim's CPU   flush | I/O  .  I/O, flush | I/O  .  I/O, flush            two I/Os for a flush
//!                                                  ^ the fault: the ATC holds the page of the first
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devices::fault::{Fault, Point, Trigger};
use iommu::event::{Event, EventSink, TimedEvent, Tracer};
use iommu::submit::{LockScope, Policy};
use iommu::time::{Instant, Timeout};
use iommu::unit::UnitConfig;
use lab::sim::{self, FaultRow, Kind, RunSpec, Workload};

use super::ValidateError;
use super::costs::{IO_TIMEOUT, Measured, PACE};
use super::observe::{Observation, Observer, Start, VICTIM};
use super::pair::{Pair, When};
use crate::host::HostChoice;

/// Healthy flushes of the victim before the one that is observed.
const FLUSHES: u64 = 3;
/// I/Os of each CPU, more than the neighbour does before the victim's flush is on the queue.
const BURST: u32 = 60;
/// When the further CPUs of a device begin, after the moment of the fault: the first one then waits
/// for its flush, as its I/O has been given up after [`IO_TIMEOUT`].
const CROWD_AFTER: Duration = Duration::from_millis(2);
/// Beyond the end of each run.
const NEVER: Duration = Duration::from_secs(1 << 20);

/// Runs the pair.
pub(super) fn run(pair: &Pair, measured: &Measured) -> Result<Observation, ValidateError> {
    let mut spec = spec(pair, measured);
    // The victim's further CPUs begin when the observed flush is under way.
    let at = moment(&spec)?;
    spec.workload.crowd_from = at - Instant::START + CROWD_AFTER;
    let start = match pair.when {
        When::Before => {
            spec.fault.fault = pair.mode().map(|mode| {
                let trigger = Trigger::At(at - Instant::START);
                Fault { trigger, port: None, mode, lasts: None }
            });
            spec.horizon += at - Instant::START;
            Start::From(at)
        }
        When::Sent => {
            spec.fault.fault = pair.mode().map(|mode| {
                let trigger = Trigger::Count(Point::Request, FLUSHES + 1);
                Fault { trigger, port: None, mode, lasts: None }
            });
            Start::UnderWay
        }
    };
    // In its last tenth no I/O begins.
    spec.horizon = (spec.horizon + pair.patience()) * 10 / 9;
    let observer = Arc::new(Observer::new(start, pair.patience(), spec.workload.cpus));
    sim::run(&spec, &Tracer::to(observer.clone()))?;
    observer.result().ok_or(ValidateError::Unmeasured("a simulated flush"))
}

/// A run without fault, for as long as it takes to get under way.
fn spec(pair: &Pair, measured: &Measured) -> RunSpec {
    let (devices, batch) = match pair.when {
        When::Before => (2, 2),
        When::Sent => (1, 1),
    };
    let (name, about, kind) = match pair.host {
        HostChoice::Direct => ("direct", "the built-in guest's flushes", Kind::Direct),
        HostChoice::Forwarded(_) => {
            ("forwarded", "the built-in guest's flushes, as they reach its host", Kind::Forwarded)
        }
    };
    let workload = Workload {
        burst: BURST,
        period: PACE,
        trickle: pair.patience(),
        touches: 0,
        batch,
        crowd_from: NEVER,
        ..Workload::new(name, about, kind, devices, devices * u16::from(pair.cpus))
    };
    let fault = FaultRow {
        name: pair.fault.to_owned(),
        about: String::new(),
        fault: None,
        spread: 0,
        second: None,
        conforming: true,
    };
    // The guest's driver holds a lock for each domain, whatever the host's would do.
    let policy = Policy { lock: LockScope::Domain, ..pair.policy() };
    let spec = RunSpec::new(policy, fault, workload, 0);
    let ict = Timeout::After(pair.ict());
    // Twice as long as the slowest of what comes before, for each of the CPUs.
    let io = 2 * PACE * 3 + IO_TIMEOUT;
    let flush = 4 * measured.flush + 2 * measured.presence_check;
    RunSpec {
        unit: UnitConfig { ict, ordering: pair.ordering, ..spec.unit },
        obeys: pair.obeys,
        costs: measured.costs(),
        horizon: (flush + io) * 4 * (FLUSHES as u32 + 2),
        ..spec
    }
}

/// A moment at which the victim's ATC holds a page that its CPU is yet to flush.
fn moment(spec: &RunSpec) -> Result<Instant, ValidateError> {
    let moment = Arc::new(Moment::default());
    sim::run(spec, &Tracer::to(moment.clone()))?;
    let found = moment.0.lock().unwrap_or_else(PoisonError::into_inner).found;
    found.ok_or(ValidateError::Unmeasured("a simulated flush"))
}

#[derive(Debug, Default)]
struct Moment(Mutex<Search>);

#[derive(Debug, Default)]
struct Search {
    flushes: u64,
    found: Option<Instant>,
}

impl EventSink for Moment {
    fn record(&self, TimedEvent { at, event, .. }: TimedEvent) {
        let mut search = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::CpuReleased { function: VICTIM, .. } => search.flushes += 1,
            Event::AtcFilled { function: VICTIM, .. } if search.flushes == FLUSHES => {
                // After what else happens then, and before the next I/O begins.
                search.found.get_or_insert(at + Duration::from_nanos(1));
            }
            _ => {}
        }
    }
}
