//! Random writes to everything that a guest can write to. The one claim is that this program gets to its
//! end: the VMM has survived.
//!
//! Two things would end the run for reasons that are not the VMM's: memory of this program overwritten
//! by DMA, and an interrupt message that resets a processor. So random addresses point into pages set
//! aside for that or to where no RAM is, and messages keep fixed delivery; all else is random.

use crate::cmdline::Cmdline;
use crate::device::CopyEngine;
use crate::device::endpoint::{self, Command, Endpoint};
use crate::ktap::{Ktap, Verdict};
use crate::machine::memory::{PAGE_SIZE, Pages};
use crate::pci::enumerate::Functions;
use crate::pci::{Bdf, config};
use crate::println;
use crate::vtd::Unit;
use crate::vtd::registers as reg;

/// Delivery mode of an interrupt message.
const DELIVERY_MODE: u64 = 0x700;

/// George Marsaglia's xorshift with 64 bits of state.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// All bits random, few bits set, or almost all: each finds other mistakes.
    fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.next() & self.next() & self.next(),
            2 => 1 << self.below(64),
            _ => !(self.next() & self.next() & self.next()),
        }
    }
}

struct Garbage {
    random: Random,
    unit: Unit,
    endpoint: Option<Endpoint>,
    /// The unit and the devices may read and write these.
    playground: Pages,
}

/// `seed=N`, `rounds=N`.
pub fn run(cmdline: &Cmdline) -> ! {
    let seed = cmdline.number("seed").unwrap_or(1).max(1);
    let rounds = cmdline.number("rounds").unwrap_or(2000);
    let functions = Functions::enumerate();
    let mut ktap = Ktap::start(1);
    println!("# garbage: seed={seed} rounds={rounds}");
    let Some(unit) = Unit::find() else {
        ktap.result("garbage", Verdict::Fail("no remapping unit with a queue at 0xfed90000"));
        ktap.finish()
    };
    let endpoint = functions.with_id(endpoint::ID).find_map(Endpoint::open);
    let playground = Pages::new(8);
    let mut garbage = Garbage { random: Random(seed), unit, endpoint, playground };
    for _ in 0..rounds {
        garbage.round();
    }
    garbage.calm_down();
    ktap.result("garbage", Verdict::Pass);
    ktap.finish()
}

impl Garbage {
    fn round(&mut self) {
        match self.random.below(8) {
            0..=2 => self.write_unit(),
            3 => self.write_pages(),
            4 => self.ring_doorbell(),
            5 => self.write_endpoint(),
            6 => self.write_config(),
            _ => self.read_anything(),
        }
    }

    /// Somewhere in the playground, somewhere in no RAM, or in a device.
    fn address(&mut self) -> u64 {
        const NO_RAM: u64 = 1 << 40;
        match self.random.below(4) {
            0 => NO_RAM + (self.random.next() >> 20),
            1 => self.unit.registers().base(),
            _ => self.playground.address() + self.random.below(8) * PAGE_SIZE,
        }
    }

    fn write_unit(&mut self) {
        let registers = self.unit.registers();
        let offset = match self.random.below(3) {
            0 => self.random.below(0x1000),
            _ => self.random.below(0x100),
        };
        let value = self.value_for_unit(offset & !7);
        if self.random.below(2) == 0 {
            registers.write64(offset & !7, value);
        } else {
            let high = offset & 4 != 0;
            let half = if high { value >> 32 } else { value };
            registers.write32(offset & !3, half as u32);
        }
    }

    /// Random, but pointers stay in the playground and messages reset nobody.
    fn value_for_unit(&mut self, offset: u64) -> u64 {
        const PQA: u64 = 0xd0;
        let value = self.random.value();
        match offset {
            reg::RTADDR | reg::IQA | PQA => self.address() | value & 0xfff,
            // A random interrupt entry could ask for INIT: none is readable.
            reg::IRTA => self.unit.registers().base() | value & 0xfff,
            // Data and address registers of the three events, two to a quadword.
            0x38 | 0x40 | 0xa0 | 0xa8 | 0xe0 | 0xe8 => {
                value & !(DELIVERY_MODE << 32 | DELIVERY_MODE)
            }
            _ => value,
        }
    }

    /// Descriptors and table entries: sensible types with random fields, or anything.
    fn write_pages(&mut self) {
        const WORDS: u64 = 8 * 512;
        let first = self.random.below(WORDS / 16) * 16;
        for index in 0..16 {
            let value = match self.random.below(3) {
                0 => self.random.value(),
                1 => self.random.below(12) | self.random.value() & 0xffff_ffff_ffff_ff00,
                _ => self.address() | self.random.below(0x1000),
            };
            // As the second word of a wait descriptor this is where it writes.
            let near = value >> 30 == 0 && Pages::at(value & !0xfff).is_none();
            let value = if near { value | 1 << 41 } else { value };
            self.playground.write((first + index) as usize, value);
        }
    }

    /// A ring that can be fetched from, turned on, and a tail.
    fn ring_doorbell(&mut self) {
        let registers = self.unit.registers();
        if self.random.below(4) == 0 {
            registers.write32(reg::GCMD, self.random.value() as u32);
            registers.write64(reg::IQA, self.playground.address() | self.random.below(4));
            registers.write32(reg::GCMD, reg::QUEUED_INVALIDATION | reg::ROOT_POINTER);
        }
        registers.write32(reg::FSTS, u32::MAX);
        registers.write64(reg::IQT, self.random.below(0x1000) & !0xf);
    }

    fn write_endpoint(&mut self) {
        let Some(endpoint) = self.endpoint else { return };
        let registers = endpoint.registers();
        registers.write64(endpoint::register::IOVA, self.address() | self.random.below(0x1000));
        let offset = self.random.below(endpoint::BAR_SIZE);
        let value = self.random.value();
        match self.random.below(4) {
            0 => registers.write8(offset, value as u8),
            1 => registers.write16(offset & !1, value as u16),
            _ if offset & !7 == endpoint::register::IOVA => {}
            2 => registers.write32(offset & !3, value as u32),
            _ => registers.write64(offset & !7, value),
        }
        endpoint.write(endpoint::register::LENGTH, self.random.value() as u32);
        endpoint.write(endpoint::register::COMMAND, self.random.below(0x40) as u32);
    }

    /// Any register of an existing function. What must not be random: where bridges and BARs are, and
    /// what the MSI says.
    fn write_config(&mut self) {
        const FUNCTIONS: [Bdf; 5] =
            [Bdf::new(0, 0), Bdf::new(0, 1), Bdf::new(0, 2), Bdf::new(1, 0), Bdf::new(2, 0)];
        let function = FUNCTIONS[self.random.below(5) as usize];
        let offset = match self.random.below(2) {
            0 => self.random.below(0x100) as u16,
            _ => self.random.below(0x1000) as u16,
        };
        let msi = config::capability(function, config::CAPABILITY_MSI).unwrap_or(0x100);
        if (0x10..0x30).contains(&offset) || (msi..msi + 0x10).contains(&offset) {
            return;
        }
        let value = self.random.value();
        match self.random.below(3) {
            0 => config::write8(function, offset, value as u8),
            1 => config::write16(function, offset & !1, value as u16),
            _ => config::write32(function, offset & !3, value as u32),
        }
    }

    fn read_anything(&mut self) {
        let registers = self.unit.registers();
        let offset = self.random.below(0x1000);
        match self.random.below(4) {
            0 => _ = registers.read8(offset),
            1 => _ = registers.read16(offset & !1),
            2 => _ = registers.read32(offset & !3),
            _ => _ = registers.read64(offset & !7),
        }
        let function = Bdf(self.random.next() as u16);
        _ = config::read32(function, (offset & !3) as u16);
    }

    /// Nothing goes on by itself any more.
    fn calm_down(&mut self) {
        if let Some(endpoint) = self.endpoint {
            config::enable(endpoint.bdf(), config::COMMAND_MEMORY);
            endpoint.write(endpoint::register::COMMAND, Command::StopRepeating as u32);
        }
        self.unit.registers().write32(reg::FSTS, u32::MAX);
        self.unit.registers().write32(reg::GCMD, 0);
    }
}
