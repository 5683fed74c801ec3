//! Interrupt remapping: table entries, table register, and messages before and after remapping.
//!
//! ```text
//! remappable    address fee | handle 14:0 | 1 | SHV | handle 15 | 00     data: subhandle
//! compatibility address fee | destination | ... 0 | RH | DM | 00         data: vector, modes
//! delivered     as compatibility, with bits 31:8 of the destination in address bits 63:40
//! ```

use bitfield_struct::bitfield;

/// Address bits 31:20 of every interrupt.
const RANGE: u16 = 0xfee;

/// IRTA, the interrupt remapping table address register (`VT-d 5.1.3`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptTableAddress {
    /// S: the table has 2^(S+1) entries.
    #[bits(4)]
    pub size: u8,
    #[bits(7)]
    __: u8,
    /// EIME: destinations have 32 bits, not 8; requests in compatibility format are blocked.
    pub extended: bool,
    /// IRTA: bits 63:12 of the table's address.
    #[bits(52)]
    pub page: u64,
}

impl InterruptTableAddress {
    /// The number of entries in the table, 2 to 65,536.
    pub const fn entries(self) -> u32 {
        2 << self.size()
    }
}

/// IRTE, an entry of the interrupt remapping table, in remapped form (`VT-d 9.9`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct Irte {
    /// P: present.
    pub present: bool,
    /// FPD: qualified faults are not recorded.
    pub fault_disable: bool,
    /// DM: the destination is logical, not physical.
    pub logical: bool,
    /// RH: redirection hint.
    pub redirection_hint: bool,
    /// TM: level-triggered, not edge.
    pub level: bool,
    /// DLM: delivery mode, see [`is_delivery_mode`].
    #[bits(3)]
    pub delivery_mode: u8,
    /// Available to software.
    #[bits(4)]
    pub available: u8,
    /// Must be zero.
    #[bits(3)]
    pub reserved_low: u8,
    /// IM: the entry is in posted form, which needs CAP.PI.
    pub posted: bool,
    /// V: vector.
    pub vector: u8,
    /// Must be zero.
    pub reserved_middle: u8,
    /// DST. With EIME it has 32 bits; without, the destination is in bits 15:8, and the others must
    /// be zero.
    pub destination: u32,
    /// SID: the requester that may use the entry.
    pub source_id: u16,
    /// SQ: the low bits of SID to ignore: 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0.
    #[bits(2)]
    pub source_qualifier: u8,
    /// SVT: 0 no validation, 1 by SID and SQ, 2 by a range of buses from SID 15:8 to SID 7:0.
    #[bits(2)]
    pub source_validation: u8,
    /// Must be zero.
    #[bits(44)]
    pub reserved_high: u64,
}

/// Whether a delivery mode exists. Fixed, lowest priority, SMI, NMI, INIT and ExtINT do; 3 and 6
/// are reserved.
pub const fn is_delivery_mode(mode: u8) -> bool {
    matches!(mode, 0 | 1 | 2 | 4 | 5 | 7)
}

/// The address of a request in remappable format (`VT-d 5.1.2.2`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RemappableAddress {
    #[bits(2)]
    __: u8,
    /// Bit 15 of the handle.
    pub handle_high: bool,
    /// SHV: the data holds a subhandle. The unit adds it to the handle.
    pub subhandle_valid: bool,
    /// Interrupt format: set for remappable, clear for compatibility.
    #[bits(default = true)]
    pub remappable: bool,
    /// Bits 14:0 of the handle.
    #[bits(15)]
    pub handle_low: u16,
    /// 0xfee.
    #[bits(12, default = RANGE)]
    pub range: u16,
    __: u32,
}

impl RemappableAddress {
    /// The address of an interrupt with this handle.
    pub const fn for_handle(handle: u16) -> Self {
        Self::new().with_handle_low(handle & 0x7fff).with_handle_high(handle >> 15 != 0)
    }

    /// All 16 bits of the handle.
    pub const fn handle(self) -> u16 {
        self.handle_low() | (self.handle_high() as u16) << 15
    }
}

/// The data of a request in remappable format. It is ignored without SHV.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RemappableData {
    /// The number to add to the handle.
    pub subhandle: u16,
    /// Must be zero.
    pub reserved: u16,
}

/// The address of an interrupt to the local APICs, in compatibility format (`VT-d 5.1.2.1`). Bits
/// 63:40 hold the upper bits of a 32-bit destination, as in FEUADDR and in KVM
/// (`KVM_X2APIC_API_USE_32BIT_IDS`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct DeliveryAddress {
    #[bits(2)]
    __: u8,
    /// DM: the destination is logical.
    pub logical: bool,
    /// RH: redirection hint.
    pub redirection_hint: bool,
    #[bits(8)]
    __: u8,
    /// Bits 7:0 of the destination.
    pub destination_low: u8,
    /// 0xfee.
    #[bits(12, default = RANGE)]
    pub range: u16,
    __: u8,
    /// Bits 31:8 of the destination.
    #[bits(24)]
    pub destination_high: u32,
}

impl DeliveryAddress {
    /// The address of an interrupt to this destination.
    pub const fn to(destination: u32) -> Self {
        Self::new().with_destination_low(destination as u8).with_destination_high(destination >> 8)
    }
}

/// The data of an interrupt to the local APICs.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DeliveryData {
    /// The vector.
    pub vector: u8,
    /// Delivery mode.
    #[bits(3)]
    pub delivery_mode: u8,
    #[bits(3)]
    __: u8,
    /// Level: asserted. Only the de-assertion of an INIT clears it.
    #[bits(default = true)]
    pub assert: bool,
    /// Trigger mode: level. The local APIC broadcasts the end of the interrupt.
    pub level: bool,
    __: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_have_the_bits_of_the_specification() {
        let address = RemappableAddress::for_handle(0x8001).with_subhandle_valid(true);
        assert_eq!(address.into_bits(), 0xfee0_003c);
        let delivery = DeliveryAddress::to(0x0123_4567).with_logical(true);
        assert_eq!(delivery.into_bits(), 0x0123_4500_fee6_7004);
        let data = DeliveryData::new().with_vector(0x31).with_delivery_mode(1).with_level(true);
        assert_eq!(data.into_bits(), 0xc131);
    }

    #[test]
    fn an_entry_has_the_bits_of_the_specification() {
        let entry = Irte::from_bits(0x0005_0100_0000_0200_0031_0001);
        assert!(entry.present() && !entry.posted());
        assert_eq!((entry.vector(), entry.destination()), (0x31, 0x0200));
        assert_eq!((entry.source_id(), entry.source_qualifier()), (0x0100, 1));
        assert_eq!(entry.source_validation(), 1);
    }

    proptest! {
        #[test]
        fn a_handle_survives_its_address(handle: u16) {
            prop_assert_eq!(RemappableAddress::for_handle(handle).handle(), handle);
        }
    }
}
