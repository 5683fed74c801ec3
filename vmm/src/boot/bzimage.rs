//! Linux's bzImage, by the 64-bit boot protocol (Linux, `arch/x86/boot.rst`): the compressed kernel
//! goes to 1 MiB, is entered 512 bytes behind its beginning, and unpacks itself where it prefers to
//! run, or where a random number says.

use std::io::{Read, Seek, SeekFrom};

use iommu::Memory;
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{ByteValued, GuestAddress, ReadVolatile};

use super::{Entry, Loaded, low_ram};
use crate::Error;
use crate::config::MemorySize;
use crate::layout::HIGH_RAM;

/// Where the setup header is in the file.
const HEADER_OFFSET: u64 = 0x1f1;
const BOOT_FLAG: u16 = 0xaa55;
/// "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
/// The first protocol version with `xloadflags`, 2.12 (Linux 3.8).
const OLDEST: u16 = 0x020c;
/// `XLF_KERNEL_64`: there is a 64-bit entry.
const KERNEL_64: u16 = 1;
/// The offset of the 64-bit entry from the beginning of the kernel, in bytes.
const ENTRY_64: u64 = 0x200;

/// The setup header, if this is a bzImage.
pub(super) fn read_header(image: &mut (impl Read + Seek)) -> Option<setup_header> {
    let mut header = setup_header::default();
    image.seek(SeekFrom::Start(HEADER_OFFSET)).ok()?;
    image.read_exact(header.as_mut_slice()).ok()?;
    (header.boot_flag == BOOT_FLAG && header.header == HEADER_MAGIC).then_some(header)
}

/// Puts the kernel into memory.
pub(super) fn load<F: Read + ReadVolatile + Seek>(
    memory: &Memory,
    size: MemorySize,
    name: &str,
    image: &mut F,
    header: setup_header,
) -> Result<Loaded, Error> {
    let foreign = |reason: String| Error::NotAKernel { name: name.to_owned(), reason };
    let (version, flags) = (header.version, header.xloadflags);
    if version < OLDEST || flags & KERNEL_64 == 0 {
        return Err(foreign(format!(
            "it is a bzImage without a 64-bit entry (boot protocol {}.{:02})",
            version >> 8,
            version & 0xff
        )));
    }
    // It unpacks itself into so much memory from there on, and works beside that.
    let end = header
        .pref_address
        .checked_add(header.init_size.into())
        .ok_or_else(|| foreign(format!("it prefers to run at {:#x}", { header.pref_address })))?;
    let file = image.seek(SeekFrom::End(0)).map_err(|error| foreign(error.to_string()))?;
    let end = end.max(HIGH_RAM.saturating_add(file));
    if end > low_ram(size) {
        return Err(Error::MemoryTooSmall { memory: size, name: name.to_owned(), end });
    }
    let start = GuestAddress(HIGH_RAM);
    let loaded = BzImage::load(memory, Some(start), image, None);
    let loaded = loaded.map_err(|error| foreign(error.to_string()))?;
    Ok(Loaded {
        entry: Entry::Linux(HIGH_RAM + ENTRY_64),
        end,
        initrd_limit: u64::from(header.initrd_addr_max) + 1,
        header: loaded.setup_header,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use crate::testkit::bzimage;
    use std::io::Cursor;
    use vm_memory::Bytes;

    fn try_load(image: &[u8], size: MemorySize) -> Result<Loaded, Error> {
        let memory = memory::allocate(size).unwrap();
        let mut image = Cursor::new(image);
        let header = read_header(&mut image).expect("it is a bzImage");
        let loaded = load(&memory, size, "image", &mut image, header)?;
        let mut entry = [0; 4];
        memory.read_slice(&mut entry, GuestAddress(HIGH_RAM + ENTRY_64)).unwrap();
        assert_eq!(entry, *b"code");
        Ok(loaded)
    }

    #[test]
    fn it_is_entered_behind_its_beginning_and_leaves_room_to_unpack_itself() {
        let loaded = try_load(&bzimage(b"code"), MemorySize::MIN).unwrap();
        assert_eq!(loaded.entry, Entry::Linux(0x10_0200));
        assert_eq!((loaded.end, loaded.initrd_limit), (0x12_0000, 0x8000_0000));
        assert!(loaded.header.is_some());
    }

    #[test]
    fn what_does_not_fit_or_has_no_64_bit_entry_is_refused() {
        let patched = |at: usize, bytes: &[u8]| {
            let mut image = bzimage(b"code");
            image[at..at + bytes.len()].copy_from_slice(bytes);
            try_load(&image, MemorySize::MIN).unwrap_err().to_string()
        };
        assert!(patched(0x236, &[0]).contains("without a 64-bit entry (boot protocol 2.15)"));
        assert!(patched(0x206, &[0x0b]).contains("boot protocol 2.11"));
        assert!(patched(0x260, &[0, 0, 0, 1]).ends_with("try 18M or more"));
        assert!(patched(0x258, &[0xff; 8]).contains("prefers to run at"));
    }

    #[test]
    fn other_files_are_none() {
        for bytes in [&b""[..], &[0; 0x300], b"\x7fELF"] {
            assert!(read_header(&mut Cursor::new(bytes)).is_none());
        }
    }
}
