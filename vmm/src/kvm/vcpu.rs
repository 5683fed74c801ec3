//! A virtual CPU: its set-up, and the loop that runs it and answers its exits.

use std::sync::Arc;

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::failure::{FailureKind, GuestFailure};
use super::raw::{self, Kickable, PortAccess};
use super::{KvmVm, LastExit, VcpuProbe, cpuid, kick};
use crate::Error;
use crate::boot;

/// `IA32_MISC_ENABLE`, and its fast-string bit.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE`: MTRRs on, and all memory write-back, as firmware leaves it.
const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// The devices that answer a CPU's exits.
pub(crate) trait Exits {
    /// The guest reads a port; `data.len()` is the access size.
    fn port_read(&self, port: u16, data: &mut [u8]);
    /// The guest writes a port.
    fn port_write(&self, port: u16, data: &[u8]);
    /// The guest reads memory that is not RAM.
    fn memory_read(&self, address: u64, data: &mut [u8]);
    /// The guest writes memory that is not RAM.
    fn memory_write(&self, address: u64, data: &[u8]);
    /// A CPU has ended a level-triggered interrupt of the I/O APIC.
    fn end_of_interrupt(&self, vector: u8);
    /// Whether the run is over. Looked at before each entry into the guest.
    fn is_over(&self) -> bool;
}

/// A virtual CPU. Its number is its APIC id; number 0 boots the machine.
#[derive(Debug)]
pub(crate) struct Vcpu {
    id: u8,
    fd: VcpuFd,
    // Keeps the guest's memory mapped for as long as the CPU can run.
    vm: Arc<KvmVm>,
    probe: Arc<VcpuProbe>,
}

impl Vcpu {
    /// Makes CPU `id` of `cpus`.
    pub(crate) fn new(vm: Arc<KvmVm>, id: u8, cpus: u8) -> Result<Self, Error> {
        let fd = vm.create_vcpu(id)?;
        let mut cpuid = vm.supported_cpuid()?;
        cpuid::fit(&mut cpuid, id, cpus, vm.has_tsc_deadline());
        fd.set_cpuid2(&cpuid).map_err(Error::kvm("set the CPUID leaves"))?;
        let msrs = [MISC_ENABLE, MTRR_DEF_TYPE];
        let msrs = msrs.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
        let msrs = Msrs::from_entries(&msrs).map_err(|error| Error::Host {
            action: "list the model-specific registers",
            source: std::io::Error::other(format!("{error:?}")),
        })?;
        fd.set_msrs(&msrs).map_err(Error::kvm("set the model-specific registers"))?;
        Ok(Self { id, fd, vm, probe: Arc::default() })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u8 {
        self.id
    }

    /// The probe, by which other threads read the CPU's state while it runs.
    pub(crate) fn probe(&self) -> Arc<VcpuProbe> {
        self.probe.clone()
    }

    /// Makes it the one that starts.
    pub(crate) fn start_at(&self, start: boot::Start) -> Result<(), Error> {
        let mut sregs = self.fd.get_sregs().map_err(Error::kvm("read the system registers"))?;
        boot::configure_sregs(&mut sregs, start);
        self.fd.set_sregs(&sregs).map_err(Error::kvm("set the system registers"))?;
        let regs = boot::configure_registers(start);
        self.fd.set_regs(&regs).map_err(Error::kvm("set the general registers"))?;
        let fpu = boot::configure_fpu();
        self.fd.set_fpu(&fpu).map_err(Error::kvm("set the floating-point registers"))
    }

    /// Switches its local APIC on, as firmware does: by the enable bit of the Spurious-Interrupt Vector
    /// Register.
    pub(crate) fn enable_local_apic(&self) -> Result<(), Error> {
        const SPURIOUS: usize = 0xf0;
        let mut state = self.fd.get_lapic().map_err(Error::kvm("read the local APIC"))?;
        // Bits 7:0 are the vector, which stays 0xff; bit 8 is the enable bit.
        state.regs[SPURIOUS + 1] |= 1;
        self.fd.set_lapic(&state).map_err(Error::kvm("set the local APIC"))
    }

    /// The frequency of its time stamp counter in kHz.
    pub(crate) fn tsc_khz(&self) -> Result<u32, Error> {
        self.fd.get_tsc_khz().map_err(Error::kvm("tell the TSC frequency"))
    }

    /// Runs it on this thread until the run is over or it cannot go on.
    pub(crate) fn run(self, exits: &impl Exits) -> Result<(), Error> {
        let Self { id, fd, vm, probe } = self;
        let mut kickable = Kickable::new(fd);
        kick::accept_kicks()?;
        while !exits.is_over() {
            // Before it enters: a kick that came before this thread could take any is lost, and what it
            // was for is not.
            probe.show_if_wanted(id, kickable.vcpu());
            enter(id, kickable.vcpu(), &vm, exits, &probe)?;
        }
        Ok(())
    }
}

/// Enters the guest once, and answers the exit.
fn enter(
    id: u8,
    fd: &mut VcpuFd,
    vm: &KvmVm,
    exits: &impl Exits,
    probe: &VcpuProbe,
) -> Result<(), Error> {
    let kind = match fd.run() {
        Ok(VcpuExit::MmioRead(address, data)) => {
            probe.note(LastExit::MemoryRead(address));
            exits.memory_read(address, data);
            return Ok(());
        }
        Ok(VcpuExit::MmioWrite(address, data)) => {
            probe.note(LastExit::MemoryWrite(address));
            exits.memory_write(address, data);
            return Ok(());
        }
        Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => {
            if let Some(access) = raw::port_access(fd) {
                let kind = if access.read { LastExit::PortRead } else { LastExit::PortWrite };
                probe.note(kind(access.port));
                answer_port_access(access, exits);
            }
            return Ok(());
        }
        Ok(VcpuExit::IoapicEoi(vector)) => {
            exits.end_of_interrupt(vector);
            return Ok(());
        }
        Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen) => return Ok(()),
        Err(error) if error.errno() == libc::EINTR => {
            // The reason for a kick is set before the kick, and is looked at after this.
            fd.set_kvm_immediate_exit(0);
            return Ok(());
        }
        // The CPU was woken up and still waits for its start-up interrupt.
        Err(error) if error.errno() == libc::EAGAIN => return Ok(()),
        Err(error) => return Err(Error::kvm("run a virtual CPU")(error)),
        Ok(VcpuExit::Shutdown) => FailureKind::TripleFault,
        Ok(VcpuExit::FailEntry(reason, _)) => FailureKind::FailedEntry { reason },
        Ok(VcpuExit::InternalError) => return Err(internal_error(id, fd, vm)),
        Ok(other) => FailureKind::UnknownExit { exit: format!("{other:?}") },
    };
    Err(failure(id, kind, Vec::new(), fd, vm))
}

fn answer_port_access(access: PortAccess<'_>, exits: &impl Exits) {
    for data in access.data.chunks_exact_mut(access.size.max(1)) {
        if access.read {
            exits.port_read(access.port, data);
        } else {
            exits.port_write(access.port, data);
        }
    }
}

fn internal_error(id: u8, fd: &mut VcpuFd, vm: &KvmVm) -> Error {
    let error = raw::internal_error(fd);
    let kind = match error.suberror {
        kvm_bindings::KVM_INTERNAL_ERROR_EMULATION => FailureKind::Emulation,
        suberror => FailureKind::Internal { suberror },
    };
    failure(id, kind, error.instruction, fd, vm)
}

fn failure(id: u8, kind: FailureKind, instruction: Vec<u8>, fd: &VcpuFd, vm: &KvmVm) -> Error {
    Error::Guest(Box::new(GuestFailure::collect(id, kind, instruction, fd, vm)))
}
