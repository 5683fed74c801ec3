//! An NVMe disk, written and read with the data verified: `test=nvme`. `ats=on` lets the controller
//! translate by its own ATC, with the remapping unit on in either case; `mib=N` says how much. With
//! `fault=on` the doorbell is rung when everything has been flushed, and the controller is started anew
//! when it is there again: a fault must not have cost any data.

use crate::bench;
use crate::cmdline::Cmdline;
use crate::device::nvme::{self, Nvme, PAGES};
use crate::fault::port::{BUTTON_PRESSED, Port};
use crate::ktap::{Ktap, Verdict, ensure};
use crate::machine::memory::PAGE_SIZE;
use crate::machine::time::{Ticks, poll};
use crate::pci::config;
use crate::pci::enumerate::Functions;
use crate::println;
use crate::vtd::bring_up::healthy_limit;
use crate::vtd::tables::{PageSize, READ, SecondStage, WRITE};
use crate::vtd::{Descriptor, Outcome, Queue, Unit, bring_up};

const DOMAIN: u16 = 1;
/// How long a fault may take to end by itself.
const RETURN_LIMIT_MS: u64 = 60_000;
const CHUNK: u64 = PAGES as u64 * PAGE_SIZE;

struct Rig {
    disk: Nvme,
    queue: Queue,
    bytes: u64,
    ats: bool,
    /// The port above, if something is to happen to it.
    port: Option<Port>,
}

type Test = fn(&Rig) -> Result<(), &'static str>;

const TESTS: [(&str, Test); 6] = [
    ("start", start),
    ("write", write),
    ("flush", |rig| rig.disk.flush()),
    ("invalidate", invalidate),
    ("survive", survive),
    ("read_and_verify", verify),
];

/// Runs the test that the command line asks for.
pub fn run(cmdline: &Cmdline) -> ! {
    let ats = cmdline.get("ats") == Some("on");
    let bytes = cmdline.number("mib").unwrap_or(64) << 20;
    let mut ktap = Ktap::start(TESTS.len());
    println!("# nvme: {} MiB, ATS {}", bytes >> 20, if ats { "on" } else { "off" });
    let fault = cmdline.get("fault") == Some("on");
    let rig = match set_up(ats, fault, bytes) {
        Ok(rig) => rig,
        Err(reason) => {
            println!("Bail out! {reason}");
            ktap.result(TESTS[0].0, Verdict::Fail(reason));
            ktap.finish()
        }
    };
    for (name, test) in TESTS {
        ktap.result(name, test(&rig).into());
    }
    ktap.finish()
}

fn set_up(ats: bool, fault: bool, bytes: u64) -> Result<Rig, &'static str> {
    let unit = Unit::find().ok_or("no remapping unit with a queue at 0xfed90000")?;
    let functions = Functions::enumerate();
    let disk = functions.with_id(nvme::ID).find_map(Nvme::open).ok_or("no NVMe controller")?;
    let domain = SecondStage::new(unit.table_levels());
    for page in disk.pages() {
        domain.map(page, page, PageSize::Small, READ | WRITE);
    }
    let queue = bring_up::legacy(unit, &[(disk.bdf(), &domain, DOMAIN)])?;
    if ats {
        ensure(disk.enable_ats(), "ATS cannot be turned on")?;
    }
    let port = if fault { Port::above(&functions, disk.bdf(), true) } else { None };
    ensure(port.is_some() == fault, "no port above it")?;
    Ok(Rig { disk, queue, bytes, ats, port })
}

fn start(rig: &Rig) -> Result<(), &'static str> {
    rig.disk.start()?;
    ensure(rig.disk.size()? >= rig.bytes, "the namespace is too small")
}

/// What every word of a page holds: another number in each.
fn tag(offset: u64, page: usize) -> u64 {
    (offset / PAGE_SIZE + page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn write(rig: &Rig) -> Result<(), &'static str> {
    let data = rig.disk.data();
    for offset in (0..rig.bytes).step_by(CHUNK as usize) {
        for page in 0..PAGES {
            data.fill_page(page, tag(offset, page));
        }
        rig.disk.write(offset)?;
    }
    Ok(())
}

/// A flush of the controller's ATC is answered while it is in use.
fn invalidate(rig: &Rig) -> Result<(), &'static str> {
    let page = Descriptor::device_page(rig.disk.bdf(), rig.disk.data().address());
    let flush = rig.queue.flush(&[page], healthy_limit());
    ensure(flush.outcome == Outcome::Completed, "the flush does not complete")
}

/// Whatever happens at the doorbell, the device is there again afterwards, and can be started. What only
/// software ends, this program ends.
fn survive(rig: &Rig) -> Result<(), &'static str> {
    let Some(port) = &rig.port else { return Ok(()) };
    let limit = Ticks::from_ms(RETURN_LIMIT_MS);
    bench::ring_doorbell(1);
    if port.slot() & BUTTON_PRESSED != 0 {
        port.power(false);
        ensure(port.take_new_card(limit), "there is no card again")?;
    }
    port.release();
    let present = || config::is_present(rig.disk.bdf());
    ensure(poll(limit, present), "the device does not come back")?;
    rig.disk.resume();
    ensure(!rig.ats || rig.disk.enable_ats(), "ATS cannot be turned on again")?;
    rig.disk.start()
}

fn verify(rig: &Rig) -> Result<(), &'static str> {
    let data = rig.disk.data();
    for offset in (0..rig.bytes).step_by(CHUNK as usize) {
        for page in 0..PAGES {
            data.fill_page(page, 0);
        }
        rig.disk.read(offset)?;
        for page in 0..PAGES {
            ensure(data.page_is(page, tag(offset, page)), "other data comes back")?;
        }
    }
    Ok(())
}
