//! The unchanged images of kvm-unit-tests, an independent guest. There are no packages of them.
//! Build them, and run `KVM_UNIT_TESTS=DIR cargo test -p tests --test kvm_unit_tests`, where DIR is the
//! directory with `x86/intel-iommu.flat`. Without the variable the tests are skipped.
//! `docs/kvm-unit-tests.md` compares the numbers with QEMU's.

use devices::topology::{DeviceSpec, Topology};
use tests::Rig;
use vmm::{Exit, Kernel, Vm, VmConfig};

/// The devices that the images expect.
const DEVICES: [&str; 3] = ["edu", "pc-testdev", "hpet"];

/// The machine for an image.
fn rig(image: &str, cpus: u8) -> Option<Rig> {
    let directory = tests::directory("KVM_UNIT_TESTS")?;
    let mut rig = Rig::new("")?.cpus(cpus);
    rig.config.kernel = Kernel::File(directory.join("x86").join(image));
    let root_complex = &mut rig.config.root_complex;
    let devices = DEVICES.map(|text| text.parse::<DeviceSpec>().expect("it describes a device"));
    root_complex.topology = Topology::new(&devices).expect("they fit together");
    root_complex.io_apic = None;
    root_complex.guest_unit.interrupt_remapping = true;
    Some(rig)
}

fn config(image: &str, cpus: u8) -> Option<VmConfig> {
    Some(rig(image, cpus)?.config)
}

/// Runs an image on the machine of its configuration; returns its exit and its output.
fn run(image: &str, cpus: u8) -> Option<(Exit, String)> {
    let run = rig(image, cpus)?.run();
    Some((run.exit.expect("it ends by itself"), run.console))
}

/// Asserts that the image passes this number of tests, and ends by itself. `failing` are the tests
/// that fail on QEMU as well.
fn passes(image: &str, cpus: u8, passed: usize, failing: &[&str]) {
    let Some((exit, console)) = run(image, cpus) else { return };
    let status = u32::from(!failing.is_empty());
    assert_eq!(exit, Exit::DebugExit(status), "{console}");
    let lines = |prefix| console.lines().filter_map(move |line| line.strip_prefix(prefix));
    assert_eq!(lines("PASS: ").count(), passed, "{console}");
    let failed: Vec<&str> = lines("FAIL: ").map(|name| name.trim_end()).collect();
    assert_eq!(failed, failing, "{console}");
}

#[test]
fn kvm_unit_intel_iommu() {
    passes("intel-iommu.flat", 1, 11, &[]);
    passes("intel-iommu.flat", 4, 11, &[]);
}

#[test]
fn kvm_unit_smptest() {
    passes("smptest.flat", 2, 1, &[]);
    passes("smptest.flat", 3, 1, &[]);
}

#[test]
fn kvm_unit_idt_test() {
    passes("idt_test.flat", 1, 4, &[]);
}

#[test]
fn kvm_unit_hpet_read_test() {
    passes("hpet_read_test.flat", 1, 1, &[]);
    passes("hpet_read_test.flat", 4, 2, &[]);
}

/// It lies below 1 MiB, runs in real mode, and waits for an ISA interrupt of pc-testdev.
#[test]
fn kvm_unit_realmode() {
    passes("realmode.flat", 1, 127, &[]);
}

#[test]
fn kvm_unit_setjmp() {
    passes("setjmp.flat", 1, 10, &[]);
}

#[test]
fn kvm_unit_la57() {
    passes("la57.flat", 1, 49, &[]);
}

#[test]
fn kvm_unit_lam() {
    passes("lam.flat", 1, 15, &[]);
}

#[test]
fn kvm_unit_tsc_adjust() {
    passes("tsc_adjust.flat", 1, 5, &["TSC adjustment for MSR_IA32_TSC_ADJUST value"]);
}

/// It sleeps until the clock's next second, and resumes in real mode with its memory.
#[test]
fn kvm_unit_s3() {
    let Some(config) = config("s3.flat", 1) else { return };
    let vm = Vm::new(config.clone()).expect("it can be built");
    let handle = vm.handle();
    assert_eq!(vm.run().expect("it runs"), Exit::Sleep);
    let suspended = handle.suspended().expect("it can sleep");
    std::thread::sleep(suspended.wake_after().expect("an alarm is set"));
    let vm = Vm::resume(config, suspended).expect("it can be built");
    assert_eq!(vm.run().expect("it runs"), Exit::DebugExit(0));
}
