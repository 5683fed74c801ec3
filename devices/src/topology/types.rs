//! The types of devices and their keys, for users.

/// All types with their keys. Each key has an explanation, with its default in brackets.
pub const TYPES: [(&str, &[(&str, &str)]); 12] = [
    (
        "root-port",
        &[
            ("id=NAME", "needed; functions and switches below it say bus=NAME"),
            ("addr=DEVICE.FUNCTION", "on bus 0, in hexadecimal [the next free device from 1 up]"),
            ("slot=N", "its slot's number [the next free one from its device number up]"),
            ("hotplug=HOW", "surprise, button (with power control) or none [surprise]"),
            ("ats=on|off", "functions below may use ATS [on]"),
            ("external=on|off", "users can reach the slot: ExternalFacingPort in the DSDT [off]"),
            ("segment=N", "the PCI segment on whose bus 0 it is, with all below it [0]"),
            ("vendor=N", "Vendor ID; drivers and quirks go by ids [its own]"),
            ("device=N", "Device ID [its own]"),
            ("revision=N", "Revision ID [its own]"),
        ],
    ),
    (
        "switch",
        &[
            ("id=NAME", "needed; its ports are NAME.0, NAME.1 and so on"),
            ("bus=PORT", "needed: the port below which it is"),
            ("ports=N", "needed: how many downstream ports, 1 to 32"),
            ("hotplug=HOW", "of its downstream ports, as for a root port [surprise]"),
            ("vendor=N", "Vendor ID; drivers and quirks go by ids [its own]"),
            ("device=N", "Device ID [its own]"),
            ("revision=N", "Revision ID [its own]"),
        ],
    ),
    (
        "ats-endpoint",
        &[
            ("id=NAME", "for messages"),
            ("bus=PORT", "needed: the port below which it is"),
            ("addr=DEVICE.FUNCTION", "which function it is, 1.0 and up need ARI [0.0]"),
            ("ats=on|off", "it has an ATC [on]"),
            ("pri=on|off", "it makes page requests [as ats]"),
            ("pasid=on|off", "it sends PASIDs [on]"),
            ("atc=N", "translations that its ATC holds, 1 to 4096 [64]"),
            ("ways=N", "places for each: atc is a power of two times as many [as atc]"),
            ("queue_depth=N", "Invalidate Requests that it takes at once, 1 to 32 [32]"),
            ("page_aligned=on|off", "its Translation Requests have page-aligned addresses [on]"),
            ("traffic=WHAT", "sends by itself: read|write:LENGTH[*BURST]/PERIOD@ADDRESS[+SPAN]"),
            ("reset=TIME", "how long it takes to become ready after a reset, up to 1m [0s]"),
            ("wake=TIME", "how long it takes to become ready in D0, after D3hot, up to 1m [0s]"),
            (
                "ready=ANSWER",
                "to configuration meanwhile: rrs or timeout; immediate claims 0s [rrs]",
            ),
            ("vfs=N", "it has SR-IOV, with so many virtual functions, up to 64 [0]"),
            ("serial=N", "the device's serial number, of function 0 [made of the names]"),
            ("vendor=N", "Vendor ID; drivers and quirks go by ids [its own]"),
            ("device=N", "Device ID [its own]"),
            ("subvendor=N", "Subsystem Vendor ID [as vendor]"),
            ("subsystem=N", "Subsystem ID [as device]"),
            ("revision=N", "Revision ID [its own]"),
        ],
    ),
    (
        "nvme",
        &[
            ("id=NAME", "for messages; its serial number [the port's name]"),
            ("bus=PORT", "needed: the port below which it is"),
            ("mib=N", "how many MiB namespace 1 has, in memory, 1 to 4096 [64]"),
            ("file=PATH", "or the file that it is in, as long as that is"),
            ("ats=on|off", "it has an ATC [on]"),
            ("hang=N", "it hangs once, after N I/O commands; a reset helps [never]"),
            ("vfs=N", "it has SR-IOV, with so many virtual functions, 1 to 64 [no SR-IOV]"),
            ("reset=TIME", "as for ats-endpoint"),
            ("wake=TIME", "as for ats-endpoint"),
            ("ready=ANSWER", "as for ats-endpoint"),
            ("vendor=N", "Vendor ID; drivers and quirks go by ids [its own]"),
            ("device=N", "Device ID [its own]"),
            ("subvendor=N", "Subsystem Vendor ID [as vendor]"),
            ("subsystem=N", "Subsystem ID [as device]"),
            ("revision=N", "Revision ID [its own]"),
        ],
    ),
    (
        "nvme-ns",
        &[
            ("id=NAME", "for messages"),
            ("bus=NAME", "needed: the nvme whose next namespace it is, up to 16 in all"),
            ("mib=N", "as for nvme"),
            ("file=PATH", "as for nvme"),
        ],
    ),
    ("edu", &INTEGRATED),
    ("iommu-testdev", &INTEGRATED),
    (
        "drhd",
        &[
            ("id=NAME", "needed; its settings say --unit NAME.KEY=VALUE"),
            ("scope=NAME[+NAME..]", "its root ports, and functions on bus 0; needed in segment 0"),
            ("segment=N", "its PCI segment; without scope= it is the unit for the rest of it [0]"),
        ],
    ),
    (
        "rmrr",
        &[
            ("id=NAME", "needed"),
            ("scope=NAME[+NAME..]", "needed: the functions that use the memory"),
            ("base=ADDRESS", "needed: the beginning of a page from 1 MiB up, in memory"),
            ("size=N", "needed: bytes, whole pages"),
        ],
    ),
    (
        "andd",
        &[
            ("id=NAME", "needed: its name in the ACPI namespace, up to 4 of A to Z, 0 to 9 and _"),
            ("addr=DEVICE.FUNCTION", "needed: the source id of its requests, on bus 0"),
        ],
    ),
    ("hpet", &ONBOARD),
    ("pc-testdev", &ONBOARD),
];

const ONBOARD: [(&str, &str); 1] = [("id=NAME", "for messages; there is one at the most")];

const INTEGRATED: [(&str, &str); 8] = [
    ("id=NAME", "for messages"),
    ("addr=DEVICE.FUNCTION", "on bus 0, in hexadecimal [the next free device from 10 up]"),
    (
        "satc=off|on|required",
        "whether an SATC structure names it, with ATC_REQUIRED or without [off]",
    ),
    ("vendor=N", "Vendor ID; drivers and quirks go by ids [its own]"),
    ("device=N", "Device ID [its own]"),
    ("subvendor=N", "Subsystem Vendor ID [as vendor]"),
    ("subsystem=N", "Subsystem ID [as device]"),
    ("revision=N", "Revision ID [its own]"),
];
