//! The hot-plug driver, which handles interrupts of ports.
//!
//! ```text
//!   MSI --hot_plug--> contained?       DPC Status is cleared, the link trains anew, the device is set up
//!                     no link, no card: marked as disconnected; the driver lets the device go
//!                     button?           the driver lets the device go, then the slot is powered down
//!                     back?             the driver takes the device again
//!
//!   letting go: CPUs finish what they are at; then all of the domain is invalidated, by a helper,
//!               with interrupts off as everybody else
//! ```

use devices::root_complex::downstream::Downstream;
use iommu::event::Event;

use super::cpu::{Purpose, State};
use super::firmware::{Driver, Layout, PortState};
use super::gone::Learner;
use super::machine::Machine;

impl Machine<'_> {
    /// The handler of the interrupt of the port above `slot` runs.
    pub(super) fn interrupt(&mut self, slot: u16) {
        let (mut driver, layout) = self.driver();
        let port = driver.take_events(slot, layout);
        if port.contained {
            driver.end_containment(slot, layout);
        }
        for device in self.slots.devices_in(slot) {
            match port.contained {
                true => self.set_up(device),
                false => self.react(device, port),
            }
        }
    }

    fn react(&mut self, device: u16, port: PortState) {
        let state = &mut self.devices[usize::from(device)];
        let disconnected = &mut self.downstream.drivers.disconnected[usize::from(device)];
        if !port.link_active || !port.present {
            *disconnected = true;
            self.learn(device, Learner::HotPlug);
            self.let_go(device);
        } else if port.button {
            state.powers_down = true;
            self.let_go(device);
        } else if state.unbound && std::mem::take(disconnected) {
            self.take_again(device);
        }
    }

    /// A device is back, and its driver takes it.
    fn take_again(&mut self, device: u16) {
        let (now, slot) = (self.now, usize::from(self.slots.slot(device)));
        let is_gone = self.is_victim(device) && !self.downstream.hierarchy.is_link_up(slot);
        let state = &mut self.devices[usize::from(device)];
        (state.unbinding, state.unbound) = (false, false);
        state.gone = is_gone.then_some(now);
        self.set_up(device);
        let function = self.slots.function(device);
        self.tracer.emit(now, || Event::DriverBound { function });
        for cpu in self.workers(device) {
            self.cpu(cpu).state = State::Idle;
            let pause = self.jitter(self.spec.workload.period);
            self.pause(cpu, pause);
        }
    }

    /// The driver is told to let a device go.
    fn let_go(&mut self, device: u16) {
        let state = &mut self.devices[usize::from(device)];
        if std::mem::replace(&mut state.unbinding, true) {
            return;
        }
        self.learn(device, Learner::Driver);
        for cpu in self.workers(device) {
            if matches!(self.cpu(cpu).state, State::Io(_)) {
                self.wake(cpu, std::time::Duration::ZERO);
            }
        }
        self.unbind_if_quiet(device);
    }

    /// Once no CPU uses the device any more, a helper invalidates all of its domain.
    pub(super) fn unbind_if_quiet(&mut self, device: u16) {
        let helper = self.helper(device);
        let is_quiet = self.workers(device).all(|cpu| !self.cpus[usize::from(cpu)].is_active())
            && !self.cpu(helper).is_active()
            && !self.devices[usize::from(device)].unbound;
        if !is_quiet {
            return;
        }
        let mut pages = std::mem::take(&mut self.devices[usize::from(device)].deferred);
        for cpu in self.workers(device) {
            let mut held = std::mem::take(&mut self.cpu(cpu).held);
            self.unmap(device, &held);
            pages.append(&mut held);
        }
        self.want(helper, Purpose::Unbind, None, pages);
    }

    /// The device has no driver any more.
    pub(super) fn unbound(&mut self, device: u16) {
        let now = self.now;
        let state = &mut self.devices[usize::from(device)];
        (state.unbound, state.was_removed) = (true, true);
        let powers_down = std::mem::take(&mut state.powers_down);
        if let Some(gone) = state.gone.take() {
            self.result.zombie.record(now - gone);
        }
        let function = self.slots.function(device);
        self.tracer.emit(now, || Event::DriverUnbound { function });
        let slot = self.slots.slot(device);
        let mut others = self.slots.devices_in(slot);
        if powers_down && others.all(|device| self.devices[usize::from(device)].unbound) {
            let (mut driver, layout) = self.driver();
            driver.power_down(slot, layout);
        }
    }

    /// A driver's access to configuration space, and where the capabilities are.
    pub(super) fn driver(&mut self) -> (Driver<'_>, &Layout) {
        let Downstream { hierarchy, drivers, .. } = &mut self.downstream;
        (Driver { hierarchy, slots: self.slots, now: self.now }, &drivers.layout)
    }

    /// The CPUs that work with a device.
    pub(super) fn workers(&self, device: u16) -> impl Iterator<Item = u16> + use<> {
        let workload = &self.spec.workload;
        (device..workload.cpus).step_by(usize::from(workload.devices))
    }

    /// The helper of a device.
    pub(super) fn helper(&self, device: u16) -> u16 {
        self.spec.workload.cpus + device
    }
}
