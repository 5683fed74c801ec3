//! An Intel VT-d remapping unit whose Device-TLB invalidations can time out as on hardware, and the
//! software that submits them and waits.
//!
//! Nothing here blocks, sleeps, spawns a thread or reads a clock. State machines take the time as
//! an argument, put their outputs in a queue that the caller drains, and return their next
//! deadline. The same code thus runs under KVM in real time and in a simulation in virtual time.
//!
//! ```text
//!  guest's driver             guest-visible Unit        Submitter       physical Unit      function
//!  --------------             ------------------        ---------       -------------      --------
//!  descriptors, IQT ------->  fetch, check, head += 1
//!                             InvalidateRequest ------>  submit
//!                                                        descriptors, IQT -->  fetch
//!                                                                      InvalidateRequest -->  ATC
//!                                                              settle <-- InvalidateCompletion
//!                                                        poll  <-- status write
//!                             acknowledge  <-- Completed
//!  poll  <------------------  status write
//!
//!                             time_out  <-- TimedOut     (policy's bound, or the unit's own ITE)
//!  FSTS.ITE, waits aborted <
//! ```
//!
//! - [`spec`]: the layout of registers, descriptors and tables. It has no behaviour.
//! - [`mod@unit`]: the remapping unit: register file, queue, translation, faults.
//! - [`submit`]: the host's submit-and-wait loop, with policies as data.
//! - [`ats`], [`ids`], [`time`], [`event`]: types that all of them use.
#![forbid(unsafe_code)]

pub mod ats;
pub mod event;
pub mod ids;
pub mod spec;
pub mod submit;
pub mod time;
pub mod unit;

/// The memory that a unit reads its tables and queues from.
pub type Memory = vm_memory::GuestMemoryMmap<()>;
