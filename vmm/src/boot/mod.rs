//! How a kernel is started. A 64-bit ELF file: as the Linux x86 boot protocol says for its 64-bit
//! entry. A multiboot image: see `multiboot`.
//!
//! ```text
//!   0x0500   GDT            CS 0x10, DS 0x18, flat
//!   0x7000   boot_params    RSI points here: memory map, command line
//!   0x9000   page tables    the first 4 GiB mapped one to one with 2-MiB pages
//!   0x20000  command line
//!   1 MiB..  the kernel     RIP = e_entry, interrupts off
//! ```
//!
//! 1-GiB pages would need one table instead of four, but processors may lack them.

mod elf;
mod gdt;
mod multiboot;
mod page_tables;
mod registers;
mod zero_page;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use iommu::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::Error;
use crate::config::{Kernel, MemorySize, Module};
use crate::layout::{CMDLINE, CMDLINE_MAX};

pub(crate) use registers::{configure_fpu, configure_registers, configure_sregs};

/// How the first CPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// In long mode.
    Long {
        /// RIP.
        entry: u64,
    },
    /// In 32-bit protected mode, from a multiboot loader.
    Flat {
        /// EIP.
        entry: u64,
        /// EBX: the multiboot information.
        info: u64,
    },
}

/// Puts kernel, modules, command line and boot data into memory; returns how the first CPU starts.
pub(crate) fn load(
    memory: &Memory,
    size: MemorySize,
    kernel: &Kernel,
    cmdline: &str,
    modules: &[Module],
) -> Result<Start, Error> {
    if let Kernel::File(path) = kernel
        && let Some((bytes, image)) = read_multiboot(path, size)?
    {
        let name = kernel.to_string();
        let foreign = |reason| Error::NotAKernel { name: name.clone(), reason };
        let image = image.map_err(foreign)?;
        return multiboot::load(memory, size, (&name, &bytes), &image, cmdline, modules);
    }
    if let Some(module) = modules.first() {
        return Err(Error::NoModules { path: module.path.clone() });
    }
    let entry = elf::load(memory, size, kernel)?.0;
    write_cmdline(memory, cmdline)?;
    zero_page::write(memory, size, cmdline)?;
    gdt::write(memory)?;
    page_tables::write(memory)?;
    Ok(Start::Long { entry })
}

/// The file, if it is a multiboot image that is not larger than memory.
#[allow(clippy::type_complexity, reason = "the image, or what is wrong with it")]
fn read_multiboot(
    path: &Path,
    size: MemorySize,
) -> Result<Option<(Vec<u8>, Result<multiboot::Image, String>)>, Error> {
    let error = |source| Error::KernelFile { path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let mut bytes = Vec::new();
    file.take(size.bytes()).read_to_end(&mut bytes).map_err(error)?;
    let image = multiboot::parse(&bytes);
    Ok(image.map(|image| (bytes, image)))
}

fn write_cmdline(memory: &Memory, cmdline: &str) -> Result<(), Error> {
    if cmdline.len() > CMDLINE_MAX {
        return Err(Error::CmdlineTooLong { length: cmdline.len() });
    }
    if cmdline.contains('\0') {
        return Err(Error::CmdlineZero);
    }
    write_boot_data(memory, CMDLINE, &[cmdline.as_bytes(), &[0]].concat())
}

/// Writes what every [`MemorySize`] has room for.
fn write_boot_data(memory: &Memory, address: u64, data: &[u8]) -> Result<(), Error> {
    memory.write_slice(data, GuestAddress(address)).map_err(|error| Error::Host {
        action: "write the boot data into the guest's memory",
        source: std::io::Error::other(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_ends_with_a_zero_byte() {
        let memory = crate::memory::allocate(MemorySize::MIN).unwrap();
        memory.write_slice(&[0xff; 8], GuestAddress(CMDLINE)).unwrap();
        write_cmdline(&memory, "a=1 b").unwrap();
        let mut bytes = [0; 7];
        memory.read_slice(&mut bytes, GuestAddress(CMDLINE)).unwrap();
        assert_eq!(&bytes, b"a=1 b\0\xff");
    }

    #[test]
    fn a_command_line_that_does_not_fit_is_refused() {
        let memory = crate::memory::allocate(MemorySize::MIN).unwrap();
        assert!(write_cmdline(&memory, &"x".repeat(CMDLINE_MAX)).is_ok());
        let error = write_cmdline(&memory, &"x".repeat(CMDLINE_MAX + 1)).unwrap_err();
        assert!(matches!(error, Error::CmdlineTooLong { length: 2048 }), "{error}");
        assert!(matches!(write_cmdline(&memory, "a\0b"), Err(Error::CmdlineZero)));
    }
}
