//! Loading the kernel. `linux-loader` does the work, and takes properties of the headers for
//! granted. They are checked first, so that a file of another kind gets an error that helps.

use std::io::{self, Read, Seek, SeekFrom};

use iommu::Memory;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::ReadVolatile;

use super::{Entry, Loaded};
use crate::Error;
use crate::config::MemorySize;
use crate::layout::{HIGH_RAM, RAM_ABOVE_GAP, RAM_GAP};
use crate::memory;

const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const CLASS_64: u8 = 2;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;

/// Puts a kernel where its program headers say.
pub(super) fn load<F: Read + ReadVolatile + Seek>(
    memory: &Memory,
    size: MemorySize,
    name: &str,
    image: &mut F,
) -> Result<Loaded, Error> {
    let foreign = |reason: String| Error::NotAKernel { name: name.to_owned(), reason };
    let headers = Headers::read(image).map_err(foreign)?;
    let end = headers.check(name, size)?;
    // The check above leaves only files that end before their segments do, or have odd notes.
    let loaded = Elf::load(memory, None, image, None);
    let loaded = loaded.map_err(|error| foreign(error.to_string()))?;
    let pvh = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(entry) => Some(entry.0),
        _ => None,
    };
    let entry = headers.entry(pvh).map_err(foreign)?;
    Ok(Loaded { entry, end, initrd_limit: RAM_GAP, header: None })
}

/// A segment to load.
#[derive(Debug)]
struct Segment {
    start: u64,
    size: u64,
}

impl Segment {
    fn contains(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.size)
    }
}

/// The parts of the ELF headers that say where things go.
#[derive(Debug)]
struct Headers {
    entry: u64,
    segments: Vec<Segment>,
}

impl Headers {
    fn read(image: &mut (impl Read + Seek)) -> Result<Self, String> {
        let mut header = [0; HEADER_SIZE];
        image.rewind().and_then(|()| image.read_exact(&mut header)).map_err(describe)?;
        if header[..4] != *b"\x7fELF" {
            return Err("it is not an ELF file".to_owned());
        }
        let machine = u16_at(&header, 18);
        if header[4] != CLASS_64 || machine != MACHINE_X86_64 {
            return Err(format!("it is an ELF file for machine {machine}, class {}", header[4]));
        }
        let (offset, size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
        if usize::from(size) != PROGRAM_HEADER_SIZE {
            return Err(format!("its program headers have {size} bytes each instead of 56"));
        }
        image.seek(SeekFrom::Start(offset)).map_err(describe)?;
        let mut segments = Vec::new();
        for _ in 0..count {
            let mut program_header = [0; PROGRAM_HEADER_SIZE];
            image.read_exact(&mut program_header).map_err(describe)?;
            let size = u64_at(&program_header, 40);
            if u32_at(&program_header, 0) == PT_LOAD && size > 0 {
                segments.push(Segment { start: u64_at(&program_header, 24), size });
            }
        }
        Ok(Self { entry: u64_at(&header, 24), segments })
    }

    /// Whether all segments fit into RAM; returns where the last one below the gap ends.
    fn check(&self, name: &str, size: MemorySize) -> Result<u64, Error> {
        let foreign = |reason| Error::NotAKernel { name: name.to_owned(), reason };
        let ram = memory::ranges(size);
        let mut low_end = HIGH_RAM;
        for segment in &self.segments {
            if segment.start < HIGH_RAM {
                return Err(foreign(format!("it wants to be loaded at {:#x}", segment.start)));
            }
            let end = segment.start.checked_add(segment.size).ok_or_else(|| {
                foreign(format!("its segment at {:#x} goes round the end", segment.start))
            })?;
            if !ram.iter().any(|range| range.start <= segment.start && end <= range.end()) {
                return Err(Error::MemoryTooSmall { memory: size, name: name.to_owned(), end });
            }
            if end <= RAM_GAP {
                low_end = low_end.max(end);
            }
        }
        Ok(low_end)
    }

    /// The kernel's entry. Linux gives the physical address of its 64-bit entry; other kernels give
    /// a virtual one, and have a PVH note.
    fn entry(&self, pvh: Option<u64>) -> Result<Entry, String> {
        let is_inside = |entry: u64| {
            entry < RAM_ABOVE_GAP && self.segments.iter().any(|segment| segment.contains(entry))
        };
        match pvh {
            _ if is_inside(self.entry) => Ok(Entry::Linux(self.entry)),
            Some(entry) if is_inside(entry) => Ok(Entry::Pvh(entry)),
            _ => Err(format!("its entry point {:#x} is in no segment", self.entry)),
        }
    }
}

fn describe(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is too short for an ELF file".to_owned(),
        _ => error.to_string(),
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{ENTRY, elf};
    use std::io::Cursor;
    use vm_memory::{Bytes, GuestAddress};

    fn try_load(bytes: &[u8]) -> Result<Loaded, Error> {
        let memory = memory::allocate(MemorySize::MIN).unwrap();
        load(&memory, MemorySize::MIN, "image", &mut Cursor::new(bytes))
    }

    #[test]
    fn a_kernel_lands_where_its_headers_say() {
        let memory = memory::allocate(MemorySize::MIN).unwrap();
        let mut image = Cursor::new(elf(&[0xfa, 0xf4, 0xeb, 0xfd]));
        let loaded = load(&memory, MemorySize::MIN, "image", &mut image).unwrap();
        assert_eq!((loaded.entry, loaded.end), (Entry::Linux(ENTRY), ENTRY + 4));
        let mut code = [0; 4];
        memory.read_slice(&mut code, GuestAddress(ENTRY)).unwrap();
        assert_eq!(code, [0xfa, 0xf4, 0xeb, 0xfd]);
    }

    /// The valid image with some bytes replaced.
    fn patched(offset: usize, bytes: &[u8]) -> &'static [u8] {
        let mut image = elf(&[0xf4; 16]).to_vec();
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        image.leak()
    }

    #[test]
    fn foreign_files_are_refused_with_the_reason() {
        let below = 0x8000_u64.to_le_bytes();
        let last = u64::MAX.to_le_bytes();
        for (image, reason) in [
            (&b""[..], "too short"),
            (b"\x7fELF", "too short"),
            (&[b'#'; 200], "not an ELF file"),
            (patched(4, &[1]), "machine 62, class 1"),
            (patched(18, &[183]), "machine 183, class 2"),
            (patched(54, &[1]), "1 bytes each"),
            (patched(56, &[200]), "too short"),
            (patched(HEADER_SIZE + 24, &below), "loaded at 0x8000"),
            (patched(HEADER_SIZE + 24, &last), "goes round the end"),
            (patched(24, &below), "entry point 0x8000"),
            (&elf(&[0xf4; 16])[..HEADER_SIZE + PROGRAM_HEADER_SIZE + 4], "read kernel image"),
        ] {
            let error = try_load(image).unwrap_err();
            assert!(matches!(error, Error::NotAKernel { .. }), "{error:?}");
            assert!(error.to_string().contains(reason), "'{error}' lacks '{reason}'");
        }
    }

    #[test]
    fn a_kernel_that_does_not_fit_is_refused_with_what_would_do() {
        let size = (7_u64 << 20).to_le_bytes();
        let error = try_load(patched(HEADER_SIZE + 40, &size)).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("memory of 2M is too small for 'image'"), "{text}");
        assert!(text.ends_with("try 8M or more"), "{text}");
    }

    #[test]
    fn a_note_leads_to_the_pvh_entry_where_there_is_no_other() {
        let loaded = try_load(crate::testkit::pvh(&[0xf4; 16])).unwrap();
        assert_eq!(loaded.entry, Entry::Pvh(ENTRY));
        // The note's content is the last of the file.
        let mut image = crate::testkit::pvh(&[0xf4; 16]).to_vec();
        let at = image.len() - 8;
        image[at..].copy_from_slice(&0x8000_u64.to_le_bytes());
        assert!(try_load(&image).unwrap_err().to_string().contains("in no segment"));
    }
}
