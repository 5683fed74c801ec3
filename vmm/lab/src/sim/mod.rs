//! A machine in virtual time: CPUs that submit invalidations and wait, devices that reach memory by
//! their ATCs, links that fail. A time-out of two minutes costs microseconds, and a run replays
//! from its seed, event by event.
//!
//! ```text
//!   RunSpec --run--> heap of (time, number, task) --> RunResult, events
//!                      |
//!     CPU: map, wait for I/O, unmap --(lock)--> HostSide: policy, ring, physical unit
//!                                                  | Invalidate Request     ^ completion
//!                                                  v after request_latency  | after completion_latency
//!                                               Hierarchy: ports, links with faults, endpoints
//!                                                  | DMA, Translation Requests
//!                                                  v
//!                                               the unit's tables in memory --> oracle: is the page
//!                                                                               still this device's?
//! ```
//!
//! Host side, unit, hierarchy, links, endpoints and faults are those that run under KVM
//! ([`iommu::submit::HostSide`], [`devices::pcie::Hierarchy`], [`devices::fault`]). This module
//! adds the time between them, and the software around them. `docs/simulation.md` tells which parts
//! of a machine are modelled.

mod catalog;
#[cfg(test)]
mod check;
mod cpu;
#[cfg(test)]
mod crowd_tests;
mod dma_path;
mod drivers;
mod error;
mod exposure;
mod firmware;
mod gone;
mod healthy;
mod id;
mod interrupts;
mod latencies;
mod machine;
mod memory;
mod oracle;
mod outcome;
mod program;
mod removal;
mod resets;
mod result;
mod scheduler;
mod slot_map;
mod spec;
mod text;
mod traffic;
mod unit_row;

pub use catalog::{Catalog, CatalogError};
pub use error::SimulationError;
pub use gone::Gone;
pub use healthy::Healthy;
pub use id::{ParseRunIdError, RunId};
pub use latencies::Latencies;
pub use result::{Answers, RunResult, Told};
pub use spec::{Costs, FaultRow, Kind, RunSpec, Workload};
pub use unit_row::UnitRow;

use iommu::event::Tracer;
use iommu::time::Instant;

/// Runs `spec` from its start to its horizon. Events go to `tracer`; the result does not depend on
/// whether a sink listens.
///
/// # Errors
/// [`SimulationError::Refused`] for a workload that contradicts unit or fault,
/// [`SimulationError::Devices`] for a fault that is not possible in this machine, and if there is
/// no memory for it.
pub fn run(spec: &RunSpec, tracer: &Tracer) -> Result<RunResult, SimulationError> {
    let tracer = &tracer.until(Instant::START + spec.horizon);
    Ok(machine::Machine::new(spec, tracer)?.run())
}

#[cfg(test)]
mod back_pressure_tests;
#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod port_fence_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod reset_tests;
#[cfg(test)]
mod second_fault_tests;
#[cfg(test)]
mod tests;
