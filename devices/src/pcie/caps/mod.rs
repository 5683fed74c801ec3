//! Capabilities, one in each file: which bits software may write, and what the function reads from
//! them. The layouts are in [`spec`](super::spec).
//!
//! Each type is a handle: the offset of the capability in a configuration space. Its `add` declares
//! the registers, its other methods read and set them.

pub mod acs;
pub mod aer;
pub mod ari;
pub mod ats;
pub mod dpc;
pub mod dsn;
pub mod express;
pub mod msi;
pub mod msix;
pub mod pasid;
pub mod power;
pub mod pri;
pub mod secondary;
pub mod sriov;
