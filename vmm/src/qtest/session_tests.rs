//! A machine as a test sees it through the protocol.

use devices::endpoint::regs;
use devices::topology::Topology;
use iommu::event::UnitRole;
use iommu::spec::offset;
use iommu::unit::UnitConfig;
use proptest::prelude::*;

use super::testkit::session;

const EDU_CONFIG: u32 = 0x8000_6000;

fn lines(script: &str) -> Vec<String> {
    let mut session = session();
    script.lines().map(|line| session.execute(line.trim()).trim_end().to_owned()).collect()
}

fn last(script: &str) -> String {
    lines(script).pop().unwrap()
}

#[test]
fn memory_and_its_edges() {
    assert_eq!(last("write 0x1000 4 0x01020304\nreadl 0x1000"), "OK 0x0000000004030201");
    assert_eq!(last("memset 0x1000 0x20000 0x5a\nreadw 0x20fff"), "OK 0x000000000000005a");
    assert_eq!(last("b64write 0x10 3 Af+g\nread 0xf 5"), "OK 0x0001ffa000");
    assert_eq!(last("b64read 0x10 3"), "OK AAAA");
    // Half of it is RAM.
    assert_eq!(last("read 0x3fffffe 4"), "OK 0x0000ffff");
    assert_eq!(
        last("read 0xffffffffffffffff 2"),
        "FAIL the access runs past the end of the address space"
    );
    assert_eq!(last("readq 0xffffffffffffffff"), "OK 0xffffffffffffffff");
}

#[test]
fn the_oracle_answers_only_if_there_is_one() {
    let missing = "FAIL no oracle watches this machine; add --oracle";
    assert_eq!(last("stale_accesses"), missing);
    let mut session = super::testkit::session_with(true);
    let none = "OK 0 told_success=0 harmless=0 not_judged=0 not_followed=0\n";
    assert_eq!(session.execute("stale_accesses"), none);
    session.execute("outb 0xcf9 0x6");
    assert_eq!(session.execute("stale_accesses"), none, "a reset forgets nothing");
}

#[test]
fn the_unit_and_the_io_apic_are_where_q35_has_them() {
    assert_eq!(last("readl 0xfed90000"), "OK 0x0000000000000010");
    assert_eq!(last("writel 0xfec00000 1\nreadl 0xfec00010"), "OK 0x0000000000170020");
}

#[test]
fn configuration_space_by_ports_and_once_enabled_by_ecam() {
    assert_eq!(last("outl 0xcf8 0x80006000\ninl 0xcfc"), "OK 0x11e81234");
    assert_eq!(last("outl 0xcf8 0x80006002\ninw 0xcfe"), "OK 0xffff");
    assert_eq!(last("readl 0xb0060000"), "OK 0x00000000ffffffff");
    assert_eq!(
        last("outl 0xcf8 0x80000060\noutl 0xcfc 0xb0000001\nreadl 0xb0060000"),
        "OK 0x0000000011e81234"
    );
}

/// Two functions 01:00.0, which a script finds by the ECAM of their segments, and which do DMA
/// through the unit of their own.
#[test]
fn functions_of_two_segments_have_one_number_and_two_units() {
    let devices = [
        "root-port,id=near",
        "ats-endpoint,bus=near",
        "root-port,id=far,segment=1",
        "ats-endpoint,bus=far",
        "drhd,id=u,segment=1",
    ]
    .map(|text| text.parse().unwrap());
    let topology = Topology::new(&devices).unwrap();
    let unit = UnitConfig::new(UnitRole::Guest);
    let mut session = super::testkit::session_on(topology, unit, false, Vec::new());
    let mut run = |script: &str| {
        let lines = script.lines().map(|line| session.execute(line.trim()).trim_end().to_owned());
        lines.last().unwrap()
    };
    run("outl 0xcf8 0x80000060\noutl 0xcfc 0xb0000001");
    // Bus 1, a window of 1 MiB, memory and bus mastering, BAR 0; then a fill of 8 bytes at 0x7000.
    for (ecam, bar, pattern) in
        [(0xb000_0000_u64, 0xc000_0000_u64, 0xa), (0xe000_0000, 0xe400_0000, 0xb)]
    {
        let (port, function) = (ecam + 0x8000, ecam + 0x10_0000);
        let window = bar >> 16 | bar & 0xffff_0000;
        run(&format!(
            "writel {:#x} 0x00010100\nwritel {:#x} {window:#x}",
            port + 0x18,
            port + 0x20
        ));
        assert_eq!(run(&format!("readl {function:#x}")), "OK 0x000000006c6b1234");
        run(&format!(
            "writew {:#x} 6\nwritel {:#x} {bar:#x}\nwritew {:#x} 6",
            port + 4,
            function + 0x10,
            function + 4
        ));
        for (register, value) in [
            (regs::IOVA, 0x7000_u32),
            (regs::LENGTH, 8),
            (regs::PATTERN, pattern),
            (regs::COMMAND, 3),
        ] {
            run(&format!("writel {:#x} {value:#x}", bar + register));
        }
        assert_eq!(run("readl 0x7000"), format!("OK {pattern:#018x}"), "the unit is off");
    }
    // The unit of segment 1 translates by a root table that is empty.
    run("writeq 0xfed91020 0x1000\nwritel 0xfed91018 0x40000000\nwritel 0xfed91018 0x80000000");
    let fill = |bar: u64, pattern: u32| {
        format!(
            "writel {:#x} {pattern}\nwritel {:#x} 3\nreadl 0x7000",
            bar + regs::PATTERN,
            bar + regs::COMMAND
        )
    };
    assert_eq!(run(&fill(0xe400_0000, 1)), "OK 0x000000000000000b", "blocked");
    assert_eq!(run(&fill(0xc000_0000, 2)), "OK 0x0000000000000002");
    let record = |unit: u64| {
        format!("readq {:#x}", 0xfed9_0000 + unit * 0x1000 + u64::from(offset::FRCD) + 8)
    };
    assert_eq!(run(&record(0)), "OK 0x0000000000000000");
    let record = run(&record(1));
    assert!(record.starts_with("OK 0x8") && record.ends_with("0100"), "of 01:00.0: {record}");
}

/// BAR at 0xe0000000, memory and bus mastering on.
fn enable_edu() -> String {
    format!(
        "outl 0xcf8 {:#x}\noutl 0xcfc 0xe0000000\noutl 0xcf8 {:#x}\noutl 0xcfc 6\n",
        EDU_CONFIG | 0x10,
        EDU_CONFIG | 0x04
    )
}

#[test]
fn dma_happens_when_the_clock_gets_there() {
    let start = "writel 0x1000 0x11223344\nwriteq 0xe0000080 0x1000\nwriteq 0xe0000088 0x40000\n\
                 writeq 0xe0000090 4\nwriteq 0xe0000098 1\nclock_step 99999999\nreadq 0xe0000098";
    let script = enable_edu() + start;
    assert_eq!(last(&script), "OK 0x0000000000000001");
    assert_eq!(
        last(&(script.clone() + "\nclock_step 1\nreadq 0xe0000098")),
        "OK 0x0000000000000000"
    );
    assert_eq!(last(&(script + "\nclock_step")), "OK 100000000");
}

#[test]
fn the_clock_does_not_go_back() {
    assert_eq!(last("clock_set 100\nclock_set 50"), "OK 100");
    assert_eq!(last("clock_set 100\nclock_step"), "OK 100");
    assert_eq!(last("clock_step 0xffffffffffffffff\nclock_step 1"), "OK 18446744073709551615");
}

#[test]
fn wires_and_messages_are_told_if_asked_for() {
    let raise = enable_edu() + "writel 0xe0000060 1";
    assert_eq!(last(&raise), "OK");
    let script = format!("irq_intercept_in ioapic\n{raise}");
    assert_eq!(last(&script), "IRQ raise 20\nOK");
    assert_eq!(last(&(script + "\nwritel 0xe0000064 1")), "IRQ lower 20\nOK");
    // Entry 20: vector 0x41, not masked.
    let script = format!("msi_intercept\nwritel 0xfec00000 0x38\nwritel 0xfec00010 0x41\n{raise}");
    assert_eq!(last(&script), "MSI 0xfee00000 0x4041\nOK");
}

#[test]
fn unknown_devices_are_refused() {
    assert_eq!(last("irq_intercept_in pic"), "FAIL Unknown device 'pic'; there is ioapic");
    assert!(last("irq_intercept_out ioapic").starts_with("FAIL ioapic has no wires"));
}

#[test]
fn reset_puts_devices_back_and_leaves_memory() {
    let script = enable_edu() + "writel 0x1000 5\noutb 0xcf9 6\nreadl 0x1000";
    assert_eq!(last(&script), "OK 0x0000000000000005");
    let script = script + "\nreadl 0xe0000000";
    assert_eq!(last(&script), "OK 0x00000000ffffffff");
}

#[test]
fn error_records_outlast_a_reset_unless_it_cycles_the_power() {
    // A descriptor of type 0: an Invalidation Queue Error, IQEI 3.
    let error = "writeq 0xfed90090 0x100000\nwritel 0xfed90018 0x4000000\nwritel 0xfed90088 0x10\n";
    for (reset, status, record) in
        [("", 0x10, 3), ("outb 0xcf9 6\n", 0x10, 3), ("outb 0xcf9 14\n", 0, 0)]
    {
        for (register, value) in [("34", status), ("b0", record)] {
            let answer = last(&format!("{error}{reset}readl 0xfed900{register}"));
            assert_eq!(answer, format!("OK {value:#018x}"), "{register} after '{reset}'");
        }
    }
    let twice = format!("{error}outb 0xcf9 6\noutb 0x64 254\nreadl 0xfed90034");
    assert_eq!(last(&twice), "OK 0x0000000000000010");
    assert_eq!(last(&format!("{error}outb 0xcf9 6\nreadl 0xfed9001c")), "OK 0x0000000000000000");
}

proptest! {
    #[test]
    fn any_script_is_answered_line_by_line(
        script in prop::collection::vec(
            (
                "(read|write)[bwlq]|read|write|memset|clock_step|in[bwl]|out[bwl]",
                prop::sample::select(vec![
                    0_u64, 0xfed9_0018, 0xfed9_0088, 0xfec0_0010, 0xe000_0098, 0xcf8, 0xcfc, 0x3ff_ffff, !0,
                ]),
                prop::collection::vec(prop_oneof![0_u64..300, any::<u64>()], 0..3),
            ),
            0..20,
        )
    ) {
        let mut session = session();
        for (name, address, rest) in script {
            let rest: Vec<String> = rest.iter().map(|value| format!("{value:#x}")).collect();
            let answer = session.execute(&format!("{name} {address:#x} {}", rest.join(" ")));
            let last = answer.lines().last().unwrap_or_default();
            prop_assert!(last.starts_with("OK") || last.starts_with("FAIL "), "{}", answer);
        }
    }
}

/// The endpoint reads each millisecond. From 10 ms to 30 ms its reads are lost, and each of them ends
/// 50 ms later.
#[test]
fn a_read_that_is_lost_ends_when_the_clock_gets_there() {
    let flap = "at=10ms,mode=flap:20ms:keep".parse().unwrap();
    let mut session = super::testkit::session_of(false, vec![flap]);
    let mut last = |script: &str| {
        let answers = script.lines().map(|line| session.execute(line.trim()));
        answers.last().unwrap().trim_end().to_owned()
    };
    let config = [
        (0x8000_0818_u32, 0x0001_0100_u32), // the root port's buses
        (0x8000_0820, 0xc000_c000),         // its window
        (0x8000_0804, 6),
        (0x8001_0010, 0xc000_0000), // BAR 0 of the endpoint
        (0x8001_0004, 6),
    ];
    for (address, value) in config {
        last(&format!("outl 0xcf8 {address:#x}\noutl 0xcfc {value:#x}"));
    }
    let generator = [(0x04, 1000), (0x08, 0x2000), (0x20, 30), (0x00, 1)];
    for (register, value) in generator {
        last(&format!("writel {:#x} {value}", 0xc000_0100_u32 + register));
    }
    let mut at = |nanos: u64| {
        last(&format!("clock_set {nanos}"));
        // Whether requests wait, and the generator's DONE and FAILED.
        [0x004, 0x124, 0x128].map(|at| {
            let answer = last(&format!("readl {:#x}", 0xc000_0000_u32 + at));
            u64::from_str_radix(answer.trim_start_matches("OK 0x"), 16).unwrap()
        })
    };
    assert_eq!(at(31_000_000), [2, 10, 0]);
    assert_eq!(at(59_999_999), [2, 10, 0]);
    assert_eq!(at(60_000_000), [2, 10, 1]);
    assert_eq!(at(78_999_999), [2, 10, 19]);
    assert_eq!(at(79_000_000), [0, 10, 20]);
}
