//! Bit layouts of PCI Express: offsets, capability ids and registers of configuration space, once
//! each. Nothing here has an effect; [`caps`](super::caps) has the behaviour.
//!
//! Offsets of a capability's registers count from the start of the capability. Bits that nothing
//! uses are left out: they read as zero.

pub mod acs;
pub mod aer;
pub mod ari;
pub mod ats;
pub mod dpc;
pub mod dsn;
pub mod express;
pub mod header;
pub mod msi;
pub mod msix;
pub mod pasid;
pub mod power;
pub mod pri;
pub mod secondary;
pub mod sriov;
