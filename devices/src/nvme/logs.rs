//! Log pages (`NVMe 5.14.1`): errors, SMART / health, firmware slots, changed namespaces.

use std::collections::VecDeque;

use super::features::TEMPERATURE;
use super::identify::FIRMWARE;
use super::spec::{Command, StatusField};
use super::storage::BLOCK_SIZE;

/// Error Information.
pub(super) const ERROR: u8 = 0x01;
/// SMART / Health Information.
pub(super) const SMART: u8 = 0x02;
const FIRMWARE_SLOT: u8 = 0x03;
const CHANGED_NAMESPACES: u8 = 0x04;

/// Entries in the error log.
pub(super) const ERROR_ENTRIES: usize = 16;
const ERROR_ENTRY_SIZE: usize = 64;

/// What the controller remembers about itself; resets leave it alone.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// The newest first.
    errors: VecDeque<[u8; ERROR_ENTRY_SIZE]>,
    error_count: u64,
    pub(super) blocks_read: u64,
    pub(super) blocks_written: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) media_errors: u64,
    pub(super) power_losses: u64,
    pub(super) unsafe_shutdowns: u64,
}

impl Logs {
    /// `command` of `queue` has failed.
    pub(super) fn record(&mut self, queue: u16, command: &Command, status: StatusField) {
        const NO_PARAMETER: u16 = 0xffff;
        self.error_count += 1;
        let mut entry = [0; ERROR_ENTRY_SIZE];
        put(&mut entry, 0, &self.error_count.to_le_bytes());
        put(&mut entry, 8, &queue.to_le_bytes());
        put(&mut entry, 10, &command.identifier().to_le_bytes());
        put(&mut entry, 12, &(status.into_bits() << 1).to_le_bytes());
        put(&mut entry, 14, &NO_PARAMETER.to_le_bytes());
        if queue > 0 {
            put(&mut entry, 16, &command.starting_lba().to_le_bytes());
        }
        put(&mut entry, 24, &command.namespace().to_le_bytes());
        self.errors.truncate(ERROR_ENTRIES - 1);
        self.errors.push_front(entry);
    }

    /// The log page `identifier`, if there is one.
    pub(super) fn page(&self, identifier: u8, critical_warnings: u8) -> Option<Vec<u8>> {
        match identifier {
            ERROR => {
                let mut page: Vec<u8> = self.errors.iter().flatten().copied().collect();
                page.resize(ERROR_ENTRIES * ERROR_ENTRY_SIZE, 0);
                Some(page)
            }
            SMART => Some(self.smart(critical_warnings)),
            FIRMWARE_SLOT => {
                const ACTIVE_SLOT: u8 = 1;
                let mut page = vec![0; 512];
                put(&mut page, 0, &[ACTIVE_SLOT]);
                put(&mut page, 8, FIRMWARE);
                Some(page)
            }
            // The namespace never changes.
            CHANGED_NAMESPACES => Some(vec![0; 4096]),
            _ => None,
        }
    }

    fn smart(&self, critical_warnings: u8) -> Vec<u8> {
        const SPARE: u8 = 100;
        const SPARE_THRESHOLD: u8 = 10;
        let mut page = vec![0; 512];
        put(&mut page, 0, &[critical_warnings]);
        put(&mut page, 1, &TEMPERATURE.to_le_bytes());
        put(&mut page, 3, &[SPARE, SPARE_THRESHOLD]);
        let counters = [
            (32, data_units(self.blocks_read)),
            (48, data_units(self.blocks_written)),
            (64, self.reads),
            (80, self.writes),
            (112, self.power_losses + 1),
            (144, self.unsafe_shutdowns),
            (160, self.media_errors),
            (176, self.error_count),
        ];
        for (at, counter) in counters {
            put(&mut page, at, &counter.to_le_bytes());
        }
        page
    }
}

/// Thousands of 512 bytes, rounded up.
fn data_units(blocks: u64) -> u64 {
    (blocks * (BLOCK_SIZE / 512)).div_ceil(1000)
}

/// Puts `bytes` at `at` in a structure of which they are part.
pub(super) fn put(structure: &mut [u8], at: usize, bytes: &[u8]) {
    structure[at..at + bytes.len()].copy_from_slice(bytes);
}
