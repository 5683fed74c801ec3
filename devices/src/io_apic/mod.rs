//! An I/O APIC with 24 pins in user space, version 0x20 (82093AA with an EOI register).
//!
//! ```text
//!   set_level(pin) -->  redirection entry  -->  Msi to 0xfeexxxxx  -->  interrupt remapping, local APIC
//!                       remote IRR        <--  eoi(vector)
//! ```
//!
//! An entry's bits become the message's bits without being understood, as in hardware: entry bits
//! 63:48 are address bits 19:4, bit 11 is address bit 2. Thus an entry in remappable format
//! (`VT-d 5.1.5.1`) gives a message in remappable format, and one in compatibility format gives one
//! in compatibility format.

use bitfield_struct::bitfield;
use iommu::ats::Msi;

/// Pins, and redirection entries.
pub const PINS: u8 = 24;

/// Register select.
pub const IOREGSEL: u64 = 0x00;
/// Window to the selected register.
pub const IOWIN: u64 = 0x10;
/// EOI: the vector that is written is finished.
pub const EOI: u64 = 0x40;

/// Indirect register: the id, in bits 27:24.
pub const ID: u8 = 0x00;
/// Indirect register: version, and the highest pin in bits 23:16.
pub const VERSION: u8 = 0x01;
/// Indirect register: arbitration id; the same as the id.
pub const ARBITRATION: u8 = 0x02;
/// Indirect register: low half of entry 0; the high half follows, then entry 1.
pub const REDIRECTION: u8 = 0x10;

const VERSION_VALUE: u32 = 0x20 | (PINS as u32 - 1) << 16;
const ID_WRITABLE: u32 = 0x0f00_0000;

/// A redirection table entry (82093AA 3.2.4, `VT-d 5.1.5.1`).
#[bitfield(u64)]
struct Entry {
    vector: u8,
    #[bits(3)]
    delivery_mode: u8,
    /// Destination mode; in remappable format bit 15 of the handle.
    destination_mode: bool,
    delivery_status: bool,
    active_low: bool,
    /// A level interrupt has been sent and not been finished.
    remote_irr: bool,
    level: bool,
    masked: bool,
    #[bits(31)]
    __: u32,
    /// Destination; in remappable format bit 48 set, and bits 14:0 of the handle.
    destination: u16,
}

/// The bits that software can write: all 16 of the destination, so that both formats survive.
const ENTRY_WRITABLE: Entry = Entry::new()
    .with_vector(0xff)
    .with_delivery_mode(7)
    .with_destination_mode(true)
    .with_active_low(true)
    .with_level(true)
    .with_masked(true)
    .with_destination(0xffff);

impl Entry {
    fn message(self) -> Msi {
        let data = u32::from(self.vector())
            | u32::from(self.delivery_mode()) << 8
            | 1 << 14 // assert
            | u32::from(self.level()) << 15;
        let address = 0xfee0_0000
            | u64::from(self.destination()) << 4
            | u64::from(self.destination_mode()) << 2;
        Msi { address, data }
    }
}

/// One pin: its entry, its line, and whether a message waits to be polled.
#[derive(Debug, Clone, Copy)]
struct Pin {
    entry: Entry,
    line: bool,
    pending: bool,
}

impl Pin {
    const RESET: Self = Self { entry: Entry::new().with_masked(true), line: false, pending: false };

    fn set_line(&mut self, line: bool) {
        let rises = line && !self.line;
        self.line = line;
        if self.entry.level() {
            self.evaluate_level();
        } else if rises && !self.entry.masked() {
            // An edge that meets a masked entry is lost (82093AA 3.2.4, bit 16).
            self.pending = true;
        }
    }

    /// Sends a level interrupt if its line is asserted and the last one is finished.
    fn evaluate_level(&mut self) {
        let entry = self.entry;
        if entry.level() && self.line && !entry.masked() && !entry.remote_irr() {
            self.entry.set_remote_irr(true);
            self.pending = true;
        }
    }

    fn write(&mut self, bits: u64, lanes: u64) {
        let mask = ENTRY_WRITABLE.into_bits() & lanes;
        self.entry = Entry::from_bits(self.entry.into_bits() & !mask | bits & mask);
        // Remote IRR is undefined for edges; drivers clear a stuck one by going through edge mode.
        self.entry.set_remote_irr(self.entry.remote_irr() && self.entry.level());
        self.evaluate_level();
    }

    fn finish(&mut self) {
        self.entry.set_remote_irr(false);
        self.evaluate_level();
    }
}

/// The I/O APIC.
#[derive(Debug, Clone)]
pub struct IoApic {
    select: u8,
    id: u32,
    pins: [Pin; PINS as usize],
    /// Whether a pin may have a message: most accesses to the machine poll without one.
    may_send: bool,
}

impl Default for IoApic {
    fn default() -> Self {
        Self { select: 0, id: 0, pins: [Pin::RESET; PINS as usize], may_send: false }
    }
}

impl IoApic {
    /// An I/O APIC after reset: all entries masked.
    pub fn new() -> Self {
        Self::default()
    }

    /// The guest reads at `offset` in the I/O APIC's page. Registers are four bytes wide; other
    /// sizes and offsets read as all ones.
    pub fn mmio_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let Ok(data) = <&mut [u8; 4]>::try_from(data) else {
            return;
        };
        let value = match offset {
            IOREGSEL => self.select.into(),
            IOWIN => self.read_selected(),
            _ => return,
        };
        *data = value.to_le_bytes();
    }

    /// The guest writes at `offset` in the I/O APIC's page. Other sizes than four bytes, and other
    /// offsets, are ignored.
    pub fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        let Ok(data) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let [low, ..] = data;
        match offset {
            IOREGSEL => self.select = low,
            IOWIN => self.write_selected(u32::from_le_bytes(data)),
            EOI => self.eoi(low),
            _ => {}
        }
    }

    /// A device asserts or releases the line at `pin`. There are no pins from [`PINS`] up.
    pub fn set_level(&mut self, pin: u8, level: bool) {
        if let Some(pin) = self.pins.get_mut(usize::from(pin)) {
            pin.set_line(level);
            self.may_send = true;
        }
    }

    /// A local APIC has finished `vector`: level-triggered entries with that vector may fire again,
    /// and do so at once if their line is still asserted.
    pub fn eoi(&mut self, vector: u8) {
        for pin in &mut self.pins {
            if pin.entry.remote_irr() && pin.entry.vector() == vector {
                pin.finish();
                self.may_send = true;
            }
        }
    }

    /// The next interrupt to send, with its pin; `None` when there are no more. Drain after every
    /// other call. Data bit 15 tells the level-triggered ones, which need [`Self::eoi`].
    pub fn poll_message(&mut self) -> Option<(u8, Msi)> {
        if !self.may_send {
            return None;
        }
        let Some((number, pin)) = (0..PINS).zip(&mut self.pins).find(|(_, pin)| pin.pending) else {
            self.may_send = false;
            return None;
        };
        pin.pending = false;
        Some((number, pin.entry.message()))
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            select => match split(select) {
                // The half is cut out on purpose.
                Some((pin, shift)) => (self.pins[pin].entry.into_bits() >> shift) as u32,
                None => 0,
            },
        }
    }

    fn write_selected(&mut self, value: u32) {
        match self.select {
            ID => self.id = value & ID_WRITABLE,
            select => {
                if let Some((pin, shift)) = split(select) {
                    self.pins[pin].write(u64::from(value) << shift, 0xffff_ffff << shift);
                    self.may_send = true;
                }
            }
        }
    }
}

/// The pin and the shift of its half that an indirect register stands for.
fn split(select: u8) -> Option<(usize, u32)> {
    let index = select.checked_sub(REDIRECTION)?;
    (index / 2 < PINS).then(|| (usize::from(index / 2), 32 * u32::from(index % 2)))
}

#[cfg(test)]
mod tests;
