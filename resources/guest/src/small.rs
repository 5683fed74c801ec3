//! Guests of a few instructions, for the tests of the VMM itself.

use crate::machine::{cpu, exit, serial};
use crate::println;

/// Runs the one called `name`.
pub fn run(name: &str) -> ! {
    const UNIT: u64 = 0xfed9_0000;
    const END_OF_TRANSMISSION: u8 = 4;
    match name {
        "idle" => idle(),
        "spin" => spin(),
        "echo" => echo(END_OF_TRANSMISSION),
        "badinsn" => {
            cpu::sse_load_from_device(UNIT);
            println!("# the instruction was executed");
            exit::exit(exit::FAILED)
        }
        "triple" => cpu::triple_fault(),
        "panic" => panic!("as asked"),
        "poweroff" => exit::power_off(),
        "reset" => exit::reset(),
        _ => {
            println!(
                "# test={name}: no such test; known: drop, fault, hierarchy, nvme, selftest, garbage,"
            );
            println!("# idle, spin, echo, badinsn, triple, panic, poweroff, reset; or exit=N");
            exit::exit(exit::USAGE)
        }
    }
}

/// Sleeps; only the outside can end it. The line tells a test that it has come so far.
fn idle() -> ! {
    println!("# idle");
    loop {
        cpu::sleep_until_interrupt();
    }
}

/// Never leaves the processor.
fn spin() -> ! {
    println!("# spinning");
    loop {
        core::hint::spin_loop();
    }
}

/// Sends back what it receives, until `end`.
fn echo(end: u8) -> ! {
    println!("# echo");
    loop {
        match serial::receive() {
            Some(byte) if byte == end => exit::exit(exit::PASSED),
            Some(byte) => serial::send(&[byte]),
            None => core::hint::spin_loop(),
        }
    }
}
