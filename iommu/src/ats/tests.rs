//! Encodings: against the specification, and back again.

use super::*;
use proptest::prelude::*;

#[test]
fn completion_entries_have_the_bits_of_the_specification() {
    let range = PageRange::containing(Iova(0x40_0000), 21);
    let translation = Translation {
        range,
        output: Gpa(0x1234_0000_0000),
        read: true,
        write: false,
        untranslated_only: true,
        privileged: true,
    };
    // 2 MiB: S, and ones in 19:12.
    assert_eq!(CompletionEntry::from(translation).into_bits(), 0x1234_000f_f815);
}

#[test]
fn ranges_have_the_bits_of_the_specification() {
    let range = |address, size| {
        let range = PageRange::decode(address, size);
        (range.start().0, range.last().0)
    };
    assert_eq!(range(0x1234_5000, false), (0x1234_5000, 0x1234_5fff));
    assert_eq!(range(0x1234_4000, true), (0x1234_4000, 0x1234_5fff));
    assert_eq!(range(0x1234_5000, true), (0x1234_4000, 0x1234_7fff));
    assert_eq!(range(0x000f_f000, true), (0, 0x001f_ffff));
    assert_eq!(range(0x7fff_ffff_ffff_f000, true), (0, u64::MAX));
    assert_eq!(range(0xffff_ffff_ffff_f000, true), (0, u64::MAX));
}

proptest! {
    #[test]
    fn a_range_survives_its_encoding(address: u64, order in 12_u8..=64) {
        let range = PageRange::containing(Iova(address), order);
        let (bits, size) = range.encode();
        prop_assert_eq!(PageRange::decode(bits, size), range);
        prop_assert!(range.contains(range.start()) && range.contains(range.last()));
    }

    #[test]
    fn a_translation_survives_the_link(
        address: u64, output: u64, order in 12_u8..=52,
        read: bool, write: bool, untranslated_only: bool, privileged: bool,
    ) {
        let range = PageRange::containing(Iova(address), order);
        let output = Gpa(PageRange::containing(Iova(output), order).start().0);
        let translation =
            Translation { range, output, read, write, untranslated_only, privileged };
        let entry = CompletionEntry::from(translation);
        prop_assert_eq!(entry.into_bits() & 0x7e8, 0, "Exe, G, N and the reserved bits");
        prop_assert_eq!(entry.translation(Iova(address)), translation);
    }

    #[test]
    fn any_bits_decode(address: u64, size: bool) {
        let range = PageRange::decode(address, size);
        prop_assert!(range.contains(Iova(address)));
        prop_assert!(range.overlaps(PageRange::ALL));
    }
}
