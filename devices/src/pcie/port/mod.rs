//! A port: a bridge from the bus that it is on to the bus below (`PCIe 1.3`, `PCIe 7.5.1.3`). Root
//! ports are on bus 0; a switch is an upstream port with downstream ports on its own bus.
//!
//! A port owns the buses and the memory that the guest has programmed into it. The status of its
//! link and slot, and its interrupts, are in `events`.

mod events;

use std::ops::RangeInclusive;

use iommu::ats::{AddressType, RequestError};
use iommu::ids::Bdf;

use super::FunctionCore;
use super::caps::acs::Acs;
use super::caps::aer::{Aer, AerKind};
use super::caps::dpc::Dpc;
use super::caps::express::{Express, PortType};
use super::caps::msi::Msi;
use super::caps::power::PowerManagement;
use super::caps::secondary;
use super::config::{ConfigSpace, Register};
use super::header::{ConfigBuilder, HeaderType, Identity, Ids};
use super::reset::Reset;
use super::spec::header::*;
use crate::Error;
pub use events::ErrorOutcome;

/// A root port of Intel's 5520 I/O hub: drivers have no quirks for it.
const IDENTITY: Identity =
    Identity { vendor: 0x8086, device: 0x3420, class: 0x06_04_00, revision: 2 };

/// The ports of a Texas Instruments XIO3130 switch.
const UPSTREAM_IDENTITY: Identity =
    Identity { vendor: 0x104c, device: 0x8232, class: 0x06_04_00, revision: 2 };
const DOWNSTREAM_IDENTITY: Identity =
    Identity { vendor: 0x104c, device: 0x8233, class: 0x06_04_00, revision: 1 };

/// A port.
#[derive(Debug)]
pub struct Port {
    core: FunctionCore,
    express: Express,
    msi: Msi,
    /// An upstream port has none: the downstream ports have checked its requests (`PCIe 6.12.1`).
    acs: Option<Acs>,
    aer: Aer,
    /// Ports with a link have it.
    dpc: Option<Dpc>,
    /// A root port receives the error messages of all ports below it.
    is_root: bool,
    asserted: events::Asserted,
}

impl Port {
    /// A port whose id is `id` until the guest's first configuration write.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn new(id: Bdf, port_type: PortType) -> Result<Self, Error> {
        let identity = match port_type {
            PortType::UpstreamPort => UPSTREAM_IDENTITY,
            PortType::DownstreamPort(_) => DOWNSTREAM_IDENTITY,
            _ => IDENTITY,
        };
        let mut builder = ConfigBuilder::new(identity, HeaderType::Bridge);
        declare_bridge(&mut builder);
        let power = PowerManagement::add(&mut builder)?;
        let msi = Msi::add(&mut builder)?;
        let express = Express::add(&mut builder, port_type)?;
        let is_root = matches!(port_type, PortType::RootPort(_));
        let kind = if is_root { AerKind::RootPort } else { AerKind::SwitchPort };
        let aer = Aer::add(&mut builder, kind)?;
        let has_link = port_type != PortType::UpstreamPort;
        let acs = if has_link { Some(Acs::add(&mut builder)?) } else { None };
        let dpc = if has_link { Some(Dpc::add(&mut builder)?) } else { None };
        secondary::add(&mut builder, has_link)?;
        let mut core = FunctionCore::new(builder, None).with_power(power);
        core.id = id;
        Ok(Self { core, express, msi, acs, aer, dpc, is_root, asserted: Default::default() })
    }

    /// Replaces its ids.
    pub fn set_ids(&mut self, ids: Ids) {
        ids.replace(&mut self.core.config, HeaderType::Bridge);
    }

    /// The port's own id.
    pub fn id(&self) -> Bdf {
        self.core.id
    }

    /// Its configuration space, which answers also while its link is down.
    pub fn config(&self) -> &ConfigSpace {
        &self.core.config
    }

    /// Software writes to configuration space, at the address `id`.
    pub fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8]) {
        self.core.config_write(id, offset, data);
        self.written();
    }

    /// Resets the port: it is below a link that was down, or on a bus that was reset.
    pub fn reset(&mut self, reset: Reset) {
        self.core.reset(reset);
        self.asserted = Default::default();
    }

    /// Whether the port is in D0. In D3hot it takes memory requests and configuration requests for
    /// buses below as Unsupported Requests; it forwards messages (`PCIe 5.3.1`).
    pub fn is_on(&self) -> bool {
        self.core.is_on()
    }

    /// Secondary Bus Number; 0 until the guest has programmed it.
    pub fn secondary_bus(&self) -> u8 {
        self.core.config.get(SECONDARY_BUS)
    }

    /// Whether requests and messages to `bus` go down its link. Bus 0 never does, whatever the
    /// guest has programmed.
    pub fn owns_bus(&self, bus: u8) -> bool {
        bus != 0 && self.secondary_bus() != 0 && self.buses().contains(&bus)
    }

    /// The buses below, from Secondary to Subordinate Bus Number.
    pub fn buses(&self) -> RangeInclusive<u8> {
        self.secondary_bus()..=self.core.config.get(SUBORDINATE_BUS)
    }

    /// Whether ARI Forwarding is enabled: requests for device numbers other than 0 also go down its
    /// link.
    pub fn forwards_ari(&self) -> bool {
        self.express.forwards_ari(&self.core.config)
    }

    /// Whether a root port has RRS Software Visibility enabled (`PCIe 2.3.2`).
    pub fn shows_rrs(&self) -> bool {
        self.is_root && self.express.shows_rrs(&self.core.config)
    }

    /// Whether all `length` bytes at `address` go down its link.
    pub fn owns_memory(&self, address: u64, length: usize) -> bool {
        let Some(last) = u64::try_from(length)
            .ok()
            .and_then(|length| address.checked_add(length.saturating_sub(1)))
        else {
            return false;
        };
        self.core.command().memory_space()
            && self.core.is_on()
            && self
                .windows()
                .iter()
                .any(|window| window.contains(&address) && window.contains(&last))
    }

    /// Whether the port forwards a memory request of `requester` from below. A Translation Request
    /// counts as translated.
    ///
    /// # Errors
    /// The completion status for a request with a completion: Unsupported Request if Bus Master
    /// Enable is clear (`PCIe 7.5.1.1.3`), Completer Abort after an ACS violation (`PCIe 6.12.4`).
    pub fn admits(&self, requester: Bdf, address_type: AddressType) -> Result<(), RequestError> {
        if !self.core.is_bus_master() {
            return Err(RequestError::UnsupportedRequest);
        }
        let acs = self.acs.map(|acs| acs.control(&self.core.config)).unwrap_or_default();
        let is_spoofed = acs.source_validation() && !self.owns_bus(requester.bus());
        let is_blocked = acs.translation_blocking() && address_type == AddressType::Translated;
        if is_spoofed || is_blocked {
            return Err(RequestError::CompleterAbort);
        }
        Ok(())
    }

    /// The non-prefetchable and the prefetchable window; a window whose base lies above its limit
    /// is empty.
    fn windows(&self) -> [RangeInclusive<u64>; 2] {
        let address =
            |register| u64::from(self.core.config.get::<u16>(register) & WINDOW_ADDRESS) << 16;
        let upper = |register| u64::from(self.core.config.get::<u32>(register)) << 32;
        let end_of_mib = 0xf_ffff;
        [
            address(MEMORY_BASE)..=address(MEMORY_LIMIT) | end_of_mib,
            upper(PREFETCHABLE_BASE_UPPER) | address(PREFETCHABLE_BASE)
                ..=upper(PREFETCHABLE_LIMIT_UPPER) | address(PREFETCHABLE_LIMIT) | end_of_mib,
        ]
    }
}

/// Declares the registers that only a type 1 header has, without I/O window and BARs.
fn declare_bridge(builder: &mut ConfigBuilder) {
    for bus in [PRIMARY_BUS, SECONDARY_BUS, SUBORDINATE_BUS] {
        builder.declare(bus, Register::new(0_u8).writable(u8::MAX));
    }
    builder.declare(SECONDARY_STATUS, Register::new(Status::new()).clearable(Status::ERRORS));
    for window in [MEMORY_BASE, MEMORY_LIMIT] {
        builder.declare(window, Register::new(0_u16).writable(WINDOW_ADDRESS));
    }
    for window in [PREFETCHABLE_BASE, PREFETCHABLE_LIMIT] {
        builder.declare(window, Register::new(WINDOW_64_BIT).writable(WINDOW_ADDRESS));
    }
    for upper in [PREFETCHABLE_BASE_UPPER, PREFETCHABLE_LIMIT_UPPER] {
        builder.declare(upper, Register::new(0_u32).writable(u32::MAX));
    }
    let control = BridgeControl::new()
        .with_parity_error_response(true)
        .with_serr_enable(true)
        .with_secondary_bus_reset(true);
    builder.declare(BRIDGE_CONTROL, Register::new(BridgeControl::new()).writable(control));
}
