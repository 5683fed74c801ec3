//! The DMA engine's transfers, split at page boundaries as requests must be (`PCIe 2.2.7`).

use std::ops::Range;

use iommu::ats::{Access, AddressType, DmaRequest};
use iommu::ids::{Bdf, Iova, PAGE_SIZE};
use iommu::time::Instant;

use super::regs::BUFFER_SIZE;
use crate::pcie::Upstream;

/// One transfer between memory and the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    /// The address in memory.
    pub(super) address: u64,
    /// The bytes in the buffer.
    pub(super) buffer: Range<usize>,
    /// The direction; a read is from memory to the buffer.
    pub(super) access: Access,
}

impl Transfer {
    /// Runs the transfer. A piece that fails does not stop the others.
    pub(super) fn run(
        self,
        requester: Bdf,
        buffer: &mut [u8; BUFFER_SIZE],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        let mut address = self.address;
        let mut rest = &mut buffer[self.buffer];
        while !rest.is_empty() {
            let to_page_end = (PAGE_SIZE - address % PAGE_SIZE) as usize;
            let (piece, behind) = rest.split_at_mut(to_page_end.min(rest.len()));
            let request = DmaRequest {
                requester,
                pasid: None,
                privileged: false,
                address: Iova(address),
                address_type: AddressType::Untranslated,
                access: self.access,
            };
            match self.access {
                Access::Write => upstream.write(request, piece, now),
                Access::Read => {
                    if upstream.read(request, piece, now).is_err() {
                        piece.fill(0);
                    }
                }
            }
            address = address.wrapping_add(piece.len() as u64);
            rest = behind;
        }
    }
}
