//! Physical Region Pages: the addresses of a command's data (`NVMe 4.3`).
//!
//! ```text
//!   PRP1 ---> first piece, up to the end of its page
//!   PRP2 ---> second page, if the data has two
//!        ---> list: page, page, ..., page       up to the end of the list's page
//!                                     \--> next list, if there are more pages
//! ```

use iommu::ids::PAGE_SIZE;

use super::memory::{Memory, Segment};
use super::spec::Status;

/// Bytes in an entry.
const ENTRY_SIZE: u64 = 8;
/// Entries in a page.
const ENTRIES: usize = (PAGE_SIZE / ENTRY_SIZE) as usize;

/// The pieces of `length` bytes, [`super::MAX_TRANSFER`] at most.
///
/// # Errors
/// [`Status::InvalidPrpOffset`], and [`Status::DataTransferError`] if a list cannot be read.
pub(super) fn walk(
    prp1: u64,
    prp2: u64,
    length: usize,
    memory: &mut Memory<'_>,
) -> Result<Vec<Segment>, Status> {
    if !prp1.is_multiple_of(4) {
        return Err(Status::InvalidPrpOffset);
    }
    let first = length.min((PAGE_SIZE - prp1 % PAGE_SIZE) as usize);
    let mut segments = vec![Segment { address: prp1, length: first }];
    let mut left = length - first;
    if left > 0 && left <= PAGE_SIZE as usize {
        push_page(&mut segments, prp2, &mut left)?;
    }
    let mut list = prp2;
    while left > 0 {
        list = walk_list(list, &mut segments, &mut left, memory)?;
    }
    Ok(segments)
}

/// Adds the pages of one list. Returns the address of the next list. Only the first list may begin
/// inside of a page, so each further list has entries, and the walk ends.
fn walk_list(
    list: u64,
    segments: &mut Vec<Segment>,
    left: &mut usize,
    memory: &mut Memory<'_>,
) -> Result<u64, Status> {
    if !list.is_multiple_of(ENTRY_SIZE) {
        return Err(Status::InvalidPrpOffset);
    }
    let room = ((PAGE_SIZE - list % PAGE_SIZE) / ENTRY_SIZE) as usize;
    let count = left.div_ceil(PAGE_SIZE as usize).min(room);
    let mut bytes = [0; ENTRIES * ENTRY_SIZE as usize];
    let bytes = &mut bytes[..count * ENTRY_SIZE as usize];
    memory.read(list, bytes).map_err(|_| Status::DataTransferError)?;
    let mut entries = bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry));
    let more = *left > count * PAGE_SIZE as usize;
    for entry in entries.by_ref().take(count - usize::from(more)) {
        push_page(segments, entry, left)?;
    }
    match entries.next() {
        Some(next) if next.is_multiple_of(PAGE_SIZE) => Ok(next),
        Some(_) => Err(Status::InvalidPrpOffset),
        None => Ok(0),
    }
}

fn push_page(segments: &mut Vec<Segment>, address: u64, left: &mut usize) -> Result<(), Status> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Status::InvalidPrpOffset);
    }
    let length = (*left).min(PAGE_SIZE as usize);
    segments.push(Segment { address, length });
    *left -= length;
    Ok(())
}
