//! The CPUID leaves of each virtual CPU: those that KVM supports, plus the CPU's own APIC id and a
//! topology of one package with one thread per core.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Fits `cpuid`, which is KVM's list of what it supports, to CPU `id` of `cpus`.
pub(super) fn fit(cpuid: &mut CpuId, id: u8, cpus: u8, tsc_deadline: bool) {
    for entry in cpuid.as_mut_slice() {
        fit_entry(entry, id, cpus, tsc_deadline);
    }
}

fn fit_entry(entry: &mut kvm_cpuid_entry2, id: u8, cpus: u8, tsc_deadline: bool) {
    match entry.function {
        1 => {
            entry.ebx = entry.ebx & 0xffff | u32::from(cpus) << 16 | u32::from(id) << 24;
            entry.ecx |= feature::X2APIC | feature::HYPERVISOR;
            if tsc_deadline {
                entry.ecx |= feature::TSC_DEADLINE;
            }
            // HTT says that the count in EBX holds.
            entry.edx = with_bit(entry.edx, feature::HTT, cpus > 1);
        }
        // EAX 31:26: cores in the package, less one. 25:14: threads that share a cache, less one.
        4 if entry.eax & 0x1f != 0 => {
            entry.eax = entry.eax & 0x3fff | u32::from(cpus - 1) << 26;
        }
        0xb | 0x1f => topology(entry, id, cpus),
        // AMD: EAX is the extended APIC id, EBX the core's number with one thread each.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id.into(), id.into(), 0),
        _ => {}
    }
}

/// Leaves 0xb and 0x1f: level 0 is the threads of a core, level 1 the cores of the package.
fn topology(entry: &mut kvm_cpuid_entry2, id: u8, cpus: u8) {
    const SMT: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let id_bits = u32::from(cpus).next_power_of_two().trailing_zeros();
    (entry.eax, entry.ebx, entry.ecx) = match entry.index {
        0 => (0, 1, SMT),
        1 => (id_bits, cpus.into(), 1 | CORE),
        level => (0, 0, level),
    };
    entry.edx = id.into();
}

fn with_bit(value: u32, bit: u32, set: bool) -> u32 {
    if set { value | bit } else { value & !bit }
}

/// Bits of leaf 1.
mod feature {
    /// ECX.
    pub(super) const X2APIC: u32 = 1 << 21;
    /// ECX.
    pub(super) const TSC_DEADLINE: u32 = 1 << 24;
    /// ECX.
    pub(super) const HYPERVISOR: u32 = 1 << 31;
    /// EDX.
    pub(super) const HTT: u32 = 1 << 28;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(function: u32, index: u32, id: u8, cpus: u8) -> kvm_cpuid_entry2 {
        let mut entry =
            kvm_cpuid_entry2 { function, index, eax: 0x1234_5678, ..Default::default() };
        fit_entry(&mut entry, id, cpus, true);
        entry
    }

    #[test]
    fn every_leaf_that_has_an_apic_id_has_this_cpus() {
        for id in 0..8 {
            assert_eq!(fitted(1, 0, id, 8).ebx >> 24, u32::from(id));
            assert_eq!(fitted(0xb, 0, id, 8).edx, u32::from(id));
            assert_eq!(fitted(0xb, 1, id, 8).edx, u32::from(id));
            assert_eq!(fitted(0x8000_001e, 0, id, 8).eax, u32::from(id));
        }
    }

    #[test]
    fn the_package_has_as_many_cores_as_there_are_cpus() {
        for (cpus, bits) in [(1, 0), (2, 1), (3, 2), (8, 3)] {
            assert_eq!(fitted(1, 0, 0, cpus).ebx >> 16 & 0xff, u32::from(cpus));
            assert_eq!(fitted(4, 0, 0, cpus).eax >> 26, u32::from(cpus - 1));
            let cores = fitted(0xb, 1, 0, cpus);
            assert_eq!((cores.eax, cores.ebx, cores.ecx), (bits, u32::from(cpus), 0x201));
        }
    }
}
