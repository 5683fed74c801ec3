//! Capabilities, one per file: the layout of its registers, how software may write them, and what
//! the function needs to know of what was written.
//!
//! Each type here is a handle: the offset at which the capability was put into a configuration
//! space. Its `add` declares the registers, its other methods read them.

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
pub mod sriov;
