//! Fault status (`VT-d 11.4.7`), fault reasons (`VT-d 7.1.3`) and fault records (`VT-d 11.4.7.6`).

use std::fmt;

use bitfield_struct::bitfield;
use serde::Serialize;

/// FSTS, the fault status register.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FaultStatus {
    /// PFO: the unit has lost a fault, because the next record was in use.
    pub overflow: bool,
    /// PPF: a record is in use.
    pub pending: bool,
    #[bits(2)]
    __: u8,
    /// IQE: Invalidation Queue Error.
    pub queue_error: bool,
    /// ICE: Invalidation Completion Error.
    pub completion_error: bool,
    /// ITE: Invalidation Time-out Error.
    pub timeout_error: bool,
    __: bool,
    /// FRI: the index of the first record in use, while PPF is set.
    #[bits(8)]
    pub record_index: u8,
    __: u16,
}

/// FECTL, IECTL and PECTL: the control registers of an event.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventControl {
    #[bits(30)]
    __: u32,
    /// IP: a message is pending until software clears IM.
    pub pending: bool,
    /// IM: the unit holds messages back.
    pub masked: bool,
}

/// A fault reason code. Codes that this model reports have names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FaultReason(pub u8);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl FaultReason {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The meaning of the code, as a clause for messages.
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    _ => "reserved reason",
                }
            }
        }
    };
}

reasons! {
    /// Legacy: root entry not present.
    ROOT_NOT_PRESENT = 0x1, "the root entry is not present";
    /// Legacy: context entry not present.
    CONTEXT_NOT_PRESENT = 0x2, "the context entry is not present";
    /// Legacy: the context entry has a translation type or width that the unit lacks.
    CONTEXT_INVALID = 0x3, "the context entry is programmed wrongly";
    /// Legacy: input address above the width of the tables or of the unit.
    ADDRESS_BEYOND_WIDTH = 0x4, "the address is beyond the address width";
    /// Legacy: no write permission.
    WRITE_DENIED = 0x5, "writing is not permitted";
    /// Legacy: no read permission.
    READ_DENIED = 0x6, "reading is not permitted";
    /// Legacy: a second-stage table cannot be read.
    PAGE_TABLE_INACCESSIBLE = 0x7, "a second-stage table cannot be read";
    /// Legacy: the root table cannot be read.
    ROOT_INACCESSIBLE = 0x8, "the root table cannot be read";
    /// Legacy: the context table cannot be read.
    CONTEXT_INACCESSIBLE = 0x9, "the context table cannot be read";
    /// Legacy: reserved bits in the root entry.
    ROOT_RESERVED = 0xa, "reserved bits are set in the root entry";
    /// Legacy: reserved bits in the context entry.
    CONTEXT_RESERVED = 0xb, "reserved bits are set in the context entry";
    /// Legacy: reserved bits in a second-stage entry.
    PAGE_TABLE_RESERVED = 0xc, "reserved bits are set in a second-stage entry";
    /// Legacy: the context entry does not allow translation or translated requests.
    ATS_BLOCKED = 0xd, "the context entry blocks ATS requests";
    /// Legacy: the output lies in the interrupt range.
    INTERRUPT_RANGE = 0xe, "the translated address lies in the interrupt range";
    /// Interrupt: reserved bits in a request in remappable format.
    IR_REQUEST_RESERVED = 0x20, "reserved bits are set in the interrupt request";
    /// Interrupt: the index is beyond the table, or its entry beyond the host address width.
    IR_INDEX_BEYOND_TABLE = 0x21, "the interrupt index is beyond the interrupt remapping table";
    /// Interrupt: IRTE not present.
    IR_ENTRY_NOT_PRESENT = 0x22, "the interrupt remapping table entry is not present";
    /// Interrupt: the IRTE cannot be read.
    IR_ENTRY_INACCESSIBLE = 0x23, "the interrupt remapping table entry cannot be read";
    /// Interrupt: reserved bits or values in the IRTE, or the posted form without CAP.PI.
    IR_ENTRY_RESERVED = 0x24, "reserved bits are set in the interrupt remapping table entry";
    /// Interrupt: a request in compatibility format while those are blocked.
    IR_COMPATIBILITY_BLOCKED = 0x25, "interrupts in compatibility format are blocked";
    /// Interrupt: the requester does not match the IRTE.
    IR_SOURCE_MISMATCH = 0x26, "the interrupt comes from a requester that the entry is not for";
    /// Interrupt: a request to the interrupt range that is not an interrupt.
    IR_MALFORMED = 0x29, "a request to the interrupt range is not a write of a dword";
    /// Scalable: RTADDR.TTM is reserved or lacks its capability.
    TABLE_MODE_INVALID = 0x30, "RTADDR names a translation table mode that the unit lacks";
    /// A request with PASID in legacy mode.
    PASID_IN_LEGACY_MODE = 0x31, "a request with PASID came in legacy mode";
    /// A page request in legacy mode.
    PAGE_REQUEST_IN_LEGACY_MODE = 0x32, "a page request came in legacy mode";
    /// Scalable: the root table cannot be read.
    SM_ROOT_INACCESSIBLE = 0x38, "the scalable-mode root table cannot be read";
    /// Scalable: the half of the root entry is not present.
    SM_ROOT_NOT_PRESENT = 0x39, "the scalable-mode root entry is not present";
    /// Scalable: reserved bits in the root entry.
    SM_ROOT_RESERVED = 0x3a, "reserved bits are set in the scalable-mode root entry";
    /// Scalable: the context table cannot be read.
    SM_CONTEXT_INACCESSIBLE = 0x40, "the scalable-mode context table cannot be read";
    /// Scalable: context entry not present.
    SM_CONTEXT_NOT_PRESENT = 0x41, "the scalable-mode context entry is not present";
    /// Scalable: reserved bits in the context entry.
    SM_CONTEXT_RESERVED = 0x42, "reserved bits are set in the scalable-mode context entry";
    /// Scalable: the context entry has contradictory fields.
    SM_CONTEXT_INVALID = 0x43, "the scalable-mode context entry is programmed wrongly";
    /// Scalable: the context entry does not enable the Device-TLB.
    SM_ATS_BLOCKED = 0x44, "the scalable-mode context entry blocks ATS requests";
    /// Scalable: the context entry does not allow PASIDs.
    SM_PASID_DISABLED = 0x45, "the scalable-mode context entry does not allow PASIDs";
    /// Scalable: the PASID is beyond the directory.
    SM_PASID_BEYOND_DIRECTORY = 0x46, "the PASID is beyond the PASID directory";
    /// Scalable: the context entry does not allow page requests.
    SM_PAGE_REQUESTS_DISABLED = 0x47, "the scalable-mode context entry does not allow page requests";
    /// Scalable: the PASID equals `RID_PASID`, which stands for requests without PASID.
    SM_PASID_IS_RID_PASID = 0x48, "the PASID equals RID_PASID";
    /// Scalable: the PASID directory cannot be read.
    SM_DIRECTORY_INACCESSIBLE = 0x50, "the PASID directory cannot be read";
    /// Scalable: PASID directory entry not present.
    SM_DIRECTORY_NOT_PRESENT = 0x51, "the PASID directory entry is not present";
    /// Scalable: reserved bits in the PASID directory entry.
    SM_DIRECTORY_RESERVED = 0x52, "reserved bits are set in the PASID directory entry";
    /// Scalable: the PASID table cannot be read.
    SM_PASID_TABLE_INACCESSIBLE = 0x58, "the PASID table cannot be read";
    /// Scalable: PASID entry not present.
    SM_PASID_NOT_PRESENT = 0x59, "the PASID table entry is not present";
    /// Scalable: reserved bits in the PASID entry.
    SM_PASID_RESERVED = 0x5a, "reserved bits are set in the PASID table entry";
    /// Scalable: the PASID entry has a translation type or width that the unit lacks.
    SM_PASID_INVALID = 0x5b, "the PASID table entry is programmed wrongly";
    /// Scalable: a first-stage table cannot be read.
    FIRST_STAGE_INACCESSIBLE = 0x70, "a first-stage table cannot be read";
    /// Scalable: first-stage entry not present.
    FIRST_STAGE_NOT_PRESENT = 0x71, "the first-stage entry is not present";
    /// Scalable: reserved bits in a first-stage entry.
    FIRST_STAGE_RESERVED = 0x72, "reserved bits are set in a first-stage entry";
    /// Scalable: the first-stage root table cannot be read.
    FIRST_STAGE_ROOT_INACCESSIBLE = 0x73, "the first-stage root table cannot be read";
    /// Nested: a first-stage entry's address is beyond the second stage.
    NESTED_ADDRESS_BEYOND_WIDTH = 0x74, "a first-stage entry's address is beyond the second stage";
    /// Nested: the second stage denies reading the first-stage root table.
    NESTED_ROOT_DENIED = 0x75, "the second stage denies the first-stage root table";
    /// Nested: the second stage denies reading a first-stage table.
    NESTED_TABLE_DENIED = 0x76, "the second stage denies a first-stage table";
    /// Nested: the second stage denies writing accessed or dirty bits.
    NESTED_UPDATE_DENIED = 0x77, "the second stage denies writing accessed and dirty bits";
    /// Scalable: a privileged request where SRE is clear.
    SM_PRIVILEGE_DENIED = 0x5d, "the PASID table entry does not allow privileged requests";
    /// Scalable: a second-stage table cannot be read.
    SM_PAGE_TABLE_INACCESSIBLE = 0x78, "a second-stage table cannot be read";
    /// Scalable: second-stage entry grants nothing.
    SM_PAGE_NOT_PRESENT = 0x79, "the second-stage entry grants nothing";
    /// Scalable: reserved bits in a second-stage entry.
    SM_PAGE_TABLE_RESERVED = 0x7a, "reserved bits are set in a second-stage entry";
    /// Scalable: the second-stage root table cannot be read.
    SM_PAGE_ROOT_INACCESSIBLE = 0x7b, "the second-stage root table cannot be read";
    /// Scalable: accessed or dirty bits of a second-stage entry are clear, and walks are not
    /// snooped.
    SM_SECOND_STAGE_UPDATE_UNSNOOPED = 0x7c,
        "second-stage accessed and dirty bits are clear, and walks are not snooped";
    /// Scalable: accessed or dirty bits of a second-stage entry cannot be written.
    SM_SECOND_STAGE_UPDATE_FAILED = 0x7d, "second-stage accessed and dirty bits cannot be written";
    /// Scalable: first-stage input address not canonical.
    FIRST_STAGE_NOT_CANONICAL = 0x80, "the address is not canonical";
    /// Scalable: a user request for a supervisor page.
    FIRST_STAGE_SUPERVISOR_PAGE = 0x81, "a user request for a supervisor page";
    /// Scalable: a host address above the host address width.
    SM_HOST_ADDRESS_BEYOND_WIDTH = 0x83, "the host address is beyond the host address width";
    /// Scalable: second-stage input address above the width of the tables or of the unit.
    SM_ADDRESS_BEYOND_WIDTH = 0x84, "the address is beyond the second-stage address width";
    /// Scalable: no write permission.
    SM_WRITE_DENIED = 0x85, "writing is not permitted";
    /// Scalable: no read permission.
    SM_READ_DENIED = 0x86, "reading is not permitted";
    /// Scalable: the output lies in the interrupt range.
    SM_INTERRUPT_RANGE = 0x87, "the translated address lies in the interrupt range";
    /// Scalable: the PASID has more bits than the unit supports.
    SM_PASID_TOO_WIDE = 0x89, "the PASID is wider than the unit supports";
    /// Scalable: accessed or dirty bits of a first-stage entry are clear, and walks are not snooped.
    FIRST_STAGE_UPDATE_UNSNOOPED = 0x90,
        "first-stage accessed and dirty bits are clear, and walks are not snooped";
    /// Scalable: accessed or dirty bits of a first-stage entry cannot be written.
    FIRST_STAGE_UPDATE_FAILED = 0x91, "first-stage accessed and dirty bits cannot be written";
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} ({})", self.0, self.describe())
    }
}

impl fmt::Debug for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultReason({self})")
    }
}

/// The upper half of a fault record, bits 127:64 (`VT-d 11.4.7.6`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FaultRecordHigh {
    /// SID: the requester.
    #[bits(16)]
    pub source_id: u16,
    #[bits(12)]
    __: u16,
    /// T2: with T1, the type of the request.
    pub type2: bool,
    /// PRIV: privileged, with PASID.
    pub privileged: bool,
    /// EXE: execute, with PASID.
    pub execute: bool,
    /// PP: the request has a PASID.
    pub pasid_present: bool,
    /// FR: the reason.
    #[bits(8)]
    pub reason: u8,
    /// PV: the PASID.
    #[bits(20)]
    pub pasid: u32,
    /// AT: address type of the request.
    #[bits(2)]
    pub address_type: u8,
    /// T1: a read, if T2 is clear.
    pub type1: bool,
    /// F: the record is in use; written as 1 to free it.
    pub fault: bool,
}
