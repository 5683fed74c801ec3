//! Finds all functions of the machine, and checks that the configuration space of each behaves as
//! firmware and drivers expect.

use crate::device::CopyEngine;
use crate::device::endpoint::{self, Endpoint, register};
use crate::ktap::{Ktap, ensure};
use crate::pci::Bdf;
use crate::pci::config::{self, CAPABILITY_EXPRESS, register as header};
use crate::pci::enumerate::{Functions, bar_size, is_bridge};
use crate::println;

/// The BARs of an endpoint. Bridges have none here.
const BARS: [u16; 6] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24];

type Test = fn(&Functions) -> Result<(), &'static str>;

const TESTS: [(&str, Test); 7] = [
    ("capability_lists", capability_lists),
    ("read_only_registers", read_only_registers),
    ("bar_sizing", bar_sizing),
    ("bar_moving", bar_moving),
    ("bridge_windows", bridge_windows),
    ("bus_numbers", bus_numbers),
    ("absent_functions", absent_functions),
];

/// Runs all tests.
pub fn run() -> ! {
    let functions = Functions::enumerate();
    let mut ktap = Ktap::start(TESTS.len());
    for function in functions.iter() {
        print_function(function.bdf, function.id);
    }
    for (name, test) in TESTS {
        ktap.result(name, test(&functions).into());
    }
    ktap.finish()
}

/// Prints address and ids of a function, and the bus numbers of a bridge.
fn print_function(bdf: Bdf, id: u32) {
    let (vendor, device) = (id as u16, id >> 16);
    if is_bridge(bdf) {
        let numbers = config::read32(bdf, header::BUS_NUMBERS);
        let (first, last) = (numbers >> 8 & 0xff, numbers >> 16 & 0xff);
        println!("# {bdf} {vendor:04x}:{device:04x} bridge to buses {first:02x}-{last:02x}");
    } else {
        println!("# {bdf} {vendor:04x}:{device:04x}");
    }
}

/// Both capability lists end, and their members are in their part of configuration space.
fn capability_lists(functions: &Functions) -> Result<(), &'static str> {
    for function in functions.iter() {
        let mut at = u16::from(config::read8(function.bdf, header::CAPABILITIES));
        for _ in 0..48 {
            ensure(at == 0 || (0x40..0x100).contains(&at), "a capability lies outside")?;
            if at == 0 {
                break;
            }
            at = u16::from(config::read8(function.bdf, at + 1));
        }
        ensure(at == 0, "a list of capabilities has no end")?;
        if config::uses_ecam() {
            let mut at = 0x100;
            for _ in 0..64 {
                let next = (config::read32(function.bdf, at) >> 20) as u16;
                ensure(next == 0 || next >= 0x100 && next & 3 == 0, "a next pointer is odd")?;
                at = next;
                if at == 0 {
                    break;
                }
            }
            ensure(at == 0, "a list of extended capabilities has no end")?;
        }
    }
    Ok(())
}

/// Ids, class and capability pointer ignore writes.
fn read_only_registers(functions: &Functions) -> Result<(), &'static str> {
    for function in functions.iter() {
        for at in [header::ID, header::CLASS, header::CAPABILITIES] {
            let before = config::read32(function.bdf, at);
            config::write32(function.bdf, at, !before);
            ensure(config::read32(function.bdf, at) == before, "a read-only register changed")?;
        }
    }
    Ok(())
}

/// A BAR that is written with ones reads as its size, a power of two, and takes its address again.
fn bar_sizing(functions: &Functions) -> Result<(), &'static str> {
    for function in functions.iter().filter(|function| !is_bridge(function.bdf)) {
        for at in BARS {
            let before = config::read32(function.bdf, at);
            let size = bar_size(function.bdf, at);
            ensure(size == 0 || size.is_power_of_two(), "a size is no power of two")?;
            ensure(before & !0xf & size.wrapping_sub(1) == 0, "an address is not aligned")?;
            ensure(config::read32(function.bdf, at) == before, "the address is gone")?;
        }
    }
    Ok(())
}

fn endpoints(functions: &Functions) -> impl Iterator<Item = (Endpoint, u32)> {
    let found = functions.with_id(endpoint::ID).filter_map(Endpoint::open);
    found.map(|endpoint| (endpoint, config::read32(endpoint.bdf(), header::BAR0)))
}

fn answers(endpoint: &Endpoint) -> bool {
    endpoint.read(register::ID) == endpoint::SIGNATURE
}

/// A device answers at the address of its BAR, and only there.
fn bar_moving(functions: &Functions) -> Result<(), &'static str> {
    const ELSEWHERE: u32 = 0x8_0000;
    for (endpoint, bar) in endpoints(functions) {
        config::write32(endpoint.bdf(), header::BAR0, bar ^ ELSEWHERE);
        let moved = Endpoint::open(endpoint.bdf());
        let gone = !answers(&endpoint);
        config::write32(endpoint.bdf(), header::BAR0, bar);
        ensure(moved.is_some(), "it does not answer at the new address of its BAR")?;
        ensure(gone, "it still answers at the old address of its BAR")?;
        ensure(answers(&endpoint), "it does not answer at its first address again")?;
    }
    Ok(())
}

/// The bridge with the secondary bus `bus`.
fn bridge_above(functions: &Functions, bus: u8) -> Option<Bdf> {
    let mut bridges = functions.iter().map(|function| function.bdf).filter(|bdf| is_bridge(*bdf));
    bridges.find(|bdf| (config::read32(*bdf, header::BUS_NUMBERS) >> 8) as u8 == bus)
}

/// A bridge forwards only requests to addresses in its window.
fn bridge_windows(functions: &Functions) -> Result<(), &'static str> {
    const CLOSED: u32 = 0x0000_fff0;
    for (endpoint, _) in endpoints(functions) {
        let bridge = bridge_above(functions, endpoint.bdf().bus()).ok_or("no bridge above")?;
        let window = config::read32(bridge, header::MEMORY_WINDOW);
        config::write32(bridge, header::MEMORY_WINDOW, CLOSED);
        let closed = !answers(&endpoint);
        config::write32(bridge, header::MEMORY_WINDOW, window);
        ensure(closed, "a closed window lets requests through")?;
        ensure(answers(&endpoint), "the window does not open again")?;
    }
    Ok(())
}

/// After its bridge has another secondary bus number, a function answers on that bus, and only
/// there.
fn bus_numbers(functions: &Functions) -> Result<(), &'static str> {
    for (endpoint, _) in endpoints(functions) {
        let bus = endpoint.bdf().bus();
        let bridge = bridge_above(functions, bus).ok_or("no bridge above")?;
        if bridge.bus() != 0 {
            continue; // The bridge above would have to forward the new number.
        }
        const NEW: u8 = 0xee;
        let numbers = config::read32(bridge, header::BUS_NUMBERS);
        config::write32(bridge, header::BUS_NUMBERS, u32::from(NEW) << 16 | u32::from(NEW) << 8);
        let moved = config::read32(Bdf::new(NEW, 0), header::ID) == endpoint::ID;
        let gone = !config::is_present(Bdf::new(bus, 0));
        config::write32(bridge, header::BUS_NUMBERS, numbers);
        ensure(moved, "it does not answer on the new bus")?;
        ensure(gone, "it still answers on the old bus")?;
        ensure(config::is_present(endpoint.bdf()), "it is not back on its bus")?;
    }
    Ok(())
}

/// A link has one device, number 0: no other number answers.
fn absent_functions(functions: &Functions) -> Result<(), &'static str> {
    for (endpoint, _) in endpoints(functions) {
        let has_express = config::capability(endpoint.bdf(), CAPABILITY_EXPRESS).is_some();
        ensure(has_express, "the endpoint has no PCI Express capability")?;
        for device in [1, 2, 31] {
            let absent = Bdf::new(endpoint.bdf().bus(), device);
            ensure(!config::is_present(absent), "a device number other than 0 answers")?;
        }
    }
    Ok(())
}
