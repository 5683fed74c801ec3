//! Functions on bus 0: how they are reached, and the wires that they share.

use iommu::time::Instant;
use vm_memory::GuestAddress;

use super::*;
use crate::pcie::ConfigClient;
use crate::pcie::host_bridge::PCIEXBAR;
use crate::pcie::spec::header::Command;
use crate::topology::{FIRST_INTEGRATED, Topology};
use iommu::unit::UnitConfig;

const BARS: u64 = 0xe000_0000;
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const NOW: Instant = Instant::START;

const EDUS: u8 = 8;

fn config() -> RootComplexConfig {
    let unit = UnitConfig::new(UnitRole::Guest);
    let topology = Topology::simple(2, EDUS);
    RootComplexConfig { topology, ..RootComplexConfig::direct(unit) }
}

/// Eight devices, with their BARs one after the other.
fn complex() -> RootComplex {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
    let mut complex = RootComplex::new(config(), memory, Tracer::none()).unwrap();
    for index in 0..EDUS {
        let id = Bdf::new(0, FIRST_INTEGRATED + index, 0);
        let mut function = ConfigClient::new(&mut complex, id, NOW);
        function.set_bar0(bar(index) as u32);
        function.set_command(Command::MEMORY_AND_MASTER);
    }
    complex
}

fn bar(index: u8) -> u64 {
    BARS + (u64::from(index) << 20)
}

fn write(complex: &mut RootComplex, index: u8, register: u64, value: u32) {
    complex.memory_write(bar(index) + register, &value.to_le_bytes(), NOW);
}

fn lines(complex: &mut RootComplex) -> Vec<(u8, bool)> {
    std::iter::from_fn(|| complex.poll_line()).map(|line| (line.pin, line.level)).collect()
}

#[test]
fn each_device_answers_at_its_own_bar() {
    let mut complex = complex();
    for index in 0..EDUS {
        write(&mut complex, index, 0x04, !u32::from(index));
    }
    for index in 0..EDUS {
        let mut data = [0; 4];
        complex.memory_read(bar(index) + 0x04, &mut data, NOW);
        assert_eq!(u32::from_le_bytes(data), u32::from(index));
    }
}

#[test]
fn devices_four_apart_share_a_wire() {
    let mut complex = complex();
    write(&mut complex, 1, RAISE, 1);
    write(&mut complex, 5, RAISE, 1);
    assert_eq!(lines(&mut complex), [(21, true)]);
    write(&mut complex, 1, ACKNOWLEDGE, 1);
    assert_eq!(lines(&mut complex), []);
    write(&mut complex, 5, ACKNOWLEDGE, 1);
    assert_eq!(lines(&mut complex), [(21, false)]);
}

#[test]
fn software_moves_ecam() {
    let mut complex = complex();
    assert_eq!(complex.ecam(), None);
    complex.config_write(Bdf::new(0, 0, 0), PCIEXBAR, &0xb000_0001_u32.to_le_bytes(), NOW);
    assert_eq!(complex.ecam().map(|window| window.base), Some(0xb000_0000));
}
