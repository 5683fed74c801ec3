//! The hardware that the host's driver works with.

use super::FunctionAccess;
use crate::Memory;
use crate::time::Instant;
use crate::unit::Unit;

/// The physical unit, the memory that it shares with the driver, and the functions.
pub(super) struct Hardware<'a> {
    pub(super) unit: &'a mut Unit,
    pub(super) memory: &'a Memory,
    pub(super) functions: &'a mut dyn FunctionAccess,
    /// The unit's registers read as all ones, and ignore writes.
    pub(super) is_unit_gone: bool,
}

impl Hardware<'_> {
    pub(super) fn read(&self, at: u16) -> u32 {
        let mut data = [0xff; 4];
        if !self.is_unit_gone {
            self.unit.read(u64::from(at), &mut data);
        }
        u32::from_le_bytes(data)
    }

    pub(super) fn read_qword(&self, at: u16) -> u64 {
        let mut data = [0xff; 8];
        if !self.is_unit_gone {
            self.unit.read(u64::from(at), &mut data);
        }
        u64::from_le_bytes(data)
    }

    pub(super) fn write(&mut self, at: u16, value: u32, now: Instant) {
        if !self.is_unit_gone {
            self.unit.write(u64::from(at), &value.to_le_bytes(), self.memory, now);
        }
    }
}
