//! A small virtual machine monitor on KVM, made to put a guest in front of the remapping unit and
//! the PCIe hierarchy of the crates `iommu` and `devices`.
//!
//! ```text
//!   guest --KVM--> kvm::Vcpu --> bus --> machine: devices::chipset --> KVM interrupts, console
//!   timers, signals, console --> event_loop --^
//! ```
//!
//! [`qtest`] is the same machine without CPUs, driven by a script.
//!
//! Models know neither KVM nor time nor threads; this crate brings them those. Only the modules
//! `kvm::raw` and `sys` hold unsafe code.
//!
//! ```no_run
//! # fn run(config: vmm::VmConfig) -> Result<(), vmm::Error> {
//! let vm = vmm::Vm::new(config)?;
//! let exit = vm.run()?;
//! println!("status {}", exit.status());
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod acpi;
mod boot;
mod bus;
mod clock;
pub mod config;
mod console;
mod console_watch;
mod debug_console;
pub mod doctor;
mod error;
mod event_loop;
mod exit;
mod kvm;
pub mod layout;
mod machine;
mod memory;
pub mod qtest;
pub mod storage;
mod summary;
mod sys;
#[cfg(test)]
#[path = "../tests/machine/elf.rs"]
mod testkit;
mod vm;

pub use config::{Console, DebugConsole, Kernel, MemorySize, Module, VmConfig};
pub use error::Error;
pub use exit::Exit;
pub use kvm::{Activity, CpuState, FailureKind, GuestFailure, LastExit, VcpuSnapshot};
pub use summary::{Outcome, Summary};
pub use sys::{SignalFd, end_with_caller};
pub use vm::{MachineThread, StuckThread, Suspended, Vm, VmHandle};
