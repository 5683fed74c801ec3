//! The test guest of ghostlink: a small driver for a VT-d remapping unit and a device with an ATC,
//! on the bare machine. It uses the unit as Linux's driver does, and measures how long a flush
//! takes when the device stops answering.
//!
//! ```text
//!   drop, fault, hierarchy, selftest, ...   the tests: `test=NAME` on the command line
//!        |           |
//!      vtd        device                drivers: remapping unit; ATS endpoint (or QEMU's edu)
//!        |           |
//!        |          pci                 configuration space, enumeration
//!        +-----+-----+
//!           machine                     CPU, APICs, ports, memory, serial line, time
//!           boot                        entry, page tables
//! ```
//!
//! Where KVM has no hardware support, its instruction emulator executes this program, at about 1.4
//! million instructions a second. So the program has no SSE instructions, none that the emulator
//! lacks, and no byte loops over pages.

#![no_std]
#![no_main]

mod bench;
mod boot;
mod cmdline;
mod device;
mod drop;
mod fault;
mod garbage;
mod hierarchy;
mod ktap;
mod machine;
mod nvme;
mod pci;
mod selftest;
mod small;
mod vtd;

use core::panic::PanicInfo;

use cmdline::Cmdline;
use machine::{apic, exit, interrupts, serial, time};

/// The entry of the boot processor, called by `entry.s`.
#[unsafe(no_mangle)]
extern "C" fn kmain(protocol: u64, info: u64) -> ! {
    let cmdline = Cmdline::new(boot::command_line(protocol, info));
    serial::init();
    interrupts::init();
    apic::init();
    time::init();
    if let Some(value) = cmdline.number("exit") {
        exit::exit(value as u32);
    }
    match cmdline.get("test").unwrap_or("drop") {
        "drop" => drop::run(&cmdline),
        "selftest" => selftest::run(),
        "hierarchy" => hierarchy::run(),
        "nvme" => nvme::run(&cmdline),
        "fault" => fault::run(&cmdline),
        "garbage" => garbage::run(&cmdline),
        name => small::run(name),
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("# panic: {}", info.message());
    if let Some(location) = info.location() {
        println!("# at {}:{}", location.file(), location.line());
    }
    exit::exit(exit::PANICKED)
}
