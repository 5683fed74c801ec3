//! Checks everything that software can see of one fault. The run injects the fault when this
//! program rings the doorbell (`--fault on=doorbell,mode=NAME,for=500ms`), and `mode=NAME` on the
//! command line selects the row to expect.
//!
//! ```text
//!   before ---- doorbell ----> while it lasts ----------> it ends ----> after
//!   works        fault         every cell of its row      how the       reset or not;
//!                                                         row says      works again
//! ```

mod mode;
pub mod port;

use crate::bench;
use crate::cmdline::Cmdline;
use crate::device::CopyEngine;
use crate::device::endpoint::{self, Command, Endpoint, Via, register};
use crate::ktap::{Ktap, Verdict, ensure};
use crate::machine::memory::Pages;
use crate::machine::time::{Ticks, delay, poll};
use crate::machine::{exit, interrupts};
use crate::pci::config::{self, register as header};
use crate::pci::enumerate::Functions;
use crate::println;
use crate::vtd::tables::{PageSize, READ, SecondStage, WRITE};
use crate::vtd::{Descriptor, Outcome, Queue, TimeoutPolicy, Unit, bring_up};
use mode::{End, Row};
use port::Port;

const DOMAIN: u16 = 1;
const IOVA: u64 = 0x40_0000;
const LENGTH: u32 = 8;
/// The longest time in which a fault may end by itself.
const RETURN_LIMIT_MS: u64 = 60_000;

/// The device, the port above it, and a page that it may write.
struct Rig {
    row: &'static Row,
    endpoint: Endpoint,
    bar: u32,
    port: Port,
    queue: Queue,
    page: Pages,
    give_up: Ticks,
    /// Interrupts of the port before the fault.
    before: u32,
}

type Test = fn(&Rig) -> Result<(), &'static str>;

const TESTS: [(&str, Test); 9] = [
    ("before", works),
    ("config_space", config_space),
    ("registers", registers),
    ("link_status", link_status),
    ("slot_status", slot_status),
    ("port_interrupt", port_interrupt),
    ("dma", dma),
    ("invalidation", invalidation),
    ("back_again", back_again),
];

/// Runs the test with the row `mode=NAME`.
pub fn run(cmdline: &Cmdline) -> ! {
    let name = cmdline.get("mode").unwrap_or("silent");
    let Some(row) = mode::find(name) else {
        println!("# mode={name}: no such mode; see docs/failure-modes.md");
        exit::exit(exit::USAGE)
    };
    let mut ktap = Ktap::start(TESTS.len());
    println!("# fault: {name}");
    let give_up = Ticks::from_ms(cmdline.number("giveup_ms").unwrap_or(400));
    let rig = match Rig::new(row, give_up) {
        Ok(rig) => rig,
        Err(reason) => {
            println!("Bail out! {reason}");
            ktap.result(TESTS[0].0, Verdict::Fail(reason));
            ktap.finish()
        }
    };
    for (index, (name, test)) in TESTS.iter().enumerate() {
        ktap.result(name, test(&rig).into());
        if index == 0 {
            bench::ring_doorbell(1);
        }
    }
    ktap.finish()
}

impl Rig {
    fn new(row: &'static Row, give_up: Ticks) -> Result<Self, &'static str> {
        let unit = Unit::find().ok_or("no remapping unit with a queue at 0xfed90000")?;
        let functions = Functions::enumerate();
        let mut endpoints = functions.with_id(endpoint::ID);
        let endpoint = endpoints.find_map(Endpoint::open).ok_or("no ATS test endpoint")?;
        let contain = row.end == End::Release;
        let port = Port::above(&functions, endpoint.bdf(), contain).ok_or("no port above it")?;
        let page = Pages::one();
        let domain = SecondStage::new(unit.table_levels());
        domain.map(IOVA, page.address(), PageSize::Small, READ | WRITE);
        let mut queue = bring_up::legacy(unit, &[(endpoint.bdf(), &domain, DOMAIN)])?;
        queue.timeout_policy = TimeoutPolicy::Owner;
        let bar = config::read32(endpoint.bdf(), header::BAR0);
        let before = interrupts::count(interrupts::PORT);
        Ok(Self { row, endpoint, bar, port, queue, page, give_up, before })
    }

    /// Restores the state that a reset clears, as a driver's resume does.
    fn set_up(&self) -> Result<(), &'static str> {
        let device = self.endpoint.bdf();
        config::write32(device, header::BAR0, self.bar);
        config::enable(device, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
        ensure(self.endpoint.enable_ats(), "ATS cannot be turned on")
    }

    fn write(&self, pattern: u32) -> bool {
        let done = self.endpoint.fill(IOVA, LENGTH, pattern, Via::Atc);
        done.is_ok() && self.page.read(0) as u32 == pattern
    }

    fn flush(&self) -> Outcome {
        let descriptor = Descriptor::device_page(self.endpoint.bdf(), IOVA);
        self.queue.flush(&[descriptor], self.give_up).outcome
    }

    fn repeat(&self) -> Result<(), &'static str> {
        self.endpoint.write(register::PERIOD, 1000);
        let started = self.endpoint.run(Command::StartRepeating, IOVA, LENGTH, Via::Atc);
        ensure(started.is_ok(), "the repeating write cannot be started")?;
        self.endpoint.start_reads(IOVA);
        Ok(())
    }

    /// Ends the traffic of a device that has kept its state. Reads that were lost have ended by the
    /// Completion Timeout, and the device has logged that.
    fn end_traffic(&self) -> Result<(), &'static str> {
        self.endpoint.write(register::COMMAND, Command::StopRepeating as u32);
        self.endpoint.stop_reads();
        let limit = Ticks::from_ms(RETURN_LIMIT_MS);
        ensure(poll(limit, || self.endpoint.is_idle()), "a read does not end")?;
        let lost = self.endpoint.has_timed_out();
        ensure(lost != self.row.answers, "AER does not show whether reads were lost")
    }
}

/// Sets the device up, and checks that it writes and that flushes complete. From here on the device
/// writes and reads repeatedly.
fn works(rig: &Rig) -> Result<(), &'static str> {
    rig.set_up()?;
    ensure(rig.write(0x1111_1111), "the device cannot write")?;
    ensure(rig.flush() == Outcome::Completed, "a flush does not complete")?;
    ensure(rig.write(0x2222_2222), "the device cannot write after the flush")?;
    ensure(rig.port.link_is_active(), "Link Status says that the link is down")?;
    rig.repeat()
}

fn config_space(rig: &Rig) -> Result<(), &'static str> {
    let answers = config::read32(rig.endpoint.bdf(), header::ID) == endpoint::ID;
    ensure(answers == rig.row.answers, "another answer was expected")?;
    let bar = config::read32(rig.endpoint.bdf(), header::BAR0);
    ensure(bar == if rig.row.answers { rig.bar } else { u32::MAX }, "BAR 0 reads something else")
}

fn registers(rig: &Rig) -> Result<(), &'static str> {
    let found = rig.endpoint.read(register::ID);
    let expected = if rig.row.answers { endpoint::SIGNATURE } else { u32::MAX };
    ensure(found == expected, "another answer was expected")
}

fn link_status(rig: &Rig) -> Result<(), &'static str> {
    ensure(rig.port.link_is_active() == rig.row.active, "DLLLA is not as expected")?;
    ensure(rig.port.is_contained() == (rig.row.end == End::Release), "DPC is not as expected")?;
    ensure(rig.port.errors() == rig.row.errors, "AER has other errors than expected")
}

fn slot_status(rig: &Rig) -> Result<(), &'static str> {
    ensure(rig.port.slot() == rig.row.slot, "PDS, PDC, DLLSC or ABP are not as expected")
}

fn port_interrupt(rig: &Rig) -> Result<(), &'static str> {
    let limit = if rig.row.interrupts { 500 } else { 20 };
    let came = interrupts::wait_for(interrupts::PORT, rig.before, 1, Ticks::from_ms(limit));
    ensure(came == rig.row.interrupts, "not as expected")
}

/// Checks whether the repeating write reaches memory.
fn dma(rig: &Rig) -> Result<(), &'static str> {
    rig.page.write(0, 0);
    delay(Ticks::from_ms(20));
    ensure((rig.page.read(0) != 0) == rig.row.answers, "not as expected")
}

fn invalidation(rig: &Rig) -> Result<(), &'static str> {
    ensure(rig.flush() == rig.row.flush, "it ends in another way")
}

/// Ends the fault, and checks that the device was reset or not, as its row says, and works again.
fn back_again(rig: &Rig) -> Result<(), &'static str> {
    rig.port.acknowledge();
    match rig.row.end {
        End::Reset | End::Kept => {}
        End::ClearLinkDisable => rig.port.disable_link(false),
        End::Release => rig.port.release(),
        End::PowerCycle => power_cycle(rig)?,
    }
    let limit = Ticks::from_ms(RETURN_LIMIT_MS);
    let present = || config::is_present(rig.endpoint.bdf());
    ensure(poll(limit, present), "the device does not come back")?;
    ensure(rig.port.link_is_active(), "Link Status says that the link is down")?;
    let command = config::read16(rig.endpoint.bdf(), header::COMMAND);
    let kept = rig.row.end == End::Kept;
    ensure((command != 0) == kept, "the reset state is not as expected")?;
    if kept {
        rig.end_traffic()?;
    }
    rig.set_up()?;
    ensure(rig.endpoint.read(register::ATC_ENTRIES) == 0, "the ATC is not empty")?;
    ensure(rig.write(0x3333_3333), "the device cannot write")?;
    // If the device is present and answers no invalidation, the fault may still last.
    let completes = || rig.flush() == Outcome::Completed;
    ensure(poll(limit, completes), "no flush completes")?;
    ensure(rig.write(0x4444_4444), "the device cannot write after the flush")
}

/// Does what a hot-plug driver does after the button was pressed: it stops the device, and powers
/// the slot down. The card is pulled out, and later a new one is plugged in.
fn power_cycle(rig: &Rig) -> Result<(), &'static str> {
    rig.endpoint.write(register::COMMAND, Command::StopRepeating as u32);
    rig.port.power(false);
    ensure(!rig.port.link_is_active(), "the link is up without power")?;
    let pulled = rig.port.slot() & (port::PRESENT | port::PRESENCE_CHANGED);
    ensure(pulled == port::PRESENCE_CHANGED, "the card has not been pulled out")?;
    ensure(!config::is_present(rig.endpoint.bdf()), "the device answers without power")?;
    ensure(rig.port.take_new_card(Ticks::from_ms(RETURN_LIMIT_MS)), "no new card comes")
}
