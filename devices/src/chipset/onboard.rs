//! The optional devices of the chipset: HPET and `pc-testdev`, and the interrupts of ISA devices. The
//! debug console is at a port of `pc-testdev`, in machines without it.

use iommu::time::Instant;

use super::map::port;
use super::wires::Source;
use super::{Chipset, Output};
use crate::hpet::{self, Hpet};
use crate::io_apic;
use crate::root_complex::{HPET_ID, Line};

impl Chipset {
    /// Routes ISA interrupts 0 to 15 to the first CPU at the vectors that firmware gives them: 8 to 15
    /// and 0x70 to 0x77. Images in real mode expect that of a PC, which has two 8259 for it;
    /// interrupt 0 is pin 2, and interrupt 2 is none.
    pub fn route_isa_interrupts(&mut self) {
        for interrupt in (0..16_u8).filter(|interrupt| *interrupt != 2) {
            let pin = isa_pin(interrupt);
            let vector = if interrupt < 8 { 8 + interrupt } else { 0x70 - 8 + interrupt };
            for (half, value) in [(1, 0), (0, u32::from(vector))] {
                let select = u32::from(io_apic::REDIRECTION + 2 * pin + half);
                self.io_apic.mmio_write(io_apic::IOREGSEL, &select.to_le_bytes());
                self.io_apic.mmio_write(io_apic::IOWIN, &value.to_le_bytes());
            }
        }
    }

    /// Carries what the HPET has sent to the I/O APIC and to the remapping unit.
    pub(super) fn forward_hpet(&mut self, now: Instant) {
        while let Some(output) = self.hpet.as_mut().and_then(Hpet::poll_output) {
            match output {
                hpet::Output::Line { pin, level } => {
                    self.set_line(Source::Hpet, Line { pin, level });
                }
                hpet::Output::Msi(msi) => {
                    self.root_complex.platform_message(Some(HPET_ID), msi, now);
                }
            }
            self.settle(now);
        }
    }

    /// Each byte sets one line.
    pub(super) fn set_test_lines(&mut self, offset: u16, data: &[u8], now: Instant) {
        if self.pc_testdev.is_none() {
            return;
        }
        for (line, byte) in (offset as u8..).zip(data) {
            // The second 8259 hangs on this one of the first.
            if line == 2 {
                continue;
            }
            self.set_line(Source::TestDevice, Line { pin: isa_pin(line), level: *byte != 0 });
            self.settle(now);
        }
    }
}

/// A read of a port of the debug console. The port reads as its own number, by which software finds
/// it, as it does with QEMU's `isa-debugcon` (`hw/char/debugcon.c` there).
pub(super) fn read_debug_console(port: u16, data: &mut [u8]) {
    match data {
        [byte] if port == port::DEBUG_CONSOLE => *byte = port::DEBUG_CONSOLE as u8,
        _ => data.fill(0xff),
    }
}

/// The byte that a write of `port` sends to the debug console. Wider accesses are none of its.
pub(super) fn debug_console(port: u16, data: &[u8]) -> Option<Output> {
    match data {
        [byte] if port == port::DEBUG_CONSOLE => Some(Output::DebugConsole(*byte)),
        _ => None,
    }
}

/// The I/O APIC pin of an ISA interrupt, and of those above, which are not ISA's.
fn isa_pin(interrupt: u8) -> u8 {
    if interrupt == 0 { 2 } else { interrupt }
}
