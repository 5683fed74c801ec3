//! Why a request was blocked, on its way out of the tables.

use crate::ats::{Access, RequestError};
use crate::ids::{Bdf, Iova, Pasid};
use crate::spec::fault::FaultReason;

/// Why a request was blocked, and all that a fault record says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) requester: Bdf,
    pub(crate) pasid: Option<Pasid>,
    pub(crate) privileged: bool,
    /// Execute permission was asked for: only Page Requests do.
    pub(crate) execute: bool,
    pub(crate) address: Iova,
    /// The AT field: 0 untranslated, 1 translation request, 2 translated.
    pub(crate) address_type: u8,
    pub(crate) access: Access,
    pub(crate) reason: FaultReason,
    /// The tables ask for no record (FPD), and the reason allows that.
    pub(crate) silenced: bool,
    pub(crate) answer: RequestError,
}

/// What a Translation Request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// An error, which is a fault.
    Error(RequestError),
    /// Success without permissions: no error of the protocol, and no fault.
    NoTranslation,
}

pub(super) const UR: Answer = Answer::Error(RequestError::UnsupportedRequest);
pub(super) const CA: Answer = Answer::Error(RequestError::CompleterAbort);
pub(super) const S0: Answer = Answer::NoTranslation;

/// A failure somewhere along the tables, before it is known who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: FaultReason,
    /// To a Translation Request; every other request gets Unsupported Request.
    pub(super) answer: Answer,
    /// FPD, where the reason heeds it.
    pub(super) silenced: bool,
}

impl Failure {
    /// Recorded always.
    pub(super) const fn new(reason: FaultReason, answer: Answer) -> Self {
        Self { reason, answer, silenced: false }
    }

    /// Recorded unless `fpd`: a qualified fault (`VT-d 7.1.3`).
    pub(super) const fn qualified(reason: FaultReason, answer: Answer, fpd: bool) -> Self {
        Self { reason, answer, silenced: fpd }
    }
}
