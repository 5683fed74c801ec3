//! Configuration space.

use crate::bench;
use crate::device::CopyEngine;
use crate::device::endpoint;
use crate::ktap::{Verdict, ensure};
use crate::pci::config::register::BAR0;
use crate::pci::enumerate::bar_size;
use crate::pci::{Bdf, config};
use crate::selftest::Machine;

/// ECAM and the ports have the same registers.
pub(super) fn ecam_equals_ports(machine: &Machine) -> Verdict {
    const REGISTERS: [u16; 6] = [0x00, 0x04, 0x08, 0x0c, 0x10, 0x34];
    if !config::uses_ecam() {
        return if bench::present() {
            Verdict::Fail("no window at 0xb0000000")
        } else {
            Verdict::Skip("no window at 0xb0000000")
        };
    }
    let functions = [Bdf::new(0, 0), Bdf::new(0, 1), Bdf::new(0, 31), machine.any_device()];
    for function in functions {
        for register in REGISTERS {
            let by_window = config::ecam_read32(function, register);
            if by_window != config::ports_read32(function, register) {
                return Verdict::Fail("they differ");
            }
        }
    }
    Verdict::Pass
}

/// A BAR that is written with ones reads as its size, and takes its address again.
pub(super) fn bar_sizing(machine: &Machine) -> Verdict {
    machine.with_endpoint(|endpoint| {
        let size = u64::from(bar_size(endpoint.bdf(), BAR0));
        ensure(size == endpoint::BAR_SIZE, "BAR 0 has another size")?;
        let id = endpoint.read(endpoint::register::ID);
        ensure(id == endpoint::SIGNATURE, "the device does not answer at its BAR afterwards")
    })
}
