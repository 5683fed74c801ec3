//! `pc-testdev` and the HPET, as a guest finds them.

use super::tests::*;
use super::*;
use crate::hpet::{COUNTER, TIMER, TIMER_COMPARATOR, TIMER_CONFIGURATION, TIMER_FSB_ROUTE};
use crate::root_complex::HPET_ID;

fn guest_with_both() -> Guest {
    guest_with(|config| {
        let devices = ["hpet", "pc-testdev"].map(|text| text.parse().unwrap());
        config.topology = Topology::new(&devices).unwrap();
    })
}

fn level(pin: u8, level: bool) -> Output {
    Output::Line(Line { pin, level })
}

#[test]
fn the_ports_hold_a_value_in_any_access_size() {
    let mut guest = guest_with_both();
    for port in [0xe0_u16, 0xe8] {
        guest.output(port, &0x1234_5678_u32.to_le_bytes());
        assert_eq!(guest.input(0xe0, 4), 0x1234_5678);
        guest.output(port + 1, &[0xaa]);
        guest.output(port + 2, &[0xbb, 0xcc]);
        assert_eq!(guest.input(0xe8, 4), 0xccbb_aa78);
        assert_eq!(guest.input(0xea, 2), 0xccbb);
    }
    guest.output(0xe4, &[9; 4]);
    assert_eq!((guest.input(0xe4, 4), guest.input(0xe0, 4)), (u32::MAX, 0xccbb_aa78));
    // None of them reach across the ports of another register.
    guest.output(0xe2, &[1; 4]);
    assert_eq!((guest.input(0xe2, 4), guest.input(0xe0, 4)), (u32::MAX, 0xccbb_aa78));
}

#[test]
fn each_byte_of_a_write_sets_an_isa_line() {
    let mut guest = guest_with_both();
    assert_eq!(guest.output(0x200b, &[1]), [level(11, true)]);
    assert_eq!(guest.output(0x200b, &[1]), [], "it is asserted already");
    assert_eq!(
        guest.output(0x200a, &[7, 0, 0, 1]),
        [level(10, true), level(11, false), level(13, true)]
    );
    assert_eq!(
        guest.output(0x2000, &[1, 1, 1, 1]),
        [level(2, true), level(1, true), level(3, true)]
    );
    assert_eq!(guest.output(0x2017, &[1]), [level(23, true)]);
    assert_eq!(guest.output(0x2017, &[0, 0]), [], "there is no port 0x2018");
}

#[test]
fn firmware_has_routed_isa_interrupts_for_real_mode() {
    let mut guest = guest_with_both();
    guest.chipset.route_isa_interrupts();
    for (line, pin, vector) in
        [(0_u16, 2, 8), (7, 7, 15), (8, 8, 0x70), (11, 11, 0x73), (15, 15, 0x77)]
    {
        let interrupt = Output::Interrupt(Msi { address: 0xfee0_0000, data: 0x4000 | vector });
        assert_eq!(guest.output(0x2000 + line, &[1]), [level(pin, true), interrupt]);
    }
    assert_eq!(guest.output(0x2002, &[1]), []);
    assert_eq!(guest.output(0x2010, &[1]), [level(16, true)], "masked");
}

#[test]
fn its_memory_holds_what_is_written() {
    let mut guest = guest_with_both();
    guest.write(0xff00_fffc, 0x0102_0304);
    assert_eq!(guest.read(0xff00_fffc), 0x0102_0304);
    assert_eq!(guest.read(0xff00_0000), 0);
    assert_eq!(guest.read(0xff00_fffe), u32::MAX, "its end");
}

#[test]
fn a_pin_stays_asserted_until_all_let_go_of_it() {
    let mut guest = guest();
    guest.chipset.pc_testdev = Some(PcTestdev::new());
    assert_eq!(guest.set_wire(true), [level(20, true)]);
    assert_eq!(guest.output(0x2014, &[1]), []);
    assert_eq!(guest.set_wire(false), []);
    assert_eq!(guest.output(0x2014, &[0]), [level(20, false)]);
}

#[test]
fn without_them_nothing_answers() {
    let mut guest = guest();
    for (port, length) in [(0xe0, 4), (0x2000, 1)] {
        assert_eq!(guest.output(port, &[1]), []);
        assert_eq!(guest.input(port, length), if length == 4 { u32::MAX } else { 0xff });
    }
    for address in [map::TEST_MEMORY.start, map::HPET.start] {
        guest.write(address, 5);
        assert_eq!(guest.read(address), u32::MAX);
    }
    assert_eq!(guest.chipset.poll_timeout(), None);
}

#[test]
fn timers_of_the_hpet_interrupt_when_the_chipset_is_told_the_time() {
    const MESSAGE: u64 = TIMER + crate::hpet::TIMER_STRIDE;
    let mut guest = guest_with_both();
    let hpet = map::HPET.start;
    guest.set_entry(16, 0x50);
    guest.write(hpet + TIMER + TIMER_CONFIGURATION, 1 << 2 | 16 << 9);
    let set = |guest: &mut Guest, timer: u64, value: u64| {
        let comparator = hpet + timer + TIMER_COMPARATOR;
        guest.chipset.memory_write(comparator, &value.to_le_bytes(), NOW);
    };
    set(&mut guest, TIMER, 100);
    guest.write(hpet + MESSAGE + TIMER_FSB_ROUTE, 0x4051);
    guest.write(hpet + MESSAGE + TIMER_FSB_ROUTE + 4, 0xfee0_0000);
    guest.write(hpet + MESSAGE + TIMER_CONFIGURATION, 1 << 2 | 1 << 14);
    set(&mut guest, MESSAGE, 200);
    assert_eq!(guest.chipset.poll_timeout(), None, "the counter is stopped");
    guest.write(hpet + crate::hpet::CONFIGURATION, 1);
    assert_eq!(guest.outputs(), []);
    for (nanos, expected) in [
        (1000, vec![level(16, true), Output::Interrupt(interrupt(0x4050)), level(16, false)]),
        (2000, vec![Output::Interrupt(interrupt(0x4051))]),
    ] {
        let due = Instant::from_nanos(nanos);
        assert_eq!(guest.chipset.poll_timeout(), Some(due));
        guest.chipset.handle_timeout(due);
        assert_eq!(guest.outputs(), expected);
    }
    let sent = guest.events.events().into_iter().filter_map(|timed| match timed.event {
        Event::Interrupt { requester, data: 0x4051, .. } => Some(requester),
        _ => None,
    });
    assert_eq!(sent.collect::<Vec<_>>(), [HPET_ID]);
    let mut data = [0; 4];
    guest.chipset.memory_read(hpet + COUNTER, &mut data, Instant::from_nanos(5000));
    assert_eq!(u32::from_le_bytes(data), 500);
}
