//! A driver with its rings in the memory of the fake, for one command at a time or several.

use std::time::Duration;

use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use crate::nvme::storage::{MemoryStorage, Storage};
use crate::nvme::{Nvme, NvmeFeatures, regs};
use crate::pcie::spec::{ats, header, msix};
use crate::pcie::{ConfigAccess, ConfigClient, Function, UpstreamMessage};
use crate::testkit::FakeUpstream;

pub(super) const ID: Bdf = Bdf::new(3, 0, 0);
pub(super) const BAR: u64 = 0x12_0000_0000;
pub(super) const BLOCKS: u32 = 2048;
pub(super) const LATENCY: Duration = Duration::from_micros(10);
/// Entries in each queue.
pub(super) const SIZE: u16 = 8;
/// The address of data: 256 KiB from here on.
pub(super) const DATA: u64 = 0x80_0000;
/// The address of PRP lists and SGL segments.
pub(super) const LISTS: u64 = 0x90_0000;

/// The addresses of the rings of `queue`: submission, completion.
pub(super) fn rings(queue: u16) -> (u64, u64) {
    (0x10_0000 + u64::from(queue) * 0x4000, 0x10_2000 + u64::from(queue) * 0x4000)
}

/// A completion as the driver reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) result: u32,
    pub(super) head: u16,
    pub(super) queue: u16,
    pub(super) identifier: u16,
    /// Status Code and its type.
    pub(super) code: u16,
    pub(super) do_not_retry: bool,
}

#[derive(Default, Clone, Copy)]
struct Pair {
    tail: u16,
    head: u16,
    /// The phase tag of entries that are not new.
    old_phase: bool,
}

pub(super) struct Driver {
    pub(super) nvme: Nvme,
    pub(super) upstream: FakeUpstream,
    pub(super) now: Instant,
    pairs: [Pair; 9],
    next_identifier: u16,
}

/// The dwords of a command.
#[derive(Default, Clone, Copy)]
pub(super) struct Sqe(pub(super) [u32; 16]);

impl Sqe {
    pub(super) fn new(opcode: u8) -> Self {
        let mut sqe = Self::default();
        sqe.0[0] = opcode.into();
        sqe.prp(DATA, DATA + 0x1000)
    }

    pub(super) fn namespace(self, namespace: u32) -> Self {
        self.dword(1, namespace)
    }

    pub(super) fn dword(mut self, index: usize, value: u32) -> Self {
        self.0[index] = value;
        self
    }

    pub(super) fn prp(self, first: u64, second: u64) -> Self {
        self.dword(6, first as u32)
            .dword(7, (first >> 32) as u32)
            .dword(8, second as u32)
            .dword(9, (second >> 32) as u32)
    }

    /// An I/O command for `blocks` blocks from `first` on.
    pub(super) fn blocks(opcode: u8, first: u64, blocks: u32) -> Self {
        Self::new(opcode)
            .namespace(1)
            .dword(10, first as u32)
            .dword(11, (first >> 32) as u32)
            .dword(12, blocks.wrapping_sub(1))
    }
}

impl ConfigAccess for Nvme {
    fn config_read(&mut self, _: Bdf, offset: u16, data: &mut [u8], _: Instant) {
        Function::config_read(self, offset, data);
    }

    fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        Function::config_write(self, function, offset, data, now);
    }
}

impl Driver {
    /// A controller with BAR, memory space and bus mastering, and an identity mapping of all
    /// memory.
    pub(super) fn bare() -> Self {
        Self::with(vec![Box::new(MemoryStorage::new(BLOCKS))])
    }

    pub(super) fn with(namespaces: Vec<Box<dyn Storage>>) -> Self {
        Self::with_features(namespaces, NvmeFeatures::default())
    }

    pub(super) fn with_features(namespaces: Vec<Box<dyn Storage>>, features: NvmeFeatures) -> Self {
        let nvme = Nvme::new(namespaces, "GL-1", LATENCY, features, Tracer::none()).unwrap();
        let mut upstream = FakeUpstream::default();
        upstream.map(0, 32, 0, true, true);
        let mut driver = Self {
            nvme,
            upstream,
            now: Instant::START,
            pairs: Default::default(),
            next_identifier: 0x100,
        };
        driver.program();
        driver
    }

    /// Programs what a reset clears in configuration space and the MSI-X table.
    pub(super) fn program(&mut self) {
        let msix = self.msix();
        let mut function = self.function();
        function.set_bar0(BAR as u32);
        function.write(header::BAR0 + 4, (BAR >> 32) as u32);
        function.set_command(header::Command::MEMORY_AND_MASTER);
        function.write(msix + msix::CONTROL, msix::Control::new().with_enable(true));
        for vector in 0..9_u32 {
            let entry = u64::from(regs::MSIX_TABLE) + u64::from(vector) * 16;
            self.write(entry, &0xfee0_0000_u64.to_le_bytes());
            self.write(entry + 8, &u64::from(0x40 + vector).to_le_bytes());
        }
    }

    /// As [`Self::bare`], enabled.
    pub(super) fn enabled() -> Self {
        let mut driver = Self::bare();
        driver.enable();
        driver
    }

    /// As [`Self::enabled`], with I/O queue 1.
    pub(super) fn ready() -> Self {
        let mut driver = Self::enabled();
        driver.create_pair(1);
        driver
    }

    pub(super) fn enable(&mut self) {
        self.pairs = Default::default();
        for queue in 0..9 {
            self.upstream.store(rings(queue).1, &[0; 16 * SIZE as usize]);
        }
        let last = u32::from(SIZE) - 1;
        self.write(regs::AQA, &(last << 16 | last).to_le_bytes());
        self.write(regs::ASQ, &rings(0).0.to_le_bytes());
        self.write(regs::ACQ, &rings(0).1.to_le_bytes());
        self.write(regs::CC, &0x0046_0001_u32.to_le_bytes());
        assert_eq!(self.register(regs::CSTS), 1, "ready");
    }

    /// Creates I/O queue pair `queue`, with the vector of the same number.
    pub(super) fn create_pair(&mut self, queue: u16) {
        let (submission, completion) = rings(queue);
        let dword10 = u32::from(SIZE - 1) << 16 | u32::from(queue);
        let create = Sqe::new(5).prp(completion, 0).dword(10, dword10);
        assert_eq!(self.admin(create.dword(11, u32::from(queue) << 16 | 0b11)).code, 0);
        let create = Sqe::new(1).prp(submission, 0).dword(10, dword10);
        assert_eq!(self.admin(create.dword(11, u32::from(queue) << 16 | 1)).code, 0);
    }

    pub(super) fn config_write(&mut self, offset: u16, data: &[u8]) {
        Function::config_write(&mut self.nvme, ID, offset, data, self.now);
    }

    pub(super) fn config<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut data = [0; N];
        Function::config_read(&self.nvme, offset, &mut data);
        data
    }

    /// The function's configuration space, as its driver reaches it.
    pub(super) fn function(&mut self) -> ConfigClient<'_, Nvme> {
        ConfigClient::new(&mut self.nvme, ID, self.now)
    }

    pub(super) fn msix(&mut self) -> u16 {
        self.function().capability(msix::ID).unwrap()
    }

    /// ATS Control.
    pub(super) fn ats(&mut self) -> ats::Control {
        let mut function = self.function();
        let at = function.extended_capability(ats::ID).unwrap();
        function.read(at + ats::CONTROL)
    }

    pub(super) fn set_ats(&mut self, on: bool) {
        let mut function = self.function();
        let at = function.extended_capability(ats::ID).unwrap();
        function.write(at + ats::CONTROL, ats::Control::new().with_enable(on));
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.nvme.memory_write(BAR + offset, data, &mut self.upstream, self.now);
    }

    pub(super) fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.nvme.memory_read(BAR + offset, data, &mut self.upstream, self.now);
    }

    pub(super) fn register(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn ring(&mut self, queue: u16, is_head: bool, value: u32) {
        let offset = regs::DOORBELLS + u64::from(queue) * 8 + u64::from(is_head) * 4;
        self.write(offset, &value.to_le_bytes());
    }

    /// Adds a command to the ring, without the doorbell. Returns its identifier.
    pub(super) fn place(&mut self, queue: u16, mut sqe: Sqe) -> u16 {
        if sqe.0[0] >> 16 == 0 {
            self.next_identifier += 1;
            sqe.0[0] |= u32::from(self.next_identifier) << 16;
        }
        let pair = &mut self.pairs[usize::from(queue)];
        let at = rings(queue).0 + u64::from(pair.tail) * 64;
        pair.tail = (pair.tail + 1) % SIZE;
        let bytes: Vec<u8> = sqe.0.iter().flat_map(|dword| dword.to_le_bytes()).collect();
        self.upstream.store(at, &bytes);
        (sqe.0[0] >> 16) as u16
    }

    /// Adds a command to the ring, and writes the doorbell.
    pub(super) fn submit(&mut self, queue: u16, sqe: Sqe) -> u16 {
        let identifier = self.place(queue, sqe);
        self.ring(queue, false, self.pairs[usize::from(queue)].tail.into());
        identifier
    }

    /// The next new completion, without the doorbell.
    pub(super) fn peek(&mut self, queue: u16) -> Option<Seen> {
        let pair = &mut self.pairs[usize::from(queue)];
        let entry = self.upstream.load(rings(queue).1 + u64::from(pair.head) * 16, 16);
        let dwords: Vec<u32> = entry.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let phase = dwords[3] >> 16 & 1 != 0;
        if phase == pair.old_phase {
            return None;
        }
        pair.head = (pair.head + 1) % SIZE;
        pair.old_phase ^= pair.head == 0;
        Some(Seen {
            result: dwords[0],
            head: dwords[2] as u16,
            queue: (dwords[2] >> 16) as u16,
            identifier: dwords[3] as u16,
            code: (dwords[3] >> 17) as u16 & 0x7ff,
            do_not_retry: dwords[3] >> 31 != 0,
        })
    }

    /// Takes the next completion, and writes the doorbell.
    pub(super) fn take(&mut self, queue: u16) -> Option<Seen> {
        let seen = self.peek(queue)?;
        self.ring(queue, true, self.pairs[usize::from(queue)].head.into());
        Some(seen)
    }

    /// Advances time until no timer is due.
    pub(super) fn settle(&mut self) {
        while let Some(due) = self.nvme.poll_timeout() {
            self.now = self.now.max(due);
            self.nvme.handle_timeout(&mut self.upstream, self.now);
        }
    }

    /// Runs one command from its submission to its completion.
    pub(super) fn run(&mut self, queue: u16, sqe: Sqe) -> Seen {
        let identifier = self.submit(queue, sqe);
        self.settle();
        let seen = self.take(queue).expect("a completion");
        assert_eq!((seen.identifier, seen.queue), (identifier, queue));
        seen
    }

    pub(super) fn admin(&mut self, sqe: Sqe) -> Seen {
        self.run(0, sqe)
    }

    /// Runs an admin command that returns data.
    pub(super) fn admin_data(&mut self, sqe: Sqe, length: usize) -> Vec<u8> {
        assert_eq!(self.admin(sqe).code, 0);
        self.upstream.load(DATA, length)
    }

    /// The data of the interrupts that were sent.
    pub(super) fn interrupts(&mut self) -> Vec<u32> {
        let messages = std::iter::from_fn(|| self.nvme.poll_message());
        let data = messages.map(|message| match message {
            UpstreamMessage::Msi { requester: ID, msi } => msi.data,
            other => panic!("{other:?}"),
        });
        data.collect()
    }
}
