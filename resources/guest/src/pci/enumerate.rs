//! Finding the functions. Where no firmware has done so, bus numbers, windows and BARs are assigned on
//! the way: one bus and one MiB of the PCI memory window for each root port.

use crate::machine::mmio::Mmio;
use crate::pci::Bdf;
use crate::pci::config::{self, register};

const MAX_FUNCTIONS: usize = 24;
const DEVICES: u8 = 32;

const CLASS_BRIDGE: u32 = 0x0604;
const HEADER_MULTIFUNCTION: u8 = 0x80;

const WINDOW_BASE: u32 = 0xc000_0000;
const WINDOW_SIZE: u32 = 1 << 20;

/// A function that answered.
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
}

impl Functions {
    /// Looks at bus 0 and, behind each bridge on it, at device 0: there is no other behind a root port.
    pub fn enumerate() -> Self {
        config::init();
        let mut functions = Self { found: [None; MAX_FUNCTIONS], count: 0, next_bus: 1 };
        for device in 0..DEVICES {
            functions.visit_device(Bdf::new(0, device));
        }
        functions
    }

    /// All with that id, in the order of their addresses.
    pub fn with_id(&self, id: u32) -> impl Iterator<Item = Bdf> {
        self.found.iter().flatten().filter(move |function| function.id == id).map(|it| it.bdf)
    }

    fn visit_device(&mut self, device: Bdf) {
        if !self.visit(device) {
            return;
        }
        if config::read8(device, register::HEADER_TYPE) & HEADER_MULTIFUNCTION != 0 {
            for function in 1..8 {
                self.visit(Bdf(device.0 + function));
            }
        }
    }

    fn visit(&mut self, bdf: Bdf) -> bool {
        if !config::is_present(bdf) {
            return false;
        }
        if self.count < MAX_FUNCTIONS {
            let id = config::read32(bdf, register::ID);
            self.found[self.count] = Some(Function { bdf, id });
            self.count += 1;
        }
        let class = config::read32(bdf, register::CLASS) >> 16;
        if class == CLASS_BRIDGE && bdf.bus() == 0 {
            self.visit_bridge(bdf);
        }
        true
    }

    fn visit_bridge(&mut self, bridge: Bdf) {
        let numbers = config::read32(bridge, register::BUS_NUMBERS);
        let secondary = (numbers >> 8) as u8;
        if secondary != 0 {
            self.visit(Bdf::new(secondary, 0));
            return;
        }
        let bus = self.next_bus;
        self.next_bus += 1;
        let window = WINDOW_BASE + u32::from(bus - 1) * WINDOW_SIZE;
        open_bridge(bridge, bus, window);
        let endpoint = Bdf::new(bus, 0);
        if self.visit(endpoint) {
            config::write32(endpoint, register::BAR0, window);
            config::enable(endpoint, config::COMMAND_MEMORY);
        }
    }
}

/// Gives a bridge its bus numbers and its window, and lets requests pass both ways.
fn open_bridge(bridge: Bdf, bus: u8, window: u32) {
    let bus = u32::from(bus);
    config::write32(bridge, register::BUS_NUMBERS, bus << 16 | bus << 8);
    // Base and limit, each the upper twelve bits of a 32-bit address; the limit is inclusive.
    let limit = window + WINDOW_SIZE - 1;
    config::write32(bridge, register::MEMORY_WINDOW, (limit & 0xfff0_0000) | window >> 16);
    config::enable(bridge, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
}

/// The size of BAR 0, found as firmware does it: write ones, see which bits stay zero.
pub fn bar0_size(function: Bdf) -> u32 {
    let old = config::read32(function, register::BAR0);
    config::write32(function, register::BAR0, u32::MAX);
    let writable = config::read32(function, register::BAR0) & !0xf;
    config::write32(function, register::BAR0, old);
    writable.wrapping_neg()
}

/// The first `size` bytes of BAR 0, if it is a memory BAR with an address.
pub fn bar0(function: Bdf, size: u64) -> Option<Mmio> {
    let bar = config::read32(function, register::BAR0);
    if bar & 1 != 0 {
        return None;
    }
    Mmio::new(u64::from(bar & !0xf), size)
}
