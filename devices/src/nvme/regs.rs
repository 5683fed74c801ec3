//! BAR 0: 16 KiB.
//!
//! | offset | | |
//! |---|---|---|
//! | 0x00 | CAP | RO, 64 bits |
//! | 0x08 | VS | RO: 1.4 |
//! | 0x14 | CC | RW |
//! | 0x1c | CSTS | RO, but for NSSRO, which is cleared by writing 1 |
//! | 0x20 | NSSR | WO: [`SUBSYSTEM_RESET`] resets the subsystem; not in virtual functions |
//! | 0x24 | AQA | RW while CC.EN = 0 |
//! | 0x28, 0x30 | ASQ, ACQ | RW while CC.EN = 0, 64 bits |
//! | 0x1000 | doorbells | WO: tail of queue 0, head of queue 0, tail of queue 1, ... |
//! | 0x2000 | MSI-X table | |
//! | 0x3000 | MSI-X pending bits | |
//!
//! Registers take aligned accesses of four and eight bytes, doorbells of four. Other reads give all
//! ones, other writes are ignored. Offsets without a register read as zero, and so do INTMS and
//! INTMC, because the function has no INTA.

use bitfield_struct::bitfield;

use super::model::{MAX_ENTRIES, QUEUES};

/// Bytes in BAR 0.
pub const SIZE: u32 = 0x4000;
/// The first doorbell.
pub const DOORBELLS: u64 = 0x1000;
/// The MSI-X table.
pub const MSIX_TABLE: u32 = 0x2000;
/// The MSI-X pending bits.
pub const MSIX_PENDING: u32 = 0x3000;

/// Controller Capabilities.
pub const CAP: u64 = 0x00;
/// Version.
pub const VS: u64 = 0x08;
/// Controller Configuration.
pub const CC: u64 = 0x14;
/// Controller Status.
pub const CSTS: u64 = 0x1c;
/// NVM Subsystem Reset.
pub const NSSR: u64 = 0x20;
/// Admin Queue Attributes.
pub const AQA: u64 = 0x24;
/// Admin Submission Queue Base Address.
pub const ASQ: u64 = 0x28;
/// Admin Completion Queue Base Address.
pub const ACQ: u64 = 0x30;

/// The value that initiates an NVM Subsystem Reset, "NVMe" (`NVMe 3.1.7`).
pub const SUBSYSTEM_RESET: u32 = 0x4e56_4d65;

/// The value of [`VS`].
pub const VERSION: u32 = 0x0001_0400;

/// Controller Capabilities (`NVMe 3.1.1`). The zeros stand for pages of 4 KiB and a doorbell stride
/// of 0.
#[bitfield(u64)]
struct Capabilities {
    /// Entries in a queue, less one.
    max_queue_entries: u16,
    contiguous_queues_required: bool,
    #[bits(7)]
    __: u8,
    /// The longest time from EN to RDY, in half seconds.
    timeout: u8,
    #[bits(4)]
    __: u8,
    /// NSSRS: NSSR is there.
    subsystem_reset: bool,
    nvm_command_set: bool,
    #[bits(26)]
    __: u32,
}

/// Controller Configuration (`NVMe 3.1.5`).
#[bitfield(u32)]
pub(super) struct Configuration {
    pub(super) enable: bool,
    #[bits(3)]
    __: u8,
    #[bits(3)]
    pub(super) command_set: u8,
    /// log2 of the page size, less 12.
    #[bits(4)]
    pub(super) page_size: u8,
    #[bits(3)]
    pub(super) arbitration: u8,
    /// Shutdown Notification.
    #[bits(2)]
    pub(super) shutdown: u8,
    /// log2 of the bytes in a submission queue entry.
    #[bits(4)]
    pub(super) submission_entry_size: u8,
    #[bits(4)]
    pub(super) completion_entry_size: u8,
    #[bits(8)]
    __: u8,
}

/// Controller Status (`NVMe 3.1.6`).
#[bitfield(u32)]
pub(super) struct ControllerStatus {
    pub(super) ready: bool,
    /// CFS: the controller has stopped until a reset.
    pub(super) fatal: bool,
    /// Shutdown Status: 1 under way, 2 complete.
    #[bits(2)]
    pub(super) shutdown: u8,
    /// NSSRO: an NVM Subsystem Reset has occurred.
    pub(super) subsystem_reset: bool,
    #[bits(27)]
    __: u32,
}

/// Admin Queue Attributes (`NVMe 3.1.8`): entries, less one.
#[bitfield(u32)]
pub(super) struct AdminQueueAttributes {
    #[bits(12)]
    pub(super) submission_size: u16,
    #[bits(4)]
    __: u8,
    #[bits(12)]
    pub(super) completion_size: u16,
    #[bits(4)]
    __: u8,
}

/// A doorbell (`NVMe 3.1.24`, `3.1.25`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doorbell {
    /// Submission queue tail.
    Tail(u16),
    /// Completion queue head.
    Head(u16),
}

impl Doorbell {
    /// The doorbell at `offset` in BAR 0, if the controller can have its queue.
    pub(super) fn at(offset: u64) -> Option<Self> {
        let index = offset.checked_sub(DOORBELLS)? / 4;
        let queue = u16::try_from(index / 2).ok().filter(|queue| usize::from(*queue) < QUEUES)?;
        Some(if index.is_multiple_of(2) { Self::Tail(queue) } else { Self::Head(queue) })
    }
}

/// The effect of a write to a register on the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// CC.EN was set.
    Enable,
    /// CC.EN was cleared: Controller Reset.
    Reset,
    /// CC.SHN was set.
    Shutdown,
    /// NVM Subsystem Reset.
    SubsystemReset,
}

/// The registers that have a state.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub(super) configuration: Configuration,
    pub(super) status: ControllerStatus,
    pub(super) attributes: AdminQueueAttributes,
    pub(super) submission_base: u64,
    pub(super) completion_base: u64,
    /// A virtual function, which has no NSSR: it would reset all other controllers.
    pub(super) is_virtual: bool,
}

impl Registers {
    /// Reads `data.len()` bytes at `offset`.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        if !is_allowed(offset, data.len()) {
            data.fill(0xff);
            return;
        }
        for (at, bytes) in (offset..).step_by(4).zip(data.as_chunks_mut::<4>().0) {
            *bytes = self.register(at).to_le_bytes();
        }
    }

    /// Writes `data` at `offset`.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        if !is_allowed(offset, data.len()) {
            return None;
        }
        let words = (offset..).step_by(4).zip(data.as_chunks::<4>().0);
        words.fold(None, |effect, (at, bytes)| self.set(at, u32::from_le_bytes(*bytes)).or(effect))
    }

    /// Controller Reset, which keeps AQA, ASQ and ACQ (`NVMe 7.3.2`), and NSSRO.
    pub(super) fn controller_reset(&mut self) {
        self.configuration = Configuration::new();
        self.status = self.status_after_reset();
    }

    /// CSTS after any reset but one by power: NSSRO stays.
    pub(super) fn status_after_reset(&self) -> ControllerStatus {
        ControllerStatus::new().with_subsystem_reset(self.status.subsystem_reset())
    }

    fn set(&mut self, offset: u64, value: u32) -> Option<Effect> {
        let wide = u64::from(value);
        let low = |base: u64| base & !0xffff_ffff | wide & !0xfff;
        let high = |base: u64| base & 0xffff_ffff | wide << 32;
        match (offset, self.configuration.enable()) {
            (CC, _) => return self.configure(value.into()),
            (CSTS, _) if ControllerStatus::from(value).subsystem_reset() => {
                self.status.set_subsystem_reset(false);
            }
            (NSSR, _) if value == SUBSYSTEM_RESET && !self.is_virtual => {
                return Some(Effect::SubsystemReset);
            }
            (AQA, false) => self.attributes = value.into(),
            (ASQ, false) => self.submission_base = low(self.submission_base),
            (ASQ_HIGH, false) => self.submission_base = high(self.submission_base),
            (ACQ, false) => self.completion_base = low(self.completion_base),
            (ACQ_HIGH, false) => self.completion_base = high(self.completion_base),
            _ => {}
        }
        None
    }

    fn configure(&mut self, new: Configuration) -> Option<Effect> {
        let old = std::mem::replace(&mut self.configuration, new);
        match (old.enable(), new.enable()) {
            (true, false) => Some(Effect::Reset),
            (false, true) => Some(Effect::Enable),
            _ if old.shutdown() == 0 && new.shutdown() != 0 => Some(Effect::Shutdown),
            _ => None,
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let capabilities = Capabilities::new()
            .with_max_queue_entries(MAX_ENTRIES - 1)
            .with_contiguous_queues_required(true)
            .with_timeout(10)
            .with_subsystem_reset(!self.is_virtual)
            .with_nvm_command_set(true)
            .into_bits();
        match offset {
            CAP => capabilities as u32,
            CAP_HIGH => (capabilities >> 32) as u32,
            VS => VERSION,
            CC => self.configuration.into(),
            CSTS => self.status.into(),
            AQA => self.attributes.into(),
            ASQ => self.submission_base as u32,
            ASQ_HIGH => (self.submission_base >> 32) as u32,
            ACQ => self.completion_base as u32,
            ACQ_HIGH => (self.completion_base >> 32) as u32,
            _ => 0,
        }
    }
}

const CAP_HIGH: u64 = CAP + 4;
const ASQ_HIGH: u64 = ASQ + 4;
const ACQ_HIGH: u64 = ACQ + 4;

fn is_allowed(offset: u64, length: usize) -> bool {
    matches!(length, 4 | 8) && offset.is_multiple_of(length as u64)
}
