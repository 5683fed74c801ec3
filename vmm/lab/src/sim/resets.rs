//! Resets by drivers: FLR, and under some policies what Linux does around it.
//!
//! ```text
//!   without reset_prepare:  FLR --------------------------------------------> set up, used again
//!   with it:                block, drain, invalidate --> FLR --> set up --> restore, used again
//! ```

use std::time::Duration;

use iommu::event::Event;

use super::Kind;
use super::cpu::{Purpose, State};
use super::machine::Machine;

impl Machine<'_> {
    /// A CPU resets its device: at once, or after it has blocked the device.
    pub(super) fn begin_reset(&mut self, cpu: u16) {
        let device = self.cpu(cpu).device;
        if self.spec.workload.kind == Kind::Reset || self.spec.policy.reset_prepare {
            self.devices[usize::from(device)].is_resetting = true;
            self.cut_off_io(device);
        }
        if self.spec.policy.reset_prepare {
            return self.want(cpu, Purpose::Prepare, None, Vec::new());
        }
        self.reset(cpu);
    }

    /// The device is blocked, or need not be: it is reset.
    pub(super) fn reset(&mut self, cpu: u16) {
        let time = self.reset_device(self.cpus[usize::from(cpu)].device);
        self.cpu(cpu).state = State::Resetting;
        self.wake(cpu, time);
    }

    /// The time of a reset is over, whether it has succeeded or not.
    pub(super) fn end_reset(&mut self, cpu: u16) {
        let (device, now) = (self.cpu(cpu).device, self.now);
        let function = self.slots.function(device);
        if self.spec.policy.reset_prepare {
            self.downstream.finish_reset(function, now);
        }
        let state = &mut self.devices[usize::from(device)];
        state.is_resetting = false;
        let is_let_go = state.unbinding;
        for waiting in std::mem::take(&mut state.waiting_for_reset) {
            let pause = self.rest(waiting);
            self.pause(waiting, pause);
        }
        if !self.cpu(cpu).held.is_empty() {
            return self.detach(cpu);
        }
        self.cpu(cpu).state = State::Idle;
        let pause = self.rest(cpu);
        self.pause(cpu, pause);
        if is_let_go {
            self.unbind_if_quiet(device);
        }
    }

    /// Whether no I/O begins because the device is reset. The CPU goes on when that is over.
    pub(super) fn waits_for_reset(&mut self, cpu: u16) -> bool {
        let device = self.cpu(cpu).device;
        let state = &mut self.devices[usize::from(device)];
        if state.is_resetting {
            state.waiting_for_reset.push(cpu);
        }
        state.is_resetting
    }

    /// Whether a CPU resets its device now, as the workload wants it: the first one does, after every
    /// batch.
    pub(super) fn is_reset_due(&self, cpu: u16) -> bool {
        let workload = &self.spec.workload;
        workload.kind == Kind::Reset
            && cpu < workload.devices
            && self.cpus[usize::from(cpu)].begun.is_multiple_of(workload.batch)
    }

    /// The I/O of each other CPU fails at some time during the reset, and the page is unmapped then: no
    /// lock keeps the users of an address space from unmapping while a device is reset.
    fn cut_off_io(&mut self, device: u16) {
        for cpu in self.workers(device) {
            if matches!(self.cpu(cpu).state, State::Io(_)) {
                let pause = self.jitter(self.spec.costs.reset / 2);
                self.pause(cpu, pause);
            }
        }
    }

    /// Function Level Reset, if the device is there, and everything is set up again. Returns after
    /// which time the device is used.
    pub(super) fn reset_device(&mut self, device: u16) -> Duration {
        let (function, now) = (self.slots.function(device), self.now);
        let usual = self.spec.costs.reset;
        self.note_attempt(device, |gone| &mut gone.resets);
        if !self.downstream.hierarchy.is_present(function, now) {
            return usual;
        }
        self.downstream.reset(function, now);
        self.note_atc_change(device);
        self.tracer.emit(now, || Event::DriverReset { function });
        let ready = self.downstream.hierarchy.ready_at(usize::from(device));
        ready.map_or(usual, |ready| usual.max(ready - now))
    }

    /// Sets everything up again, after a reset that the driver has not asked for.
    pub(super) fn set_up(&mut self, device: u16) {
        let has_ats = self.downstream.drivers.note_set_up(device);
        let (mut driver, layout) = self.driver();
        driver.enable_device(device, has_ats, layout);
    }
}
