//! The caches of a port, behind a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::{ContextCache, ContextEntry};
use super::iotlb::{Age, Iotlb, Tag};
use super::paging::PagingCache;
use super::pasid::{PasidCache, Stage};
use super::update::Updates;
use super::{Mapping, Tables};
use crate::ats::PageRange;
use crate::ids::{Bdf, DomainId, Pasid};
use crate::spec::descriptor::{ContextScope, PasidScope};

/// The caches of a port. The alignment keeps the locks of two ports in different cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    used: AtomicBool,
    /// No other lock is taken while this one is held.
    caches: Mutex<Caches>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { used: AtomicBool::new(false), caches: Mutex::default() }
    }

    /// Whether a request has ever used this shard.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::SeqCst)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the caches for a request. From then on invalidations visit this shard.
    pub(super) fn lock_for_use(&self) -> MutexGuard<'_, Caches> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::SeqCst);
        }
        self.lock()
    }
}

/// The last translated page, which most requests use again.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastHit {
    pub(super) requester: Bdf,
    pub(super) pasid: Option<Pasid>,
    pub(super) privileged: bool,
    pub(super) page: u64,
    pub(super) domain: DomainId,
    pub(super) age: Age,
    pub(super) mapping: Mapping,
}

/// The context of a function's requests: the result of all tables except the paging tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) domain: DomainId,
    /// The PASID by which the tables were read.
    pub(super) pasid: Option<Pasid>,
    pub(super) stage: Stage,
    /// FPD of any entry that was read.
    pub(super) fault_disable: bool,
    pub(super) scalable: bool,
    /// SRE: the tables allow privileged requests.
    pub(super) supervisor: bool,
    /// PWSNP: walks are snooped, so that they may set accessed and dirty bits.
    pub(super) walk_snoop: bool,
}

impl Context {
    /// The tag of its translations in the IOTLB.
    pub(super) fn tag(&self) -> Tag {
        let pasid = match self.stage {
            Stage::Second { .. } => None,
            _ => self.pasid,
        };
        Tag::new(self.domain, pasid)
    }
}

/// Entries that a page-selective invalidation could drop, but keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Paging-structure entries, because software has set IH.
    pub(super) structures: bool,
    /// Large pages of which the range does not name all.
    pub(super) partly_named: bool,
}

/// All caches of a shard.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) tables: Tables,
    pub(super) last: Option<LastHit>,
    pub(super) contexts: ContextCache,
    pub(super) pasids: PasidCache,
    pub(super) iotlb: Iotlb,
    pub(super) paging: PagingCache,
    /// The updates of the walk that is under way.
    pub(super) updates: Updates,
}

impl Caches {
    pub(super) fn invalidate_contexts(&mut self, scope: ContextScope, scalable: bool) {
        self.last = None;
        self.contexts.drop_if(|requester, entry| {
            // Scalable-mode context entries have no domain, so that a domain selects all of them
            // (VT-d 6.5.2.1). Faulty entries of legacy mode are tagged by domain 0 (VT-d 6.2.2).
            let tag = match entry {
                Ok(ContextEntry::Legacy { context, .. }) => Some(context.domain),
                Err(_) if !scalable => Some(DomainId(0)),
                Ok(ContextEntry::Scalable(_)) | Err(_) => None,
            };
            match scope {
                ContextScope::Global => true,
                ContextScope::Domain(domain) => tag.map_or(scalable, |tag| tag == domain),
                ContextScope::Device { domain, source, ignored } => {
                    let named = (requester.into_bits() ^ source.into_bits()) & !ignored == 0;
                    named && tag.is_none_or(|tag| tag == domain)
                }
            }
        });
    }

    pub(super) fn invalidate_pasids(&mut self, scope: PasidScope) {
        self.last = None;
        self.pasids.drop_if(|pasid, domain| match scope {
            PasidScope::Global => true,
            PasidScope::Domain(named) => domain == named,
            PasidScope::Pasid(named, only) => domain == named && pasid == only,
        });
    }

    /// Table 23: IH keeps second-stage structures only.
    pub(super) fn invalidate_pages(&mut self, domain: DomainId, range: PageRange, kept: Kept) {
        self.last = None;
        self.iotlb.invalidate_pages(domain, range, kept.partly_named);
        if !kept.structures {
            self.paging.drop_pages(domain, range);
        }
        self.paging.drop_first_stage(domain);
    }

    pub(super) fn invalidate_pasid_pages(
        &mut self,
        domain: DomainId,
        pasid: Pasid,
        range: Option<PageRange>,
        kept: Kept,
    ) {
        self.last = None;
        let named = Tag::new(domain, Some(pasid));
        self.iotlb.invalidate_tag(named, range, kept.partly_named);
        self.iotlb.invalidate_tag(named.privileged(true), range, kept.partly_named);
        if range.is_none() || !kept.structures {
            self.paging.drop_if(range, |tag| tag == named);
        }
    }
}
