//! The DMA engine's transfers, cut at page boundaries as requests must be (`PCIe 2.2.7`).

use std::ops::Range;

use iommu::ats::{Access, AddressType, DmaRequest};
use iommu::ids::{Bdf, Iova, PAGE_SIZE};
use iommu::time::Instant;

use super::regs::BUFFER_SIZE;
use crate::pcie::Upstream;

/// One transfer between memory and the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Where in memory.
    pub(super) address: u64,
    /// Where in the buffer; within it.
    pub(super) buffer: Range<usize>,
    /// Read: memory to buffer.
    pub(super) access: Access,
}

impl Transfer {
    /// Does it. A piece that fails does not keep the others from being tried.
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
