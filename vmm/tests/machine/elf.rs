//! The smallest kernels that the boot code takes: an ELF file of one segment with some machine code, and
//! others around the same.

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

/// An ELF file that has its entry point in no segment, as kernels that want PVH have: `code` is entered
/// because a note says so.
pub(crate) fn pvh(code: &[u8]) -> &'static [u8] {
    const HEADERS: u64 = 64 + 2 * 56;
    let mut image = elf(code)[..120].to_vec();
    image[24..32].copy_from_slice(&0xffff_ffff_8010_0000_u64.to_le_bytes());
    image[56] = 2; // program headers
    image[72..80].copy_from_slice(&HEADERS.to_le_bytes());
    let size = code.len() as u64;
    image.extend([4, 0, 0, 0, 4, 0, 0, 0]); // PT_NOTE
    for field in [HEADERS + size, 0, 0, 24, 24, 4] {
        image.extend(field.to_le_bytes());
    }
    image.extend(code);
    // Name and content have 4 and 8 bytes; XEN_ELFNOTE_PHYS32_ENTRY.
    image.extend([4_u32, 8, 18].map(u32::to_le_bytes).concat());
    image.extend(b"Xen\0");
    image.extend(ENTRY.to_le_bytes());
    image.leak()
}

/// A bzImage whose 64-bit entry is `code`.
pub(crate) fn bzimage(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x200];
    let mut set = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    set(0x1f1, &[1]); // setup_sects
    set(0x1fe, &[0x55, 0xaa]);
    set(0x202, b"HdrS\x0f\x02"); // protocol 2.15
    set(0x211, &[1]); // LOADED_HIGH
    set(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    set(0x236, &[1]); // XLF_KERNEL_64
    set(0x258, &0x11_0000_u64.to_le_bytes()); // pref_address
    set(0x260, &0x1_0000_u32.to_le_bytes()); // init_size
    image.extend(code);
    image
}
