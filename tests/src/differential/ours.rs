//! Our machine, in this process.

use devices::chipset::Output;
use devices::root_complex::RootComplexConfig;
use devices::topology::Topology;
use iommu::event::{Tracer, UnitRole};
use iommu::unit::{AddressWidths, UnitConfig};
use vmm::MemorySize;
use vmm::qtest::{Machine, MachineConfig};

use crate::Release;

use super::script::{Observed, RECORD, Script, Step, pattern};
use super::{Mode, place, reasons};

/// Our machine with a unit that can do what QEMU's can.
#[derive(Debug)]
pub struct Ours {
    /// The machine.
    pub machine: Machine,
    mode: Mode,
    release: Release,
}

/// QEMU's unit, as ours is told to be it. The one place that knows the settings.
pub fn unit(mode: Mode) -> UnitConfig {
    let second_stage = mode == Mode::Scalable;
    let first_stage = mode == Mode::FirstStage;
    UnitConfig {
        host_address_width: 48,
        address_widths: AddressWidths::try_from(vec![39, 48]).unwrap_or(AddressWidths::ALL),
        fault_records: 1,
        interrupt_remapping: mode == Mode::Remapping,
        scalable_mode: mode.is_scalable(),
        // QEMU has one stage only with `fsts=on`, but looks at the second stage's width even so.
        second_stage: mode.is_scalable(),
        supervisor_requests: second_stage,
        snoop_control: second_stage,
        first_stage,
        first_stage_1g: first_stage,
        ..UnitConfig::new(UnitRole::Guest)
    }
}

/// The devices that scripts use, where QEMU has them.
fn topology() -> Topology {
    let edus = (0..place::EDUS).map(|index| format!("edu,addr={:x}", place::EDU_DEVICE + index));
    let writers = place::WRITERS.map(|device| format!("iommu-testdev,addr={device:x}"));
    let texts = edus.chain(writers);
    let devices: Vec<_> = texts.map(|text| text.parse().expect("a device")).collect();
    Topology::new(&devices).expect("there are as many places")
}

impl Ours {
    /// A machine after power-on.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn new(mode: Mode, release: Release) -> Self {
        let policy = "linux".parse().expect("a preset's name");
        let root_complex = RootComplexConfig {
            guest_unit: unit(mode),
            // QEMU's has no requester id: the source of its interrupts is not validated.
            io_apic: None,
            topology: topology(),
            ..RootComplexConfig::forwarded(policy, UnitConfig::new(UnitRole::Host))
        };
        let memory = MemorySize::default();
        let config = MachineConfig { memory, root_complex, tracer: Tracer::none() };
        Self { machine: Machine::new(config).expect("a machine"), mode, release }
    }

    /// Runs a script; what each step has shown.
    pub fn run(&mut self, script: &Script) -> Vec<Observed> {
        script.steps().map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: &Step) -> Observed {
        match step {
            Step::WriteLong(at, value) => self.machine.memory_write(*at, &value.to_le_bytes()),
            Step::WriteQuad(at, value) => self.machine.memory_write(*at, &value.to_le_bytes()),
            Step::ReadLong(at, mask) => {
                return Observed::Value(u64::from(self.read(*at) & mask));
            }
            Step::Record => {
                let words = RECORD.map(|offset| self.read(place::UNIT + offset));
                let words = reasons::as_qemu_numbers(words, self.mode, self.release);
                return Observed::record(words);
            }
            Step::ReadQuad(at, mask) => {
                let mut data = [0; 8];
                self.machine.memory_read(*at, &mut data);
                return Observed::Value(u64::from_le_bytes(data) & mask);
            }
            Step::Peek(at, length) => {
                let mut data = vec![0; *length];
                self.machine.memory_read(*at, &mut data);
                return Observed::Bytes(data);
            }
            Step::Fill(at, length, value) => {
                self.machine.memory_write(*at, &vec![*value; *length]);
            }
            Step::Pattern(at, length) => {
                let bytes: Vec<u8> = pattern(*length).collect();
                self.machine.memory_write(*at, &bytes);
            }
            Step::Config(device, register, value) => {
                let latch = 0x8000_0000 | u32::from(*device) << 11 | u32::from(*register);
                self.port_write(0xcf8, latch);
                self.port_write(0xcfc, *value);
            }
            Step::Dma { .. } => {
                for (at, value) in step.dma_writes() {
                    self.machine.memory_write(at, &value.to_le_bytes());
                }
            }
            Step::Settle => return self.settle(),
            Step::Write { writer, .. } => {
                for (at, value) in step.writer_writes() {
                    self.machine.memory_write(at, &value.to_le_bytes());
                }
                let bar = place::writer_bar(*writer);
                self.read(bar);
                return Observed::Value(self.read(bar + 0x10).into());
            }
        }
        Observed::Nothing
    }

    fn read(&mut self, at: u64) -> u32 {
        let mut data = [0; 4];
        self.machine.memory_read(at, &mut data);
        u32::from_le_bytes(data)
    }

    fn port_write(&mut self, port: u16, value: u32) {
        self.machine.port_write(port, &value.to_le_bytes()).expect("no reset");
    }

    fn settle(&mut self) -> Observed {
        let until = self.machine.now() + devices::edu::DMA_DELAY;
        self.machine.advance(until).expect("a few timers");
        let outputs = std::iter::from_fn(|| self.machine.poll_output());
        let messages = outputs.filter_map(|output| match output {
            Output::Interrupt(msi) => Some((msi.address, msi.data)),
            _ => None,
        });
        Observed::Messages(messages.collect())
    }
}
