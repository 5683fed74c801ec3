//! What remapping units and functions say to each other over PCIe: DMA requests, Address
//! Translation Services messages, interrupts.
//!
//! ```text
//!             Invalidate Request (ITag, range) ------------------>
//!    unit     <------------------ Invalidate Completion (ITags, CC)     function
//!             <------------------ translation request, DMA, MSI           with ATC
//!             Translation Completion ---------------------------->
//!             <------------------ Page Request (PRG Index)
//!             PRG Response ------------------------------------->
//! ```

use bitfield_struct::bitfield;
use serde::Serialize;

use crate::ids::{Bdf, Gpa, Iova, PAGE_SIZE, Pasid};

/// An ITag: which of a function's up to 32 outstanding Invalidate Requests a completion answers
/// (`PCIe 10.3.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ITag(u8);

impl ITag {
    /// ITags per function.
    pub const COUNT: u8 = 32;

    /// The tag in the low five bits of `bits`.
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::COUNT - 1))
    }

    /// The five bits.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// This tag's bit in an ITag vector.
    pub const fn bit(self) -> u32 {
        1 << self.0
    }
}

/// A naturally aligned range of pages, a power of two in size, as Device-TLB descriptors,
/// Invalidate Requests and Translation Completions carry it: address bits plus `S`
/// (`PCIe 10.2.3.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct PageRange {
    start: Iova,
    /// log2 of the size in bytes, 12 to 64.
    order: u8,
}

impl PageRange {
    /// Everything.
    pub const ALL: Self = Self { start: Iova(0), order: 64 };

    /// The 4-KiB page that holds `address`.
    pub const fn page(address: Iova) -> Self {
        Self { start: address.page(), order: 12 }
    }

    /// The range of 2^`order` bytes that holds `address`; `order` is taken as 12 if below and 64
    /// if above.
    pub const fn containing(address: Iova, order: u8) -> Self {
        let order = if order < 12 { 12 } else { order };
        if order >= 63 {
            return Self::ALL;
        }
        Self { start: Iova(address.0 & !((1 << order) - 1)), order }
    }

    /// Reads the encoding: with `size` clear one page; with it set, the lowest zero bit of the
    /// address from bit 12 up gives the size, and 62:12 all ones mean everything.
    pub const fn decode(address: u64, size: bool) -> Self {
        if !size {
            return Self::page(Iova(address));
        }
        Self::containing(Iova(address), 13 + (address >> 12).trailing_ones() as u8)
    }

    /// The encoding that [`Self::decode`] reads: address bits 63:12, and `S`.
    pub const fn encode(self) -> (u64, bool) {
        if self.order >= 64 {
            return (0x7fff_ffff_ffff_f000, true);
        }
        let ones = ((1_u64 << (self.order - 1)) - 1) & !(PAGE_SIZE - 1);
        (self.start.0 | ones, self.order > 12)
    }

    /// First address.
    pub const fn start(self) -> Iova {
        self.start
    }

    /// Last address.
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

    /// Whether `address` lies inside.
    pub const fn contains(self, address: Iova) -> bool {
        self.start.0 <= address.0 && address.0 <= self.last().0
    }

    /// Whether the two have an address in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 <= other.last().0 && other.start.0 <= self.last().0
    }
}

/// An ATS Invalidate Request message (`PCIe 10.3.1`): posted, so that a link that is down
/// swallows it and nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InvalidateRequest {
    /// The function whose ATC is meant.
    pub destination: Bdf,
    /// The tag that the completion must carry.
    pub itag: ITag,
    /// The address space, if the request has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// Global Invalidate: the range in all address spaces of the function.
    pub global: bool,
    /// What to forget.
    pub range: PageRange,
}

/// An ATS Invalidate Completion message (`PCIe 10.3.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct InvalidateCompletion {
    /// The function that answers.
    pub requester: Bdf,
    /// One bit for each ITag that is answered.
    pub itag_vector: u32,
    /// How many completions the unit must count for each of these tags, 1 to 8.
    pub completion_count: u8,
}

/// An ATS Page Request message (`PCIe 10.4.1`): posted. The function asks for a page to be made
/// present, as part of a group that is answered as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PageRequest {
    /// The function that asks.
    pub requester: Bdf,
    /// Its address space, if the message has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// Execute permission is asked for; with a PASID only.
    pub execute: bool,
    /// Privileged mode; with a PASID only.
    pub privileged: bool,
    /// The page.
    pub address: Iova,
    /// Read permission is asked for.
    pub read: bool,
    /// Write permission is asked for.
    pub write: bool,
    /// L: the last request of its group.
    pub last: bool,
    /// PRG Index: which group, 9 bits.
    pub group: u16,
}

impl PageRequest {
    /// PRG Indexes that a function has.
    pub const GROUPS: u16 = 512;

    /// A Stop Marker (`PCIe 10.4.1.2.1`): no more requests with this PASID will follow. It asks
    /// for nothing.
    pub const fn stop_marker(requester: Bdf, pasid: Pasid, group: u16) -> Self {
        Self {
            requester,
            pasid: Some(pasid),
            execute: false,
            privileged: false,
            address: Iova(0),
            read: false,
            write: false,
            last: true,
            group,
        }
    }

    /// Whether this is a Stop Marker.
    pub const fn is_stop_marker(&self) -> bool {
        self.pasid.is_some() && self.last && !self.read && !self.write
    }

    /// Whether the function waits for a PRG Response to it: to the last one of each group.
    pub const fn needs_response(&self) -> bool {
        self.last && !self.is_stop_marker()
    }
}

/// What a PRG Response says of the whole group (`PCIe 10.4.2.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseCode {
    /// 0: all that can be made present is; the function may ask for translations again.
    Success,
    /// 1: some page does not exist or not with that permission.
    InvalidRequest,
    /// 15: the function must stop making page requests.
    Failure,
}

impl ResponseCode {
    /// From the low four bits of `bits`. Codes without a meaning are Response Failure, which is how
    /// a function must take them.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0xf {
            0 => Self::Success,
            1 => Self::InvalidRequest,
            _ => Self::Failure,
        }
    }

    /// The four bits.
    pub const fn into_bits(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::InvalidRequest => 1,
            Self::Failure => 0xf,
        }
    }
}

/// An ATS Page Request Group Response message (`PCIe 10.4.2`): posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PageGroupResponse {
    /// The function that has asked.
    pub destination: Bdf,
    /// Its address space, if the message has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// PRG Index: which group, 9 bits.
    pub group: u16,
    /// What became of it.
    pub code: ResponseCode,
}

/// How a request's address is to be taken: the TLP's AT field (`PCIe 2.2.4.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressType {
    /// AT=00: the unit translates it.
    Untranslated,
    /// AT=10: the function's ATC has translated it.
    Translated,
}

/// Whether memory is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// One DMA request as it reaches the unit. It must not cross a 4-KiB boundary (`PCIe 2.2.7`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DmaRequest {
    /// The function that asks.
    pub requester: Bdf,
    /// Its address space, if the request has a PASID prefix.
    pub pasid: Option<Pasid>,
    /// Privileged mode; with a PASID only.
    pub privileged: bool,
    /// Where to. For [`AddressType::Translated`] it is the number that a Translation Completion gave.
    pub address: Iova,
    /// How the address is to be taken.
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
    /// Privileged mode; with a PASID only.
    pub privileged: bool,
    /// What to translate.
    pub address: Iova,
    /// No Write: the function only wants to read.
    pub no_write: bool,
}

/// A successful Translation Completion for one range (`PCIe 10.2.3`).
///
/// With neither `read` nor `write` there is no translation: not an error of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Translation {
    /// The untranslated range that this covers.
    pub range: PageRange,
    /// Where its first byte is.
    pub output: Gpa,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// U: only untranslated requests may be used for this range.
    pub untranslated_only: bool,
    /// Priv: the permissions are those of privileged requests. Set where the request asked for them
    /// with a PASID (`VT-d 4.1.2`).
    pub privileged: bool,
}

/// One translation in a Translation Completion, as it goes over the link (`PCIe 10.2.3`). Exe and
/// Global are there to be read: this unit grants neither (`VT-d 4.1.2`).
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
    /// G: may be cached for all PASIDs.
    pub global: bool,
    #[bits(4)]
    __: u8,
    /// N: accesses need no snoop.
    pub non_snooped: bool,
    /// S: more than one page; the lowest zero bit of the address gives the size.
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
    /// What it says about the address that was asked for.
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
    /// Where `address` ends up, `None` outside the range.
    pub const fn translate(&self, address: Iova) -> Option<Gpa> {
        if !self.range.contains(address) {
            return None;
        }
        self.output.checked_add(address.0 - self.range.start().0)
    }
}

/// How a non-posted request failed (`PCIe 2.2.9`, and no answer at all, `PCIe 2.8`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RequestError {
    /// Completion status UR.
    #[error("Unsupported Request")]
    UnsupportedRequest,
    /// Completion status CA.
    #[error("Completer Abort")]
    CompleterAbort,
    /// The completion never came: the link is gone.
    #[error("Completion Timeout")]
    CompletionTimeout,
}

/// A message-signalled interrupt: a posted write of four bytes (`PCIe 6.1.4`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Msi {
    /// Where it is written; 0xfeexxxxx for an interrupt.
    pub address: u64,
    /// What is written.
    pub data: u32,
}

#[cfg(test)]
mod tests;
