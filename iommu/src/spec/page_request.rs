//! The page request queue: its registers (`VT-d 11.4.11`) and descriptors (`VT-d 7.4.1`).

use bitfield_struct::bitfield;

/// Bytes of a page request descriptor.
pub const DESCRIPTOR_BYTES: u32 = 32;

/// The bits of PQH and PQT that hold an offset into the ring: 18:5.
pub const QUEUE_OFFSET: u32 = 0x0007_ffe0;

/// PQA, address and size of the ring (`VT-d 11.4.11.3`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageRequestQueueAddress {
    /// PQS: the ring has 2^PQS pages, 2^(PQS + 7) descriptors.
    #[bits(3)]
    pub size: u8,
    #[bits(9)]
    __: u16,
    /// PQA: bits 63:12 of the ring's address.
    #[bits(52)]
    pub page: u64,
}

impl PageRequestQueueAddress {
    /// The ring's size in bytes, 4 KiB to 512 KiB.
    pub const fn bytes(self) -> u32 {
        4096 << self.size()
    }
}

/// PRS, the page request status register (`VT-d 11.4.11.4`).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PageRequestStatus {
    /// PPR: the unit has written a request since software last cleared this bit.
    pub pending: bool,
    /// PRO: the ring was full. The unit writes no request until software clears this bit.
    pub overflow: bool,
    #[bits(30)]
    __: u32,
}

/// Page request descriptor (`VT-d 7.4.1.1`), the lower 128 bits. The upper 128 bits are zero.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PageRequestDescriptor {
    /// Type: 1.
    #[bits(8, default = 1)]
    pub kind: u8,
    /// PP: the request has a PASID.
    pub pasid_present: bool,
    #[bits(7)]
    __: u8,
    /// RID: the function that asks.
    #[bits(16)]
    pub requester: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    /// EXR: the function asks for execute permission, with PASID.
    pub execute: bool,
    /// PMR: privileged mode, with PASID.
    pub privileged: bool,
    #[bits(10)]
    __: u16,
    /// RDR: the function asks for read permission.
    pub read: bool,
    /// WRR: the function asks for write permission.
    pub write: bool,
    /// LPIG: the last request of its group, which software must answer by a page group response.
    pub last: bool,
    /// PRGI: the PRG Index.
    #[bits(9)]
    pub group: u16,
    /// ADDR: bits 63:12.
    #[bits(52)]
    pub page: u64,
}

impl PageRequestDescriptor {
    /// The descriptor in memory: little endian, with its zero upper half.
    pub fn to_memory(self) -> [u8; DESCRIPTOR_BYTES as usize] {
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        bytes[..16].copy_from_slice(&self.into_bits().to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_the_bits_of_the_specification() {
        let descriptor = PageRequestDescriptor::new()
            .with_pasid_present(true)
            .with_requester(0x0123)
            .with_pasid(0xabcde)
            .with_privileged(true)
            .with_write(true)
            .with_last(true)
            .with_group(0x1ff)
            .with_page(0x4_5678);
        let low = 1 | 1 << 8 | 0x0123 << 16 | 0xabcde << 32 | 1 << 53;
        let high: u64 = 1 << 1 | 1 << 2 | 0x1ff << 3 | 0x4_5678 << 12;
        let mut expected = [0; 32];
        expected[..8].copy_from_slice(&u64::to_le_bytes(low));
        expected[8..16].copy_from_slice(&high.to_le_bytes());
        assert_eq!(descriptor.to_memory(), expected);
    }

    #[test]
    fn an_offset_reaches_the_end_of_the_largest_ring() {
        let largest = PageRequestQueueAddress::new().with_size(7);
        assert_eq!(largest.bytes() - DESCRIPTOR_BYTES, QUEUE_OFFSET);
        assert_eq!(PageRequestQueueAddress::new().bytes() / DESCRIPTOR_BYTES, 128);
    }
}
