//! Costs under this host's KVM, as the guest measures them, and their translation for the simulation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devices::bench::Metric;
use devices::root_complex::RootComplexConfig;
use iommu::event::{Event, EventSink, TimedEvent};
use iommu::submit::{FlushPath, PRESETS, Precheck, Preset};
use lab::sim::Costs;
use serde::Serialize;

use super::observe::nanos;
use super::pair::Pair;
use super::{ValidateError, kvm};

/// Medians of the guest's measurements on healthy links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Measured {
    /// An access to a port: an exit to the VMM and back.
    #[serde(rename = "exit_ns", serialize_with = "nanos")]
    pub(crate) exit: Duration,
    /// A read of the unit's fault status. Each turn of the waiting loop makes one.
    #[serde(rename = "register_read_ns", serialize_with = "nanos")]
    pub(crate) register_read: Duration,
    /// A read of a function's vendor ID by the guest. The simulation's presence check is not this one,
    /// but the host's.
    #[serde(rename = "vendor_id_ns", serialize_with = "nanos")]
    pub(crate) vendor_id: Duration,
    /// One descriptor: a third of what comes before the doorbell, the lock included.
    #[serde(rename = "descriptor_ns", serialize_with = "nanos")]
    pub(crate) descriptor: Duration,
    /// A write of the queue's tail that brings nothing new.
    #[serde(rename = "doorbell_ns", serialize_with = "nanos")]
    pub(crate) doorbell: Duration,
    /// Additional time of a doorbell with a flush, which both units, link and ATC handle meanwhile.
    #[serde(rename = "answer_ns", serialize_with = "nanos")]
    pub(crate) answer: Duration,
    /// Additional time of such a doorbell under a policy with a presence check.
    #[serde(rename = "presence_check_ns", serialize_with = "nanos")]
    pub(crate) presence_check: Duration,
    /// A whole flush.
    #[serde(rename = "flush_ns", serialize_with = "nanos")]
    pub(crate) flush: Duration,
}

/// Pause of a CPU of the simulation between two operations. The guest's neighbour makes none.
pub(super) const PACE: Duration = Duration::from_micros(20);
/// Time-out of the simulated driver for an I/O. The guest makes no I/O on a link that is gone.
pub(super) const IO_TIMEOUT: Duration = Duration::from_micros(200);

impl Measured {
    /// The costs for the simulation. All that happens between the doorbell and the completion happens
    /// in one exit; that the host's hot-plug driver needs no time is how the VMM is built.
    pub(crate) fn costs(&self) -> Costs {
        Costs {
            descriptor: self.descriptor,
            doorbell: self.doorbell,
            poll: self.register_read,
            request: Duration::ZERO,
            atc_invalidate: self.answer,
            completion: Duration::ZERO,
            presence_check: self.presence_check,
            io: PACE,
            io_timeout: IO_TIMEOUT,
            hot_plug: RootComplexConfig::HOT_PLUG,
            ..Costs::default()
        }
    }
}

/// Runs the guest twice on healthy links: under a policy without a precheck, and under one with a
/// presence check.
pub(super) fn calibrate() -> Result<Measured, ValidateError> {
    let plain = measure(&Pair::healthy(PRESETS[0].policy()))?;
    // A guest's flush is an unmap.
    let looks =
        |policy: &iommu::submit::Policy| policy.precheck_on(FlushPath::Unmap) == Precheck::Present;
    let looking = PRESETS.iter().map(Preset::policy).find(looks);
    let looking = measure(&Pair::healthy(looking.unwrap_or_else(|| PRESETS[0].policy())))?;
    let doorbell = plain.get(Metric::Doorbell, "the doorbell")?;
    let answered = plain.get(Metric::AnsweredDoorbell, "an answered doorbell")?;
    let checked = looking.get(Metric::AnsweredDoorbell, "an answered doorbell")?;
    Ok(Measured {
        exit: plain.get(Metric::Exit, "an exit")?,
        register_read: plain.get(Metric::RegisterRead, "a register read")?,
        vendor_id: plain.get(Metric::Presence, "a configuration read")?,
        descriptor: plain.get(Metric::Fill, "descriptors")? / 3,
        doorbell,
        answer: answered.saturating_sub(doorbell),
        presence_check: checked.saturating_sub(answered),
        flush: plain.get(Metric::HealthyMedian, "a healthy flush")?,
    })
}

fn measure(pair: &Pair) -> Result<Arc<Reports>, ValidateError> {
    let reports = Arc::new(Reports::default());
    kvm::boot(pair, reports.clone(), "blame=owner costs=on")?;
    Ok(reports)
}

/// The guest's reports, by metric.
#[derive(Debug, Default)]
struct Reports(Mutex<HashMap<u32, u64>>);

impl Reports {
    fn get(&self, metric: Metric, name: &'static str) -> Result<Duration, ValidateError> {
        let reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = reports.get(&(metric as u32)).ok_or(ValidateError::Unmeasured(name))?;
        Ok(Duration::from_nanos(*value))
    }
}

impl EventSink for Reports {
    fn record(&self, TimedEvent { event, .. }: TimedEvent) {
        if let Event::GuestReport { metric, value } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(metric, value);
        }
    }
}
