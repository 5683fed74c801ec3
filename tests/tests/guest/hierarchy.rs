//! The guest's test of the PCIe hierarchy that it finds, and an NVMe disk in it.

use std::fs::File;

use tests::Rig;

#[test]
fn root_ports() {
    let Some(rig) = Rig::new("test=hierarchy") else { return };
    rig.run().passed();
}

#[test]
fn switches_below_switches_and_several_functions() {
    let Some(rig) = Rig::new("test=hierarchy") else { return };
    let devices = [
        "root-port,id=rp0",
        "switch,id=sw0,bus=rp0,ports=3",
        "switch,id=sw1,bus=sw0.1,ports=2",
        "ats-endpoint,bus=sw0.0",
        "ats-endpoint,bus=sw0.0,addr=0.3",
        "ats-endpoint,bus=sw1.1,vfs=4",
        "nvme,bus=sw0.2,mib=1",
        "iommu-testdev",
    ];
    rig.devices(&devices).run().passed();
}

/// The guest writes 64 MiB, flushes, reads, and verifies the data.
fn disk(ats: &str) {
    let Some(rig) = Rig::new(&format!("test=nvme ats={ats}")) else { return };
    rig.cpus(1).devices(&["root-port,id=rp0", "nvme,bus=rp0"]).run().passed();
}

#[test]
fn disk_without_ats() {
    disk("off");
}

#[test]
fn disk_with_ats() {
    disk("on");
}

/// A disk with two namespaces, the first one in a file: guest and host read the data that the guest
/// has written.
#[test]
fn a_disk_in_a_file() {
    let Some(rig) = Rig::new("test=nvme ats=on mib=2") else { return };
    let path = std::env::temp_dir().join(format!("ghostlink-disk-{}", std::process::id()));
    File::create(&path).and_then(|file| file.set_len(2 << 20)).expect("there is room for it");
    let disk = format!("nvme,id=disk,bus=rp0,file={}", path.display());
    let devices = ["root-port,id=rp0", &disk, "nvme-ns,bus=disk,mib=1"];
    let run = rig.cpus(1).devices(&devices).run();
    let kept = std::fs::read(&path).expect("it is still there");
    std::fs::remove_file(&path).expect("it can be removed");
    run.passed();
    let pages = kept.chunks_exact(4096);
    assert!(pages.skip(1).all(|page| page.iter().any(|byte| *byte != 0)), "a page was not written");
}

/// All faults, with `for=` if a fault does not end by itself.
const FAULTS: [&str; 16] = [
    "silent,for=300ms",
    "ghost,for=300ms",
    "disable,for=300ms",
    "surprise,for=300ms",
    "safe,for=2s",
    "dpc",
    "aer,for=300ms",
    "no-completion,for=300ms",
    "ignore-invalidate,for=300ms",
    "slow:1ms..20ms,for=300ms",
    "lossy:0.5,for=300ms",
    "dup,for=300ms",
    "late:100ms,for=300ms",
    "flap:300ms",
    "flap:300ms:keep",
    "all-ones-unit,for=300ms",
];

/// Flushed data survives every fault, also one that resets the device.
#[test]
fn flushed_data_survives_every_fault() {
    for fault in FAULTS {
        let Some(rig) = Rig::new("test=nvme fault=on ats=on mib=2") else { return };
        let devices = ["root-port,id=rp0,hotplug=button", "nvme,bus=rp0"];
        let rig = rig.policy("bounded:50ms").cpus(1).devices(&devices);
        let run = rig.fault(&format!("on=doorbell,mode={fault}")).run();
        assert!(matches!(run.exit, Ok(vmm::Exit::DebugExit(0))), "{fault}: {run}");
    }
}
