//! How a kernel is started.
//!
//! | Image | Start |
//! |---|---|
//! | bzImage, or an ELF file whose entry point is in a segment | Linux's 64-bit entry |
//! | an ELF file with a PVH note, whose entry point is in none | PVH: see `pvh` |
//! | multiboot image | see `multiboot` |
//!
//! ```text
//!   0x0500   GDT            CS 0x10, DS 0x18, flat
//!   0x7000   boot_params    RSI points here: memory map, command line, initramfs, RSDP
//!   0x9000   page tables    the first 4 GiB mapped one to one with 2-MiB pages
//!   0x20000  command line
//!   0xe0000  ACPI tables
//!   1 MiB..  the kernel     RIP = its entry, interrupts off
//!   ..       initramfs      at the end of the memory below 2.75 GiB
//! ```
//!
//! 1-GiB pages would need one table instead of four, but processors may lack them.

mod bzimage;
mod elf;
mod gdt;
mod initrd;
mod multiboot;
mod page_tables;
mod pvh;
mod registers;
mod reset_vector;
mod zero_page;

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;

use iommu::Memory;
use linux_loader::loader::bootparam::setup_header;
use vm_memory::{Bytes, GuestAddress, ReadVolatile};

use crate::Error;
use crate::config::{Kernel, MemorySize, Module};
use crate::layout::{CMDLINE, CMDLINE_MAX, RAM_ABOVE_GAP, RAM_GAP, Range};

pub(crate) use registers::{configure_fpu, configure_registers, configure_sregs};

/// The state in which the first CPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// In long mode.
    Long {
        /// RIP.
        entry: u64,
    },
    /// In 32-bit protected mode.
    Flat {
        /// EIP.
        entry: u64,
        /// EBX: the address of the loader's information.
        info: u64,
        /// EAX: the magic number of the loader.
        magic: u64,
    },
    /// In real mode, at the physical address that FACS has for the end of a sleep.
    Real {
        /// Below 1 MiB.
        vector: u32,
    },
}

impl Start {
    /// Whether the image relies on setup that firmware does on a PC.
    pub(crate) fn is_multiboot(self) -> bool {
        matches!(self, Self::Flat { magic: multiboot::LOADER_MAGIC, .. })
    }
}

/// A kernel that is in memory.
#[derive(Debug)]
struct Loaded {
    entry: Entry,
    /// The first address that it does not need for itself before it has looked at the memory map.
    end: u64,
    /// The first address that it cannot reach an initramfs at.
    initrd_limit: u64,
    /// The setup header of a bzImage.
    header: Option<setup_header>,
}

/// The entry of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// In long mode, by Linux's 64-bit boot protocol.
    Linux(u64),
    /// In 32-bit protected mode, by the PVH boot protocol.
    Pvh(u64),
}

/// RAM, and what in it firmware keeps for itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ram<'a> {
    pub(crate) size: MemorySize,
    /// Whole pages above 1 MiB, in ascending order and without overlaps: of RAM, and of the chipset's
    /// addresses, where there is none.
    pub(crate) reserved: &'a [Range],
}

impl Ram<'_> {
    /// The pieces between `start` and `end` that are not reserved.
    fn free(self, start: u64, end: u64) -> impl Iterator<Item = Range> {
        let inside = move |range: &&Range| range.start >= start && range.end() <= end;
        let reserved = self.reserved.iter().filter(inside);
        let starts = std::iter::once(start).chain(reserved.clone().map(|range| range.end()));
        let ends = reserved.map(|range| range.start).chain([end]);
        let pieces = starts.zip(ends).map(|(start, end)| Range { start, size: end - start });
        pieces.filter(|piece| piece.size > 0)
    }

    /// Checks that `name`, which takes what is below `end`, leaves reserved memory alone.
    fn check(self, name: &str, end: u64) -> Result<(), Error> {
        let is_ram = |range: &&Range| !(RAM_GAP..RAM_ABOVE_GAP).contains(&range.start);
        match self.reserved.iter().filter(is_ram).find(|range| range.start < end) {
            Some(range) => Err(Error::Reserved { name: name.to_owned(), end, range: *range }),
            None => Ok(()),
        }
    }
}

/// Puts kernel, initramfs or modules, command line and boot data into memory; returns how the first
/// CPU starts.
pub(crate) fn load(
    memory: &Memory,
    ram: Ram<'_>,
    kernel: &Kernel,
    cmdline: &str,
    modules: &[Module],
) -> Result<Start, Error> {
    let size = ram.size;
    if let Kernel::File(path) = kernel
        && let Some((bytes, image)) = read_multiboot(path, size)?
    {
        let name = kernel.to_string();
        let foreign = |reason| Error::NotAKernel { name: name.clone(), reason };
        let image = image.map_err(foreign)?;
        return multiboot::load(memory, ram, (&name, &bytes), &image, cmdline, modules);
    }
    let loaded = match kernel {
        Kernel::File(path) => {
            let error = |source| Error::KernelFile { path: path.clone(), source };
            load_image(memory, size, kernel, &mut File::open(path).map_err(error)?)
        }
        Kernel::Image { bytes, .. } => load_image(memory, size, kernel, &mut Cursor::new(bytes)),
    }?;
    ram.check(&kernel.to_string(), loaded.end)?;
    let initrd = initrd::load(memory, ram, loaded.end, loaded.initrd_limit, modules)?;
    write_cmdline(memory, cmdline)?;
    gdt::write(memory)?;
    reset_vector::write(memory)?;
    match loaded.entry {
        Entry::Linux(entry) => {
            zero_page::write(memory, ram, cmdline, loaded.header, initrd)?;
            page_tables::write(memory)?;
            Ok(Start::Long { entry })
        }
        Entry::Pvh(entry) => {
            let info = pvh::write(memory, ram, initrd)?;
            Ok(Start::Flat { entry, info, magic: 0 })
        }
    }
}

fn load_image<F: Read + ReadVolatile + Seek>(
    memory: &Memory,
    size: MemorySize,
    kernel: &Kernel,
    image: &mut F,
) -> Result<Loaded, Error> {
    let name = kernel.to_string();
    match bzimage::read_header(image) {
        Some(header) => bzimage::load(memory, size, &name, image, header),
        None => elf::load(memory, size, &name, image),
    }
}

/// The file, if it is a multiboot image that is not larger than memory.
#[allow(clippy::type_complexity, reason = "the image, or what is wrong with it")]
fn read_multiboot(
    path: &Path,
    size: MemorySize,
) -> Result<Option<(Vec<u8>, Result<multiboot::Image, String>)>, Error> {
    let error = |source| Error::KernelFile { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(error)?;
    let mut bytes = Vec::new();
    file.by_ref().take(multiboot::SEARCHED as u64).read_to_end(&mut bytes).map_err(error)?;
    if !multiboot::has_header(&bytes) {
        return Ok(None);
    }
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

/// The end of memory that is in one piece from 0 up.
fn low_ram(size: MemorySize) -> u64 {
    size.bytes().min(RAM_GAP)
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

    /// The kernel takes memory from 1 MiB up.
    #[test]
    fn a_kernel_in_reserved_memory_is_refused() {
        let reserved = [Range { start: 0x10_2000, size: 0x1000 }];
        let ram = Ram { size: MemorySize::MIN, reserved: &reserved };
        let error = ram.check("vmlinuz", 0x10_2001).unwrap_err();
        assert_eq!(
            error.to_string(),
            "'vmlinuz' needs memory up to 0x102001, and an rmrr reserves 0x102000 to 0x102fff; give \
             the rmrr a higher base="
        );
        assert!(ram.check("vmlinuz", 0x10_2000).is_ok());
        assert!(Ram { reserved: &[], ..ram }.check("vmlinuz", u64::MAX).is_ok());
    }

    #[test]
    fn an_initramfs_in_memory_is_loaded_and_one_that_does_not_fit_says_what_would_do() {
        let size = "8M".parse().unwrap();
        let memory = crate::memory::allocate(size).unwrap();
        let ram = Ram { size, reserved: &[] };
        let load = |length: usize| {
            let module = Module::Bytes { name: "of x".into(), bytes: vec![7; length].into() };
            initrd::load(&memory, ram, 3 << 20, RAM_GAP, &[module])
        };
        let placed = load(0x1001).unwrap().unwrap();
        assert_eq!((placed.start, placed.size), (0x7f_e000, 0x1001));
        let mut end = [0; 2];
        memory.read_slice(&mut end, GuestAddress(0x7f_f000)).unwrap();
        assert_eq!(end, [7, 0]);
        assert!(load(5 << 20).is_ok());
        assert_eq!(
            load((5 << 20) + 1).unwrap_err().to_string(),
            "the initramfs 'of x' has 6 MiB, and of 8M of memory 5 MiB are left beside the kernel; \
             try --memory 14M or more"
        );
    }

    #[test]
    fn a_missing_file_and_a_directory_are_refused_by_name() {
        let memory = crate::memory::allocate(MemorySize::MIN).unwrap();
        for path in ["/no/such/kernel", "/"] {
            let kernel = Kernel::File(path.into());
            let ram = Ram { size: MemorySize::MIN, reserved: &[] };
            let error = load(&memory, ram, &kernel, "", &[]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot read kernel file '{path}'")));
        }
    }
}
