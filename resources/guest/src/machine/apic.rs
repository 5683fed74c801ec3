//! Local APIC and I/O APIC.

use crate::machine::mmio::Mmio;
use crate::machine::ports::out8;
use crate::machine::time::{Ticks, delay};

const LOCAL_BASE: u64 = 0xfee0_0000;
const LOCAL_ID: u64 = 0x20;
const LOCAL_EOI: u64 = 0xb0;
const LOCAL_SPURIOUS: u64 = 0xf0;
const LOCAL_COMMAND_LOW: u64 = 0x300;
const LOCAL_COMMAND_HIGH: u64 = 0x310;

const ENABLE: u32 = 1 << 8;
/// Its low four bits are ones, as old processors require.
const SPURIOUS_VECTOR: u32 = 0x3f;

const ALL_BUT_SELF: u32 = 0b11 << 18;
const ASSERT: u32 = 1 << 14;
const INIT: u32 = 0b101 << 8;
const STARTUP: u32 = 0b110 << 8;

const IO_BASE: u64 = 0xfec0_0000;
const IO_SELECT: u64 = 0x00;
const IO_WINDOW: u64 = 0x10;
const IO_END: u64 = 0x40;
const IO_REDIRECTION: u32 = 0x10;
const IO_MASKED: u32 = 1 << 16;

fn local() -> Mmio {
    Mmio::new(LOCAL_BASE, 0x1000).expect("the local APIC lies in the hole")
}

/// Enables this processor's local APIC, and masks both 8259s.
pub fn init() {
    const PIC_MASKS: [u16; 2] = [0x21, 0xa1];
    for port in PIC_MASKS {
        out8(port, 0xff);
    }
    local().write32(LOCAL_SPURIOUS, ENABLE | SPURIOUS_VECTOR);
}

/// This processor's APIC id.
pub fn id() -> u8 {
    (local().read32(LOCAL_ID) >> 24) as u8
}

/// Ends the current interrupt at the local APIC.
pub fn end_of_interrupt() {
    local().write32(LOCAL_EOI, 0);
}

/// Sends `vector` to the processor with that APIC id.
pub fn send(apic_id: u8, vector: u8) {
    let local = local();
    local.write32(LOCAL_COMMAND_HIGH, u32::from(apic_id) << 24);
    local.write32(LOCAL_COMMAND_LOW, ASSERT | u32::from(vector));
}

/// Starts all other processors in real mode at `page`: INIT, then two start-up IPIs with the delays
/// that the multiprocessor specification asks for.
pub fn start_others(page: u8) {
    let local = local();
    local.write32(LOCAL_COMMAND_LOW, ALL_BUT_SELF | ASSERT | INIT);
    delay(Ticks::from_ms(10));
    for _ in 0..2 {
        local.write32(LOCAL_COMMAND_LOW, ALL_BUT_SELF | ASSERT | STARTUP | u32::from(page));
        delay(Ticks::from_us(200));
    }
}

/// An MSI to this processor: (address, data) for `vector`, fixed delivery, edge.
pub fn message(vector: u8) -> (u32, u32) {
    const MESSAGE_BASE: u32 = 0xfee0_0000;
    (MESSAGE_BASE | u32::from(id()) << 12, u32::from(vector))
}

fn io() -> Mmio {
    Mmio::new(IO_BASE, 0x44).expect("the I/O APIC lies in the hole")
}

fn io_write(register: u32, value: u32) {
    let io = io();
    io.write32(IO_SELECT, register);
    io.write32(IO_WINDOW, value);
}

/// Sends the edges of an I/O APIC pin to this processor as `vector`.
pub fn route_pin(pin: u8, vector: u8) {
    let register = IO_REDIRECTION + 2 * u32::from(pin);
    io_write(register + 1, u32::from(id()) << 24);
    io_write(register, u32::from(vector));
}

/// Sends the interrupts of an I/O APIC pin in remappable format, by entry `index` of the remapping
/// unit's table. The I/O APIC compares the end of a level interrupt with `vector`.
pub fn route_pin_by_entry(pin: u8, index: u8, vector: u8, level: bool) {
    const LEVEL: u32 = 1 << 15;
    const REMAPPABLE: u32 = 1 << 16;
    const INDEX_SHIFT: u32 = 17;
    let register = IO_REDIRECTION + 2 * u32::from(pin);
    io_write(register + 1, u32::from(index) << INDEX_SHIFT | REMAPPABLE);
    io_write(register, u32::from(vector) | if level { LEVEL } else { 0 });
}

/// Whether a level interrupt of a pin has been sent and not ended (remote IRR).
pub fn pin_awaits_end(pin: u8) -> bool {
    const REMOTE_IRR: u32 = 1 << 14;
    let io = io();
    io.write32(IO_SELECT, IO_REDIRECTION + 2 * u32::from(pin));
    io.read32(IO_WINDOW) & REMOTE_IRR != 0
}

/// Ends level interrupts with `vector` in their entry, by the I/O APIC's own EOI register.
pub fn end_at_pins(vector: u8) {
    io().write32(IO_END, vector.into());
}

/// Masks a pin.
pub fn mask_pin(pin: u8) {
    io_write(IO_REDIRECTION + 2 * u32::from(pin), IO_MASKED);
}
