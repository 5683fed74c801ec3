//! The places where KVM's interface needs unsafe code: memory slots, and the page (`kvm_run`)
//! that kernel and monitor share for each virtual CPU.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use iommu::Memory;
use kvm_bindings::{
    KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_userspace_memory_region,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// A VM together with the memory that it runs in.
///
/// The two are in one type so that the memory cannot be unmapped while a guest may touch it.
#[derive(Debug)]
pub(super) struct VmWithMemory {
    // Dropped before the memory is. Virtual CPUs keep the kernel's VM alive beyond this, which is
    // why each of them keeps a reference to this struct too.
    vm: VmFd,
    memory: Memory,
}

impl VmWithMemory {
    /// Makes `memory` the RAM of `vm`.
    pub(super) fn new(vm: VmFd, memory: Memory) -> Result<Self, kvm_ioctls::Error> {
        let this = Self { vm, memory };
        for (slot, region) in (0..).zip(this.memory.iter()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the region describes memory that `this.memory` has mapped, for
            // volatile accesses only, and that stays mapped for as long as `this.vm` lives.
            unsafe { this.vm.set_user_memory_region(region)? };
        }
        Ok(this)
    }

    pub(super) fn vm(&self) -> &VmFd {
        &self.vm
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }
}

/// The port access that has made the CPU exit: one or more (REP) accesses of the same size.
pub(super) struct PortAccess<'a> {
    /// The port.
    pub port: u16,
    /// Whether the guest reads.
    pub read: bool,
    /// Bytes of each access: 1, 2 or 4.
    pub size: usize,
    /// All accesses' data, one behind the other.
    pub data: &'a mut [u8],
}

/// The port access that `vcpu` last exited with, `None` if it was another exit.
///
/// `VcpuExit::IoIn` and `IoOut` do not tell a four-byte access from four one-byte ones.
pub(super) fn port_access(vcpu: &mut VcpuFd) -> Option<PortAccess<'_>> {
    let run = ptr::from_mut(vcpu.get_kvm_run());
    // SAFETY: `run` points to the page that `vcpu` has mapped and that outlives this function's
    // result, which borrows `vcpu`. While the CPU is not running no other code writes there, and
    // the CPU cannot run while it is borrowed.
    let (reason, io) = unsafe { ((*run).exit_reason, (*run).__bindgen_anon_1.io) };
    if reason != KVM_EXIT_IO {
        return None;
    }
    let size = usize::from(io.size);
    let length = size.checked_mul(io.count as usize)?;
    let offset = usize::try_from(io.data_offset).ok()?;
    // SAFETY: the exit reason says that the kernel has filled `io` in: `data_offset` lies in the
    // pages behind `run`, mapped by `vcpu` as well, and `length` bytes follow there.
    let data = unsafe { std::slice::from_raw_parts_mut(run.cast::<u8>().add(offset), length) };
    Some(PortAccess { port: io.port, read: u32::from(io.direction) == KVM_EXIT_IO_IN, size, data })
}

/// An internal error of KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InternalError {
    /// Its kind, `KVM_INTERNAL_ERROR_*`.
    pub suberror: u32,
    /// The bytes of the instruction that it could not emulate, if it has them.
    pub instruction: Vec<u8>,
}

/// The error that `vcpu` last exited with. Only means something after `KVM_EXIT_INTERNAL_ERROR`.
pub(super) fn internal_error(vcpu: &mut VcpuFd) -> InternalError {
    let data = vcpu.get_kvm_run().__bindgen_anon_1;
    // SAFETY: both members and the one inside are plain integers, for which any bits are valid.
    let (failure, bytes) = unsafe {
        let failure = data.emulation_failure;
        (failure, failure.__bindgen_anon_1.__bindgen_anon_1)
    };
    let flag = u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
    // `ndata` counts 64-bit words: the flags, then two with the instruction.
    let given = failure.suberror == KVM_INTERNAL_ERROR_EMULATION
        && failure.ndata >= 3
        && failure.flags & flag != 0;
    let size = if given { usize::from(bytes.insn_size).min(bytes.insn_bytes.len()) } else { 0 };
    InternalError { suberror: failure.suberror, instruction: bytes.insn_bytes[..size].to_vec() }
}

thread_local! {
    /// The flag of the virtual CPU that this thread runs; null if it runs none.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// A virtual CPU that [`request_immediate_exit`] on this thread reaches for as long as this lives.
#[derive(Debug)]
pub(super) struct Kickable {
    vcpu: VcpuFd,
    /// Neither `Send` nor `Sync`: it is about the thread that made it.
    _thread: PhantomData<*mut u8>,
}

impl Kickable {
    /// Makes this thread the one that runs `vcpu`.
    pub(super) fn new(mut vcpu: VcpuFd) -> Self {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Self { vcpu, _thread: PhantomData }
    }

    pub(super) fn vcpu(&mut self) -> &mut VcpuFd {
        &mut self.vcpu
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

/// Makes this thread's CPU leave the guest at once, or not enter it. Async-signal-safe.
pub(super) fn request_immediate_exit() {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: not null means that a `Kickable` of this thread lives, and with it the
        // mapping. The flag is a byte that the kernel reads when the CPU enters the guest.
        unsafe { flag.write_volatile(1) };
    }
}
