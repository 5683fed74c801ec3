//! A driver that enumerates the functions below a host bridge, and uses them.

use iommu::ats::{ITag, InvalidateCompletion, InvalidateRequest, PageRange};
use iommu::ids::Bdf;

use super::Machine;
use crate::endpoint::regs;
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::ats;
use crate::pcie::spec::header::{self, Command};

/// The value of a configuration read that no function answers.
pub(crate) const ABSENT: u32 = u32::MAX;
/// Device and vendor id of the ATS test endpoint.
pub(crate) const ENDPOINT: u32 = 0x6c6b_1234;
/// The address of the first BAR.
pub(crate) const BARS: u64 = 0xc000_0000;

/// Numbers buses depth first, and assigns addresses to bridges and BARs, as firmware does.
pub(crate) struct Driver {
    pub(crate) machine: Machine,
    pub(crate) found: Vec<(Bdf, u32)>,
    next_bus: u8,
    next_address: u64,
}

impl Driver {
    /// Enumerates a machine with these devices.
    pub(crate) fn new(texts: &[&str]) -> Self {
        let devices: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let machine = Machine::described(&devices);
        let mut driver = Self { machine, found: Vec::new(), next_bus: 1, next_address: BARS };
        driver.visit(0);
        driver
    }

    /// Enumerates `bus` and the buses below it again, as after a reset. Bus numbers stay the same.
    pub(crate) fn visit_again(&mut self, bus: u8) {
        (self.next_bus, self.next_address) = (1, BARS);
        self.found.clear();
        self.visit(bus);
    }

    fn visit(&mut self, bus: u8) {
        for device in 0..32 {
            let first = Bdf::new(bus, device, 0);
            if self.machine.config_u32(first, 0) == ABSENT {
                continue;
            }
            let [kind] = self.machine.config::<1>(first, header::HEADER_TYPE);
            for function in 0..if kind & header::MULTI_FUNCTION != 0 { 8 } else { 1 } {
                self.take(Bdf::new(bus, device, function));
            }
        }
    }

    fn take(&mut self, id: Bdf) {
        let ids = self.machine.config_u32(id, 0);
        if ids == ABSENT || id == Bdf::new(0, 0, 0) {
            return;
        }
        self.found.push((id, ids));
        let [kind] = self.machine.config::<1>(id, header::HEADER_TYPE);
        if kind & !header::MULTI_FUNCTION == header::TYPE_1 {
            self.bridge(id);
        } else {
            let bar = self.next_address as u32;
            self.next_address += 0x1000;
            self.machine.function(id).set_bar0(bar);
        }
        self.machine.function(id).set_command(Command::MEMORY_AND_MASTER);
    }

    fn bridge(&mut self, id: Bdf) {
        const MIB: u64 = 1 << 20;
        let bus = self.next_bus;
        self.next_bus += 1;
        self.next_address = self.next_address.next_multiple_of(MIB);
        let base = self.next_address as u32;
        self.machine.config_write(id, header::PRIMARY_BUS, &[id.bus(), bus, 0xff]);
        self.visit(bus);
        self.next_address = (self.next_address + 1).next_multiple_of(MIB);
        let (last_bus, last) = (self.next_bus - 1, (self.next_address - 1) as u32);
        let mut bridge = self.machine.function(id);
        bridge.write(header::SUBORDINATE_BUS, last_bus);
        bridge.set_memory_window(base, last);
    }

    pub(crate) fn endpoints(&self) -> Vec<Bdf> {
        self.found.iter().filter(|found| found.1 == ENDPOINT).map(|found| found.0).collect()
    }

    pub(crate) fn bar(&mut self, function: Bdf) -> u64 {
        self.machine.config_u32(function, header::BAR0).into()
    }

    pub(crate) fn register(&mut self, bar: u64, register: u64) -> u32 {
        let mut data = [0; 4];
        self.machine.read(bar + register, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write(&mut self, address: u64, data: &[u8]) {
        let Machine { hierarchy, upstream, now, .. } = &mut self.machine;
        hierarchy.memory_write(address, data, upstream, *now);
    }

    /// Lets the function with registers at `bar` write eight bytes at address 0. Returns its
    /// RESULT.
    pub(crate) fn fill(&mut self, bar: u64, use_atc: bool) -> u32 {
        self.write(bar + regs::LENGTH, &8_u32.to_le_bytes());
        self.write(bar + regs::COMMAND, &(3 | u32::from(use_atc) << 4).to_le_bytes());
        self.register(bar, regs::RESULT)
    }

    pub(crate) fn enable_ats(&mut self, function: Bdf) {
        let mut function = self.machine.function(function);
        let at = function.extended_capability(ats::ID).unwrap();
        function.enable_ats(at);
    }

    /// The requesters of the completions of an Invalidate Request for `function`.
    pub(crate) fn invalidate(&mut self, function: Bdf) -> Vec<Bdf> {
        let request = InvalidateRequest {
            destination: function,
            itag: ITag::new(0),
            pasid: None,
            global: false,
            range: PageRange::ALL,
        };
        self.machine.hierarchy.invalidate_request(request, self.machine.now);
        self.machine.hierarchy.collect_messages(self.machine.now);
        let completed = |message| match message {
            UpstreamMessage::InvalidateCompletion(InvalidateCompletion { requester, .. }) => {
                Some(requester)
            }
            _ => None,
        };
        self.machine.messages().into_iter().filter_map(completed).collect()
    }
}
