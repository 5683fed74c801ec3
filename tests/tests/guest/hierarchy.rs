//! The guest's test of the PCIe hierarchy that it finds.

use tests::Rig;

#[test]
fn root_ports() {
    let Some(rig) = Rig::new("test=hierarchy") else { return };
    rig.run().passed();
}
