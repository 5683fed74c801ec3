//! Admin commands.

use super::driver::{BLOCKS, Driver, LISTS, SIZE, Sqe};
use crate::nvme::regs;

const IDENTIFY: u8 = 6;
const GET_LOG_PAGE: u8 = 2;
const SET_FEATURES: u8 = 9;
const GET_FEATURES: u8 = 10;

fn identify(cns: u32, namespace: u32) -> Sqe {
    Sqe::new(IDENTIFY).namespace(namespace).dword(10, cns)
}

fn log_page(identifier: u32, bytes: u32) -> Sqe {
    Sqe::new(GET_LOG_PAGE).dword(10, (bytes / 4 - 1) << 16 | identifier)
}

#[test]
fn identify_describes_the_controller() {
    let mut driver = Driver::enabled();
    let data = driver.admin_data(identify(1, 0), 4096);
    assert_eq!(data[..4], [0x34, 0x12, 0x34, 0x12]);
    assert_eq!(&data[4..24], b"GL-1                ");
    assert_eq!(data[77], 5, "128 KiB");
    assert_eq!(data[80..84], 0x1_0400_u32.to_le_bytes());
    assert_eq!((data[512], data[513], data[516], data[525]), (0x66, 0x44, 1, 7));
    assert!(data[768..].starts_with(b"nqn.2014-08.org.nvmexpress:ghostlink:GL-1\0"));
}

#[test]
fn identify_describes_the_namespace() {
    let mut driver = Driver::enabled();
    let data = driver.admin_data(identify(0, 1), 4096);
    for at in [0, 8, 16] {
        assert_eq!(data[at..at + 8], u64::from(BLOCKS).to_le_bytes());
    }
    assert_eq!(data[128..132], [0, 0, 9, 0], "512 bytes");
    let eui64 = data[120..128].to_vec();
    assert_ne!(eui64, [0; 8]);
    let data = driver.admin_data(identify(3, 1), 4096);
    assert_eq!((&data[..4], &data[4..12], data[12]), (&[1, 8, 0, 0][..], &eui64[..], 0));
    assert_eq!(driver.admin_data(identify(2, 0), 8), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(driver.admin_data(identify(2, 1), 8), [0; 8]);
}

#[test]
fn identify_refuses_what_there_is_not() {
    let mut driver = Driver::enabled();
    for (cns, namespace, code) in
        [(0, 2, 0xb), (0, 0, 0xb), (0, !0, 0xb), (2, !0, 0xb), (3, 2, 0xb), (6, 0, 2), (0x10, 0, 2)]
    {
        let seen = driver.admin(identify(cns, namespace));
        assert_eq!((seen.code, seen.do_not_retry), (code, true), "{cns} {namespace}");
    }
}

#[test]
fn queues_are_checked_before_they_are_made() {
    let mut driver = Driver::enabled();
    let create = |opcode, dword10, dword11| {
        Sqe::new(opcode).prp(LISTS, 0).dword(10, dword10).dword(11, dword11)
    };
    for (sqe, code) in [
        (create(5, 0x7_0000, 0b11), 0x101),
        (create(5, 0x7_0009, 0b11), 0x101),
        (create(5, 1, 0b11), 0x102),
        (create(5, 0x400_0001, 0b11), 0x102),
        (create(5, 0x7_0001, 0b10), 0x002),
        (create(5, 0x7_0001, 0x9_0003), 0x108),
        (create(5, 0x7_0001, 0b11).prp(LISTS + 0x10, 0), 0x013),
        (create(1, 0x7_0001, 1), 0x101),
        (create(1, 0x7_0001, 0x1_0001), 0x100),
        (create(1, 0x7_0001, 0x9_0001), 0x101),
        (create(4, 1, 0), 0x101),
        (create(0, 1, 0), 0x101),
        (create(0, 0, 0), 0x101),
    ] {
        assert_eq!(driver.admin(sqe).code, code, "{:x?}", sqe.0);
    }
    driver.create_pair(1);
    assert_eq!(driver.admin(create(5, 0x7_0001, 0b11)).code, 0x101, "it exists");
    assert_eq!(driver.admin(create(4, 1, 0)).code, 0x10c, "it is used");
    driver.submit(1, Sqe::blocks(2, 0, 1));
    assert_eq!(driver.admin(create(0, 1, 0)).code, 0);
    assert_eq!(driver.admin(create(4, 1, 0)).code, 0);
    driver.settle();
    assert!(driver.peek(1).is_none(), "what was in flight is gone with its queue");
}

#[test]
fn eight_pairs_can_be_had() {
    let mut driver = Driver::enabled();
    let ask = Sqe::new(SET_FEATURES).dword(10, 7).dword(11, 0x3f_003f);
    assert_eq!(driver.admin(ask).result, 7 << 16 | 7);
    (1..=8).for_each(|queue| driver.create_pair(queue));
    assert_eq!(driver.admin(ask).code, 0x00c, "too late");
    for queue in 1..=8 {
        assert_eq!(driver.run(queue, Sqe::blocks(2, 0, 1)).code, 0);
    }
}

#[test]
fn features_hold_what_was_set() {
    let mut driver = Driver::enabled();
    for (feature, dword11, expected) in [
        (0x01, 0x0102_0304, 0x0102_0304),
        (0x02, 0, 0),
        (0x04, 320, 320),
        (0x06, 0, 0),
        (0x08, 0x0a05, 0x0a05),
        (0x09, 0x1_0003, 0x1_0003),
        (0x0a, 1, 1),
        (0x0b, 0xffff, 2),
    ] {
        let set = Sqe::new(SET_FEATURES).dword(10, feature).dword(11, dword11);
        assert_eq!(driver.admin(set).code, 0, "{feature}");
        let selector = if feature == 9 { 3 } else { 0 };
        let get = Sqe::new(GET_FEATURES).dword(10, feature).dword(11, selector);
        assert_eq!(driver.admin(get).result, expected, "{feature}");
    }
    for (dword10, dword11, namespace, code) in [
        (0x8000_0001, 0, 0, 0x10d),
        (0x01, 0, 1, 0x10f),
        (0x05, 0, 0, 0x00b),
        (0x02, 1, 0, 0x002),
        (0x07, 0xffff, 0, 0x002),
        (0x09, 9, 0, 0x002),
        (0x0e, 0, 0, 0x002),
    ] {
        let set = Sqe::new(SET_FEATURES).dword(10, dword10).dword(11, dword11);
        assert_eq!(driver.admin(set.namespace(namespace)).code, code, "{dword10:x}");
    }
}

#[test]
fn log_pages_tell_of_errors_and_of_traffic() {
    let mut driver = Driver::ready();
    driver.run(1, Sqe::blocks(1, 0, 8));
    driver.run(1, Sqe::blocks(2, 0, 8));
    let failed = driver.run(1, Sqe::blocks(2, u64::from(BLOCKS), 1));
    let errors = driver.admin_data(log_page(1, 1024), 128);
    assert_eq!(errors[..8], 1_u64.to_le_bytes());
    assert_eq!(errors[8..10], [1, 0]);
    assert_eq!(errors[10..12], failed.identifier.to_le_bytes());
    assert_eq!(u16::from_le_bytes([errors[12], errors[13]]) >> 1 & 0x7ff, 0x80);
    assert_eq!(errors[16..24], u64::from(BLOCKS).to_le_bytes());
    assert_eq!(errors[64..], [0; 64]);
    let smart = driver.admin_data(log_page(2, 512).namespace(!0), 512);
    assert_eq!((smart[0], smart[1..3].to_vec()), (0, 310_u16.to_le_bytes().to_vec()));
    for (at, counter) in [(32, 1), (48, 1), (64, 1), (80, 1), (112, 1), (176, 1)] {
        assert_eq!(smart[at], counter, "{at}");
    }
    assert_eq!(&driver.admin_data(log_page(3, 512), 16)[8..], b"1.0     ");
    assert_eq!(driver.admin_data(log_page(4, 4096), 4), [0; 4]);
    assert_eq!(driver.admin(log_page(5, 512)).code, 0x109);
    assert_eq!(driver.admin(log_page(2, 512).dword(12, 516)).code, 2);
}

#[test]
fn a_wrong_doorbell_is_an_event_once_until_the_log_is_read() {
    let mut driver = Driver::ready();
    let request = driver.submit(0, Sqe::new(12));
    driver.settle();
    assert!(driver.peek(0).is_none(), "it is held");
    driver.ring(1, false, SIZE.into());
    let seen = driver.take(0).expect("an event");
    assert_eq!((seen.identifier, seen.code, seen.result), (request, 0, 0x01_01_00));
    driver.submit(0, Sqe::new(12));
    driver.settle();
    driver.ring(5, false, 1);
    driver.settle();
    assert!(driver.peek(0).is_none(), "the type is masked");
    driver.submit(0, log_page(1, 1024));
    driver.settle();
    let results = [driver.take(0), driver.take(0)].map(|seen| seen.map(|seen| seen.result));
    assert_eq!(results, [Some(0), Some(0x01_00_00)]);
    driver.write(regs::DOORBELLS + 0x800, &[0; 4]);
    assert_eq!(driver.run(1, Sqe::blocks(2, 0, 1)).code, 0, "it goes on");
}

#[test]
fn a_temperature_beyond_its_threshold_is_an_event_if_asked_for() {
    let mut driver = Driver::enabled();
    driver.submit(0, Sqe::new(12));
    driver.settle();
    let set = |feature, value| Sqe::new(SET_FEATURES).dword(10, feature).dword(11, value);
    assert_eq!(driver.admin(set(4, 300)).code, 0);
    assert!(driver.peek(0).is_none());
    driver.submit(0, set(0xb, 2));
    driver.settle();
    driver.take(0);
    assert_eq!(driver.take(0).map(|seen| seen.result), Some(0x02_01_01));
    assert_eq!(driver.admin_data(log_page(2, 512), 1), [2]);
}

#[test]
fn four_event_requests_are_held_and_an_abort_gives_one_back() {
    let mut driver = Driver::enabled();
    let held: Vec<u16> = (0..4).map(|_| driver.submit(0, Sqe::new(12))).collect();
    driver.settle();
    assert_eq!(driver.admin(Sqe::new(12)).code, 0x105);
    driver.submit(0, Sqe::new(8).dword(10, u32::from(held[2]) << 16));
    driver.settle();
    let (aborted, abort) = (driver.take(0).unwrap(), driver.take(0).unwrap());
    assert_eq!((aborted.identifier, aborted.code), (held[2], 7));
    assert_eq!((abort.code, abort.result), (0, 0));
}

#[test]
fn what_is_no_command_is_refused() {
    let mut driver = Driver::ready();
    assert_eq!(driver.admin(Sqe::new(0x7f)).code, 1);
    assert_eq!(driver.run(1, Sqe::new(0x7f).namespace(1)).code, 1);
    assert_eq!(driver.admin(identify(1, 0).dword(0, 0x4006)).code, 2, "an SGL");
    let fused = Sqe::blocks(2, 0, 1).dword(0, 0x0102);
    assert_eq!(driver.run(1, fused).code, 2);
    let twice = Sqe::blocks(2, 0, 1).dword(0, 0x0055_0002);
    driver.submit(1, twice);
    driver.submit(1, twice);
    driver.settle();
    let codes = [driver.take(1), driver.take(1)].map(|seen| seen.unwrap().code);
    assert_eq!(codes, [3, 0]);
}
