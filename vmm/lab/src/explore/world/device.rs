//! A function, its behavior on Invalidate Requests, and its link to the unit.

use std::collections::VecDeque;
use std::time::Duration;

use devices::dma::atc::{Atc, Spaces};
use devices::pcie::link::{CompletionFault, InvalidateBehavior, Link, Obeys, PendingInvalidations};
use iommu::ats::{ITag, InvalidateCompletion, InvalidateRequest};
use iommu::event::{Lost, Tracer};
use iommu::ids::Bdf;
use iommu::submit::FunctionAccess;
use iommu::time::Instant;

/// The time within which a function answers to be taken for healthy: the bound of most policies.
const PROMPT: Duration = Duration::from_millis(100);

/// One function, and its way to the unit.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: Bdf,
    pub(super) atc: Atc,
    pub(super) link: Link,
    pub(super) behavior: InvalidateBehavior,
    pub(super) completion_fault: Option<CompletionFault>,
    /// Invalidations that it has put off.
    pub(super) pending: PendingInvalidations,
    /// ATS is turned off in it: it translates nothing itself any more.
    pub(super) ats_off: bool,
    /// When its ATC obeys.
    pub(super) obeys: Obeys,
    /// Requests whose completion has not been sent, and that its ATC obeys then: each with the one
    /// whose range it drops.
    pub(super) owed: Vec<(ITag, InvalidateRequest)>,
    /// The time at which each request was sent whose completion has not arrived at the unit, in order. Of meaning for
    /// a function that completes each request once.
    pub(super) unanswered: VecDeque<Instant>,
    /// The host has reset it although it owed no answer for [`PROMPT`].
    pub(super) was_reset: bool,
    /// It is in D3hot.
    pub(super) sleeps: bool,
    /// Under way to it, and from it. Each way keeps its order (`PCIe 2.4.1`).
    pub(super) requests: VecDeque<InvalidateRequest>,
    pub(super) completions: VecDeque<InvalidateCompletion>,
}

impl Device {
    /// A healthy one that holds nothing.
    pub(super) fn new(id: Bdf, obeys: Obeys, tracer: Tracer) -> Self {
        Self {
            id,
            atc: Atc::new(Default::default()),
            link: Link::new(Bdf::new(0, id.bus(), 0), 0, tracer),
            behavior: InvalidateBehavior::Complete,
            completion_fault: None,
            pending: PendingInvalidations::default(),
            ats_off: false,
            obeys,
            owed: Vec::new(),
            unanswered: VecDeque::new(),
            was_reset: false,
            sleeps: false,
            requests: VecDeque::new(),
            completions: VecDeque::new(),
        }
    }
}

impl Device {
    /// A request has arrived: the ATC drops its range now, or when the completion is sent.
    pub(super) fn receive(&mut self, request: InvalidateRequest) {
        let Some(dropped) = self.behavior.dropped(request, &mut self.pending) else { return };
        if self.obeys == Obeys::AtOnce || self.behavior.lies() {
            self.atc.invalidate(Spaces::of(&dropped), dropped.range);
        } else if self.behavior.answers() {
            self.owed.push((request.itag, dropped));
        }
    }

    /// A completion with these ITags is sent: the ATC obeys the oldest request with each of them. The
    /// unit may have used an ITag again.
    pub(super) fn obey(&mut self, itag_vector: u32) {
        let mut left = itag_vector;
        let Self { owed, atc, .. } = self;
        owed.retain(|(itag, dropped)| {
            let is_due = left & itag.bit() != 0;
            if is_due {
                left &= !itag.bit();
                atc.invalidate(Spaces::of(dropped), dropped.range);
            }
            !is_due
        });
    }

    /// The oldest completion arrives, and its requests are obeyed at the latest now.
    pub(super) fn send(&mut self) -> Option<InvalidateCompletion> {
        let completion = self.completions.pop_front()?;
        self.unanswered.pop_front();
        self.obey(completion.itag_vector);
        Some(completion)
    }

    /// All completions that are under way were sent.
    pub(super) fn obey_all(&mut self) {
        while !self.owed.is_empty() {
            self.obey(u32::MAX);
        }
    }

    /// A reset empties the ATC, and what was not answered never will be.
    pub(super) fn forget(&mut self) {
        self.atc.clear();
        self.requests.clear();
        self.completions.clear();
        self.owed.clear();
        self.unanswered.clear();
    }

    /// Whether it has not answered a request for so long that it cannot be told from a mute one.
    pub(super) fn looks_mute(&self, now: Instant) -> bool {
        self.unanswered.front().is_some_and(|sent| now - *sent >= PROMPT)
    }

    /// Sends the completion of a request, as the fault wants it.
    pub(super) fn complete(&mut self, itag: ITag) {
        let (parts, is_merged) = match self.completion_fault {
            Some(CompletionFault::Split(parts)) => (parts, false),
            Some(CompletionFault::Merge(_)) => (1, true),
            _ => (1, false),
        };
        // A completion that has not arrived has not been sent.
        if let Some(last) = self.completions.back_mut().filter(|_| is_merged) {
            last.itag_vector |= itag.bit();
            return;
        }
        let completion = InvalidateCompletion {
            requester: self.id,
            itag_vector: itag.bit(),
            completion_count: parts,
        };
        self.completions.extend(std::iter::repeat_n(completion, parts.into()));
    }
}

/// The host's way to the functions' configuration space.
pub(super) struct Functions<'a> {
    pub(super) devices: &'a mut [Device; 2],
    pub(super) now: Instant,
}

impl FunctionAccess for Functions<'_> {
    fn is_present(&mut self, function: Bdf) -> bool {
        let mut devices = self.devices.iter();
        let device = devices.find(|device| device.id == function);
        device.is_some_and(|device| device.link.carries(Lost::ConfigRead, self.now))
    }

    fn is_disconnected(&self, _: Bdf) -> bool {
        false
    }

    fn reset(&mut self, function: Bdf, now: Instant) {
        for device in self.devices.iter_mut().filter(|device| device.id == function) {
            device.was_reset |= !device.looks_mute(now);
            if device.link.carries(Lost::ConfigWrite, now) {
                device.forget();
            }
        }
    }

    fn disable_ats(&mut self, function: Bdf, now: Instant) {
        for device in self.devices.iter_mut().filter(|device| device.id == function) {
            if device.link.carries(Lost::ConfigWrite, now) {
                device.atc.clear();
                device.ats_off = true;
            }
        }
    }
}
