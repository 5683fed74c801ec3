//! The device as a driver sees it, in front of memory that a test maps.

use iommu::ids::Bdf;

use super::*;
use crate::pcie::UpstreamMessage;
use crate::testkit::FakeUpstream;

const BAR: u64 = 0xe000_0000;
const ID: Bdf = Bdf::new(0, 0xc, 0);
const MSI: u16 = 0x40;

struct Rig {
    edu: Edu,
    upstream: FakeUpstream,
    now: Instant,
}

impl Rig {
    /// A device with BAR, memory space and bus mastering.
    fn new() -> Self {
        let mut edu = Edu::new().unwrap();
        edu.config_write(ID, 0x10, &(BAR as u32).to_le_bytes(), Instant::START);
        edu.config_write(ID, 0x04, &6_u16.to_le_bytes(), Instant::START);
        Self { edu, upstream: FakeUpstream::default(), now: Instant::START }
    }

    fn read(&mut self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.edu.memory_read(BAR + register, &mut data, &mut self.upstream, self.now);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, register: u64, value: u32) {
        let Self { edu, upstream, now } = self;
        edu.memory_write(BAR + register, &value.to_le_bytes(), upstream, *now);
    }

    /// Advances time by `time`.
    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.edu.poll_timeout().is_some_and(|due| due <= self.now) {
            self.edu.handle_timeout(&mut self.upstream, self.now);
        }
    }

    fn start(&mut self, source: u64, destination: u64, count: u64, command: u64) {
        let registers = [
            (regs::DMA_SOURCE, source),
            (regs::DMA_DESTINATION, destination),
            (regs::DMA_COUNT, count),
            (regs::DMA_COMMAND, command | regs::DMA_RUN),
        ];
        for (register, value) in registers {
            let Self { edu, upstream, now } = self;
            edu.memory_write(BAR + register, &value.to_le_bytes(), upstream, *now);
        }
    }

    fn dma(&mut self, source: u64, destination: u64, count: u64, command: u64) {
        self.start(source, destination, count, command);
        self.wait(DMA_DELAY);
    }

    fn enable_msi(&mut self) {
        self.edu.config_write(ID, MSI + 4, &0xfee0_1000_u32.to_le_bytes(), Instant::START);
        self.edu.config_write(ID, MSI + 12, &0x41_u16.to_le_bytes(), Instant::START);
        self.edu.config_write(ID, MSI + 2, &1_u16.to_le_bytes(), Instant::START);
    }

    fn messages(&mut self) -> usize {
        std::iter::from_fn(|| self.edu.poll_message()).count()
    }
}

#[test]
fn io_space_can_be_enabled_although_no_port_is_decoded() {
    let mut rig = Rig::new();
    rig.edu.config_write(ID, 0x04, &7_u16.to_le_bytes(), rig.now);
    let mut command = [0; 2];
    rig.edu.config_read(0x04, &mut command);
    assert_eq!(command, [7, 0]);
}

#[test]
fn identification_and_liveness() {
    let mut rig = Rig::new();
    assert_eq!(rig.read(regs::ID), 0x0100_00ed);
    rig.write(regs::LIVENESS, 0x1234_5678);
    assert_eq!(rig.read(regs::LIVENESS), !0x1234_5678);
    assert_eq!(rig.read(0x0c), u32::MAX);
    let mut byte = [0];
    rig.edu.memory_read(BAR, &mut byte, &mut rig.upstream, rig.now);
    assert_eq!(byte, [0xff]);
}

#[test]
fn a_factorial_takes_a_moment() {
    let mut rig = Rig::new();
    rig.write(regs::STATUS, 0x80);
    rig.write(regs::FACTORIAL, 6);
    assert_eq!((rig.read(regs::FACTORIAL), rig.read(regs::STATUS)), (6, 0x81));
    rig.write(regs::FACTORIAL, 7);
    rig.wait(FACTORIAL_DELAY);
    assert_eq!((rig.read(regs::FACTORIAL), rig.read(regs::STATUS)), (720, 0x80));
    assert_eq!(rig.read(regs::INTERRUPTS), regs::FACTORIAL_DONE);
}

#[test]
fn dma_goes_both_ways_after_its_delay() {
    let mut rig = Rig::new();
    rig.upstream.map(0x5000, 12, 0x10_0000, true, true);
    rig.upstream.store(0x10_0010, b"remapping");
    rig.start(0x5010, regs::BUFFER + 8, 9, 0);
    assert_eq!(rig.read(regs::DMA_COMMAND), 1);
    rig.wait(DMA_DELAY - Duration::from_nanos(1));
    assert_eq!(rig.upstream.requests.len(), 0);
    rig.wait(Duration::from_nanos(1));
    assert_eq!(rig.read(regs::DMA_COMMAND), 0);
    rig.dma(regs::BUFFER + 8, 0x5800, 9, regs::DMA_TO_MEMORY);
    assert_eq!(rig.upstream.load(0x10_0800, 9), b"remapping");
}

#[test]
fn requests_do_not_cross_pages_and_a_failed_read_leaves_zeros() {
    let mut rig = Rig::new();
    rig.upstream.map(0x5000, 12, 0x10_0000, true, true);
    rig.upstream.map(0x7000, 12, 0x20_0000, true, true);
    rig.upstream.store(0x10_0000, &[0x11; 4096]);
    rig.dma(0x5000, regs::BUFFER, 4096, 0);
    // The second page is not mapped. The device continues with the third.
    rig.dma(0x5ff8, regs::BUFFER, 16, 0);
    rig.dma(regs::BUFFER, 0x7ff0, 16, regs::DMA_TO_MEMORY);
    assert_eq!(rig.upstream.load(0x20_0ff0, 16), [[0x11; 8], [0; 8]].concat());
    let lengths: Vec<_> = rig.upstream.requests.iter().map(|request| request.1).collect();
    assert_eq!(lengths, [4096, 8, 8, 16]);
    assert!(rig.upstream.requests.iter().all(|(request, _)| request.requester == ID));
}

#[test]
fn memory_addresses_have_28_bits() {
    let mut rig = Rig::new();
    rig.dma(0xffff_ffff_f123_4000, regs::BUFFER, 4, 0);
    assert_eq!(rig.upstream.requests[0].0.address.0, 0x0123_4000);
}

#[test]
fn a_running_transfer_locks_its_registers() {
    let mut rig = Rig::new();
    rig.start(0x1000, regs::BUFFER, 4, 0);
    rig.write(regs::DMA_SOURCE, 0x2000);
    rig.write(regs::DMA_COMMAND, 0);
    assert_eq!((rig.read(regs::DMA_SOURCE), rig.read(regs::DMA_COMMAND)), (0x1000, 1));
}

#[test]
fn what_lies_outside_of_the_buffer_is_not_transferred() {
    let mut rig = Rig::new();
    for (device, count) in
        [(regs::BUFFER, 4097), (regs::BUFFER + 4096, 1), (0, 1), (regs::BUFFER, u64::MAX)]
    {
        rig.dma(0x1000, device, count, 0);
        assert_eq!(rig.read(regs::DMA_COMMAND), 0);
    }
    assert_eq!(rig.upstream.requests, []);
}

#[test]
fn without_bus_mastering_nothing_leaves_the_device() {
    let mut rig = Rig::new();
    rig.enable_msi();
    rig.edu.config_write(ID, 0x04, &2_u16.to_le_bytes(), Instant::START);
    rig.dma(0x1000, regs::BUFFER, 4, regs::DMA_INTERRUPT);
    assert_eq!((rig.upstream.requests.len(), rig.messages()), (0, 0));
    assert_eq!(rig.read(regs::INTERRUPTS), regs::DMA_DONE);
}

#[test]
fn inta_stays_until_everything_is_acknowledged() {
    let mut rig = Rig::new();
    rig.write(regs::RAISE, 0x6);
    assert!(rig.edu.asserts_inta());
    rig.write(regs::ACKNOWLEDGE, 0x2);
    assert!(rig.edu.asserts_inta());
    rig.edu.config_write(ID, 0x04, &0x406_u16.to_le_bytes(), Instant::START);
    assert!(!rig.edu.asserts_inta());
    rig.edu.config_write(ID, 0x04, &0x006_u16.to_le_bytes(), Instant::START);
    rig.write(regs::ACKNOWLEDGE, 0x4);
    assert!(!rig.edu.asserts_inta());
}

#[test]
fn msi_takes_the_place_of_inta() {
    let mut rig = Rig::new();
    rig.enable_msi();
    rig.write(regs::RAISE, 1);
    assert!(!rig.edu.asserts_inta());
    let sent = rig.edu.poll_message();
    let msi = iommu::ats::Msi { address: 0xfee0_1000, data: 0x41 };
    assert_eq!(sent, Some(UpstreamMessage::Msi { requester: ID, msi }));
    rig.write(regs::RAISE, 1);
    assert_eq!(rig.messages(), 1);
}
