//! The unit, two devices, and a mapped page for each. The devices are the victim, whose link drops,
//! and a healthy neighbour on the same queue. Without an ATS endpoint an edu device is the victim,
//! and only flushes can be measured.

use crate::device::endpoint::{self, Endpoint, Via, register};
use crate::device::{CopyEngine, edu};
use crate::machine::memory::Pages;
use crate::machine::time::Ticks;
use crate::pci::Bdf;
use crate::pci::enumerate::Functions;
use crate::vtd::tables::{PageSize, READ, SecondStage, WRITE};
use crate::vtd::{Descriptor, Flush, Queue, TimeoutPolicy, Unit, bring_up};

/// The I/O virtual address of every target's page.
const IOVA: u64 = 0x10_0000;
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

/// A device with a domain of its own and one page in it.
pub struct Target {
    engine: Engine,
    domain: SecondStage,
    domain_id: u16,
    page: Pages,
    invalidation: [Descriptor; 2],
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
        let bdf = engine.bdf();
        let invalidation = [
            Descriptor::page(domain_id, IOVA, unit.capability()),
            Descriptor::device_page(bdf, IOVA),
        ];
        Self { engine, domain, domain_id, page, invalidation }
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
        let Engine::Ats(endpoint) = &self.engine else { return Ok(()) };
        self.page.write(0, 0);
        endpoint
            .fill(IOVA, LENGTH, PATTERN, Via::Atc)
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
        if let Engine::Ats(endpoint) = &self.engine {
            endpoint.fill(IOVA, LENGTH, PATTERN, Via::Atc).ok();
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
        queue.flush(&self.invalidation, give_up)
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
