//! The common parts of functions and ports: an id, configuration space, BAR 0 if it is the only
//! BAR, and messages that wait to be collected.

use std::collections::VecDeque;

use iommu::ats::Msi;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::UpstreamMessage;
use super::caps::aer::Aer;
use super::caps::express::Express;
use super::caps::power::{PowerManagement, PowerState};
use super::config::ConfigSpace;
use super::header::{self, Bar, ConfigBuilder};
use super::reset::Reset;
use super::spec::aer::Uncorrectable;
use super::spec::header::Command;

/// The state that functions of each kind and ports have in common.
#[derive(Debug)]
pub struct FunctionCore {
    /// Captured from the last configuration write (`PCIe 2.2.6.2`).
    pub id: Bdf,
    /// Its configuration space.
    pub config: ConfigSpace,
    bar: Option<Bar>,
    power: Option<PowerManagement>,
    flr: Option<Express>,
    /// A virtual function: its physical function is not in D0.
    pub physical_sleeps: bool,
    /// The function was reset, or was in D3hot, and is ready at this time. The hierarchy watches it.
    pub ready_at: Option<Instant>,
    errors: Option<(Aer, Express)>,
    messages: VecDeque<UpstreamMessage>,
    was_reset: bool,
}

impl FunctionCore {
    /// A conventional function. `bar` is its BAR 0, if it has no other.
    pub fn new(builder: ConfigBuilder, bar: Option<Bar>) -> Self {
        Self {
            id: Bdf::default(),
            config: builder.build(),
            bar,
            power: None,
            flr: None,
            physical_sleeps: false,
            ready_at: None,
            errors: None,
            messages: VecDeque::new(),
            was_reset: false,
        }
    }

    /// The function has power management.
    #[must_use]
    pub fn with_power(self, power: PowerManagement) -> Self {
        Self { power: Some(power), ..self }
    }

    /// Software can initiate a Function Level Reset in `express`.
    #[must_use]
    pub fn with_flr(self, express: Express) -> Self {
        Self { flr: Some(express), ..self }
    }

    /// The function logs errors in `aer`, and reports them as `express` says.
    #[must_use]
    pub fn with_errors(self, aer: Aer, express: Express) -> Self {
        Self { errors: Some((aer, express)), ..self }
    }

    /// The function has detected `error`: it logs it, and sends a message to the root port unless
    /// software has masked or disabled that (`PCIe 6.2.5`).
    pub fn detect(&mut self, error: Uncorrectable) {
        let Some((aer, express)) = self.errors else { return };
        let is_fatal = aer.severity(&self.config, error);
        express.note_error(&mut self.config, is_fatal);
        let Some(fatal) = aer.log(&mut self.config, error) else { return };
        if express.reports_errors(&self.config, fatal) || self.command().serr_enable() {
            self.send(UpstreamMessage::Error { source: self.id, fatal });
        }
    }

    /// Software writes configuration space, at the address `id`. Returns whether that initiates a
    /// Function Level Reset.
    pub fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8]) -> bool {
        self.id = id;
        self.config.write(offset, data);
        self.flr.is_some_and(|express| express.take_reset(&mut self.config))
    }

    /// The offset of an access in BAR 0, if the function claims it.
    #[inline]
    pub fn claim(&self, address: u64, length: usize) -> Option<u64> {
        self.claim_by(|config| self.bar?.offset(config, address, length))
    }

    /// The offset that `decode` finds in a BAR, if the function decodes memory now.
    #[inline]
    pub fn claim_by(&self, decode: impl FnOnce(&ConfigSpace) -> Option<u64>) -> Option<u64> {
        if !self.command().memory_space() {
            return None;
        }
        decode(&self.config).filter(|_| self.is_on())
    }

    /// The offset of an access in the `size` bytes of registers at `base`, if the virtual function
    /// claims it. Its physical function has set `base`; Memory Space Enable of a virtual function
    /// does not exist.
    #[inline]
    pub fn claim_assigned(
        &self,
        base: Option<u64>,
        size: u32,
        address: u64,
        length: usize,
    ) -> Option<u64> {
        header::offset(base?, size.into(), address, length).filter(|_| self.is_on())
    }

    /// The Command register.
    pub fn command(&self) -> Command {
        header::command(&self.config)
    }

    /// Whether the function is in D0, and ready. Otherwise it answers configuration requests at
    /// most, and sends no TLP (`PCIe 5.3.1.4.1`, `PCIe 6.6`).
    pub fn is_on(&self) -> bool {
        self.ready_at.is_none() && !self.sleeps()
    }

    /// Whether the function is in D3hot, or its physical function is. Without power management it
    /// never is.
    pub fn sleeps(&self) -> bool {
        self.physical_sleeps || self.power.is_some_and(|power| !power.is_on(&self.config))
    }

    /// The offset and the value of the write by which software puts the function into `state`;
    /// `None` without power management.
    pub fn power_control(&self, state: PowerState) -> Option<(u16, [u8; 2])> {
        Some(self.power?.control(&self.config, state))
    }

    /// Whether the function may send requests.
    pub fn is_bus_master(&self) -> bool {
        self.command().bus_master() && self.is_on()
    }

    /// Queues a message for [`Self::poll_message`].
    pub fn send(&mut self, message: UpstreamMessage) {
        self.messages.push_back(message);
    }

    /// Queues an MSI, if there is one.
    pub fn send_msi(&mut self, msi: Option<Msi>) {
        let requester = self.id;
        self.messages.extend(msi.map(|msi| UpstreamMessage::Msi { requester, msi }));
    }

    /// The next message that the function has sent.
    pub fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.messages.pop_front()
    }

    /// Resets configuration space, and drops messages that were not collected.
    pub fn reset(&mut self, reset: Reset) {
        self.config.reset(reset);
        self.messages.clear();
        self.ready_at = None;
        self.was_reset = true;
    }

    /// The function's id, once for each reset.
    pub fn poll_reset(&mut self) -> Option<Bdf> {
        std::mem::take(&mut self.was_reset).then_some(self.id)
    }
}
