//! MSI with one vector and 64-bit address, with or without per-vector mask (`PCIe 7.7.1`).

use iommu::ats;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::msi::*;

/// The only vector's bit in the Mask and Pending registers.
const VECTOR: u32 = 1;

/// The MSI capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Msi {
    at: u16,
    has_mask: bool,
}

impl Msi {
    /// Declares the capability, with per-vector masking.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let msi = Self { at: builder.capability(ID, LENGTH_WITH_MASK)?, has_mask: true };
        msi.declare(builder);
        builder.declare(msi.at + MASK, Register::new(0_u32).writable(VECTOR));
        builder.declare(msi.at + PENDING, Register::new(0_u32));
        Ok(msi)
    }

    /// Declares the capability, without per-vector masking.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add_without_mask(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let msi = Self { at: builder.capability(ID, LENGTH)?, has_mask: false };
        msi.declare(builder);
        Ok(msi)
    }

    fn declare(self, builder: &mut ConfigBuilder) {
        let at = self.at;
        let control = Control::new().with_is_64_bit(true).with_per_vector_mask(self.has_mask);
        let writable = Control::new().with_enable(true).with_multiple_enable(7);
        builder.declare(at + CONTROL, Register::new(control).writable(writable));
        builder.declare(at + ADDRESS, Register::new(0_u32).writable(!3));
        builder.declare(at + UPPER_ADDRESS, Register::new(0_u32).writable(u32::MAX));
        builder.declare(at + DATA, Register::new(0_u16).writable(u16::MAX));
    }

    /// Whether software has enabled MSI: the function must not use INTx.
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).enable()
    }

    /// Raises the interrupt. Returns the message to send now, `None` if MSI is disabled or the
    /// vector is masked. A masked message stays pending.
    pub fn raise(self, config: &mut ConfigSpace) -> Option<ats::Msi> {
        if !self.is_enabled(config) {
            return None;
        }
        if !self.has_mask {
            return Some(self.message(config));
        }
        config.set(self.at + PENDING, VECTOR);
        self.take_pending(config)
    }

    /// The pending message, if software has unmasked the vector since.
    pub fn take_pending(self, config: &mut ConfigSpace) -> Option<ats::Msi> {
        let ready = config.get::<u32>(self.at + PENDING) & !config.get::<u32>(self.at + MASK);
        if !self.has_mask || !self.is_enabled(config) || ready & VECTOR == 0 {
            return None;
        }
        config.set(self.at + PENDING, 0_u32);
        Some(self.message(config))
    }

    fn message(self, config: &ConfigSpace) -> ats::Msi {
        let upper = u64::from(config.get::<u32>(self.at + UPPER_ADDRESS));
        let lower = u64::from(config.get::<u32>(self.at + ADDRESS));
        let data = config.get::<u16>(self.at + DATA);
        ats::Msi { address: upper << 32 | lower, data: data.into() }
    }
}
