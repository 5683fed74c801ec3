//! The table of `docs/failure-modes.md`, cell by cell, and recovery.

use std::time::Duration;

use iommu::ats::PageRange;
use iommu::event::Event;
use iommu::ids::Iova;

use super::*;
use crate::endpoint::regs;
use crate::fault::AnswerDelay;
use crate::fault::FaultMode;
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::{aer, dpc, express, header, msi};
use crate::testkit::Machine;

const FILL: u32 = 3;
const TRANSLATE: u32 = 6;
const USE_ATC: u32 = 1 << 4;
const SECOND: Duration = Duration::from_secs(1);

/// The state of a port and the function below it, as software sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observed {
    /// Configuration and memory reads of the function give its values, not all ones.
    config: bool,
    memory: bool,
    /// Link Status: active, with a speed and a width.
    active: bool,
    /// Slot Status: presence, and the events ABP, PDC, DLLSC.
    present: bool,
    events: [bool; 3],
    /// Interrupts of the port.
    interrupts: usize,
    /// DMA of the function reaches memory.
    dma: bool,
    /// Invalidate Completions within a second.
    completions: usize,
    /// The host's hot-plug driver has marked the function as disconnected.
    disconnected: bool,
}

const HEALTHY: Observed = Observed {
    config: true,
    memory: true,
    active: true,
    present: true,
    events: [false; 3],
    interrupts: 0,
    dma: true,
    completions: 1,
    disconnected: false,
};

/// The link is down, and the port has latched nothing.
const GONE: Observed =
    Observed { config: false, memory: false, dma: false, completions: 0, ..HEALTHY };

/// The link is down, and the port has latched and reported that.
const REPORTED: Observed = Observed {
    active: false,
    events: [false, false, true],
    interrupts: 1,
    disconnected: true,
    ..GONE
};

/// A port with all interrupts enabled, above a function with a page in its ATC.
struct Rig {
    machine: Machine,
    express: u16,
    dpc: u16,
    aer: u16,
    /// What the hot-plug driver has found after the port's last interrupt.
    disconnected: bool,
}

impl Rig {
    fn new() -> Self {
        Self::on(Machine::ready())
    }

    fn on(mut machine: Machine) -> Self {
        let port = Machine::port(0);
        let msi = machine.function(port).capability(msi::ID).unwrap();
        machine.config_write(port, msi + msi::ADDRESS, &0xfee0_2000_u32.to_le_bytes());
        machine.config_write(port, msi + msi::CONTROL, &[1]);
        let express = machine.function(port).capability(express::ID).unwrap();
        machine.config_write(port, express + express::SLOT_CONTROL, &0x102b_u16.to_le_bytes());
        machine.config_write(port, express + express::DEVICE_CONTROL, &0x000f_u16.to_le_bytes());
        let aer = machine.function(port).extended_capability(aer::ID).unwrap();
        let dpc = machine.function(port).extended_capability(dpc::ID).unwrap();
        machine.config_write(port, aer + aer::ROOT_COMMAND, &[7]);
        machine.upstream.map(0, 12, 0x8000, true, true);
        assert_eq!(machine.command(0, TRANSLATE, 0, 0), 0);
        Self { machine, express, dpc, aer, disconnected: false }
    }

    /// As [`Self::new`], with containment of fatal errors and its interrupt enabled.
    fn containing() -> Self {
        let mut rig = Self::new();
        rig.machine.config_write(Machine::port(0), rig.dpc + dpc::CONTROL, &[0b1001]);
        rig
    }

    /// Uncorrectable Error Status.
    fn errors(&mut self) -> u32 {
        self.machine.config_u32(Machine::port(0), self.aer + aer::UNCORRECTABLE_STATUS)
    }

    fn port_u16(&mut self, at: u16) -> u16 {
        self.machine.config_u16(Machine::port(0), at)
    }

    fn write_port(&mut self, at: u16, value: u16) {
        self.machine.config_write(Machine::port(0), at, &value.to_le_bytes());
    }

    fn link_control(&mut self) -> u16 {
        self.port_u16(self.express + express::LINK_CONTROL)
    }

    fn set_link_control(&mut self, value: u16) {
        self.write_port(self.express + express::LINK_CONTROL, value);
    }

    /// Injects a fault. Returns what software sees then.
    fn inject(&mut self, mode: FaultMode) -> Observed {
        self.machine.inject(0, mode);
        self.observe()
    }

    fn observe(&mut self) -> Observed {
        let interrupts = self.port_interrupts();
        while let Some(port) = self.machine.hierarchy.poll_hot_plug() {
            self.disconnected = self.machine.hierarchy.disconnected_buses(port).is_some();
        }
        let machine = &mut self.machine;
        let config = machine.config_u32(Machine::endpoint(0), 0) == 0x6c6b_1234;
        let memory = machine.register(0, regs::ID) == regs::ID_VALUE;
        let before = machine.upstream.requests.len();
        machine.write_as_function(0);
        let dma = machine.upstream.requests.len() > before;
        machine.messages();
        machine.invalidate(0, 0, PageRange::page(Iova(0x7000)));
        machine.run_until(machine.now + SECOND);
        let completion =
            |message: &UpstreamMessage| matches!(message, UpstreamMessage::InvalidateCompletion(_));
        let completions = machine.messages().iter().filter(|found| completion(found)).count();
        let link = self.port_u16(self.express + express::LINK_STATUS);
        let slot = self.port_u16(self.express + express::SLOT_STATUS);
        assert_eq!(link & 0x3ff != 0, link & 1 << 13 != 0, "a dead link has no speed, no width");
        Observed {
            config,
            memory,
            active: link & 1 << 13 != 0,
            present: slot & 1 << 6 != 0,
            events: [slot & 1 != 0, slot & 1 << 3 != 0, slot & 1 << 8 != 0],
            interrupts,
            dma,
            completions,
            disconnected: self.disconnected,
        }
    }

    fn port_interrupts(&mut self) -> usize {
        let of_port = |message: &UpstreamMessage| matches!(message, UpstreamMessage::Msi { requester, .. } if *requester == Machine::port(0));
        self.machine.messages().iter().filter(|message| of_port(message)).count()
    }

    fn atc_entries(&mut self) -> u32 {
        self.machine.config_write(Machine::endpoint(0), header::BAR0, &{
            let bar = Machine::bar(0) as u32;
            bar.to_le_bytes()
        });
        self.machine.config_write(Machine::endpoint(0), header::COMMAND, &[6, 0]);
        self.machine.register(0, regs::ATC_ENTRIES)
    }

    fn ats_is_on(&mut self) -> bool {
        let control = self.machine.ats_control(0);
        self.machine.config_u16(Machine::endpoint(0), control) & 0x8000 != 0
    }

    /// Expects that the function has the state after power-on, and works after it is set up again.
    fn expect_reset(&mut self) {
        let command = self.machine.config_u16(Machine::endpoint(0), header::COMMAND);
        assert_eq!(command, 0, "memory and bus mastering are off");
        assert!(!self.ats_is_on());
        assert_eq!(self.atc_entries(), 0);
        self.machine.enable_ats(0);
        assert_eq!(self.machine.command(0, FILL | USE_ATC, 0, 8), 0);
    }
}

#[test]
fn a_healthy_link() {
    assert_eq!(Rig::new().observe(), HEALTHY);
}

#[test]
fn silent() {
    let mut rig = Rig::new();
    assert_eq!(rig.inject(FaultMode::Silent), Observed { active: false, ..GONE });
    rig.machine.lift(0, FaultMode::Silent);
    assert_eq!(rig.port_interrupts(), 0);
    rig.expect_reset();
}

#[test]
fn ghost() {
    let mut rig = Rig::new();
    assert_eq!(rig.inject(FaultMode::Ghost), GONE);
    rig.machine.lift(0, FaultMode::Ghost);
    rig.expect_reset();
}

#[test]
fn disable_by_somebody_and_by_the_guest() {
    let mut rig = Rig::new();
    assert_eq!(rig.inject(FaultMode::Disable), REPORTED);
    assert_eq!(rig.link_control() & 0x10, 0x10, "the bit is there to be read");
    rig.set_link_control(0);
    assert_eq!(rig.port_interrupts(), 0, "DLLSC is still latched: no new edge");
    rig.expect_reset();
    rig.write_port(rig.express + express::SLOT_STATUS, 0x0100);
    rig.set_link_control(0x10);
    assert_eq!(rig.observe(), REPORTED);
    rig.machine.lift(0, FaultMode::Disable);
    assert_eq!(rig.link_control() & 0x10, 0);
    rig.expect_reset();
}

#[test]
fn surprise() {
    let mut rig = Rig::new();
    let gone = Observed { present: false, events: [false, true, true], ..REPORTED };
    assert_eq!(rig.inject(FaultMode::Surprise), gone);
    rig.write_port(rig.express + express::SLOT_STATUS, 0x0108);
    rig.machine.lift(0, FaultMode::Surprise);
    assert_eq!(rig.port_interrupts(), 1, "the card is back");
    rig.expect_reset();
}

#[test]
fn the_hot_plug_interrupt_is_as_enabled() {
    for (enables, expected) in [(0x1028, 1), (0x1020, 1), (0x0028, 1), (0x0020, 0), (0x1008, 0)] {
        let mut rig = Rig::new();
        rig.write_port(rig.express + express::SLOT_CONTROL, enables);
        assert_eq!(rig.inject(FaultMode::Surprise).interrupts, expected, "{enables:#x}");
    }
    let mut rig = Rig::new();
    rig.machine.config_write(Machine::port(0), header::COMMAND, &[2, 0]);
    assert_eq!(rig.inject(FaultMode::Surprise).interrupts, 0, "no bus mastering, no MSI");
}

#[test]
fn safe_waits_for_the_driver() {
    let mut rig = Rig::on(Machine::with_buttons().enumerate().enable());
    let pressed = Observed { events: [true, false, false], interrupts: 1, ..HEALTHY };
    assert_eq!(rig.inject(FaultMode::Safe), pressed);
    rig.write_port(rig.express + express::SLOT_STATUS, 0x0001);
    let power_off_and_indicator_off = 0x0400 | 0x0300 | 0x102b;
    rig.write_port(rig.express + express::SLOT_CONTROL, power_off_and_indicator_off);
    let gone = Observed { present: false, events: [false, true, true], ..REPORTED };
    assert_eq!(rig.observe(), gone);
    rig.write_port(rig.express + express::SLOT_STATUS, 0x0108);
    rig.machine.lift(0, FaultMode::Safe);
    assert_eq!(rig.observe(), Observed { events: [false, true, false], ..REPORTED });
    rig.write_port(rig.express + express::SLOT_CONTROL, 0x102b);
    rig.expect_reset();
}

#[test]
fn dpc() {
    let mut rig = Rig::containing();
    let contained = Observed { interrupts: 2, ..REPORTED };
    assert_eq!(rig.inject(FaultMode::Dpc), contained, "containment, and the link's change");
    assert_eq!(rig.port_u16(rig.dpc + dpc::STATUS) & 0xf, 0b1001, "triggered, reason 0, interrupt");
    assert_eq!(rig.port_u16(rig.dpc + dpc::SOURCE), Machine::port(0).into_bits());
    assert_eq!(rig.errors(), 1 << 4, "Data Link Protocol Error");
    rig.write_port(rig.dpc + dpc::STATUS, 0b1001);
    rig.expect_reset();
}

#[test]
fn dpc_without_software_is_an_error_report() {
    let mut rig = Rig::new();
    assert_eq!(rig.inject(FaultMode::Dpc), Observed { interrupts: 1, ..HEALTHY });
    let root_status = rig.machine.config_u32(Machine::port(0), rig.aer + aer::ROOT_STATUS);
    assert_eq!(root_status, 0b101_0100, "uncorrectable, the first of them fatal, fatal");
    let source = rig.machine.config_u32(Machine::port(0), rig.aer + aer::SOURCE);
    assert_eq!(source >> 16, u32::from(Machine::port(0).into_bits()));
}

#[test]
fn software_pulls_the_trigger() {
    let mut rig = Rig::containing();
    rig.write_port(rig.dpc + dpc::CONTROL, 0b100_1001);
    assert_eq!(rig.port_u16(rig.dpc + dpc::STATUS) & 0x6f, 0b10_1111, "reason 3, extension 1");
    assert_eq!(rig.port_u16(rig.dpc + dpc::CONTROL), 0b1001, "the trigger reads 0");
    assert!(!rig.observe().config);
}

#[test]
fn aer() {
    let mut rig = Rig::new();
    assert_eq!(rig.inject(FaultMode::Aer), Observed { active: false, interrupts: 1, ..GONE });
    assert_eq!(rig.errors(), 1 << 5, "Surprise Down");
    let mut rig = Rig::new();
    let mask = rig.aer + aer::UNCORRECTABLE_MASK;
    rig.machine.function(Machine::port(0)).write(mask, 1_u32 << 5);
    assert_eq!(rig.inject(FaultMode::Aer), Observed { active: false, ..GONE }, "masked");
}

#[test]
fn a_device_that_does_not_answer() {
    let mute = Observed { completions: 0, ..HEALTHY };
    for (mode, expected) in [
        (FaultMode::NoCompletion, mute),
        (FaultMode::IgnoreInvalidate, mute),
        (FaultMode::Lossy(1_000_000), mute),
        (FaultMode::Lossy(0), HEALTHY),
        (FaultMode::EarlyCompletion, HEALTHY),
        (FaultMode::ByteSwap, HEALTHY),
        (FaultMode::DropAtNext, HEALTHY),
        (FaultMode::Merge(SECOND / 4), HEALTHY),
        (FaultMode::Split(5), Observed { completions: 5, ..HEALTHY }),
        (FaultMode::Choke { depth: 1, time: SECOND / 4 }, HEALTHY),
        (FaultMode::Sleep, Observed { memory: false, dma: false, ..mute }),
        (FaultMode::Duplicate, Observed { completions: 2, ..HEALTHY }),
        (FaultMode::Late(2 * SECOND), mute),
        (FaultMode::Slow(AnswerDelay::Fixed(SECOND / 2)), HEALTHY),
        (FaultMode::Slow(AnswerDelay::Uniform(SECOND / 4, SECOND / 2)), HEALTHY),
        (FaultMode::Slow(AnswerDelay::Exponential(SECOND / 100)), HEALTHY),
    ] {
        let mut rig = Rig::new();
        assert_eq!(rig.inject(mode), expected, "{mode:?}");
        rig.machine.lift(0, mode);
        rig.machine.run_until(rig.machine.now + 5 * SECOND);
        rig.machine.messages();
        assert_eq!(rig.observe(), HEALTHY, "after {mode:?}");
    }
}

#[test]
fn a_late_answer_comes_all_the_same() {
    let mut rig = Rig::new();
    assert_eq!(rig.inject(FaultMode::Late(3 * SECOND)).completions, 0);
    let due = rig.machine.hierarchy.poll_timeout().unwrap();
    assert_eq!(due, rig.machine.now + 2 * SECOND);
    rig.machine.run_until(due);
    assert_eq!(rig.machine.messages().len(), 1);
}

#[test]
fn lossy_loses_its_share() {
    let mut rig = Rig::new();
    rig.machine.inject(0, FaultMode::Lossy(250_000));
    for itag in 0..1000_u16 {
        rig.machine.invalidate(0, (itag % 32) as u8, PageRange::page(Iova(0x7000)));
    }
    let arrived = rig.machine.messages().len();
    assert!((650..850).contains(&arrived), "{arrived} of 1000");
}

#[test]
fn flap_with_and_without_the_atc() {
    for keep in [true, false] {
        let mut rig = Rig::new();
        let flap = FaultMode::Flap { down: 2 * SECOND, keep };
        assert_eq!(rig.inject(flap), Observed { active: false, ..GONE });
        rig.machine.run_until(rig.machine.now + 2 * SECOND);
        assert_eq!(rig.port_interrupts(), 0);
        if keep {
            assert_eq!(rig.observe(), HEALTHY);
            assert!(rig.ats_is_on());
            assert_eq!(rig.atc_entries(), 1, "stale by now, maybe");
        } else {
            rig.expect_reset();
        }
    }
}

#[test]
fn the_neighbour_notices_nothing() {
    for mode in [FaultMode::Silent, FaultMode::Surprise, FaultMode::NoCompletion, FaultMode::Aer] {
        let mut rig = Rig::new();
        rig.machine.inject(0, mode);
        rig.machine.messages();
        assert_eq!(rig.machine.register(1, regs::ID), regs::ID_VALUE);
        rig.machine.invalidate(1, 0, PageRange::ALL);
        assert_eq!(rig.machine.messages().len(), 1, "{mode:?}");
    }
}

#[test]
fn there_is_nothing_to_happen_to_a_port_that_does_not_exist() {
    let mut rig = Rig::new();
    rig.machine.inject(7, FaultMode::Surprise);
    rig.machine.lift(usize::MAX, FaultMode::Dpc);
    assert!(!rig.machine.events().iter().any(|event| matches!(event, Event::Link { .. })));
    assert_eq!(rig.observe(), HEALTHY);
}

mod lies;
mod obeys;
mod recovery;

#[test]
fn a_slot_that_is_not_hot_plug_capable_interrupts_on_nothing() {
    for (hotplug, interrupts) in [("surprise", true), ("none", false)] {
        let port = format!("root-port,id=rp0,hotplug={hotplug}");
        let texts = [&*port, "ats-endpoint,bus=rp0", "root-port,id=rp1", "ats-endpoint,bus=rp1"];
        let devices: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let mut rig = Rig::on(Machine::described(&devices).enumerate().enable());
        rig.inject(FaultMode::Disable);
        assert_eq!(rig.disconnected, interrupts, "{hotplug}");
    }
}
