//! Page tables that map the first 4 GiB one to one with 2-MiB pages.

use iommu::Memory;

use super::write_boot_data;
use crate::Error;
use crate::layout::PAGE_TABLES;

const TABLE_SIZE: u64 = 4096;
const ENTRIES: u64 = 512;
const GIGABYTES: u64 = 4;
const LARGE_PAGE: u64 = 2 << 20;

const PRESENT_WRITABLE: u64 = 0b11;
/// PS: this entry maps a page and refers to no table.
const PAGE_SIZE_BIT: u64 = 1 << 7;

pub(super) fn write(memory: &Memory) -> Result<(), Error> {
    write_boot_data(memory, PAGE_TABLES, &build())
}

/// One PML4, one page directory pointer table, four page directories.
fn build() -> Vec<u8> {
    let pointers = PAGE_TABLES + TABLE_SIZE;
    let directories = pointers + TABLE_SIZE;
    let pml4 = [pointers | PRESENT_WRITABLE].into_iter();
    let pdpt = (0..GIGABYTES).map(|index| (directories + index * TABLE_SIZE) | PRESENT_WRITABLE);
    let pages = 0..GIGABYTES * ENTRIES;
    let directories = pages.map(|page| (page * LARGE_PAGE) | PAGE_SIZE_BIT | PRESENT_WRITABLE);
    fill(pml4).chain(fill(pdpt)).chain(directories).flat_map(u64::to_le_bytes).collect()
}

/// `entries`, then empty ones up to the end of the table.
fn fill(entries: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    entries.chain(std::iter::repeat(0)).take(ENTRIES as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Walks the tables as a processor does; `None` where nothing is mapped.
    fn translate(tables: &[u8], address: u64) -> Option<u64> {
        let read = |table: u64, index: u64| {
            let at = usize::try_from(table - PAGE_TABLES + (index & 0x1ff) * 8).unwrap();
            let entry = u64::from_le_bytes(tables[at..at + 8].try_into().unwrap());
            (entry & 1 == 1).then_some(entry)
        };
        let table = |entry: u64| entry & 0xf_ffff_ffff_f000;
        let pointers = table(read(PAGE_TABLES, address >> 39)?);
        let directory = table(read(pointers, address >> 30)?);
        let page = read(directory, address >> 21)?;
        assert_ne!(page & PAGE_SIZE_BIT, 0);
        Some((page & !(LARGE_PAGE - 1)) | (address & (LARGE_PAGE - 1)))
    }

    proptest! {
        #[test]
        fn every_address_below_4_gib_is_mapped_to_itself(address: u32) {
            prop_assert_eq!(translate(&build(), address.into()), Some(address.into()));
        }

        #[test]
        fn nothing_above_is_mapped(address in 1_u64 << 32..1 << 48) {
            prop_assert_eq!(translate(&build(), address), None);
        }
    }
}
