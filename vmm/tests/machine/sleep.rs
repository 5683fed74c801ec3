//! Suspend to RAM: a guest sleeps, and goes on in real mode with the memory that it had.

use std::time::Duration;

use devices::topology::Topology;
use vmm::{DebugConsole, Exit, Vm};

use crate::code::{HALT, out8, out16, store};
use crate::guest::{Guest, kvm_wanted};

/// Of 16 bytes, so that it begins at offset 0 of its segment.
const RESUME: u32 = 0x7_0010;
/// At offset 0xf0 of that segment.
const VALUE: u32 = 0x7_0100;
const WAKING_VECTOR: u32 = 0xe_f00c;

/// Sleeps, with an alarm for each second or without one, and reports [`VALUE`] when it is awake.
fn sleeper(alarm: bool) -> Guest {
    let enable = if alarm { 1 << 5 } else { 0 };
    let code = [
        store(RESUME, 0x00f0_a12e),     // mov %cs:0xf0, %ax; mov $0xf4, %dx
        store(RESUME + 4, 0xef00_f4ba), // out %ax, %dx
        store(RESUME + 8, 0xf4),        // hlt
        store(VALUE, 0x1234),
        store(WAKING_VECTOR, RESUME),
        out8(0x70, 1),
        out8(0x71, 0xc0),
        out8(0x70, 3),
        out8(0x71, 0xc0),
        out8(0x70, 5),
        out8(0x71, 0xc0),
        out8(0x70, 0x0b),
        out8(0x71, enable),
        out16(0x60a, 1 << 10),
        out16(0x604, 1 << 13 | 1 << 10),
        HALT.to_vec(),
    ];
    let mut guest = Guest::new(&code.concat());
    let devices = ["pc-testdev".parse().unwrap()];
    guest.config.root_complex.topology = Topology::new(&devices).unwrap();
    // pc-testdev has that port.
    guest.config.debugcon = DebugConsole::Discard;
    guest
}

#[test]
fn a_guest_that_sleeps_goes_on_at_its_waking_vector_with_its_memory() {
    if !kvm_wanted() {
        return;
    }
    let guest = sleeper(true);
    let vm = Vm::new(guest.config.clone()).unwrap();
    let handle = vm.handle();
    assert_eq!(vm.run().unwrap(), Exit::Sleep);
    let suspended = handle.suspended().unwrap();
    assert!(suspended.wake_after().is_some_and(|wake| wake <= Duration::from_secs(1)));
    let vm = Vm::resume(guest.config, suspended).unwrap();
    assert_eq!(vm.run().unwrap(), Exit::DebugExit(0x1234));
}

#[test]
fn nothing_wakes_a_guest_up_that_has_set_no_alarm() {
    if !kvm_wanted() {
        return;
    }
    let vm = Vm::new(sleeper(false).config).unwrap();
    let handle = vm.handle();
    assert_eq!(vm.run().unwrap(), Exit::Sleep);
    assert_eq!(handle.suspended().unwrap().wake_after(), None);
}
