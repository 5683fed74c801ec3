//! The unit survives all guest input.

use proptest::prelude::*;

use super::*;
use crate::ats::{Access, AddressType, DmaRequest, PageRequest, TranslationRequest};
use crate::ids::{Iova, Pasid};

#[derive(Debug, Clone)]
enum Step {
    Write(u16, u64, bool),
    Access(u64, usize),
    Memory(u64, u64),
    Dma(u16, u64, Option<u32>, bool, bool),
    Translate(u16, u64, Option<u32>, bool),
    Completion(u16, u32, u8),
    PageRequest(u16, u64, Option<u32>, u16),
    Pass(u64),
}

/// Offsets of registers more often than of holes.
fn register() -> impl Strategy<Value = u16> {
    let known = [
        offset::GCMD,
        offset::RTADDR,
        offset::CCMD,
        offset::FSTS,
        offset::FECTL,
        offset::IQT,
        offset::IQA,
        offset::ICS,
        offset::IECTL,
        offset::PQH,
        offset::PQT,
        offset::PQA,
        offset::PRS,
        offset::PECTL,
        offset::IVA,
        offset::IOTLB,
        offset::FRCD + 12,
    ];
    prop_oneof![4 => proptest::sample::select(known.to_vec()), 1 => (0_u16..0x400).prop_map(|at| at * 4)]
}

/// Small numbers, addresses in memory, or any value.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0_u64..MEMORY as u64,
        (0_u64..64).prop_map(|bit| 1 << bit),
        Just(0),
        Just(u64::MAX)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pasid = || proptest::option::of(0_u32..4);
    prop_oneof![
        8 => (register(), value(), any::<bool>()).prop_map(|(at, v, q)| Step::Write(at, v, q)),
        1 => (any::<u64>(), 0_usize..17).prop_map(|(at, n)| Step::Access(at, n)),
        6 => (0_u64..MEMORY as u64, value()).prop_map(|(at, v)| Step::Memory(at, v)),
        2 => (0_u16..0x300, value(), pasid(), any::<bool>(), any::<bool>())
            .prop_map(|(f, a, p, w, t)| Step::Dma(f, a, p, w, t)),
        2 => (0_u16..0x300, value(), pasid(), any::<bool>())
            .prop_map(|(f, a, p, n)| Step::Translate(f, a, p, n)),
        2 => (0_u16..0x300, any::<u32>(), any::<u8>())
            .prop_map(|(f, v, c)| Step::Completion(f, v, c)),
        2 => (0_u16..0x300, value(), pasid(), any::<u16>())
            .prop_map(|(f, a, p, g)| Step::PageRequest(f, a, p, g)),
        1 => (0_u64..1 << 40).prop_map(Step::Pass),
    ]
}

fn run(rig: &mut Rig, step: Step) {
    let access = |write| if write { Access::Write } else { Access::Read };
    match step {
        Step::Write(at, value, true) => rig.write64(at & !7, value),
        Step::Write(at, value, false) => rig.write32(at, value as u32),
        Step::Access(at, size) => {
            let mut data = vec![0; size];
            rig.unit.read(at, &mut data);
            rig.unit.write(at, &data, &rig.memory, rig.now);
        }
        Step::Memory(at, value) => {
            let _ = rig.memory.write_obj(value, GuestAddress(at & !7));
        }
        Step::Dma(function, address, pasid, write, translated) => {
            let request = DmaRequest {
                requester: Bdf::from_bits(function),
                pasid: pasid.map(Pasid::new),
                privileged: false,
                address: Iova(address),
                address_type: match translated {
                    true => AddressType::Translated,
                    false => AddressType::Untranslated,
                },
                access: access(write),
            };
            let _ = rig.unit.dma(&request, &rig.memory, rig.now);
        }
        Step::Translate(function, address, pasid, no_write) => {
            let request = TranslationRequest {
                requester: Bdf::from_bits(function),
                pasid: pasid.map(Pasid::new),
                privileged: false,
                address: Iova(address),
                no_write,
            };
            let _ = rig.unit.translation_request(&request, &rig.memory, rig.now);
        }
        Step::Completion(function, itag_vector, completion_count) => {
            let requester = Bdf::from_bits(function);
            let completion = InvalidateCompletion { requester, itag_vector, completion_count };
            rig.unit.handle_completion(completion, &rig.memory, rig.now);
        }
        Step::PageRequest(function, address, pasid, group) => {
            let request = PageRequest {
                requester: Bdf::from_bits(function),
                pasid: pasid.map(Pasid::new),
                execute: address & 1 != 0,
                privileged: address & 2 != 0,
                address: Iova(address),
                read: group & 1 != 0,
                write: group & 2 != 0,
                last: group & 4 != 0,
                group,
            };
            rig.unit.handle_page_request(request, &rig.memory, rig.now);
        }
        Step::Pass(nanos) => rig.pass(Duration::from_nanos(nanos)),
    }
    rig.outputs();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_register_write_panics_or_hangs(
        steps in proptest::collection::vec(step(), 1..80),
        scalable: bool,
        order in 0_usize..Ordering::ALL.len(),
    ) {
        let ordering = Ordering::ALL[order];
        let built = if scalable { UnitConfig::full } else { UnitConfig::new };
        let ict = Timeout::After(Duration::from_secs(1));
        let config = UnitConfig { ordering, ict, ..built(UnitRole::Guest) };
        let mut rig = Rig::with(config);
        for step in steps {
            run(&mut rig, step);
        }
        // The identity of the unit has not changed.
        prop_assert_eq!(rig.read64(offset::CAP), config.cap().into_bits());
        prop_assert_eq!(rig.read64(offset::ECAP), config.ecap().into_bits());
    }
}

#[test]
fn accesses_of_other_sizes_read_as_all_ones_and_write_nothing() {
    let mut rig = Rig::new();
    for (at, size) in [(0_u64, 1), (0, 2), (0x20, 3), (0x22, 4), (0x24, 8), (4096, 4), (0x20, 16)] {
        let mut data = vec![0; size];
        rig.unit.read(at, &mut data);
        assert!(data.iter().all(|byte| *byte == 0xff), "{size} bytes at {at:#x}");
        rig.unit.write(at, &vec![0xff; size], &rig.memory, rig.now);
        assert_eq!(rig.read64(offset::RTADDR), 0);
    }
}
