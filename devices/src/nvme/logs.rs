//! Log pages (`NVMe 5.14.1`): errors, SMART / health, firmware slots, changed namespaces.

use std::collections::VecDeque;

use super::model::{ERROR_LOG_ENTRIES, FIRMWARE, TEMPERATURE};
use super::spec::log::{self, error, firmware_slot, smart};
use super::spec::{Command, StatusField, put};
use super::storage::BLOCK_SIZE;

/// The data of the log pages. Resets keep it.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// The error log, newest entry first.
    errors: VecDeque<[u8; error::SIZE]>,
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
    /// Adds an entry to the error log: `command` of `queue` has failed.
    pub(super) fn record(&mut self, queue: u16, command: &Command, status: StatusField) {
        self.error_count += 1;
        let mut entry = [0; error::SIZE];
        put(&mut entry, error::COUNT, &self.error_count.to_le_bytes());
        put(&mut entry, error::SUBMISSION_QUEUE, &queue.to_le_bytes());
        put(&mut entry, error::COMMAND_ID, &command.identifier().to_le_bytes());
        put(&mut entry, error::STATUS, &(status.into_bits() << 1).to_le_bytes());
        put(&mut entry, error::PARAMETER_LOCATION, &error::NO_PARAMETER.to_le_bytes());
        if queue > 0 {
            put(&mut entry, error::LBA, &command.starting_lba().to_le_bytes());
        }
        put(&mut entry, error::NAMESPACE, &command.namespace().to_le_bytes());
        self.errors.truncate(ERROR_LOG_ENTRIES - 1);
        self.errors.push_front(entry);
    }

    /// The log page `identifier`, if it is supported.
    pub(super) fn page(&self, identifier: u8, critical_warnings: u8) -> Option<Vec<u8>> {
        match identifier {
            log::ERROR => {
                let mut page: Vec<u8> = self.errors.iter().flatten().copied().collect();
                page.resize(ERROR_LOG_ENTRIES * error::SIZE, 0);
                Some(page)
            }
            log::SMART => Some(self.smart(critical_warnings)),
            log::FIRMWARE_SLOT => {
                let mut page = vec![0; log::PAGE_SIZE];
                put(&mut page, firmware_slot::ACTIVE_SLOT, &[1]);
                put(&mut page, firmware_slot::REVISION_1, FIRMWARE);
                Some(page)
            }
            // Namespaces never change.
            log::CHANGED_NAMESPACES => Some(vec![0; log::NAMESPACE_LIST_SIZE]),
            _ => None,
        }
    }

    fn smart(&self, critical_warnings: u8) -> Vec<u8> {
        const SPARE: u8 = 100;
        const SPARE_THRESHOLD: u8 = 10;
        let mut page = vec![0; log::PAGE_SIZE];
        put(&mut page, smart::CRITICAL_WARNING, &[critical_warnings]);
        put(&mut page, smart::TEMPERATURE, &TEMPERATURE.to_le_bytes());
        put(&mut page, smart::SPARE, &[SPARE]);
        put(&mut page, smart::SPARE_THRESHOLD, &[SPARE_THRESHOLD]);
        let counters = [
            (smart::DATA_UNITS_READ, data_units(self.blocks_read)),
            (smart::DATA_UNITS_WRITTEN, data_units(self.blocks_written)),
            (smart::HOST_READS, self.reads),
            (smart::HOST_WRITES, self.writes),
            (smart::POWER_CYCLES, self.power_losses + 1),
            (smart::UNSAFE_SHUTDOWNS, self.unsafe_shutdowns),
            (smart::MEDIA_ERRORS, self.media_errors),
            (smart::ERROR_ENTRIES, self.error_count),
        ];
        for (at, counter) in counters {
            put(&mut page, at, &counter.to_le_bytes());
        }
        page
    }
}

/// Data units: thousands of 512 bytes, rounded up.
fn data_units(blocks: u64) -> u64 {
    (blocks * (BLOCK_SIZE / 512)).div_ceil(1000)
}
