//! The initramfs: as high as it goes, where a kernel that unpacks itself does not come.
//!
//! A comma or a blank in the name of its file means nothing here, as it does for multiboot images, so
//! the whole string is the path.

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
    let module = match modules {
        [] => return Ok(None),
        [Module::File { string, .. }] => {
            Module::File { path: string.into(), string: string.clone() }
        }
        [module] => module.clone(),
        [_, second, ..] => return Err(Error::NoModules { name: second.to_string() }),
    };
    let size = ram.size;
    // Below all reserved memory, so that it need not look for a gap.
    let reserved = ram.reserved.first().map_or(u64::MAX, |range| range.start);
    let limit = low_ram(size).min(limit).min(reserved);
    let room = limit.saturating_sub(kernel_end.next_multiple_of(PAGE));
    // Whole pages, because the end of memory is at one.
    let bytes = match module.read(room & !(PAGE - 1))? {
        Ok(bytes) => bytes,
        Err(length) => {
            let name = module.to_string();
            return Err(Error::InitrdTooLarge { name, length, room, memory: size });
        }
    };
    let length = bytes.len() as u64;
    let start = (limit - length) & !(PAGE - 1);
    write_boot_data(memory, start, &bytes)?;
    Ok(Some(Range { start, size: length }))
}
