//! Accesses of a guest to the PCIe hierarchy: configuration space of everything, numbers and windows
//! that contradict each other, registers of functions wherever their BARs have gone, flushes, and
//! links that vanish meanwhile; and to the rest of the chipset.
//!
//! Nothing may panic or run for ever, and the functions on bus 0 must keep their identities.

use std::time::Duration;

use devices::chipset::{Chipset, ChipsetConfig, map};
use devices::fault::FaultMode;
use devices::io_apic::IOWIN;
use devices::pcie::spec::header::{
    BAR0, COMMAND, HEADER_TYPE, MEMORY_BASE, PRIMARY_BUS, SUBORDINATE_BUS, TYPE_1,
};
use devices::root_complex::RootComplexConfig;
use devices::topology::{DeviceSpec, Media, Topology};
use iommu::Memory;
use iommu::event::{Tracer, UnitRole};
use iommu::ids::Bdf;
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::DeviceTlbDescriptor;
use iommu::spec::offset;
use iommu::time::{Instant, Timeout};
use iommu::unit::UnitConfig;
use vm_memory::{Bytes, GuestAddress};

use super::Input;

const MEMORY: usize = 1 << 20;
const RING: u64 = 0x1000;
const BARS: u32 = 0xc000_0000;
/// Timers that one step lets fire.
const TIMERS: usize = 64;

/// Something of everything.
const DEVICES: [&str; 13] = [
    "root-port,id=rp0,hotplug=button",
    "switch,id=sw0,bus=rp0,ports=3",
    "switch,id=sw1,bus=sw0.1,ports=2",
    "ats-endpoint,bus=sw0.0,vfs=12,atc=16,ways=2",
    "ats-endpoint,bus=sw0.0,addr=0.3",
    "ats-endpoint,bus=sw0.0,addr=2.1",
    "ats-endpoint,bus=sw1.1,traffic=write:64*4/100us@0x8000+0x4000:random:atc",
    "nvme,id=disk,bus=sw0.2,mib=1,vfs=3",
    "nvme-ns,bus=disk,mib=1",
    "root-port,id=rp1,hotplug=none",
    "ats-endpoint,bus=rp1,pasid=off",
    "edu",
    "iommu-testdev",
];

const MODES: [&str; 19] = [
    "silent",
    "ghost",
    "disable",
    "surprise",
    "safe",
    "dpc",
    "aer",
    "no-completion",
    "slow:1ms..9ms",
    "lossy:0.5",
    "dup",
    "flap:1ms:keep",
    "byte-swap",
    "drop-at-next",
    "sleep",
    "slow-reset:1ms",
    "merge:1ms",
    "split:3",
    "choke:2:1ms",
];

/// Where functions are, on bus 0 or another.
const DEVFNS: [u8; 8] = [0, 1, 3, 0x08, 0x10, 0x11, 0x80, 0x88];

struct Machine {
    chipset: Chipset,
    memory: Memory,
    now: Instant,
    tail: u32,
    next_bus: u8,
    next_bar: u32,
}

/// Runs one input.
pub(super) fn run(input: &mut Input<'_>) {
    let Ok(memory) = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]) else { return };
    let devices = DEVICES.map(|text| text.parse::<DeviceSpec>().expect("it describes a device"));
    let shape = input.byte();
    let unit = UnitConfig {
        ict: Timeout::After(Duration::from_millis(5)),
        ..UnitConfig::new(UnitRole::Guest)
    };
    // Bit 2 is set on bare metal: the guest's unit sends its requests to the links itself.
    let mut config = match shape & 4 {
        0 => {
            let policy = "bounded:2ms".parse().expect("there is such a policy");
            RootComplexConfig::forwarded(policy, unit)
        }
        _ => RootComplexConfig::direct(unit),
    };
    config.topology = Topology::new(&devices).expect("they fit together");
    let topology = config.topology.clone();
    let config = ChipsetConfig { root_complex: config, memory: MEMORY as u64, cpus: 1, tsc_khz: 0 };
    let mut chipset = Chipset::new(config, &mut Media::new(), memory.clone(), Tracer::none())
        .expect("it is built");
    chipset.set_up(&topology);
    let now = Instant::START;
    let mut machine = Machine { chipset, memory, now, tail: 0, next_bus: 1, next_bar: BARS };
    let identity = machine.bus_0();
    machine.unit_write(offset::IQA, &RING.to_le_bytes());
    let mut on = GlobalBits::new().with_queued_invalidation(true);
    machine.unit_write(offset::GCMD, &on.into_bits().to_le_bytes());
    // Bit 3 enables translation, without which the unit takes no Invalidate Completions.
    if shape & 8 != 0 {
        on.set_translation(true);
        let latch = on.with_set_root_table(true).into_bits();
        machine.unit_write(offset::GCMD, &latch.to_le_bytes());
    }
    if shape & 3 != 0 {
        machine.enumerate(0);
    }
    while !input.0.is_empty() {
        machine.step(input);
    }
    assert_eq!(machine.bus_0(), identity, "bus 0 is not what it was");
}

impl Machine {
    fn read(&mut self, function: Bdf, at: u16) -> u32 {
        let mut data = [0; 4];
        self.config_read(function, at, &mut data);
        u32::from_le_bytes(data)
    }

    fn is_bridge(&mut self, function: Bdf) -> bool {
        self.read(function, HEADER_TYPE & !3) >> 16 & 0x7f == u32::from(TYPE_1)
    }

    fn write(&mut self, function: Bdf, at: u16, data: &[u8]) {
        match self.latch(function, at, data.len()) {
            Some(port) => self.chipset.port_write(port, data, self.now),
            None => self.chipset.memory_write(ecam(function, at), data, self.now),
        }
        self.drain();
    }

    fn config_read(&mut self, function: Bdf, at: u16, data: &mut [u8]) {
        match self.latch(function, at, data.len()) {
            Some(port) => self.chipset.port_read(port, data, self.now),
            None => self.chipset.memory_read(ecam(function, at), data, self.now),
        }
    }

    /// The data port for so many bytes at `at`, with the latch set. No port reaches bytes beyond
    /// the first 256, or across a double word. Such accesses need ECAM, which software may have
    /// moved.
    fn latch(&mut self, function: Bdf, at: u16, length: usize) -> Option<u16> {
        let lane = at % 4;
        if at >= 0x100 || usize::from(lane) + length > 4 {
            return None;
        }
        let latch = 1 << 31 | u32::from(function.into_bits()) << 8 | u32::from(at - lane);
        self.chipset.port_write(map::port::PCI, &latch.to_le_bytes(), self.now);
        Some(map::port::PCI + 4 + lane)
    }

    fn unit_write(&mut self, register: u16, data: &[u8]) {
        self.chipset.memory_write(map::UNIT.start + u64::from(register), data, self.now);
    }

    fn drain(&mut self) {
        while self.chipset.poll_output().is_some() {}
    }

    /// Ids, class and header type of everything on bus 0.
    fn bus_0(&mut self) -> Vec<[u32; 3]> {
        let functions = DEVFNS.map(|devfn| Bdf::from_bits(devfn.into()));
        let identity = |id| [self.read(id, 0), self.read(id, 8), self.read(id, 0xc) >> 16];
        functions.into_iter().map(identity).collect()
    }

    /// Numbers and addresses for all that is below `bus`, depth first, as firmware gives them.
    fn enumerate(&mut self, bus: u8) {
        for devfn in DEVFNS {
            let id = Bdf::new(bus, devfn >> 3, devfn & 7);
            if self.read(id, 0) == u32::MAX {
                continue;
            }
            if self.is_bridge(id) {
                let below = self.next_bus;
                self.next_bus = self.next_bus.saturating_add(1);
                let base = self.next_bar;
                self.write(id, PRIMARY_BUS, &[bus, below, 0xff]);
                self.enumerate(below);
                self.write(id, SUBORDINATE_BUS, &[self.next_bus - 1]);
                self.next_bar = (self.next_bar + 1).next_multiple_of(1 << 20);
                self.write(
                    id,
                    MEMORY_BASE,
                    &((self.next_bar - 1) & 0xfff0_0000 | base >> 16).to_le_bytes(),
                );
            } else {
                self.write(id, BAR0, &self.next_bar.to_le_bytes());
                self.next_bar += 0x10_0000;
            }
            self.write(id, COMMAND, &[0b110, 0]);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            kind @ 0xf0.. => self.other(kind, input),
            kind => self.step_of(kind % 12, input),
        }
        self.drain();
    }

    /// A step of the hierarchy. Its numbers stay, so that the corpora keep their meaning.
    fn step_of(&mut self, kind: u8, input: &mut Input<'_>) {
        match kind {
            0..4 => {
                let (function, at) = (function(input), place(input));
                let data = input.word().to_le_bytes();
                self.write(function, at, &data[..[1, 2, 4, 4][usize::from(input.byte() & 3)]]);
            }
            4 => {
                let mut data = vec![0; usize::from(input.byte() % 9)];
                self.config_read(function(input), place(input), &mut data);
            }
            5..8 => self.access(input),
            8 => self.flush(input),
            9 => {
                let (port, mode) = (input.byte() % 10, usize::from(input.byte()) % MODES.len());
                let mode: FaultMode = MODES[mode].parse().expect("it is a mode");
                match input.byte() & 1 {
                    0 => self.chipset.inject(port.into(), mode, self.now),
                    _ => self.chipset.lift(port.into(), mode, self.now),
                }
            }
            10 => {
                let at = GuestAddress((input.qword() % MEMORY as u64) & !7);
                let _ = self.memory.write_obj(input.qword(), at);
            }
            _ => self.pass(Duration::from_micros(u64::from(input.byte()) * 50)),
        }
    }

    /// Ports, the I/O APIC, and ends of interrupt.
    fn other(&mut self, kind: u8, input: &mut Input<'_>) {
        let (port, mut data) = (u16::from_le_bytes(input.take()), input.word().to_le_bytes());
        let length = [1, 2, 4, 4][usize::from(kind & 3)];
        match kind >> 2 & 3 {
            0 => self.chipset.port_write(port, &data[..length], self.now),
            1 => self.chipset.port_read(port, &mut data[..length], self.now),
            2 => {
                let select = [port as u8, 0, 0, 0];
                self.chipset.memory_write(map::IO_APIC.start, &select, self.now);
                self.chipset.memory_write(map::IO_APIC.start + IOWIN, &data, self.now);
            }
            _ => self.chipset.end_of_interrupt(port as u8, self.now),
        }
    }

    /// An access to memory: where a function's BAR 0 is now, or anywhere.
    fn access(&mut self, input: &mut Input<'_>) {
        let base = match input.byte() & 3 {
            0 => u64::from(input.word()),
            _ => u64::from(self.read(function(input), BAR0) & !0xf),
        };
        let address = base.wrapping_add(u64::from(u16::from_le_bytes(input.take())) & 0x3fff);
        let length = [4, 4, 8, 1][usize::from(input.byte() & 3)];
        let mut data = input.take::<8>();
        match input.byte() & 1 {
            0 => self.chipset.memory_read(address, &mut data[..length], self.now),
            _ => self.chipset.memory_write(address, &data[..length], self.now),
        }
    }

    fn flush(&mut self, input: &mut Input<'_>) {
        let descriptor = DeviceTlbDescriptor::new()
            .with_source_id(function(input).into_bits())
            .with_size(input.byte() & 1 == 1)
            .with_page(input.address() >> 12);
        let at = GuestAddress(RING + u64::from(self.tail));
        let _ = self.memory.write_obj(descriptor.into_bits(), at);
        self.tail = (self.tail + 16) % 4096;
        self.unit_write(offset::IQT, &self.tail.to_le_bytes());
        // Whatever has come of it, the next one is fetched.
        self.unit_write(offset::FSTS, &[0x70, 0, 0, 0]);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..TIMERS {
            match self.chipset.poll_timeout().filter(|due| *due <= end) {
                Some(due) => {
                    self.now = self.now.max(due);
                    self.chipset.handle_timeout(self.now);
                    self.drain();
                }
                None => break,
            }
        }
        self.now = self.now.max(end);
    }
}

/// Where a register of a function is in memory, as firmware has placed ECAM.
fn ecam(function: Bdf, at: u16) -> u64 {
    map::ECAM.start + (u64::from(function.into_bits()) << 12) + u64::from(at)
}

/// A function: most often where one may be.
fn function(input: &mut Input<'_>) -> Bdf {
    let (bus, devfn) = (input.byte(), input.byte());
    match bus {
        0xf0.. => Bdf::new(input.byte(), devfn >> 3, devfn & 7),
        _ => {
            let devfn = DEVFNS[usize::from(devfn) % DEVFNS.len()];
            Bdf::new(bus % 14, devfn >> 3, devfn & 7)
        }
    }
}

/// An offset in configuration space: in the header, in capabilities, in extended ones, or anywhere.
fn place(input: &mut Input<'_>) -> u16 {
    let (kind, at) = (input.byte(), u16::from(input.byte()));
    match kind & 3 {
        0 => at & 0x3f,
        1 => 0x40 + (at & 0x7f),
        2 => 0x100 + at,
        _ => at << 4 | u16::from(kind >> 4),
    }
}
