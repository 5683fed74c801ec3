//! Set Features and Get Features (`NVMe 5.21.1`). Features are not saveable: a reset restores their
//! defaults.

use super::model::{QUEUES, TEMPERATURE, VECTORS, WARNING_TEMPERATURE};
use super::spec::{NSID_ALL, Outcome, Status, TEMPERATURE_WARNING, feature, namespace_index};

/// I/O queues of each kind, less one, in both halves.
const IO_QUEUES: u32 = (QUEUES as u32 - 2) << 16 | (QUEUES as u32 - 2);

/// The features.
#[derive(Debug)]
pub(super) struct Features {
    arbitration: u32,
    /// Under and over temperature threshold, in kelvin.
    under: u16,
    over: u16,
    error_recovery: u32,
    /// The volatile write cache is on.
    pub(super) write_cache: bool,
    /// Interrupt Coalescing, which has no effect: the specification makes it a recommendation.
    coalescing: u32,
    /// Vectors with Coalescing Disable, a bit for each.
    uncoalesced: u16,
    write_atomicity: u32,
    events: u32,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            arbitration: 0,
            under: 0,
            over: WARNING_TEMPERATURE,
            error_recovery: 0,
            write_cache: true,
            coalescing: 0,
            uncoalesced: 0,
            write_atomicity: 0,
            events: 0,
        }
    }
}

impl Features {
    /// Get Features: `dword10`, `dword11` as in the command.
    pub(super) fn get(&self, dword10: u32, dword11: u32) -> Outcome {
        // Select is not supported: there are only current values.
        if dword10 >> 8 & 7 != 0 {
            return Err(Status::InvalidField);
        }
        Ok(match dword10 as u8 {
            feature::ARBITRATION => self.arbitration,
            feature::POWER_MANAGEMENT => 0,
            feature::TEMPERATURE_THRESHOLD => match (dword11 >> 16 & 0xf, dword11 >> 20 & 3) {
                (0, 0) => self.over.into(),
                (0, 1) => self.under.into(),
                _ => return Err(Status::InvalidField),
            },
            feature::ERROR_RECOVERY => self.error_recovery,
            feature::VOLATILE_WRITE_CACHE => self.write_cache.into(),
            feature::NUMBER_OF_QUEUES => IO_QUEUES,
            feature::INTERRUPT_COALESCING => self.coalescing,
            feature::INTERRUPT_VECTOR => {
                let vector = checked_vector(dword11)?;
                dword11 & 0xffff | u32::from(self.uncoalesced >> vector & 1) << 16
            }
            feature::WRITE_ATOMICITY => self.write_atomicity,
            feature::ASYNCHRONOUS_EVENTS => self.events,
            _ => return Err(Status::InvalidField),
        })
    }

    /// Set Features, with `namespaces` in all. `has_queues`: an I/O queue exists.
    pub(super) fn set(
        &mut self,
        dword10: u32,
        dword11: u32,
        namespace: u32,
        namespaces: usize,
        has_queues: bool,
    ) -> Outcome {
        const SAVE: u32 = 1 << 31;
        let identifier = dword10 as u8;
        if dword10 & SAVE != 0 {
            return Err(Status::FeatureNotSaveable);
        }
        if identifier == feature::ERROR_RECOVERY {
            if namespace != NSID_ALL {
                namespace_index(namespace, namespaces)?;
            }
        } else if namespace != 0 && namespace != NSID_ALL {
            return Err(Status::FeatureNotNamespaceSpecific);
        }
        match identifier {
            feature::ARBITRATION => self.arbitration = dword11,
            feature::POWER_MANAGEMENT if dword11 & 0x1f != 0 => return Err(Status::InvalidField),
            feature::POWER_MANAGEMENT => {}
            feature::TEMPERATURE_THRESHOLD => self.set_threshold(dword11)?,
            feature::ERROR_RECOVERY => self.error_recovery = dword11 & 0xffff,
            feature::VOLATILE_WRITE_CACHE => self.write_cache = dword11 & 1 != 0,
            feature::NUMBER_OF_QUEUES => return number_of_queues(dword11, has_queues),
            feature::INTERRUPT_COALESCING => self.coalescing = dword11 & 0xffff,
            feature::INTERRUPT_VECTOR => {
                let vector = checked_vector(dword11)?;
                let bit = 1 << vector;
                let without = dword11 >> 16 & 1 != 0;
                self.uncoalesced = self.uncoalesced & !bit | if without { bit } else { 0 };
            }
            feature::WRITE_ATOMICITY => self.write_atomicity = dword11 & 1,
            feature::ASYNCHRONOUS_EVENTS => self.events = dword11 & u32::from(TEMPERATURE_WARNING),
            _ => return Err(Status::InvalidField),
        }
        Ok(0)
    }

    /// The Critical Warning field of the SMART log.
    pub(super) fn critical_warnings(&self) -> u8 {
        let out_of_range = TEMPERATURE >= self.over || TEMPERATURE <= self.under;
        if out_of_range { TEMPERATURE_WARNING } else { 0 }
    }

    /// Whether a critical warning is to be reported by an event.
    pub(super) fn announces_warning(&self) -> bool {
        u32::from(self.critical_warnings()) & self.events != 0
    }

    fn set_threshold(&mut self, dword11: u32) -> Result<(), Status> {
        const EVERY_SENSOR: u32 = 0xf;
        let kelvin = dword11 as u16;
        match (dword11 >> 16 & 0xf, dword11 >> 20 & 3) {
            (0 | EVERY_SENSOR, 0) => self.over = kelvin,
            (0 | EVERY_SENSOR, 1) => self.under = kelvin,
            _ => return Err(Status::InvalidField),
        }
        Ok(())
    }
}

/// The controller allocates all its queues, whatever number the host asks for.
fn number_of_queues(dword11: u32, has_queues: bool) -> Outcome {
    if dword11 & 0xffff == 0xffff || dword11 >> 16 == 0xffff {
        return Err(Status::InvalidField);
    }
    if has_queues {
        return Err(Status::CommandSequenceError);
    }
    Ok(IO_QUEUES)
}

fn checked_vector(dword11: u32) -> Result<u16, Status> {
    let vector = dword11 as u16;
    if vector < VECTORS { Ok(vector) } else { Err(Status::InvalidField) }
}
