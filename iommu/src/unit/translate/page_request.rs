//! Page Requests (`VT-d 7.4`): whether the tables allow them, and which translations they
//! invalidate.

use super::context::ContextEntry;
use super::failure::{CA, Failure, Fault, UR};
use super::pasid::Stage;
use super::shard::{Caches, Context};
use super::{DmaPort, Lookup};
use crate::Memory;
use crate::ats::{Access, PageRange, PageRequest, RequestError};
use crate::spec::control::TableMode;
use crate::spec::descriptor::IotlbScope;
use crate::spec::fault::FaultReason as R;

impl DmaPort {
    /// Checks whether the tables allow the request.
    pub(crate) fn check_page_request(
        &self,
        request: &PageRequest,
        memory: &Memory,
    ) -> Result<(), Fault> {
        self.page_request_context(request, memory).map(|_| ()).map_err(|failure| Fault {
            requester: request.requester,
            pasid: request.pasid,
            privileged: request.privileged,
            execute: request.execute,
            address: request.address,
            address_type: 0,
            access: if request.write { Access::Write } else { Access::Read },
            reason: failure.reason,
            silenced: failure.silenced,
            answer: RequestError::UnsupportedRequest,
        })
    }

    /// Drops all translations of the page.
    pub(crate) fn invalidate_for_page_request(&self, request: &PageRequest, memory: &Memory) {
        let Ok(context) = self.page_request_context(request, memory) else { return };
        let page = PageRange::page(request.address);
        match (context.stage, context.pasid) {
            (Stage::Second { .. }, _) | (_, None) => {
                self.translator.invalidate_iotlb(IotlbScope::Pages(context.domain, page));
            }
            (Stage::Nested { .. }, _) => {
                self.translator.invalidate_iotlb(IotlbScope::Domain(context.domain));
            }
            (Stage::First(_) | Stage::PassThrough, Some(pasid)) => {
                let scope = IotlbScope::Pasid(context.domain, pasid, Some(page));
                self.translator.invalidate_iotlb(scope);
            }
        }
    }

    fn page_request_context(
        &self,
        request: &PageRequest,
        memory: &Memory,
    ) -> Result<Context, Failure> {
        let mut caches = self.translator.shards[self.shard].lock_for_use();
        Lookup { translator: &self.translator, memory }.page_request(&mut caches, request)
    }
}

impl Lookup<'_> {
    fn page_request(&self, caches: &mut Caches, request: &PageRequest) -> Result<Context, Failure> {
        let legacy = Failure::new(R::PAGE_REQUEST_IN_LEGACY_MODE, UR);
        if caches.tables.mode(&self.translator.config) == TableMode::Legacy {
            return Err(legacy);
        }
        match self.context_entry(caches, request.requester, request.pasid)? {
            // The entry was cached before the table mode changed.
            ContextEntry::Legacy { .. } => Err(legacy),
            ContextEntry::Scalable(entry) if !entry.low.page_requests() => {
                let fpd = entry.low.fault_disable();
                Err(Failure::qualified(R::SM_PAGE_REQUESTS_DISABLED, CA, fpd))
            }
            ContextEntry::Scalable(entry) => {
                self.pasid_entry(caches, request.requester, &entry, request.pasid)
            }
        }
    }
}
