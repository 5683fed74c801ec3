//! The guest's RAM: anonymous memory of this process, in one piece below the PCI hole and, if
//! there is more, in a second one from 4 GiB up.

use iommu::Memory;
use vm_memory::GuestAddress;

use crate::Error;
use crate::config::MemorySize;
use crate::layout::{RAM_ABOVE_GAP, RAM_GAP, Range};

/// The ranges of RAM if its size is `size`.
pub(crate) fn ranges(size: MemorySize) -> Vec<Range> {
    let low = size.bytes().min(RAM_GAP);
    let mut ranges = vec![Range { start: 0, size: low }];
    let high = size.bytes() - low;
    if high > 0 {
        ranges.push(Range { start: RAM_ABOVE_GAP, size: high });
    }
    ranges
}

/// Gets `size` of RAM from the host. Pages are only taken when they are first touched.
pub(crate) fn allocate(size: MemorySize) -> Result<Memory, Error> {
    let host_size =
        |range: Range| usize::try_from(range.size).map_err(|_| Error::NoMemory { size });
    let ranges = ranges(size)
        .into_iter()
        .map(|range| Ok((GuestAddress(range.start), host_size(range)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    Memory::from_ranges(&ranges).map_err(|_| Error::NoMemory { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_memory_is_one_piece_and_large_memory_goes_round_the_hole() {
        let ranges = |text: &str| {
            ranges(text.parse().unwrap()).iter().map(|r| (r.start, r.size)).collect::<Vec<_>>()
        };
        assert_eq!(ranges("256M"), [(0, 256 << 20)]);
        assert_eq!(ranges("2816M"), [(0, 0xb000_0000)]);
        assert_eq!(ranges("4G"), [(0, 0xb000_0000), (1 << 32, (4 << 30) - 0xb000_0000)]);
    }
}
