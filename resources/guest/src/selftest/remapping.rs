//! Interrupt remapping: messages that an entry of the table remaps, and messages that the unit
//! blocks.

use crate::device::CopyEngine;
use crate::device::endpoint::{Command, Endpoint, Via};
use crate::ktap::{Verdict, ensure};
use crate::machine::time::Ticks;
use crate::machine::{apic, interrupts, serial};
use crate::pci::Bdf;
use crate::selftest::Machine;
use crate::vtd::bring_up::healthy_limit;
use crate::vtd::faults::Fault;
use crate::vtd::interrupt_table::{Destinations, IO_APIC, InterruptTable, Trigger, message};
use crate::vtd::{Descriptor, Queue, bring_up};

/// The entry of the tests. Its message, if it was not remapped, would go to another processor.
const INDEX: u8 = 0x85;
const COMPATIBILITY_BLOCKED: u8 = 0x25;
const SOURCE_MISMATCH: u8 = 0x26;

/// Runs a test with interrupt remapping on and an empty table, and turns it off again.
fn with_remapping(
    machine: &Machine,
    destinations: Destinations,
    test: impl FnOnce(&Queue, &InterruptTable) -> Result<(), &'static str>,
) -> Verdict {
    if !machine.unit.extended_capability().has_interrupt_remapping() {
        return Verdict::Skip("the unit has no interrupt remapping");
    }
    let check = || {
        let queue = bring_up::queue_alone(machine.unit)?;
        let table = InterruptTable::new(destinations);
        machine.unit.remap_interrupts(&table, &queue)?;
        let result = test(&queue, &table);
        machine.unit.pass_interrupts()?;
        result
    };
    check().into()
}

/// [`with_remapping`], with an MSI of the endpoint that names the entry.
fn with_msi(
    machine: &Machine,
    destinations: Destinations,
    test: impl FnOnce(&Endpoint, &Queue, &InterruptTable) -> Result<(), &'static str>,
) -> Verdict {
    let Some(endpoint) = &machine.endpoint else {
        return Verdict::Skip("needs the ATS test endpoint");
    };
    with_remapping(machine, destinations, |queue, table| {
        ensure(endpoint.enable_msi(message(INDEX)), "the endpoint has no MSI")?;
        test(endpoint, queue, table)
    })
}

/// Has the endpoint send its MSI. Whether it arrives as `vector`.
fn arrives(endpoint: &Endpoint, vector: u8) -> Result<bool, &'static str> {
    let before = interrupts::count(vector);
    let sent = endpoint.run(Command::Interrupt, 0, 1, Via::Untranslated);
    ensure(sent.is_ok(), "the endpoint refuses to send")?;
    Ok(interrupts::wait_for(vector, before, 1, Ticks::from_ms(200)))
}

/// Has the endpoint send its MSI, which the unit must block, and record with `reason`.
fn is_blocked(machine: &Machine, endpoint: &Endpoint, reason: u8) -> Result<Fault, &'static str> {
    let before = interrupts::count(interrupts::ENDPOINT);
    let sent = endpoint.run(Command::Interrupt, 0, 1, Via::Untranslated);
    ensure(sent.is_ok(), "the endpoint refuses to send")?;
    let fault = machine.unit.take_fault().ok_or("no fault record")?;
    ensure(fault.reason == reason, "the record names another reason")?;
    ensure(fault.source == endpoint.bdf().0, "the record names another requester")?;
    let arrived = interrupts::wait_for(interrupts::ENDPOINT, before, 1, Ticks::from_ms(5));
    ensure(!arrived, "it arrived nevertheless")?;
    Ok(fault)
}

/// An MSI arrives with the vector of its entry.
pub(super) fn msi(machine: &Machine) -> Verdict {
    arrives_as_the_entry_says(machine, Destinations::Narrow)
}

/// An MSI arrives with the vector of its entry, also with 32-bit destinations.
pub(super) fn wide_msi(machine: &Machine) -> Verdict {
    if !machine.unit.extended_capability().has_wide_destinations() {
        return Verdict::Skip("the unit has no 32-bit destinations");
    }
    arrives_as_the_entry_says(machine, Destinations::Wide)
}

fn arrives_as_the_entry_says(machine: &Machine, destinations: Destinations) -> Verdict {
    with_msi(machine, destinations, |endpoint, _, table| {
        table.set(INDEX, endpoint.bdf(), interrupts::ENDPOINT, Trigger::Edge);
        ensure(arrives(endpoint, interrupts::ENDPOINT)?, "it did not arrive")
    })
}

/// Raises an interrupt of COM1 by the entry, with `vector` in the I/O APIC's own entry. Whether it
/// arrives. Does not mask the pin.
fn serial_arrives(table: &InterruptTable, vector: u8, trigger: Trigger) -> bool {
    table.set(INDEX, IO_APIC, interrupts::SERIAL, trigger);
    let before = interrupts::count(interrupts::SERIAL);
    apic::route_pin_by_entry(serial::PIN, INDEX, vector, trigger == Trigger::Level);
    serial::interrupt_when_empty(true);
    let arrived = interrupts::wait_for(interrupts::SERIAL, before, 1, Ticks::from_ms(200));
    serial::interrupt_when_empty(false);
    // If the line is still up at the end of a level interrupt, the interrupt comes once more.
    interrupts::wait_for(interrupts::SERIAL, before, u32::MAX, Ticks::from_us(100));
    arrived
}

/// The edge of an I/O APIC pin arrives with the vector of its entry.
pub(super) fn io_apic_edge(machine: &Machine) -> Verdict {
    with_remapping(machine, Destinations::Narrow, |_, table| {
        let arrived = serial_arrives(table, interrupts::SERIAL, Trigger::Edge);
        apic::mask_pin(serial::PIN);
        ensure(arrived, "it did not arrive")
    })
}

/// An EOI ends the delivered vector, and the I/O APIC compares that with its own entry. Software
/// with another vector in that entry ends the interrupt at the I/O APIC, as Linux does.
pub(super) fn io_apic_level(machine: &Machine) -> Verdict {
    const OTHER_VECTOR: u8 = serial::PIN;
    with_remapping(machine, Destinations::Narrow, |queue, table| {
        let same = serial_arrives(table, interrupts::SERIAL, Trigger::Level);
        let same_awaits = apic::pin_awaits_end(serial::PIN);
        apic::mask_pin(serial::PIN);
        let flush = queue.flush(&[Descriptor::interrupt_entry(INDEX)], healthy_limit());
        ensure(flush.is_healthy(), "the flush failed")?;
        let other = serial_arrives(table, OTHER_VECTOR, Trigger::Level);
        let other_awaits = apic::pin_awaits_end(serial::PIN);
        apic::end_at_pins(OTHER_VECTOR);
        let ended = !apic::pin_awaits_end(serial::PIN);
        apic::mask_pin(serial::PIN);
        ensure(same && other, "it did not arrive")?;
        ensure(!same_awaits, "its end did not reach the I/O APIC")?;
        ensure(other_awaits, "the end of another vector ended it")?;
        ensure(ended, "the I/O APIC's register did not end it")
    })
}

/// The unit blocks a message in compatibility format.
pub(super) fn compatibility_format(machine: &Machine) -> Verdict {
    with_msi(machine, Destinations::Narrow, |endpoint, _, _| {
        let direct = apic::message(interrupts::ENDPOINT);
        ensure(endpoint.enable_msi(direct), "the endpoint has no MSI")?;
        is_blocked(machine, endpoint, COMPATIBILITY_BLOCKED).map(drop)
    })
}

/// The unit blocks an interrupt of the endpoint by an entry for another function.
pub(super) fn source_mismatch(machine: &Machine) -> Verdict {
    with_msi(machine, Destinations::Narrow, |endpoint, _, table| {
        let other = Bdf(endpoint.bdf().0 ^ 1);
        table.set(INDEX, other, interrupts::ENDPOINT, Trigger::Edge);
        let fault = is_blocked(machine, endpoint, SOURCE_MISMATCH)?;
        ensure(fault.interrupt_index() == INDEX.into(), "the record names another entry")
    })
}

/// The unit uses a cached entry until software invalidates it.
pub(super) fn until_invalidated(machine: &Machine) -> Verdict {
    with_msi(machine, Destinations::Narrow, |endpoint, queue, table| {
        let flush = |index| {
            queue.flush(&[Descriptor::interrupt_entry(index)], healthy_limit()).is_healthy()
        };
        table.set(INDEX, endpoint.bdf(), interrupts::ENDPOINT, Trigger::Edge);
        ensure(arrives(endpoint, interrupts::ENDPOINT)?, "it did not arrive")?;
        table.set(INDEX, endpoint.bdf(), interrupts::REMAPPED, Trigger::Edge);
        ensure(flush(INDEX + 1), "the flush of another entry failed")?;
        ensure(arrives(endpoint, interrupts::ENDPOINT)?, "the cached entry was not used")?;
        ensure(flush(INDEX), "the flush failed")?;
        ensure(arrives(endpoint, interrupts::REMAPPED)?, "the new entry was not used")
    })
}
