//! Writes an NVMe disk, reads it, and verifies the data: `test=nvme`, with `mib=N` MiB. The
//! remapping unit is on; with `ats=on` the controller translates by its ATC. With `fault=on` this
//! program rings the doorbell after the flush, and restarts the controller when it is present
//! again. The fault must not lose data.

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
/// The longest time in which a fault may end by itself.
const RETURN_LIMIT_MS: u64 = 60_000;
const CHUNK: u64 = PAGES as u64 * PAGE_SIZE;

struct Rig {
    disk: Nvme,
    queue: Queue,
    bytes: u64,
    ats: bool,
    /// The port above, with `fault=on`.
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

/// Runs the test with the words `ats=`, `mib=` and `fault=`.
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

/// The value of every word of a page, different for each page.
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

/// Checks that the controller answers an invalidation of its ATC.
fn invalidate(rig: &Rig) -> Result<(), &'static str> {
    let page = Descriptor::device_page(rig.disk.bdf(), rig.disk.data().address());
    let flush = rig.queue.flush(&[page], healthy_limit());
    ensure(flush.outcome == Outcome::Completed, "the flush does not complete")
}

/// Rings the doorbell, waits until the device is present again, and starts it. Ends a fault that
/// only software ends: a slot without power, and a containment.
fn survive(rig: &Rig) -> Result<(), &'static str> {
    let Some(port) = &rig.port else { return Ok(()) };
    let limit = Ticks::from_ms(RETURN_LIMIT_MS);
    bench::ring_doorbell(1);
    if port.slot() & BUTTON_PRESSED != 0 {
        port.power(false);
        ensure(port.take_new_card(limit), "no new card comes")?;
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
            ensure(data.page_is(page, tag(offset, page)), "the data differs")?;
        }
    }
    Ok(())
}
