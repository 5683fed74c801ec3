//! The ports by which a guest ends its run: debug exit, reset and power-off.
//!
//! | port | register | ends the run |
//! |---|---|---|
//! | 0x64 | keyboard controller, of which only the line to the CPUs' reset pin exists | 0xfe resets |
//! | 0xf4 | debug exit, as QEMU's isa-debug-exit | any write, with its value |
//! | 0x600 | sleep control of hardware-reduced ACPI (`ACPI 4.8.3.7`) | SLP_EN with the type of `_S5` |
//! | 0x601 | sleep status | never |
//! | 0x604 | PM1a control | SLP_EN with any sleep type; with that of `_S3` it sleeps, if it can |
//! | 0xcf9 | reset control (ICH9 13.7.5) | RST_CPU resets; with SYS_RST and FULL_RST the power goes off and on |

use super::map::{SLEEP_TYPE_OFF, SLEEP_TYPE_RAM};

/// How the guest has ended its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestExit {
    /// It has written this value to the debug-exit port.
    Debug(u32),
    /// It has switched the machine off.
    PowerOff,
    /// It has reset the machine.
    Reset,
    /// It has suspended the machine to RAM.
    Sleep,
}

/// The value of a write to the debug-exit port.
pub(super) fn debug_exit(data: &[u8]) -> u32 {
    data.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// A write to the keyboard controller's command port.
pub(super) fn keyboard(data: &[u8]) -> Option<GuestExit> {
    const PULSE_RESET: u8 = 0xfe;
    (data == [PULSE_RESET]).then_some(GuestExit::Reset)
}

/// A write to PM1a control.
pub(super) fn pm1a_control(data: &[u8], can_sleep: bool) -> Option<GuestExit> {
    const SLEEP_ENABLE: u16 = 1 << 13;
    let value = u16::from_le_bytes(data.try_into().ok()?);
    let exit = match (value >> 10 & 7) as u8 {
        SLEEP_TYPE_RAM if can_sleep => GuestExit::Sleep,
        _ => GuestExit::PowerOff,
    };
    (value & SLEEP_ENABLE != 0).then_some(exit)
}

/// A write to sleep control, which is at `offset` 0, or to sleep status.
pub(super) fn sleep(offset: u16, data: &[u8]) -> Option<GuestExit> {
    const SLEEP_ENABLE: u8 = 1 << 5;
    let off = offset == 0 && data == [SLEEP_ENABLE | SLEEP_TYPE_OFF << 2];
    off.then_some(GuestExit::PowerOff)
}

/// The reset control register. The bits that choose the kind of reset read back; `RST_CPU` does not,
/// since a reset clears it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ResetControl {
    value: u8,
    cycles_power: bool,
}

impl ResetControl {
    const SYSTEM_RESET: u8 = 1 << 1;
    const RESET_CPU: u8 = 1 << 2;
    const FULL_RESET: u8 = 1 << 3;

    pub(super) fn read(self) -> u8 {
        self.value
    }

    /// Whether the last write was a reset that switches the power off and on.
    pub(super) fn cycles_power(self) -> bool {
        self.cycles_power
    }

    pub(super) fn write(&mut self, value: u8) -> Option<GuestExit> {
        const POWER_CYCLE: u8 =
            ResetControl::SYSTEM_RESET | ResetControl::RESET_CPU | ResetControl::FULL_RESET;
        self.value = value & (Self::SYSTEM_RESET | Self::FULL_RESET);
        self.cycles_power = value & POWER_CYCLE == POWER_CYCLE;
        (value & Self::RESET_CPU != 0).then_some(GuestExit::Reset)
    }
}
