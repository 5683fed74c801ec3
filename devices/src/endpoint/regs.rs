//! BAR 0 of the ATS test endpoint: 4 KiB of registers. BAR 2, 64 bits and prefetchable, has the
//! data buffer once more, from its beginning.
//!
//! | offset | register | |
//! |---|---|---|
//! | 0x00 | [`ID`] | RO |
//! | 0x04 | [`STATUS`] | RO bit 0: the repeating write runs; bit 1: a request waits for its completion |
//! | 0x08 | [`COMMAND`] | WO, see [`Command`] |
//! | 0x0c | [`RESULT`] | RO outcome of the last command, see [`Status`] |
//! | 0x10 | [`IOVA`] | RW, 64 bits |
//! | 0x18 | [`LENGTH`] | RW bytes, 1 to [`BUFFER_SIZE`] |
//! | 0x1c | [`PATTERN`] | RW |
//! | 0x20 | [`PERIOD`] | RW microseconds, 10 and up |
//! | 0x24 | [`COUNT`] | RO requests done, wraps; a posted write is done when it is sent |
//! | 0x28 | [`ERRORS`] | RO requests failed, wraps |
//! | 0x2c | [`ATC_ENTRIES`] | RO |
//! | 0x30 | [`INVALIDATIONS`] | RO Invalidate Requests received, wraps |
//! | 0x34 | [`ATC_SIZE`] | RO ATC: 15:0 entries, 31:16 ways |
//! | 0x38 | [`TRANSLATED`] | RO, 64 bits: output address of the last translation that was used |
//! | 0x40 | [`PASID`] | RW 20 bits, for commands with [`Command::with_pasid`] |
//! | 0x44 | [`GROUP`] | RW 9 bits: PRG Index of the next page request |
//! | 0x48 | [`RESPONSE`] | RO the last PRG Response: 3:0 code, 12:4 PRG Index, 31 valid |
//! | 0x4c | [`RESPONSES`] | RO responses for outstanding groups, wraps |
//! | 0x50 | [`OUTSTANDING`] | RO page requests without a response |
//! | 0x100 to 0x1ff | [`TRAFFIC`] | four traffic generators, see [`traffic`](super::traffic) |
//! | 0x800 | [`BUFFER`] | RW data, up to the end |
//!
//! Registers take aligned accesses of four bytes, those of 64 bits also of eight; the buffer takes
//! aligned accesses of one to eight bytes. Other reads give all ones, other writes are ignored.
//! Offsets without a register read as zero.

use bitfield_struct::bitfield;
use iommu::ats::{PageRequest, RequestError};
use iommu::ids::{self, Gpa, Iova};

use crate::dma::{DmaError, Rights};

/// Bytes in BAR 0.
pub const SIZE: u32 = 4096;
/// Bytes in the data buffer.
pub const BUFFER_SIZE: usize = 2048;
/// The value of [`ID`]: version 1, and the device id.
pub const ID_VALUE: u32 = 0x0001_6c6b;
/// The shortest period of a repeating write, in microseconds.
pub const MIN_PERIOD: u32 = 10;
const RESET_PERIOD: u32 = 1000;

/// Identification.
pub const ID: u64 = 0x00;
/// Bit 0: the repeating write runs. Bit 1: a request waits for its completion.
pub const STATUS: u64 = 0x04;
/// Starts a command.
pub const COMMAND: u64 = 0x08;
/// Outcome of the last command.
pub const RESULT: u64 = 0x0c;
/// Address of the next command.
pub const IOVA: u64 = 0x10;
/// Length of the next command, in bytes.
pub const LENGTH: u64 = 0x18;
/// The data of fills and of the repeating write.
pub const PATTERN: u64 = 0x1c;
/// Microseconds between repeating writes.
pub const PERIOD: u64 = 0x20;
/// Requests done.
pub const COUNT: u64 = 0x24;
/// Requests failed.
pub const ERRORS: u64 = 0x28;
/// Valid ATC entries.
pub const ATC_ENTRIES: u64 = 0x2c;
/// Invalidate Requests received.
pub const INVALIDATIONS: u64 = 0x30;
/// Entries and ways of the ATC.
pub const ATC_SIZE: u64 = 0x34;
/// Output address of the last translation that was used.
pub const TRANSLATED: u64 = 0x38;
/// PASID of commands with [`Command::pasid`].
pub const PASID: u64 = 0x40;
/// PRG Index of the next page request.
pub const GROUP: u64 = 0x44;
/// The last PRG Response.
pub const RESPONSE: u64 = 0x48;
/// Responses for outstanding groups.
pub const RESPONSES: u64 = 0x4c;
/// Page requests without a response.
pub const OUTSTANDING: u64 = 0x50;
/// The traffic generators.
pub const TRAFFIC: u64 = 0x100;
/// The data buffer.
pub const BUFFER: u64 = 0x800;

/// The value that a write to [`COMMAND`] has.
#[bitfield(u32)]
pub struct Command {
    /// See [`Opcode`].
    #[bits(4)]
    pub opcode: u8,
    /// Use the ATC: a Translation Request on a miss, then translated requests.
    pub use_atc: bool,
    /// Send the MSI when done.
    pub interrupt: bool,
    /// Requests carry the PASID in [`PASID`]; translated ones never do.
    pub pasid: bool,
    /// Page request: asks for read permission.
    pub read: bool,
    /// Page request: asks for write permission.
    pub write: bool,
    /// Page request: the last one of its group.
    pub last: bool,
    /// With a PASID: in privileged mode, if PASID Control permits that. Not for the repeating write.
    pub privileged: bool,
    /// Page request: asks for execute permission, if PASID Control permits that.
    pub execute: bool,
    #[bits(20)]
    __: u32,
}

/// The opcodes of [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Read memory into the buffer.
    Read,
    /// Write the buffer to memory.
    Write,
    /// Fill memory with the pattern.
    Fill,
    /// Start the repeating write: eight bytes in each period, the pattern and above it a rising
    /// count.
    StartRepeating,
    /// Stop the repeating write.
    StopRepeating,
    /// Fill the ATC with a translation of the page at IOVA.
    Translate,
    /// Send the MSI.
    Interrupt,
    /// Send a Page Request for the page at IOVA.
    PageRequest,
    /// Send a Stop Marker: no more page requests with this PASID.
    StopMarker,
}

impl Opcode {
    /// The opcode `bits`, if it exists.
    pub const fn decode(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            3 => Some(Self::Fill),
            4 => Some(Self::StartRepeating),
            5 => Some(Self::StopRepeating),
            6 => Some(Self::Translate),
            7 => Some(Self::Interrupt),
            8 => Some(Self::PageRequest),
            9 => Some(Self::StopMarker),
            _ => None,
        }
    }
}

/// The outcome of a command, in [`RESULT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Done.
    #[default]
    Ok = 0,
    /// Unsupported Request.
    UnsupportedRequest = 1,
    /// Completer Abort.
    CompleterAbort = 2,
    /// Completion Timeout: no completion has come in time.
    CompletionTimeout = 3,
    /// The page has no translation, or one that does not permit the access.
    NoTranslation = 4,
    /// ATS is disabled, or a Translation Request got Unsupported Request since it was enabled.
    AtsOff = 5,
    /// An unknown command, a length or address out of range, a page request without permissions or
    /// for a group that is not free.
    BadCommand = 6,
    /// Bus mastering is disabled.
    BusMasterOff = 7,
    /// Page requests are disabled.
    PageRequestsOff = 8,
    /// As many page requests are outstanding as are allocated.
    NoAllocation = 9,
    /// PASIDs are disabled.
    PasidOff = 10,
    /// The command has not ended: it waits for a completion.
    Pending = 11,
    /// All tags are in use: 32 requests wait for completions.
    NoTag = 12,
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::UnsupportedRequest => Self::UnsupportedRequest,
            RequestError::CompleterAbort => Self::CompleterAbort,
            RequestError::CompletionTimeout => Self::CompletionTimeout,
        }
    }
}

impl From<DmaError> for Status {
    fn from(error: DmaError) -> Self {
        match error {
            // The function tells them that their time is over.
            error if error.is_unanswered() => Self::Pending,
            DmaError::Read(error) | DmaError::Translation(error) => error.into(),
            DmaError::NoTag => Self::NoTag,
            DmaError::NoTranslation => Self::NoTranslation,
            DmaError::AtsOff => Self::AtsOff,
            DmaError::BusMasterOff => Self::BusMasterOff,
            DmaError::PasidOff => Self::PasidOff,
        }
    }
}

/// Values of read-only registers that other parts of the function have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) busy: bool,
    pub(super) waits: bool,
    pub(super) done: u32,
    pub(super) failed: u32,
    pub(super) atc_entries: u32,
    pub(super) atc_size: u32,
    pub(super) invalidations: u32,
    pub(super) translated: Gpa,
    pub(super) response: u32,
    pub(super) responses: u32,
    pub(super) outstanding: u32,
}

/// The registers that software writes.
#[derive(Debug)]
pub(super) struct Registers {
    pub(super) result: Status,
    pub(super) iova: Iova,
    pub(super) length: u32,
    pub(super) pattern: u32,
    pub(super) period: u32,
    pub(super) pasid: ids::Pasid,
    pub(super) group: u16,
    pub(super) buffer: Box<[u8; BUFFER_SIZE]>,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            result: Status::Ok,
            iova: Iova(0),
            length: 0,
            pattern: 0,
            period: RESET_PERIOD,
            pasid: ids::Pasid::default(),
            group: 0,
            buffer: Box::new([0; BUFFER_SIZE]),
        }
    }
}

impl Registers {
    /// Reads `data.len()` bytes at `offset`.
    pub(super) fn read(&self, offset: u64, data: &mut [u8], counters: Counters) {
        if let Some(span) = buffer_span(offset, data.len()) {
            data.copy_from_slice(&self.buffer[span]);
            return;
        }
        data.fill(0xff);
        if !offset.is_multiple_of(data.len().max(1) as u64) {
            return;
        }
        if let Ok(data) = <&mut [u8; 4]>::try_from(&mut *data) {
            *data = self.register(offset, counters).to_le_bytes();
        } else if let Ok(data) = <&mut [u8; 8]>::try_from(data) {
            match offset {
                IOVA => *data = self.iova.0.to_le_bytes(),
                TRANSLATED => *data = counters.translated.0.to_le_bytes(),
                _ => {}
            }
        }
    }

    /// Writes `data` at `offset`. Returns the command that this starts.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Option<Command> {
        if let Some(span) = buffer_span(offset, data.len()) {
            self.buffer[span].copy_from_slice(data);
            return None;
        }
        if let (IOVA, Ok(data)) = (offset, data.try_into()) {
            self.iova = Iova(u64::from_le_bytes(data));
        }
        let value = u32::from_le_bytes(data.try_into().ok()?);
        match offset {
            COMMAND => return Some(Command::from(value)),
            IOVA => self.iova.0 = with_half(self.iova.0, value, 0),
            IOVA_HIGH => self.iova.0 = with_half(self.iova.0, value, 32),
            LENGTH => self.length = value,
            PATTERN => self.pattern = value,
            PERIOD => self.period = value.max(MIN_PERIOD),
            PASID => self.pasid = ids::Pasid::new(value),
            GROUP => self.group = value as u16 % PageRequest::GROUPS,
            _ => {}
        }
        None
    }

    /// The length of the next command, if it fits the buffer and the address space.
    pub(super) fn checked_length(&self) -> Option<usize> {
        let length = usize::try_from(self.length).ok()?;
        let fits = (1..=BUFFER_SIZE).contains(&length);
        (fits && self.iova.checked_add(u64::from(self.length) - 1).is_some()).then_some(length)
    }

    /// The PASID of the requests of `command`.
    ///
    /// # Errors
    /// [`Status::PasidOff`] if the function may not send it.
    pub(super) fn pasid(
        &self,
        command: Command,
        rights: &Rights,
    ) -> Result<Option<ids::Pasid>, Status> {
        match (command.pasid(), rights.pasid.enable()) {
            (true, false) => Err(Status::PasidOff),
            (wanted, _) => Ok(wanted.then_some(self.pasid)),
        }
    }

    fn register(&self, offset: u64, counters: Counters) -> u32 {
        match offset {
            ID => ID_VALUE,
            STATUS => u32::from(counters.busy) | u32::from(counters.waits) << 1,
            RESULT => self.result as u32,
            IOVA => half(self.iova.0, 0),
            IOVA_HIGH => half(self.iova.0, 32),
            LENGTH => self.length,
            PATTERN => self.pattern,
            PERIOD => self.period,
            COUNT => counters.done,
            ERRORS => counters.failed,
            ATC_ENTRIES => counters.atc_entries,
            ATC_SIZE => counters.atc_size,
            INVALIDATIONS => counters.invalidations,
            TRANSLATED => half(counters.translated.0, 0),
            TRANSLATED_HIGH => half(counters.translated.0, 32),
            PASID => self.pasid.get(),
            GROUP => self.group.into(),
            RESPONSE => counters.response,
            RESPONSES => counters.responses,
            OUTSTANDING => counters.outstanding,
            _ => 0,
        }
    }
}

const IOVA_HIGH: u64 = IOVA + 4;
const TRANSLATED_HIGH: u64 = TRANSLATED + 4;

/// The bytes of the buffer, if an access is one to the buffer.
fn buffer_span(offset: u64, length: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset.checked_sub(BUFFER)?).ok()?;
    let aligned = matches!(length, 1 | 2 | 4 | 8) && start.is_multiple_of(length);
    (aligned && start + length <= BUFFER_SIZE).then(|| start..start + length)
}

/// One half of `value`.
pub(super) fn half(value: u64, shift: u32) -> u32 {
    (value >> shift) as u32
}

/// `value` with one half replaced.
pub(super) fn with_half(value: u64, half: u32, shift: u32) -> u64 {
    value & !(0xffff_ffff << shift) | u64::from(half) << shift
}
