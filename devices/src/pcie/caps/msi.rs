//! MSI with one vector, 64-bit address and per-vector mask (`PCIe 7.7.1`).

use bitfield_struct::bitfield;
use iommu::ats;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register, register_layout};
use crate::pcie::header::ConfigBuilder;

const ID: u8 = 0x05;
const LENGTH: u16 = 0x18;
const CONTROL: u16 = 0x02;
const ADDRESS: u16 = 0x04;
const UPPER_ADDRESS: u16 = 0x08;
const DATA: u16 = 0x0c;
const MASK: u16 = 0x10;
const PENDING: u16 = 0x14;

/// The only vector's bit in the Mask and Pending registers.
const VECTOR: u32 = 1;

/// Message Control.
#[bitfield(u16)]
struct Control {
    enable: bool,
    /// log2 of the vectors that the function asks for.
    #[bits(3)]
    multiple_capable: u8,
    /// log2 of the vectors that software grants.
    #[bits(3)]
    multiple_enable: u8,
    is_64_bit: bool,
    per_vector_mask: bool,
    #[bits(7)]
    __: u8,
}

register_layout!(Control: u16);

/// The MSI capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Msi {
    at: u16,
}

impl Msi {
    /// Declares it.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let at = builder.capability(ID, LENGTH)?;
        let control = Control::new().with_is_64_bit(true).with_per_vector_mask(true);
        let writable = Control::new().with_enable(true).with_multiple_enable(7);
        builder.declare(at + CONTROL, Register::new(control).writable(writable));
        builder.declare(at + ADDRESS, Register::new(0_u32).writable(!3));
        builder.declare(at + UPPER_ADDRESS, Register::new(0_u32).writable(u32::MAX));
        builder.declare(at + DATA, Register::new(0_u16).writable(u16::MAX));
        builder.declare(at + MASK, Register::new(0_u32).writable(VECTOR));
        builder.declare(at + PENDING, Register::new(0_u32));
        Ok(Self { at })
    }

    /// The function has something to say: the message to send now, `None` while MSI is off or the
    /// vector is masked. A masked message stays pending.
    pub fn raise(self, config: &mut ConfigSpace) -> Option<ats::Msi> {
        if !config.get::<Control>(self.at + CONTROL).enable() {
            return None;
        }
        config.set(self.at + PENDING, VECTOR);
        self.take_pending(config)
    }

    /// The message that was held back, if software has unmasked the vector since.
    pub fn take_pending(self, config: &mut ConfigSpace) -> Option<ats::Msi> {
        let enabled = config.get::<Control>(self.at + CONTROL).enable();
        let ready = config.get::<u32>(self.at + PENDING) & !config.get::<u32>(self.at + MASK);
        if !enabled || ready & VECTOR == 0 {
            return None;
        }
        config.set(self.at + PENDING, 0_u32);
        let upper = u64::from(config.get::<u32>(self.at + UPPER_ADDRESS));
        let lower = u64::from(config.get::<u32>(self.at + ADDRESS));
        let data = config.get::<u16>(self.at + DATA);
        Some(ats::Msi { address: upper << 32 | lower, data: data.into() })
    }
}
