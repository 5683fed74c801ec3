//! The endpoint's ATC, and the loss of its link.

use crate::bench;
use crate::device::CopyEngine;
use crate::device::endpoint::{self, Command, Endpoint, Via, register};
use crate::ktap::{Verdict, ensure};
use crate::machine::memory::Pages;
use crate::machine::time::{Ticks, delay};
use crate::pci::config;
use crate::selftest::Machine;
use crate::vtd::bring_up::healthy_limit;
use crate::vtd::tables::{PageSize, READ, SecondStage, WRITE};
use crate::vtd::{Descriptor, Queue, bring_up};

const DOMAIN: u16 = 1;
const IOVA: u64 = 0x20_0000;
const LENGTH: u32 = 8;

/// Attaches the endpoint to a domain with one page, and turns its ATS on.
fn set_up(
    machine: &Machine,
    endpoint: &Endpoint,
    page: Pages,
) -> Result<(Queue, SecondStage), &'static str> {
    let domain = SecondStage::new(machine.unit.table_levels());
    domain.map(IOVA, page.address(), PageSize::Small, READ | WRITE);
    let queue = bring_up::legacy(machine.unit, &[(endpoint.bdf(), &domain, DOMAIN)])?;
    ensure(endpoint.enable_ats(), "ATS cannot be turned on")?;
    Ok((queue, domain))
}

fn both(pattern: u32) -> u64 {
    u64::from(pattern) << 32 | u64::from(pattern)
}

/// After a change of the page table the device still writes to the old page. An IOTLB invalidation
/// does not change that; a Device-TLB invalidation does.
pub(super) fn until_invalidated(machine: &Machine) -> Verdict {
    const PATTERNS: [u32; 3] = [0x1111_1111, 0x2222_2222, 0x3333_3333];
    machine.with_endpoint(|endpoint| {
        let (old, new) = (Pages::one(), Pages::one());
        let (queue, domain) = set_up(machine, endpoint, old)?;
        let write = |pattern| endpoint.fill(IOVA, LENGTH, pattern, Via::Atc);
        let flush = |descriptor| queue.flush(&[descriptor], healthy_limit()).is_healthy();

        let translated = endpoint.run(Command::Translate, IOVA, LENGTH, Via::Atc);
        ensure(translated.is_ok(), "the translation request failed")?;
        ensure(endpoint.read(register::ATC_ENTRIES) == 1, "the ATC does not hold one entry")?;
        ensure(write(PATTERNS[0]).is_ok(), "the first write failed")?;
        ensure(old.read(0) == both(PATTERNS[0]), "the first write went elsewhere")?;

        domain.map(IOVA, new.address(), PageSize::Small, READ | WRITE);
        let page = Descriptor::page(DOMAIN, IOVA, machine.unit.capability());
        ensure(flush(page), "the unit's flush failed")?;
        ensure(write(PATTERNS[1]).is_ok(), "the second write failed")?;
        ensure(old.read(0) == both(PATTERNS[1]), "the ATC was not used")?;

        let requests = endpoint.read(register::INVALIDATIONS);
        ensure(flush(Descriptor::device_page(endpoint.bdf(), IOVA)), "the device's flush failed")?;
        let received = endpoint.read(register::INVALIDATIONS).wrapping_sub(requests);
        ensure(received == 1, "the device did not get one Invalidate Request")?;
        ensure(endpoint.read(register::ATC_ENTRIES) == 0, "the ATC is not empty")?;
        ensure(write(PATTERNS[2]).is_ok(), "the third write failed")?;
        ensure(old.read(0) == both(PATTERNS[1]), "the third write went to the old page")?;
        ensure(new.read(0) == both(PATTERNS[2]), "the third write did not arrive")
    })
}

fn start_repeating(endpoint: &Endpoint) -> Result<(), &'static str> {
    const PERIOD_US: u32 = 1000;
    endpoint.write(register::PERIOD, PERIOD_US);
    let started = endpoint.run(Command::StartRepeating, IOVA, LENGTH, Via::Atc);
    ensure(started.is_ok(), "the repeating write cannot be started")
}

/// The device writes repeatedly, until it gets the command to stop.
pub(super) fn repeating_write(machine: &Machine) -> Verdict {
    const BUSY: u32 = 1 << 0;
    machine.with_endpoint(|endpoint| {
        let page = Pages::one();
        let _queue = set_up(machine, endpoint, page)?;
        start_repeating(endpoint)?;
        ensure(endpoint.read(register::STATUS) & BUSY != 0, "STATUS is not busy")?;
        ensure(endpoint.wait_for_writes(3, Ticks::from_ms(500)), "no writes")?;
        endpoint.write(register::COMMAND, Command::StopRepeating as u32);
        ensure(endpoint.read(register::STATUS) & BUSY == 0, "STATUS stays busy")?;
        let (count, word) = (endpoint.read(register::COUNT), page.read(0));
        delay(Ticks::from_ms(5));
        ensure(endpoint.read(register::COUNT) == count, "it does not stop")?;
        ensure(word != 0 && page.read(0) == word, "memory does not show it")
    })
}

/// With the link down, configuration space and BAR read as all ones, and repeated DMA does not
/// arrive.
pub(super) fn silent_drop(machine: &Machine) -> Verdict {
    const DROP_FIRST_LINK: u32 = 1;
    let Some(endpoint) = &machine.endpoint else {
        return Verdict::Skip("needs the ATS test endpoint");
    };
    let page = Pages::one();
    let prepared = set_up(machine, endpoint, page).and_then(|set_up| {
        start_repeating(endpoint)?;
        ensure(endpoint.wait_for_writes(1, Ticks::from_ms(500)), "no writes")?;
        Ok(set_up)
    });
    if let Err(reason) = prepared {
        return Verdict::Fail(reason);
    }
    bench::ring_doorbell(DROP_FIRST_LINK);
    if config::is_present(endpoint.bdf()) {
        endpoint.write(register::COMMAND, Command::StopRepeating as u32);
        return Verdict::Skip("the link stays up: run with --drop-link doorbell");
    }
    let check = || {
        for offset in [0x00, 0x04, 0x10, 0x34, 0x100] {
            let all_ones = config::read32(endpoint.bdf(), offset) == u32::MAX;
            ensure(all_ones, "configuration space still shows something")?;
        }
        for offset in [register::ID, register::STATUS, register::COUNT, endpoint::BAR_SIZE - 4] {
            ensure(endpoint.read(offset) == u32::MAX, "the BAR still shows something")?;
        }
        let word = page.read(0);
        delay(Ticks::from_ms(10));
        ensure(page.read(0) == word, "DMA still arrives")
    };
    check().into()
}
