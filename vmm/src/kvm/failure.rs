//! The state of a virtual CPU that could not go on, for its report.

use std::fmt;

use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

use super::KvmVm;

/// The longest x86 instruction.
const INSTRUCTION_MAX: usize = 15;
const PAGE_SIZE: u64 = 4096;

/// Why a virtual CPU could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// KVM had to emulate an instruction and does not know it.
    Emulation,
    /// An exception happened while the double-fault handler was being called.
    TripleFault,
    /// The processor refused the guest's state.
    FailedEntry {
        /// The processor's reason.
        reason: u64,
    },
    /// KVM's own error, `KVM_INTERNAL_ERROR_*`.
    Internal {
        /// The number after `KVM_INTERNAL_ERROR_`.
        suberror: u32,
    },
    /// An exit that this monitor knows nothing of.
    UnknownExit {
        /// The exit, as `kvm-ioctls` prints it.
        exit: String,
    },
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulation => f.write_str("KVM cannot emulate an instruction"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::FailedEntry { reason } => {
                write!(f, "the processor refused to enter the guest (reason {reason:#x})")
            }
            Self::Internal { suberror } => write!(f, "internal error {suberror} of KVM"),
            Self::UnknownExit { exit } => write!(f, "unexpected exit {exit}"),
        }
    }
}

/// The registers of a CPU that has stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuState {
    /// General registers, RIP and RFLAGS.
    pub registers: kvm_regs,
    /// Segment, control and system registers.
    pub system: kvm_sregs,
}

impl fmt::Display for CpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, s) = (&self.registers, &self.system);
        let rows = [
            [("rip", r.rip), ("rflags", r.rflags), ("rsp", r.rsp), ("rbp", r.rbp)],
            [("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx), ("rdx", r.rdx)],
            [("rsi", r.rsi), ("rdi", r.rdi), ("r8", r.r8), ("r9", r.r9)],
            [("r10", r.r10), ("r11", r.r11), ("r12", r.r12), ("r13", r.r13)],
            [("r14", r.r14), ("r15", r.r15), ("cr0", s.cr0), ("cr2", s.cr2)],
            [("cr3", s.cr3), ("cr4", s.cr4), ("efer", s.efer), ("cs", s.cs.selector.into())],
        ];
        for (index, row) in rows.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            f.write_str(separator)?;
            for (name, value) in row {
                write!(f, "  {name:>6} {value:016x}")?;
            }
        }
        Ok(())
    }
}

/// A virtual CPU that cannot go on.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestFailure {
    /// The number of the CPU.
    pub cpu: u8,
    /// The reason.
    pub kind: FailureKind,
    /// The bytes at its instruction pointer, as far as they could be read.
    pub instruction: Vec<u8>,
    /// Its registers.
    pub state: CpuState,
}

impl fmt::Display for GuestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, kind, rip) = (self.cpu, &self.kind, self.state.registers.rip);
        write!(f, "CPU {cpu} cannot go on: {kind} at {rip:#x}, bytes")?;
        if self.instruction.is_empty() {
            f.write_str(" unreadable")?;
        }
        for byte in &self.instruction {
            write!(f, " {byte:02x}")?;
        }
        if *kind == FailureKind::Emulation {
            f.write_str("; 'ghostlink doctor' tells what else this host's KVM cannot do")?;
        }
        write!(f, "\n{}", self.state)
    }
}

impl GuestFailure {
    /// Looks at `vcpu`; `instruction` is what KVM has said itself.
    pub(super) fn collect(
        cpu: u8,
        kind: FailureKind,
        instruction: Vec<u8>,
        vcpu: &VcpuFd,
        vm: &KvmVm,
    ) -> Self {
        // This is a report of a failure: what cannot be had is left out.
        let registers = vcpu.get_regs().unwrap_or_default();
        let system = vcpu.get_sregs().unwrap_or_default();
        let state = CpuState { registers, system };
        let instruction = if instruction.is_empty() {
            read_instruction(vcpu, vm, system.cs.base.wrapping_add(registers.rip))
        } else {
            instruction
        };
        Self { cpu, kind, instruction, state }
    }
}

/// The bytes at linear address `start`, through the guest's page tables, up to where one ends.
fn read_instruction(vcpu: &VcpuFd, vm: &KvmVm, start: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(INSTRUCTION_MAX);
    while bytes.len() < INSTRUCTION_MAX {
        let Some(linear) = start.checked_add(bytes.len() as u64) else { break };
        let Ok(translation) = vcpu.translate_gva(linear) else { break };
        if translation.valid == 0 {
            break;
        }
        let in_page = usize::try_from(PAGE_SIZE - linear % PAGE_SIZE).unwrap_or(1);
        let mut piece = vec![0; in_page.min(INSTRUCTION_MAX - bytes.len())];
        let address = GuestAddress(translation.physical_address);
        if vm.memory().read_slice(&mut piece, address).is_err() {
            break;
        }
        bytes.extend(piece);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_cause_the_bytes_and_all_registers() {
        let registers = kvm_regs { rip: 0x10_0004, r15: 0xfeed, ..Default::default() };
        let system = kvm_sregs { cr3: 0x9000, ..Default::default() };
        let failure = GuestFailure {
            cpu: 1,
            kind: FailureKind::Emulation,
            instruction: vec![0x66, 0x0f, 0x6e, 0xc0],
            state: CpuState { registers, system },
        };
        let text = failure.to_string();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "CPU 1 cannot go on: KVM cannot emulate an instruction at 0x100004, bytes 66 0f 6e c0; \
             'ghostlink doctor' tells what else this host's KVM cannot do"
        );
        assert!(text.contains("r15 000000000000feed"), "{text}");
        assert!(text.contains("cr3 0000000000009000"), "{text}");
    }

    #[test]
    fn a_failure_without_bytes_says_so() {
        let failure = GuestFailure {
            cpu: 0,
            kind: FailureKind::TripleFault,
            instruction: Vec::new(),
            state: CpuState::default(),
        };
        assert!(
            failure
                .to_string()
                .starts_with("CPU 0 cannot go on: triple fault at 0x0, bytes unreadable\n")
        );
    }
}
