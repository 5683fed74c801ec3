//! The unit, two devices, and a mapped page for each. The devices are the victim, whose link drops,
//! and a healthy neighbour on the same queue. Without an ATS endpoint an edu device is the victim,
//! and only flushes can be measured.

use crate::device::endpoint::{self, Endpoint, Via, register};
use crate::device::{CopyEngine, edu};
use crate::drop::domain::DomainLock;
use crate::machine::cpu::InterruptsOff;
use crate::machine::memory::Pages;
use crate::machine::time::{Deadline, Ticks};
use crate::pci::Bdf;
use crate::pci::enumerate::Functions;
use crate::vtd::registers::Capability;
use crate::vtd::tables::{PageSize, READ, SecondStage, WRITE};
use crate::vtd::{Descriptor, Flush, Outcome, Queue, TimeoutPolicy, Unit, bring_up};

/// The I/O virtual address of every target's page.
const IOVA: u64 = 0x10_0000;
/// Further pages, which a target uses in turn, and one for each of its other CPUs.
const TURNS: u64 = 64;
const PAGE_BYTES: u64 = PageSize::Small.bytes();
/// Bytes that one DMA operation fills.
const LENGTH: u32 = 64;
const PATTERN: u32 = 0x6c69_6e6b;

/// The queue and the devices of the test.
pub struct Rig {
    /// The invalidation queue.
    pub queue: Queue,
    /// The device whose link drops.
    pub victim: Target,
    /// The healthy neighbour, if there is a second device.
    pub neighbor: Option<Target>,
}

/// A device with a domain of its own and one page of memory.
pub struct Target {
    engine: Engine,
    domain: SecondStage,
    domain_id: u16,
    page: Pages,
    capability: Capability,
    lock: DomainLock,
}

enum Engine {
    Ats(Endpoint),
    Plain(edu::Edu),
}

impl Rig {
    /// Finds the devices, and enables the unit.
    pub fn new(timeout_policy: TimeoutPolicy) -> Result<Self, &'static str> {
        let unit = Unit::find().ok_or("no remapping unit with a queue at 0xfed90000")?;
        if !unit.extended_capability().has_device_tlb() {
            return Err("the unit knows no device-TLB");
        }
        let functions = Functions::enumerate();
        let ats = |bdf| Some(Engine::Ats(Endpoint::open(bdf)?));
        let plain = |bdf| Some(Engine::Plain(edu::Edu::open(bdf)?));
        let endpoints = functions.with_id(endpoint::ID).filter_map(ats);
        let mut engines = endpoints.chain(functions.with_id(edu::ID).filter_map(plain));
        let mut target = |id| engines.next().map(|engine| Target::new(unit, engine, id));
        let victim = target(1).ok_or("no device that can lose its link")?;
        let neighbor = target(2);

        let both = [Some(&victim), neighbor.as_ref().or(Some(&victim))];
        let attachments = both.map(|it| it.unwrap_or(&victim).attachment());
        let mut queue = bring_up::legacy(unit, &attachments)?;
        queue.timeout_policy = timeout_policy;
        Ok(Self { queue, victim, neighbor })
    }

    /// Has each device write its page, by a translation in its ATC where it has one.
    pub fn prove_dma(&self) -> Result<(), &'static str> {
        for target in [Some(&self.victim), self.neighbor.as_ref()].into_iter().flatten() {
            target.prove_dma()?;
        }
        Ok(())
    }
}

impl Target {
    fn new(unit: Unit, engine: Engine, domain_id: u16) -> Self {
        let domain = SecondStage::new(unit.table_levels());
        let page = Pages::one();
        domain.map(IOVA, page.address(), PageSize::Small, READ | WRITE);
        let (capability, lock) = (unit.capability(), DomainLock::new());
        Self { engine, domain, domain_id, page, capability, lock }
    }

    /// Its requester id.
    pub fn bdf(&self) -> Bdf {
        self.engine.bdf()
    }

    fn attachment(&self) -> bring_up::Attachment<'_> {
        (self.bdf(), &self.domain, self.domain_id)
    }

    fn prove_dma(&self) -> Result<(), &'static str> {
        match &self.engine {
            Engine::Ats(endpoint) => {
                if !endpoint.enable_ats() {
                    return Err("the endpoint has no ATS");
                }
                self.cache_page()
            }
            Engine::Plain(edu) => {
                self.page.write(0, PATTERN.into());
                let copied = edu.copy(IOVA, IOVA + 8, 8);
                let arrived = copied.is_ok() && self.page.read(1) == PATTERN.into();
                if arrived { Ok(()) } else { Err("DMA did not reach memory") }
            }
        }
    }

    /// Has the endpoint write the page by its ATC, which holds the translation then. Does nothing
    /// for a device without ATC.
    pub fn cache_page(&self) -> Result<(), &'static str> {
        self.cache(IOVA)
    }

    fn cache(&self, iova: u64) -> Result<(), &'static str> {
        let Engine::Ats(endpoint) = &self.engine else { return Ok(()) };
        self.page.write(0, 0);
        endpoint
            .fill(iova, LENGTH, PATTERN, Via::Atc)
            .map_err(|_| "the endpoint could not write its page")?;
        let doubled = u64::from(PATTERN) << 32 | u64::from(PATTERN);
        if self.page.read(0) != doubled {
            return Err("DMA did not reach memory");
        }
        if endpoint.read(register::ATC_ENTRIES) == 0 {
            return Err("the endpoint cached nothing");
        }
        Ok(())
    }

    /// Takes the page out of the tables, and leaves the caches as they are.
    pub fn unmap(&self) {
        self.domain.unmap(IOVA, PageSize::Small);
    }

    /// Has the endpoint write to the page by its ATC, whatever comes of it. Does nothing for a device
    /// without ATC.
    pub fn touch(&self) {
        self.touch_at(IOVA);
    }

    fn touch_at(&self, iova: u64) {
        if let Engine::Ats(endpoint) = &self.engine {
            endpoint.fill(iova, LENGTH, PATTERN, Via::Atc).ok();
        }
    }

    /// Fails if the ATC holds a translation after a healthy flush.
    pub fn expect_empty_atc(&self) -> Result<(), &'static str> {
        match &self.engine {
            Engine::Ats(endpoint) if endpoint.read(register::ATC_ENTRIES) != 0 => {
                Err("the flush left a translation in the ATC")
            }
            _ => Ok(()),
        }
    }

    /// Flushes the page as a driver does after it has unmapped it: first the unit, then the device.
    pub fn flush(&self, queue: &Queue, give_up: Ticks) -> Flush {
        self.flush_and(queue, give_up, || ())
    }

    /// As [`Self::flush`], and calls `begun` under the lock of the domain.
    pub fn flush_and(&self, queue: &Queue, give_up: Ticks, begun: impl FnOnce()) -> Flush {
        let _interrupts = InterruptsOff::enter();
        let _domain = self.lock.lock();
        begun();
        queue.flush(&self.invalidation(IOVA), give_up)
    }

    /// Maps another page than in the last 64 turns, has the device write it, unmaps it, flushes it,
    /// and has the device write to it once more, whatever comes of it.
    pub fn take_turn(&self, queue: &Queue, turn: u64, give_up: Ticks) -> Flush {
        let iova = IOVA + (1 + turn % TURNS) * PAGE_BYTES;
        self.domain.map(iova, self.page.address(), PageSize::Small, READ | WRITE);
        // A host may have isolated the device, or reset it.
        self.cache(iova).ok();
        self.domain.unmap(iova, PageSize::Small);
        let flush = {
            let _interrupts = InterruptsOff::enter();
            let _domain = self.lock.lock();
            queue.flush(&self.invalidation(iova), give_up)
        };
        self.touch_at(iova);
        flush
    }

    /// Flushes a page that is not mapped, when the CPUs that came before have flushed theirs. Returns
    /// the time with the wait for them, and the outcome.
    pub fn flush_after_others(
        &self,
        queue: &Queue,
        number: u64,
        give_up: Ticks,
    ) -> (Ticks, Outcome) {
        let _interrupts = InterruptsOff::enter();
        let deadline = Deadline::after(give_up);
        let _domain = self.lock.lock();
        let left = Ticks(give_up.0.saturating_sub(deadline.elapsed().0));
        if left.0 == 0 {
            return (deadline.elapsed(), Outcome::Stalled);
        }
        let iova = IOVA + (1 + TURNS + number) * PAGE_BYTES;
        let outcome = queue.flush(&self.invalidation(iova), left).outcome;
        (deadline.elapsed(), outcome)
    }

    fn invalidation(&self, iova: u64) -> [Descriptor; 2] {
        let page = Descriptor::page(self.domain_id, iova, self.capability);
        [page, Descriptor::device_page(self.bdf(), iova)]
    }
}

impl Engine {
    fn bdf(&self) -> Bdf {
        match self {
            Self::Ats(endpoint) => endpoint.bdf(),
            Self::Plain(edu) => edu.bdf(),
        }
    }
}
