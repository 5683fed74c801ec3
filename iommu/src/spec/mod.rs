//! Bit layouts of the VT-d architecture, revision 4.1: what the registers, descriptors and tables
//! look like. Nothing here has an effect.

pub mod capability;
pub mod control;
pub mod descriptor;
pub mod fault;
pub mod interrupt;
pub mod offset;
pub mod page_request;
pub mod queue;
pub mod tables;
