//! The addresses of everything that scripts touch.

/// The remapping unit's registers.
pub const UNIT: u64 = 0xfed9_0000;
/// The I/O APIC.
pub const IO_APIC: u64 = 0xfec0_0000;
/// The BAR of the first `edu`; those of the others follow.
pub const EDU_BARS: u64 = 0xe000_0000;
/// The number of `edu`s that scripts use.
pub const EDUS: u8 = 4;
/// The device number of the first `edu` on bus 0.
pub const EDU_DEVICE: u8 = 0x10;
/// The device numbers of the `iommu-testdev`s on bus 0: one for each half of a scalable root entry.
pub const WRITERS: [u8; 2] = [0x08, 0x18];
/// The BAR of the first `iommu-testdev`; that of the other follows.
pub const WRITER_BARS: u64 = 0xe100_0000;

/// The memory that scripts use. It begins zeroed.
pub const ARENA: u64 = 0x0100_0000;
/// Its size.
pub const ARENA_SIZE: u64 = 0x0040_0000;
/// Root table.
pub const ROOT: u64 = ARENA;
/// Context table of bus 0.
pub const CONTEXTS: u64 = ARENA + 0x1000;
/// The invalidation queue, up to eight pages.
pub const RING: u64 = ARENA + 0x1_0000;
/// The page to which waits write their status.
pub const STATUS: u64 = ARENA + 0x2_0000;
/// Interrupt remapping table.
pub const INTERRUPTS: u64 = ARENA + 0x3_0000;
/// Pages for second-stage tables.
pub const TABLES: u64 = ARENA + 0x8_0000;
/// The first content of the edus' buffers.
pub const PATTERN: u64 = ARENA + 0x10_0000;
/// The pages to which the edus' buffers are dumped for comparison, one for each edu.
pub const DUMP: u64 = ARENA + 0x11_0000;
/// Pages that DMA reads and writes. They begin a large page that holds nothing else: devices must not
/// write into tables and rings, where each unit might make something else of it.
pub const DATA: u64 = ARENA + 0x20_0000;
/// The number of those pages.
pub const DATA_PAGES: u64 = 16;

/// The BAR of an `edu`.
pub const fn edu_bar(index: u8) -> u64 {
    EDU_BARS + ((index as u64) << 20)
}

/// The BAR of an `iommu-testdev`.
pub const fn writer_bar(index: u8) -> u64 {
    WRITER_BARS + ((index as u64) << 20)
}

/// The requester id of an `iommu-testdev`.
pub const fn writer_id(index: u8) -> u16 {
    (WRITERS[index as usize] as u16) << 3
}

/// The requester id of an `edu`.
pub const fn edu_id(index: u8) -> u16 {
    ((EDU_DEVICE + index) as u16) << 3
}

/// The name of `address` in reports.
pub fn name(address: u64) -> String {
    let near = |base: u64| address.wrapping_sub(base);
    match address {
        _ if near(UNIT) < 0x1000 => match register_name(near(UNIT)) {
            Some(name) => name.to_owned(),
            None => format!("unit+{:#x}", near(UNIT)),
        },
        _ if near(IO_APIC) < 0x1000 => format!("I/O APIC+{:#x}", near(IO_APIC)),
        _ if near(EDU_BARS) < u64::from(EDUS) << 20 => {
            format!("edu{}+{:#x}", near(EDU_BARS) >> 20, near(EDU_BARS) & 0xf_ffff)
        }
        _ if near(WRITER_BARS) < (WRITERS.len() as u64) << 20 => {
            format!("writer{}+{:#x}", near(WRITER_BARS) >> 20, near(WRITER_BARS) & 0xf_ffff)
        }
        _ => {
            let areas = [
                (ROOT, "root table"),
                (CONTEXTS, "context table"),
                (RING, "queue"),
                (STATUS, "status"),
                (INTERRUPTS, "interrupt table"),
                (TABLES, "page tables"),
                (PATTERN, "pattern"),
                (DUMP, "dump"),
                (DATA, "data"),
            ];
            match areas.iter().rev().find(|(base, _)| *base <= address) {
                Some((base, name)) => format!("{name}+{:#x}", address - base),
                None => format!("{address:#x}"),
            }
        }
    }
}

fn register_name(offset: u64) -> Option<&'static str> {
    Some(match offset {
        0x00 => "VER",
        0x08 => "CAP",
        0x10 => "ECAP",
        0x18 => "GCMD",
        0x1c => "GSTS",
        0x20 => "RTADDR",
        0x28 => "CCMD",
        0x34 => "FSTS",
        0x38 => "FECTL",
        0x3c => "FEDATA",
        0x40 => "FEADDR",
        0x80 => "IQH",
        0x88 => "IQT",
        0x90 => "IQA",
        0x9c => "ICS",
        0xa0 => "IECTL",
        0xa4 => "IEDATA",
        0xa8 => "IEADDR",
        0xb8 => "IRTA",
        0xf0 => "IVA",
        0xf8 => "IOTLB",
        0x220 => "FRCD",
        0x228 => "FRCD high half",
        _ => return None,
    })
}
