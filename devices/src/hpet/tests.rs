//! Counter, comparators, and the three kinds of interrupts.

use super::*;

const ENABLE: u64 = 1;
const LEGACY: u64 = 1 << 1;
const LEVEL: u64 = 1 << 1;
const ON: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const SET_VALUE: u64 = 1 << 6;
const NARROW: u64 = 1 << 8;
const FSB: u64 = 1 << 14;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn route(pin: u64) -> u64 {
    pin << 9
}

/// An HPET, and the time.
struct Rig {
    hpet: Hpet,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self { hpet: Hpet::new(), now: Instant::START }
    }

    fn read(&self, register: u64) -> u64 {
        let mut data = [0; 8];
        self.hpet.read(register, &mut data, self.now);
        u64::from_le_bytes(data)
    }

    fn write(&mut self, register: u64, value: u64) {
        self.hpet.write(register, &value.to_le_bytes(), self.now);
    }

    fn write_timer(&mut self, index: u64, register: u64, value: u64) {
        self.write(TIMER + index * TIMER_STRIDE + register, value);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.hpet.poll_output()).collect()
    }

    /// Moves the clock to the next match; returns it with what comes of it.
    fn step(&mut self) -> (u64, Vec<Output>) {
        self.now = self.hpet.poll_timeout().expect("a timer runs");
        self.hpet.handle_timeout(self.now);
        (self.now.as_nanos(), self.outputs())
    }
}

fn pulse(pin: u8) -> Vec<Output> {
    [true, false].map(|level| Output::Line { pin, level }).to_vec()
}

#[test]
fn the_counter_runs_at_100_mhz_while_it_is_enabled() {
    let mut rig = Rig::new();
    assert_eq!(rig.read(CAPABILITIES), 0x0098_9680_8086_a201);
    rig.now = at(1000);
    assert_eq!(rig.read(COUNTER), 0);
    rig.write(COUNTER, 5);
    rig.write(CONFIGURATION, ENABLE);
    rig.now = at(2009);
    assert_eq!(rig.read(COUNTER), 105);
    rig.write(COUNTER, 1);
    assert_eq!(rig.read(COUNTER), 105, "it cannot be set while it runs");
    rig.write(CONFIGURATION, 0);
    rig.now = at(9000);
    assert_eq!(rig.read(COUNTER), 105);
}

#[test]
fn halves_can_be_accessed_and_nothing_smaller() {
    let mut rig = Rig::new();
    rig.hpet.write(COUNTER + 4, &[1, 0, 0, 0], rig.now);
    rig.hpet.write(COUNTER, &[2, 0, 0, 0], rig.now);
    assert_eq!(rig.read(COUNTER), 1 << 32 | 2);
    let mut half = [0; 4];
    rig.hpet.read(COUNTER + 4, &mut half, rig.now);
    assert_eq!(half, [1, 0, 0, 0]);
    for (offset, length) in [(COUNTER, 1), (COUNTER, 2), (COUNTER + 4, 8), (COUNTER + 2, 4)] {
        let mut data = vec![0; length];
        rig.hpet.read(offset, &mut data, rig.now);
        assert_eq!(data, vec![0xff; length], "{offset:#x}");
        rig.hpet.write(offset, &vec![9; length], rig.now);
        assert_eq!(rig.read(COUNTER), 1 << 32 | 2);
    }
    assert_eq!(rig.read(0x3f8), 0, "no timer has this register");
}

#[test]
fn a_one_shot_timer_fires_once_at_its_route() {
    let mut rig = Rig::new();
    rig.write(CONFIGURATION, ENABLE);
    rig.write_timer(2, TIMER_CONFIGURATION, ON | route(17));
    rig.write_timer(2, TIMER_COMPARATOR, 100);
    assert_eq!(rig.step(), (1000, pulse(17)));
    assert_eq!(rig.hpet.poll_timeout(), None);
    // A comparator in the past waits for the counter to wrap.
    rig.write_timer(2, TIMER_COMPARATOR, 50);
    assert_eq!(rig.hpet.poll_timeout(), None);
    rig.write_timer(2, TIMER_CONFIGURATION, ON | NARROW | route(17));
    assert_eq!(rig.step().0, ((1 << 32) + 50) * 10);
    assert_eq!(rig.step().0, ((2 << 32) + 50) * 10);
}

#[test]
fn a_periodic_timer_goes_on_by_its_period() {
    let mut rig = Rig::new();
    rig.write(CONFIGURATION, ENABLE);
    rig.write_timer(0, TIMER_CONFIGURATION, ON | PERIODIC | SET_VALUE | route(16));
    rig.write_timer(0, TIMER_COMPARATOR, 30_000);
    rig.write_timer(0, TIMER_COMPARATOR, 20_000);
    for match_at in [300_000, 500_000, 700_000] {
        assert_eq!(rig.step(), (match_at, pulse(16)));
    }
    // Matches that the host has missed give one interrupt.
    rig.now = at(1_950_000);
    rig.hpet.handle_timeout(rig.now);
    assert_eq!(rig.outputs(), pulse(16));
    assert_eq!(rig.step().0, 2_100_000);
}

#[test]
fn a_period_of_one_tick_does_not_keep_the_host_busy() {
    for narrow in [0, NARROW] {
        let mut rig = Rig::new();
        rig.write(CONFIGURATION, ENABLE);
        rig.write_timer(1, TIMER_CONFIGURATION, ON | PERIODIC | SET_VALUE | narrow | route(16));
        rig.write_timer(1, TIMER_COMPARATOR, 1);
        let (first, _) = rig.step();
        assert_eq!(rig.step().0, first + 100_000);
    }
}

#[test]
fn legacy_replacement_leads_timers_0_and_1_to_pins_2_and_8() {
    let mut rig = Rig::new();
    rig.write(CONFIGURATION, ENABLE | LEGACY);
    for (index, pin) in [(0, 2), (1, 8), (2, 18)] {
        rig.write_timer(index, TIMER_CONFIGURATION, ON | route(18));
        rig.write_timer(index, TIMER_COMPARATOR, 100 + index);
        assert_eq!(rig.step().1, pulse(pin), "timer {index}");
    }
}

#[test]
fn a_level_interrupt_stays_until_its_status_is_cleared() {
    let mut rig = Rig::new();
    rig.write(CONFIGURATION, ENABLE);
    rig.write_timer(0, TIMER_CONFIGURATION, ON | LEVEL | route(19));
    rig.write_timer(0, TIMER_COMPARATOR, 100);
    let [up, down] = [true, false].map(|level| Output::Line { pin: 19, level });
    assert_eq!((rig.step().1, rig.read(INTERRUPT_STATUS)), (vec![up], 1));
    rig.hpet.write(INTERRUPT_STATUS + 4, &[0xff; 4], rig.now);
    assert_eq!(rig.read(INTERRUPT_STATUS), 1, "the other half");
    rig.write(INTERRUPT_STATUS, u64::MAX);
    assert_eq!((rig.outputs(), rig.read(INTERRUPT_STATUS)), (vec![down], 0));
    // So it does when the timer or the counter is switched off.
    for off in [TIMER + TIMER_CONFIGURATION, CONFIGURATION] {
        rig.write(CONFIGURATION, ENABLE);
        rig.write_timer(0, TIMER_CONFIGURATION, ON | LEVEL | route(19));
        let next = rig.read(COUNTER) + 10;
        rig.write_timer(0, TIMER_COMPARATOR, next);
        assert_eq!(rig.step().1, [up]);
        rig.write(off, 0);
        assert_eq!((rig.outputs(), rig.hpet.poll_timeout()), (vec![down], None), "{off:#x}");
    }
}

#[test]
fn a_message_has_address_and_data_of_the_route_register() {
    let mut rig = Rig::new();
    rig.write(CONFIGURATION, ENABLE);
    rig.write_timer(1, TIMER_FSB_ROUTE, 0xfee0_1000 << 32 | 0x4041);
    rig.write_timer(1, TIMER_CONFIGURATION, ON | FSB);
    rig.write_timer(1, TIMER_COMPARATOR, 7);
    let msi = Msi { address: 0xfee0_1000, data: 0x4041 };
    assert_eq!(rig.step(), (70, vec![Output::Msi(msi)]));
}

#[test]
fn a_route_that_does_not_exist_is_not_taken() {
    let mut rig = Rig::new();
    rig.write_timer(0, TIMER_CONFIGURATION, u64::MAX);
    assert_eq!(rig.read(TIMER), 0x000f_0104_0000_c17e & !route(0x1f));
    rig.write(CONFIGURATION, ENABLE);
    rig.write_timer(0, TIMER_CONFIGURATION, ON | route(20));
    rig.write_timer(0, TIMER_COMPARATOR, 7);
    assert_eq!(rig.step().1, []);
}

proptest::proptest! {
    /// Nothing that a guest writes makes it panic, or fire without the clock having moved.
    #[test]
    fn any_writes_leave_it_working(
        writes in proptest::collection::vec((0_u64..0x80, proptest::num::u64::ANY, 0_u64..1 << 40), 1..40)
    ) {
        let mut rig = Rig::new();
        for (register, value, wait) in writes {
            rig.write(8 * register, value);
            for _ in 0..8 {
                let Some(due) = rig.hpet.poll_timeout() else { break };
                proptest::prop_assert!(due > rig.now);
                rig.now = due;
                rig.hpet.handle_timeout(due);
                rig.outputs();
            }
            rig.now = rig.now + Duration::from_nanos(wait);
            rig.hpet.handle_timeout(rig.now);
        }
    }
}
