//! The PCIe messages between remapping units and functions: DMA requests, Address Translation
//! Services (ATS), interrupts.
//!
//! ```text
//!             Invalidate Request (ITag, range) ------------------>
//!    unit     <------------------ Invalidate Completion (ITags, CC)     function
//!             <------------------ translation request, DMA, MSI           with ATC
//!             Translation Completion ---------------------------->
//!             <------------------ Page Request (PRG Index)
//!             PRG Response ------------------------------------->
//! ```

mod page_request;

use bitfield_struct::bitfield;
use serde::Serialize;

pub use page_request::{PageGroupResponse, PageRequest, ResponseCode};

use crate::ids::{Bdf, Gpa, Iova, PAGE_SIZE, Pasid};

/// An ITag, which ties an Invalidate Completion to its request. A function has 32 (`PCIe 10.3.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ITag(u8);

impl ITag {
    /// ITags per function.
    pub const COUNT: u8 = 32;

    /// The tag in the low five bits of `bits`.
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::COUNT - 1))
    }

    /// The tag, 0 to 31.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// This tag's bit in an ITag vector.
    pub const fn bit(self) -> u32 {
        1 << self.0
    }
}

/// A range of pages, a power of two in size and aligned to it. Device-TLB descriptors, Invalidate
/// Requests and Translation Completions encode it as address bits and `S` (`PCIe 10.2.3.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct PageRange {
    start: Iova,
    /// log2 of the size in bytes, 12 to 64.
    order: u8,
}

impl PageRange {
    /// All addresses.
    pub const ALL: Self = Self { start: Iova(0), order: 64 };

    /// The 4-KiB page that contains `address`.
    pub const fn page(address: Iova) -> Self {
        Self { start: address.page(), order: 12 }
    }

    /// The range of 2^`order` bytes that contains `address`. `order` is clamped to 12 and 64.
    pub const fn containing(address: Iova, order: u8) -> Self {
        let order = if order < 12 { 12 } else { order };
        if order >= 63 {
            return Self::ALL;
        }
        Self { start: Iova(address.0 & !((1 << order) - 1)), order }
    }

    /// Reads the encoding. If `size` is clear, the range is one page. If it is set, the lowest zero
    /// bit of the address from bit 12 up gives the size, and ones in 62:12 stand for all addresses.
    pub const fn decode(address: u64, size: bool) -> Self {
        if !size {
            return Self::page(Iova(address));
        }
        Self::containing(Iova(address), 13 + (address >> 12).trailing_ones() as u8)
    }

    /// The encoding for [`Self::decode`]: address bits 63:12, and `S`.
    pub const fn encode(self) -> (u64, bool) {
        if self.order >= 64 {
            return (0x7fff_ffff_ffff_f000, true);
        }
        let ones = ((1_u64 << (self.order - 1)) - 1) & !(PAGE_SIZE - 1);
        (self.start.0 | ones, self.order > 12)
    }

    /// The first address.
    pub const fn start(self) -> Iova {
        self.start
    }

    /// The last address.
    pub const fn last(self) -> Iova {
        match self.order {
            64 => Iova(u64::MAX),
            order => Iova(self.start.0 | ((1 << order) - 1)),
        }
    }

    /// log2 of the size in bytes, 12 to 64.
    pub const fn order(self) -> u8 {
        self.order
    }

    /// Whether the range contains `address`.
    pub const fn contains(self, address: Iova) -> bool {
        self.start.0 <= address.0 && address.0 <= self.last().0
    }

    /// Whether the ranges share an address.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 <= other.last().0 && other.start.0 <= self.last().0
    }
}

/// An ATS Invalidate Request message (`PCIe 10.3.1`). It is posted: its sender does not learn
/// whether a link has dropped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InvalidateRequest {
    /// The function with the ATC.
    pub destination: Bdf,
    /// The tag that the completion must carry.
    pub itag: ITag,
    /// The address space, if the request has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// Global Invalidate: the range in all address spaces of the function.
    pub global: bool,
    /// The range to invalidate.
    pub range: PageRange,
}

/// An ATS Invalidate Completion message (`PCIe 10.3.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InvalidateCompletion {
    /// The function that answers.
    pub requester: Bdf,
    /// A bit for each ITag that is answered.
    pub itag_vector: u32,
    /// How many completions the unit must count for each of these ITags, 1 to 8.
    pub completion_count: u8,
}

/// The AT field of a TLP, which selects the kind of its address (`PCIe 2.2.4.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum AddressType {
    /// AT=00: the unit translates it.
    Untranslated,
    /// AT=10: the function's ATC has translated it.
    Translated,
}

/// The direction of a DMA request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// A DMA request as the unit receives it. It must not cross a 4-KiB boundary (`PCIe 2.2.7`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DmaRequest {
    /// The function that sends it.
    pub requester: Bdf,
    /// Its address space, if the request has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// Privileged mode; only with a PASID.
    pub privileged: bool,
    /// The address. If it is [`AddressType::Translated`], a Translation Completion has given it.
    pub address: Iova,
    /// How to read the address.
    pub address_type: AddressType,
    /// Read or write.
    pub access: Access,
}

/// An ATS Translation Request for one page (`PCIe 10.2.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TranslationRequest {
    /// The function that asks.
    pub requester: Bdf,
    /// Its address space, if the request has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// Privileged mode; only with a PASID.
    pub privileged: bool,
    /// The address to translate.
    pub address: Iova,
    /// No Write: the function only wants to read.
    pub no_write: bool,
}

/// A successful Translation Completion for one range (`PCIe 10.2.3`).
///
/// If neither `read` nor `write` is set, there is no translation. That is a valid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Translation {
    /// The untranslated range.
    pub range: PageRange,
    /// The translated address of the range's first byte.
    pub output: Gpa,
    /// The function may read.
    pub read: bool,
    /// The function may write.
    pub write: bool,
    /// U: only untranslated requests may be used for this range.
    pub untranslated_only: bool,
    /// Priv: the permissions are those of privileged requests. It is set if the request had a PASID
    /// and asked for privileged mode (`VT-d 4.1.2`).
    pub privileged: bool,
}

/// A translation as a Translation Completion carries it (`PCIe 10.2.3`). The unit never sets Exe
/// and Global (`VT-d 4.1.2`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CompletionEntry {
    /// R.
    pub read: bool,
    /// W.
    pub write: bool,
    /// U.
    pub untranslated_only: bool,
    /// Exe.
    pub execute: bool,
    /// Priv.
    pub privileged: bool,
    /// G: the ATC may cache it for all PASIDs.
    pub global: bool,
    #[bits(4)]
    __: u8,
    /// N: accesses need no snoop.
    pub non_snooped: bool,
    /// S: the range is larger than a page; the lowest zero bit of the address gives its size.
    pub size: bool,
    /// Bits 63:12 of the translated address.
    #[bits(52)]
    pub page: u64,
}

impl From<Translation> for CompletionEntry {
    fn from(translation: Translation) -> Self {
        let range = PageRange::containing(Iova(translation.output.0), translation.range.order());
        let (address, size) = range.encode();
        Self::new()
            .with_read(translation.read)
            .with_write(translation.write)
            .with_untranslated_only(translation.untranslated_only)
            .with_privileged(translation.privileged)
            .with_size(size)
            .with_page(address / PAGE_SIZE)
    }
}

impl CompletionEntry {
    /// The translation of the address `asked`.
    pub const fn translation(self, asked: Iova) -> Translation {
        let output = PageRange::decode(self.page() * PAGE_SIZE, self.size());
        Translation {
            range: PageRange::containing(asked, output.order()),
            output: Gpa(output.start().0),
            read: self.read(),
            write: self.write(),
            untranslated_only: self.untranslated_only(),
            privileged: self.privileged(),
        }
    }
}

impl Translation {
    /// The translated address; `None` outside the range.
    pub const fn translate(&self, address: Iova) -> Option<Gpa> {
        if !self.range.contains(address) {
            return None;
        }
        self.output.checked_add(address.0 - self.range.start().0)
    }
}

/// How a non-posted request failed (`PCIe 2.2.9`; without a completion `PCIe 2.8`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RequestError {
    /// Completion status UR.
    #[error("Unsupported Request")]
    UnsupportedRequest,
    /// Completion status CA.
    #[error("Completer Abort")]
    CompleterAbort,
    /// No completion came, because the link is down.
    #[error("Completion Timeout")]
    CompletionTimeout,
}

/// A message-signalled interrupt: a posted write of four bytes (`PCIe 6.1.4`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Msi {
    /// The address of the write; 0xfeexxxxx for an interrupt.
    pub address: u64,
    /// The data of the write.
    pub data: u32,
}

#[cfg(test)]
mod tests;
