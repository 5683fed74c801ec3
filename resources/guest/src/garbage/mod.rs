//! Random writes to everything that a guest can write to. The test passes if this program reaches
//! its end, since the VMM has survived then.
//!
//! Two values would end the run without an error of the VMM: an address by which DMA overwrites
//! this program, and an interrupt message that resets a processor. So addresses point to a
//! playground or outside RAM, and messages have fixed delivery. All other values are random.

mod playground;
mod random;

use crate::cmdline::Cmdline;
use crate::device::endpoint::{self, Command, Endpoint, register};
use crate::ktap::{Ktap, Verdict};
use crate::pci::enumerate::Functions;
use crate::pci::{Bdf, config};
use crate::println;
use crate::vtd::Unit;
use crate::vtd::registers as reg;

use playground::Playground;
use random::Random;

/// Root ports, endpoints, and a function that does not exist.
const FUNCTIONS: [Bdf; 6] = [
    Bdf::new(0, 0),
    Bdf::new(0, 1),
    Bdf::new(0, 2),
    Bdf::new(1, 0),
    Bdf::new(2, 0),
    Bdf::new(3, 0),
];

struct Garbage {
    random: Random,
    unit: Unit,
    endpoint: Option<Endpoint>,
    playground: Playground,
}

/// Runs the test with the words `seed=N` and `rounds=N`.
pub fn run(cmdline: &Cmdline) -> ! {
    let seed = cmdline.number("seed").unwrap_or(1);
    let rounds = cmdline.number("rounds").unwrap_or(2000);
    let functions = Functions::enumerate();
    let mut ktap = Ktap::start(1);
    println!("# garbage: seed={seed} rounds={rounds}");
    let Some(unit) = Unit::find() else {
        ktap.result("garbage", Verdict::Fail("no remapping unit with a queue at 0xfed90000"));
        ktap.finish()
    };
    let endpoint = functions.with_id(endpoint::ID).find_map(Endpoint::open);
    let playground = Playground::new();
    let mut garbage = Garbage { random: Random::new(seed), unit, endpoint, playground };
    for _ in 0..rounds {
        garbage.round();
    }
    garbage.stop();
    ktap.result("garbage", Verdict::Pass);
    ktap.finish()
}

impl Garbage {
    fn round(&mut self) {
        match self.random.below(16) {
            0..=1 => self.write_unit(),
            2..=4 => self.ring_doorbell(),
            5..=7 => self.write_tables(),
            8 => self.enable_unit(),
            9..=12 => self.command_endpoint(),
            13 => self.write_endpoint(),
            14 => self.write_config(),
            _ => self.read_anything(),
        }
    }

    fn write_unit(&mut self) {
        let registers = self.unit.registers();
        let size = if self.random.one_in(4) { 0x1000 } else { 0x100 };
        let offset = self.random.below(size);
        let value = self.value_for_unit(offset & !7);
        match self.random.below(3) {
            0 => registers.write64(offset & !7, value),
            1 if offset & 4 != 0 => registers.write32(offset & !3, (value >> 32) as u32),
            1 => registers.write32(offset & !3, value as u32),
            // Sizes that the unit does not have.
            _ => registers.write16(offset & !1, value as u16),
        }
    }

    /// A random value; pointers stay in the playground, and messages reset no processor.
    fn value_for_unit(&mut self, offset: u64) -> u64 {
        const PQA: u64 = 0xd0;
        const DELIVERY_MODES: u64 = 0x700 << 32 | 0x700;
        let value = self.random.value();
        match offset {
            reg::RTADDR | reg::IQA | PQA => {
                self.playground.address(&mut self.random) | value & 0xfff
            }
            // A random interrupt entry could request INIT, so the table is at an address that
            // cannot be read.
            reg::IRTA => self.unit.registers().base() | value & 0xfff,
            // Data and address registers of the three events, two to a quadword.
            0x38 | 0x40 | 0xa0 | 0xa8 | 0xe0 | 0xe8 => value & !DELIVERY_MODES,
            _ => value,
        }
    }

    /// Enables the unit as a driver does, with the tables of the playground.
    fn enable_unit(&mut self) {
        let registers = self.unit.registers();
        if self.random.one_in(2) {
            const SCALABLE: u64 = 1 << 10;
            let (wide, mode) =
                if self.random.one_in(4) { (reg::IQA_WIDE, SCALABLE) } else { (0, 0) };
            registers.write32(reg::GCMD, 0);
            registers.write64(reg::IQT, 0);
            registers.write64(reg::IQA, self.playground.ring() | wide);
            registers.write64(reg::RTADDR, self.playground.root() | mode);
        }
        let status = registers.read32(reg::GSTS) & reg::PERSISTENT;
        registers.write32(reg::GCMD, status | reg::ROOT_POINTER | reg::QUEUED_INVALIDATION);
        let status = registers.read32(reg::GSTS) & reg::PERSISTENT;
        registers.write32(reg::GCMD, status | reg::TRANSLATION);
    }

    /// Writes descriptors from the head on, and then the tail, which is valid in seven of eight
    /// cases.
    fn ring_doorbell(&mut self) {
        let registers = self.unit.registers();
        let head = registers.read64(reg::IQH) >> 4;
        let count = self.random.below(8);
        for slot in head..=head + count {
            self.playground.write_descriptor(slot, &mut self.random);
        }
        registers.write32(reg::FSTS, u32::MAX);
        let tail =
            if self.random.one_in(8) { self.random.value() } else { (head + count) << 4 & 0xfff };
        registers.write64(reg::IQT, tail);
    }

    fn write_tables(&mut self) {
        let device = FUNCTIONS[self.random.below(6) as usize];
        for _ in 0..4 {
            self.playground.write_table(device, &mut self.random);
        }
    }

    fn command_endpoint(&mut self) {
        let Some(endpoint) = self.endpoint else { return };
        if self.random.one_in(4) {
            endpoint.enable_ats();
        }
        endpoint.registers().write64(register::IOVA, self.playground.iova(&mut self.random));
        let length =
            if self.random.one_in(8) { self.random.value() } else { self.random.below(2049) };
        endpoint.write(register::LENGTH, length as u32);
        endpoint.write(register::COMMAND, self.random.below(0x40) as u32);
    }

    /// Writes any register in any size, except for the I/O virtual address.
    fn write_endpoint(&mut self) {
        let Some(endpoint) = self.endpoint else { return };
        let registers = endpoint.registers();
        let offset = self.random.below(endpoint::BAR_SIZE);
        if offset & !7 == register::IOVA {
            return;
        }
        let value = self.random.value();
        match self.random.below(4) {
            0 => registers.write8(offset, value as u8),
            1 => registers.write16(offset & !1, value as u16),
            2 => registers.write32(offset & !3, value as u32),
            _ => registers.write64(offset & !7, value),
        }
    }

    /// Writes any register of a function, except for BARs, bridge windows and the MSI capability.
    fn write_config(&mut self) {
        let function = FUNCTIONS[self.random.below(6) as usize];
        let size = if self.random.one_in(2) { 0x100 } else { 0x1000 };
        let offset = self.random.below(size) as u16;
        let msi = config::capability(function, config::CAPABILITY_MSI).unwrap_or(0x1000);
        if (0x10..0x30).contains(&offset) || (msi..msi + 0x18).contains(&offset) {
            return;
        }
        let value = self.random.value();
        match self.random.below(3) {
            0 => config::write8(function, offset, value as u8),
            1 => config::write16(function, offset & !1, value as u16),
            _ => config::write32(function, offset & !3, value as u32),
        }
        if self.random.one_in(2) {
            config::enable(function, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
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
        let function = Bdf(self.random.bits() as u16);
        _ = config::read32(function, (offset & !3) as u16);
    }

    /// Stops the repeating write, and turns the unit off.
    fn stop(&mut self) {
        if let Some(endpoint) = self.endpoint {
            endpoint.write(register::COMMAND, Command::StopRepeating as u32);
        }
        self.unit.registers().write32(reg::FSTS, u32::MAX);
        self.unit.registers().write32(reg::GCMD, 0);
    }
}
