//! Bit layouts of registers, descriptors and tables in the VT-d architecture, revision 4.1. There
//! is no behaviour here.

pub mod capability;
pub mod control;
pub mod descriptor;
pub mod fault;
pub mod interrupt;
pub mod offset;
pub mod page_request;
pub mod queue;
pub mod tables;
