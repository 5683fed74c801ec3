//! The settings of the ATS capability, Smallest Translation Unit, and privileged requests.

use iommu::ats::PageRange;
use iommu::event::{DropReason, Event, Lost};
use iommu::ids::{Bdf, Iova};
use iommu::time::Instant;

use super::regs;
use crate::fault::FaultMode;
use crate::pcie::caps::ats::AtsFeatures;
use crate::pcie::spec::pasid::{self, PasidControl};
use crate::pcie::spec::{ats, sriov};
use crate::testkit::driver::{BARS, Driver};
use crate::topology::{DeviceSpec, Topology};

const ID: Bdf = Bdf::new(1, 0, 0);
const VF: Bdf = Bdf::new(1, 0, 1);
const FILL: u32 = 3;
const TRANSLATE: u32 = 6;
const USE_ATC: u32 = 1 << 4;
const WITH_PASID: u32 = 1 << 6;
const PRIVILEGED: u32 = 1 << 10;
const OK: u32 = 0;
const PASID_OFF: u32 = 10;

struct Rig {
    driver: Driver,
    bar: u64,
    ats: u16,
}

impl Rig {
    /// A function with these settings, whose first pages are mapped, and with ATS on.
    fn new(settings: &str) -> Self {
        let endpoint = format!("ats-endpoint,bus=rp0{settings}");
        let mut driver = Driver::new(&["root-port,id=rp0", &endpoint]);
        for page in 0..16 {
            driver.machine.upstream.map(page << 12, 12, 0x10_0000 + (page << 12), true, true);
        }
        driver.enable_ats(ID);
        let ats = driver.machine.function(ID).extended_capability(ats::ID).unwrap();
        let bar = driver.bar(ID);
        Self { driver, bar, ats }
    }

    fn capability(&mut self) -> u16 {
        self.driver.machine.config_u16(ID, self.ats + ats::CAPABILITY)
    }

    fn set_pasid(&mut self, control: PasidControl) {
        let mut function = self.driver.machine.function(ID);
        let at = function.extended_capability(pasid::ID).unwrap();
        function.write(at + pasid::CONTROL, control);
    }

    fn run(&mut self, command: u32, address: u64) -> u32 {
        let bar = self.bar;
        self.driver.write(bar + regs::IOVA, &address.to_le_bytes());
        self.driver.write(bar + regs::LENGTH, &8_u32.to_le_bytes());
        self.driver.write(bar + regs::COMMAND, &command.to_le_bytes());
        self.driver.register(bar, regs::RESULT)
    }

    fn entries(&mut self) -> u32 {
        self.driver.register(self.bar, regs::ATC_ENTRIES)
    }

    /// The addresses of the Translation Requests since the last call.
    fn requested(&mut self) -> Vec<u64> {
        let requests = std::mem::take(&mut self.driver.machine.upstream.translations);
        requests.into_iter().map(|request| request.address.0).collect()
    }

    fn invalidate(&mut self, range: PageRange) {
        let request = iommu::ats::InvalidateRequest {
            destination: ID,
            itag: iommu::ats::ITag::new(0),
            pasid: None,
            global: false,
            range,
        };
        let machine = &mut self.driver.machine;
        machine.hierarchy.invalidate_request(request, machine.now);
        machine.hierarchy.collect_messages(machine.now);
    }
}

#[test]
fn the_capability_shows_the_queue_depth_and_page_aligned_requests() {
    for (settings, capability) in [
        ("", 0x60),
        (",queue_depth=32", 0x60),
        (",queue_depth=31", 0x7f),
        (",queue_depth=1", 0x61),
        (",page_aligned=off", 0x40),
    ] {
        assert_eq!(Rig::new(settings).capability(), capability, "{settings}");
    }
    let rig = &mut Rig::new(",vfs=1,queue_depth=3");
    assert_eq!(rig.capability(), 0x63);
    let mut function = rig.driver.machine.function(ID);
    let at = function.extended_capability(sriov::ID).unwrap();
    function.write(at + sriov::NUM_VFS, 1_u16);
    function.write(at + sriov::CONTROL, 1_u16);
    let at = rig.driver.machine.function(VF).extended_capability(ats::ID).unwrap();
    assert_eq!(rig.driver.machine.config_u16(VF, at + ats::CAPABILITY), 0x60, "that of its PF");
}

#[test]
fn a_queue_depth_of_0_or_33_is_refused_with_the_value() {
    for depth in [0, 33] {
        let port = "root-port,id=rp0".parse().unwrap();
        let endpoint: DeviceSpec =
            format!("ats-endpoint,bus=rp0,queue_depth={depth}").parse().unwrap();
        let error = Topology::new(&[port, endpoint]).unwrap_err().to_string();
        assert!(error.contains(&format!("queue_depth={depth} is not 1 to 32")), "{error}");
    }
    assert_eq!(AtsFeatures::default().queue_depth, 32);
}

#[test]
fn a_function_loses_requests_beyond_its_queue_depth() {
    let mut rig = Rig::new(",vfs=1,queue_depth=2");
    let mut function = rig.driver.machine.function(ID);
    let at = function.extended_capability(sriov::ID).unwrap();
    function.write(at + sriov::VF_BAR0, BARS as u32 + 0x8_0000);
    function.write(at + sriov::NUM_VFS, 1_u16);
    function.write(at + sriov::CONTROL, 9_u16);
    rig.driver.machine.inject(0, "late:1ms".parse::<FaultMode>().unwrap());
    assert_eq!(rig.driver.invalidate(ID), []);
    assert_eq!(rig.driver.invalidate(VF), []);
    assert_eq!(rig.driver.invalidate(VF), [], "it shares the queue of its physical function");
    let (what, reason) = (Lost::InvalidateRequest, DropReason::QueueFull);
    let dropped = Event::Dropped { function: VF, what, reason };
    assert!(rig.driver.machine.events().contains(&dropped));
    rig.driver.machine.run_until(Instant::START + std::time::Duration::from_millis(1));
    assert_eq!(rig.driver.machine.messages().len(), 2);
}

#[test]
fn translation_requests_are_page_aligned_unless_the_function_does_not_care() {
    let mut rig = Rig::new("");
    assert_eq!(rig.run(FILL | USE_ATC, 0x3128), OK);
    assert_eq!(rig.requested(), [0x3000]);
    let mut rig = Rig::new(",page_aligned=off");
    assert_eq!(rig.run(FILL | USE_ATC, 0x3128), OK);
    assert_eq!(rig.requested(), [0x3128]);
    assert_eq!(rig.driver.machine.upstream.load(0x10_3128, 1).len(), 1);
}

#[test]
fn requests_and_invalidations_have_the_smallest_translation_unit() {
    let mut rig = Rig::new("");
    let control = ats::Control::new().with_enable(true).with_smallest_translation_unit(2);
    rig.driver.machine.function(ID).write(rig.ats + ats::CONTROL, control);
    rig.driver.machine.upstream.map(0x4000, 14, 0x20_0000, true, true);
    assert_eq!(rig.run(FILL | USE_ATC, 0x6128), OK);
    assert_eq!(rig.requested(), [0x4000]);
    // A completion for less than the unit has nothing for this page.
    assert_ne!(rig.run(TRANSLATE, 0x1000), OK);
    assert_eq!(rig.run(TRANSLATE, 0x0000), OK);
    assert_eq!((rig.requested(), rig.entries()), (vec![0, 0], 2));
    rig.invalidate(PageRange::page(Iova(0x7000)));
    assert_eq!(rig.entries(), 1);
    rig.invalidate(PageRange::page(Iova(0x3000)));
    assert_eq!(rig.entries(), 0, "as if the request were for pages 0 to 3");
}

#[test]
fn privileged_requests_have_translations_of_their_own() {
    let mut rig = Rig::new("");
    let on = PasidControl::new().with_enable(true);
    rig.set_pasid(on.with_privileged(true));
    let modes = |rig: &mut Rig| {
        let requests = std::mem::take(&mut rig.driver.machine.upstream.translations);
        requests.into_iter().map(|request| request.privileged).collect::<Vec<_>>()
    };
    let fill = FILL | USE_ATC | WITH_PASID;
    assert_eq!(rig.run(fill | PRIVILEGED, 0x1000), OK);
    assert_eq!(rig.run(fill | PRIVILEGED, 0x1000), OK);
    assert_eq!(modes(&mut rig), [true], "the second one is a hit");
    assert_eq!(rig.run(fill, 0x1000), OK);
    assert_eq!(modes(&mut rig), [false], "not by the privileged translation");
    assert_eq!(rig.run(FILL | WITH_PASID | PRIVILEGED, 0x1000), OK);
    let last = rig.driver.machine.upstream.requests.last().unwrap().0;
    assert!(last.privileged && last.pasid.is_some(), "an untranslated request");
    assert_eq!(rig.run(FILL | USE_ATC | PRIVILEGED, 0x2000), OK);
    assert_eq!(modes(&mut rig), [false], "only with a PASID");
    rig.set_pasid(on);
    assert_eq!(rig.run(fill | PRIVILEGED, 0x3000), OK);
    assert_eq!(modes(&mut rig), [false], "PASID Control does not permit it");
}

/// The specification leaves the behavior open if software changes PASID Enable while ATS is on
/// (`PCIe 7.8.9.3`). Here the ATC keeps its translations with PASID, and uses them again.
#[test]
fn pasids_that_are_switched_while_ats_is_on_leave_their_translations() {
    let mut rig = Rig::new("");
    let fill = FILL | USE_ATC | WITH_PASID;
    rig.set_pasid(PasidControl::new().with_enable(true));
    assert_eq!(rig.run(fill, 0x1000), OK);
    rig.set_pasid(PasidControl::new());
    assert_eq!(rig.run(fill, 0x1000), PASID_OFF);
    assert_eq!(rig.entries(), 1);
    rig.driver.machine.upstream.mappings.clear();
    rig.set_pasid(PasidControl::new().with_enable(true));
    assert_eq!(rig.run(fill, 0x1000), OK, "the old translation");
}
