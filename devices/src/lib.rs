//! The PCIe devices of the machine: ports, links that can fail, and endpoints with an address
//! translation cache (ATC).
//!
//! Sections named `PCIe` are those of the PCI Express Base Specification, Revision 6.0.
//!
//! Nothing here knows KVM, reads a clock or blocks. Calls take the time as an argument. Outputs
//! wait in queues that the caller drains.
//!
//! - [`pcie`]: configuration space, ports, links, and [`pcie::Hierarchy`], which routes.
//! - [`endpoint`]: the ATS test endpoint: registers, DMA engine, ATC.
//! - [`dma`]: requests of functions for memory, with an ATC or without.
//! - [`nvme`]: an NVMe controller that can use an ATC for each access to memory.
//! - [`edu`], [`iommu_testdev`]: QEMU's test devices, which other test suites use.
//! - [`topology`]: the description of ports and functions.
//! - [`root_complex`]: units, host side and hierarchy, connected.
//! - [`chipset`]: the ports and addresses of the guest other than RAM, around the root complex.
//! - [`config_ports`]: ports 0xcf8 and 0xcfc. [`io_apic`]: the I/O APIC. [`hpet`]: the timers.
//!   [`mod@bench`]: the ports of the bench, for the guest.
//! - [`fault`]: faults of links and functions, and their schedule.
//! - [`stale`]: an oracle that finds DMA by translations that should be gone.
#![forbid(unsafe_code)]

pub mod bench;
pub mod chipset;
pub mod config_ports;
pub mod dma;
pub mod edu;
pub mod endpoint;
pub mod error;
pub mod fault;
pub mod hpet;
pub mod io_apic;
pub mod iommu_testdev;
pub mod nvme;
pub mod pcie;
pub mod root_complex;
pub mod rtc;
pub mod stale;
#[cfg(test)]
mod testkit;
pub mod topology;

pub use error::Error;
