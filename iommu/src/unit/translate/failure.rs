//! Blocked requests, before and after their requester is known, and the faults of a context.

use std::collections::VecDeque;

use super::Mapping;
use super::second_stage::WalkError;
use super::shard::Context;
use super::update::TableStage;
use crate::ats::{Access, RequestError};
use crate::ids::{Bdf, Iova, Pasid};
use crate::spec::fault::FaultReason as R;

/// A blocked request, with the fields of its fault record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) requester: Bdf,
    pub(crate) pasid: Option<Pasid>,
    pub(crate) privileged: bool,
    /// The request asks for execute permission, as only Page Requests do.
    pub(crate) execute: bool,
    pub(crate) address: Iova,
    /// The AT field: 0 untranslated, 1 translation request, 2 translated.
    pub(crate) address_type: u8,
    pub(crate) access: Access,
    pub(crate) reason: R,
    /// FPD is set, and the reason is a qualified fault: there is no record.
    pub(crate) silenced: bool,
    pub(crate) answer: RequestError,
}

/// The answer to a Translation Request that has no translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A completion with an error status.
    Error(RequestError),
    /// A successful completion without permissions.
    NoTranslation,
}

pub(super) const UR: Answer = Answer::Error(RequestError::UnsupportedRequest);
pub(super) const CA: Answer = Answer::Error(RequestError::CompleterAbort);
pub(super) const S0: Answer = Answer::NoTranslation;

/// A failure in the tables, before the requester is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: R,
    /// The answer to a Translation Request. Every other request gets Unsupported Request.
    pub(super) answer: Answer,
    /// FPD is set, and the reason is a qualified fault.
    pub(super) silenced: bool,
}

impl Failure {
    /// A failure that is always recorded.
    pub(super) const fn new(reason: R, answer: Answer) -> Self {
        Self { reason, answer, silenced: false }
    }

    /// A qualified fault, which is recorded unless `fpd` is set (`VT-d 7.1.3`).
    pub(super) const fn qualified(reason: R, answer: Answer, fpd: bool) -> Self {
        Self { reason, answer, silenced: fpd }
    }
}

/// The most entries of a [`FaultCache`].
const FAULTY: usize = 64;

/// Entries that are not present or not valid, which a unit with CAP.CM caches. A new entry replaces
/// the oldest one. Memory is allocated with the first entry.
#[derive(Debug)]
pub(super) struct FaultCache<K> {
    entries: VecDeque<(K, Failure)>,
}

impl<K> Default for FaultCache<K> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<K: Copy + Eq> FaultCache<K> {
    pub(super) fn lookup(&self, key: K) -> Option<Failure> {
        self.entries.iter().find(|(held, _)| *held == key).map(|(_, failure)| *failure)
    }

    pub(super) fn insert(&mut self, key: K, failure: Failure) {
        if self.entries.len() == FAULTY {
            self.entries.pop_front();
        }
        self.entries.reserve_exact(FAULTY - self.entries.len());
        self.entries.push_back((key, failure));
    }

    pub(super) fn drop_if(&mut self, condition: impl Fn(K, Failure) -> bool) {
        self.entries.retain(|(key, failure)| !condition(*key, *failure));
    }
}

impl Context {
    /// Legacy and scalable mode have different codes for the same fault.
    pub(super) const fn pick(&self, legacy: R, scalable: R) -> R {
        if self.scalable { scalable } else { legacy }
    }

    /// Whether the walk is privileged (`VT-d 3.6.1`). A request may ask for it only with SRE set.
    pub(super) fn privilege(&self, asked: bool) -> Result<bool, Failure> {
        if asked && !self.supervisor {
            return Err(Failure::qualified(R::SM_PRIVILEGE_DENIED, S0, self.fault_disable));
        }
        Ok(asked)
    }

    /// The fault for a mapping without the permission.
    pub(super) fn denied(&self, access: Access, mapping: &Mapping) -> Failure {
        let denied = match access {
            Access::Read => self.pick(R::READ_DENIED, R::SM_READ_DENIED),
            Access::Write => self.pick(R::WRITE_DENIED, R::SM_WRITE_DENIED),
        };
        // Legacy mode reports a missing permission also for an absent entry.
        let absent = self.scalable && !mapping.read && !mapping.write;
        let reason = if absent { R::SM_PAGE_NOT_PRESENT } else { denied };
        Failure::qualified(reason, S0, self.fault_disable)
    }

    /// The fault for bits of an entry that the unit could not set (table 30, SFS.10 and SSS.6).
    pub(super) const fn update_failed(&self, stage: TableStage) -> Failure {
        let (reason, answer) = match stage {
            TableStage::First => (R::FIRST_STAGE_UPDATE_FAILED, S0),
            TableStage::Second => (R::SM_SECOND_STAGE_UPDATE_FAILED, CA),
        };
        Failure::qualified(reason, answer, self.fault_disable)
    }

    /// The fault for bits of an entry that the unit must not set, because PWSNP is clear (table 30,
    /// SFS.9 and SSS.5).
    pub(super) const fn update_unsnooped(&self, stage: TableStage) -> Failure {
        let (reason, answer) = match stage {
            TableStage::First => (R::FIRST_STAGE_UPDATE_UNSNOOPED, S0),
            TableStage::Second => (R::SM_SECOND_STAGE_UPDATE_UNSNOOPED, CA),
        };
        Failure::qualified(reason, answer, self.fault_disable)
    }

    pub(super) fn walk_failure(&self, error: WalkError) -> Failure {
        let (legacy, scalable, answer) = match error {
            WalkError::BeyondWidth => (R::ADDRESS_BEYOND_WIDTH, R::SM_ADDRESS_BEYOND_WIDTH, S0),
            WalkError::RootInaccessible => (R::CONTEXT_INVALID, R::SM_PAGE_ROOT_INACCESSIBLE, CA),
            WalkError::TableInaccessible => {
                (R::PAGE_TABLE_INACCESSIBLE, R::SM_PAGE_TABLE_INACCESSIBLE, CA)
            }
            WalkError::Reserved => (R::PAGE_TABLE_RESERVED, R::SM_PAGE_TABLE_RESERVED, CA),
        };
        Failure::qualified(self.pick(legacy, scalable), answer, self.fault_disable)
    }
}
