//! Downstream Port Containment (`PCIe 6.2.11`, `PCIe 7.9.14`): a port that detects an uncorrectable
//! error takes its link down at once, and keeps it down until software clears the trigger.

use iommu::ids::Bdf;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::dpc::*;

/// Trigger reason and extension: the port has detected an unmasked uncorrectable error.
const UNCORRECTABLE: (u8, u8) = (0, 0);
/// Trigger reason and extension: software has triggered containment.
const SOFTWARE: (u8, u8) = (3, 1);
/// PIO First Error Pointer while there is no error.
const NO_PIO_ERROR: u8 = 0x1f;

/// The DPC capability of a port.
#[derive(Debug, Clone, Copy)]
pub struct Dpc {
    at: u16,
}

impl Dpc {
    /// Declares the capability, with software trigger and without RP PIO logs.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let writable = Control::new()
            .with_trigger_enable(3)
            .with_completion_control(true)
            .with_interrupt_enable(true)
            .with_err_cor_enable(true)
            .with_software_trigger(true);
        let status = Status::new().with_pio_first_error(NO_PIO_ERROR);
        let events = Status::new().with_triggered(true).with_interrupt(true);
        builder
            .declare(at + CAPABILITY, Register::new(Capability::new().with_software_trigger(true)));
        builder.declare(at + CONTROL, Register::new(Control::new()).writable(writable));
        let sticky = events.with_reason(3).with_reason_extension(3).with_pio_first_error(0x1f);
        builder.declare(at + STATUS, Register::new(status).clearable(events).sticky(sticky));
        builder.declare(at + SOURCE, Register::new(0_u16).sticky(u16::MAX));
        Ok(Self { at })
    }

    /// The port `id` has detected an unmasked uncorrectable error. Returns whether containment is
    /// enabled, and has been triggered.
    pub fn detect(self, config: &mut ConfigSpace, id: Bdf, fatal: bool) -> bool {
        let triggers = self.contains(config, fatal);
        if triggers {
            self.trigger(config, id, UNCORRECTABLE);
        }
        triggers
    }

    /// Whether an error of this severity would trigger containment.
    pub fn contains(self, config: &ConfigSpace, fatal: bool) -> bool {
        let enable = config.get::<Control>(self.at + CONTROL).trigger_enable();
        enable == TRIGGER_NON_FATAL || enable == TRIGGER_FATAL && fatal
    }

    /// Triggers containment if software has set DPC Software Trigger, which then reads 0.
    pub fn take_software_trigger(self, config: &mut ConfigSpace, id: Bdf) {
        let control = config.get::<Control>(self.at + CONTROL);
        config.set(self.at + CONTROL, control.with_software_trigger(false));
        if control.software_trigger()
            && matches!(control.trigger_enable(), TRIGGER_FATAL | TRIGGER_NON_FATAL)
        {
            self.trigger(config, id, SOFTWARE);
        }
    }

    /// Whether containment is triggered, and holds the link down.
    pub fn is_triggered(self, config: &ConfigSpace) -> bool {
        config.get::<Status>(self.at + STATUS).triggered()
    }

    /// Whether the containment interrupt is asserted.
    pub fn interrupt(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).interrupt_enable()
            && config.get::<Status>(self.at + STATUS).interrupt()
    }

    /// Latches the reason. A later trigger changes nothing until software has cleared the first.
    fn trigger(self, config: &mut ConfigSpace, id: Bdf, (reason, extension): (u8, u8)) {
        let status = config.get::<Status>(self.at + STATUS);
        if status.triggered() {
            return;
        }
        let enabled = config.get::<Control>(self.at + CONTROL).interrupt_enable();
        let status = status
            .with_triggered(true)
            .with_reason(reason)
            .with_reason_extension(extension)
            .with_interrupt(status.interrupt() | enabled);
        config.set(self.at + STATUS, status);
        config.set(self.at + SOURCE, id.into_bits());
    }
}
