//! Helpers of tests: a root complex with memory and page tables, and a machine with the accesses of
//! a guest's driver.

pub(crate) mod driver;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use iommu::ats::{
    AddressType, DmaRequest, ITag, InvalidateRequest, Msi, PageRange, RequestError, Translation,
    TranslationRequest,
};
use iommu::event::{Event, Recorder, Tracer};
use iommu::ids::{Bdf, Gpa, Iova};
use iommu::time::Instant;

use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::caps::express::HotPlug;
use crate::pcie::client::{MAX_CAPABILITIES, MAX_EXTENDED_CAPABILITIES};
use crate::pcie::spec::header::Command;
use crate::pcie::spec::{ats, msi};
use crate::pcie::{ConfigClient, Hierarchy, Upstream, UpstreamMessage};
use crate::topology::{DeviceSpec, Media, Topology, simple_devices};

/// Memory with page tables. Requests to pages that are not mapped fail.
#[derive(Default)]
pub(crate) struct FakeUpstream {
    pub(crate) memory: HashMap<u64, u8>,
    pub(crate) mappings: Vec<Translation>,
    pub(crate) requests: Vec<(DmaRequest, usize)>,
    pub(crate) translations: Vec<TranslationRequest>,
    /// The error of all Translation Requests, if they fail.
    pub(crate) translation_error: Option<RequestError>,
    /// The error of all reads, if they fail.
    pub(crate) read_error: Option<RequestError>,
}

impl FakeUpstream {
    /// Maps 2^`order` bytes at `iova` to `output`.
    pub(crate) fn map(&mut self, iova: u64, order: u8, output: u64, read: bool, write: bool) {
        let range = PageRange::containing(Iova(iova), order);
        self.mappings.retain(|old| !old.range.overlaps(range));
        let untranslated_only = false;
        self.mappings.push(Translation {
            range,
            output: Gpa(output),
            read,
            write,
            untranslated_only,
            privileged: false,
        });
    }

    pub(crate) fn load(&self, address: u64, length: usize) -> Vec<u8> {
        (address..).take(length).map(|at| self.memory.get(&at).copied().unwrap_or(0)).collect()
    }

    pub(crate) fn store(&mut self, address: u64, data: &[u8]) {
        self.memory.extend((address..).zip(data.iter().copied()));
    }

    fn find(&self, address: Iova) -> Option<Translation> {
        self.mappings.iter().copied().find(|mapping| mapping.range.contains(address))
    }

    fn resolve(&mut self, request: DmaRequest, length: usize) -> Option<u64> {
        assert!(request.address.0 % 4096 + length as u64 <= 4096, "crosses a page: {request:?}");
        self.requests.push((request, length));
        match request.address_type {
            AddressType::Translated => Some(request.address.0),
            AddressType::Untranslated => {
                self.find(request.address)?.translate(request.address).map(|output| output.0)
            }
        }
    }
}

impl Upstream for FakeUpstream {
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        _now: Instant,
    ) -> Result<(), RequestError> {
        let at = self.resolve(request, data.len()).ok_or(RequestError::UnsupportedRequest)?;
        if let Some(error) = self.read_error {
            return Err(error);
        }
        data.copy_from_slice(&self.load(at, data.len()));
        Ok(())
    }

    fn write(&mut self, request: DmaRequest, data: &[u8], _now: Instant) {
        if let Some(at) = self.resolve(request, data.len()) {
            self.store(at, data);
        }
    }

    fn write_observed(
        &mut self,
        request: DmaRequest,
        data: &[u8],
        _now: Instant,
    ) -> Result<(), RequestError> {
        let at = self.resolve(request, data.len()).ok_or(RequestError::UnsupportedRequest)?;
        self.store(at, data);
        Ok(())
    }

    fn peek(&self, address: Gpa, data: &mut [u8]) -> bool {
        data.copy_from_slice(&self.load(address.0, data.len()));
        true
    }

    fn translate(
        &mut self,
        request: TranslationRequest,
        _now: Instant,
    ) -> Result<Translation, RequestError> {
        self.translations.push(request);
        if let Some(error) = self.translation_error {
            return Err(error);
        }
        let nothing = Translation {
            range: PageRange::page(request.address),
            output: Gpa(0),
            read: false,
            write: false,
            untranslated_only: false,
            privileged: false,
        };
        let found = self.find(request.address).unwrap_or(nothing);
        Ok(Translation { privileged: request.privileged, ..found })
    }
}

/// A link that is down until this fault is lifted; it resets nothing below.
pub(crate) const FLAP_KEEP: FaultMode =
    FaultMode::Flap { down: Duration::from_secs(1 << 30), keep: true };

/// A hierarchy, its root complex, and the events of both.
pub(crate) struct Machine {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) upstream: FakeUpstream,
    pub(crate) now: Instant,
    recorder: Arc<Recorder>,
}

impl Machine {
    /// Two ports with an endpoint each, after reset.
    pub(crate) fn bare() -> Self {
        Self::described(&simple_devices(2, 0))
    }

    /// A machine with these devices, after reset.
    pub(crate) fn described(devices: &[DeviceSpec]) -> Self {
        let recorder = Arc::new(Recorder::default());
        let topology = Topology::new(devices).unwrap();
        Self::around(
            topology.build(&mut Media::new(), &Tracer::to(recorder.clone())).unwrap(),
            recorder,
        )
    }

    /// Two ports with an attention button, an endpoint behind each.
    pub(crate) fn with_buttons() -> Self {
        let mut devices = simple_devices(2, 0);
        for device in &mut devices {
            if let DeviceSpec::RootPort(port) = device {
                port.hotplug = HotPlug::Button;
            }
        }
        Self::described(&devices)
    }

    fn around(hierarchy: Hierarchy, recorder: Arc<Recorder>) -> Self {
        Self { hierarchy, upstream: FakeUpstream::default(), now: Instant::START, recorder }
    }

    /// As [`Self::bare`], after [`Self::enumerate`].
    pub(crate) fn enumerated() -> Self {
        Self::bare().enumerate()
    }

    /// Programs buses, windows and BARs, and enables memory space and bus mastering.
    pub(crate) fn enumerate(self) -> Self {
        let mut machine = self;
        for port in 0..2 {
            let bar = Self::bar(port) as u32;
            let mut bridge = machine.function(Self::port(port));
            bridge.set_buses(port + 1, port + 1);
            bridge.set_memory_window(bar, bar);
            bridge.set_command(Command::MEMORY_AND_MASTER);
            let mut endpoint = machine.function(Self::endpoint(port));
            endpoint.set_bar0(bar);
            endpoint.set_command(Command::MEMORY_AND_MASTER);
        }
        machine
    }

    /// As [`Self::enumerated`], with ATS and MSI enabled.
    pub(crate) fn ready() -> Self {
        Self::enumerated().enable()
    }

    /// Enables ATS and MSI.
    pub(crate) fn enable(self) -> Self {
        let mut machine = self;
        for port in 0..2 {
            machine.enable_ats(port);
            let mut endpoint = machine.function(Self::endpoint(port));
            let at = endpoint.capability(msi::ID).unwrap();
            endpoint.enable_msi(at, Msi { address: 0xfee0_1000, data: 0x41 });
        }
        machine
    }

    pub(crate) fn port(port: u8) -> Bdf {
        Bdf::new(0, port + 1, 0)
    }

    pub(crate) fn endpoint(port: u8) -> Bdf {
        Bdf::new(port + 1, 0, 0)
    }

    /// The address of the endpoint's BAR after [`Self::enumerate`].
    pub(crate) fn bar(port: u8) -> u64 {
        0xc000_0000 + u64::from(port) * 0x10_0000
    }

    pub(crate) fn config<const N: usize>(&mut self, function: Bdf, offset: u16) -> [u8; N] {
        let mut data = [0; N];
        self.hierarchy.config_read(function, offset, &mut data, self.now);
        data
    }

    pub(crate) fn config_u16(&mut self, function: Bdf, offset: u16) -> u16 {
        u16::from_le_bytes(self.config(function, offset))
    }

    pub(crate) fn config_u32(&mut self, function: Bdf, offset: u16) -> u32 {
        u32::from_le_bytes(self.config(function, offset))
    }

    pub(crate) fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8]) {
        self.hierarchy.config_write(function, offset, data, self.now);
    }

    /// The configuration space of a function, as its driver reaches it.
    pub(crate) fn function(&mut self, id: Bdf) -> ConfigClient<'_, Hierarchy> {
        ConfigClient::new(&mut self.hierarchy, id, self.now)
    }

    /// Id and offset of each capability. The list must end.
    pub(crate) fn capabilities(&mut self, id: Bdf) -> Vec<(u8, u16)> {
        let found: Vec<_> = self.function(id).capabilities().collect();
        assert!(found.len() < MAX_CAPABILITIES, "a loop: {found:x?}");
        found
    }

    /// Id and offset of each extended capability. The list must end.
    pub(crate) fn extended_capabilities(&mut self, id: Bdf) -> Vec<(u16, u16)> {
        let found: Vec<_> = self.function(id).extended_capabilities().collect();
        assert!(found.len() < MAX_EXTENDED_CAPABILITIES, "a loop: {found:x?}");
        found
    }

    pub(crate) fn ats_control(&mut self, port: u8) -> u16 {
        let capability = self.function(Self::endpoint(port)).extended_capability(ats::ID);
        capability.unwrap() + ats::CONTROL
    }

    pub(crate) fn enable_ats(&mut self, port: u8) {
        let mut endpoint = self.function(Self::endpoint(port));
        let at = endpoint.extended_capability(ats::ID).unwrap();
        endpoint.enable_ats(at);
    }

    pub(crate) fn read(&mut self, address: u64, data: &mut [u8]) {
        self.hierarchy.memory_read(address, data, &mut self.upstream, self.now);
    }

    pub(crate) fn register(&mut self, port: u8, register: u64) -> u32 {
        let mut data = [0; 4];
        self.read(Self::bar(port) + register, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write(&mut self, port: u8, register: u64, data: &[u8]) {
        let address = Self::bar(port) + register;
        self.hierarchy.memory_write(address, data, &mut self.upstream, self.now);
    }

    pub(crate) fn write_register(&mut self, port: u8, register: u64, value: u32) {
        self.write(port, register, &value.to_le_bytes());
    }

    /// Runs a command, and reads its result.
    pub(crate) fn command(&mut self, port: u8, command: u32, iova: u64, length: u32) -> u32 {
        self.write(port, regs::IOVA, &iova.to_le_bytes());
        self.write_register(port, regs::LENGTH, length);
        self.write_register(port, regs::COMMAND, command);
        self.register(port, regs::RESULT)
    }

    /// Lets a function write by its ATC, also while its link is down.
    pub(crate) fn write_as_function(&mut self, port: usize) {
        self.hierarchy.command(port, 3 | 1 << 4, &mut self.upstream, self.now);
    }

    pub(crate) fn buffer(&mut self, port: u8, length: usize) -> Vec<u8> {
        (regs::BUFFER..)
            .take(length)
            .map(|register| {
                let mut byte = [0];
                self.read(Self::bar(port) + register, &mut byte);
                byte[0]
            })
            .collect()
    }

    pub(crate) fn invalidate(&mut self, port: u8, itag: u8, range: PageRange) {
        let request = InvalidateRequest {
            destination: Self::endpoint(port),
            itag: ITag::new(itag),
            pasid: None,
            global: false,
            range,
        };
        self.hierarchy.invalidate_request(request, self.now);
        self.hierarchy.collect_messages(self.now);
    }

    pub(crate) fn drop_link(&mut self, port: usize) {
        self.inject(port, FaultMode::Silent);
    }

    pub(crate) fn inject(&mut self, port: usize, mode: FaultMode) {
        self.hierarchy.inject(port, mode.effect(), self.now);
    }

    pub(crate) fn lift(&mut self, port: usize, mode: FaultMode) {
        self.hierarchy.lift(port, mode.effect(), self.now);
    }

    pub(crate) fn messages(&mut self) -> Vec<UpstreamMessage> {
        std::iter::from_fn(|| self.hierarchy.poll_message()).collect()
    }

    /// Advances time to `until`, and runs the timers that are due meanwhile.
    pub(crate) fn run_until(&mut self, until: Instant) {
        while let Some(due) = self.hierarchy.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.hierarchy.handle_timeout(&mut self.upstream, self.now);
        }
        self.now = until;
    }

    pub(crate) fn run_for(&mut self, micros: u64) {
        self.run_until(self.now + Duration::from_micros(micros));
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.recorder.events().into_iter().map(|timed| timed.event).collect()
    }
}
