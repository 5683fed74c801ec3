//! Functions that take time to become ready (`PCIe 5.3.1.4`, `PCIe 6.6`).

use std::time::Duration;

use iommu::event::{DropReason, Event, Lost};
use iommu::ids::Bdf;
use iommu::time::Instant;

use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::spec::express::{self, RootControl};
use crate::pcie::spec::header::{self, BridgeControl, Command};
use crate::pcie::spec::{power, sriov};
use crate::testkit::driver::{ABSENT, BARS, Driver, ENDPOINT};
use crate::topology::DeviceSpec;

const PORT: Bdf = Bdf::new(0, 1, 0);
const ID: Bdf = Bdf::new(1, 0, 0);
const MS: Duration = Duration::from_millis(1);
/// The vendor ID of a function that answers with Request Retry Status.
const RETRY: u32 = 0xffff_0001;

/// A function with these settings below a root port, with ATS on.
fn driver(settings: &str) -> Driver {
    let endpoint = format!("ats-endpoint,bus=rp0{settings}");
    let mut driver = Driver::new(&["root-port,id=rp0", &endpoint]);
    driver.machine.upstream.map(0, 12, 0x8000, true, true);
    driver.enable_ats(ID);
    driver
}

fn show_rrs(driver: &mut Driver) {
    let at = driver.machine.function(PORT).capability(express::ID).unwrap();
    let capabilities = driver.machine.config_u16(PORT, at + express::ROOT_CAPABILITIES);
    assert_eq!(capabilities, 1, "RRS Software Visibility");
    let control = RootControl::new().with_rrs_visibility(true);
    driver.machine.function(PORT).write(at + express::ROOT_CONTROL, control);
}

fn read_id(driver: &mut Driver) -> u32 {
    driver.machine.config_u32(ID, 0)
}

fn pass(driver: &mut Driver, time: Duration) {
    let until = driver.machine.now + time;
    driver.machine.run_until(until);
}

fn was_dropped(driver: &Driver, what: Lost) -> bool {
    let reason = DropReason::NotReady;
    driver.machine.events().contains(&Event::Dropped { function: ID, what, reason })
}

#[test]
fn a_function_level_reset_takes_its_time() {
    let mut driver = driver(",reset=100ms");
    assert!(driver.machine.function(ID).initiate_flr());
    assert_eq!(read_id(&mut driver), ABSENT);
    driver.machine.function(ID).set_command(Command::MEMORY_AND_MASTER);
    assert_eq!(driver.invalidate(ID), []);
    assert!(!driver.machine.hierarchy.is_present(ID, driver.machine.now));
    for what in [Lost::ConfigRead, Lost::ConfigWrite, Lost::InvalidateRequest] {
        assert!(was_dropped(&driver, what), "{what:?}");
    }
    let due = driver.machine.hierarchy.poll_timeout();
    assert_eq!(due, Some(Instant::START + 100 * MS));
    pass(&mut driver, 99 * MS);
    assert_eq!(read_id(&mut driver), ABSENT);
    pass(&mut driver, MS);
    assert_eq!(read_id(&mut driver), ENDPOINT);
    assert_eq!(driver.machine.config_u16(ID, header::COMMAND), 0, "the write was lost");
    assert_eq!(driver.invalidate(ID), [ID]);
    assert_eq!(driver.machine.hierarchy.poll_timeout(), None);
}

#[test]
fn a_request_after_the_time_is_answered_before_the_timer_runs() {
    let mut driver = driver(",reset=100ms");
    driver.machine.function(ID).initiate_flr();
    driver.machine.now = driver.machine.now + 100 * MS;
    assert_eq!(driver.invalidate(ID), [ID]);
    assert_eq!(read_id(&mut driver), ENDPOINT);
}

#[test]
fn a_reset_that_is_repeated_begins_anew() {
    let mut driver = driver(",reset=100ms");
    driver.machine.function(PORT).reset_secondary_bus();
    pass(&mut driver, 60 * MS);
    driver.machine.function(PORT).reset_secondary_bus();
    pass(&mut driver, 60 * MS);
    assert_eq!(read_id(&mut driver), ABSENT);
    pass(&mut driver, 40 * MS);
    assert_eq!(read_id(&mut driver), ENDPOINT);
}

#[test]
fn request_retry_status_shows_in_the_vendor_id_if_software_wants_that() {
    let mut driver = driver(",reset=100ms");
    show_rrs(&mut driver);
    driver.machine.function(ID).initiate_flr();
    assert_eq!(read_id(&mut driver), RETRY);
    assert_eq!(driver.machine.config_u16(ID, 0), 0x0001);
    assert_eq!(driver.machine.config::<1>(ID, 0), [0xff], "not both bytes");
    assert_eq!(driver.machine.config_u16(ID, header::COMMAND), 0xffff);
    let mut driver = self::driver(",reset=100ms,ready=timeout");
    show_rrs(&mut driver);
    driver.machine.function(ID).initiate_flr();
    assert_eq!(read_id(&mut driver), ABSENT);
}

#[test]
fn resets_of_the_bus_and_a_link_that_comes_up_take_the_time_too() {
    let resets: [fn(&mut Driver); 3] = [
        |driver| driver.machine.function(PORT).reset_secondary_bus(),
        |driver| {
            driver.machine.inject(0, FaultMode::Silent);
            driver.machine.lift(0, FaultMode::Silent);
        },
        |driver| {
            driver.machine.inject(0, FaultMode::Surprise);
            driver.machine.lift(0, FaultMode::Surprise);
        },
    ];
    for (number, reset) in resets.into_iter().enumerate() {
        let mut driver = driver(",reset=1s");
        reset(&mut driver);
        assert_eq!(read_id(&mut driver), ABSENT, "{number}");
        pass(&mut driver, 1000 * MS);
        assert_eq!(read_id(&mut driver), ENDPOINT, "{number}");
    }
    let mut driver = driver(",reset=1s");
    let control = BridgeControl::new().with_secondary_bus_reset(true);
    driver.machine.function(PORT).write(header::BRIDGE_CONTROL, control);
    pass(&mut driver, 2000 * MS);
    driver.machine.function(PORT).write(header::BRIDGE_CONTROL, BridgeControl::new());
    assert_eq!(read_id(&mut driver), ABSENT, "it begins when the reset ends");
}

#[test]
fn a_function_takes_time_to_wake_up_and_keeps_its_state() {
    let mut driver = driver(",wake=10ms");
    let bar = driver.bar(ID);
    assert_eq!(driver.fill(bar, true), 0);
    let at = driver.machine.function(ID).capability(power::ID).unwrap() + power::CONTROL;
    driver.machine.config_write(ID, at, &3_u16.to_le_bytes());
    driver.machine.config_write(ID, at, &3_u16.to_le_bytes());
    assert_eq!(read_id(&mut driver), ENDPOINT, "it sleeps, and is ready for that");
    driver.machine.config_write(ID, at, &0_u16.to_le_bytes());
    assert_eq!(read_id(&mut driver), ABSENT);
    assert_eq!(driver.register(bar, regs::ID), ABSENT);
    assert_eq!(driver.invalidate(ID), []);
    pass(&mut driver, 10 * MS);
    assert_eq!(driver.register(bar, regs::ATC_ENTRIES), 1);
    assert_eq!(driver.fill(bar, true), 0);
    assert_eq!(driver.invalidate(ID), [ID]);
}

#[test]
fn virtual_functions_have_resets_of_their_own() {
    let vfs = [Bdf::new(1, 0, 1), Bdf::new(1, 0, 2)];
    let mut driver = driver(",vfs=2,reset=100ms");
    let at = driver.machine.function(ID).extended_capability(sriov::ID).unwrap();
    let bars = BARS + 0x8_0000;
    driver.machine.config_write(ID, at + sriov::VF_BAR0, &(bars as u32).to_le_bytes());
    driver.machine.config_write(ID, at + sriov::NUM_VFS, &2_u16.to_le_bytes());
    driver.machine.config_write(ID, at + sriov::CONTROL, &(1_u16 | 1 << 3).to_le_bytes());
    assert_eq!(read_id(&mut driver), ENDPOINT, "the physical function is ready");
    for (vf, bar) in [(vfs[0], bars), (vfs[1], bars + 0x1000)] {
        assert_eq!(driver.machine.config_u32(vf, 8), ABSENT, "{vf}: VF Enable is a reset");
        assert_eq!(driver.register(bar, regs::ID), ABSENT, "{vf}");
        assert_eq!(driver.invalidate(vf), [], "{vf}");
    }
    pass(&mut driver, 100 * MS);
    assert!(driver.machine.function(vfs[0]).initiate_flr());
    assert_eq!(driver.invalidate(vfs[0]), []);
    assert_eq!(driver.invalidate(vfs[1]), [vfs[1]]);
    assert_eq!(driver.invalidate(ID), [ID]);
    driver.machine.config_write(ID, at + sriov::CONTROL, &[0; 2]);
    driver.machine.config_write(ID, at + sriov::CONTROL, &(1_u16 | 1 << 3).to_le_bytes());
    pass(&mut driver, 100 * MS);
    for vf in vfs {
        assert_eq!(driver.invalidate(vf), [vf]);
    }
    assert_eq!(driver.machine.hierarchy.poll_timeout(), None);
}

#[test]
fn a_virtual_function_is_ready_although_its_id_has_changed_meanwhile() {
    let mut driver = driver(",vfs=1,reset=100ms");
    driver.machine.config_write(PORT, header::SUBORDINATE_BUS, &[9]);
    let at = driver.machine.function(ID).extended_capability(sriov::ID).unwrap();
    driver.machine.config_write(ID, at + sriov::NUM_VFS, &1_u16.to_le_bytes());
    driver.machine.config_write(ID, at + sriov::CONTROL, &1_u16.to_le_bytes());
    driver.machine.config_write(PORT, header::SECONDARY_BUS, &[5]);
    let (id, vf) = (Bdf::new(5, 0, 0), Bdf::new(5, 0, 1));
    driver.machine.function(id).set_command(Command::MEMORY_AND_MASTER);
    assert_eq!(driver.invalidate(vf), []);
    pass(&mut driver, 100 * MS);
    assert_eq!(driver.invalidate(vf), [vf]);
    assert_eq!(driver.machine.hierarchy.poll_timeout(), None);
}

#[test]
fn a_disk_takes_its_time() {
    let mut driver = Driver::new(&["root-port,id=rp0", "nvme,bus=rp0,mib=1,reset=1s,wake=10ms"]);
    driver.machine.function(ID).initiate_flr();
    assert_eq!(driver.invalidate(ID), []);
    pass(&mut driver, 1000 * MS);
    assert_eq!(driver.invalidate(ID), [ID]);
}

#[test]
fn immediate_readiness_is_claimed_and_need_not_be_true() {
    let mut driver = driver(",ready=immediate,reset=100ms");
    let at = driver.machine.function(ID).capability(power::ID).unwrap();
    assert_eq!(driver.machine.config_u16(ID, header::STATUS), 0x11, "and a list of capabilities");
    assert_eq!(driver.machine.config_u16(ID, at + power::CAPABILITIES), 0x13);
    driver.machine.function(ID).initiate_flr();
    assert_eq!(read_id(&mut driver), ABSENT);
    let mut driver = self::driver("");
    assert_eq!(driver.machine.config_u16(ID, header::STATUS), 0x10);
    driver.machine.function(ID).initiate_flr();
    assert_eq!(read_id(&mut driver), ENDPOINT, "no time is the default");
}

#[test]
fn a_fault_makes_resets_slow() {
    let mut driver = driver("");
    let slow = FaultMode::SlowReset(2000 * MS);
    driver.machine.inject(0, slow);
    assert_eq!(driver.invalidate(ID), [ID], "before a reset nothing is slow");
    driver.machine.function(ID).initiate_flr();
    pass(&mut driver, 1999 * MS);
    assert_eq!(read_id(&mut driver), ABSENT);
    pass(&mut driver, MS);
    assert_eq!(read_id(&mut driver), ENDPOINT);
    driver.machine.lift(0, slow);
    driver.machine.function(ID).initiate_flr();
    assert_eq!(read_id(&mut driver), ENDPOINT);
}

#[test]
fn times_that_cannot_be_are_refused_with_the_value() {
    for (settings, reason) in [
        ("reset=-5ms", "'-5ms' is negative; write a time from 0s to 1m"),
        ("reset=61s", "'61s' is longer than a minute"),
        ("wake=2", "'2' is not a duration"),
        ("ready=later", "unknown variant `later`"),
    ] {
        for device in ["ats-endpoint,bus=rp0", "nvme,bus=rp0"] {
            let error = format!("{device},{settings}").parse::<DeviceSpec>().unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

#[test]
fn a_device_in_a_scenario_has_the_specified_times_unless_it_says_otherwise() {
    let with_times = |text: &str| {
        let mut device: DeviceSpec = text.parse().unwrap();
        device.use_specified_times();
        device
    };
    let specified: DeviceSpec = "nvme,bus=rp0,reset=100ms,wake=10ms".parse().unwrap();
    assert_eq!(with_times("nvme,bus=rp0"), specified);
    let own = "ats-endpoint,bus=rp0,reset=0s,wake=1s";
    assert_eq!(with_times(own), own.parse().unwrap());
}
