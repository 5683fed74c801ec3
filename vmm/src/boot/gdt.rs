//! The flat segments that the 64-bit boot protocol wants: code at 0x10, data at 0x18.

use iommu::Memory;
use kvm_bindings::kvm_segment;

use super::write_boot_data;
use crate::Error;
use crate::layout;

/// Selector of the 64-bit code segment.
const CODE: u16 = 0x10;
/// Selector of the data segment.
const DATA: u16 = 0x18;
/// Selector of the task state segment, which processors want even where it is not used.
const TASK: u16 = 0x20;

/// The table: two null entries, code, data, and a task state segment of two entries.
const TABLE: [u64; 6] =
    [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067, 0];

/// The table's limit, as GDTR wants it.
pub(super) const LIMIT: u16 = size_of_val(&TABLE) as u16 - 1;

pub(super) fn write(memory: &Memory) -> Result<(), Error> {
    write_boot_data(memory, layout::GDT, &TABLE.map(u64::to_le_bytes).concat())
}

/// The code segment as it is after CS has been loaded.
pub(super) fn code() -> kvm_segment {
    segment(CODE)
}

/// The code segment of 32-bit protected mode: the same, with D in the place of L.
pub(super) fn flat_code() -> kvm_segment {
    kvm_segment { l: 0, db: 1, ..code() }
}

/// The data segment as it is after a segment register has been loaded.
pub(super) fn data() -> kvm_segment {
    segment(DATA)
}

/// The task state segment as it is after TR has been loaded.
pub(super) fn task() -> kvm_segment {
    segment(TASK)
}

/// The hidden part of a segment register after `selector` is loaded. The base is 0 in all.
fn segment(selector: u16) -> kvm_segment {
    let entry = TABLE[usize::from(selector / 8)];
    let bit = |position: u32| (entry >> position & 1) as u8;
    let limit = (entry & 0xffff | entry >> 32 & 0xf_0000) as u32;
    kvm_segment {
        base: 0,
        // With G set the limit counts pages.
        limit: if bit(55) == 1 { limit << 12 | 0xfff } else { limit },
        selector,
        type_: (entry >> 40 & 0xf) as u8,
        s: bit(44),
        dpl: (entry >> 45 & 3) as u8,
        present: bit(47),
        avl: bit(52),
        l: bit(53),
        db: bit(54),
        g: bit(55),
        unusable: 0,
        padding: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_flat_and_of_the_right_kind() {
        let code = code();
        assert_eq!((code.type_, code.s, code.present, code.l, code.db), (0xb, 1, 1, 1, 0));
        assert_eq!((code.base, code.limit), (0, 0xffff_ffff));
        let data = data();
        assert_eq!((data.type_, data.s, data.present, data.l, data.db), (3, 1, 1, 0, 1));
        assert_eq!((data.base, data.limit), (0, 0xffff_ffff));
        let task = task();
        assert_eq!((task.type_, task.s, task.present, task.limit), (0xb, 0, 1, 0x67));
    }
}
