//! The PVH boot protocol (Xen, `docs/misc/pvh.pandoc`): EBX points at the start information, the rest
//! is as for multiboot.
//!
//! ```text
//!   0x7000   hvm_start_info, then the module list
//!   0x7400   memory map
//!   0x20000  command line
//! ```

use iommu::Memory;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::GuestAddress;

use super::{Ram, zero_page};
use crate::Error;
use crate::layout::{ACPI, BOOT_PARAMS, CMDLINE, Range};

/// With a memory map.
const VERSION: u32 = 1;
const MODULE_LIST: u64 = BOOT_PARAMS + 0x100;
const MEMORY_MAP: u64 = BOOT_PARAMS + 0x400;

/// Writes the start information; returns where it is.
pub(super) fn write(memory: &Memory, ram: Ram<'_>, initrd: Option<Range>) -> Result<u64, Error> {
    let entry = |(range, kind): (Range, zero_page::RangeType)| hvm_memmap_table_entry {
        addr: range.start,
        size: range.size,
        type_: kind as u32,
        reserved: 0,
    };
    let map: Vec<_> = zero_page::memory_map(ram).into_iter().map(entry).collect();
    let module = |range: Range| hvm_modlist_entry {
        paddr: range.start,
        size: range.size,
        ..Default::default()
    };
    let modules: Vec<_> = initrd.map(module).into_iter().collect();
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        nr_modules: modules.len() as u32,
        modlist_paddr: if modules.is_empty() { 0 } else { MODULE_LIST },
        cmdline_paddr: CMDLINE,
        rsdp_paddr: ACPI.start,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut params = BootParams::new(&info, GuestAddress(BOOT_PARAMS));
    params.set_sections(&map, GuestAddress(MEMORY_MAP));
    if !modules.is_empty() {
        params.set_modules(&modules, GuestAddress(MODULE_LIST));
    }
    PvhBootConfigurator::write_bootparams(&params, memory).map_err(|error| Error::Host {
        action: "write the start information",
        source: std::io::Error::other(error),
    })?;
    Ok(BOOT_PARAMS)
}
