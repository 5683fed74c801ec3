//! The VM: memory, and an interrupt controller that is split between KVM (local APICs) and the
//! monitor (I/O APIC), so that the I/O APIC's messages can be remapped.

use std::io;
use std::sync::Arc;

use iommu::Memory;
use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API, KVM_MAX_CPUID_ENTRIES,
    KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK, KVM_X2APIC_API_USE_32BIT_IDS, kvm_enable_cap,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::raw::VmWithMemory;
use crate::Error;
use crate::layout;

/// Pins of the I/O APIC.
const IO_APIC_PINS: u64 = 24;

/// A VM of KVM.
#[derive(Debug)]
pub(crate) struct KvmVm {
    kvm: Kvm,
    inner: VmWithMemory,
}

impl KvmVm {
    /// Makes a VM that runs in `memory`.
    pub(crate) fn new(memory: Memory) -> Result<Arc<Self>, Error> {
        let kvm = open()?;
        let vm = kvm.create_vm().map_err(Error::kvm("make a virtual machine"))?;
        // Both only matter to Intel processors without "unrestricted guest", and must come
        // before the first CPU.
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(Error::kvm("set the identity-map address"))?;
        vm.set_tss_address(layout::KVM_TSS).map_err(Error::kvm("set the TSS address"))?;
        let mut split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
        split.args[0] = IO_APIC_PINS;
        vm.enable_cap(&split).map_err(Error::kvm("split the interrupt controller"))?;
        // Destinations of interrupts have 32 bits, and 0xff is one of them.
        let mut wide = kvm_enable_cap { cap: KVM_CAP_X2APIC_API, ..Default::default() };
        wide.args[0] =
            u64::from(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
        vm.enable_cap(&wide).map_err(Error::kvm("use 32-bit APIC ids"))?;
        let inner = VmWithMemory::new(vm, memory).map_err(Error::kvm("take the guest's memory"))?;
        Ok(Arc::new(Self { kvm, inner }))
    }

    pub(super) fn fd(&self) -> &VmFd {
        self.inner.vm()
    }

    pub(super) fn memory(&self) -> &Memory {
        self.inner.memory()
    }

    pub(super) fn create_vcpu(&self, id: u8) -> Result<VcpuFd, Error> {
        self.fd().create_vcpu(id.into()).map_err(Error::kvm("make a virtual CPU"))
    }

    /// The CPUID leaves that KVM supports.
    pub(super) fn supported_cpuid(&self) -> Result<CpuId, Error> {
        self.kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(Error::kvm("list the supported CPUID leaves"))
    }

    /// Whether local APICs have the TSC deadline timer, which the CPUID list leaves out.
    pub(super) fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }
}

/// The version of KVM's interface, and how many virtual CPUs it recommends at the most.
///
/// # Errors
/// Those of [`KvmVm::new`]: KVM does not exist, or lacks a capability that is needed.
pub(crate) fn limits() -> Result<(i32, usize), Error> {
    let kvm = open()?;
    Ok((kvm.get_api_version(), kvm.get_nr_vcpus()))
}

fn open() -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => Error::NoKvm,
        libc::EACCES | libc::EPERM => Error::KvmPermission,
        _ => Error::Host { action: "open /dev/kvm", source: io::Error::from(error) },
    })?;
    if kvm.get_api_version() != KVM_API_VERSION as i32 {
        return Err(Error::NoKvm);
    }
    let needed = [
        (Cap::SplitIrqchip, "the split interrupt controller"),
        (Cap::X2ApicApi, "32-bit APIC ids"),
        (Cap::SignalMsi, "direct message-signalled interrupts"),
        (Cap::IrqRouting, "interrupt routing"),
        (Cap::ImmediateExit, "immediate exits"),
    ];
    match needed.into_iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(Error::KvmLacks(name)),
        None => Ok(kvm),
    }
}
