//! The controller as a driver sees it.

mod admin;
mod data;
mod driver;
mod faults;
mod hostile;
mod lifecycle;
mod virtual_functions;

use super::regs;
use crate::pcie::Function;
use crate::pcie::reset::Reset;
use driver::{BAR, Driver, Sqe};

#[test]
fn identifies_itself_and_its_bar_is_64_bits_wide() {
    let mut driver = Driver::bare();
    assert_eq!(u32::from_le_bytes(driver.config(0)), 0x6c6e_1234);
    assert_eq!(u32::from_le_bytes(driver.config(8)) >> 8, 0x01_08_02);
    driver.config_write(0x10, &[0xff; 4]);
    driver.config_write(0x14, &[0xff; 4]);
    assert_eq!(u32::from_le_bytes(driver.config(0x10)), 0xffff_c004);
    assert_eq!(u32::from_le_bytes(driver.config(0x14)), 0xffff_ffff);
    driver.program();
    assert!(driver.nvme.claims(BAR + 0x3ffc, 4) && !driver.nvme.claims(BAR + 0x4000, 4));
    assert_eq!(driver.register(regs::VS), 0x1_0400);
    let mut capabilities = [0; 8];
    driver.read(regs::CAP, &mut capabilities);
    assert_eq!(u64::from_le_bytes(capabilities), 1 << 37 | 1 << 36 | 10 << 24 | 1 << 16 | 1023);
}

#[test]
fn enabling_what_is_not_supported_is_fatal_until_it_is_disabled() {
    for (attributes, configuration) in
        [(0x0007_0000, 0x0046_0001), (0x0007_0007, 0x0046_0081), (0x0007_0007, 0x0046_0011)]
    {
        let mut driver = Driver::bare();
        driver.write(regs::AQA, &u32::to_le_bytes(attributes));
        driver.write(regs::CC, &u32::to_le_bytes(configuration));
        assert_eq!(driver.register(regs::CSTS), 0b10);
        driver.write(regs::CC, &[0; 4]);
        assert_eq!(driver.register(regs::CSTS), 0);
        driver.enable();
    }
}

#[test]
fn a_controller_reset_forgets_queues_and_keeps_the_admin_queues_place() {
    let mut driver = Driver::ready();
    driver.submit(1, Sqe::blocks(2, 0, 1));
    driver.write(regs::CC, &[0; 4]);
    assert_eq!(driver.register(regs::CSTS), 0);
    driver.settle();
    assert!(driver.peek(1).is_none(), "the command is gone");
    assert_eq!(driver.register(regs::ASQ), driver::rings(0).0 as u32);
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(2, 0, 1)).code, 0);
}

#[test]
fn a_shutdown_flushes_and_says_when_it_is_done() {
    let mut driver = Driver::ready();
    driver.upstream.store(driver::DATA, &[0x5a; 512]);
    assert_eq!(driver.run(1, Sqe::blocks(1, 0, 1)).code, 0);
    driver.write(regs::CC, &0x0046_4001_u32.to_le_bytes());
    assert_eq!(driver.register(regs::CSTS), 1 << 2 | 1, "under way");
    driver.settle();
    assert_eq!(driver.register(regs::CSTS), 2 << 2 | 1, "complete");
    driver.submit(1, Sqe::blocks(2, 0, 1));
    driver.settle();
    assert!(driver.take(1).is_none(), "nothing is fetched after that");
    driver.nvme.reset(Reset::Cold, driver.now);
    driver.program();
    driver.enable();
    driver.create_pair(1);
    driver.upstream.store(driver::DATA, &[0; 512]);
    assert_eq!(driver.run(1, Sqe::blocks(2, 0, 1)).code, 0);
    assert_eq!(driver.upstream.load(driver::DATA, 512), [0x5a; 512]);
}

#[test]
fn completions_carry_head_and_phase_and_each_queue_has_its_vector() {
    let mut driver = Driver::ready();
    driver.create_pair(2);
    driver.interrupts();
    for turn in 1..=20_u16 {
        let seen = driver.run(1, Sqe::blocks(2, 0, 1));
        assert_eq!((seen.code, seen.head), (0, turn % driver::SIZE));
        assert_eq!(driver.interrupts(), [0x41]);
    }
    driver.run(2, Sqe::new(0).namespace(1));
    assert_eq!(driver.interrupts(), [0x42]);
}

#[test]
fn a_full_completion_queue_holds_up_its_own_commands_only() {
    let mut driver = Driver::ready();
    driver.create_pair(2);
    for _ in 0..7 {
        driver.submit(1, Sqe::blocks(2, 0, 1));
        driver.settle();
    }
    let eighth = driver.submit(1, Sqe::blocks(2, 0, 1));
    driver.settle();
    assert_eq!(driver.run(2, Sqe::blocks(2, 0, 1)).code, 0);
    for head in 1..=7 {
        assert_eq!(driver.peek(1).map(|seen| seen.head), Some(head));
    }
    assert!(driver.peek(1).is_none(), "there is no room for the eighth");
    driver.ring(1, true, 7);
    driver.settle();
    assert_eq!(driver.take(1).map(|seen| seen.identifier), Some(eighth));
}

#[test]
fn commands_take_their_time_and_an_abort_comes_before_them() {
    let mut driver = Driver::ready();
    let read = driver.submit(1, Sqe::blocks(2, 0, 1));
    driver.nvme.handle_timeout(&mut driver.upstream, driver.now);
    assert!(driver.peek(1).is_none(), "in flight");
    driver.settle();
    assert_eq!(driver.take(1).map(|seen| seen.identifier), Some(read));
    let abort = |command: u16| Sqe::new(8).dword(10, u32::from(command) << 16 | 1);
    assert_eq!(driver.admin(abort(read)).result, 1, "too late");
    let flush = driver.submit(1, Sqe::new(0).namespace(1));
    driver.submit(0, abort(flush));
    driver.settle();
    let (abort, aborted) = (driver.take(0).unwrap(), driver.take(1).unwrap());
    assert_eq!((abort.code, abort.result), (0, 0));
    assert_eq!((aborted.identifier, aborted.code, aborted.do_not_retry), (flush, 7, false));
}

#[test]
fn without_bus_mastering_everything_waits() {
    let mut driver = Driver::ready();
    driver.interrupts();
    driver.config_write(0x04, &0b010_u16.to_le_bytes());
    driver.submit(1, Sqe::blocks(2, 0, 1));
    driver.settle();
    assert!(driver.peek(1).is_none() && driver.interrupts().is_empty());
    driver.config_write(0x04, &0b110_u16.to_le_bytes());
    driver.settle();
    assert!(driver.take(1).is_some());
    assert_eq!(driver.interrupts(), [0x41]);
}
