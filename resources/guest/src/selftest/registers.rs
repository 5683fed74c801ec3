//! The unit's registers: writable bits, access sizes, handshakes.

use crate::ktap::{Verdict, ensure};
use crate::selftest::Machine;
use crate::vtd::registers as reg;
use crate::vtd::tables::LegacyTables;
use crate::vtd::{Descriptor, Queue, Width, bring_up};

/// After writes of ones, only the bits are set that the specification has as writable.
pub(super) fn masks(machine: &Machine) -> Verdict {
    let check = || {
        machine.unit.shut_down()?;
        let registers = machine.unit.registers();

        for register in [reg::VER, reg::CAP, reg::ECAP, reg::GSTS, reg::IQH] {
            let before = registers.read32(register);
            registers.write32(register, !before);
            let after = registers.read32(register);
            ensure(after == before, "a read-only register was written")?;
        }
        ensure(registers.read32(reg::GCMD) == 0, "GCMD does not read 0")?;

        registers.write32(reg::FEDATA, u32::MAX);
        let data = registers.read32(reg::FEDATA);
        ensure(data & 0xffff == 0xffff, "FEDATA lacks bits")?;
        registers.write32(reg::FEADDR, u32::MAX);
        let address = registers.read32(reg::FEADDR);
        ensure(address == 0xffff_fffc, "FEADDR is not bits 31:2")?;

        let control = registers.read32(reg::FECTL);
        ensure(control == reg::EVENT_MASKED, "FECTL is not just masked")?;
        registers.write32(reg::FECTL, !reg::EVENT_MASKED);
        ensure(registers.read32(reg::FECTL) == 0, "FECTL.IP can be written")?;
        registers.write32(reg::FECTL, reg::EVENT_MASKED);

        registers.write64(reg::IQA, u64::MAX);
        let queue = registers.read64(reg::IQA);
        ensure(queue & 0x7f8 == 0 && queue & 7 == 7, "IQA is not 63:12, 11, 2:0")?;
        registers.write64(reg::IQA, 0);
        registers.write64(reg::RTADDR, u64::MAX);
        let root = registers.read64(reg::RTADDR);
        // Bit 7 is SSIRWE from revision 5 on.
        ensure(root & 0x37f == 0 && root & 0xc00 == 0xc00, "RTADDR is not 63:12, 11:10")?;
        registers.write64(reg::RTADDR, 0);
        Ok(())
    };
    check().into()
}

/// The halves of a 64-bit register can be accessed alone. (IQA is no example: QEMU reads back what
/// the queue uses.)
pub(super) fn halves(machine: &Machine) -> Verdict {
    const VALUE: u64 = 0x0000_0012_3456_7000;
    let registers = machine.unit.registers();
    registers.write32(reg::RTADDR, VALUE as u32);
    registers.write32(reg::RTADDR + 4, (VALUE >> 32) as u32);
    let whole = registers.read64(reg::RTADDR);
    registers.write64(reg::RTADDR, VALUE + 0x1000);
    let (low, high) = (registers.read32(reg::RTADDR), registers.read32(reg::RTADDR + 4));
    registers.write64(reg::RTADDR, 0);

    let check = || {
        ensure(whole == VALUE, "two dwords do not make a qword")?;
        ensure(low == (VALUE + 0x1000) as u32, "the low dword differs")?;
        ensure(high == (VALUE >> 32) as u32, "the high dword differs")
    };
    check().into()
}

/// Each bit of GSTS follows GCMD, on and off, and turning the queue off resets its head.
pub(super) fn handshakes(machine: &Machine) -> Verdict {
    let unit = machine.unit;
    let registers = unit.registers();
    let check = || {
        unit.shut_down()?;
        unit.set_root(LegacyTables::new().root_register())?;
        let queue = Queue::new(unit, Width::Narrow);
        unit.enable_queue(&queue)?;
        let flush = queue.flush(&[Descriptor::all_contexts()], bring_up::healthy_limit());
        ensure(flush.is_healthy(), "the queue does not run")?;
        ensure(registers.read64(reg::IQH) == 0x20, "IQH is not behind two descriptors")?;
        unit.translate(true)?;
        let status = registers.read32(reg::GSTS);
        let all = reg::TRANSLATION | reg::ROOT_POINTER | reg::QUEUED_INVALIDATION;
        ensure(status == all, "GSTS does not show TES, RTPS and QIES")?;
        unit.translate(false)?;
        unit.command(reg::QUEUED_INVALIDATION, false)?;
        ensure(registers.read64(reg::IQH) == 0, "IQH is not 0 with the queue off")
    };
    check().into()
}
