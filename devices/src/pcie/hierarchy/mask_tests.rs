//! The bits that software can change in each register. The tables have numbers of the specification
//! instead of the names in `pcie::spec`, which they check. All other bits are read-only.

use super::*;
use crate::testkit::Machine;

/// Offset of a double word, and its bits that a write changes, directly or as a consequence.
type Masks = &'static [(u16, u32)];

const PORT_HEADER: Masks = &[
    (0x04, 0x0000_0546), // Command: memory, bus master, parity, SERR, INTx disable
    (0x0c, 0x0000_00ff), // Cache Line Size
    (0x18, 0x00ff_ffff), // primary, secondary, subordinate bus
    (0x20, 0xfff0_fff0),
    (0x24, 0xfff0_fff0),
    (0x28, 0xffff_ffff),
    (0x2c, 0xffff_ffff),
    (0x3c, 0x0043_00ff), // Interrupt Line; parity, SERR, Secondary Bus Reset
];
const PORT_EXPRESS: Masks = &[
    (0x08, 0x0000_78ff), // Device Control
    (0x10, 0x6043_00d0), // Link Control; Link Status: DLLLA, speed and width go, Retrain sets LBMS
    (0x18, 0x0000_1028), // Slot Control: PDC, DLLSC and hot-plug interrupt enables
    (0x1c, 0x0000_001f), // Root Control
    (0x28, 0x0000_0030), // Device Control 2: Completion Timeout Disable, ARI
    (0x30, 0x0000_000f), // Target Link Speed
];
const ENDPOINT_HEADER: Masks = &[
    (0x04, 0x0000_0546),
    (0x0c, 0x0000_00ff),
    (0x10, 0xffff_f000),
    (0x18, 0xffff_f000),
    (0x1c, 0xffff_ffff),
    (0x3c, 0x0000_00ff),
];
const ENDPOINT_EXPRESS: Masks =
    &[(0x08, 0x0000_78ff), (0x10, 0x0000_00c0), (0x28, 0x0000_001f), (0x30, 0x0000_000f)];
const POWER: Masks = &[(0x04, 0x0000_0003)];
const MSI: Masks = &[
    (0x00, 0x0071_0000), // enable, Multiple Message Enable
    (0x04, 0xffff_fffc),
    (0x08, 0xffff_ffff),
    (0x0c, 0x0000_ffff),
    (0x10, 0x0000_0001),
];
const AER: Masks =
    &[(0x08, 0x007f_f030), (0x0c, 0x007f_f030), (0x14, 0x0000_f1c1), (0x2c, 0x0000_0007)];
/// Neither Surprise Down nor ACS Violation.
const ENDPOINT_AER: Masks = &[(0x08, 0x005f_f010), (0x0c, 0x005f_f010), (0x14, 0x0000_f1c1)];
const SECONDARY: Masks = &[(0x04, 0x0000_0003)];
const ACS: Masks = &[(0x04, 0x001f_0000)];
const DPC: Masks = &[(0x04, 0x001f_0000)];
const ATS: Masks = &[(0x04, 0x801f_0000)];
/// A write to Enable also changes Stopped.
const PRI: Masks = &[(0x04, 0x0100_0001), (0x0c, 0xffff_ffff)];
const PASID: Masks = &[(0x04, 0x0007_0000)];

/// The bits that differ between a write of ones and one of zeros.
fn changed(function: Bdf, at: u16, ones: u32) -> u32 {
    let after = |value: u32| {
        let mut machine = Machine::enumerated();
        machine.config_write(function, at, &value.to_le_bytes());
        machine.config_u32(function, at)
    };
    after(ones) ^ after(0)
}

fn check(function: Bdf, express: Masks, others: &[(u16, Masks)]) {
    let mut machine = Machine::enumerated();
    let at = machine.function(function).capability(0x10).unwrap();
    let tables = others.iter().copied().chain([(at, express)]);
    let expected: Vec<(u16, u32)> = tables
        .flat_map(|(base, masks)| masks.iter().map(move |(offset, mask)| (base + offset, *mask)))
        .collect();
    for dword in (0..0x200).step_by(4) {
        // Initiate Function Level Reset would undo the rest.
        let ones = if dword == at + 8 { !(1 << 15) } else { u32::MAX };
        let mask = expected.iter().find(|entry| entry.0 == dword).map_or(0, |entry| entry.1);
        assert_eq!(changed(function, dword, ones), mask, "{function} {dword:#x}");
    }
}

#[test]
fn software_changes_exactly_the_writable_bits_of_a_port() {
    let port = Machine::port(0);
    let mut machine = Machine::enumerated();
    let mut find = |id| machine.function(port).capability(id).unwrap();
    let (power, msi) = (find(0x01), find(0x05));
    let extended = machine.extended_capabilities(port);
    let find = |id| extended.iter().find(|found| found.0 == id).unwrap().1;
    let others = [(0, PORT_HEADER), (power, POWER), (msi, MSI)];
    let extended =
        [(find(0x0001), AER), (find(0x000d), ACS), (find(0x001d), DPC), (find(0x0019), SECONDARY)];
    check(port, PORT_EXPRESS, &[&others[..], &extended].concat());
}

#[test]
fn software_changes_exactly_the_writable_bits_of_an_endpoint() {
    let endpoint = Machine::endpoint(0);
    let mut machine = Machine::enumerated();
    let mut find = |id| machine.function(endpoint).capability(id).unwrap();
    let (power, msi) = (find(0x01), find(0x05));
    let extended = machine.extended_capabilities(endpoint);
    let find = |id| extended.iter().find(|found| found.0 == id).unwrap().1;
    let others = [(0, ENDPOINT_HEADER), (power, POWER), (msi, MSI)];
    let extended = [
        (find(0x000f), ATS),
        (find(0x0013), PRI),
        (find(0x001b), PASID),
        (find(0x0001), ENDPOINT_AER),
    ];
    check(endpoint, ENDPOINT_EXPRESS, &[&others[..], &extended].concat());
}
