//! The boot parameters ("zero page") that a kernel finds at RSI.

use iommu::Memory;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::GuestAddress;

use crate::Error;
use crate::config::MemorySize;
use crate::layout::{
    ACPI, BOOT_PARAMS, CMDLINE, ECAM, FIRMWARE, HIGH_RAM, LOW_RAM_END, Range, UNIT,
};
use crate::memory;

const BOOT_FLAG: u16 = 0xaa55;
/// "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
/// Protocol 2.15.
const PROTOCOL_VERSION: u16 = 0x020f;
/// A boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// `LOADED_HIGH`: the kernel is at 1 MiB or above.
const LOADED_HIGH: u8 = 1;

/// The end of conventional memory, with firmware's part of it.
const EBDA_END: u64 = 0xa_0000;

/// The type of a range of the memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum RangeType {
    Ram = 1,
    Reserved = 2,
    /// ACPI tables, which may be overwritten once they have been read.
    Acpi = 3,
}

pub(super) fn write(
    memory: &Memory,
    size: MemorySize,
    cmdline: &str,
    header: Option<setup_header>,
    initrd: Option<Range>,
) -> Result<(), Error> {
    let mut params = build(size, cmdline.len(), header);
    if let Some(initrd) = initrd {
        // It is below 4 GiB.
        params.hdr.ramdisk_image = initrd.start as u32;
        params.hdr.ramdisk_size = initrd.size as u32;
    }
    let params = BootParams::new(&params, GuestAddress(BOOT_PARAMS));
    LinuxBootConfigurator::write_bootparams(&params, memory).map_err(|error| Error::Host {
        action: "write the boot parameters",
        source: std::io::Error::other(error),
    })
}

fn build(size: MemorySize, cmdline_length: usize, header: Option<setup_header>) -> boot_params {
    let mut params = boot_params { acpi_rsdp_addr: ACPI.start, ..Default::default() };
    params.hdr = header.unwrap_or(setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        version: PROTOCOL_VERSION,
        ..Default::default()
    });
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.loadflags |= LOADED_HIGH;
    params.hdr.cmd_line_ptr = CMDLINE as u32;
    params.hdr.cmdline_size = u32::try_from(cmdline_length).unwrap_or(u32::MAX);
    for (entry, (range, kind)) in params.e820_table.iter_mut().zip(memory_map(size)) {
        *entry = boot_e820_entry { addr: range.start, size: range.size, r#type: kind as u32 };
        params.e820_entries += 1;
    }
    params
}

/// The memory map, in ascending order. Addresses in no range are unused.
pub(super) fn memory_map(size: MemorySize) -> Vec<(Range, RangeType)> {
    let mut map = vec![
        (Range { start: 0, size: LOW_RAM_END }, RangeType::Ram),
        (Range { start: LOW_RAM_END, size: EBDA_END - LOW_RAM_END }, RangeType::Reserved),
        (ACPI, RangeType::Acpi),
        (FIRMWARE, RangeType::Reserved),
        (ECAM, RangeType::Reserved),
        (UNIT, RangeType::Reserved),
    ];
    map.extend(memory::ranges(size).into_iter().map(|range| {
        let start = range.start.max(HIGH_RAM);
        (Range { start, size: range.end() - start }, RangeType::Ram)
    }));
    map.sort_by_key(|(range, _)| range.start);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn fields_are_where_the_protocol_puts_them() {
        let size = "64M".parse().unwrap();
        let memory = memory::allocate(size).unwrap();
        write(&memory, size, "quiet", None, None).unwrap();
        let mut page = [0_u8; 4096];
        memory.read_slice(&mut page, GuestAddress(BOOT_PARAMS)).unwrap();
        assert_eq!(page[0x1e8], 7, "entries of the memory map");
        assert_eq!(page[0x1fe..0x200], [0x55, 0xaa]);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!(page[0x206..0x208], [0x0f, 0x02]);
        assert_eq!(page[0x210..0x212], [0xff, 0x01], "type_of_loader, loadflags");
        assert_eq!(page[0x228..0x22c], 0x2_0000_u32.to_le_bytes(), "cmd_line_ptr");
        assert_eq!(page[0x238..0x23c], 5_u32.to_le_bytes(), "cmdline_size");
        assert_eq!(page[0x2d0..0x2d8], 0_u64.to_le_bytes());
        assert_eq!(page[0x2d8..0x2e0], 0x9_fc00_u64.to_le_bytes());
        assert_eq!(page[0x2e0..0x2e4], 1_u32.to_le_bytes());
    }

    fn ram(size: &str) -> Vec<(u64, u64)> {
        let map = memory_map(size.parse().unwrap()).into_iter();
        map.filter(|(_, kind)| *kind == RangeType::Ram).map(|(r, _)| (r.start, r.end())).collect()
    }

    #[test]
    fn the_map_has_all_memory_below_and_above_4_gib() {
        assert_eq!(ram("256M"), [(0, 0x9_fc00), (0x10_0000, 0x1000_0000)]);
        let above = [(0, 0x9_fc00), (0x10_0000, 0xb000_0000), (1 << 32, 0x1_5000_0000)];
        assert_eq!(ram("4G"), above);
    }

    #[test]
    fn the_map_is_sorted_and_nothing_in_it_overlaps() {
        for size in ["2M", "256M", "2816M", "3G", "64G"] {
            let map = memory_map(size.parse().unwrap());
            for pair in map.windows(2) {
                assert!(pair[0].0.end() <= pair[1].0.start, "{size}: {pair:x?}");
            }
        }
    }
}
