//! The DSDT: the host bridges with the ranges that they decode and the features that the operating
//! system may control, root ports that users can reach, COM1, devices that only ACPI knows, and the
//! power states.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal,
    IO, If, Interrupt, Local, Memory32Fixed, Method, Name, NotEqual, Or, Package, PackageBuilder,
    Path, ResourceTemplate, Return, Scope, Store, Uuid,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};
use devices::root_complex::inta_pin;
use devices::topology::{NamespaceDevice, RootPortInfo, Segment, Topology};

use super::{OEM, OEM_REVISION, OEM_TABLE, bytes};
use crate::layout::{
    COM1_PIN, ECAM, HPET, IO_APIC, PCI_MEMORY, Range, SEGMENTS, SLEEP_TYPE_OFF, SLEEP_TYPE_RAM,
    UNITS, port, segment_ecam, segment_memory,
};

/// The UUID in calls of a PCIe host bridge's `_OSC` (`PCI Firmware 4.5`).
const OSC_UUID: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
/// The UUID of the properties of root ports that users can reach.
const EXTERNAL_PORT_UUID: &str = "EFCC06CC-73AC-4BC3-BFF0-76143807C389";
/// Control that the operating system gets if it asks: native hot-plug, PME, AER, the PCIe capability,
/// LTR, DPC. Not: hot-plug of SHPC, which is not there.
const OSC_GRANTED: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7;

/// Bits of the first word that `_OSC` returns.
mod osc_error {
    pub(super) const UUID: u8 = 1 << 2;
    pub(super) const REVISION: u8 = 1 << 3;
    pub(super) const MASKED: u8 = 1 << 4;
}

pub(super) fn build(topology: &Topology) -> Vec<u8> {
    // Revision 2: integers have 64 bits.
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&system_bus(topology));
    let [zero, off] = [0, SLEEP_TYPE_OFF];
    let s5 = Name::new("_S5_".into(), &Package::new(vec![&off, &off, &zero, &zero]));
    table.append_slice(&bytes(&s5));
    if topology.pc_testdev {
        let ram = SLEEP_TYPE_RAM;
        let s3 = Name::new("_S3_".into(), &Package::new(vec![&ram, &ram, &zero, &zero]));
        table.append_slice(&bytes(&s3));
    }
    table.as_slice().to_vec()
}

fn system_bus(topology: &Topology) -> Vec<u8> {
    let segments = topology.segments();
    let mut devices = vec![host_bridge(topology), motherboard(segments), com1()];
    devices.extend(segments.iter().enumerate().map(further_host_bridge));
    devices.extend((0_u8..).zip(topology.namespace_devices()).map(namespace_device));
    devices.extend(topology.hpet.then(event_timer));
    bytes(&Scope::new("\\_SB_".into(), devices.iter().map(|device| device as &dyn Aml).collect()))
}

/// A piece of AML that has been encoded already.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn encoded(item: &dyn Aml) -> Encoded {
    Encoded(bytes(item))
}

/// The host bridge of segment 0. Further segments have the upper part of its memory.
fn host_bridge(topology: &Topology) -> Encoded {
    let end = if topology.segments().is_empty() { PCI_MEMORY.end() } else { SEGMENTS.start };
    let window = Range { start: PCI_MEMORY.start, size: end - PCI_MEMORY.start };
    let (buses, memory) = (buses(ECAM), memory(window));
    let resources = encoded(&ResourceTemplate::new(vec![
        &buses,
        // Configuration ports: the bridge's own.
        &IO::new(port::PCI, port::PCI, 1, 8),
        &AddressSpace::new_io(0_u16, port::PCI - 1, None),
        &AddressSpace::new_io(port::PCI + 8, 0xffff_u16, None),
        &memory,
    ]));
    root_bus((0, 0), &resources, Some(routing()), topology)
}

/// The host bridge of a further segment. It has neither I/O ports nor wires: functions below it have
/// messages only.
fn further_host_bridge((index, segment): (usize, &Segment)) -> Encoded {
    let (buses, memory) = (buses(segment_ecam(index)), memory(segment_memory(index)));
    let resources = encoded(&ResourceTemplate::new(vec![&buses, &memory]));
    root_bus((index as u8 + 1, segment.number), &resources, None, &segment.topology)
}

/// The buses of an ECAM.
fn buses(ecam: Range) -> AddressSpace<u16> {
    AddressSpace::new_bus_number(0, (ecam.size >> 20) as u16 - 1)
}

fn memory(window: Range) -> AddressSpace<u32> {
    let cacheable = AddressSpaceCacheable::NotCacheable;
    let (start, last) = (window.start as u32, (window.end() - 1) as u32);
    AddressSpace::new_memory(cacheable, true, start, last, None)
}

/// A root bus with its number in the namespace, and that of its segment.
fn root_bus(
    (number, segment): (u8, u16),
    resources: &Encoded,
    wires: Option<Encoded>,
    topology: &Topology,
) -> Encoded {
    let mut objects = vec![
        encoded(&Name::new("_HID".into(), &EISAName::new("PNP0A08"))),
        encoded(&Name::new("_CID".into(), &EISAName::new("PNP0A03"))),
        encoded(&Name::new("_UID".into(), &number)),
        encoded(&Name::new("_SEG".into(), &segment)),
        encoded(&Name::new("_BBN".into(), &0_u8)),
        // DMA is coherent.
        encoded(&Name::new("_CCA".into(), &1_u8)),
        encoded(&Name::new("_CRS".into(), resources)),
    ];
    objects.extend(wires);
    objects.push(control());
    objects.extend(topology.root_ports().filter(|port| port.external).map(external));
    let objects = objects.iter().map(|object| object as &dyn Aml).collect();
    encoded(&Device::new(format!("PCI{number}").as_str().into(), objects))
}

/// A root port whose slot users can reach, by device properties in the form of Linux's
/// `drivers/pci/pci-acpi.c` and Windows ("Identifying externally exposed PCIe Root Ports").
fn external(port: RootPortInfo) -> Encoded {
    let (device, function) = (port.function.device(), port.function.function());
    let address = u32::from(device) << 16 | u32::from(function);
    let devfn = port.function.devfn();
    let facing = Package::new(vec![&"ExternalFacingPort", &1_u8]);
    let number = Package::new(vec![&"UID", &devfn]);
    let (uuid, properties) = (Uuid::new(EXTERNAL_PORT_UUID), Package::new(vec![&facing, &number]));
    let properties = Package::new(vec![&uuid, &properties]);
    // Two hexadecimal digits of the device, and the function.
    let name = format!("P{device:02X}{function:X}");
    encoded(&Device::new(
        name.as_str().into(),
        vec![&Name::new("_ADR".into(), &address), &Name::new("_DSD".into(), &properties)],
    ))
}

/// A device that an ANDD structure of DMAR names. It has an id of its own, so that an operating
/// system makes a device of it.
fn namespace_device((number, device): (u8, &NamespaceDevice)) -> Encoded {
    encoded(&Device::new(
        format!("{:_<4}", device.name).as_str().into(),
        vec![
            &Name::new("_HID".into(), &"GHST0001"),
            &Name::new("_UID".into(), &number),
            &Name::new("_CCA".into(), &1_u8),
        ],
    ))
}

/// `_PRT`: INTA of each device on bus 0; nothing else has wires.
fn routing() -> Encoded {
    let mut entries = PackageBuilder::new();
    for device in 0..32_u8 {
        let address = u32::from(device) << 16 | 0xffff;
        let pin = inta_pin(device);
        entries.add_element(&Package::new(vec![&address, &0_u8, &0_u8, &pin]));
    }
    encoded(&Name::new("_PRT".into(), &entries))
}

/// `_OSC`: returns the requested features without those that are not granted.
fn control() -> Encoded {
    let (uuid, revision, buffer) = (Arg(0), Arg(1), Arg(3));
    let [status, asked] = ["STAT", "CTRL"].map(Path::new);
    let granted = Local(0);
    let complain = |bit: u8| encoded(&Or::new(&status, &status, &bit));
    let [no_uuid, no_revision, masked] =
        [osc_error::UUID, osc_error::REVISION, osc_error::MASKED].map(complain);
    encoded(&Method::new(
        "_OSC".into(),
        4,
        false,
        vec![
            &CreateDWordField::new(&status, &buffer, &0_u8),
            &If::new(
                &Equal::new(&uuid, &Uuid::new(OSC_UUID)),
                vec![
                    &CreateDWordField::new(&asked, &buffer, &8_u8),
                    &And::new(&granted, &asked, &OSC_GRANTED),
                    &If::new(&NotEqual::new(&revision, &1_u8), vec![&no_revision]),
                    &If::new(&NotEqual::new(&granted, &asked), vec![&masked]),
                    &Store::new(&asked, &granted),
                ],
            ),
            &Else::new(vec![&no_uuid]),
            &Return::new(&buffer),
        ],
    ))
}

/// Memory that belongs to no bus, which the operating system must not assign.
fn motherboard(segments: &[Segment]) -> Encoded {
    let fixed = |range: Range| Memory32Fixed::new(true, range.start as u32, range.size as u32);
    let mut ranges = vec![fixed(ECAM), fixed(IO_APIC), fixed(UNITS)];
    ranges.extend((0..segments.len()).map(|index| fixed(segment_ecam(index))));
    let resources = ResourceTemplate::new(ranges.iter().map(|range| range as &dyn Aml).collect());
    encoded(&Device::new(
        "MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

fn event_timer() -> Encoded {
    let registers = Memory32Fixed::new(false, HPET.start as u32, HPET.size as u32);
    let resources = encoded(&ResourceTemplate::new(vec![&registers]));
    encoded(&Device::new(
        "HPET".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0103")),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

fn com1() -> Encoded {
    let resources = encoded(&ResourceTemplate::new(vec![
        &IO::new(port::COM1, port::COM1, 1, 8),
        &Interrupt::new(true, true, false, false, COM1_PIN.into()),
    ]));
    encoded(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &1_u8),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}
