//! Root, context, PASID and second-stage entries (`VT-d 9`).

use bitfield_struct::bitfield;

/// Root entry (`VT-d 9.1`), or half of a scalable-mode root entry (`VT-d 9.2`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RootEntry {
    /// P, LP or UP: present.
    pub present: bool,
    #[bits(11)]
    pub reserved: u16,
    /// CTP, LCTP or UCTP: bits 63:12 of the context table's address.
    #[bits(52)]
    pub page: u64,
}

/// Context entry, low half (`VT-d 9.3`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextLow {
    /// P: present.
    pub present: bool,
    /// FPD: qualified faults are not recorded.
    pub fault_disable: bool,
    /// TT: 0 untranslated requests only, 1 with Device-TLB, 2 pass-through.
    #[bits(2)]
    pub translation_type: u8,
    /// Must be zero.
    pub reserved: u8,
    /// SSPTPTR: bits 63:12 of the second-stage root.
    #[bits(52)]
    pub page: u64,
}

/// Context entry, high half (`VT-d 9.3`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextHigh {
    /// AW: 1, 2, 3 for 3, 4, 5 levels.
    #[bits(3)]
    pub width: u8,
    #[bits(4)]
    __: u8,
    /// Must be zero.
    pub reserved_low: bool,
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// Must be zero.
    #[bits(40)]
    pub reserved: u64,
}

/// Scalable-mode context entry, first quarter (`VT-d 9.4`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableContextLow {
    /// P: present.
    pub present: bool,
    /// FPD: qualified faults are not recorded.
    pub fault_disable: bool,
    /// DTE: Device-TLB requests are allowed.
    pub device_tlb: bool,
    /// PASIDE: requests with PASID are allowed.
    pub pasid: bool,
    /// PRE: page requests are allowed.
    pub page_requests: bool,
    /// Must be zero.
    #[bits(4)]
    pub reserved: u8,
    /// PDTS: the directory has 2^(PDTS + 7) entries.
    #[bits(3)]
    pub directory_size: u8,
    /// PASIDDIRPTR: bits 63:12 of the directory's address.
    #[bits(52)]
    pub page: u64,
}

/// Scalable-mode context entry, second quarter (`VT-d 9.4`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableContextHigh {
    /// `RID_PASID`: the PASID that stands for requests without PASID.
    #[bits(20)]
    pub rid_pasid: u32,
    /// `RID_PRIV`.
    pub rid_priv: bool,
    /// Must be zero.
    #[bits(43)]
    pub reserved: u64,
}

/// PASID directory entry (`VT-d 9.5`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidDirectoryEntry {
    /// P: present.
    pub present: bool,
    /// FPD: qualified faults are not recorded.
    pub fault_disable: bool,
    /// Must be zero.
    #[bits(10)]
    pub reserved: u16,
    /// SMPTBLPTR: bits 63:12 of the PASID table's address.
    #[bits(52)]
    pub page: u64,
}

/// PASID table entry, bits 63:0 (`VT-d 9.6`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidLow {
    /// P: present.
    pub present: bool,
    /// FPD: qualified faults are not recorded.
    pub fault_disable: bool,
    /// AW: second-stage width, as in a context entry.
    #[bits(3)]
    pub width: u8,
    /// Must be zero.
    pub reserved: bool,
    /// PGTT: 1 first stage, 2 second stage, 3 nested, 4 pass-through.
    #[bits(3)]
    pub translation_type: u8,
    /// SSADE: second-stage accessed and dirty bits.
    pub second_stage_dirty: bool,
    /// Must be zero.
    #[bits(2)]
    pub reserved_high: u8,
    /// SSPTPTR: bits 63:12 of the second-stage root.
    #[bits(52)]
    pub page: u64,
}

/// PASID table entry, bits 127:64 (`VT-d 9.6`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidHigh {
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// Must be zero.
    #[bits(7)]
    pub reserved: u8,
    /// PWSNP: walks are snooped.
    pub walk_snoop: bool,
    /// PGSNP: accesses are snooped.
    pub page_snoop: bool,
    /// CD, EMTE and PAT: memory types, which this unit lacks. Must be zero.
    #[bits(39)]
    pub reserved_high: u64,
}

/// PASID table entry, bits 191:128 (`VT-d 9.6`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidFirstStage {
    /// SRE: privileged requests are allowed.
    pub supervisor: bool,
    /// Must be zero.
    pub reserved: bool,
    /// FSPM: 0 for four levels, 1 for five.
    #[bits(2)]
    pub paging_mode: u8,
    /// WPE: privileged writes need the R/W permission.
    pub write_protect: bool,
    #[bits(2)]
    __: u8,
    /// EAFE: the unit sets the extended accessed flag.
    pub extended_accessed: bool,
    /// Must be zero.
    #[bits(4)]
    pub reserved_high: u8,
    /// FSPTPTR: bits 63:12 of the first-stage root.
    #[bits(52)]
    pub page: u64,
}

/// Second-stage paging entry of any level (`VT-d 9.8`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SecondStageEntry {
    /// R.
    pub read: bool,
    /// W.
    pub write: bool,
    #[bits(5)]
    __: u8,
    /// PS: this entry maps a large page.
    pub large: bool,
    /// A: accessed.
    pub accessed: bool,
    /// D: dirty.
    pub dirty: bool,
    __: bool,
    /// SNP.
    pub snoop: bool,
    /// Address of the page or of the next table, bits 51:12.
    #[bits(40)]
    pub page: u64,
    #[bits(10)]
    __: u16,
    /// TM of old revisions; must be zero.
    pub transient: bool,
    __: bool,
}

/// First-stage paging entry of any level, in the CPU's format (`VT-d 9.7`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FirstStageEntry {
    /// P.
    pub present: bool,
    /// R/W.
    pub write: bool,
    /// U/S.
    pub user: bool,
    #[bits(2)]
    __: u8,
    /// A: accessed.
    pub accessed: bool,
    /// D: dirty.
    pub dirty: bool,
    /// PS: this entry maps a large page.
    pub large: bool,
    #[bits(2)]
    __: u8,
    /// EA: accessed by a device.
    pub extended_accessed: bool,
    __: bool,
    /// Address of the page or of the next table, bits 51:12.
    #[bits(40)]
    pub page: u64,
    #[bits(12)]
    __: u16,
}
