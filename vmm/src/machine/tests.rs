//! The chipset by way of the VMM's buses and by way of qtest, without KVM; and several threads at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use devices::chipset::ChipsetConfig;
use devices::chipset::map;
use devices::fault::FaultMode;
use devices::root_complex::RootComplexConfig;
use devices::topology::{DeviceSpec, Media, Topology};
use iommu::event::{Tracer, UnitRole};
use iommu::unit::UnitConfig;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::MemorySize;
use crate::bus::Bus;
use crate::config::Console;
use crate::memory;
use crate::qtest;

/// Something of everything.
const DEVICES: [&str; 9] = [
    "root-port,id=rp0,hotplug=button",
    "switch,id=sw0,bus=rp0,ports=2",
    "ats-endpoint,bus=sw0.0,vfs=2",
    "nvme,id=disk,bus=sw0.1,mib=1",
    "root-port,id=rp1",
    "ats-endpoint,bus=rp1,pasid=off",
    "edu",
    "edu",
    "iommu-testdev",
];

const ECAM_ON: u32 = map::ECAM.start as u32 | 1;
const EDU: u64 = map::FIRMWARE_BARS as u64;

/// The interrupts that leave the machine, and the routes that KVM gets.
#[derive(Default)]
struct Recorded {
    interrupts: Mutex<Vec<Msi>>,
    routes: AtomicUsize,
}

impl InterruptSink for Arc<Recorded> {
    fn inject(&self, msi: Msi) {
        self.interrupts.lock().unwrap().push(msi);
    }

    fn set_routes(&self, _: &Routes) -> Result<(), Error> {
        self.routes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The machine of a run, without its CPUs.
struct Run {
    machine: Arc<SharedMachine>,
    bus: Bus,
    recorded: Arc<Recorded>,
    run_end: Arc<RunEnd>,
}

fn root_complex() -> RootComplexConfig {
    let devices = DEVICES.map(|text| text.parse::<DeviceSpec>().unwrap());
    let unit = UnitConfig { interrupt_remapping: true, ..UnitConfig::new(UnitRole::Host) };
    let topology = Topology::new(&devices).unwrap();
    RootComplexConfig {
        topology,
        ..RootComplexConfig::forwarded("bounded:1ms".parse().unwrap(), unit)
    }
}

fn run() -> Run {
    let size = MemorySize::MIN;
    let config =
        ChipsetConfig { root_complex: root_complex(), memory: size.bytes(), cpus: 1, tsc_khz: 0 };
    let memory = memory::allocate(size).unwrap();
    let chipset = Chipset::new(config, &mut Media::new(), memory, Tracer::none()).unwrap();
    let recorded = Arc::new(Recorded::default());
    let run_end = Arc::new(RunEnd::new().unwrap());
    let console = Console::Capture(Arc::default());
    let outside = Outside {
        interrupts: Box::new(recorded.clone()),
        console: Output::new(&console, run_end.clone()),
        debugcon: DebugOutput::new(Default::default(), run_end.clone()),
        room: EventFd::new(EFD_NONBLOCK).unwrap(),
        run_end: run_end.clone(),
    };
    let machine = Arc::new(SharedMachine::new(chipset, outside).unwrap());
    let bus = Bus::new(&machine).unwrap();
    Run { machine, bus, recorded, run_end }
}

/// The two ways to the same machine.
struct Pair {
    run: Run,
    qtest: qtest::Machine,
}

impl Pair {
    /// Both after power-on.
    fn new() -> Self {
        let (memory, tracer) = (MemorySize::MIN, Tracer::none());
        let config = qtest::MachineConfig { memory, root_complex: root_complex(), tracer };
        Self { run: run(), qtest: qtest::Machine::new(config).unwrap() }
    }

    fn port_write(&mut self, port: u16, data: &[u8]) {
        self.run.bus.port_write(port, data);
        self.qtest.port_write(port, data).unwrap();
    }

    fn memory_write(&mut self, address: u64, data: &[u8]) {
        self.run.bus.memory_write(address, data);
        self.qtest.memory_write(address, data);
    }

    fn configure(&mut self, devfn: u32, register: u32, value: u32) {
        self.port_write(0xcf8, &(1 << 31 | devfn << 8 | register).to_le_bytes());
        self.port_write(0xcfc, &value.to_le_bytes());
    }

    /// Does the setup of firmware and a driver: ECAM, buses, windows, BARs.
    fn set_up(&mut self) {
        self.configure(0x00, 0x60, ECAM_ON);
        for (port, buses, window) in
            [(0x08, 0x0004_0100, 0xc0f0_c000), (0x10, 0x0005_0500, 0xc1f0_c100)]
        {
            self.configure(port, 0x18, buses);
            self.configure(port, 0x20, window);
            self.configure(port, 0x04, 6);
        }
        let below: [(u32, u32, u32); 5] = [
            (0x0100, 0x18, 0x0004_0201),
            (0x0200, 0x18, 0x0003_0302),
            (0x0208, 0x18, 0x0004_0402),
            (0x0300, 0x10, 0xc000_0000),
            (0x0400, 0x10, 0xc010_0000),
        ];
        for (function, register, value) in below {
            self.configure(function, register, value);
        }
        for (bridge, window) in
            [(0x0100, 0xc0f0_c000), (0x0200, 0xc000_c000), (0x0208, 0xc010_c010)]
        {
            self.configure(bridge, 0x20, window);
        }
        self.configure(0x0500, 0x10, 0xc100_0000);
        for (index, devfn) in [0x60_u32, 0x68, 0x70].into_iter().enumerate() {
            self.configure(devfn, 0x10, map::FIRMWARE_BARS + ((index as u32) << 20));
            self.configure(devfn, 0x04, 6);
        }
        for function in [0x0100, 0x0200, 0x0208, 0x0300, 0x0400, 0x0500] {
            self.configure(function, 0x04, 6);
        }
    }

    fn compare_port(&mut self, port: u16, length: usize) -> u32 {
        let (mut ours, mut theirs) = ([0; 4], [0; 4]);
        self.run.bus.port_read(port, &mut ours[..length]);
        self.qtest.port_read(port, &mut theirs[..length]);
        assert_eq!(ours, theirs, "port {port:#x}, {length} bytes");
        u32::from_le_bytes(ours)
    }

    fn compare_memory(&mut self, address: u64, length: usize) -> u64 {
        let (mut ours, mut theirs) = ([0; 8], [0; 8]);
        self.run.bus.memory_read(address, &mut ours[..length]);
        self.qtest.memory_read(address, &mut theirs[..length]);
        assert_eq!(ours, theirs, "{address:#x}, {length} bytes");
        u64::from_le_bytes(ours)
    }

    fn compare_page(&mut self, page: u64) {
        for offset in (0..0x1000).step_by(4) {
            self.compare_memory(page + offset, 4);
        }
        for offset in [0x0, 0x8, 0x10, 0xff8, 0xff9, 0xffe] {
            for length in [1, 2, 4, 8] {
                self.compare_memory(page + offset, length);
            }
        }
    }

    /// Interrupts and the end of the run, of the two.
    fn compare_outputs(&mut self) -> (Vec<Msi>, Option<Exit>) {
        let interrupts = std::mem::take(&mut *self.run.recorded.interrupts.lock().unwrap());
        let exit = self.run.run_end.take().map(Result::unwrap);
        let (mut theirs, mut end) = (Vec::new(), None);
        while let Some(output) = self.qtest.poll_output() {
            match output {
                chipset::Output::Interrupt(msi) => theirs.push(msi),
                chipset::Output::Exit(exit) => end = Some(Exit::from(exit)),
                _ => {}
            }
        }
        assert_eq!((&interrupts, exit), (&theirs, end));
        (interrupts, exit)
    }
}

#[test]
fn every_port_reads_the_same_under_kvm_and_qtest() {
    let mut pair = Pair::new();
    for latch in [0_u32, 0x8000_0000, 0x8000_0060, 0x8000_6000, 0x8001_0000] {
        pair.port_write(0xcf8, &latch.to_le_bytes());
        for length in [1, 2, 4] {
            for port in 0..=u16::MAX {
                pair.compare_port(port, length);
            }
        }
        pair.set_up();
    }
    pair.port_write(0xcf8, &0x8000_0000_u32.to_le_bytes());
    assert_eq!(pair.compare_port(0xcfc, 4), 0x29c0_8086, "the walk has met something");
}

#[test]
fn every_page_reads_the_same_under_kvm_and_qtest() {
    let mut pair = Pair::new();
    pair.set_up();
    let mut functions = 0;
    for page in (map::ECAM.start..map::ECAM.end()).step_by(0x1000) {
        if pair.compare_memory(page, 4) as u32 != u32::MAX {
            functions += 1;
            pair.compare_page(page);
        }
    }
    // Host bridge, two root ports, a switch of three ports, two endpoints, the disk, two edus and the
    // testdev.
    assert_eq!(functions, 12);
    for page in (map::ECAM.end()..1 << 32).step_by(0x1000) {
        pair.compare_memory(page, 4);
    }
    for page in [0xc000_0000, 0xc010_0000, 0xc100_0000, EDU, map::UNIT.start] {
        assert_ne!(pair.compare_memory(page, 4) as u32, u32::MAX, "{page:#x}");
        pair.compare_page(page);
    }
    for register in 0..=0xff_u8 {
        pair.memory_write(map::IO_APIC.start, &u32::from(register).to_le_bytes());
        for offset in [0x00, 0x10, 0x20, 0x40] {
            pair.compare_memory(map::IO_APIC.start + offset, 4);
        }
    }
    pair.compare_page(map::IO_APIC.start);
    for bit in 32..52 {
        pair.compare_memory((1 << bit) - 4, 8);
    }
}

#[test]
fn wires_messages_and_exits_are_the_same_under_kvm_and_qtest() {
    let mut pair = Pair::new();
    pair.set_up();
    let entries = [(20_u32, 0x0041_u32), (21, 0x8042), (4, 0x0043)];
    for (pin, entry) in entries {
        pair.memory_write(map::IO_APIC.start, &(0x10 + 2 * pin).to_le_bytes());
        pair.memory_write(map::IO_APIC.start + 0x10, &entry.to_le_bytes());
    }
    for turn in 0..3 {
        for edu in [EDU, EDU + 0x10_0000] {
            pair.memory_write(edu + 0x60, &1_u32.to_le_bytes());
            pair.memory_write(edu + 0x64, &1_u32.to_le_bytes());
        }
        // Of the level-triggered one the first is not ended.
        let expected = if turn == 0 { 2 } else { 1 };
        assert_eq!(pair.compare_outputs().0.len(), expected);
    }
    pair.port_write(0x3f9, &[2]);
    assert_eq!(pair.compare_outputs().0.len(), 1, "COM1");
    for value in 0..=0xff_u8 {
        for port in [0x64, 0xcf9, 0x600, 0x601, 0x604] {
            pair.port_write(port, &[value]);
            let (_, exit) = pair.compare_outputs();
            let resets = (port, value) == (0x64, 0xfe) || (port == 0xcf9 && value & 4 != 0);
            assert_eq!(exit == Some(Exit::Reset), resets, "{port:#x} {value:#x}");
        }
    }
    pair.port_write(0x604, &0x2000_u16.to_le_bytes());
    assert_eq!(pair.compare_outputs().1, Some(Exit::PowerOff));
    pair.port_write(0xf4, &[7]);
    assert_eq!(pair.compare_outputs().1, Some(Exit::DebugExit(7)));
}

/// A number after the other, as xorshift makes them.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// An access as a guest may make it, of those that do not end the run.
fn access(run: &Run, random: &mut Random) {
    let value = random.next(1 << 32) as u32;
    let data = value.to_le_bytes();
    let places = [map::ECAM.start, EDU, EDU + 0x10_0000, map::UNIT.start, 0xc000_0000, 0xc010_0000];
    match random.next(8) {
        0 => {
            let pin = [4, 20, 21, 22][random.next(4) as usize];
            run.bus.memory_write(map::IO_APIC.start, &(0x10 + 2 * pin as u32).to_le_bytes());
            // Mostly not masked, edge or level.
            run.bus.memory_write(map::IO_APIC.start + 0x10, &(value & 0x80ff).to_le_bytes());
        }
        1 => run.bus.memory_write(EDU + 0x08, &data),
        2 => {
            run.bus.memory_write(EDU + [0x60, 0x64][random.next(2) as usize], &1_u32.to_le_bytes())
        }
        3 => run.bus.port_write(0x3f8 + random.next(8) as u16, &data[..1]),
        4 => run.bus.port_write(0x5e4, &data),
        5 => run.machine.end_of_interrupt(value as u8),
        6 => {
            let mut read = [0; 4];
            let place = places[random.next(places.len() as u64) as usize];
            run.bus.memory_read(place + random.next(0x400) * 4, &mut read);
        }
        _ => {
            run.bus.memory_write(map::UNIT.start + random.next(0x40) * 4, &data);
        }
    }
}

#[test]
fn all_ways_into_the_machine_can_be_used_at_once() {
    const ROUNDS: u64 = 20_000;
    let mut pair = Pair::new();
    pair.set_up();
    pair.memory_write(EDU + 0x20, &0x80_u32.to_le_bytes());
    let run = Arc::new(pair.run);
    let (ended, all_ended) = mpsc::channel();
    let spawn = |way: fn(&Run, &mut Random), seed: u64| {
        let (run, ended) = (run.clone(), ended.clone());
        thread::spawn(move || {
            let mut random = Random(seed);
            (0..ROUNDS).for_each(|_| way(&run, &mut random));
            let _ = ended.send(());
        })
    };
    let ways: [fn(&Run, &mut Random); 6] = [
        access,
        access,
        access,
        |run, _| run.machine.handle_timer(),
        |run, random| {
            let room = run.machine.with(|chipset, _| chipset.console_room());
            let bytes = [b'x'; 64];
            let count = room.min(random.next(64) as usize);
            run.machine.with(|chipset, now| chipset.console_input(&bytes[..count], now));
        },
        |run, random| {
            let modes = ["silent", "surprise", "disable", "no-completion"];
            let mode: FaultMode = modes[random.next(4) as usize].parse().unwrap();
            let port = random.next(4) as usize;
            run.machine.with(|chipset, now| match random.next(2) {
                0 => chipset.inject(port, mode, now),
                _ => chipset.lift(port, mode, now),
            });
        },
    ];
    let threads: Vec<_> = ways.iter().zip(1..).map(|(way, seed)| spawn(*way, seed)).collect();
    for _ in &threads {
        // A deadlock must fail the test, and not hang it.
        all_ended.recv_timeout(Duration::from_secs(120)).expect("the threads come to their end");
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(!run.run_end.is_over());
    assert!(!run.recorded.interrupts.lock().unwrap().is_empty());
    assert!(run.recorded.routes.load(Ordering::Relaxed) > 0);
    run.bus.port_write(0xcf8, &0x8000_0000_u32.to_le_bytes());
    let mut id = [0; 4];
    run.bus.port_read(0xcfc, &mut id);
    assert_eq!(u32::from_le_bytes(id), 0x29c0_8086);
}
