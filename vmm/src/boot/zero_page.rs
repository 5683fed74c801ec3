//! The boot parameters ("zero page") that a kernel finds at RSI.

use iommu::Memory;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::GuestAddress;

use super::Ram;
use crate::Error;
use crate::layout::{
    ACPI, ACPI_NVS, BOOT_PARAMS, CMDLINE, ECAM, FIRMWARE, HIGH_RAM, LOW_RAM_END, Range, UNITS,
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
    /// Memory that firmware and operating system share, such as the FACS.
    AcpiNvs = 4,
}

pub(super) fn write(
    memory: &Memory,
    ram: Ram<'_>,
    cmdline: &str,
    header: Option<setup_header>,
    initrd: Option<Range>,
) -> Result<(), Error> {
    let mut params = build(ram, cmdline.len(), header);
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

fn build(ram: Ram<'_>, cmdline_length: usize, header: Option<setup_header>) -> boot_params {
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
    for (entry, (range, kind)) in params.e820_table.iter_mut().zip(memory_map(ram)) {
        *entry = boot_e820_entry { addr: range.start, size: range.size, r#type: kind as u32 };
        params.e820_entries += 1;
    }
    params
}

/// The memory map, in ascending order. Addresses in no range are unused.
pub(super) fn memory_map(ram: Ram<'_>) -> Vec<(Range, RangeType)> {
    let mut map = vec![
        (Range { start: 0, size: LOW_RAM_END }, RangeType::Ram),
        (Range { start: LOW_RAM_END, size: EBDA_END - LOW_RAM_END }, RangeType::Reserved),
        (ACPI, RangeType::Acpi),
        (ACPI_NVS, RangeType::AcpiNvs),
        (FIRMWARE, RangeType::Reserved),
        (ECAM, RangeType::Reserved),
        (UNITS, RangeType::Reserved),
    ];
    map.extend(ram.reserved.iter().map(|range| (*range, RangeType::Reserved)));
    for range in memory::ranges(ram.size) {
        let start = range.start.max(HIGH_RAM);
        map.extend(ram.free(start, range.end()).map(|range| (range, RangeType::Ram)));
    }
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
        let ram = Ram { size, reserved: &[] };
        write(&memory, ram, "quiet", None, None).unwrap();
        let mut page = [0_u8; 4096];
        memory.read_slice(&mut page, GuestAddress(BOOT_PARAMS)).unwrap();
        assert_eq!(page[0x1e8], 8, "entries of the memory map");
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

    fn map(size: &str, reserved: &[Range]) -> Vec<(Range, RangeType)> {
        memory_map(Ram { size: size.parse().unwrap(), reserved })
    }

    fn of_type(map: &[(Range, RangeType)], wanted: RangeType) -> Vec<(u64, u64)> {
        let found = map.iter().filter(|(_, kind)| *kind == wanted);
        found.map(|(range, _)| (range.start, range.end())).collect()
    }

    fn ram(size: &str) -> Vec<(u64, u64)> {
        of_type(&map(size, &[]), RangeType::Ram)
    }

    #[test]
    fn reserved_memory_is_in_the_map_and_splits_ram() {
        let range = |start, size| Range { start, size };
        let reserved =
            [range(0x80_0000, 0x1000), range(0xa0_0000, 0x2000), range(0xfff_0000, 0x1_0000)];
        let map = map("256M", &reserved);
        let free = [
            (0, 0x9_fc00),
            (0x10_0000, 0x80_0000),
            (0x80_1000, 0xa0_0000),
            (0xa0_2000, 0xfff_0000),
        ];
        assert_eq!(of_type(&map, RangeType::Ram), free);
        let kept = of_type(&map, RangeType::Reserved);
        for range in reserved {
            assert!(kept.contains(&(range.start, range.end())), "{kept:x?}");
        }
        assert!(map.is_sorted_by(|a, b| a.0.end() <= b.0.start), "{map:x?}");
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
            let map = map(size, &[]);
            for pair in map.windows(2) {
                assert!(pair[0].0.end() <= pair[1].0.start, "{size}: {pair:x?}");
            }
        }
    }
}
