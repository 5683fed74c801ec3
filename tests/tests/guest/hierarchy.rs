//! The guest's test of the PCIe hierarchy that it finds, and an NVMe disk in it.

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

/// 64 MiB written, flushed, read, and verified by the guest.
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

/// What has been flushed is there after every fault, whatever that has done to the device.
#[test]
fn flushed_data_survives_every_fault() {
    for mode in ["silent", "ghost", "disable", "surprise", "aer", "hang"] {
        let Some(rig) = Rig::new("test=nvme fault=on ats=on mib=2") else { return };
        let rig = rig.policy("bounded:50ms").cpus(1).devices(&["root-port,id=rp0", "nvme,bus=rp0"]);
        rig.fault(&format!("on=doorbell,mode={mode},for=300ms")).run().passed();
    }
    let Some(rig) = Rig::new("test=nvme fault=on mib=2") else { return };
    let rig = rig.policy("bounded:50ms").cpus(1).devices(&["root-port,id=rp0", "nvme,bus=rp0"]);
    rig.fault("on=doorbell,mode=flap:300ms:keep").run().passed();
}
