//! Finds all functions, also behind bridges and switches. Assigns bus numbers, windows and BARs
//! where no firmware has done so, depth first. Each bridge gets as many MiB of the PCI memory
//! window as the functions behind it need.

use crate::machine::mmio::Mmio;
use crate::pci::Bdf;
use crate::pci::config::{self, register};

const MAX_FUNCTIONS: usize = 64;
const DEVICES: u8 = 32;
const BARS: u16 = 6;

const CLASS_BRIDGE: u32 = 0x0604;
const HEADER_MULTIFUNCTION: u8 = 0x80;

const WINDOW_BASE: u32 = 0xc000_0000;
const WINDOW_STEP: u32 = 1 << 20;
/// The subordinate bus number of a bridge while the buses behind it are counted.
const ANY_BUS: u8 = 0xff;

/// A function that is present.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its address.
    pub bdf: Bdf,
    /// Device id in the high half, vendor id in the low.
    pub id: u32,
}

/// The functions that were found.
pub struct Functions {
    found: [Option<Function>; MAX_FUNCTIONS],
    count: usize,
    next_bus: u8,
    next_address: u32,
}

impl Functions {
    /// Visits bus 0, and the buses behind all bridges.
    pub fn enumerate() -> Self {
        config::init();
        let mut functions =
            Self { found: [None; MAX_FUNCTIONS], count: 0, next_bus: 1, next_address: WINDOW_BASE };
        functions.visit_bus(0, DEVICES, false);
        functions
    }

    /// All functions, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = Function> {
        self.found.iter().flatten().copied()
    }

    /// The functions with that id, in the order in which they were found.
    pub fn with_id(&self, id: u32) -> impl Iterator<Item = Bdf> {
        self.iter().filter(move |function| function.id == id).map(|function| function.bdf)
    }

    /// Visits the first `devices` devices of a bus. With `assign` the functions get addresses.
    fn visit_bus(&mut self, bus: u8, devices: u8, assign: bool) {
        for device in 0..devices {
            let first = Bdf::new(bus, device);
            if !self.visit(first, assign) {
                continue;
            }
            if config::read8(first, register::HEADER_TYPE) & HEADER_MULTIFUNCTION != 0 {
                for function in 1..8 {
                    self.visit(Bdf(first.0 + function), assign);
                }
            }
        }
    }

    fn visit(&mut self, bdf: Bdf, assign: bool) -> bool {
        if !config::is_present(bdf) {
            return false;
        }
        if self.count < MAX_FUNCTIONS {
            let id = config::read32(bdf, register::ID);
            self.found[self.count] = Some(Function { bdf, id });
            self.count += 1;
        }
        if is_bridge(bdf) {
            self.visit_bridge(bdf);
        } else if assign {
            self.assign_bars(bdf);
        }
        true
    }

    fn visit_bridge(&mut self, bridge: Bdf) {
        // A link has device 0 and no other.
        let devices = if has_link(bridge) { 1 } else { DEVICES };
        let numbers = config::read32(bridge, register::BUS_NUMBERS);
        let secondary = (numbers >> 8) as u8;
        if secondary != 0 {
            self.visit_bus(secondary, devices, false);
            return;
        }
        let (bus, window) = (self.next_bus, self.next_address.next_multiple_of(WINDOW_STEP));
        (self.next_bus, self.next_address) = (bus + 1, window);
        set_bus_numbers(bridge, bus, ANY_BUS);
        self.visit_bus(bus, devices, true);
        set_bus_numbers(bridge, bus, self.next_bus - 1);
        // An empty slot needs a window, too, for hot-plug.
        self.next_address = self.next_address.max(window + 1).next_multiple_of(WINDOW_STEP);
        open_window(bridge, window, self.next_address - 1);
        report_hot_plug(bridge);
    }

    fn assign_bars(&mut self, function: Bdf) {
        let mut bar = 0;
        while bar < BARS {
            let at = register::BAR0 + 4 * bar;
            let is_64_bit = config::read32(function, at) & 0b111 == 0b100;
            let size = bar_size(function, at);
            if size != 0 {
                let address = self.next_address.next_multiple_of(size);
                config::write32(function, at, address);
                self.next_address = address + size;
            }
            bar += if is_64_bit { 2 } else { 1 };
        }
        config::enable(function, config::COMMAND_MEMORY);
    }
}

/// Whether a function is a bridge to another bus.
pub fn is_bridge(function: Bdf) -> bool {
    config::read32(function, register::CLASS) >> 16 == CLASS_BRIDGE
}

/// Whether a bridge's secondary bus is a link. That of a switch's upstream port is inside the
/// switch.
fn has_link(bridge: Bdf) -> bool {
    const UPSTREAM_PORT: u16 = 5;
    let express = config::capability(bridge, config::CAPABILITY_EXPRESS);
    let flags = express.map_or(0, |express| config::read16(bridge, express + 2));
    flags >> 4 & 0xf != UPSTREAM_PORT
}

fn set_bus_numbers(bridge: Bdf, secondary: u8, subordinate: u8) {
    let numbers =
        u32::from(subordinate) << 16 | u32::from(secondary) << 8 | u32::from(bridge.bus());
    config::write32(bridge, register::BUS_NUMBERS, numbers);
}

/// Sets a bridge's window, and enables requests in both directions.
fn open_window(bridge: Bdf, base: u32, last: u32) {
    // Base and limit, each the upper twelve bits of a 32-bit address; the limit is inclusive.
    config::write32(bridge, register::MEMORY_WINDOW, (last & 0xfff0_0000) | base >> 16);
    config::enable(bridge, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
}

/// Lets a port's slot report that its card or its link is gone. Without hot-plug the bits stay zero.
fn report_hot_plug(bridge: Bdf) {
    const SLOT_CONTROL: u16 = 0x18;
    // Presence, the interrupt, and the state of the data link layer.
    const REPORTS: u16 = 1 << 3 | 1 << 5 | 1 << 12;
    const SLOT_IMPLEMENTED: u16 = 1 << 8;
    let Some(express) = config::capability(bridge, config::CAPABILITY_EXPRESS) else { return };
    if config::read16(bridge, express + 2) & SLOT_IMPLEMENTED != 0 {
        let control = config::read16(bridge, express + SLOT_CONTROL);
        config::write16(bridge, express + SLOT_CONTROL, control | REPORTS);
    }
}

/// The size of the memory BAR at `at`, or 0. As firmware does, this writes ones, and reads which
/// bits stay zero.
pub fn bar_size(function: Bdf, at: u16) -> u32 {
    let old = config::read32(function, at);
    config::write32(function, at, u32::MAX);
    let writable = config::read32(function, at) & !0xf;
    config::write32(function, at, old);
    if old & 1 != 0 { 0 } else { writable.wrapping_neg() }
}

/// The first `size` bytes of BAR 0, if it is a memory BAR with an address.
pub fn bar0(function: Bdf, size: u64) -> Option<Mmio> {
    let bar = config::read32(function, register::BAR0);
    if bar & 1 != 0 {
        return None;
    }
    Mmio::new(u64::from(bar & !0xf), size)
}
