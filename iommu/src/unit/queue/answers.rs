//! How Invalidate Requests end: by completions, by the host's acknowledgement, or by a time-out.

use super::super::Unit;
use super::super::observation::Observation;
use super::super::outstanding::Request;
use crate::Memory;
use crate::ats::{ITag, InvalidateCompletion};
use crate::event::Event;
use crate::ids::Bdf;
use crate::time::Instant;

impl Unit {
    /// Handles an Invalidate Completion from a link (`PCIe 10.3.2`).
    ///
    /// The unit drops it while DMA remapping is disabled (`VT-d 4.2.1`). A tag that matches no
    /// request sets ICE.
    pub fn handle_completion(
        &mut self,
        completion: InvalidateCompletion,
        memory: &Memory,
        now: Instant,
    ) {
        self.accept_completion(completion, now);
        self.finish_completion(memory, now);
    }

    /// The first half of [`Self::handle_completion`]: the unit has the message, and no wait has
    /// completed yet. Returns the number of requests that have ended. Call
    /// [`Self::finish_completion`] next.
    pub fn accept_completion(&mut self, completion: InvalidateCompletion, now: Instant) -> u32 {
        if !self.translator.enabled() {
            return 0;
        }
        let function = completion.requester;
        let mut ended = 0;
        let mut unexpected = 0_u32;
        for itag in (0..ITag::COUNT).map(ITag::new) {
            if completion.itag_vector & itag.bit() == 0 {
                continue;
            }
            let expected = completion.completion_count;
            match self.queue.outstanding.answer(function, itag, expected) {
                Ok(Some(request)) => {
                    ended += 1;
                    self.emit_completed(&request, now);
                }
                Ok(None) => {}
                Err(()) => unexpected |= itag.bit(),
            }
        }
        if unexpected != 0 {
            self.completion_error(function);
            let unit = self.role();
            self.tracer.emit(now, || Event::UnexpectedCompletion {
                unit,
                function,
                itag_vector: unexpected,
            });
        }
        ended
    }

    /// The second half of [`Self::handle_completion`]: waits complete, and the unit fetches on.
    pub fn finish_completion(&mut self, memory: &Memory, now: Instant) {
        self.continue_queue(memory, now);
    }

    /// Completes a request without a message: the caller answers for the function. An unknown tag
    /// is ignored.
    pub fn acknowledge(&mut self, function: Bdf, itag: ITag, memory: &Memory, now: Instant) {
        if let Ok(Some(request)) = self.queue.outstanding.answer(function, itag, 1) {
            self.emit_completed(&request, now);
            self.continue_queue(memory, now);
        }
    }

    fn emit_completed(&self, request: &Request, now: Instant) {
        let (unit, waited) = (self.role(), now - request.sent);
        let (function, itag) = (request.function, request.itag);
        self.tracer.emit(now, || Event::InvalidateCompleted { unit, function, itag, waited });
    }

    /// A request has ended: waits complete, a deferred request is sent, and the unit fetches on.
    fn continue_queue(&mut self, memory: &Memory, now: Instant) {
        if let Some((invalidate, epoch)) = self.queue.deferred.take() {
            self.send_or_defer(invalidate, epoch, now);
        }
        self.execute_behind(memory, now);
        self.complete_waits(memory, now);
        self.run_queue(memory, now);
        self.finish_draining();
    }

    /// Ends a request as timed out: the caller answers for the function. An unknown tag is ignored.
    pub fn time_out(&mut self, function: Bdf, itag: ITag, now: Instant) {
        if let Some(request) = self.queue.outstanding.abandon(function, itag) {
            self.expire(&request, now);
        }
    }

    /// Times out the requests whose Invalidation Completion Time-out has passed by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(request) = self.queue.outstanding.abandon_expired(now) {
            self.expire(&request, now);
        }
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.next_expiry()
    }

    /// Sets ITE and aborts all pending waits, which never complete (`VT-d 6.5.2.11`). The
    /// specification leaves open whether descriptors behind the request are executed. Here they
    /// are, except a deferred request, unless `ite_loses` says otherwise.
    fn expire(&mut self, request: &Request, now: Instant) {
        self.timeout_error(request.function);
        let waits_aborted = self.queue.waits.len() as u32;
        self.queue.waits.clear();
        self.queue.deferred = None;
        self.lose_behind();
        self.note(Observation::TimedOut {
            function: request.function,
            wait: request.epoch,
            fetched: self.queue.epoch,
        });
        let (unit, function, itag) = (self.role(), request.function, request.itag);
        self.tracer.emit(now, || Event::InvalidationTimeout {
            unit,
            function,
            itag,
            waits_aborted,
        });
        self.finish_draining();
    }
}
