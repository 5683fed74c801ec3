//! A guest under KVM reads the same values as `ghostlink qtest`, and all threads of a machine may
//! be busy at once.

use std::sync::mpsc;
use std::time::Duration;

use devices::chipset::map;
use devices::fault::FaultMode;
use devices::topology::Topology;
use iommu::event::{Event, Tracer};
use vmm::qtest::{Machine, MachineConfig};
use vmm::{Exit, Vm};

use crate::code::{out32, store};
use crate::guest::{Guest, kvm_wanted};

const EDU: u32 = map::FIRMWARE_BARS;
const EDU_CONFIG: u32 = 0x8000_6000;

/// A read of a port or of memory, of one, two or four bytes.
#[derive(Debug, Clone, Copy)]
enum Read {
    Port(u16, usize),
    Memory(u32, usize),
}

impl Read {
    /// Code that reads and reports the value.
    fn code(self) -> Vec<u8> {
        let mut code = vec![0x31, 0xc0]; // xor %eax, %eax
        match self {
            Self::Port(port, length) => {
                code.push(0xba); // mov $port, %edx
                code.extend(u32::from(port).to_le_bytes());
                code.extend([&[0xec][..], &[0x66, 0xed], &[0xed]][length / 2]); // in
            }
            Self::Memory(address, length) => {
                code.push(0xbf); // mov $address, %edi
                code.extend(address.to_le_bytes());
                code.extend([&[0x8a, 0x07][..], &[0x66, 0x8b, 0x07], &[0x8b, 0x07]][length / 2]);
            }
        }
        // out %eax, $0x5ec
        code.extend([0xba, 0xec, 0x05, 0, 0, 0xef]);
        code.extend(out32(0x5f0, 0));
        code
    }

    fn by_qtest(self, machine: &mut Machine) -> u64 {
        let mut data = [0; 8];
        match self {
            Self::Port(port, length) => machine.port_read(port, &mut data[..length]),
            Self::Memory(address, length) => {
                machine.memory_read(address.into(), &mut data[..length]);
            }
        }
        u64::from_le_bytes(data)
    }
}

/// Every port that answers and those beside them, but for the frequency of the TSC.
fn ports() -> impl Iterator<Item = Read> {
    let near = map::ports().flat_map(|(first, count)| first - 1..first + count + 1);
    let others = [0x20, 0x21, 0x40, 0x70, 0x71, 0x2f8, 0xb2, 0xffff];
    near.chain(others)
        .filter(|port| !(0x5e1..0x5e8).contains(port))
        .flat_map(|port| [1, 2, 4].map(|length| Read::Port(port, length)))
}

fn memory() -> impl Iterator<Item = Read> {
    // Host bridge, root ports and edu in ECAM, edu's registers, the unit, and where nothing is.
    let pages = [0xb000_0000, 0xb000_8000, 0xb001_0000, 0xb006_0000, EDU, 0xfed9_0000, 0xfed0_0000];
    let dwords = pages.into_iter().flat_map(|page| (0..0x40).map(move |dword| page + 4 * dword));
    let bytes = [0xb000_0001, 0xb006_003d, 0xfed9_0009, 0xfec0_0001, 0xc000_0000, 0xfeff_fff0];
    let small = bytes.into_iter().flat_map(|at| [1, 2, 4].map(|length| Read::Memory(at, length)));
    dwords.map(|at| Read::Memory(at, 4)).chain(small)
}

fn configure(register: u32, value: u32) -> [(u16, u32); 2] {
    [(0xcf8, EDU_CONFIG | register), (0xcfc, value)]
}

#[test]
fn a_guest_reads_what_qtest_reads() {
    if !kvm_wanted() {
        return;
    }
    let reads: Vec<Read> = ports().chain(memory()).collect();
    let set_up = [configure(0x10, EDU), configure(0x04, 6)].concat();
    let mut code: Vec<u8> = set_up.iter().flat_map(|(port, value)| out32(*port, *value)).collect();
    code.extend(reads.iter().flat_map(|read| read.code()));
    code.extend(out32(0xf4, 0));
    let mut guest = Guest::new(&code);
    guest.config.root_complex.topology = Topology::simple(2, 1);
    guest.config.time_limit = Some(Duration::from_secs(60));
    assert_eq!(guest.run().unwrap(), Exit::DebugExit(0));
    let events = guest.events.events().into_iter();
    let under_kvm = events.filter_map(|timed| match timed.event {
        Event::GuestReport { value, .. } => Some(value),
        _ => None,
    });
    let under_kvm: Vec<u64> = under_kvm.collect();
    assert_eq!(under_kvm.len(), reads.len());

    let mut machine = Machine::new(MachineConfig {
        memory: guest.config.memory,
        root_complex: guest.config.root_complex.clone(),
        tracer: Tracer::none(),
    })
    .unwrap();
    // The monitor's setup in place of firmware: ECAM, and the pin of edu.
    let firmware = [[(0xcf8, 0x8000_0060), (0xcfc, 0xb000_0001)], configure(0x3c, 20)].concat();
    for (port, value) in firmware.into_iter().chain(set_up) {
        machine.port_write(port, &value.to_le_bytes()).unwrap();
    }
    for (read, under_kvm) in reads.into_iter().zip(under_kvm) {
        assert_eq!(under_kvm, read.by_qtest(&mut machine), "{read:x?}");
    }
}

/// A loop of port accesses in real mode: doorbell, COM1, a read of configuration space.
#[rustfmt::skip]
const PORT_LOOP: [u8; 28] = [
    0xba, 0xe4, 0x05, 0x66, 0xef,             // again: mov $0x5e4, %dx; out %eax, %dx
    0xba, 0xf8, 0x03, 0xb0, 0x78, 0xee,       //        mov $0x3f8, %dx; mov $'x', %al; out %al, %dx
    0xba, 0xf8, 0x0c,                         //        mov $0xcf8, %dx
    0x66, 0xb8, 0x00, 0x60, 0x00, 0x80,       //        mov $0x80006000, %eax
    0x66, 0xef,                               //        out %eax, %dx
    0xb2, 0xfc, 0x66, 0xed,                   //        mov $0xfc, %dl; in %dx, %eax
    0xeb, 0xe4,                               //        jmp again
];

/// CPUs 1 to 3 run [`PORT_LOOP`], and CPU 0 changes wires and I/O APIC entries, for ever.
fn busy_cpus() -> Vec<u8> {
    const TRAMPOLINE: u32 = 0x7_0000;
    const LOCAL_APIC: u32 = 0xfee0_0000;
    const IO_APIC: u32 = 0xfec0_0000;
    let mut code = Vec::new();
    for (at, bytes) in (TRAMPOLINE..).step_by(4).zip(PORT_LOOP.chunks(4)) {
        code.extend(store(at, u32::from_le_bytes(bytes.try_into().unwrap())));
    }
    for (register, value) in
        [(0xf0, 0x1ff), (0x300, 0xc_4500), (0x300, 0xc_4600 | TRAMPOLINE >> 12)]
    {
        code.extend(store(LOCAL_APIC + register, value));
    }
    for (port, value) in [configure(0x10, EDU), configure(0x04, 6)].concat() {
        code.extend(out32(port, value));
    }
    code.extend(store(EDU + 0x20, 0x80));
    code.extend(store(IO_APIC, 0x38));
    let start = code.len();
    for turn in 0..16 {
        code.extend(store(IO_APIC + 0x10, 0x30 | turn | (turn & 1) << 15));
        code.extend(store(EDU + 0x08, 5));
        code.extend(store(0xfed9_0034, 0x7f));
        code.extend(store(EDU + 0x64, 1));
    }
    // jmp start
    let back = start as i32 - (code.len() as i32 + 5);
    code.push(0xe9);
    code.extend(back.to_le_bytes());
    code
}

#[test]
fn cpus_timers_console_and_an_embedder_may_be_busy_at_once() {
    if !kvm_wanted() {
        return;
    }
    let mut guest = Guest::new(&busy_cpus());
    guest.config.cpus = 4;
    guest.config.root_complex.topology = Topology::simple(2, 1);
    guest.config.tracer = Tracer::none();
    let vm = Vm::new(guest.config.clone()).unwrap();
    let handle = vm.handle();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(vm.run()));
    let control = std::thread::spawn(move || {
        for round in 0..200 {
            let mode: FaultMode = ["silent", "surprise", "disable"][round % 3].parse().unwrap();
            handle.inject(round % 3, mode);
            let seen = handle.snapshot();
            assert!(seen.len() <= 4);
            handle.lift(round % 3, mode);
        }
        handle.stop();
    });
    let outcome = end.recv_timeout(Duration::from_secs(120)).expect("the run does not end");
    assert_eq!(outcome.unwrap(), Exit::Stopped);
    control.join().unwrap();
    assert!(guest.printed().contains('x'), "CPUs 1 to 3 have run");
}
