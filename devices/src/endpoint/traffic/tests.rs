//! Traffic that a driver programs, and traffic of a description.

use iommu::ats::AddressType;
use proptest::prelude::*;

use super::*;
use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::spec::header;
use crate::testkit::Machine;
use crate::testkit::driver::Driver;
use crate::topology::DeviceSpec;

const IOVA: u64 = 0x10_0000;
const OUTPUT: u64 = 0x8_0000;

/// An endpoint with 64 KiB mapped.
fn machine() -> Machine {
    let mut machine = Machine::ready();
    machine.upstream.map(IOVA, 16, OUTPUT, true, true);
    machine
}

fn register(generator: u64, at: u64) -> u64 {
    regs::TRAFFIC + generator * STEP + at
}

fn start(machine: &mut Machine, generator: u64, control: Control) {
    machine.write(0, register(generator, ADDRESS), &IOVA.to_le_bytes());
    machine.write_register(0, register(generator, CONTROL), control.with_run(true).into_bits());
}

/// The addresses of the requests so far.
fn addresses(machine: &Machine) -> Vec<u64> {
    machine.upstream.requests.iter().map(|(request, _)| request.address.0).collect()
}

#[test]
fn a_generator_sends_bursts_at_its_rate_until_its_limit() {
    let mut machine = machine();
    for (at, value) in [(PERIOD, 100), (SPAN, 0x100), (LENGTH, 0x40), (BURST, 3), (LIMIT, 8)] {
        machine.write_register(0, register(1, at), value);
    }
    machine.write_register(0, regs::PATTERN, 0xabcd);
    start(&mut machine, 1, Control::new().with_write(true).with_order(1));
    assert_eq!(machine.register(0, register(1, CONTROL)), 0b1_0011, "runs");
    machine.run_for(0);
    assert_eq!(addresses(&machine), [0, 0x40, 0x80].map(|at| IOVA + at));
    machine.run_for(99);
    assert_eq!(machine.upstream.requests.len(), 3);
    machine.run_for(1000);
    let places = [0, 0x40, 0x80, 0xc0, 0, 0x40, 0x80, 0xc0];
    assert_eq!(addresses(&machine), places.map(|at| IOVA + at));
    assert_eq!(machine.upstream.load(OUTPUT + 0xc0, 8), [0xcd, 0xab, 0, 0, 7, 0, 0, 0]);
    assert_eq!(machine.register(0, register(1, CONTROL)), 0b1_0010, "has stopped");
    assert_eq!(machine.register(0, register(1, DONE)), 8);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
}

#[test]
fn several_run_side_by_side_and_count_what_fails() {
    let mut machine = machine();
    start(&mut machine, 0, Control::new().with_use_atc(true));
    start(&mut machine, 3, Control::new().with_write(true).with_use_atc(true));
    machine.write(0, register(2, ADDRESS), &0x50_0000_u64.to_le_bytes());
    machine.write_register(0, register(2, CONTROL), 1);
    machine.run_for(2500);
    let counts = [0, 2, 3].map(|n| [DONE, FAILED].map(|at| machine.register(0, register(n, at))));
    assert_eq!(counts, [[3, 0], [0, 3], [3, 0]]);
    let translated = |(request, _): &&(iommu::ats::DmaRequest, usize)| {
        request.address_type == AddressType::Translated
    };
    assert_eq!(machine.upstream.requests.iter().filter(translated).count(), 6);
    assert_eq!(machine.upstream.translations.len(), 1, "one ATC for all");
    machine.write_register(0, register(0, CONTROL), 0);
    machine.write_register(0, register(2, CONTROL), 0);
    machine.write_register(0, register(3, CONTROL), 0);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
}

#[test]
fn anywhere_in_the_span_is_within_it_and_not_always_the_same() {
    let mut machine = machine();
    machine.write_register(0, register(0, SPAN), 0x1_0000);
    machine.write_register(0, register(0, LENGTH), 0x100);
    machine.write_register(0, register(0, BURST), 64);
    start(&mut machine, 0, Control::new().with_order(2));
    machine.run_for(0);
    let mut seen = addresses(&machine);
    assert!(seen.iter().all(|at| (IOVA..IOVA + 0x1_0000).contains(at) && at % 0x100 == 0));
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 32, "{}", seen.len());
}

#[test]
fn without_bus_mastering_it_pauses_and_a_reset_ends_it() {
    let mut machine = machine();
    let id = Machine::endpoint(0);
    start(&mut machine, 0, Control::new());
    machine.config_write(id, header::COMMAND, &[0b010, 0]);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
    machine.run_for(50_000);
    machine.config_write(id, header::COMMAND, &[0b110, 0]);
    machine.run_for(0);
    assert_eq!(machine.upstream.requests.len(), 1, "what it has missed it does not make up for");
    assert!(machine.function(id).initiate_flr());
    machine.config_write(id, header::COMMAND, &[0b110, 0]);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
}

#[test]
fn described_traffic_begins_with_bus_mastering_and_again_after_a_reset() {
    let texts = [
        "root-port,id=rp0",
        "ats-endpoint,bus=rp0,traffic=write:64*2/1ms@0x100000+0x1000:sequential",
    ];
    let devices: Vec<DeviceSpec> = texts.iter().map(|text| text.parse().unwrap()).collect();
    let mut machine = Machine::described(&devices);
    machine.upstream.map(IOVA, 16, OUTPUT, true, true);
    machine.run_for(10_000);
    assert_eq!(machine.upstream.requests.len(), 0);
    for turn in 1..=2 {
        machine.config_write(Machine::port(0), header::SECONDARY_BUS, &[1]);
        machine.config_write(Machine::port(0), header::SUBORDINATE_BUS, &[1]);
        machine.config_write(Machine::port(0), header::COMMAND, &[0b110, 0]);
        machine.config_write(Machine::endpoint(0), header::COMMAND, &[0b110, 0]);
        machine.run_for(1500);
        assert_eq!(machine.upstream.requests.len(), turn * 4);
        machine.inject(0, FaultMode::Surprise);
        machine.lift(0, FaultMode::Surprise);
        machine.run_for(10_000);
    }
}

#[test]
fn registers_take_what_can_be() {
    let mut machine = machine();
    for (at, written, read) in [
        (PERIOD, 0, 10),
        (LENGTH, 0, 1),
        (LENGTH, u32::MAX, 2048),
        (BURST, 0, 1),
        (BURST, 1000, 64),
        (ADDRESS_HIGH, 7, 7),
        (SPAN_HIGH, 9, 9),
        (DONE, 5, 0),
        (0x2c, 5, 0),
    ] {
        machine.write_register(0, register(2, at), written);
        assert_eq!(machine.register(0, register(2, at)), read, "{at:#x}");
    }
    let mut data = [0; 2];
    machine.read(Machine::bar(0) + register(0, PERIOD), &mut data);
    assert_eq!(data, [0xff; 2]);
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let order = prop::sample::select(vec![Order::Fixed, Order::Sequential, Order::Random]);
    let access = prop::sample::select(vec![Access::Read, Access::Write]);
    let sizes = (1_u32..=2048, 1_u32..=MAX_BURST, 10_u64..3_600_000_000);
    (access, order, any::<bool>(), any::<u64>(), 2048_u64.., sizes).prop_map(
        |(access, order, use_atc, address, span, (length, burst, micros))| Traffic {
            access,
            order,
            use_atc,
            address: Iova(address),
            span,
            length,
            burst,
            period: Duration::from_micros(micros),
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(traffic in traffic()) {
        prop_assert_eq!(traffic.to_string().parse::<Traffic>(), Ok(traffic));
    }

    #[test]
    fn no_text_breaks_the_parser(text: String, tail in "[a-z0-9:/@+*]{0,30}") {
        let _ = text.parse::<Traffic>();
        let _ = format!("write:{tail}").parse::<Traffic>();
    }
}

#[test]
fn nonsense_is_refused_with_what_is_wrong() {
    for (text, expected) in [
        ("", "neither read nor write"),
        ("write", "nothing says how much"),
        ("write:64/1ms", "no @ADDRESS"),
        ("write:64@0", "no /PERIOD"),
        ("read:0/1ms@0", "'0' is not 1 to 2048"),
        ("read:8*65/1ms@0", "'65' is not 1 to 64"),
        ("read:8/1us@0", "'1us' is not 10us to an hour"),
        ("read:8/1ms@here", "'here' is no number"),
        ("read:8/1ms@0:random", "no room for a request"),
        ("read:8/1ms@0:fast", "'fast' is unknown"),
    ] {
        let error = text.parse::<Traffic>().unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "'{text}': {error}");
    }
}

#[test]
fn the_atc_is_as_big_as_described() {
    let texts = ["root-port,id=rp0", "ats-endpoint,bus=rp0,atc=8,ways=2"];
    let mut driver = Driver::new(&texts);
    let function = driver.endpoints()[0];
    let bar = driver.bar(function);
    assert_eq!(driver.register(bar, regs::ATC_SIZE), 2 << 16 | 8);
    driver.enable_ats(function);
    driver.machine.upstream.map(0, 20, OUTPUT, true, true);
    for page in 0..256_u64 {
        driver.machine.upstream.map(page << 12, 12, OUTPUT + (page << 12), true, true);
    }
    let fill = |driver: &mut Driver, page: u64| {
        driver.write(bar + regs::IOVA, &(page << 12).to_le_bytes());
        assert_eq!(driver.fill(bar, true), 0);
    };
    // With four sets, all multiples of four pages are in the same set.
    (0..5).for_each(|number| fill(&mut driver, number * 4));
    assert_eq!(driver.register(bar, regs::ATC_ENTRIES), 2);
    (0..64).for_each(|number| fill(&mut driver, number));
    assert_eq!(driver.register(bar, regs::ATC_ENTRIES), 8);
}
