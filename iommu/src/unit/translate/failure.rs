//! Blocked requests, before and after their requester is known.

use crate::ats::{Access, RequestError};
use crate::ids::{Bdf, Iova, Pasid};
use crate::spec::fault::FaultReason;

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
    pub(crate) reason: FaultReason,
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
    pub(super) reason: FaultReason,
    /// The answer to a Translation Request. Every other request gets Unsupported Request.
    pub(super) answer: Answer,
    /// FPD is set, and the reason is a qualified fault.
    pub(super) silenced: bool,
}

impl Failure {
    /// A failure that is always recorded.
    pub(super) const fn new(reason: FaultReason, answer: Answer) -> Self {
        Self { reason, answer, silenced: false }
    }

    /// A qualified fault, which is recorded unless `fpd` is set (`VT-d 7.1.3`).
    pub(super) const fn qualified(reason: FaultReason, answer: Answer, fpd: bool) -> Self {
        Self { reason, answer, silenced: fpd }
    }
}
