//! The drivers' knowledge of their devices: which are marked as disconnected, and how each is set
//! up.

use devices::pcie::Hierarchy;
use devices::root_complex::downstream;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::firmware::{Driver, Layout};
use super::slot_map::SlotMap;

/// The drivers of all devices.
#[derive(Debug)]
pub(super) struct Drivers {
    slots: SlotMap,
    pub(super) layout: Layout,
    /// Whether the hot-plug driver has marked each device as disconnected.
    pub(super) disconnected: Vec<bool>,
    /// Devices that were reset, and are to be set up when they are ready.
    pub(super) resetting: Vec<u16>,
    /// The next answer to a read of a vendor ID, if the read was made some time ago.
    pub(super) sample: Option<bool>,
}

impl Drivers {
    pub(super) fn new(slots: SlotMap, layout: Layout) -> Self {
        let disconnected = vec![false; usize::from(slots.devices())];
        Self { slots, layout, disconnected, resetting: Vec::new(), sample: None }
    }
}

impl Drivers {
    /// Sets up the devices that were reset, and are ready now.
    pub(super) fn set_up_ready(&mut self, hierarchy: &mut Hierarchy, now: Instant) {
        for device in std::mem::take(&mut self.resetting) {
            let function = self.slots.function(device);
            downstream::Drivers::set_up(self, hierarchy, function, now);
        }
    }
}

impl downstream::Drivers for Drivers {
    fn is_present(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) -> bool {
        self.sample.take().unwrap_or_else(|| hierarchy.is_present(function, now))
    }

    fn is_disconnected(&self, _: &Hierarchy, function: Bdf) -> bool {
        let device = self.slots.device(function);
        device.is_some_and(|device| self.disconnected[usize::from(device)])
    }

    fn set_up(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) {
        if let Some(device) = self.slots.device(function) {
            if hierarchy.ready_at(usize::from(device)).is_some() {
                return self.resetting.push(device);
            }
            let mut driver = Driver { hierarchy, slots: self.slots, now };
            driver.enable_device(device, &self.layout);
        }
    }
}
