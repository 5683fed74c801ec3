//! Virtual functions, as a driver enables and uses them.

use iommu::ids::Bdf;
use iommu::time::Instant;

use super::driver::Sqe;
use crate::fault::FaultMode;
use crate::nvme::{VF_DEVICE_ID, regs};
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::{header, msix, power, sriov};
use crate::testkit::driver::{ABSENT, BARS, Driver};

const PF: Bdf = Bdf::new(1, 0, 0);
const VF_BARS: u64 = BARS + 0x8_0000;
const VF_ENABLE: u16 = 1 | 1 << 3;
/// Power states.
const D0: u16 = 0;
const D3HOT: u16 = 3;
const READ: u8 = 2;
const WRITE: u8 = 1;
/// Entries in each queue. No test submits as many commands, so no queue wraps.
const SIZE: u32 = 64;

/// A controller as its driver uses it: the physical function, or a virtual one.
#[derive(Clone, Copy)]
struct Controller {
    id: Bdf,
    bar: u64,
    /// 1 MiB of its memory: rings, and data.
    memory: u64,
    /// Commands submitted to the admin queue and to queue 1.
    submitted: [u32; 2],
}

impl Controller {
    const fn new(number: u8) -> Self {
        let bar = match number {
            0 => BARS,
            _ => VF_BARS + (number as u64 - 1) * regs::SIZE as u64,
        };
        let memory = 0x100_0000 + 0x10_0000 * number as u64;
        Self { id: Bdf::new(1, 0, number), bar, memory, submitted: [0; 2] }
    }

    fn submission(&self, queue: usize) -> u64 {
        self.memory + 0x1_0000 * queue as u64
    }

    fn completion(&self, queue: usize) -> u64 {
        self.submission(queue) + 0x8000
    }

    fn data(&self) -> u64 {
        self.memory + 0x8_0000
    }
}

/// A device below a port.
struct Rig {
    driver: Driver,
    sriov: u16,
}

impl Rig {
    fn new(vfs: u16) -> Self {
        Self::with(&format!("vfs={vfs}"))
    }

    fn with(options: &str) -> Self {
        let disk = format!("nvme,id=disk,bus=rp0,mib=1,{options}");
        let mut driver = Driver::new(&["root-port,id=rp0", &disk, "nvme-ns,bus=disk,mib=1"]);
        driver.machine.config_write(Bdf::new(0, 1, 0), header::SUBORDINATE_BUS, &[3]);
        driver.machine.upstream.map(0, 32, 0, true, true);
        let sriov = driver.machine.function(PF).extended_capability(sriov::ID).unwrap();
        let mut rig = Self { driver, sriov };
        rig.write_sriov(sriov::VF_BAR0, &(VF_BARS as u32).to_le_bytes());
        rig
    }

    fn write_sriov(&mut self, at: u16, data: &[u8]) {
        self.driver.machine.config_write(PF, self.sriov + at, data);
    }

    fn read_sriov(&mut self, at: u16) -> u16 {
        self.driver.machine.config_u16(PF, self.sriov + at)
    }

    fn enable(&mut self, count: u16, control: u16) {
        self.write_sriov(sriov::NUM_VFS, &count.to_le_bytes());
        self.write_sriov(sriov::CONTROL, &control.to_le_bytes());
    }

    fn register(&mut self, controller: &Controller, register: u64) -> u32 {
        self.driver.register(controller.bar, register)
    }

    fn write(&mut self, controller: &Controller, register: u64, value: u32) {
        self.driver.write(controller.bar + register, &value.to_le_bytes());
    }

    /// Enables bus mastering, MSI-X and the controller, with I/O queue 1.
    fn start(&mut self, number: u8) -> Controller {
        let mut controller = Controller::new(number);
        let mut function = self.driver.machine.function(controller.id);
        function.set_command(header::Command::MEMORY_AND_MASTER);
        let at = function.capability(msix::ID).unwrap();
        function.write(at + msix::CONTROL, msix::Control::new().with_enable(true));
        for vector in 0..2 {
            let entry = u64::from(regs::MSIX_TABLE) + u64::from(vector) * 16;
            self.write(&controller, entry, 0xfee0_0000);
            self.write(&controller, entry + 8, 0x40 + vector);
            self.write(&controller, entry + 12, 0);
        }
        for queue in 0..2 {
            let ring = controller.completion(queue);
            self.driver.machine.upstream.store(ring, &[0; 16 * SIZE as usize]);
        }
        self.write(&controller, regs::AQA, (SIZE - 1) << 16 | (SIZE - 1));
        self.write(&controller, regs::ASQ, controller.submission(0) as u32);
        self.write(&controller, regs::ACQ, controller.completion(0) as u32);
        self.write(&controller, regs::CC, 0x0046_0001);
        assert_eq!(self.register(&controller, regs::CSTS), 1, "ready");
        let dword10 = (SIZE - 1) << 16 | 1;
        for (opcode, ring, attributes) in
            [(5, controller.completion(1), 0b11), (1, controller.submission(1), 1)]
        {
            let create = Sqe::new(opcode).prp(ring, 0).dword(10, dword10);
            assert_eq!(self.run(&mut controller, 0, create.dword(11, 1 << 16 | attributes)), 0);
        }
        controller
    }

    /// Places a command, and writes the doorbell.
    fn submit(&mut self, controller: &mut Controller, queue: usize, sqe: Sqe) {
        let count = controller.submitted[queue];
        let sqe = sqe.dword(0, sqe.0[0] | count << 16);
        let bytes: Vec<u8> = sqe.0.iter().flat_map(|dword| dword.to_le_bytes()).collect();
        let at = controller.submission(queue) + u64::from(count) * 64;
        self.driver.machine.upstream.store(at, &bytes);
        controller.submitted[queue] = count + 1;
        self.write(controller, regs::DOORBELLS + queue as u64 * 8, count + 1);
    }

    /// The status of the command that was submitted last, `None` while it has no completion.
    fn outcome(&mut self, controller: &Controller, queue: usize) -> Option<u16> {
        let last = u64::from(controller.submitted[queue] - 1);
        let at = controller.completion(queue) + last * 16 + 14;
        let status = self.driver.machine.upstream.load(at, 2);
        let status = u16::from_le_bytes([status[0], status[1]]);
        (status & 1 != 0).then_some(status >> 1 & 0x7ff)
    }

    fn settle(&mut self) {
        self.driver.machine.run_for(1000);
    }

    fn run(&mut self, controller: &mut Controller, queue: usize, sqe: Sqe) -> u16 {
        self.submit(controller, queue, sqe);
        self.settle();
        self.outcome(controller, queue).expect("a completion")
    }

    /// Reads or writes block `block` of a namespace, by queue 1.
    fn block(&mut self, controller: &mut Controller, opcode: u8, namespace: u32, block: u64) {
        let sqe = Sqe::blocks(opcode, block, 1).namespace(namespace).prp(controller.data(), 0);
        assert_eq!(self.run(controller, 1, sqe), 0);
    }

    fn identify(&mut self, controller: &mut Controller, cns: u32, namespace: u32) -> Vec<u8> {
        let sqe = Sqe::new(6).namespace(namespace).dword(10, cns).prp(controller.data(), 0);
        assert_eq!(self.run(controller, 0, sqe), 0);
        self.driver.machine.upstream.load(controller.data(), 4096)
    }

    /// The requesters of the requests since the last call.
    fn requesters(&mut self) -> Vec<Bdf> {
        let requests = std::mem::take(&mut self.driver.machine.upstream.requests);
        let mut ids: Vec<Bdf> = requests.iter().map(|request| request.0.requester).collect();
        ids.dedup();
        ids
    }

    /// The senders and the data of the interrupts since the last call.
    fn interrupts(&mut self) -> Vec<(Bdf, u32)> {
        let now = self.driver.machine.now;
        self.driver.machine.hierarchy.collect_messages(now);
        let sent = |message| match message {
            UpstreamMessage::Msi { requester, msi } => Some((requester, msi.data)),
            _ => None,
        };
        self.driver.machine.messages().into_iter().filter_map(sent).collect()
    }

    fn is_present(&mut self, id: Bdf) -> bool {
        self.driver.machine.config_u32(id, 8) != ABSENT
    }

    fn set_power(&mut self, id: Bdf, state: u16) {
        let mut function = self.driver.machine.function(id);
        let at = function.capability(power::ID).unwrap();
        function.write(at + power::CONTROL, state);
    }
}

#[test]
fn a_virtual_function_does_io_by_its_own_queues_on_the_same_namespaces() {
    let mut rig = Rig::new(2);
    rig.enable(2, VF_ENABLE);
    let (mut pf, mut first) = (rig.start(0), rig.start(1));
    rig.interrupts();
    rig.driver.machine.upstream.store(pf.data(), &[0x5a; 512]);
    rig.block(&mut pf, WRITE, 2, 3);
    assert_eq!(rig.interrupts(), [(PF, 0x41)]);
    rig.requesters();
    rig.block(&mut first, READ, 2, 3);
    assert_eq!(rig.driver.machine.upstream.load(first.data(), 512), [0x5a; 512]);
    assert_eq!(rig.requesters(), [first.id]);
    assert_eq!(rig.interrupts(), [(first.id, 0x41)]);

    let mut second = rig.start(2);
    rig.driver.machine.upstream.store(second.data(), &[0xa5; 512]);
    rig.block(&mut second, WRITE, 2, 3);
    rig.block(&mut pf, READ, 2, 3);
    assert_eq!(rig.driver.machine.upstream.load(pf.data(), 512), [0xa5; 512]);
}

#[test]
fn invalidations_reach_the_atc_of_one_function() {
    let mut rig = Rig::new(2);
    rig.enable(2, VF_ENABLE);
    let mut controllers = [rig.start(0), rig.start(1), rig.start(2)];
    for controller in &mut controllers {
        rig.driver.enable_ats(controller.id);
        rig.block(controller, READ, 1, 0);
    }
    assert_eq!(rig.driver.invalidate(controllers[1].id), [controllers[1].id]);
    rig.driver.machine.upstream.translations.clear();
    for controller in &mut controllers {
        rig.block(controller, READ, 1, 0);
    }
    let mut asked: Vec<Bdf> =
        rig.driver.machine.upstream.translations.iter().map(|it| it.requester).collect();
    asked.dedup();
    assert_eq!(asked, [controllers[1].id]);
    for controller in controllers {
        assert_eq!(rig.driver.invalidate(controller.id), [controller.id]);
    }
}

#[test]
fn each_controller_has_an_id_and_they_share_a_subsystem() {
    let mut rig = Rig::new(2);
    assert_eq!(rig.read_sriov(sriov::VF_DEVICE_ID), VF_DEVICE_ID);
    rig.enable(2, VF_ENABLE);
    let mut controllers = [rig.start(0), rig.start(1), rig.start(2)];
    let found = controllers.each_mut().map(|controller| rig.identify(controller, 1, 0));
    let ids_and_cmic = found.each_ref().map(|data| (data[78], data[79], data[76]));
    assert_eq!(ids_and_cmic, [(1, 0, 0b10), (2, 0, 0b110), (3, 0, 0b110)]);
    assert!(found.iter().all(|data| data[256..258] == [0; 2]), "OACS: no management");
    for shared in [0..64, 768..1024] {
        assert!(found.iter().all(|data| data[shared.clone()] == found[0][shared.clone()]));
    }
    let namespaces = controllers.each_mut().map(|controller| rig.identify(controller, 0, 2));
    assert!(namespaces.iter().all(|data| data == &namespaces[0] && data[30] == 1));
    let [number, class] =
        [0x08, 0x0a].map(|at| rig.driver.machine.config_u16(Bdf::new(1, 0, 1), at));
    assert_eq!((number >> 8, class), (2, 0x108), "Linux finds it by its class");
}

#[test]
fn the_primary_controller_lists_the_secondary_ones() {
    let mut rig = Rig::new(3);
    rig.enable(2, VF_ENABLE);
    let (mut pf, mut first) = (rig.start(0), rig.start(1));
    let data = rig.identify(&mut pf, 0x14, 0);
    assert_eq!((&data[..2], data[2..].iter().all(|byte| *byte == 0)), (&[1, 0][..], true));
    let entries = |data: &[u8]| -> Vec<[u16; 4]> {
        let entries = data[32..].chunks(32).take(data[0].into());
        let word = |entry: &[u8], at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        entries.map(|entry| [0, 2, 4, 8].map(|at| word(entry, at))).collect()
    };
    let data = rig.identify(&mut pf, 0x15, 0);
    assert_eq!(entries(&data), [[2, 1, 1, 1], [3, 1, 1, 2], [4, 1, 0, 3]]);
    let data = rig.identify(&mut pf, 3 << 16 | 0x15, 0);
    assert_eq!(entries(&data), [[3, 1, 1, 2], [4, 1, 0, 3]]);
    let data = rig.identify(&mut pf, 0xffff << 16 | 0x15, 0);
    assert_eq!(entries(&data), [] as [[u16; 4]; 0]);
    for cns in [0x14, 0x15] {
        let sqe = Sqe::new(6).dword(10, cns);
        assert_eq!(rig.run(&mut first, 0, sqe), 2, "{cns:#x}: Invalid Field");
    }
    for controller in [&mut pf, &mut first] {
        assert_eq!(rig.run(controller, 0, Sqe::new(0x1c)), 1, "Virtualization Management");
    }
}

#[test]
fn a_controller_without_virtual_functions_knows_no_others() {
    let mut driver = super::Driver::enabled();
    for cns in [0x14, 0x15] {
        assert_eq!(driver.admin(Sqe::new(6).dword(10, cns)).code, 2, "{cns:#x}");
    }
    let data = driver.admin_data(Sqe::new(6).dword(10, 1), 4096);
    assert_eq!((data[76], data[78]), (0, 1));
    assert_eq!(driver.admin_data(Sqe::new(6).namespace(1), 4096)[30], 0);
    assert_eq!(driver.function().extended_capability(sriov::ID), None);
}

#[test]
fn each_function_is_reset_alone_but_for_the_physical_one() {
    let mut rig = Rig::new(2);
    rig.enable(2, VF_ENABLE);
    let controllers = [rig.start(0), rig.start(1), rig.start(2)];
    assert!(rig.driver.machine.function(controllers[1].id).initiate_flr());
    let states = controllers.each_ref().map(|it| rig.register(it, regs::CSTS));
    assert_eq!(states, [1, 0, 1]);
    let [pf, mut first, second] = [controllers[0], rig.start(1), controllers[2]];
    rig.write(&second, regs::CC, 0);
    assert_eq!(rig.register(&first, regs::CSTS), 1);
    rig.block(&mut first, READ, 1, 0);
    rig.write(&pf, regs::CC, 0);
    rig.block(&mut first, READ, 1, 0);

    assert!(rig.driver.machine.function(PF).initiate_flr());
    assert!(!rig.is_present(first.id) && !rig.is_present(second.id));
    assert_eq!(rig.register(&first, regs::CSTS), ABSENT);
}

#[test]
fn a_virtual_function_cannot_reset_the_subsystem() {
    let mut rig = Rig::new(1);
    rig.enable(1, VF_ENABLE);
    let (pf, mut first) = (rig.start(0), rig.start(1));
    let [in_pf, in_vf] = [&pf, &first].map(|it| rig.register(it, regs::CAP + 4) >> 4 & 1);
    assert_eq!((in_pf, in_vf), (1, 0), "NSSRS");
    rig.write(&first, regs::NSSR, regs::SUBSYSTEM_RESET);
    rig.block(&mut first, READ, 1, 0);
    assert_eq!(rig.register(&pf, regs::CSTS), 1);
    rig.write(&pf, regs::NSSR, regs::SUBSYSTEM_RESET);
    assert!(!rig.is_present(first.id), "it resets VF Enable, too");
    assert_eq!(rig.register(&first, regs::CSTS), ABSENT);
    assert!(rig.is_present(PF));
}

#[test]
fn vf_enable_begins_anew_and_keeps_data() {
    let mut rig = Rig::new(1);
    rig.enable(1, VF_ENABLE);
    let (mut pf, mut first) = (rig.start(0), rig.start(1));
    rig.driver.machine.upstream.store(first.data(), &[0x5a; 512]);
    rig.block(&mut first, WRITE, 1, 7);
    assert_eq!(rig.run(&mut first, 1, Sqe::blocks(READ, 1 << 40, 1)), 0x80, "an error to log");
    let read = Sqe::blocks(READ, 7, 1).prp(first.data(), 0);
    rig.submit(&mut first, 1, read);
    rig.enable(0, 0);
    assert!(!rig.is_present(first.id));
    assert_eq!(rig.register(&first, regs::CSTS), ABSENT);
    rig.settle();
    assert_eq!(rig.outcome(&first, 1), None, "what was in flight is gone");
    rig.block(&mut pf, READ, 1, 7);
    assert_eq!(rig.driver.machine.upstream.load(pf.data(), 512), [0x5a; 512]);

    rig.enable(1, VF_ENABLE);
    assert_eq!(rig.register(&first, regs::CSTS), 0);
    let mut first = rig.start(1);
    let log = Sqe::new(2).dword(10, 15 << 16 | 1).prp(first.data(), 0);
    rig.driver.machine.upstream.store(first.data(), &[0xff; 64]);
    assert_eq!(rig.run(&mut first, 0, log), 0);
    let log = rig.driver.machine.upstream.load(first.data(), 64);
    assert_eq!(log, [0; 64], "its next user does not see the errors of the last one");
    rig.block(&mut first, READ, 1, 7);
    assert_eq!(rig.driver.machine.upstream.load(first.data(), 512), [0x5a; 512]);
}

#[test]
fn virtual_functions_sleep_with_their_physical_one_and_go_on() {
    let mut rig = Rig::new(2);
    rig.enable(2, VF_ENABLE);
    let mut first = rig.start(1);
    let (second, third) = (rig.start(2).id, PF);
    let read = Sqe::blocks(READ, 0, 1).prp(first.data(), 0);
    rig.submit(&mut first, 1, read);
    rig.set_power(PF, D3HOT);
    assert_eq!(rig.register(&first, regs::CSTS), ABSENT);
    rig.settle();
    assert_eq!(rig.outcome(&first, 1), None);
    for id in [first.id, second, third] {
        assert_eq!(rig.driver.invalidate(id), [], "{id}");
    }
    rig.set_power(PF, D0);
    rig.settle();
    assert_eq!(rig.outcome(&first, 1), Some(0));

    let bus_master = |on| header::Command::new().with_bus_master(on);
    rig.driver.machine.function(first.id).set_command(bus_master(false));
    let read = Sqe::blocks(READ, 0, 1).prp(first.data(), 0);
    rig.submit(&mut first, 1, read);
    rig.set_power(PF, D3HOT);
    rig.driver.machine.function(first.id).set_command(bus_master(true));
    rig.settle();
    assert_eq!(rig.outcome(&first, 1), None);
    rig.set_power(PF, D0);
    rig.settle();
    assert_eq!(rig.outcome(&first, 1), Some(0), "it is fetched although no doorbell follows");

    rig.set_power(second, D3HOT);
    rig.block(&mut first, READ, 1, 0);
    assert_eq!(rig.driver.invalidate(second), []);
    assert_eq!(rig.driver.invalidate(first.id), [first.id]);
}

#[test]
fn a_fault_of_the_link_is_one_of_all_functions() {
    let mut rig = Rig::new(1);
    rig.enable(1, VF_ENABLE);
    let (pf, first) = (rig.start(0), rig.start(1));
    rig.driver.machine.inject(0, FaultMode::Silent);
    for controller in [pf, first] {
        assert_eq!(rig.register(&controller, regs::CSTS), ABSENT);
        assert!(!rig.is_present(controller.id));
        assert_eq!(rig.driver.invalidate(controller.id), []);
    }
    rig.driver.machine.lift(0, FaultMode::Silent);
    assert!(rig.is_present(PF) && !rig.is_present(first.id), "the link has reset VF Enable");
    assert_eq!(rig.driver.machine.hierarchy.poll_timeout(), None::<Instant>);
}

#[test]
fn other_ids_are_those_of_virtual_functions_too() {
    let mut rig = Rig::with("vfs=1,vendor=0x144d,device=0xa808,subvendor=0x103c,revision=7");
    rig.enable(1, VF_ENABLE);
    let mut first = rig.start(1);
    let machine = &mut rig.driver.machine;
    let [ids, class, subsystem] = [0, 8, 0x2c].map(|at| machine.config_u32(first.id, at));
    assert_eq!((ids, class, subsystem), (ABSENT, 0x0108_0207, 0xa808_103c));
    assert_eq!(rig.identify(&mut first, 1, 0)[..4], [0x4d, 0x14, 0x3c, 0x10]);
}

#[test]
fn each_controller_hangs_after_its_own_commands() {
    let mut rig = Rig::with("vfs=1,hang=1");
    rig.enable(1, VF_ENABLE);
    let (mut pf, mut first) = (rig.start(0), rig.start(1));
    for controller in [&mut pf, &mut first] {
        rig.block(controller, READ, 1, 0);
    }
    let read = Sqe::blocks(READ, 0, 1).prp(first.data(), 0);
    rig.submit(&mut first, 1, read);
    rig.settle();
    assert_eq!((rig.outcome(&first, 1), rig.register(&first, regs::CSTS)), (None, 1));
    rig.write(&first, regs::CC, 0);
    let mut first = rig.start(1);
    rig.block(&mut first, READ, 1, 0);
}

#[test]
fn many_virtual_functions_are_on_the_next_bus() {
    let mut rig = Rig::new(20);
    rig.enable(20, VF_ENABLE);
    let last = Bdf::new(2, 2, 4);
    assert!(rig.is_present(last) && !rig.is_present(Bdf::new(2, 2, 5)));
    assert_eq!(rig.driver.invalidate(last), [last]);
}
