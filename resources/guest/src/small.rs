//! Tests of a few instructions, for the VMM's own tests.

use crate::machine::{cpu, exit, serial};
use crate::println;

/// Runs the test `name`.
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

/// Sleeps until the VMM ends the run. A test waits for the line.
fn idle() -> ! {
    println!("# idle");
    loop {
        cpu::sleep_until_interrupt();
    }
}

/// Loops without an exit to the VMM.
fn spin() -> ! {
    println!("# spinning");
    loop {
        core::hint::spin_loop();
    }
}

/// Sends each received byte back, until `end`.
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
