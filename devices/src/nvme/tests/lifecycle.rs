//! NVM Subsystem Reset, a controller that hangs, requests that are not answered, no ATS.

use std::time::Duration;

use iommu::ats::RequestError;

use super::driver::{BLOCKS, DATA, Driver, Sqe};
use crate::nvme::storage::MemoryStorage;
use crate::nvme::{NvmeFeatures, regs};
use crate::pcie::Function;
use crate::pcie::reset::Reset;
use crate::pcie::spec::express::{self, DEVICE_CONTROL_2, DeviceControl2};
use crate::pcie::spec::{aer, ats, header};

const WRITE: u8 = 1;
const READ: u8 = 2;
/// CSTS.RDY, CFS, NSSRO.
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;
const SUBSYSTEM_RESET: u32 = 1 << 4;
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(50);

fn with(features: NvmeFeatures) -> Driver {
    let mut driver = Driver::with_features(vec![Box::new(MemoryStorage::new(BLOCKS))], features);
    driver.enable();
    driver.create_pair(1);
    driver
}

#[test]
fn a_subsystem_reset_resets_configuration_space_as_well_and_says_so() {
    let mut driver = Driver::ready();
    driver.write(regs::NSSR, &0x4e56_4d64_u32.to_le_bytes());
    assert_eq!(driver.register(regs::CSTS), READY, "the wrong value");
    driver.write(regs::NSSR, &regs::SUBSYSTEM_RESET.to_le_bytes());
    assert_eq!(driver.config::<2>(header::COMMAND), [0; 2]);
    assert_eq!(driver.config::<4>(header::BAR0 + 4), [0; 4]);
    driver.program();
    assert_eq!(driver.register(regs::CSTS), SUBSYSTEM_RESET);
    assert_eq!(driver.register(regs::AQA), 0);
    driver.nvme.reset(Reset::Function, driver.now);
    driver.program();
    assert_eq!(driver.register(regs::CSTS), SUBSYSTEM_RESET, "until it is cleared");
    driver.write(regs::CSTS, &SUBSYSTEM_RESET.to_le_bytes());
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    driver.write(regs::NSSR, &regs::SUBSYSTEM_RESET.to_le_bytes());
    driver.nvme.reset(Reset::Cold, driver.now);
    driver.program();
    assert_eq!(driver.register(regs::CSTS), 0, "power-on is no subsystem reset");
}

#[test]
fn a_hung_controller_says_nothing_until_it_is_reset() {
    let mut driver = with(NvmeFeatures { hang_after: Some(2), ..NvmeFeatures::default() });
    for _ in 0..2 {
        assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    }
    driver.submit(1, Sqe::blocks(READ, 0, 1));
    driver.submit(1, Sqe::blocks(READ, 0, 1));
    driver.settle();
    driver.submit(0, Sqe::new(6).dword(10, 1));
    driver.settle();
    assert_eq!((driver.take(1), driver.take(0)), (None, None));
    assert_eq!(driver.register(regs::CSTS), READY, "it looks well");
    driver.write(regs::CC, &0x0046_4001_u32.to_le_bytes());
    driver.settle();
    assert_eq!(driver.register(regs::CSTS), READY, "it does not shut down either");

    driver.write(regs::CC, &[0; 4]);
    assert_eq!(driver.register(regs::CSTS), 0);
    driver.enable();
    driver.create_pair(1);
    for _ in 0..4 {
        assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0, "once after power-on");
    }
    driver.nvme.reset(Reset::Cold, driver.now);
    driver.program();
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    driver.submit(1, Sqe::blocks(READ, 0, 1));
    driver.settle();
    assert_eq!(driver.take(1), None);
}

#[test]
fn a_read_that_is_not_answered_takes_the_completion_timeout() {
    let mut driver = Driver::ready();
    let identifier = driver.submit(1, Sqe::blocks(WRITE, 0, 1));
    driver.upstream.read_error = Some(RequestError::CompletionTimeout);
    let start = driver.now;
    driver.settle();
    assert!(driver.now >= start + COMPLETION_TIMEOUT, "{:?}", driver.now);
    let seen = driver.take(1).unwrap();
    assert_eq!((seen.identifier, seen.code), (identifier, 4));
    let mut function = driver.function();
    let aer = function.extended_capability(aer::ID).unwrap();
    let status = function.read::<u32>(aer + 4);
    assert_eq!(status, 1 << 14, "Completion Timeout Status");

    driver.submit(1, Sqe::blocks(WRITE, 0, 1));
    assert_eq!(driver.register(regs::CSTS), READY, "the fetch waits");
    let start = driver.now;
    driver.settle();
    assert_eq!(driver.now, start + COMPLETION_TIMEOUT);
    assert_eq!(driver.register(regs::CSTS), READY | FATAL);

    driver.upstream.read_error = None;
    driver.write(regs::CC, &[0; 4]);
    driver.enable();
    driver.create_pair(1);
    assert_eq!(driver.run(1, Sqe::blocks(WRITE, 0, 1)).code, 0);
}

#[test]
fn a_translation_that_is_not_answered_takes_the_completion_timeout() {
    let mut driver = Driver::ready();
    driver.set_ats(true);
    // The range that the ATC has for the queues does not cover the data.
    let data = Sqe::blocks(READ, 0, 1).prp(DATA + (1 << 33), 0);
    driver.submit(1, data);
    driver.upstream.translation_error = Some(RequestError::CompletionTimeout);
    let start = driver.now;
    driver.settle();
    assert!(driver.now >= start + COMPLETION_TIMEOUT);
}

#[test]
fn without_a_completion_timeout_it_waits_for_ever() {
    let mut driver = Driver::ready();
    let mut function = driver.function();
    let at = function.capability(express::ID).unwrap() + DEVICE_CONTROL_2;
    function.write(at, DeviceControl2::new().with_completion_timeout_disable(true));
    driver.submit(1, Sqe::blocks(WRITE, 0, 1));
    driver.upstream.read_error = Some(RequestError::CompletionTimeout);
    driver.settle();
    assert_eq!(driver.take(1), None);
    driver.submit(1, Sqe::blocks(WRITE, 0, 1));
    driver.settle();
    assert_eq!(driver.register(regs::CSTS), READY, "the fetch has no end either");
}

#[test]
fn without_ats_there_is_no_capability_and_all_requests_are_untranslated() {
    let mut driver = with(NvmeFeatures { ats: false, ..NvmeFeatures::default() });
    assert_eq!(driver.function().extended_capability(ats::ID), None);
    assert_eq!(driver.run(1, Sqe::blocks(READ, 0, 1)).code, 0);
    assert!(driver.upstream.translations.is_empty());
}
