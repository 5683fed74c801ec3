//! Layouts of NVM Express, revision 1.4: queue entries, opcodes and status codes (`NVMe 4.2`, 4.6,
//! 5 and 6), and in the files beside this one features, log pages and Identify data.

pub(super) mod feature;
pub(super) mod identify;
pub(super) mod log;

use bitfield_struct::bitfield;

/// Bytes in a submission queue entry.
pub(super) const COMMAND_SIZE: u64 = 64;
/// Bytes in a completion queue entry.
pub(super) const COMPLETION_SIZE: u64 = 16;
/// log2 of [`COMMAND_SIZE`], for CC.IOSQES and SQES.
pub(super) const COMMAND_SIZE_ORDER: u8 = COMMAND_SIZE.trailing_zeros() as u8;
/// log2 of [`COMPLETION_SIZE`], for CC.IOCQES and CQES.
pub(super) const COMPLETION_SIZE_ORDER: u8 = COMPLETION_SIZE.trailing_zeros() as u8;
/// The namespace id that means all namespaces.
pub(super) const NSID_ALL: u32 = 0xffff_ffff;
/// The temperature's bit among the critical warnings (`NVMe 5.14.1.2`), and in the configuration of
/// asynchronous events (`NVMe 5.21.1.11`).
pub(super) const TEMPERATURE_WARNING: u8 = 1 << 1;

/// Opcodes of the admin command set (`NVMe 5`).
pub(super) mod admin {
    pub(crate) const DELETE_IO_SUBMISSION_QUEUE: u8 = 0x00;
    pub(crate) const CREATE_IO_SUBMISSION_QUEUE: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const DELETE_IO_COMPLETION_QUEUE: u8 = 0x04;
    pub(crate) const CREATE_IO_COMPLETION_QUEUE: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
    pub(crate) const ASYNCHRONOUS_EVENT_REQUEST: u8 = 0x0c;
}

/// Opcodes of the NVM command set (`NVMe 6`).
pub(super) mod io {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
}

/// Command Dword 0 (`NVMe 4.2`).
#[bitfield(u32)]
pub(super) struct CommandDword0 {
    pub(super) opcode: u8,
    /// Fused operation.
    #[bits(2)]
    pub(super) fuse: u8,
    #[bits(4)]
    __: u8,
    /// PRP or SGL for Data Transfer.
    #[bits(2)]
    pub(super) psdt: u8,
    pub(super) identifier: u16,
}

/// A submission queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command([u32; 16]);

impl Command {
    pub(super) fn decode(bytes: &[u8; COMMAND_SIZE as usize]) -> Self {
        let mut dwords = [0; 16];
        for (dword, bytes) in dwords.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *dword = u32::from_le_bytes(*bytes);
        }
        Self(dwords)
    }

    pub(super) fn head(&self) -> CommandDword0 {
        self.0[0].into()
    }

    pub(super) fn opcode(&self) -> u8 {
        self.head().opcode()
    }

    pub(super) fn identifier(&self) -> u16 {
        self.head().identifier()
    }

    pub(super) fn namespace(&self) -> u32 {
        self.0[1]
    }

    /// PRP Entry 1, or the first half of an SGL descriptor.
    pub(super) fn prp1(&self) -> u64 {
        self.wide(6)
    }

    /// PRP Entry 2, or the second half.
    pub(super) fn prp2(&self) -> u64 {
        self.wide(8)
    }

    /// Command Dword `index`, 10 to 15.
    pub(super) fn dword<const INDEX: usize>(&self) -> u32 {
        const { assert!(INDEX < 16) };
        self.0[INDEX]
    }

    /// Starting LBA of an I/O command.
    pub(super) fn starting_lba(&self) -> u64 {
        self.wide(10)
    }

    fn wide(&self, index: usize) -> u64 {
        u64::from(self.0[index + 1]) << 32 | u64::from(self.0[index])
    }
}

/// Status codes, with their type in bits 10:8 (`NVMe 4.6.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InvalidOpcode = 0x001,
    InvalidField = 0x002,
    CommandIdConflict = 0x003,
    DataTransferError = 0x004,
    AbortRequested = 0x007,
    InvalidNamespace = 0x00b,
    CommandSequenceError = 0x00c,
    InvalidSglSegment = 0x00d,
    InvalidSglCount = 0x00e,
    InvalidSglLength = 0x00f,
    InvalidSglType = 0x011,
    InvalidPrpOffset = 0x013,
    LbaOutOfRange = 0x080,
    InvalidCompletionQueue = 0x100,
    InvalidQueueId = 0x101,
    InvalidQueueSize = 0x102,
    EventRequestLimit = 0x105,
    InvalidVector = 0x108,
    InvalidLogPage = 0x109,
    InvalidQueueDeletion = 0x10c,
    FeatureNotSaveable = 0x10d,
    FeatureNotNamespaceSpecific = 0x10f,
    WriteFault = 0x280,
    UnrecoveredRead = 0x281,
    CompareFailure = 0x285,
}

/// Status Field of a completion (`NVMe 4.6.1`), without the phase tag.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub(super) struct StatusField {
    /// Status Code and, above it, its type.
    #[bits(11)]
    pub(super) code: u16,
    /// Command Retry Delay.
    #[bits(2)]
    __: u8,
    /// More: the error log has an entry.
    pub(super) more: bool,
    /// Do Not Retry: a retry would fail.
    pub(super) do_not_retry: bool,
    __: bool,
}

impl From<Status> for StatusField {
    fn from(status: Status) -> Self {
        let passing = matches!(status, Status::DataTransferError | Status::AbortRequested);
        Self::new().with_code(status as u16).with_more(true).with_do_not_retry(!passing)
    }
}

/// The outcome of a command: Dword 0 of its completion, or its error status.
pub(super) type Outcome = Result<u32, Status>;

/// A completion queue entry without the phase tag (`NVMe 4.6`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) result: u32,
    pub(super) submission_head: u16,
    pub(super) submission_queue: u16,
    pub(super) identifier: u16,
    pub(super) status: StatusField,
}

impl Completion {
    pub(super) fn encode(self, phase: bool) -> [u8; COMPLETION_SIZE as usize] {
        let status = u32::from(self.status.into_bits()) << 17;
        let dwords = [
            self.result,
            0,
            u32::from(self.submission_queue) << 16 | u32::from(self.submission_head),
            status | u32::from(phase) << 16 | u32::from(self.identifier),
        ];
        let mut bytes = [0; COMPLETION_SIZE as usize];
        for (bytes, dword) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(dwords) {
            *bytes = dword.to_le_bytes();
        }
        bytes
    }
}

/// The position of `namespace` among `count` namespaces, whose ids begin with 1.
pub(super) fn namespace_index(namespace: u32, count: usize) -> Result<usize, Status> {
    let index = usize::try_from(namespace).ok().and_then(|id| id.checked_sub(1));
    index.filter(|index| *index < count).ok_or(Status::InvalidNamespace)
}

/// Copies `bytes` to `at` in a structure that is long enough.
pub(super) fn put(structure: &mut [u8], at: usize, bytes: &[u8]) {
    structure[at..at + bytes.len()].copy_from_slice(bytes);
}
