//! Multiboot images (Multiboot 0.6.96): ELF32 files, and flat ones whose header says where they go.
//!
//! ```text
//!   0x7000   information: memory, command line, modules, memory map
//!   0x20000  command line: the image's name, then what the user says
//!   image    where its program headers, or its multiboot header, say: also below 1 MiB
//!   behind   modules, each at a page, from 1 MiB up
//! ```
//!
//! The first CPU starts in 32-bit protected mode: paging off, flat segments, EBX at the information.

use iommu::Memory;
use vm_memory::{Bytes, GuestAddress};

use super::{Ram, Start, low_ram, write_boot_data, write_cmdline, zero_page};
use crate::Error;
use crate::config::{MemorySize, Module};
use crate::layout::{BOOT_PARAMS, CMDLINE, HIGH_RAM, LOW_RAM_END, Range};

const MAGIC: u32 = 0x1bad_b002;
/// A multiboot loader leaves this in EAX.
pub(super) const LOADER_MAGIC: u64 = 0x2bad_b002;
/// The header lies in the first 8 KiB, at a multiple of four.
pub(super) const SEARCHED: usize = 8192;
/// Header flag: the header has the addresses of the image.
const HAS_ADDRESSES: u32 = 1 << 16;
/// Header flags that this loader obeys, or that it meets in any case: modules at pages, memory
/// information.
const KNOWN_FLAGS: u32 = HAS_ADDRESSES | 0b11;
/// Flags of the information: memory, command line, modules, memory map.
const INFO_FLAGS: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6;

const MODULE_LIST: u64 = BOOT_PARAMS + 0x100;
const MEMORY_MAP: u64 = BOOT_PARAMS + 0x400;
/// Modules that the list has room for.
const MAX_MODULES: usize = 32;
const MODULE_STRINGS: u64 = CMDLINE + 0x1000;
const MAX_STRINGS: usize = 0x1000;

/// What an image must leave alone below 1 MiB: the BIOS's data, which real mode uses, and what this loader
/// puts there.
const KEPT: [Range; 3] = [
    Range { start: 0, size: 0x500 },
    Range { start: BOOT_PARAMS, size: PAGE },
    Range { start: CMDLINE, size: 2 * PAGE },
];

const CLASS_32: u8 = 1;
const MACHINE_386: u16 = 3;
const PT_LOAD: u32 = 1;
const PAGE: u64 = 4096;

/// A piece of the image, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// In the file.
    offset: usize,
    in_file: usize,
    address: u64,
    in_memory: u64,
}

/// An image that has been looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    entry: u64,
    segments: Vec<Segment>,
}

/// Whether a multiboot header is in `bytes`.
pub(super) fn has_header(bytes: &[u8]) -> bool {
    find_header(bytes).is_some()
}

/// The image whose first bytes these are, `None` if they are no multiboot image. `Err` names the
/// error of an invalid one.
pub(super) fn parse(bytes: &[u8]) -> Option<Result<Image, String>> {
    let at = find_header(bytes)?;
    Some(parse_image(bytes, at))
}

fn find_header(bytes: &[u8]) -> Option<usize> {
    let searched = &bytes[..bytes.len().min(SEARCHED)];
    (0..searched.len()).step_by(4).find(|at| u32_at(searched, *at) == Some(MAGIC))
}

fn parse_image(bytes: &[u8], header: usize) -> Result<Image, String> {
    let word = |index: usize| {
        u32_at(bytes, header + 4 * index).ok_or("its multiboot header is cut off".to_owned())
    };
    let (flags, checksum) = (word(1)?, word(2)?);
    if MAGIC.wrapping_add(flags).wrapping_add(checksum) != 0 {
        return Err("the checksum of its multiboot header is wrong".to_owned());
    }
    // Flags 0 to 15 must be understood, others may be passed over.
    if flags & 0xffff & !KNOWN_FLAGS != 0 {
        return Err(format!("its multiboot header asks for what is not here, flags {flags:#x}"));
    }
    if flags & HAS_ADDRESSES != 0 {
        let [at, load, load_end, bss_end, entry] =
            [word(3)?, word(4)?, word(5)?, word(6)?, word(7)?];
        return parse_flat(bytes, header, [at, load, load_end, bss_end], entry);
    }
    parse_elf(bytes)
}

/// The header says where the image goes (`Multiboot 3.1.3`).
fn parse_flat(
    bytes: &[u8],
    header: usize,
    [at, load, load_end, bss_end]: [u32; 4],
    entry: u32,
) -> Result<Image, String> {
    let odd = || "the addresses in its multiboot header contradict each other".to_owned();
    let before = at.checked_sub(load).ok_or_else(odd)? as usize;
    let offset = header.checked_sub(before).ok_or_else(odd)?;
    let available = bytes.len() - offset;
    let in_file = match load_end {
        0 => available,
        end => end.checked_sub(load).ok_or_else(odd)? as usize,
    };
    if in_file > available {
        return Err("it is shorter than its multiboot header says".to_owned());
    }
    let in_memory = match bss_end {
        0 => in_file as u64,
        end => u64::from(end.checked_sub(load).ok_or_else(odd)?).max(in_file as u64),
    };
    let segment = Segment { offset, in_file, address: load.into(), in_memory };
    Ok(Image { entry: entry.into(), segments: vec![segment] })
}

fn parse_elf(bytes: &[u8]) -> Result<Image, String> {
    let short = || "it is shorter than its ELF header says".to_owned();
    let half = |at| u16_at(bytes, at).ok_or_else(short);
    let word = |at| u32_at(bytes, at).ok_or_else(short);
    if bytes.get(..4) != Some(b"\x7fELF")
        || bytes.get(4) != Some(&CLASS_32)
        || half(18)? != MACHINE_386
    {
        return Err("its multiboot header gives no addresses, and it is no ELF32 file".to_owned());
    }
    let (entry, table) = (word(24)?, word(28)? as usize);
    let (size, count) = (usize::from(half(42)?), usize::from(half(44)?));
    let mut segments = Vec::new();
    for index in 0..count {
        let at = index * size + table;
        if word(at)? != PT_LOAD || word(at + 20)? == 0 {
            continue;
        }
        let (offset, in_file) = (word(at + 4)? as usize, word(at + 16)? as usize);
        if offset.checked_add(in_file).is_none_or(|end| end > bytes.len()) {
            return Err(short());
        }
        let (address, in_memory) =
            (word(at + 12)?.into(), word(at + 20)?.max(in_file as u32).into());
        segments.push(Segment { offset, in_file, address, in_memory });
    }
    Ok(Image { entry: entry.into(), segments })
}

/// Puts an image, its modules and the multiboot information into memory.
pub(super) fn load(
    memory: &Memory,
    ram: Ram<'_>,
    (name, bytes): (&str, &[u8]),
    image: &Image,
    cmdline: &str,
    modules: &[Module],
) -> Result<Start, Error> {
    let foreign = |reason: String| Error::NotAKernel { name: name.to_owned(), reason };
    let size = ram.size;
    check(name, size, image)?;
    for segment in &image.segments {
        let data = &bytes[segment.offset..segment.offset + segment.in_file];
        // The memory behind it is zero, as all memory is at first.
        memory
            .write_slice(data, GuestAddress(segment.address))
            .map_err(|error| foreign(error.to_string()))?;
    }
    let end = image.segments.iter().map(|segment| segment.address + segment.in_memory).max();
    let end = end.unwrap_or(HIGH_RAM).max(HIGH_RAM);
    let placed = load_modules(memory, size, end, modules)?;
    let end = placed.last().map_or(end, |[_, end, _]| u64::from(*end));
    ram.check(name, end)?;
    write_cmdline(memory, format!("{} {cmdline}", short_name(name)).trim_end())?;
    write_info(memory, ram, &placed)?;
    Ok(Start::Flat { entry: image.entry, info: BOOT_PARAMS, magic: LOADER_MAGIC })
}

/// The name without directories, of a length that leaves room for arguments.
fn short_name(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).chars().take(255).collect()
}

fn check(name: &str, size: MemorySize, image: &Image) -> Result<(), Error> {
    let foreign = |reason: String| Error::NotAKernel { name: name.to_owned(), reason };
    let low = low_ram(size);
    for segment in &image.segments {
        let end = segment.address + segment.in_memory;
        let overlaps = |range: &Range| segment.address < range.end() && range.start < end;
        if segment.address < HIGH_RAM && (end > LOW_RAM_END || KEPT.iter().any(overlaps)) {
            let address = segment.address;
            let reason = "where firmware and boot loader have their data";
            return Err(foreign(format!("it wants to be loaded at {address:#x}, {reason}")));
        }
        if end > low {
            return Err(Error::MemoryTooSmall { memory: size, name: name.to_owned(), end });
        }
    }
    let holds = |segment: &Segment| {
        (segment.address..segment.address + segment.in_memory).contains(&image.entry)
    };
    match image.segments.iter().any(holds) {
        true => Ok(()),
        false => Err(foreign(format!("its entry point {:#x} is in no segment", image.entry))),
    }
}

/// A module that has been loaded: first and last address, and where its string is.
type Placed = [u32; 3];

fn load_modules(
    memory: &Memory,
    size: MemorySize,
    end: u64,
    modules: &[Module],
) -> Result<Vec<Placed>, Error> {
    if modules.len() > MAX_MODULES {
        return Err(Error::TooManyModules { modules: modules.len(), max: MAX_MODULES });
    }
    let (mut at, mut strings) = (end.next_multiple_of(PAGE), Vec::new());
    let mut placed = Vec::new();
    for module in modules {
        let bytes = module.read(low_ram(size).saturating_sub(at))?.map_err(|length| {
            let end = at.saturating_add(length);
            Error::MemoryTooSmall { memory: size, name: module.to_string(), end }
        })?;
        let end = at + bytes.len() as u64;
        write_boot_data(memory, at, &bytes)?;
        // All of these lie below the gap, and so below 4 GiB.
        placed.push([at as u32, end as u32, (MODULE_STRINGS as usize + strings.len()) as u32]);
        strings.extend_from_slice(module.string().as_bytes());
        strings.push(0);
        at = end.next_multiple_of(PAGE);
    }
    if strings.len() > MAX_STRINGS {
        return Err(Error::CmdlineTooLong { length: strings.len() });
    }
    write_boot_data(memory, MODULE_STRINGS, &strings)?;
    Ok(placed)
}

fn write_info(memory: &Memory, ram: Ram<'_>, modules: &[Placed]) -> Result<(), Error> {
    let map: Vec<u8> = zero_page::memory_map(ram)
        .into_iter()
        .flat_map(|(range, kind)| {
            let (start, size) = (range.start.to_le_bytes(), range.size.to_le_bytes());
            [&20_u32.to_le_bytes()[..], &start, &size, &(kind as u32).to_le_bytes()].concat()
        })
        .collect();
    let list: Vec<u8> = modules
        .iter()
        .flat_map(|[start, end, string]| [*start, *end, *string, 0])
        .flat_map(u32::to_le_bytes)
        .collect();
    let upper = (low_ram(ram.size) - HIGH_RAM) >> 10;
    let mut info = [0_u32; 13];
    info[0] = INFO_FLAGS;
    // In KiB, and addresses below 1 MiB: all fit.
    (info[1], info[2]) = ((LOW_RAM_END >> 10) as u32, upper as u32);
    info[4] = CMDLINE as u32;
    (info[5], info[6]) = (modules.len() as u32, MODULE_LIST as u32);
    (info[11], info[12]) = (map.len() as u32, MEMORY_MAP as u32);
    write_boot_data(memory, BOOT_PARAMS, &info.map(u32::to_le_bytes).concat())?;
    write_boot_data(memory, MODULE_LIST, &list)?;
    write_boot_data(memory, MEMORY_MAP, &map)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
