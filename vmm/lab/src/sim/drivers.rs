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
    /// How often each device was reset by a driver or by the policy.
    pub(super) resets: Vec<u32>,
    /// Whether ATS was turned off in each device for good.
    pub(super) ats_off: Vec<bool>,
    /// Whether each device makes its requests by its ATC: it does until it gets that write, or is set up
    /// without ATS.
    pub(super) uses_atc: Vec<bool>,
    /// Devices that were reset, and are to be set up when they are ready.
    pub(super) resetting: Vec<u16>,
    /// Whether devices are set up only when [`downstream::Drivers::end_reset`] says so: while the unit
    /// blocks a device, a Translation Request would be refused, which turns its ATC off.
    holds_back: bool,
    /// Devices that were reset, and are still blocked.
    blocked: Vec<u16>,
    /// The next answer to a read of a vendor ID, if the read was made some time ago.
    pub(super) sample: Option<bool>,
}

impl Drivers {
    pub(super) fn new(slots: SlotMap, layout: Layout, holds_back: bool) -> Self {
        let devices = usize::from(slots.devices());
        Self {
            slots,
            layout,
            disconnected: vec![false; devices],
            resets: vec![0; devices],
            ats_off: vec![false; devices],
            uses_atc: vec![true; devices],
            resetting: Vec::new(),
            holds_back,
            blocked: Vec::new(),
            sample: None,
        }
    }

    /// Sets up the devices that were reset, and are ready now.
    pub(super) fn set_up_ready(&mut self, hierarchy: &mut Hierarchy, now: Instant) {
        for device in std::mem::take(&mut self.resetting) {
            self.set_up_device(device, hierarchy, now);
        }
    }

    /// A device is set up again. Returns whether its driver may turn ATS on.
    pub(super) fn note_set_up(&mut self, device: u16) -> bool {
        let has_ats = !self.ats_off[usize::from(device)];
        self.uses_atc[usize::from(device)] = has_ats;
        has_ats
    }

    /// Sets up a device that was reset, now or when it is ready.
    fn set_up_device(&mut self, device: u16, hierarchy: &mut Hierarchy, now: Instant) {
        if hierarchy.ready_at(usize::from(device)).is_some() {
            return self.resetting.push(device);
        }
        let has_ats = self.note_set_up(device);
        let mut driver = Driver { hierarchy, slots: self.slots, now };
        driver.enable_device(device, has_ats, &self.layout);
    }
}

impl downstream::Drivers for Drivers {
    fn is_present(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) -> bool {
        self.sample.take().unwrap_or_else(|| hierarchy.is_present(function, now))
    }

    fn is_disconnected(&self, function: Bdf) -> bool {
        let device = self.slots.device(function);
        device.is_some_and(|device| self.disconnected[usize::from(device)])
    }

    fn set_up(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) {
        if let Some(device) = self.slots.device(function) {
            self.resets[usize::from(device)] += 1;
            match self.holds_back {
                true => self.blocked.push(device),
                false => self.set_up_device(device, hierarchy, now),
            }
        }
    }

    fn end_reset(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) {
        let Some(device) = self.slots.device(function) else { return };
        let before = self.blocked.len();
        self.blocked.retain(|blocked| *blocked != device);
        if self.blocked.len() < before {
            self.set_up_device(device, hierarchy, now);
        }
    }

    fn ats_disabled(&mut self, function: Bdf, has_arrived: bool) {
        if let Some(device) = self.slots.device(function) {
            self.ats_off[usize::from(device)] = true;
            self.uses_atc[usize::from(device)] &= !has_arrived;
        }
    }
}
