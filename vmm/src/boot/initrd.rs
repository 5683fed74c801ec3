//! The initramfs: as high as it goes, where a kernel that unpacks itself does not come.

use iommu::Memory;

use super::{Ram, low_ram, write_boot_data};
use crate::Error;
use crate::config::Module;
use crate::layout::Range;

const PAGE: u64 = 4096;

/// Puts the initramfs, of which there is one at the most, between `kernel_end` and `limit`.
pub(super) fn load(
    memory: &Memory,
    ram: Ram<'_>,
    kernel_end: u64,
    limit: u64,
    modules: &[Module],
) -> Result<Option<Range>, Error> {
    // A comma or a blank only means something to a multiboot image.
    let path = match modules {
        [] => return Ok(None),
        [module] => std::path::Path::new(&module.string),
        [_, second, ..] => return Err(Error::NoModules { path: second.path.clone() }),
    };
    let error = |source| Error::ModuleFile { path: path.to_owned(), source };
    let size = ram.size;
    // Below all reserved memory, so that it need not look for a gap.
    let reserved = ram.reserved.first().map_or(u64::MAX, |range| range.start);
    let limit = low_ram(size).min(limit).min(reserved);
    let room = limit.saturating_sub(kernel_end.next_multiple_of(PAGE));
    let length = std::fs::metadata(path).map_err(error)?.len();
    // Whole pages, because the end of memory is at one.
    if length.next_multiple_of(PAGE) > room {
        return Err(Error::InitrdTooLarge { path: path.to_owned(), length, room, memory: size });
    }
    let bytes = std::fs::read(path).map_err(error)?;
    let length = bytes.len() as u64;
    if length.next_multiple_of(PAGE) > room {
        return Err(Error::InitrdTooLarge { path: path.to_owned(), length, room, memory: size });
    }
    let start = (limit - length) & !(PAGE - 1);
    write_boot_data(memory, start, &bytes)?;
    Ok(Some(Range { start, size: length }))
}
