//! The PCIe devices of the machine: ports, links that can fail, and endpoints with an address
//! translation cache (ATC).
//!
//! Sections named `PCIe` are those of the PCI Express Base Specification, Revision 6.0.
//!
//! Nothing here knows KVM, reads a clock or blocks. Calls take the time as an argument. Outputs
//! wait in queues that the caller drains.
//!
//! - [`pcie`]: configuration space, ports, and [`pcie::Hierarchy`], which routes.
//! - [`link`]: the one seam that everything between a port and a function passes.
//! - [`endpoint`]: the ATS test endpoint: registers, DMA engine, ATC.
//! - [`dma`]: how functions reach memory, with an address translation cache or without.
//! - [`nvme`]: an NVMe controller whose every access to memory can go by its ATC.
//! - [`edu`], [`iommu_testdev`]: devices of QEMU's, which other people's tests know.
//! - [`topology`]: which ports and functions there are.
//! - [`root_complex`]: units, host side and hierarchy joined.
//! - [`chipset`]: every port and address of the guest that is not RAM, around the root complex.
//! - [`config_ports`]: ports 0xcf8 and 0xcfc. [`io_apic`]: the I/O APIC. [`mod@bench`]: the ports
//!   by which a guest talks to the bench.
#![forbid(unsafe_code)]

pub mod bench;
pub mod chipset;
pub mod config_ports;
pub mod dma;
pub mod edu;
pub mod endpoint;
pub mod error;
pub mod fault;
pub mod io_apic;
pub mod iommu_testdev;
pub mod link;
pub mod nvme;
pub mod pcie;
pub mod root_complex;
#[cfg(test)]
mod testkit;
pub mod topology;

pub use error::Error;
