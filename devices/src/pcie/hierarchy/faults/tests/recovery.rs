//! Recovery: the reset that each way to recover implies, and the state that survives it.

use std::sync::{Arc, Mutex};

use iommu::event::Tracer;

use super::*;
use crate::pcie::caps::express::{HotPlug, PortType, Slot};
use crate::pcie::header::{ConfigBuilder, HeaderType, Identity};
use crate::pcie::spec::{aer, express, header};
use crate::pcie::{Function, FunctionCore, Upstream};
use crate::testkit::driver::Driver;

#[test]
fn secondary_bus_reset() {
    let mut rig = Rig::new();
    rig.write_port(header::BRIDGE_CONTROL, 1 << 6);
    assert_eq!(rig.observe(), REPORTED);
    rig.write_port(header::BRIDGE_CONTROL, 0);
    rig.expect_reset();
}

#[test]
fn function_level_reset_leaves_the_link() {
    let mut rig = Rig::new();
    assert!(rig.machine.function(Machine::endpoint(0)).initiate_flr());
    assert_eq!(rig.port_interrupts(), 0);
    rig.expect_reset();
}

#[test]
fn retraining_a_live_link_resets_nothing() {
    let mut rig = Rig::new();
    rig.set_link_control(0x20);
    assert_eq!(rig.link_control() & 0x20, 0, "reads 0");
    assert_eq!(rig.port_u16(rig.express + express::LINK_STATUS) & 1 << 14, 1 << 14, "LBMS");
    assert_eq!(rig.observe(), HEALTHY);
    assert_eq!(rig.atc_entries(), 1);
}

#[test]
fn several_reasons_must_all_end() {
    let mut rig = Rig::new();
    rig.machine.inject(0, FaultMode::Silent);
    rig.set_link_control(0x10);
    rig.machine.lift(0, FaultMode::Silent);
    assert!(!rig.observe().config, "still disabled");
    rig.set_link_control(0);
    rig.expect_reset();
}

#[test]
fn a_link_that_was_down_for_more_than_a_glitch_resets() {
    let mut rig = Rig::new();
    rig.machine.inject(0, FaultMode::Flap { down: SECOND, keep: true });
    rig.set_link_control(0x10);
    rig.set_link_control(0);
    rig.machine.run_until(rig.machine.now + 2 * SECOND);
    rig.expect_reset();
}

#[test]
fn a_reset_of_the_device_takes_its_late_answers_with_it() {
    let bus_reset: fn(&mut Rig) = |rig| {
        rig.machine.function(Machine::port(0)).reset_secondary_bus();
    };
    let function_level_reset: fn(&mut Rig) = |rig| {
        assert!(rig.machine.function(Machine::endpoint(0)).initiate_flr());
    };
    let another_card: fn(&mut Rig) = |rig| {
        rig.machine.inject(0, FaultMode::Surprise);
        rig.machine.lift(0, FaultMode::Surprise);
    };
    for reset in [bus_reset, function_level_reset, another_card] {
        let mut rig = Rig::new();
        rig.machine.inject(0, FaultMode::Late(2 * SECOND));
        rig.machine.inject(1, FaultMode::Late(2 * SECOND));
        rig.machine.invalidate(0, 0, PageRange::ALL);
        rig.machine.invalidate(1, 0, PageRange::ALL);
        reset(&mut rig);
        rig.machine.run_until(rig.machine.now + 3 * SECOND);
        let requester = |message: UpstreamMessage| match message {
            UpstreamMessage::InvalidateCompletion(completion) => Some(completion.requester),
            _ => None,
        };
        let late: Vec<Bdf> = rig.machine.messages().into_iter().filter_map(requester).collect();
        assert_eq!(late, [Machine::endpoint(1)], "the other device still owes its own");
    }
}

#[test]
fn sticky_bits_of_a_port_below_survive_a_hot_reset_and_not_the_power() {
    let mut driver = Driver::new(&["root-port,id=rp0", "switch,id=sw0,bus=rp0,ports=1"]);
    let (root, lower) = (Bdf::new(0, 1, 0), Bdf::new(2, 0, 0));
    let aer = driver.machine.function(lower).extended_capability(aer::ID).unwrap();
    let port = driver.machine.hierarchy.port_index("sw0.0").unwrap();
    driver.machine.inject(port, FaultMode::Aer);
    driver.machine.lift(port, FaultMode::Aer);
    let errors = |driver: &mut Driver| {
        driver.visit_again(0);
        driver.machine.config_u32(lower, aer + aer::UNCORRECTABLE_STATUS)
    };
    assert_eq!(errors(&mut driver), 1 << 5, "Surprise Down");
    driver.machine.function(root).reset_secondary_bus();
    assert_eq!(
        driver.machine.config_u32(Bdf::new(1, 0, 0), header::PRIMARY_BUS),
        0,
        "the switch has been reset"
    );
    assert_eq!(errors(&mut driver), 1 << 5);
    driver.machine.inject(0, FaultMode::Surprise);
    driver.machine.lift(0, FaultMode::Surprise);
    assert_eq!(errors(&mut driver), 0);
}

/// A function that records its resets.
#[derive(Debug)]
struct Probe {
    core: FunctionCore,
    resets: Arc<Mutex<Vec<Reset>>>,
}

impl Probe {
    fn new(resets: &Arc<Mutex<Vec<Reset>>>) -> Self {
        let identity = Identity { vendor: 0, device: 0, class: 0, revision: 0 };
        let builder = ConfigBuilder::new(identity, HeaderType::Endpoint);
        Self { core: FunctionCore::new(builder, None), resets: resets.clone() }
    }
}

impl Function for Probe {
    fn core(&self) -> &FunctionCore {
        &self.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.core
    }

    fn memory_read(&mut self, _: u64, _: &mut [u8], _: &mut dyn Upstream, _: Instant) {}

    fn memory_write(&mut self, _: u64, _: &[u8], _: &mut dyn Upstream, _: Instant) {}

    fn reset(&mut self, reset: Reset, _now: Instant) {
        self.resets.lock().unwrap().push(reset);
    }
}

/// A write to the root port, or a fault.
enum Step {
    Write(u16, u16),
    Inject(FaultMode),
    Lift(FaultMode),
}

#[test]
fn each_way_back_resets_as_deep_as_it_must() {
    use Step::{Inject, Lift, Write};
    let flap = |keep| FaultMode::Flap { down: SECOND, keep };
    // The offset of the port's PCI Express capability, and Slot Control while the slot has power.
    const EXPRESS: u16 = 0x60;
    const POWERED: u16 = 0x01c0;
    let cases: Vec<(&str, Vec<Step>, &[Reset])> = vec![
        ("cut", vec![Inject(FaultMode::Silent), Lift(FaultMode::Silent)], &[Reset::Hot]),
        ("ghost", vec![Inject(FaultMode::Ghost), Lift(FaultMode::Ghost)], &[Reset::Hot]),
        ("flap", vec![Inject(flap(false)), Lift(flap(false))], &[Reset::Hot]),
        ("glitch", vec![Inject(flap(true)), Lift(flap(true))], &[]),
        (
            "no-completion",
            vec![Inject(FaultMode::NoCompletion), Lift(FaultMode::NoCompletion)],
            &[],
        ),
        (
            "Link Disable",
            vec![
                Write(EXPRESS + express::LINK_CONTROL, 0x10),
                Write(EXPRESS + express::LINK_CONTROL, 0),
            ],
            &[Reset::Hot],
        ),
        (
            "Secondary Bus Reset",
            vec![Write(header::BRIDGE_CONTROL, 1 << 6), Write(header::BRIDGE_CONTROL, 0)],
            &[Reset::Hot],
        ),
        ("card", vec![Inject(FaultMode::Surprise), Lift(FaultMode::Surprise)], &[Reset::Cold]),
        (
            "slot power",
            vec![
                Write(EXPRESS + express::SLOT_CONTROL, POWERED | 0x400),
                Write(EXPRESS + express::SLOT_CONTROL, POWERED),
            ],
            &[Reset::Cold],
        ),
        (
            "slot power, and a cut that ends later",
            vec![
                Inject(FaultMode::Silent),
                Write(EXPRESS + express::SLOT_CONTROL, POWERED | 0x400),
                Write(EXPRESS + express::SLOT_CONTROL, POWERED),
                Lift(FaultMode::Silent),
            ],
            &[Reset::Cold],
        ),
    ];
    for (name, steps, expected) in cases {
        let mut hierarchy = Hierarchy::empty(Tracer::none());
        let slot = Slot { number: 1, hot_plug: HotPlug::Button };
        let root = hierarchy.add_port("rp0", None, 1 << 3, PortType::RootPort(slot)).unwrap();
        let resets = Arc::new(Mutex::new(Vec::new()));
        hierarchy.add_function(Some(root), 0, Box::new(Probe::new(&resets)));
        let now = Instant::START;
        let port = Bdf::new(0, 1, 0);
        let mut id = [0];
        hierarchy.config_read(port, EXPRESS, &mut id, now);
        assert_eq!(id, [0x10]);
        for step in steps {
            match step {
                Write(at, value) => hierarchy.config_write(port, at, &value.to_le_bytes(), now),
                Inject(mode) => hierarchy.inject(root, mode.effect(), now),
                Lift(mode) => hierarchy.lift(root, mode.effect(), now),
            }
        }
        assert_eq!(*resets.lock().unwrap(), expected, "{name}");
    }
}
