//! Virtual functions, as a driver enables and uses them.

use iommu::ids::Bdf;

use super::*;
use crate::fault::FaultMode;
use crate::pcie::spec::{ats, express, header, pasid, sriov};
use crate::testkit::Machine;
use crate::testkit::driver::{ABSENT, BARS, Driver, ENDPOINT};

/// A function with virtual functions below a port.
struct Virtual {
    driver: Driver,
    sriov: u16,
}

const PF: Bdf = Bdf::new(1, 0, 0);
const VF_BARS: u64 = BARS + 0x8_0000;
const VF_ENABLE: u16 = 1 | 1 << 3;

impl Virtual {
    fn new(vfs: u16) -> Self {
        let endpoint = format!("ats-endpoint,bus=rp0,vfs={vfs}");
        let mut driver = Driver::new(&["root-port,id=rp0", &endpoint]);
        driver.machine.config_write(Bdf::new(0, 1, 0), header::SUBORDINATE_BUS, &[3]);
        driver.machine.upstream.map(0, 12, 0x5000, true, true);
        let sriov = driver.machine.function(PF).extended_capability(sriov::ID).unwrap();
        let mut new = Self { driver, sriov };
        new.write(sriov::VF_BAR0, &(VF_BARS as u32).to_le_bytes());
        new
    }

    /// Writes a register of the capability.
    fn write(&mut self, at: u16, data: &[u8]) {
        self.driver.machine.config_write(PF, self.sriov + at, data);
    }

    fn read(&mut self, at: u16) -> u16 {
        self.driver.machine.config_u16(PF, self.sriov + at)
    }

    fn enable(&mut self, count: u16, control: u16) {
        self.write(sriov::NUM_VFS, &count.to_le_bytes());
        self.write(sriov::CONTROL, &control.to_le_bytes());
    }

    /// All functions that answer on the device's bus and the next two.
    fn present(&mut self) -> Vec<Bdf> {
        let all = (0x100..0x400).map(Bdf::from_bits);
        let answers = |id: &Bdf| self.driver.machine.config_u32(*id, 8) != ABSENT;
        all.filter(answers).collect()
    }
}

#[test]
fn virtual_functions_come_and_go_with_vf_enable() {
    let mut device = Virtual::new(3);
    assert_eq!(
        [sriov::INITIAL_VFS, sriov::TOTAL_VFS, sriov::FIRST_OFFSET, sriov::STRIDE]
            .map(|at| device.read(at)),
        [3, 3, 1, 1]
    );
    assert_eq!(device.read(sriov::VF_DEVICE_ID), VF_DEVICE_ID);
    assert_eq!(device.present(), [PF]);
    device.enable(2, VF_ENABLE);
    let vfs = [Bdf::new(1, 0, 1), Bdf::new(1, 0, 2)];
    assert_eq!(device.present(), [PF, vfs[0], vfs[1]]);
    device.write(0x10, &3_u16.to_le_bytes());
    assert_eq!((device.present().len(), device.read(0x10)), (3, 2), "NumVFs is locked");
    device.enable(0, 0);
    assert_eq!(device.present(), [PF]);
    device.enable(200, VF_ENABLE);
    assert_eq!(device.present().len(), 4, "TotalVFs at the most");
}

#[test]
fn a_virtual_function_is_present_although_its_ids_read_all_ones() {
    let mut device = Virtual::new(2);
    let (first, second) = (Bdf::new(1, 0, 1), Bdf::new(1, 0, 2));
    device.enable(1, VF_ENABLE);
    let Machine { hierarchy, now, .. } = &mut device.driver.machine;
    assert!(hierarchy.is_present(first, *now));
    assert!(!hierarchy.is_present(second, *now), "it is not enabled");
    hierarchy.inject(0, FaultMode::Silent.effect(), *now);
    assert!(!hierarchy.is_present(first, *now), "the link is down");
}

#[test]
fn a_virtual_function_has_no_ids_and_no_bars_but_ats_and_a_reset_of_its_own() {
    let mut device = Virtual::new(2);
    device.enable(2, VF_ENABLE);
    let driver = &mut device.driver;
    let (first, second) = (Bdf::new(1, 0, 1), Bdf::new(1, 0, 2));
    assert_eq!(driver.machine.config_u32(first, 0), ABSENT);
    assert_eq!(driver.machine.config_u32(first, 0x2c), ENDPOINT, "the subsystem's");
    driver.machine.config_write(first, header::COMMAND, &[0xff; 2]);
    assert_eq!(driver.machine.config_u16(first, header::COMMAND), 0b100, "bus master only");
    driver.machine.config_write(first, header::BAR0, &[0xff; 4]);
    assert_eq!(driver.machine.config_u32(first, header::BAR0), 0);
    driver.machine.config_write(second, header::COMMAND, &[0b100]);

    let bars = [VF_BARS, VF_BARS + 0x1000];
    for (function, bar) in [first, second].into_iter().zip(bars) {
        assert_eq!(driver.register(bar, regs::ID), regs::ID_VALUE);
        assert_eq!(driver.fill(bar, true), regs::Status::AtsOff as u32);
        driver.enable_ats(function);
        assert_eq!(driver.fill(bar, true), 0);
        assert_eq!(driver.machine.upstream.requests.last().unwrap().0.requester, function);
    }
    assert_eq!(driver.invalidate(first), [first]);
    assert_eq!(bars.map(|bar| driver.register(bar, regs::ATC_ENTRIES)), [0, 1]);

    assert!(driver.machine.function(second).initiate_flr());
    assert_eq!(driver.register(bars[1], regs::ATC_ENTRIES), 0);
    assert_eq!(driver.machine.config_u16(second, header::COMMAND), 0);
    assert_eq!(driver.machine.config_u16(first, header::COMMAND), 0b100, "not reset");
    assert_eq!(
        driver.machine.config_u16(PF, header::COMMAND),
        header::Command::MEMORY_AND_MASTER.into_bits()
    );
}

#[test]
fn virtual_functions_use_pasids_as_the_physical_one_may() {
    let mut device = Virtual::new(1);
    device.enable(1, VF_ENABLE);
    let driver = &mut device.driver;
    driver.machine.config_write(Bdf::new(1, 0, 1), header::COMMAND, &[0b100]);
    let with_pasid = (3_u32 | 1 << 6).to_le_bytes();
    let result = |driver: &mut Driver| {
        driver.write(VF_BARS + regs::LENGTH, &8_u32.to_le_bytes());
        driver.write(VF_BARS + regs::COMMAND, &with_pasid);
        driver.register(VF_BARS, regs::RESULT)
    };
    assert_eq!(result(driver), regs::Status::PasidOff as u32);
    let pasid = driver.machine.function(PF).extended_capability(pasid::ID).unwrap();
    driver.machine.config_write(PF, pasid + pasid::CONTROL, &[1]);
    assert_eq!(result(driver), 0);
    assert_eq!(driver.machine.function(Bdf::new(1, 0, 1)).extended_capability(pasid::ID), None);
}

#[test]
fn a_reset_of_the_physical_function_ends_the_virtual_ones() {
    let mut device = Virtual::new(2);
    device.enable(2, VF_ENABLE);
    device.driver.enable_ats(Bdf::new(1, 0, 1));
    assert!(device.driver.machine.function(PF).initiate_flr());
    assert_eq!(device.present(), [PF]);
    device.enable(1, VF_ENABLE);
    let ats =
        device.driver.machine.function(Bdf::new(1, 0, 1)).extended_capability(ats::ID).unwrap();
    assert_eq!(
        device.driver.machine.config_u16(Bdf::new(1, 0, 1), ats + ats::CONTROL),
        0,
        "as new"
    );

    device.driver.machine.inject(0, FaultMode::Silent);
    assert_eq!(device.present(), []);
    device.driver.machine.lift(0, FaultMode::Silent);
    assert_eq!(device.present(), [PF]);
}

#[test]
fn memory_of_virtual_functions_has_a_switch_and_a_page_size() {
    let mut device = Virtual::new(2);
    device.enable(2, 1);
    assert_eq!(device.driver.register(VF_BARS, regs::ID), ABSENT, "MSE is off");
    device.write(8, &VF_ENABLE.to_le_bytes());
    assert_eq!(device.driver.register(VF_BARS + 0x1000, regs::ID), regs::ID_VALUE);
    device.write(0x20, &(1_u32 << 4).to_le_bytes());
    assert_eq!(device.driver.register(VF_BARS + 0x1000, regs::ID), ABSENT);
    assert_eq!(device.driver.register(VF_BARS + 0x1_0000, regs::ID), regs::ID_VALUE, "64 KiB");
    device.write(0x24, &[0xff; 4]);
    assert_eq!(device.read(0x24), 0, "the size of one");
}

#[test]
fn many_virtual_functions_are_reached_by_ari_or_on_the_next_bus() {
    let mut device = Virtual::new(20);
    device.enable(20, VF_ENABLE);
    assert_eq!(device.read(0x14), 0x101);
    let present = device.present();
    assert_eq!((present[1], present[20]), (Bdf::new(2, 0, 1), Bdf::new(2, 2, 4)));
    let last = present[20];
    device.driver.enable_ats(last);
    assert_eq!(device.driver.invalidate(last), [last]);

    device.enable(0, 0);
    let express =
        device.driver.machine.function(Bdf::new(0, 1, 0)).capability(express::ID).unwrap();
    let control_2 = (1_u16 << 5).to_le_bytes();
    device.driver.machine.config_write(
        Bdf::new(0, 1, 0),
        express + express::DEVICE_CONTROL_2,
        &control_2,
    );
    device.enable(20, VF_ENABLE | 1 << 4);
    assert_eq!(device.read(0x14), 1);
    let present = device.present();
    assert_eq!((present[1], present[20]), (Bdf::new(1, 0, 1), Bdf::new(1, 2, 4)));
    forward_none(&mut device);
    assert_eq!(device.present().len(), 8, "what the port does not forward is not there");
}

fn forward_none(device: &mut Virtual) {
    let port = Bdf::new(0, 1, 0);
    let express = device.driver.machine.function(port).capability(express::ID).unwrap();
    device.driver.machine.config_write(port, express + express::DEVICE_CONTROL_2, &[0; 2]);
}
