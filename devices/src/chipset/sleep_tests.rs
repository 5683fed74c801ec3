//! Sleep, as a guest brings it about.

use std::time::Duration;

use super::tests::*;
use super::*;

const STATUS: u16 = 0x608;
const ENABLE: u16 = 0x60a;
const RTC: u32 = 1 << 10;
const SLEEP: u16 = 1 << 13 | 1 << 10;

fn guest_that_can_sleep() -> Guest {
    guest_with(|config| {
        config.topology = Topology::new(&["pc-testdev".parse().unwrap()]).unwrap();
    })
}

/// Sets an alarm for each second.
fn set_alarm(guest: &mut Guest) {
    for (index, value) in [(1, 0xc0), (3, 0xc0), (5, 0xc0), (0x0b, 1 << 5)] {
        guest.output(0x70, &[index]);
        guest.output(0x71, &[value]);
    }
}

#[test]
fn the_alarm_ends_the_sleep_and_the_next_chipset_says_so() {
    let mut guest = guest_that_can_sleep();
    assert_eq!((guest.input(STATUS, 2), guest.input(ENABLE, 2)), (0, 0));
    set_alarm(&mut guest);
    guest.output(ENABLE, &0xffff_u16.to_le_bytes());
    assert_eq!(guest.input(ENABLE, 2), RTC, "no other event exists");
    let asleep = Output::Exit(GuestExit::Sleep);
    assert_eq!(guest.output(0x604, &SLEEP.to_le_bytes()), [asleep]);
    let now = Instant::START + Duration::from_millis(300);
    let suspended = guest.chipset.suspend(now).unwrap();
    assert_eq!(suspended.wake_after(), Some(Duration::from_millis(700)));
    let mut guest = guest_that_can_sleep();
    guest.chipset.resume(suspended);
    assert_eq!(guest.input(STATUS, 2), 1 << 15 | RTC, "it was woken up, by the clock");
    guest.output(STATUS, &0xffff_u16.to_le_bytes());
    assert_eq!((guest.input(STATUS, 2), guest.input(ENABLE, 2)), (0, RTC));
    guest.output(0x70, &[0]);
    assert_eq!(guest.input(0x71, 1), 1, "a second has passed");
}

#[test]
fn without_an_alarm_or_its_enable_bit_nothing_wakes_it_up() {
    let mut guest = guest_that_can_sleep();
    guest.output(ENABLE, &(RTC as u16).to_le_bytes());
    let wake = |guest: &Guest| guest.chipset.suspend(Instant::START).unwrap().wake_after();
    assert_eq!(wake(&guest), None);
    set_alarm(&mut guest);
    assert_eq!(wake(&guest), Some(Duration::from_secs(1)));
    guest.output(ENABLE, &[0, 0]);
    assert_eq!(wake(&guest), None);
}

#[test]
fn an_alarm_of_a_machine_that_is_awake_interrupts() {
    let mut guest = guest_that_can_sleep();
    set_alarm(&mut guest);
    let second = Instant::START + Duration::from_secs(1);
    assert_eq!(guest.chipset.poll_timeout(), Some(second));
    guest.chipset.handle_timeout(second);
    let line = |level| Output::Line(Line { pin: 8, level });
    assert_eq!(guest.chipset.poll_output(), Some(line(true)));
    assert_eq!(guest.input(STATUS, 2), RTC);
    guest.output(0x70, &[0x0c]);
    assert_eq!(guest.input(0x71, 1), 0xa0);
    assert_eq!(guest.chipset.poll_output(), Some(line(false)), "a read ends the request");
}

#[test]
fn a_machine_without_pc_testdev_switches_off_instead() {
    let mut guest = guest_with(|_| {});
    assert_eq!(guest.input(0x71, 1), 0xff);
    assert_eq!(guest.input(STATUS, 2), 0xffff);
    let off = Output::Exit(GuestExit::PowerOff);
    assert_eq!(guest.output(0x604, &SLEEP.to_le_bytes()), [off]);
    assert_eq!(guest.chipset.suspend(Instant::START), None);
}
