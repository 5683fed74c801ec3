//! Snapshots of running CPUs: a thread asks for one, and the CPU's own thread takes it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE};
use kvm_ioctls::VcpuFd;

/// The access for which a CPU has last left the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastExit {
    /// A read of this port.
    PortRead(u16),
    /// A write to this port.
    PortWrite(u16),
    /// A read at this address, where there is no RAM.
    MemoryRead(u64),
    /// A write at this address.
    MemoryWrite(u64),
}

impl fmt::Display for LastExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortRead(port) => write!(f, "read of port {port:#x}"),
            Self::PortWrite(port) => write!(f, "write to port {port:#x}"),
            Self::MemoryRead(address) => write!(f, "read at {address:#x}"),
            Self::MemoryWrite(address) => write!(f, "write at {address:#x}"),
        }
    }
}

impl LastExit {
    /// Two bits for the kind, the rest for the address; 0 is for none, as physical addresses have 52
    /// bits at the most.
    fn into_bits(self) -> u64 {
        let (kind, address) = match self {
            Self::PortRead(port) => (0, port.into()),
            Self::PortWrite(port) => (1, port.into()),
            Self::MemoryRead(address) => (2, address),
            Self::MemoryWrite(address) => (3, address),
        };
        1 << 63 | kind << 60 | (address & ((1 << 60) - 1))
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let address = bits & ((1 << 60) - 1);
        // A port's number comes back as it went in.
        let port = address as u16;
        (bits >> 63 == 1).then_some(match bits >> 60 & 3 {
            0 => Self::PortRead(port),
            1 => Self::PortWrite(port),
            2 => Self::MemoryRead(address),
            _ => Self::MemoryWrite(address),
        })
    }
}

/// The state of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs.
    Runs,
    /// It waits for an interrupt, after HLT.
    Halted,
    /// It waits for INIT and SIPI.
    AwaitsStart,
}

/// A CPU at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuSnapshot {
    /// The number of the CPU.
    pub cpu: u8,
    /// Its state.
    pub activity: Activity,
    /// Its instruction pointer.
    pub instruction_pointer: u64,
    /// Its last exit, if it has left the guest.
    pub last_exit: Option<LastExit>,
}

impl fmt::Display for VcpuSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, at) = (self.cpu, self.instruction_pointer);
        match self.activity {
            Activity::AwaitsStart => return write!(f, "CPU {cpu} waits for INIT and SIPI"),
            Activity::Halted => write!(f, "CPU {cpu} has halted at {at:#x}; ")?,
            Activity::Runs => write!(f, "CPU {cpu} runs at {at:#x}; ")?,
        }
        match self.last_exit {
            Some(exit) => write!(f, "its last exit was a {exit}"),
            None => f.write_str("it has not left the guest"),
        }
    }
}

/// The place at which the two threads meet.
#[derive(Debug, Default)]
pub(crate) struct VcpuProbe {
    last_exit: AtomicU64,
    wanted: AtomicBool,
    /// No other lock is taken while this one is held.
    snapshot: Mutex<Option<VcpuSnapshot>>,
    seen: Condvar,
}

impl VcpuProbe {
    /// The CPU has left the guest.
    pub(super) fn note(&self, exit: LastExit) {
        self.last_exit.store(exit.into_bits(), Ordering::Relaxed);
    }

    /// The last exit of the CPU, if it has left the guest.
    pub(crate) fn last_exit(&self) -> Option<LastExit> {
        LastExit::from_bits(self.last_exit.load(Ordering::Relaxed))
    }

    /// Takes a snapshot of the CPU, if a thread waits for one.
    pub(super) fn show_if_wanted(&self, cpu: u8, vcpu: &VcpuFd) {
        if !self.wanted.load(Ordering::Relaxed) || !self.wanted.swap(false, Ordering::Relaxed) {
            return;
        }
        let activity = match vcpu.get_mp_state().map(|state| state.mp_state) {
            Ok(KVM_MP_STATE_RUNNABLE) => Activity::Runs,
            Ok(KVM_MP_STATE_HALTED) => Activity::Halted,
            // The state is for reports: an unknown one does no harm.
            _ => Activity::AwaitsStart,
        };
        let instruction_pointer = vcpu.get_regs().map(|regs| regs.rip).unwrap_or_default();
        let last_exit = self.last_exit();
        let snapshot = VcpuSnapshot { cpu, activity, instruction_pointer, last_exit };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
        self.seen.notify_all();
    }

    /// Asks for a snapshot. The caller then kicks the CPU.
    pub(crate) fn want(&self) {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Waits for the snapshot, no longer than `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Option<VcpuSnapshot> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.seen.wait_timeout_while(snapshot, patience, |snapshot| snapshot.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_exit_survives_being_noted(port: u16, address in 0_u64..1 << 52) {
            for exit in [
                LastExit::PortRead(port),
                LastExit::PortWrite(port),
                LastExit::MemoryRead(address),
                LastExit::MemoryWrite(address),
            ] {
                prop_assert_eq!(LastExit::from_bits(exit.into_bits()), Some(exit));
            }
        }
    }

    #[test]
    fn a_sight_is_one_line() {
        let snapshot = VcpuSnapshot {
            cpu: 1,
            activity: Activity::Halted,
            instruction_pointer: 0xffff_ffff_8100_0000,
            last_exit: Some(LastExit::PortWrite(0x3f8)),
        };
        let text =
            "CPU 1 has halted at 0xffffffff81000000; its last exit was a write to port 0x3f8";
        assert_eq!(snapshot.to_string(), text);
        let last_exit = LastExit::from_bits(0);
        let waiting = VcpuSnapshot { activity: Activity::AwaitsStart, last_exit, ..snapshot };
        assert_eq!(waiting.to_string(), "CPU 1 waits for INIT and SIPI");
    }
}
