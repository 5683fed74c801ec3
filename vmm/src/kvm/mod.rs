//! The use of KVM.
//!
//! ```text
//!   vm           /dev/kvm, memory slots, split interrupt controller
//!   vcpu         one virtual CPU: its set-up, and the loop that runs it and answers its exits
//!   cpuid        what CPUID tells each of them
//!   interrupts   messages in, end-of-interrupt routes
//!   kick         getting a thread out of the guest
//!   failure      the state of a CPU that could not go on
//!   probe        snapshots of running CPUs
//!   raw          the unsafe part of all that
//! ```

mod cpuid;
mod failure;
mod interrupts;
mod kick;
mod probe;
mod raw;
mod vcpu;
mod vm;

pub use failure::{CpuState, FailureKind, GuestFailure};
pub(crate) use interrupts::{Injector, InterruptSink, Routes};
pub(crate) use kick::{kick, prepare_kicks};
pub(crate) use probe::VcpuProbe;
pub use probe::{Activity, LastExit, VcpuSnapshot};
pub(crate) use vcpu::{Exits, Vcpu};
pub(crate) use vm::{KvmVm, limits};
