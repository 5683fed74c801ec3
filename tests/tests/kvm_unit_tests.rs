//! The unchanged images of kvm-unit-tests, an independent guest. There are no packages of them.
//! Build them, and run `KVM_UNIT_TESTS=DIR cargo test -p tests --test kvm_unit_tests -- --ignored`,
//! where DIR is the directory with `x86/intel-iommu.flat`.

use std::path::PathBuf;

use devices::topology::Topology;
use tests::Rig;
use vmm::{Exit, Kernel};

/// Runs an image on the machine of its configuration; returns its exit and its output.
fn run(image: &str, cpus: u8) -> Option<(Exit, String)> {
    let directory = std::env::var_os("KVM_UNIT_TESTS").expect("KVM_UNIT_TESTS names the directory");
    let mut rig = Rig::new("")?.cpus(cpus);
    rig.config.kernel = Kernel::File(PathBuf::from(directory).join("x86").join(image));
    let root_complex = &mut rig.config.root_complex;
    root_complex.topology = Topology::simple(2, 1);
    root_complex.io_apic = None;
    root_complex.guest_unit.interrupt_remapping = true;
    let run = rig.run();
    Some((run.exit.expect("it ends by itself"), run.console))
}

fn passes(image: &str, cpus: u8, passed: usize) {
    let Some((exit, console)) = run(image, cpus) else { return };
    assert_eq!(exit, Exit::DebugExit(0), "{console}");
    assert_eq!(console.matches("PASS").count(), passed, "{console}");
    assert!(!console.contains("FAIL"), "{console}");
}

#[test]
#[ignore = "needs the images: KVM_UNIT_TESTS=DIR"]
fn kvm_unit_intel_iommu() {
    passes("intel-iommu.flat", 1, 11);
    passes("intel-iommu.flat", 4, 11);
}

#[test]
#[ignore = "needs the images: KVM_UNIT_TESTS=DIR"]
fn kvm_unit_smptest() {
    passes("smptest.flat", 2, 1);
}

#[test]
#[ignore = "needs the images: KVM_UNIT_TESTS=DIR"]
fn kvm_unit_idt_test() {
    passes("idt_test.flat", 1, 4);
}
