//! In tests: the ledger of the oracle that watches guests, beside the simulation's own, which knows
//! each mapping by its address. Both must find the same accesses stale after success.

use std::collections::HashMap;

use devices::stale::{Concluded, Generation, Invalidation, Ledger, Space};
use iommu::Memory;
use iommu::ats::{Access, InvalidateRequest, Translation, TranslationRequest};
use iommu::ids::{Bdf, Gpa};
use iommu::spec::descriptor::IotlbScope;
use iommu::unit::Unit;

use super::oracle::{Mapping, Stale};

/// What a guest's oracle would know.
#[derive(Debug, Default)]
pub(super) struct Check {
    ledger: Ledger,
    /// The invalidations that each CPU waits for.
    asked: HashMap<u16, Vec<(Invalidation, Generation)>>,
}

impl Check {
    pub(super) fn ask(&mut self, cpu: u16, scope: IotlbScope, request: &InvalidateRequest) {
        let &InvalidateRequest { destination: function, pasid, global, range, .. } = request;
        let atc = Invalidation::Atc { function, pasid, global, range };
        for invalidation in [Invalidation::Iotlb(scope), atc] {
            let asked = self.ledger.ask(invalidation);
            self.asked.entry(cpu).or_default().push((invalidation, asked));
        }
    }

    pub(super) fn conclude(&mut self, cpu: u16, end: Concluded) {
        for (invalidation, asked) in self.asked.remove(&cpu).unwrap_or_default() {
            self.ledger.conclude(invalidation, asked, end);
        }
    }

    pub(super) fn translated(
        &mut self,
        request: &TranslationRequest,
        translation: &Translation,
        (unit, memory): (&Unit, &Memory),
    ) {
        let (function, pasid) = (request.requester, request.pasid);
        if translation.read || translation.write {
            let at = translation.range.start();
            let tables = unit.translator().peek(function, pasid, at, memory);
            self.ledger.translated((function, pasid), translation, tables);
        }
    }

    /// `function` has reached memory at `output` by `mapping`, which is stale or not.
    pub(super) fn access(
        &self,
        function: Bdf,
        output: Gpa,
        (mapping, stale): (&Mapping, Option<Stale>),
        (unit, memory): (&Unit, &Memory),
    ) {
        let Mapping { space, iova, .. } = *mapping;
        let found = self.ledger.find(Space::Atc(function, space), iova);
        let (known, end) = found.expect("the ATC was given this translation");
        assert_eq!(known, output, "{function} {iova}");
        let tables = unit.translator().peek(function, space, iova, memory);
        let is_mapped = tables.is_some_and(|entry| entry.permits(Access::Write, output));
        match (stale, end.filter(|_| !is_mapped)) {
            // After a failure, the next flush of the same address may have succeeded.
            (Some(stale), Some(end)) => assert!(end.success || !stale.told_success),
            (None, None) => {}
            // An earlier invalidation has covered it while it was mapped. The device should have
            // dropped it then; the software, which has unmapped it since, is yet to flush.
            (None, Some(_)) => assert!(mapping.is_unmapped(), "{function} {iova}"),
            // After a failure the ledger takes the next request for a repetition, since it does not see
            // that the address has a new use.
            (Some(stale), None) => assert!(!stale.told_success, "{function} {iova}: {end:?}"),
        }
    }
}
