//! The ATS test endpoint: a function with an ATC and a DMA engine that a guest drives through
//! BAR 0.
//!
//! ```text
//!   configuration ---->  ConfigSpace: BAR 0, PM, MSI, PCIe (FLR), ATS, PRI, PASID
//!   memory ----------->  regs: what the guest programs
//!                          | COMMAND
//!                        engine: commands, repeating write, traffic (timers)
//!                          |
//!                        dma: pieces, translations -----------> Upstream
//!   Invalidate Request ->  atc --- Invalidate Completion ----> poll_message
//!   PRG Response ------->  page_requests --- Page Request ----> poll_message
//! ```
//!
//! The function does not know its link. While the link is down the ATC keeps its entries, and only
//! requests with a completion fail.

mod config;
mod engine;
mod outstanding;
mod page_requests;
pub mod regs;
pub mod traffic;
mod virtual_functions;

use std::time::Duration;

use iommu::ats::{InvalidateRequest, PageGroupResponse, Translation};
use iommu::event::Tracer;
use iommu::ids::{Bdf, Iova};
use iommu::time::Instant;

use crate::Error;
use crate::dma::atc::Spaces;
use crate::dma::{Bus, Dma, Rights, TranslationUnit};
use crate::pcie::caps::acs::Acs;
use crate::pcie::caps::aer::{Aer, AerKind};
use crate::pcie::caps::ats::{Ats, AtsFeatures};
use crate::pcie::caps::express::{Express, PortType};
use crate::pcie::caps::msi::Msi;
use crate::pcie::caps::pasid::Pasid;
use crate::pcie::caps::power::PowerManagement;
use crate::pcie::caps::pri::Pri;
use crate::pcie::caps::{ari, dsn, secondary};
use crate::pcie::header::{Bar, ConfigBuilder, HeaderType, Identity};
use crate::pcie::reset::Reset;
use crate::pcie::spec::aer::Uncorrectable;
use crate::pcie::spec::pasid::PasidControl;
use crate::pcie::{Function, FunctionCore, Upstream, UpstreamMessage};
use engine::Engine;
use page_requests::PageRequester;
use regs::{Command, Counters, Opcode, Registers, Status};

pub use crate::pcie::caps::sriov::VirtualFunctions;
pub use config::EndpointConfig;

/// Vendor ID of the endpoint.
pub const VENDOR_ID: u16 = 0x1234;
/// Device ID of the endpoint.
pub const DEVICE_ID: u16 = 0x6c6b;
/// Device ID of its virtual functions.
pub const VF_DEVICE_ID: u16 = 0x6c6c;

/// The class code is that of devices that fit no defined class.
const IDENTITY: Identity =
    Identity { vendor: VENDOR_ID, device: DEVICE_ID, class: 0xff_00_00, revision: 1 };

/// The addresses of the registers.
#[derive(Debug, Clone, Copy)]
enum Window {
    /// BAR 0 of a physical function, and BAR 2, prefetchable, with the data buffer once more.
    Bars(Bar, Bar),
    /// All registers of a virtual function. Its physical function sets the address.
    Assigned(Option<u64>),
}

/// One function of the endpoint.
#[derive(Debug)]
pub struct AtsEndpoint {
    core: FunctionCore,
    window: Window,
    msi: Msi,
    ats: Option<Ats>,
    pri: Option<Pri>,
    pasid: Option<Pasid>,
    /// PASID Control of the physical function, which also applies to its virtual functions.
    physical_pasid: PasidControl,
    ats_features: AtsFeatures,
    /// Smallest Translation Unit of the physical function, which also applies to its virtual
    /// functions.
    physical_unit: u8,
    express: Express,
    /// Completion Timeout of the physical function, which also applies to its virtual functions.
    physical_timeout: Option<Duration>,
    registers: Registers,
    engine: Engine,
    requester: PageRequester,
    invalidations: u32,
    tracer: Tracer,
}

impl AtsEndpoint {
    /// A function after reset.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn new(config: EndpointConfig, tracer: Tracer) -> Result<Self, Error> {
        Self::new_physical(ConfigBuilder::new(IDENTITY, HeaderType::Endpoint), config, tracer)
    }

    /// A physical function. `builder` may have further capabilities.
    fn new_physical(
        mut builder: ConfigBuilder,
        config: EndpointConfig,
        tracer: Tracer,
    ) -> Result<Self, Error> {
        let data = builder.memory_bar_64(2, regs::SIZE, true);
        let bar = builder.memory_bar(0, regs::SIZE);
        Self::with_capabilities(builder, Window::Bars(bar, data), config, tracer)
    }

    /// A virtual function of a physical one with this configuration. Only the physical function has
    /// the serial number, PASID and PRI capabilities.
    fn new_virtual(config: EndpointConfig, tracer: Tracer) -> Result<Self, Error> {
        let builder = ConfigBuilder::new_virtual(IDENTITY);
        let config = EndpointConfig { pri: false, pasid: false, traffic: None, ..config };
        Self::with_capabilities(builder, Window::Assigned(None), config, tracer)
    }

    fn with_capabilities(
        mut builder: ConfigBuilder,
        window: Window,
        config: EndpointConfig,
        tracer: Tracer,
    ) -> Result<Self, Error> {
        let is_virtual = matches!(window, Window::Assigned(_));
        let power = PowerManagement::add(&mut builder)?;
        let msi = Msi::add(&mut builder)?;
        let express = Express::add(&mut builder, PortType::Endpoint)?;
        let ats = config
            .ats
            .then(|| Ats::add(&mut builder, config.ats_features, is_virtual))
            .transpose()?;
        let pri = config.pri.then(|| Pri::add(&mut builder)).transpose()?;
        let pasid = config.pasid.then(|| Pasid::add(&mut builder)).transpose()?;
        let aer = match is_virtual {
            true => None,
            false => Some(Aer::add(&mut builder, AerKind::Endpoint)?),
        };
        if !is_virtual {
            dsn::add(&mut builder, config.serial)?;
        }
        if config.is_function_0 && !is_virtual {
            secondary::add(&mut builder, false)?;
        }
        if config.is_multi_function {
            Acs::add_to_function(&mut builder)?;
        }
        if let Some(next) = config.next_function {
            ari::add(&mut builder, if is_virtual { 0 } else { next })?;
        }
        if config.immediate_readiness {
            builder.is_ready_at_once();
            power.is_ready_at_once(&mut builder);
        }
        let mut core = FunctionCore::new(builder, None).with_power(power).with_flr(express);
        if let Some(aer) = aer {
            core = core.with_errors(aer, express);
        }
        Ok(Self {
            core,
            window,
            msi,
            ats,
            pri,
            pasid,
            physical_pasid: PasidControl::new(),
            ats_features: config.ats_features,
            physical_unit: 0,
            express,
            physical_timeout: None,
            registers: Registers::default(),
            engine: Engine::new(config.atc, config.traffic),
            requester: PageRequester::default(),
            invalidations: 0,
            tracer,
        })
    }

    fn request_page(&mut self, command: Command) -> Status {
        let rights = self.rights();
        let Self { requester, registers, core, .. } = self;
        let Some(pri) = self.pri else { return Status::PageRequestsOff };
        match requester.request(command, registers, &rights, pri, &mut core.config) {
            Ok(request) => {
                self.core.send(UpstreamMessage::PageRequest(request));
                Status::Ok
            }
            Err(status) => status,
        }
    }

    fn interrupt(&mut self) {
        if self.core.is_bus_master() {
            let msi = self.msi.raise(&mut self.core.config);
            self.core.send_msi(msi);
        }
    }

    /// The time after which the function gives a request up; `None` if that is disabled.
    fn completion_timeout(&self) -> Option<Duration> {
        match self.window {
            Window::Bars(..) => self.express.completion_timeout(&self.core.config),
            Window::Assigned(_) => self.physical_timeout,
        }
    }

    /// Ends the requests whose Completion Timeout has passed, and logs them.
    fn end_requests(&mut self, now: Instant) {
        let ended = self.engine.time_out(now);
        if ended.last_command {
            self.registers.result = Status::CompletionTimeout;
        }
        (0..ended.requests).for_each(|_| self.core.detect(Uncorrectable::CompletionTimeout));
        (0..ended.interrupts).for_each(|_| self.interrupt());
    }

    /// Device Status shows whether requests wait for completions.
    fn show_pending(&mut self) {
        let waits = !self.engine.outstanding.is_empty();
        self.express.set_pending(&mut self.core.config, waits);
    }

    /// The offset of an access in the registers, if the function claims it.
    fn claim(&self, address: u64, length: usize) -> Option<u64> {
        match self.window {
            Window::Bars(bar, data) => self.core.claim_by(|config| {
                let in_data = || data.offset(config, address, length);
                let offset = bar.offset(config, address, length);
                offset.or_else(|| in_data().map(|at| regs::BUFFER + at))
            }),
            Window::Assigned(base) => self.core.claim_assigned(base, regs::SIZE, address, length),
        }
    }

    /// Smallest Translation Unit.
    fn translation_unit(&self) -> u8 {
        match self.window {
            Window::Bars(..) => {
                self.ats.map_or(0, |ats| ats.smallest_translation_unit(&self.core.config))
            }
            Window::Assigned(_) => self.physical_unit,
        }
    }

    fn rights(&self) -> Rights {
        Rights {
            requester: self.core.id,
            bus_master: self.core.is_bus_master(),
            ats: self.ats.is_some_and(|ats| ats.is_enabled(&self.core.config)),
            unit: TranslationUnit {
                order: self.translation_unit(),
                unaligned: !self.ats_features.page_aligned,
            },
            pasid: self.pasid.map_or(self.physical_pasid, |pasid| pasid.control(&self.core.config)),
            tags: self.engine.outstanding.free_tags(),
        }
    }

    fn counters(&self) -> Counters {
        let dma = &self.engine.dma;
        let atc = dma.atc.geometry();
        Counters {
            busy: self.engine.is_busy(),
            waits: !self.engine.outstanding.is_empty(),
            done: dma.done,
            failed: dma.failed,
            atc_entries: dma.atc.len(),
            atc_size: u32::from(atc.ways()) << 16 | u32::from(atc.entries()),
            invalidations: self.invalidations,
            translated: dma.translated,
            response: self.requester.last_response(),
            responses: self.requester.answered(),
            outstanding: self.requester.outstanding(),
        }
    }
}

/// The end of the traffic generators' registers.
const TRAFFIC_END: u64 = regs::TRAFFIC + traffic::GENERATORS as u64 * traffic::STEP;

impl Function for AtsEndpoint {
    fn core(&self) -> &FunctionCore {
        &self.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.core
    }

    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8], now: Instant) {
        if self.core.config_write(id, offset, data) {
            self.reset(Reset::Function, now);
        }
        if let Some(pri) = self.pri {
            self.requester.config_written(pri, &mut self.core.config);
        }
        if !self.rights().ats {
            self.engine.dma.disable_ats(self.core.id, &self.tracer, now);
        }
        let timeout = self.completion_timeout();
        self.engine.outstanding.set_timeout(timeout, now);
        if self.core.is_bus_master() {
            let unmasked = self.msi.take_pending(&mut self.core.config);
            self.core.send_msi(unmasked);
        }
    }

    fn claims(&self, address: u64, length: usize) -> bool {
        self.claim(address, length).is_some()
    }

    fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        _upstream: &mut dyn Upstream,
        _now: Instant,
    ) {
        match self.claim(address, data.len()) {
            Some(offset @ regs::TRAFFIC..TRAFFIC_END) => {
                self.engine.read_generators(offset - regs::TRAFFIC, data);
            }
            Some(offset) => self.registers.read(offset, data, self.counters()),
            None => {}
        }
    }

    fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        let Some(offset) = self.claim(address, data.len()) else {
            return;
        };
        if let regs::TRAFFIC..TRAFFIC_END = offset {
            let Self { engine, registers, .. } = self;
            return engine.write_generators(offset - regs::TRAFFIC, data, registers, now);
        }
        let Some(command) = self.registers.write(offset, data) else {
            return;
        };
        self.engine.outstanding.start_command();
        self.registers.result = match Opcode::decode(command.opcode()) {
            Some(Opcode::PageRequest | Opcode::StopMarker) => self.request_page(command),
            _ => {
                let timeout = self.completion_timeout();
                let mut bus = Bus { rights: self.rights(), upstream, tracer: &self.tracer, now };
                self.engine.run(command, &mut self.registers, &mut bus, timeout)
            }
        };
        if self.registers.result == Status::Pending {
            self.show_pending();
            return;
        }
        let asks = Opcode::decode(command.opcode()) == Some(Opcode::Interrupt)
            && self.registers.result == Status::Ok;
        if asks || command.interrupt() {
            self.interrupt();
        }
    }

    /// A function without ATS ignores the request.
    fn invalidate_request(&mut self, request: InvalidateRequest) -> bool {
        let takes_it = request.destination == self.core.id && self.ats.is_some();
        if takes_it {
            self.invalidations = self.invalidations.wrapping_add(1);
            self.core.send(Dma::completion(&request));
        }
        takes_it
    }

    fn obey(
        &mut self,
        request: InvalidateRequest,
        dropped: Option<InvalidateRequest>,
        now: Instant,
    ) {
        if request.destination == self.core.id && self.ats.is_some() {
            let (unit, dma) = (self.rights().unit, &mut self.engine.dma);
            dma.obey(&request, dropped.as_ref(), unit, &self.tracer, now);
        }
    }

    fn invalidate_queue_depth(&self) -> u8 {
        self.ats_features.queue_depth
    }

    fn caches(&self, request: &InvalidateRequest) -> bool {
        self.engine.dma.atc.holds(Spaces::of(request), request.range)
    }

    fn cached(&self, pasid: Option<iommu::ids::Pasid>, address: Iova) -> Option<Translation> {
        self.engine.dma.atc.lookup(pasid, address)
    }

    fn page_group_response(&mut self, response: PageGroupResponse) {
        if let Some(pri) = self.pri.filter(|_| response.destination == self.core.id) {
            self.requester.respond(response, pri, &mut self.core.config);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let traffic = self.engine.poll_timeout().filter(|_| self.core.is_bus_master());
        Instant::earliest([traffic, self.engine.outstanding.poll_timeout()])
    }

    fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        let waited = !self.engine.outstanding.is_empty();
        if waited {
            self.end_requests(now);
        }
        if self.core.is_bus_master() {
            let timeout = self.completion_timeout();
            let mut bus = Bus { rights: self.rights(), upstream, tracer: &self.tracer, now };
            self.engine.handle_timeout(&mut bus, timeout);
        }
        if waited || !self.engine.outstanding.is_empty() {
            self.show_pending();
        }
    }

    fn reset(&mut self, reset: Reset, now: Instant) {
        self.engine.dma.disable_ats(self.core.id, &self.tracer, now);
        self.core.reset(reset);
        self.registers = Registers::default();
        self.engine.reset();
        self.requester = PageRequester::default();
        self.invalidations = 0;
    }
}

#[cfg(test)]
mod ats_tests;

#[cfg(test)]
mod completion_timeout_tests;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod page_request_tests;
