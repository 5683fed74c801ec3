//! Page Request Interface (`PCIe 10.5.2`): whether a function may make page requests, how many may
//! be outstanding, and whether it has stopped.

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::pri::*;

/// The PRI capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Pri {
    at: u16,
}

impl Pri {
    /// Page requests that the function can have outstanding: one for each group.
    pub const CAPACITY: u32 = 512;

    /// Declares the capability: disabled and stopped, with no allocation.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let control = Control::new().with_enable(true).with_reset(true);
        let status = PriStatus::new().with_stopped(true).with_pasid_required(true);
        let events = PriStatus::new().with_response_failure(true).with_unexpected_group(true);
        builder.declare(at + CONTROL, Register::new(Control::new()).writable(control));
        builder.declare(at + STATUS, Register::new(status).clearable(events));
        builder.declare(at + CAPACITY, Register::new(Self::CAPACITY));
        builder.declare(at + ALLOCATION, Register::new(0_u32).writable(u32::MAX));
        Ok(Self { at })
    }

    /// Whether the function may make page requests.
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).enable()
    }

    /// Disables page requests, as a Response Failure does.
    pub fn disable(self, config: &mut ConfigSpace) {
        config.set(self.at + CONTROL, Control::new());
    }

    /// Whether software has set Reset while page requests are disabled. Reset then reads 0.
    pub fn take_reset(self, config: &mut ConfigSpace) -> bool {
        let control = config.get::<Control>(self.at + CONTROL);
        config.set(self.at + CONTROL, control.with_reset(false));
        control.reset() && !control.enable()
    }

    /// Page requests that the function may have outstanding.
    pub fn allocation(self, config: &ConfigSpace) -> u32 {
        config.get::<u32>(self.at + ALLOCATION).min(Self::CAPACITY)
    }

    /// Page Request Status.
    pub fn status(self, config: &ConfigSpace) -> PriStatus {
        config.get(self.at + STATUS)
    }

    /// Sets Page Request Status.
    pub fn set_status(self, config: &mut ConfigSpace, status: PriStatus) {
        config.set(self.at + STATUS, status);
    }
}
