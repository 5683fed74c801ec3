//! The educational device on bus 0, as a guest reaches it.

use devices::root_complex::IO_APIC_ID;
use devices::topology::Topology;
use iommu::event::Event;

use crate::code::{out32, report_port};
use crate::guest::{Guest, kvm_wanted};

/// 00:10.0 in the configuration address port.
const EDU: u32 = 0x8000_8000;
const BAR: u32 = 0xe000_0000;
const IO_APIC: u32 = 0xfec0_0000;

/// `mov edi, address; mov dword ptr [rdi], value`.
fn store(address: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xbf];
    code.extend(address.to_le_bytes());
    code.extend([0xc7, 0x07]);
    code.extend(value.to_le_bytes());
    code
}

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
