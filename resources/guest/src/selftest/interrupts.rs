//! Interrupts, and the other processors.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::bench;
use crate::device::endpoint::{Command, Via};
use crate::ktap::{Verdict, ensure};
use crate::machine::time::Ticks;
use crate::machine::{apic, interrupts, serial, smp as processors};
use crate::selftest::Machine;

/// The endpoint's MSI arrives as the vector that was programmed.
pub(super) fn endpoint_msi(machine: &Machine) -> Verdict {
    machine.with_endpoint(|endpoint| {
        let message = apic::message(interrupts::ENDPOINT);
        ensure(endpoint.enable_msi(message), "the endpoint has no MSI")?;
        let before = interrupts::count(interrupts::ENDPOINT);
        let sent = endpoint.run(Command::Interrupt, 0, 1, Via::Untranslated);
        ensure(sent.is_ok(), "the endpoint refuses to send")?;
        let arrived = interrupts::wait_for(interrupts::ENDPOINT, before, 1, Ticks::from_ms(200));
        ensure(arrived, "it did not arrive")
    })
}

/// An edge on an I/O APIC pin arrives. The pin is that of COM1, and its transmitter is empty.
pub(super) fn io_apic_edge(_machine: &Machine) -> Verdict {
    let before = interrupts::count(interrupts::SERIAL);
    apic::route_pin(serial::PIN, interrupts::SERIAL);
    serial::interrupt_when_empty(true);
    let arrived = interrupts::wait_for(interrupts::SERIAL, before, 1, Ticks::from_ms(200));
    serial::interrupt_when_empty(false);
    apic::mask_pin(serial::PIN);
    ensure(arrived, "it did not arrive").into()
}

/// All processors have started, and one of them does work.
pub(super) fn smp(machine: &Machine) -> Verdict {
    if machine.cpus < 2 {
        return Verdict::Skip("needs two CPUs");
    }
    let done = AtomicU32::new(0);
    for _ in 0..3 {
        processors::beside(&[&|| _ = done.fetch_add(1, Ordering::Relaxed)], || ());
    }
    let check = || {
        let expected = bench::cpus().map_or(machine.cpus, |cpus| cpus as usize);
        ensure(machine.cpus == expected, "some CPUs did not start")?;
        ensure(done.load(Ordering::Relaxed) == 3, "CPU 1 did not do its work")
    };
    check().into()
}
