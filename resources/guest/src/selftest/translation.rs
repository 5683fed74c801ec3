//! Second-stage translation, checked by DMA.

use crate::device::{CopyEngine, DmaError};
use crate::ktap::{Verdict, ensure};
use crate::machine::interrupts;
use crate::machine::memory::Pages;
use crate::machine::time::Ticks;
use crate::selftest::Machine;
use crate::vtd::registers as reg;
use crate::vtd::tables::{PageSize, READ, SecondStage, WRITE};
use crate::vtd::{Descriptor, Queue, bring_up};

const DOMAIN: u16 = 1;
const VALUE: u64 = 0x7472_616e_736c_6174;
const LENGTH: u32 = 8;

/// Two I/O virtual addresses in different pages of every size below 1 GiB. edu reaches 256 MiB.
const SOURCE: u64 = 64 << 20;
const DESTINATION: u64 = 128 << 20;

/// DMA works with 4-KiB pages.
pub(super) fn small(machine: &Machine) -> Verdict {
    copies_through(machine, PageSize::Small)
}

/// DMA works with 2-MiB pages.
pub(super) fn large(machine: &Machine) -> Verdict {
    if !machine.unit.capability().has_2m_pages() {
        return Verdict::Skip("the unit has no 2-MiB pages");
    }
    copies_through(machine, PageSize::Large)
}

/// DMA works with a 1-GiB page, which contains both buffers of the copy.
pub(super) fn huge(machine: &Machine) -> Verdict {
    if !machine.unit.capability().has_1g_pages() {
        return Verdict::Skip("the unit has no 1-GiB pages");
    }
    machine.with_engine(|engine| {
        // edu reaches only the page at 0.
        let base = if machine.endpoint.is_some() { PageSize::Huge.bytes() } else { 0 };
        let domain = SecondStage::new(machine.unit.table_levels());
        domain.map(base, 0, PageSize::Huge, READ | WRITE);
        let queue = bring_up::legacy(machine.unit, &[(engine.bdf(), &domain, DOMAIN)])?;
        let (from, to) = (Pages::one(), Pages::one());
        from.write(0, VALUE);
        let copied = engine.copy(base + from.address(), base + to.address(), LENGTH);
        finish(&queue, copied)?;
        ensure(to.read(0) == VALUE, "the copy did not arrive")
    })
}

fn copies_through(machine: &Machine, size: PageSize) -> Verdict {
    machine.with_engine(|engine| {
        let domain = SecondStage::new(machine.unit.table_levels());
        let queue = bring_up::legacy(machine.unit, &[(engine.bdf(), &domain, DOMAIN)])?;
        copy_and_compare(engine, &domain, size, &queue)
    })
}

/// Maps two pages of `size` around two buffers and has the device copy from one to the other.
fn copy_and_compare(
    engine: &dyn CopyEngine,
    domain: &SecondStage,
    size: PageSize,
    queue: &Queue,
) -> Result<(), &'static str> {
    let (from, to) = (Pages::one(), Pages::one());
    let offset = |pages: Pages| pages.address() % size.bytes();
    let base = |pages: Pages| pages.address() - offset(pages);
    domain.map(SOURCE, base(from), size, READ);
    domain.map(DESTINATION, base(to), size, READ | WRITE);
    from.write(0, VALUE);
    let copied = engine.copy(SOURCE + offset(from), DESTINATION + offset(to), LENGTH);
    finish(queue, copied)?;
    ensure(to.read(0) == VALUE, "the copy did not arrive")
}

fn finish(queue: &Queue, copied: Result<(), DmaError>) -> Result<(), &'static str> {
    ensure(copied.is_ok(), "the device reports an error")?;
    let flush = queue.flush(&[Descriptor::all_contexts()], bring_up::healthy_limit());
    ensure(flush.is_healthy(), "the queue does not run beside DMA")
}

/// The unit refuses DMA to a page that is not mapped, records it, and sends the fault event.
pub(super) fn fault_record(machine: &Machine) -> Verdict {
    const NO_READ_PERMISSION: u8 = 6;
    machine.with_engine(|engine| {
        let domain = SecondStage::new(machine.unit.table_levels());
        let page = Pages::one();
        domain.map(DESTINATION, page.address(), PageSize::Small, READ | WRITE);
        domain.map(SOURCE, page.address(), PageSize::Small, READ | WRITE);
        domain.unmap(SOURCE, PageSize::Small);
        bring_up::legacy(machine.unit, &[(engine.bdf(), &domain, DOMAIN)])?;
        machine.unit.enable_fault_event(interrupts::FAULT);
        let before = interrupts::count(interrupts::FAULT);

        let copied = engine.copy(SOURCE + 0x18, DESTINATION, LENGTH);
        if machine.endpoint.is_some() {
            let refused = copied == Err(DmaError::UnsupportedRequest);
            ensure(refused, "the device did not get Unsupported Request")?;
        }
        let event = interrupts::wait_for(interrupts::FAULT, before, 1, Ticks::from_ms(200));
        ensure(event, "no fault event")?;
        let fault = machine.unit.take_fault().ok_or("no fault record")?;
        ensure(fault.source == engine.bdf().0, "the record names another requester")?;
        ensure(fault.reason == NO_READ_PERMISSION, "the record names another reason")?;
        ensure(fault.address == SOURCE, "the record names another page")?;
        let status = machine.unit.registers().read32(reg::FSTS);
        ensure(status & reg::FAULT_PENDING == 0, "FSTS.PPF stays set")
    })
}

/// DMA works with root, context and PASID tables of scalable mode.
pub(super) fn scalable_mode(machine: &Machine) -> Verdict {
    if !machine.unit.extended_capability().has_scalable_second_stage() {
        return Verdict::Skip("the unit has no scalable mode with second stage");
    }
    machine.with_engine(|engine| {
        let domain = SecondStage::new(machine.unit.table_levels());
        let queue = bring_up::scalable(machine.unit, &[(engine.bdf(), &domain, DOMAIN)])?;
        copy_and_compare(engine, &domain, PageSize::Small, &queue)
    })
}
