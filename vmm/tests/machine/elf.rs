//! The smallest ELF file that the boot code takes: one segment, which holds some machine code.

/// Where the code is loaded and entered.
pub(crate) const ENTRY: u64 = 0x10_0000;

const HEADERS: u64 = 64 + 56;

/// An ELF file whose only segment is `code`.
pub(crate) fn elf(code: &[u8]) -> &'static [u8] {
    let mut image = Vec::new();
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend(2_u16.to_le_bytes()); // an executable
    image.extend(62_u16.to_le_bytes()); // for x86-64
    image.extend(1_u32.to_le_bytes());
    image.extend(ENTRY.to_le_bytes());
    image.extend(64_u64.to_le_bytes()); // program headers follow this one
    image.extend([0; 8 + 4]); // no section headers, no flags
    for size in [64_u16, 56, 1, 0, 0, 0] {
        image.extend(size.to_le_bytes());
    }
    image.extend(1_u32.to_le_bytes()); // PT_LOAD
    image.extend(7_u32.to_le_bytes());
    let size = code.len() as u64;
    for field in [HEADERS, ENTRY, ENTRY, size, size, 0x1000] {
        image.extend(field.to_le_bytes());
    }
    image.extend(code);
    image.leak()
}
