//! Advanced Error Reporting (`PCIe 6.2`, `PCIe 7.8.4`): the errors that a function logs, and the
//! error messages that a root port receives from below.

use iommu::ids::Bdf;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::aer::*;

/// The uncorrectable errors that the registers have: bits 4, 5, 12 to 22.
const UNCORRECTABLE: u32 = 0x007f_f030;
/// Those of an endpoint: neither Surprise Down nor ACS Violation, which ports detect.
const UNCORRECTABLE_OF_ENDPOINT: u32 = UNCORRECTABLE & !(1 << 5 | 1 << 21);
/// The uncorrectable errors that are fatal after reset: 4, 5, 13, 17, 18, 22.
const FATAL: u32 = 0x0046_2030;
/// Uncorrectable Internal Error is masked after reset.
const MASKED: u32 = 1 << 22;
/// The correctable errors that the registers have: bits 0, 6 to 8, 12 to 15.
const CORRECTABLE: u32 = 0xf1c1;
/// Advisory Non-Fatal, Corrected Internal, and Header Log Overflow are masked after reset.
const CORRECTABLE_MASKED: u32 = 0xe000;

/// The kind of a function with AER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AerKind {
    /// A root port, which also has the registers for error messages from below.
    RootPort,
    /// A port of a switch.
    SwitchPort,
    /// An endpoint.
    Endpoint,
}

/// The AER capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Aer {
    at: u16,
}

impl Aer {
    /// Declares the capability.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder, kind: AerKind) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let errors = match kind {
            AerKind::RootPort | AerKind::SwitchPort => UNCORRECTABLE,
            AerKind::Endpoint => UNCORRECTABLE_OF_ENDPOINT,
        };
        let status = |bits| Register::new(0_u32).clearable(bits).sticky(bits);
        let control = |reset, bits| Register::new(reset).writable(bits).sticky(bits);
        builder.declare(at + UNCORRECTABLE_STATUS, status(errors));
        builder.declare(at + UNCORRECTABLE_MASK, control(MASKED, errors));
        builder.declare(at + UNCORRECTABLE_SEVERITY, control(FATAL & errors, errors));
        builder.declare(at + CORRECTABLE_STATUS, status(CORRECTABLE));
        builder.declare(at + CORRECTABLE_MASK, control(CORRECTABLE_MASKED, CORRECTABLE));
        let first = Control::new().with_first_error(0x1f);
        builder.declare(at + CONTROL, Register::new(Control::new()).sticky(first));
        if kind == AerKind::RootPort {
            let command =
                RootCommand::new().with_correctable(true).with_non_fatal(true).with_fatal(true);
            let events = RootStatus::from_bits(0x7f);
            let root_status = Register::new(RootStatus::new()).clearable(events).sticky(events);
            builder.declare(at + ROOT_COMMAND, Register::new(RootCommand::new()).writable(command));
            builder.declare(at + ROOT_STATUS, root_status);
            let ids = Source::from_bits(u32::MAX);
            builder.declare(at + SOURCE, Register::new(Source::new()).sticky(ids));
        }
        Ok(Self { at })
    }

    /// Logs `error`, which the function has detected. Returns whether it is fatal, `None` if it is
    /// not reported because software has masked it.
    pub fn log(self, config: &mut ConfigSpace, error: Uncorrectable) -> Option<bool> {
        let status = config.get::<u32>(self.at + UNCORRECTABLE_STATUS);
        let reported = self.reports(config, error);
        if status == 0 && reported.is_some() {
            config.set(self.at + CONTROL, Control::new().with_first_error(error as u8));
        }
        config.set(self.at + UNCORRECTABLE_STATUS, status | 1 << error as u32);
        reported
    }

    /// Whether software has made `error` fatal.
    pub fn severity(self, config: &ConfigSpace, error: Uncorrectable) -> bool {
        config.get::<u32>(self.at + UNCORRECTABLE_SEVERITY) & 1 << error as u32 != 0
    }

    /// Whether `error` would be fatal, `None` if it would not be reported because software has
    /// masked it.
    pub fn reports(self, config: &ConfigSpace, error: Uncorrectable) -> Option<bool> {
        let is_set = |at| config.get::<u32>(self.at + at) & 1 << error as u32 != 0;
        (!is_set(UNCORRECTABLE_MASK)).then(|| is_set(UNCORRECTABLE_SEVERITY))
    }

    /// A root port receives an error message of `source`, for an uncorrectable error.
    pub fn receive(self, config: &mut ConfigSpace, source: Bdf, fatal: bool) {
        let status = config.get::<RootStatus>(self.at + ROOT_STATUS);
        if !status.uncorrectable() {
            let ids = config.get::<Source>(self.at + SOURCE).with_uncorrectable(source.into_bits());
            config.set(self.at + SOURCE, ids);
        }
        let status = status
            .with_multiple_uncorrectable(status.uncorrectable())
            .with_first_is_fatal(if status.uncorrectable() {
                status.first_is_fatal()
            } else {
                fatal
            })
            .with_uncorrectable(true)
            .with_fatal(status.fatal() | fatal)
            .with_non_fatal(status.non_fatal() | !fatal);
        config.set(self.at + ROOT_STATUS, status);
    }

    /// Whether the root port's error interrupt is asserted: a message was received, and interrupts
    /// for its severity are enabled (`PCIe 6.2.4.1.2`).
    pub fn interrupt(self, config: &ConfigSpace) -> bool {
        let command = config.get::<RootCommand>(self.at + ROOT_COMMAND);
        let status = config.get::<RootStatus>(self.at + ROOT_STATUS);
        command.correctable() & status.correctable()
            | command.non_fatal() & status.non_fatal()
            | command.fatal() & status.fatal()
    }
}
