//! Linux kernels as guests.
//!
//! | Type | What it is |
//! |---|---|
//! | [`GuestKernel`] | a kernel that a user names: its image, release, configuration and modules |
//! | [`KernelConfig`] | a `.config`, from a build tree, from a file or from inside of an image |
//! | [`Requirement`] | an option that a kernel needs here, and what happens without it |
//! | [`ModuleTree`] | the modules of one kernel |
//! | [`Initramfs`] | an initramfs in memory, with modules |
//!
//! Files of a kernel are input from outside: nothing here panics or grows without a bound because of
//! what such a file contains.
#![forbid(unsafe_code)]

mod config;
mod initramfs;
mod kernel;
mod modules;
mod scan;
#[cfg(test)]
mod testkit;
mod unpack;

pub use config::{KernelConfig, Need, REQUIREMENTS, Requirement, fragment};
pub use initramfs::Initramfs;
pub use kernel::{GuestKernel, KernelError, KernelRelease, ParseReleaseError};
pub use modules::{ModuleError, ModuleState, ModuleTree};
