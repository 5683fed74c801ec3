//! DMA remapping (`VT-d 3`, `VT-d 4`): from a request to an address or a fault.
//!
//! ```text
//! DmaPort --> shard (locked) --> last hit --> context cache --> PASID cache --> IOTLB --> address
//!                                                | miss            | miss        | miss
//!                                             root, context    PASID tables   paging-structure
//!                                                                             cache, walk
//! ```
//!
//! All caches keep what they hold until software invalidates it, whatever the tables say by then,
//! as hardware does. What is not present is never kept.
//!
//! Every [`DmaPort`] has a shard with caches of its own behind a lock of its own: device threads do
//! not meet. An invalidation of a domain, or of everything, only notes when that was, and all
//! shards look there; others go through the shards. [`Translator::drain`] then waits for the requests
//! that are under way, so that after it nobody uses an older translation: a [`Mapped`] address
//! keeps its shard locked while it is used.

mod answer;
mod context;
mod failure;
mod first_stage;
mod iotlb;
mod page_request;
mod paging;
mod pasid;
mod second_stage;
mod shard;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

pub(crate) use failure::Fault;
use iotlb::Invalidations;
use shard::{Caches, Shard};

use super::config::UnitConfig;
use crate::Memory;
use crate::ats::{Access, DmaRequest, RequestError, Translation, TranslationRequest};
use crate::ids::Gpa;
use crate::spec::control::{RootTableAddress, TableMode};
use crate::spec::descriptor::{ContextScope, IotlbScope, PasidScope};

/// Addresses 0xfee00000 to 0xfeefffff: a write there is an interrupt, and no page may map there
/// (`VT-d 3.15`).
pub const fn in_interrupt_range(address: u64) -> bool {
    address >> 20 == 0xfee
}

/// What the translation of one page has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    output: Gpa,
    /// log2 of the size of the page that maps it.
    order: u8,
    read: bool,
    write: bool,
    /// Writing needs no dirty bit set first.
    dirty: bool,
}

impl Mapping {
    /// Whether it permits this access.
    const fn grants(&self, access: Access) -> bool {
        match access {
            Access::Read => self.read,
            Access::Write => self.write,
        }
    }

    /// Whether it can serve this access without a walk.
    const fn serves(&self, access: Access) -> bool {
        matches!(access, Access::Read) || self.dirty || !self.write
    }
}

/// The byte of the page at `output` that `address` names.
const fn with_offset(output: u64, address: u64, order: u8) -> Gpa {
    let mask = (1_u64 << order) - 1;
    Gpa((output & !mask) | (address & mask))
}

/// What GCMD has switched on and latched.
#[derive(Debug, Clone, Copy, Default)]
struct Tables {
    /// GSTS.TES.
    enabled: bool,
    /// RTADDR as SRTP has latched it.
    root: RootTableAddress,
}

impl Tables {
    fn mode(&self, config: &UnitConfig) -> TableMode {
        match self.root.mode() {
            0 => TableMode::Legacy,
            1 if config.scalable_mode => TableMode::Scalable,
            _ => TableMode::Invalid,
        }
    }
}

/// The DMA side of a unit, shared by everybody who sends requests through it.
#[derive(Debug)]
pub struct Translator {
    config: UnitConfig,
    invalidations: Invalidations,
    shards: Vec<Shard>,
    next_port: AtomicUsize,
}

/// How many ports have caches of their own; more of them share.
const SHARDS: usize = 8;

impl Translator {
    pub(super) fn new(config: UnitConfig) -> Self {
        Self {
            config,
            invalidations: Invalidations::new(config.domain_bits),
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            next_port: AtomicUsize::new(0),
        }
    }

    /// A way through the unit for one device or device thread.
    pub fn port(self: &Arc<Self>) -> DmaPort {
        let shard = self.next_port.fetch_add(1, Ordering::SeqCst) % SHARDS;
        DmaPort { translator: self.clone(), shard }
    }

    fn set_tables(&self, change: impl Fn(&mut Tables)) {
        for shard in &self.shards {
            change(&mut shard.lock().tables);
        }
    }

    pub(super) fn set_enabled(&self, enabled: bool) {
        self.set_tables(|tables| tables.enabled = enabled);
    }

    pub(super) fn set_root(&self, root: RootTableAddress) {
        self.set_tables(|tables| tables.root = root);
    }

    fn tables(&self) -> Tables {
        self.shards[0].lock().tables
    }

    pub(super) fn enabled(&self) -> bool {
        self.tables().enabled
    }

    /// How the latched root table is to be read.
    pub(super) fn mode(&self) -> TableMode {
        self.tables().mode(&self.config)
    }

    /// Locks every shard that has ever been used, in turn.
    fn for_each_used(&self, mut action: impl FnMut(&mut Caches)) {
        let ports = self.next_port.load(Ordering::SeqCst);
        for shard in self.shards.iter().take(ports).filter(|shard| shard.is_used()) {
            action(&mut shard.lock());
        }
    }

    pub(super) fn invalidate_contexts(&self, scope: ContextScope) {
        let scalable = self.mode() == TableMode::Scalable;
        self.for_each_used(|caches| caches.invalidate_contexts(scope, scalable));
    }

    pub(super) fn invalidate_pasids(&self, scope: PasidScope) {
        self.for_each_used(|caches| caches.invalidate_pasids(scope));
    }

    pub(super) fn invalidate_iotlb(&self, scope: IotlbScope) {
        match scope {
            IotlbScope::Global => self.invalidations.add_all(),
            IotlbScope::Domain(domain) => self.invalidations.add(domain),
            IotlbScope::Pages(domain, range) => {
                self.for_each_used(|caches| caches.invalidate_pages(domain, range));
            }
            IotlbScope::Pasid(domain, pasid, range) => {
                self.for_each_used(|caches| caches.invalidate_pasid_pages(domain, pasid, range));
            }
        }
    }

    /// Returns when no request that was under way is under way any more.
    pub(super) fn drain(&self) {
        self.for_each_used(|_| {});
    }
}

/// A way through the unit for one device or device thread. Ports work side by side.
#[derive(Debug)]
pub struct DmaPort {
    translator: Arc<Translator>,
    shard: usize,
}

/// An address that a request may use, for as long as this lives: invalidations complete after it.
#[derive(Debug)]
pub struct Mapped<'a> {
    address: Gpa,
    _in_use: MutexGuard<'a, Caches>,
}

impl Mapped<'_> {
    /// Where the request goes.
    pub fn address(&self) -> Gpa {
        self.address
    }
}

impl DmaPort {
    /// Where a DMA request goes. [`super::Unit::report`] wants to hear of an error.
    pub fn translate<'a>(
        &'a self,
        request: &DmaRequest,
        memory: &Memory,
    ) -> Result<Mapped<'a>, BlockedRequest> {
        let mut caches = self.translator.shards[self.shard].lock_for_use();
        match (Lookup { translator: &self.translator, memory }).dma(&mut caches, request) {
            Ok(address) => Ok(Mapped { address, _in_use: caches }),
            Err(fault) => Err(BlockedRequest(fault)),
        }
    }

    /// What an ATS Translation Request is answered, with the fault to record if there is one.
    pub(super) fn translation_request(
        &self,
        request: &TranslationRequest,
        memory: &Memory,
    ) -> Result<Translation, (RequestError, Option<Fault>)> {
        let mut caches = self.translator.shards[self.shard].lock_for_use();
        Lookup { translator: &self.translator, memory }.translation(&mut caches, request)
    }
}

/// A request that the unit has blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} was blocked at {}: {}", self.0.requester, self.0.address, self.0.reason)]
pub struct BlockedRequest(pub(super) Fault);

/// One request on its way: what it needs besides the caches of its shard.
struct Lookup<'a> {
    translator: &'a Translator,
    memory: &'a Memory,
}

#[cfg(test)]
mod tests;
