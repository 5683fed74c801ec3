//! Checks the behaviour that the driver depends on against the specification, with a KTAP result
//! for each. Tests of devices and features that the machine lacks are skipped.

mod ats;
mod interrupts;
mod page_requests;
mod pci;
mod queue;
mod registers;
mod remapping;
mod translation;

use crate::device::CopyEngine;
use crate::device::edu::{self, Edu};
use crate::device::endpoint::{self, Endpoint};
use crate::ktap::{Ktap, Verdict};
use crate::machine::{smp, time};
use crate::pci::Bdf;
use crate::pci::enumerate::Functions;
use crate::println;
use crate::vtd::Unit;

/// The unit and the devices of this machine.
struct Machine {
    cpus: usize,
    unit: Unit,
    endpoint: Option<Endpoint>,
    edu: Option<Edu>,
}

type Test = fn(&Machine) -> Verdict;

/// The tests in their order: after the last one the endpoint has no link.
const TESTS: [(&str, Test); 32] = [
    ("ecam_equals_ports", pci::ecam_equals_ports),
    ("bar_sizing", pci::bar_sizing),
    ("register_masks", registers::masks),
    ("register_halves", registers::halves),
    ("command_handshakes", registers::handshakes),
    ("queue_narrow", queue::narrow),
    ("queue_wide", queue::wide),
    ("queue_error", queue::error),
    ("wait_interrupt", queue::wait_interrupt),
    ("wait_fence", queue::wait_fence),
    ("page_4k", translation::small),
    ("page_2m", translation::large),
    ("page_1g", translation::huge),
    ("fault_record", translation::fault_record),
    ("scalable_mode", translation::scalable_mode),
    ("atc_until_invalidated", ats::until_invalidated),
    ("repeating_write", ats::repeating_write),
    ("page_request", page_requests::arrives),
    ("page_group_response", page_requests::is_answered),
    ("page_request_overflow", page_requests::overflow),
    ("page_request_refused", page_requests::refused),
    ("endpoint_msi", interrupts::endpoint_msi),
    ("io_apic_edge", interrupts::io_apic_edge),
    ("remapped_msi", remapping::msi),
    ("remapped_wide_msi", remapping::wide_msi),
    ("remapped_io_apic_edge", remapping::io_apic_edge),
    ("remapped_io_apic_level", remapping::io_apic_level),
    ("compatibility_format", remapping::compatibility_format),
    ("source_mismatch", remapping::source_mismatch),
    ("irte_until_invalidated", remapping::until_invalidated),
    ("smp", interrupts::smp),
    ("silent_drop", ats::silent_drop),
];

/// Runs all tests.
pub fn run() -> ! {
    let cpus = smp::start();
    let functions = Functions::enumerate();
    let mut ktap = Ktap::start(TESTS.len());
    println!("# selftest: {cpus} cpus, TSC {} kHz", time::khz());
    let Some(unit) = Unit::find() else {
        println!("Bail out! no remapping unit with a queue at 0xfed90000");
        ktap.result(TESTS[0].0, Verdict::Fail("no unit"));
        ktap.finish()
    };
    let machine = Machine {
        cpus,
        unit,
        endpoint: functions.with_id(endpoint::ID).find_map(Endpoint::open),
        edu: functions.with_id(edu::ID).find_map(Edu::open),
    };
    for (name, test) in TESTS {
        ktap.result(name, test(&machine));
    }
    ktap.finish()
}

impl Machine {
    /// A device for untranslated DMA.
    fn engine(&self) -> Option<&dyn CopyEngine> {
        match (&self.endpoint, &self.edu) {
            (Some(endpoint), _) => Some(endpoint),
            (None, Some(edu)) => Some(edu),
            (None, None) => None,
        }
    }

    /// Runs a test that needs the ATS endpoint.
    fn with_endpoint(&self, test: impl FnOnce(&Endpoint) -> Result<(), &'static str>) -> Verdict {
        match &self.endpoint {
            Some(endpoint) => test(endpoint).into(),
            None => Verdict::Skip("needs the ATS test endpoint"),
        }
    }

    /// Runs a test that needs any device for DMA.
    fn with_engine(
        &self,
        test: impl FnOnce(&dyn CopyEngine) -> Result<(), &'static str>,
    ) -> Verdict {
        match self.engine() {
            Some(engine) => test(engine).into(),
            None => Verdict::Skip("needs a device that does DMA"),
        }
    }

    /// The requester id of a device, for tests that work with any.
    fn any_device(&self) -> Bdf {
        self.engine().map_or(Bdf::new(0, 1), CopyEngine::bdf)
    }
}
