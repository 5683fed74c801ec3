//! The invalidation queue.

use crate::bench;
use crate::ktap::{Verdict, ensure};
use crate::machine::interrupts;
use crate::machine::memory::Pages;
use crate::machine::time::Ticks;
use crate::selftest::Machine;
use crate::vtd::bring_up::healthy_limit;
use crate::vtd::registers as reg;
use crate::vtd::{Descriptor, Outcome, Queue, bring_up};

/// IOVA of the flushed page, which is not mapped.
const IOVA: u64 = 0x5000;
const DOMAIN: u16 = 7;

/// Number of flushes. Each takes three slots, so the ring of 256 wraps.
const FLUSHES: u32 = 90;

/// The queue works with 128-bit descriptors, once around the ring.
pub(super) fn narrow(machine: &Machine) -> Verdict {
    let check = || {
        let queue = bring_up::legacy(machine.unit, &[])?;
        let device_tlb = machine.unit.extended_capability().has_device_tlb();
        let batch = [
            Descriptor::page(DOMAIN, IOVA, machine.unit.capability()),
            Descriptor::device_page(machine.any_device(), IOVA),
        ];
        go_round(&queue, if device_tlb { &batch } else { &batch[..1] })
    };
    check().into()
}

/// The queue works with 256-bit descriptors and a scalable root table.
pub(super) fn wide(machine: &Machine) -> Verdict {
    if !machine.unit.extended_capability().has_scalable_mode() {
        return Verdict::Skip("the unit has no scalable mode");
    }
    let check = || {
        let queue = bring_up::scalable(machine.unit, &[])?;
        let translations = Descriptor::all_translations(machine.unit.capability());
        go_round(&queue, &[Descriptor::all_pasids(), translations])
    };
    check().into()
}

fn go_round(queue: &Queue, batch: &[Descriptor]) -> Result<(), &'static str> {
    for _ in 0..FLUSHES {
        let flush = queue.flush(batch, healthy_limit());
        ensure(flush.is_healthy(), "a flush did not complete at once")?;
    }
    Ok(())
}

/// An invalid descriptor stops the queue, which records the reason. After software has replaced it,
/// the queue continues.
pub(super) fn error(machine: &Machine) -> Verdict {
    const INVALID_TYPE: u8 = 3;
    const NOT_REPORTED: u8 = 0;
    let check = || {
        let queue = bring_up::legacy(machine.unit, &[])?;
        let flush = queue.flush(&[Descriptor::invalid()], healthy_limit());
        ensure(flush.outcome == Outcome::Rejected, "an unknown type was not refused")?;
        // Older QEMU has no such record.
        let reasons =
            if bench::present() { [INVALID_TYPE; 2] } else { [INVALID_TYPE, NOT_REPORTED] };
        ensure(reasons.contains(&flush.queue_error), "IQERCD does not say: invalid type")?;
        let status = machine.unit.registers().read32(reg::FSTS);
        ensure(status & reg::QUEUE_ERROR == 0, "IQE cannot be cleared")?;
        let next = queue.flush(&[Descriptor::all_contexts()], healthy_limit());
        ensure(next.is_healthy(), "the queue does not go on")
    };
    check().into()
}

/// A wait descriptor with the interrupt flag sets IWC and sends the completion event. A second one
/// does so only after software has cleared IWC.
pub(super) fn wait_interrupt(machine: &Machine) -> Verdict {
    let registers = machine.unit.registers();
    let check = || {
        let queue = bring_up::legacy(machine.unit, &[])?;
        machine.unit.enable_wait_event(interrupts::WAIT_DONE);
        let start = interrupts::count(interrupts::WAIT_DONE);
        let arrives = |times| {
            let flush = queue.flush(&[Descriptor::wait_interrupt()], healthy_limit());
            flush.is_healthy()
                && interrupts::wait_for(interrupts::WAIT_DONE, start, times, Ticks::from_ms(200))
        };
        ensure(arrives(1), "no interrupt")?;
        let completed = registers.read32(reg::ICS) & reg::WAIT_COMPLETED != 0;
        ensure(completed, "ICS.IWC is not set")?;
        ensure(!arrives(2), "a second interrupt although IWC is still set")?;
        registers.write32(reg::ICS, reg::WAIT_COMPLETED);
        ensure(registers.read32(reg::ICS) == 0, "ICS.IWC cannot be cleared")?;
        ensure(arrives(2), "no interrupt after IWC was cleared")
    };
    check().into()
}

/// The queue executes the descriptors after a fence in the middle of a batch.
pub(super) fn wait_fence(machine: &Machine) -> Verdict {
    const STATUS: u32 = 0x600d;
    let check = || {
        let queue = bring_up::legacy(machine.unit, &[])?;
        let word = Pages::one();
        let page = Descriptor::page(DOMAIN, IOVA, machine.unit.capability());
        let fence = Descriptor::fence(word.address(), STATUS);
        let flush = queue.flush(&[page, fence, page], healthy_limit());
        ensure(flush.is_healthy(), "a flush with a fence does not complete")?;
        ensure(word.read(0) == STATUS.into(), "the fence's status was not written")?;
        // QEMU refuses a wait that neither writes nor interrupts.
        if bench::present() {
            let flush = queue.flush(&[page, Descriptor::silent_fence(), page], healthy_limit());
            ensure(flush.is_healthy(), "a flush with a silent fence does not complete")?;
        }
        Ok(())
    };
    check().into()
}
