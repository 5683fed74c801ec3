//! How a 64-bit kernel is started: as the Linux x86 boot protocol says for its 64-bit entry.
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
mod page_tables;
mod registers;
mod zero_page;

use iommu::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::Error;
use crate::config::{Kernel, MemorySize};
use crate::layout::{CMDLINE, CMDLINE_MAX};

pub(crate) use registers::{configure_fpu, configure_registers, configure_sregs};

/// Puts kernel, command line and boot data into memory; returns where the first CPU starts.
pub(crate) fn load(
    memory: &Memory,
    size: MemorySize,
    kernel: &Kernel,
    cmdline: &str,
) -> Result<GuestAddress, Error> {
    let entry = elf::load(memory, size, kernel)?;
    write_cmdline(memory, cmdline)?;
    zero_page::write(memory, size, cmdline)?;
    gdt::write(memory)?;
    page_tables::write(memory)?;
    Ok(entry)
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
