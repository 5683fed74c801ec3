//! Accesses of a guest to a remapping unit, and to the chipset (`config`), from arbitrary
//! bytes: the body of the fuzz targets in `tests/fuzz`, and of the test that replays their corpora under
//! the stable toolchain.
//!
//! ```text
//! bytes --> where the unit begins --> steps: registers, memory, requests, completions, time
//! ```
//!
//! Nothing may panic or run for ever, and the registers that identify the unit must not change.

mod config;
mod shapes;

use std::time::Duration;

use iommu::Memory;
use iommu::ats::{
    Access, AddressType, DmaRequest, InvalidateCompletion, Msi, PageRequest, TranslationRequest,
};
use iommu::event::{Tracer, UnitRole};
use iommu::ids::{Bdf, Iova, PAGE_SIZE, Pasid};
use iommu::spec::control::GlobalBits;
use iommu::spec::offset;
use iommu::time::{Instant, Timeout};
use iommu::unit::{Ordering, Unit, UnitConfig};
use vm_memory::{Bytes, GuestAddress};

/// The state from which the fuzzer begins, and its most frequent steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A unit after power-on, and its registers.
    Registers,
    /// A unit with its queue on, and descriptors.
    Queue,
    /// A unit that translates; the bytes are tables.
    Tables,
    /// A unit that remaps interrupts; the bytes are its table.
    Interrupts,
    /// A hierarchy, its configuration space and its links.
    Config,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Registers, Self::Queue, Self::Tables, Self::Interrupts, Self::Config];

    /// The name of its fuzz target and of its corpus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Queue => "queue",
            Self::Tables => "tables",
            Self::Interrupts => "interrupts",
            Self::Config => "config",
        }
    }
}

const MEMORY: usize = 256 * 1024;
const RING: u64 = 0x1000;
const ROOT: u64 = 0x2000;
const INTERRUPTS: u64 = 0x3000;
/// Addresses that the bytes choose lie here: tables find each other by chance.
const PAGES: u64 = MEMORY as u64 / PAGE_SIZE;

/// Bytes that run out: then everything is 0.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        let (head, tail) = self.0.split_at(count);
        taken[..count].copy_from_slice(head);
        self.0 = tail;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn qword(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn function(&mut self) -> Bdf {
        // Few, so that tables for them come about.
        Bdf::from_bits(u16::from(self.byte() & 3) << 8 | u16::from(self.byte() & 1))
    }

    fn pasid(&mut self) -> Option<Pasid> {
        let byte = self.byte();
        (byte & 1 == 1).then_some(Pasid::new(u32::from(byte >> 1)))
    }

    /// An address: most often one of few pages.
    fn address(&mut self) -> u64 {
        let raw = self.qword();
        if raw & 7 == 0 { raw } else { (raw >> 3) % (1 << 24) }
    }
}

struct Machine {
    unit: Unit,
    memory: Memory,
    now: Instant,
    target: Target,
    /// Bytes of a descriptor.
    width: u32,
    /// The tail of the ring, as its driver knows it.
    tail: u32,
}

/// Runs one input.
///
/// # Panics
/// If unit or hierarchy have a bug: that is what this is for.
pub fn run(target: Target, bytes: &[u8]) {
    let mut input = Input(bytes);
    if target == Target::Config {
        return config::run(&mut input);
    }
    let Ok(memory) = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]) else { return };
    let choice = input.byte();
    let built = if choice & 1 == 0 { UnitConfig::new } else { UnitConfig::full };
    let ordering = match choice & 0x82 {
        0x82 => Ordering::Blocking,
        0x02 => Ordering::Parallel,
        _ => Ordering::Serial,
    };
    let ict = Timeout::After(Duration::from_secs(1));
    let config = UnitConfig { ordering, ict, ..built(UnitRole::Guest) };
    let unit = Unit::new(config, Tracer::none());
    let width = if choice & 1 == 0 { 16 } else { 32 };
    let mut machine = Machine { unit, memory, now: Instant::START, target, width, tail: 0 };
    machine.prepare(choice, &mut input);
    while !input.0.is_empty() {
        machine.step(&mut input);
    }
    let mut cap = [0; 8];
    machine.unit.read(offset::CAP.into(), &mut cap);
    assert_eq!(u64::from_le_bytes(cap), config.cap().into_bits());
    assert!(machine.read32(offset::IQH) < 1 << 19);
}

impl Machine {
    fn read32(&self, at: u16) -> u32 {
        let mut data = [0; 4];
        self.unit.read(at.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn write64(&mut self, at: u16, value: u64) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, self.now);
    }

    fn write32(&mut self, at: u16, value: u32) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, self.now);
    }

    /// Switches on what the target is about, and fills the memory that it reads.
    fn prepare(&mut self, choice: u8, input: &mut Input<'_>) {
        let scalable = u64::from(choice & 1);
        let mode = scalable << 10;
        match self.target {
            Target::Registers | Target::Config => return,
            Target::Queue => {}
            Target::Tables => self.fill_tables(input),
            Target::Interrupts => self.fill_interrupt_table(input),
        }
        self.write64(offset::IQA, RING | scalable << 11);
        self.write64(offset::RTADDR, ROOT | mode);
        self.write64(offset::IRTA, INTERRUPTS | 3);
        let latch = GlobalBits::new().with_set_root_table(true).with_set_interrupt_table(true);
        let on = latch.with_queued_invalidation(true).with_translation(true);
        self.write32(offset::GCMD, on.with_interrupt_remapping(true).into_bits());
    }

    fn fill_interrupt_table(&mut self, input: &mut Input<'_>) {
        for index in 0..8 {
            let entry = shapes::interrupt_entry(input);
            let _ = self.memory.write_obj(entry, GuestAddress(INTERRUPTS + index * 16));
        }
    }

    /// A driver's submission: up to eight descriptors, then the doorbell.
    fn submit(&mut self, input: &mut Input<'_>) {
        for _ in 0..=input.byte() & 7 {
            let descriptor = shapes::descriptor(input);
            let at = GuestAddress(RING + u64::from(self.tail));
            let _ = self.memory.write_obj(descriptor, at);
            self.tail = (self.tail + self.width) % 4096;
        }
        self.write32(offset::IQT, self.tail);
    }

    /// Entries everywhere that point to pages that exist, with low bits out of a few that the bytes
    /// choose, and some bits flipped.
    fn fill_tables(&mut self, input: &mut Input<'_>) {
        let (low, every, flip) = (input.take::<16>(), input.byte(), input.qword());
        for page in 0..PAGES {
            for slot in 0..8 {
                let number = page * 8 + slot;
                let next = (page * 5 + slot + 1) % PAGES;
                let mut entry = (next * PAGE_SIZE) | u64::from(low[number as usize % 16]);
                if number % 61 == u64::from(every) % 61 {
                    entry ^= flip;
                }
                let _ = self.memory.write_obj(entry, GuestAddress(page * PAGE_SIZE + slot * 8));
            }
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 14 {
            0 | 1 => {
                let at = u16::from_le_bytes(input.take()) & 0xffc;
                self.write32(at, input.word());
            }
            2 => {
                let at = u16::from_le_bytes(input.take()) & 0xff8;
                self.write64(at, input.qword());
            }
            3 => {
                let (at, size) = (input.qword(), usize::from(input.byte() % 20));
                let mut data = vec![0; size];
                self.unit.read(at, &mut data);
                self.unit.write(at, &data, &self.memory, self.now);
            }
            4 | 5 => {
                let at = (input.qword() % MEMORY as u64) & !7;
                let _ = self.memory.write_obj(input.qword(), GuestAddress(at));
            }
            6 | 7 => self.dma(input),
            8 => self.translate(input),
            9 => {
                let requester = Some(input.function());
                // Handles of the first entries, most often; bit 4 says that it is one.
                let address = match input.byte() {
                    byte @ 0..0xe0 => u64::from(byte & 15) << 5 | 1 << 4 | u64::from(byte >> 4) & 8,
                    _ => u64::from(input.word() & 0xf_ffff),
                };
                let message = Msi { address: 0xfee0_0000 | address, data: input.byte().into() };
                let _ = self.unit.remap_interrupt(requester, message, &self.memory, self.now);
            }
            10 => {
                let completion = InvalidateCompletion {
                    requester: input.function(),
                    itag_vector: input.word(),
                    completion_count: input.byte(),
                };
                self.unit.handle_completion(completion, &self.memory, self.now);
            }
            11 | 12 => self.submit(input),
            _ => {
                self.request_page(input);
                self.now = self.now + Duration::from_millis(input.byte().into());
                self.unit.handle_timeout(self.now);
            }
        }
        while self.unit.poll_output().is_some() {}
    }

    fn dma(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        let request = DmaRequest {
            requester: input.function(),
            pasid: input.pasid(),
            privileged: false,
            address: Iova(input.address()),
            address_type: match kind & 1 {
                0 => AddressType::Untranslated,
                _ => AddressType::Translated,
            },
            access: if kind & 2 == 0 { Access::Read } else { Access::Write },
        };
        let _ = self.unit.dma(&request, &self.memory, self.now);
    }

    fn translate(&mut self, input: &mut Input<'_>) {
        let request = TranslationRequest {
            requester: input.function(),
            pasid: input.pasid(),
            privileged: false,
            address: Iova(input.address()),
            no_write: input.byte() & 1 == 1,
        };
        let _ = self.unit.translation_request(&request, &self.memory, self.now);
    }

    fn request_page(&mut self, input: &mut Input<'_>) {
        let bits = input.byte();
        let request = PageRequest {
            requester: input.function(),
            pasid: input.pasid(),
            execute: bits & 1 != 0,
            privileged: bits & 2 != 0,
            address: Iova(input.address()),
            read: bits & 4 != 0,
            write: bits & 8 != 0,
            last: bits & 16 != 0,
            group: u16::from(input.byte()),
        };
        self.unit.handle_page_request(request, &self.memory, self.now);
    }
}
