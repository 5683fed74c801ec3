//! The educational device on bus 0, as a guest reaches it.

use std::time::Duration;

use devices::root_complex::IO_APIC_ID;
use devices::topology::Topology;
use iommu::event::Event;

use crate::code::{out32, report_port, store};
use crate::guest::{Guest, kvm_wanted};

/// 00:0c.0 in the configuration address port.
const EDU: u32 = 0x8000_6000;
const BAR: u32 = 0xe000_0000;
const IO_APIC: u32 = 0xfec0_0000;

fn configure(register: u32, value: u32) -> Vec<u8> {
    [out32(0xcf8, EDU | register), out32(0xcfc, value)].concat()
}

#[test]
fn it_is_absent_unless_asked_for_and_then_knows_its_pin() {
    if !kvm_wanted() {
        return;
    }
    let code = [out32(0xcf8, EDU | 0x3c), report_port(0xcfc)].concat();
    let mut guest = Guest::new(&code);
    assert_eq!(guest.run().unwrap(), vmm::Exit::DebugExit(u32::MAX));
    guest.config.root_complex.topology = Topology::simple(2, 1);
    assert_eq!(guest.run().unwrap(), vmm::Exit::DebugExit(0x0114));
}

#[test]
fn its_wire_leads_to_the_io_apic() {
    if !kvm_wanted() {
        return;
    }
    let code = [
        // Entry 20: vector 0x41, edge, not masked.
        store(IO_APIC, 0x38),
        store(IO_APIC + 0x10, 0x41),
        configure(0x10, BAR),
        configure(0x04, 6),
        // Twice raised and acknowledged: two edges.
        store(BAR + 0x60, 1),
        store(BAR + 0x64, 1),
        store(BAR + 0x60, 1),
        store(BAR + 0x64, 1),
        out32(0xf4, 0),
    ]
    .concat();
    let mut guest = Guest::new(&code);
    guest.config.root_complex.topology = Topology::simple(2, 1);
    guest.run().unwrap();
    let sent = |event: &Event| match *event {
        Event::Interrupt { requester, data, .. } => requester == IO_APIC_ID && data == 0x4041,
        _ => false,
    };
    let events = guest.events.events();
    assert_eq!(events.iter().filter(|timed| sent(&timed.event)).count(), 2);
}

#[test]
fn a_wire_may_change_while_the_io_apic_is_written() {
    if !kvm_wanted() {
        return;
    }
    let mut code = vec![
        store(IO_APIC, 0x38),
        store(IO_APIC + 0x10, 0x41),
        configure(0x10, BAR),
        configure(0x04, 6),
        // An interrupt after each factorial.
        store(BAR + 0x20, 0x80),
    ];
    for turn in 0..200 {
        code.extend([
            store(IO_APIC, 0x10),
            // The factorial is due 10 us later: the wire changes within the write of the I/O APIC.
            store(BAR + 0x08, 5),
            store(IO_APIC + 0x10, 0x30 + turn % 16),
            store(BAR + 0x64, 1),
        ]);
    }
    code.push(out32(0xf4, 0));
    let mut guest = Guest::new(&code.concat());
    guest.config.root_complex.topology = Topology::simple(2, 1);
    guest.config.time_limit = Some(Duration::from_secs(20));
    let exit = guest.run_within(Duration::from_secs(60)).unwrap();
    assert_eq!(exit, vmm::Exit::DebugExit(0));
}
