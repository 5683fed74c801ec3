//! A small driver for an NVMe controller, with an admin queue pair and an I/O queue pair. It polls.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::machine::memory::{PAGE_SIZE, Pages};
use crate::machine::mmio::Mmio;
use crate::machine::time::{Ticks, poll};
use crate::pci::enumerate::bar0;
use crate::pci::{Bdf, config};

/// Device and vendor id.
pub const ID: u32 = 0x6c6e_1234;
/// Pages that one command transfers.
pub const PAGES: usize = 32;
/// Bytes in a logical block.
const BLOCK: u64 = 512;

const BAR_SIZE: u64 = 0x2000;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
/// Enabled, 64-byte submission entries, 16-byte completion entries.
const CC_ENABLE: u32 = 6 << 16 | 4 << 20 | 1;
const READY: u32 = 1;
const FATAL: u32 = 2;

const ENTRIES: usize = 16;
const CREATE_SQ: u32 = 1;
const CREATE_CQ: u32 = 5;
const IDENTIFY: u32 = 6;
const FLUSH: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;
const CONTIGUOUS: u32 = 1;
const NAMESPACE: u32 = 1;

/// A submission queue and a completion queue, a page each.
struct Pair {
    number: u64,
    submissions: Pages,
    completions: Pages,
    /// Number of commands so far, which gives slot and phase.
    count: AtomicUsize,
}

impl Pair {
    fn new(number: u64) -> Self {
        let (submissions, completions) = (Pages::one(), Pages::one());
        Self { number, submissions, completions, count: AtomicUsize::new(0) }
    }
}

/// A controller with its queues and its data pages.
pub struct Nvme {
    bdf: Bdf,
    registers: Mmio,
    admin: Pair,
    io: Pair,
    list: Pages,
    data: Pages,
}

impl Nvme {
    /// Enables the function and allocates memory; does not start the controller. `None` if the BAR
    /// has no address.
    pub fn open(bdf: Bdf) -> Option<Self> {
        let registers = bar0(bdf, BAR_SIZE)?;
        config::enable(bdf, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
        let (admin, io) = (Pair::new(0), Pair::new(1));
        Some(Self { bdf, registers, admin, io, list: Pages::one(), data: Pages::new(PAGES) })
    }

    /// Its requester id.
    pub fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// The addresses of all pages that the controller accesses by DMA.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        let queues = [&self.admin, &self.io];
        let single = queues.map(|pair| [pair.submissions.address(), pair.completions.address()]);
        let data = (0..PAGES as u64).map(|page| self.data.address() + page * PAGE_SIZE);
        single.into_iter().flatten().chain([self.list.address()]).chain(data)
    }

    /// The pages that [`Nvme::write`] sends and [`Nvme::read`] fills.
    pub fn data(&self) -> Pages {
        self.data
    }

    /// Enables ATS. False if the function has no ATS.
    pub fn enable_ats(&self) -> bool {
        const CONTROL: u16 = 6;
        const ENABLE: u16 = 1 << 15;
        let Some(ats) = config::extended_capability(self.bdf, config::EXTENDED_ATS) else {
            return false;
        };
        config::write16(self.bdf, ats + CONTROL, ENABLE);
        config::read16(self.bdf, ats + CONTROL) & ENABLE != 0
    }

    /// Enables the function again after a reset, which has cleared BAR 0 and Command.
    pub fn resume(&self) {
        config::write32(self.bdf, config::register::BAR0, self.registers.base() as u32);
        config::enable(self.bdf, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
    }

    /// Starts the controller, or restarts it, and creates the I/O queue pair.
    pub fn start(&self) -> Result<(), &'static str> {
        let registers = &self.registers;
        registers.write32(CC, 0);
        if !poll(Ticks::from_ms(5_000), || registers.read32(CSTS) & READY == 0) {
            return Err("the controller does not stop");
        }
        for pair in [&self.admin, &self.io] {
            pair.count.store(0, Ordering::Relaxed);
            (0..2 * ENTRIES).for_each(|word| pair.completions.write(word, 0));
        }
        let last = ENTRIES as u32 - 1;
        registers.write32(AQA, last << 16 | last);
        registers.write64(ASQ, self.admin.submissions.address());
        registers.write64(ACQ, self.admin.completions.address());
        registers.write32(CC, CC_ENABLE);
        let settled = || registers.read32(CSTS) & (READY | FATAL) != 0;
        if !poll(Ticks::from_ms(5_000), settled) || registers.read32(CSTS) & FATAL != 0 {
            return Err("the controller does not get ready");
        }
        let size = last << 16 | 1;
        let queue = |opcode, pages: Pages, word: u32| {
            self.command(&self.admin, opcode, 0, [pages.address(), 0], [size, word, 0])
        };
        queue(CREATE_CQ, self.io.completions, CONTIGUOUS)?;
        queue(CREATE_SQ, self.io.submissions, CONTIGUOUS | 1 << 16)
    }

    /// Bytes of the namespace.
    pub fn size(&self) -> Result<u64, &'static str> {
        let data = [self.data.address(), 0];
        self.command(&self.admin, IDENTIFY, NAMESPACE, data, [0, 0, 0])?;
        Ok(self.data.read(0).saturating_mul(BLOCK))
    }

    /// Writes the data pages at `offset` bytes.
    pub fn write(&self, offset: u64) -> Result<(), &'static str> {
        self.transfer(WRITE, offset)
    }

    /// Reads the data pages from `offset` bytes.
    pub fn read(&self, offset: u64) -> Result<(), &'static str> {
        self.transfer(READ, offset)
    }

    /// Flushes the namespace: data that has been written survives a loss of power.
    pub fn flush(&self) -> Result<(), &'static str> {
        self.command(&self.io, FLUSH, NAMESPACE, [0, 0], [0, 0, 0])
    }

    fn transfer(&self, opcode: u32, offset: u64) -> Result<(), &'static str> {
        for page in 1..PAGES {
            let address = self.data.address() + page as u64 * PAGE_SIZE;
            self.list.write(page - 1, address);
        }
        let block = offset / BLOCK;
        let blocks = PAGES as u32 * (PAGE_SIZE / BLOCK) as u32;
        let pointers = [self.data.address(), self.list.address()];
        let words = [block as u32, (block >> 32) as u32, blocks - 1];
        self.command(&self.io, opcode, NAMESPACE, pointers, words)
    }

    /// Submits a command, and polls for its completion.
    fn command(
        &self,
        pair: &Pair,
        opcode: u32,
        namespace: u32,
        [prp1, prp2]: [u64; 2],
        [word10, word11, word12]: [u32; 3],
    ) -> Result<(), &'static str> {
        let number = pair.count.fetch_add(1, Ordering::Relaxed);
        let slot = number % ENTRIES;
        let both = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let identifier = (slot as u32) << 16;
        let entry = [
            both(opcode | identifier, namespace),
            0,
            0,
            prp1,
            prp2,
            both(word10, word11),
            both(word12, 0),
            0,
        ];
        for (index, word) in entry.into_iter().enumerate() {
            pair.submissions.write(slot * 8 + index, word);
        }
        let next = ((number + 1) % ENTRIES) as u32;
        let doorbell = DOORBELLS + 8 * pair.number;
        self.registers.write32(doorbell, next);
        // The phase of the first round is 1.
        let phase = (number / ENTRIES + 1) as u64 & 1;
        let done = || pair.completions.read(slot * 2 + 1) >> 48 & 1 == phase;
        if !poll(Ticks::from_ms(10_000), done) {
            return Err("a command does not complete");
        }
        let status = pair.completions.read(slot * 2 + 1) >> 49;
        self.registers.write32(doorbell + 4, next);
        if status == 0 { Ok(()) } else { Err("a command failed") }
    }
}
