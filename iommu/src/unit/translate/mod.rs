//! DMA remapping (`VT-d 3`, `VT-d 4`): from a request to an address or a fault.
//!
//! ```text
//! DmaPort --> shard (locked) --> last hit --> context cache --> PASID cache --> IOTLB --> address
//!                                                | miss            | miss        | miss
//!                                             root, context    PASID tables   paging-structure
//!                                                                             cache, walk
//! ```
//!
//! All caches keep an entry until software invalidates it, even if the tables have changed, as
//! hardware does. An entry that is not present or not valid is cached with CAP.CM only.
//!
//! Each [`DmaPort`] has its own shard of caches with its own lock, so that device threads do not
//! contend. An invalidation of a domain, or of all domains, only advances a counter that all shards
//! read. Other invalidations visit each shard. [`Translator::drain`] then waits for requests under
//! way: a [`Mapped`] address keeps its shard locked while it is used. No request uses an older
//! translation after the drain.

mod answer;
mod context;
mod failure;
mod first_stage;
mod iotlb;
mod page_request;
mod paging;
mod pasid;
mod peek;
mod second_stage;
mod shard;
mod update;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

pub(crate) use failure::Fault;
use iotlb::Invalidations;
pub use peek::TableEntry;
use shard::{Caches, Kept, Shard};

use super::config::UnitConfig;
use crate::Memory;
use crate::ats::{Access, DmaRequest, RequestError, Translation, TranslationRequest};
use crate::ids::Gpa;
use crate::spec::control::{RootTableAddress, TableMode};
use crate::spec::descriptor::{ContextScope, IotlbScope, PasidScope};

/// Whether `address` is in 0xfee00000 to 0xfeefffff. A write there is an interrupt, and pages must
/// not map there (`VT-d 3.15`).
pub const fn in_interrupt_range(address: u64) -> bool {
    address >> 20 == 0xfee
}

/// The translation of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    output: Gpa,
    /// log2 of the page's size.
    order: u8,
    read: bool,
    write: bool,
    /// A write does not have to set the dirty bit first.
    dirty: bool,
}

impl Mapping {
    /// Whether the mapping permits this access.
    const fn grants(&self, access: Access) -> bool {
        match access {
            Access::Read => self.read,
            Access::Write => self.write,
        }
    }

    /// Whether the mapping can serve this access without a walk.
    const fn serves(&self, access: Access) -> bool {
        matches!(access, Access::Read) || self.dirty || !self.write
    }
}

/// The address in the page at `output` with the page offset of `address`.
const fn with_offset(output: u64, address: u64, order: u8) -> Gpa {
    let mask = (1_u64 << order) - 1;
    Gpa((output & !mask) | (address & mask))
}

/// The state that GCMD has enabled and latched.
#[derive(Debug, Clone, Copy, Default)]
struct Tables {
    /// GSTS.TES.
    enabled: bool,
    /// RTADDR at the last SRTP.
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

/// The DMA side of a unit, which all ports share.
#[derive(Debug)]
pub struct Translator {
    config: UnitConfig,
    invalidations: Invalidations,
    shards: Vec<Shard>,
    next_port: AtomicUsize,
}

/// The number of shards. More ports than this share shards.
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

    /// A port for one device or one device thread.
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

    /// The mode of the latched root table.
    pub(super) fn mode(&self) -> TableMode {
        self.tables().mode(&self.config)
    }

    /// Calls `action` with each shard that was ever used, one after the other.
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

    #[inline]
    pub(super) fn invalidate_iotlb(&self, scope: IotlbScope) {
        match scope {
            IotlbScope::Global => self.invalidations.add_all(),
            IotlbScope::Domain(domain) => self.invalidations.add(domain),
            IotlbScope::Pages(..) | IotlbScope::Pasid(..) => self.invalidate_pages(scope, false),
        }
    }

    /// As [`Self::invalidate_iotlb`], but keeps paging-structure entries, which IH=1 permits for
    /// page-selective invalidations.
    pub(super) fn invalidate_leaves(&self, scope: IotlbScope) {
        match scope {
            IotlbScope::Global | IotlbScope::Domain(_) => self.invalidate_iotlb(scope),
            IotlbScope::Pages(..) | IotlbScope::Pasid(..) => self.invalidate_pages(scope, true),
        }
    }

    fn invalidate_pages(&self, scope: IotlbScope, structures: bool) {
        let kept = Kept { structures, partly_named: self.config.exact_pages };
        self.for_each_used(|caches| match scope {
            IotlbScope::Pages(domain, range) => caches.invalidate_pages(domain, range, kept),
            IotlbScope::Pasid(domain, pasid, range) => {
                caches.invalidate_pasid_pages(domain, pasid, range, kept);
            }
            IotlbScope::Global | IotlbScope::Domain(_) => {}
        });
    }

    /// Drops all cached translations, as a change of the table pointer or of TE does (`VT-d 6.6`,
    /// `VT-d 11.4.4.1`), and waits for the requests that are under way.
    pub(super) fn invalidate_all(&self) {
        self.invalidate_contexts(ContextScope::Global);
        self.invalidate_pasids(PasidScope::Global);
        self.invalidate_iotlb(IotlbScope::Global);
        self.drain();
    }

    /// Waits for the requests that are under way.
    pub(super) fn drain(&self) {
        self.for_each_used(|_| {});
    }
}

/// A way through the unit for one device or one device thread. Ports work in parallel.
#[derive(Debug)]
pub struct DmaPort {
    translator: Arc<Translator>,
    shard: usize,
}

/// A translated address. The request may use it while this guard lives: invalidations complete
/// after that.
#[derive(Debug)]
pub struct Mapped<'a> {
    address: Gpa,
    _in_use: MutexGuard<'a, Caches>,
}

impl Mapped<'_> {
    /// The translated address.
    pub fn address(&self) -> Gpa {
        self.address
    }
}

impl DmaPort {
    /// Translates a DMA request.
    ///
    /// # Errors
    /// The blocked request, for [`super::Unit::report`].
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

    /// Answers an ATS Translation Request: the completion, and the fault to record.
    pub(super) fn translation_request(
        &self,
        request: &TranslationRequest,
        memory: &Memory,
    ) -> (Result<Translation, RequestError>, Option<Fault>) {
        let mut caches = self.translator.shards[self.shard].lock_for_use();
        Lookup { translator: &self.translator, memory }.translation(&mut caches, request)
    }
}

/// A request that the unit has blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} was blocked at {}: {}", self.0.requester, self.0.address, self.0.reason)]
pub struct BlockedRequest(pub(super) Fault);

/// A request, with the tables and memory that it needs besides the caches of its shard.
struct Lookup<'a> {
    translator: &'a Translator,
    memory: &'a Memory,
}

#[cfg(test)]
mod tests;
