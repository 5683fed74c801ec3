//! Descriptors, translations and submissions do not allocate, once caches and queues have reached
//! their size.

use iommu::Memory;
use iommu::ats::{
    Access, AddressType, DmaRequest, ITag, InvalidateCompletion, InvalidateRequest, PageRange,
};
use iommu::event::{Tracer, UnitRole};
use iommu::ids::{Bdf, Iova, PAGE_SIZE};
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::{DeviceTlbDescriptor, IotlbDescriptor, WaitDescriptor};
use iommu::spec::offset;
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::submit::{Flush, FlushPath, FunctionAccess, HostSide, PRESETS, Precheck, Verdict};
use iommu::time::Instant;
use iommu::unit::{Output, Unit, UnitConfig};
use vm_memory::{Bytes, GuestAddress};

const ROOT: u64 = 0x1000;
const CONTEXTS: u64 = 0x2000;
const RING: u64 = 0x3000;
const STATUS: u64 = 0x4000;
const TABLES: u64 = 0x5000;
const FUNCTION: Bdf = Bdf::new(1, 0, 0);
const NOW: Instant = Instant::START;

/// A unit whose FUNCTION has 512 pages from IOVA 0 on.
fn machine() -> (Unit, Memory) {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let poke = |at: u64, value: u64| memory.write_obj(value, GuestAddress(at)).unwrap();
    let entry = |address: u64| {
        let entry = SecondStageEntry::new().with_read(true).with_write(true);
        entry.with_page(address / PAGE_SIZE).into_bits()
    };
    let root = RootEntry::new().with_present(true).with_page(CONTEXTS / PAGE_SIZE);
    poke(ROOT + u64::from(FUNCTION.bus()) * 16, root.into_bits());
    let low = ContextLow::new().with_present(true).with_translation_type(1);
    poke(CONTEXTS, low.with_page(TABLES / PAGE_SIZE).into_bits());
    poke(CONTEXTS + 8, ContextHigh::new().with_width(1).with_domain(1).into_bits());
    poke(TABLES, entry(TABLES + PAGE_SIZE));
    poke(TABLES + PAGE_SIZE, entry(TABLES + 2 * PAGE_SIZE));
    for page in 0..512 {
        poke(TABLES + 2 * PAGE_SIZE + page * 8, entry(page % 64 * PAGE_SIZE));
    }
    let mut unit = Unit::new(UnitConfig::new(UnitRole::Guest), Tracer::none());
    let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
    for (at, value) in [
        (offset::IQA, RING as u32),
        (offset::RTADDR, ROOT as u32),
        (offset::GCMD, on.with_set_root_table(true).into_bits()),
    ] {
        unit.write(at.into(), &value.to_le_bytes(), &memory, NOW);
    }
    (unit, memory)
}

fn request(page: u64) -> DmaRequest {
    DmaRequest {
        requester: FUNCTION,
        pasid: None,
        privileged: false,
        address: Iova(page * PAGE_SIZE),
        address_type: AddressType::Untranslated,
        access: Access::Write,
    }
}

/// Translates all pages, and flushes them with the descriptors of a driver's unmap.
fn round(unit: &mut Unit, memory: &Memory, tail: &mut u32) {
    for page in 0..512 {
        unit.dma(&request(page), memory, NOW).unwrap();
    }
    let wait = WaitDescriptor::new()
        .with_status_write(true)
        .with_status_data(1)
        .with_status_dword(STATUS >> 2);
    let descriptors = [
        IotlbDescriptor::new().with_granularity(3).with_domain(1).with_mask(9).into_bits(),
        IotlbDescriptor::new().with_granularity(2).with_domain(1).into_bits(),
        DeviceTlbDescriptor::new().with_source_id(FUNCTION.into_bits()).into_bits(),
        wait.into_bits(),
    ];
    for descriptor in descriptors {
        memory.write_obj(descriptor, GuestAddress(RING + u64::from(*tail))).unwrap();
        *tail = (*tail + 16) % 4096;
    }
    unit.write(offset::IQT.into(), &tail.to_le_bytes(), memory, NOW);
    while let Some(output) = unit.poll_output() {
        if let Output::Invalidate(request) = output {
            unit.acknowledge(request.destination, request.itag, memory, NOW);
        }
    }
}

#[test]
fn descriptors_and_translations_do_not_allocate() {
    let (mut unit, memory) = machine();
    let mut tail = 0;
    round(&mut unit, &memory, &mut tail);
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            round(&mut unit, &memory, &mut tail);
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
    assert_eq!(memory.read_obj::<u32>(GuestAddress(STATUS)).unwrap(), 1);
}

/// Functions, all of which are present or gone.
struct Functions {
    are_present: bool,
}

impl FunctionAccess for Functions {
    fn is_present(&mut self, _: Bdf) -> bool {
        self.are_present
    }

    fn is_disconnected(&self, _: Bdf) -> bool {
        !self.are_present
    }
}

/// Submits an invalidation on `path`, answers it if it reaches the link, and returns the verdict.
fn submit(host: &mut HostSide, path: FlushPath, functions: &mut Functions) -> Verdict {
    let (itag, range) = (ITag::new(0), PageRange::page(Iova(PAGE_SIZE)));
    let request =
        InvalidateRequest { destination: FUNCTION, itag, pasid: None, global: false, range };
    host.submit(Flush::from(request).on(path), functions, NOW);
    while let Some(sent) = host.poll_request() {
        let completion = InvalidateCompletion {
            requester: sent.destination,
            itag_vector: sent.itag.bit(),
            completion_count: 1,
        };
        host.handle_completion(completion, functions, NOW);
    }
    host.poll_verdict().unwrap().verdict
}

#[test]
fn submissions_do_not_allocate_under_any_policy() {
    let paths = FlushPath::ALL.iter().flat_map(|path| [(*path, true), (*path, false)]);
    for preset in PRESETS {
        let policy = preset.policy();
        for (path, are_present) in paths.clone() {
            let has_precheck = policy.precheck_on(path) != Precheck::None;
            let mut functions = Functions { are_present };
            let config = UnitConfig::new(UnitRole::Host);
            let mut host = HostSide::new(config, policy.clone(), Tracer::none()).unwrap();
            let expected = match are_present || !has_precheck {
                true => Verdict::Completed,
                false => Verdict::Skipped,
            };
            for _ in 0..500 {
                let verdict = submit(&mut host, path, &mut functions);
                assert_eq!(verdict, expected, "{policy} on {path}");
            }
            let counted = allocation_counter::measure(|| {
                for _ in 0..1000 {
                    submit(&mut host, path, &mut functions);
                }
            });
            assert_eq!(counted.count_total, 0, "{policy} on {path}: {counted:?}");
        }
    }
}
