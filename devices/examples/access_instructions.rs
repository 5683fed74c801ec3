//! Makes one kind of access so many times, by the chipset or by the root complex in it, for counting
//! instructions:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     target/release/examples/access_instructions chipset CASE ROUNDS
//! ```
//!
//! The cases are `doorbell` (IQT, nothing new), `flush` (an IOTLB invalidation and a wait) and `read`
//! (FSTS). The difference between two numbers of rounds, divided by their difference, is one round.

use devices::chipset::{Chipset, ChipsetConfig, map};
use devices::root_complex::{RootComplex, RootComplexConfig};
use devices::topology::Media;
use iommu::Memory;
use iommu::event::{Tracer, UnitRole};
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::{IotlbDescriptor, WaitDescriptor, kind};
use iommu::spec::offset;
use iommu::time::Instant;
use iommu::unit::UnitConfig;
use vm_memory::{Bytes, GuestAddress};

const RING: u64 = 0x1000;
const NOW: Instant = Instant::START;

/// Where accesses to the unit's page go.
enum Target {
    Chipset(Box<Chipset>),
    RootComplex(Box<RootComplex>),
}

impl Target {
    fn write(&mut self, register: u16, data: &[u8]) {
        match self {
            Self::Chipset(chipset) => {
                chipset.memory_write(map::UNIT.start + u64::from(register), data, NOW);
                while chipset.poll_output().is_some() {}
            }
            Self::RootComplex(complex) => {
                complex.unit_write(register.into(), data, NOW);
                while complex.poll_interrupt().is_some() {}
                while complex.poll_line().is_some() {}
            }
        }
    }

    fn read(&mut self, register: u16) -> u32 {
        let mut data = [0; 4];
        match self {
            Self::Chipset(chipset) => {
                chipset.memory_read(map::UNIT.start + u64::from(register), &mut data, NOW);
            }
            Self::RootComplex(complex) => complex.unit_read(register.into(), &mut data),
        }
        u32::from_le_bytes(data)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, case, rounds] = &arguments[..] else {
        return eprintln!("usage: access_instructions chipset|root-complex CASE ROUNDS");
    };
    let rounds: u32 = rounds.parse().expect("ROUNDS is a number");
    let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("there is memory");
    let policy = "linux".parse().expect("there is such a policy");
    let root_complex = RootComplexConfig::forwarded(policy, UnitConfig::new(UnitRole::Host));
    let (media, tracer) = (&mut Media::new(), Tracer::none());
    let mut target = match target.as_str() {
        "chipset" => {
            let config = ChipsetConfig { root_complex, memory: 1 << 20, cpus: 1, tsc_khz: 0 };
            let chipset = Chipset::new(config, media, memory.clone(), tracer);
            Target::Chipset(Box::new(chipset.expect("it can be built")))
        }
        _ => {
            let complex = RootComplex::with_media(root_complex, media, memory.clone(), tracer);
            Target::RootComplex(Box::new(complex.expect("it can be built")))
        }
    };
    let iotlb = IotlbDescriptor::new().with_kind(kind::IOTLB).with_granularity(1);
    let wait = WaitDescriptor::new().with_status_write(true).with_status_dword(0x8000 / 4);
    for slot in 0..256 {
        let descriptor = if slot % 2 == 0 { iotlb.into_bits() } else { wait.into_bits() };
        let at = GuestAddress(RING + slot * 16);
        memory.write_obj(descriptor, at).expect("the ring is in memory");
    }
    target.write(offset::IQA, &RING.to_le_bytes());
    let on = GlobalBits::new().with_queued_invalidation(true).into_bits();
    target.write(offset::GCMD, &on.to_le_bytes());
    let mut sum = 0_u64;
    for round in 0..rounds {
        match case.as_str() {
            "doorbell" => target.write(offset::IQT, &0_u32.to_le_bytes()),
            "flush" => target.write(offset::IQT, &((round + 1) * 32 % 4096).to_le_bytes()),
            _ => sum += u64::from(target.read(offset::FSTS)),
        }
    }
    println!("{sum}");
}
