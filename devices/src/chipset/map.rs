//! Where the guest finds what is not RAM, in memory and among its I/O ports.
//!
//! ```text
//!  0xb000_0000     ECAM, 256 MiB, once software has set PCIEXBAR to it
//!  0xc000_0000     PCI memory window, BARs live here
//!  0xe000_0000     of that: ECAM and memory window of further PCI segments, 128 MiB each, if there are
//!  0xfec0_0000     I/O APIC
//!  0xfed0_0000     HPET, if there is one
//!  0xfed9_0000     VT-d units, a page each
//!  0xfee0_0000     local APICs, not in the chipset
//!  0xff00_0000     memory of pc-testdev, 64 KiB, if there is one
//! ```
//!
//! The addresses are those of QEMU's q35 machine, so that guests written for that find things.

use iommu::unit::Unit;

/// A piece of the guest-physical address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Range {
    /// The first address behind it.
    pub const fn end(self) -> u64 {
        self.start + self.size
    }

    /// The offset of `length` bytes at `address`, `None` unless all of them are in the range.
    pub fn offset(self, address: u64, length: usize) -> Option<u64> {
        let offset = address.checked_sub(self.start)?;
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        (end <= self.size).then_some(offset)
    }
}

/// Where firmware puts ECAM: the configuration space of all 256 buses (`PCIe 7.2.2`).
pub const ECAM: Range = Range { start: 0xb000_0000, size: 0x1000_0000 };
/// The window in which BARs and bridge windows may lie.
pub const PCI_MEMORY: Range = Range { start: 0xc000_0000, size: 0x3e00_0000 };
/// Where firmware puts BAR 0 of functions on bus 0, 1 MiB apart: the end of [`PCI_MEMORY`].
pub const FIRMWARE_BARS: u32 = 0xfd00_0000;
/// PCI segments besides segment 0 that a machine can have.
pub const MAX_SEGMENTS: usize = 3;
/// What further PCI segments have of [`PCI_MEMORY`].
pub const SEGMENTS: Range = Range { start: 0xe000_0000, size: 0x1800_0000 };

/// The ECAM of the further PCI segment with this index, from 0: buses 0 to 63.
pub const fn segment_ecam(index: usize) -> Range {
    Range { start: SEGMENTS.start + index as u64 * 0x800_0000, size: 0x400_0000 }
}

/// The window in which the BARs and bridge windows of that segment may lie.
pub const fn segment_memory(index: usize) -> Range {
    Range { start: segment_ecam(index).end(), size: 0x400_0000 }
}

/// The I/O APIC's page.
pub const IO_APIC: Range = Range { start: 0xfec0_0000, size: 0x1000 };
/// The registers of the HPET.
pub const HPET: Range = Range { start: 0xfed0_0000, size: crate::hpet::SIZE };
/// Memory that is not RAM for the CPUs: each access leaves the guest.
pub const TEST_MEMORY: Range = Range { start: 0xff00_0000, size: 0x1_0000 };
/// The register page of the remapping unit that each machine has.
pub const UNIT: Range = Range { start: 0xfed9_0000, size: Unit::SIZE };
/// Remapping units that a machine can have.
pub const MAX_UNITS: usize = 8;
/// The register pages of all remapping units. The first is [`UNIT`].
pub const UNITS: Range = Range { start: UNIT.start, size: UNIT.size * MAX_UNITS as u64 };

/// The register page of the remapping unit with this index. The unit for all functions that no other
/// one has is the first.
pub const fn unit(index: usize) -> Range {
    Range { start: UNIT.start + index as u64 * UNIT.size, size: UNIT.size }
}

/// The I/O APIC pin of COM1.
pub const COM1_PIN: u8 = 4;

/// The sleep type of suspend to RAM, as `_S3` says it.
pub const SLEEP_TYPE_RAM: u8 = 1;
/// The sleep type that switches off, as `_S5` says it.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// I/O ports.
pub mod port {
    /// The index and the data of the real-time clock.
    pub const CLOCK: u16 = 0x70;
    /// The keyboard controller's command port.
    pub const KEYBOARD: u16 = 0x64;
    /// The twelve ports of `pc-testdev` that hold a value or drop a page.
    pub const TEST: u16 = 0xe0;
    /// The 24 ports of `pc-testdev` that set lines.
    pub const TEST_LINES: u16 = 0x2000;
    /// The debug console, one byte, where there is no `pc-testdev`, to which the port belongs then.
    pub const DEBUG_CONSOLE: u16 = 0xe9;
    /// The debug-exit port, four bytes.
    pub const DEBUG_EXIT: u16 = 0xf4;
    /// The first of the eight ports of COM1.
    pub const COM1: u16 = 0x3f8;
    /// QEMU's firmware configuration: selector, then data.
    pub const FW_CFG: u16 = 0x510;
    /// The first of the ports of the bench.
    pub const BENCH: u16 = 0x5e0;
    /// The number of I/O ports of the bench.
    pub const BENCH_SIZE: u16 = 0x14;
    /// Sleep control of hardware-reduced ACPI, one byte.
    pub const SLEEP_CONTROL: u16 = 0x600;
    /// Sleep status, one byte.
    pub const SLEEP_STATUS: u16 = 0x601;
    /// PM1a control, two bytes.
    pub const POWER: u16 = 0x604;
    /// PM1a status and enable, two bytes each.
    pub const POWER_EVENTS: u16 = 0x608;
    /// The first of the eight ports of PCI configuration and reset control.
    pub const PCI: u16 = 0xcf8;
    /// The reset control register, one byte, inside of [`PCI`].
    pub const RESET: u16 = 0xcf9;
}

/// The device at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortOwner {
    Keyboard,
    DebugExit,
    Com1,
    FwCfg,
    Bench,
    Sleep,
    Power,
    PowerEvents,
    Clock,
    Pci,
    Test,
    TestLines,
}

const PORT_OWNERS: [(u16, u16, PortOwner); 12] = [
    (port::COM1, 8, PortOwner::Com1),
    (port::PCI, 8, PortOwner::Pci),
    (port::BENCH, port::BENCH_SIZE, PortOwner::Bench),
    (port::DEBUG_EXIT, 4, PortOwner::DebugExit),
    (port::KEYBOARD, 1, PortOwner::Keyboard),
    (port::POWER, 2, PortOwner::Power),
    (port::POWER_EVENTS, 4, PortOwner::PowerEvents),
    (port::CLOCK, 2, PortOwner::Clock),
    (port::SLEEP_CONTROL, 2, PortOwner::Sleep),
    (port::FW_CFG, 2, PortOwner::FwCfg),
    (port::TEST, 12, PortOwner::Test),
    (port::TEST_LINES, 24, PortOwner::TestLines),
];

/// The ranges of ports that answer: the first port of each, and how many there are.
pub fn ports() -> impl Iterator<Item = (u16, u16)> {
    PORT_OWNERS.iter().map(|(first, count, _)| (*first, *count))
}

/// The device that answers an access of `length` bytes at `port`, and the offset in it. `None`
/// unless all bytes are in one range of ports.
pub(super) fn port_owner(port: u16, length: usize) -> Option<(PortOwner, u16)> {
    PORT_OWNERS.iter().find_map(|(first, count, owner)| {
        let offset = port.checked_sub(*first)?;
        let fits = usize::from(offset) + length <= usize::from(*count);
        fits.then_some((*owner, offset))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_each_other_without_overlap() {
        let ranges = [ECAM, PCI_MEMORY, IO_APIC, HPET, UNITS, TEST_MEMORY];
        for pair in ranges.windows(2) {
            assert!(pair[0].end() <= pair[1].start, "{pair:x?}");
        }
        for index in 0..MAX_SEGMENTS {
            assert_eq!(segment_ecam(index).end(), segment_memory(index).start);
            let next = if index + 1 < MAX_SEGMENTS {
                segment_ecam(index + 1).start
            } else {
                SEGMENTS.end()
            };
            assert_eq!(segment_memory(index).end(), next);
        }
        assert!(PCI_MEMORY.start < SEGMENTS.start && SEGMENTS.end() < FIRMWARE_BARS.into());
        let mut ports: Vec<_> = ports().collect();
        ports.sort_unstable();
        for pair in ports.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn an_access_must_be_in_one_range_as_a_whole() {
        assert_eq!(IO_APIC.offset(0xfec0_0ffc, 4), Some(0xffc));
        assert_eq!(IO_APIC.offset(0xfec0_0ffd, 4), None);
        assert_eq!(IO_APIC.offset(u64::MAX, 4), None);
        assert_eq!(port_owner(0x601, 1), Some((PortOwner::Sleep, 1)));
        assert_eq!(port_owner(0x601, 2), None);
        assert_eq!(port_owner(0x602, 1), None);
        assert_eq!(port_owner(0xffff, 4), None);
    }
}
