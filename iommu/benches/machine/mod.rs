//! A unit with tables and a ring, for measurements.

use std::hint::black_box;

use iommu::Memory;
use iommu::ats::{Access, AddressType, DmaRequest};
use iommu::event::{Tracer, UnitRole};
use iommu::ids::{Bdf, Iova, PAGE_SIZE};
use iommu::spec::control::{GlobalBits, IotlbCommand};
use iommu::spec::descriptor::{IotlbDescriptor, WaitDescriptor};
use iommu::spec::offset;
use iommu::spec::queue::QueueAddress;
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::time::Instant;
use iommu::unit::{Unit, UnitConfig};
use vm_memory::{Bytes, GuestAddress};

pub(crate) const RING: u64 = 0x100_0000;
pub(crate) const STATUS: u64 = 0x20_0000;
pub(crate) const ROOT: u64 = 0x30_0000;
pub(crate) const CONTEXTS: u64 = 0x31_0000;
pub(crate) const TABLES: u64 = 0x40_0000;
pub(crate) const FUNCTION: Bdf = Bdf::new(1, 0, 0);
pub(crate) const NOW: Instant = Instant::START;

pub(crate) struct Machine {
    pub(crate) unit: Unit,
    pub(crate) memory: Memory,
    ring: QueueAddress,
}

impl Machine {
    /// A unit with the largest ring, whose FUNCTION has pages from IOVA 0 on.
    pub(crate) fn new() -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 64 << 20)]).expect("64 MiB");
        let unit = Unit::new(UnitConfig::new(UnitRole::Guest), Tracer::none());
        let ring = QueueAddress::new().with_size(7).with_page(RING / PAGE_SIZE);
        let mut machine = Self { unit, memory, ring };
        machine.build_tables();
        machine.write64(offset::IQA, ring.into_bits());
        machine.write64(offset::RTADDR, ROOT);
        let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
        machine.write32(offset::GCMD, on.with_set_root_table(true).into_bits());
        machine
    }

    fn build_tables(&self) {
        let entry = |address: u64| {
            let entry = SecondStageEntry::new().with_read(true).with_write(true);
            entry.with_page(address / PAGE_SIZE).into_bits()
        };
        let root = RootEntry::new().with_present(true).with_page(CONTEXTS / PAGE_SIZE);
        self.poke(ROOT + u64::from(FUNCTION.bus()) * 16, root.into_bits());
        let low = ContextLow::new().with_present(true).with_page(TABLES / PAGE_SIZE);
        let slot = CONTEXTS + u64::from(FUNCTION.devfn()) * 16;
        self.poke(slot, low.into_bits());
        self.poke(slot + 8, ContextHigh::new().with_width(2).with_domain(1).into_bits());
        self.poke(TABLES, entry(TABLES + 0x1000));
        self.poke(TABLES + 0x1000, entry(TABLES + 0x2000));
        // There are 65,536 pages, more than the IOTLB holds. They share 4096 pages of memory.
        for table in 0..128 {
            let pages = TABLES + 0x3000 + table * PAGE_SIZE;
            self.poke(TABLES + 0x2000 + table * 8, entry(pages));
            for page in 0..512 {
                let number = (table * 512 + page) % 4096;
                self.poke(pages + page * 8, entry(0x200_0000 + number * PAGE_SIZE));
            }
        }
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(address)).expect("inside memory");
    }

    pub(crate) fn write32(&mut self, at: u16, value: u32) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, NOW);
    }

    fn write64(&mut self, at: u16, value: u64) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, NOW);
    }

    pub(crate) fn descriptors(&self) -> u64 {
        u64::from(self.ring.bytes() / 16)
    }

    /// Fills the ring with invalidations of one domain.
    pub(crate) fn fill_ring(&self) {
        let flush = IotlbDescriptor::new().with_granularity(2).with_domain(1).into_bits();
        for slot in 0..self.descriptors() {
            let at = GuestAddress(RING + slot * 16);
            self.memory.write_obj(flush, at).expect("inside memory");
        }
    }

    /// Translates `count` pages, which are cached then.
    pub(crate) fn touch_pages(&mut self, count: u64) {
        for page in 0..count {
            let address = self.unit.dma(&request(page * PAGE_SIZE), &self.memory, NOW);
            black_box(address.expect("mapped"));
        }
    }

    pub(crate) fn queue_off(&mut self) {
        let off = GlobalBits::new().with_translation(true);
        self.write32(offset::GCMD, off.into_bits());
    }

    /// Invalidates the whole IOTLB by register.
    pub(crate) fn flush_all(&mut self) {
        let flush = IotlbCommand::new().with_granularity(1).with_start(true).into_bits();
        self.write32(offset::IOTLB + 4, (flush >> 32) as u32);
    }
}

/// A read by FUNCTION.
pub(crate) fn request(address: u64) -> DmaRequest {
    DmaRequest {
        requester: FUNCTION,
        pasid: None,
        privileged: false,
        address: Iova(address),
        address_type: AddressType::Untranslated,
        access: Access::Read,
    }
}

/// A wait that writes 1 to STATUS.
pub(crate) fn wait() -> u128 {
    WaitDescriptor::new()
        .with_status_write(true)
        .with_status_data(1)
        .with_status_dword(STATUS >> 2)
        .into_bits()
}

/// The next page of 4096 from a linear congruential generator.
pub(crate) fn next_page(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 52) * PAGE_SIZE
}
