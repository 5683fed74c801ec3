//! Ways to end the machine.

use crate::machine::cpu;
use crate::machine::ports::{out8, out16, out32};

/// Exit value: all tests passed. The exit status of the VMM, and of QEMU, is `value << 1 | 1`.
pub const PASSED: u32 = 0;
/// Exit value: a test failed or could not be set up.
pub const FAILED: u32 = 1;
/// Exit value: this program panicked.
pub const PANICKED: u32 = 2;
/// Exit value: the processor raised an exception.
pub const EXCEPTION: u32 = 3;
/// Exit value: the command line names an unknown test or value.
pub const USAGE: u32 = 4;

const DEBUG_EXIT: u16 = 0xf4;
const PM1A_CONTROL: u16 = 0x604;
const SLEEP_ENABLE: u16 = 0x2000;
const RESET_CONTROL: u16 = 0xcf9;
const FULL_RESET: u8 = 0x06;
const KEYBOARD_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// Ends the run with `value`.
pub fn exit(value: u32) -> ! {
    out32(DEBUG_EXIT, value);
    cpu::halt_forever()
}

/// Turns the machine off.
pub fn power_off() -> ! {
    out16(PM1A_CONTROL, SLEEP_ENABLE);
    cpu::halt_forever()
}

/// Resets the machine by the chipset's port, or else by the keyboard controller's.
pub fn reset() -> ! {
    out8(RESET_CONTROL, FULL_RESET);
    out8(KEYBOARD_COMMAND, PULSE_RESET);
    cpu::halt_forever()
}
