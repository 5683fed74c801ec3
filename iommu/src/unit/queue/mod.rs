//! The invalidation queue (`VT-d 6.5.2`): fetch, check, execute, and wait for Device-TLBs.
//!
//! ```text
//!            IQH moves here                            deferred until an ITag is free
//! ring ----> fetch + check ----> IOTLB, context, ...: done at once
//!              |    |                Device-TLB: InvalidateRequest, outstanding ---> completion
//!              |    |                wait: pending while what it covers is outstanding
//!              |   bad: IQE, stop                                  |
//!             stop while IQE or ITE is set               time-out: ITE, all pending waits aborted
//! ```
//!
//! Each wait descriptor ends an epoch, and a request belongs to the epoch in which it was fetched.
//! A serial unit completes a wait when no request of its epoch or an earlier one is outstanding. A
//! parallel unit completes it when no request of its own epoch is. A blocking unit is serial, and
//! fetches nothing while a wait is pending.

mod answers;
mod behind;
mod fetch;

use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

use self::fetch::{Fetcher, check_ring};
use super::observation::Observation;
use super::outstanding::Outstanding;
use super::registers::Registers;
use super::values::{IteLoses, Ordering};
use super::{Output, Unit};
use crate::Memory;
use crate::ats::InvalidateRequest;
use crate::event::Event;
use crate::spec::control::TableMode;
use crate::spec::descriptor::{self, DecodeRules, Descriptor, DeviceTlbInvalidate, Wait};
use crate::spec::queue::QueueAddress;
use crate::time::Instant;

/// The most pending waits. The unit stops fetching while there are as many.
const PENDING_WAITS: usize = 1024;

/// QIE is clear, and QIES is cleared when all that was fetched has completed.
const DRAINING: u8 = 1;
/// What is fetched stands behind an outstanding request, and is executed when that completes.
const BEHIND: u8 = 2;

#[derive(Debug, Clone, Copy)]
struct PendingWait {
    wait: Wait,
    epoch: u64,
}

/// The queue's state beyond its registers.
#[derive(Debug)]
pub(super) struct Queue {
    /// IQA when the queue was enabled.
    ring: QueueAddress,
    /// GSTS.QIES.
    enabled: bool,
    /// [`DRAINING`] and [`BEHIND`].
    stops: u8,
    outstanding: Outstanding,
    waits: VecDeque<PendingWait>,
    /// The current epoch: the number of wait descriptors fetched.
    epoch: u64,
    /// The number of waits completed.
    completed: u64,
    /// A fetched invalidation whose function has no free ITag, and its epoch.
    deferred: Option<(DeviceTlbInvalidate, u64)>,
    /// With `ite_loses = "all"`: what was fetched behind an outstanding request, waits excepted,
    /// with its epoch.
    behind: VecDeque<(Descriptor, u64)>,
    /// Descriptors until the next pause, and the number that was asked for.
    to_pause: u64,
    pause_after: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            ring: QueueAddress::default(),
            enabled: false,
            stops: 0,
            outstanding: Outstanding::default(),
            waits: VecDeque::new(),
            epoch: 0,
            completed: 0,
            deferred: None,
            behind: VecDeque::new(),
            to_pause: u64::MAX,
            pause_after: u64::MAX,
        }
    }
}

impl Queue {
    /// The slot of the head.
    pub(super) fn slot(&self, registers: &Registers) -> u32 {
        registers.head() / self.ring.descriptor_bytes()
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.outstanding.next_expiry()
    }

    fn is_idle(&self) -> bool {
        self.outstanding.is_empty() && self.waits.is_empty() && self.deferred.is_none()
    }

    /// Whether something that was fetched stops the unit from fetching on.
    fn is_held(&self) -> bool {
        self.stops & DRAINING != 0
            || self.to_pause == 0
            || self.deferred.is_some()
            || self.waits.len() >= PENDING_WAITS
            || self.waits.back().is_some_and(|pending| pending.wait.fence)
    }

    fn covered(&self, pending: &PendingWait, ordering: Ordering) -> bool {
        match ordering {
            Ordering::Serial | Ordering::Blocking => {
                self.outstanding.first_epoch().is_none_or(|at| at > pending.epoch)
            }
            Ordering::Parallel => !self.outstanding.has_epoch(pending.epoch),
        }
    }

    /// Keeps a wait that cannot complete yet. A blocking unit treats each as a fence.
    fn pend(&mut self, wait: Wait, epoch: u64, ordering: Ordering) {
        let fence = wait.fence || ordering == Ordering::Blocking;
        self.waits.push_back(PendingWait { wait: Wait { fence, ..wait }, epoch });
    }

    /// Takes the first pending wait that may complete.
    fn take_completed(&mut self, ordering: Ordering) -> Option<PendingWait> {
        let done = match ordering {
            Ordering::Serial | Ordering::Blocking => {
                self.waits.front().is_some_and(|wait| self.covered(wait, ordering)).then_some(0)
            }
            Ordering::Parallel => self.waits.iter().position(|w| self.covered(w, ordering)),
        };
        self.waits.remove(done?)
    }
}

impl Unit {
    /// QIE is set. The queue begins at the start of the ring in IQA (`VT-d 6.5.2`). A queue that is
    /// still draining goes on instead.
    pub(super) fn enable_queue(&mut self, memory: &Memory, now: Instant) {
        if self.queue.enabled {
            if self.queue.stops & DRAINING != 0 {
                self.queue.stops &= !DRAINING;
                self.run_queue(memory, now);
            }
            return;
        }
        self.queue.ring = self.registers.queue_address();
        self.queue.enabled = true;
        self.registers.set_head(0);
        self.reflect_queue_status();
        self.run_queue(memory, now);
    }

    /// QIE is cleared: the unit completes what it has fetched, and then disables the queue.
    pub(super) fn disable_queue(&mut self) {
        if self.queue.enabled {
            self.queue.stops |= DRAINING;
            self.finish_draining();
        }
    }

    fn finish_draining(&mut self) {
        if self.queue.stops & DRAINING != 0 && self.queue.is_idle() {
            self.queue.enabled = false;
            self.queue.stops &= !DRAINING;
            self.registers.set_head(0);
            self.reflect_queue_status();
        }
    }

    fn reflect_queue_status(&mut self) {
        let status = self.registers.status().with_queued_invalidation(self.queue.enabled);
        self.registers.set_status(status);
    }

    /// Fetches until the ring is empty or something stops it. It reads each slot of the ring once
    /// at most.
    pub(super) fn run_queue(&mut self, memory: &Memory, now: Instant) {
        let (ring, tail) = (self.queue.ring, self.registers.tail());
        let status = self.registers.fault_status();
        let stopped = status.queue_error() || status.timeout_error() || self.queue.is_held();
        let stopped = stopped || self.queue.behind.len() >= behind::LIMIT;
        if !self.queue.enabled || self.registers.head() == tail || stopped {
            return;
        }
        if let Err(reason) = check_ring(ring, tail, self.mode, &self.config) {
            return self.queue_error(reason, now);
        }
        let rules = self.rules;
        let fetcher = Fetcher::new(ring, memory);
        let mut head = self.registers.head();
        while head != tail {
            let raw = match fetcher.fetch(head) {
                Ok(raw) => raw,
                Err(reason) => return self.queue_error(reason, now),
            };
            let descriptor = match Descriptor::decode(raw, &rules) {
                Ok(descriptor) => descriptor,
                Err(reason) => return self.queue_error(reason, now),
            };
            if self.is_watched {
                self.announce_fetched(raw, &descriptor, now);
            }
            head = (head + ring.descriptor_bytes()) & (ring.bytes() - 1);
            self.registers.set_head(head);
            self.queue.to_pause -= 1;
            if self.queue.stops & BEHIND != 0 {
                if !self.keep_behind(descriptor, now) {
                    return;
                }
            } else {
                self.execute(descriptor, memory, now);
            }
            if self.queue.is_held() {
                return;
            }
        }
    }

    /// Whether the unit has yet to complete a wait descriptor: it is pending, or not fetched. Waits
    /// are numbered from 0 in the order of fetching. An aborted wait is not pending.
    pub fn is_wait_pending(&self, number: u64) -> bool {
        let pending = self.queue.waits.binary_search_by_key(&number, |pending| pending.epoch);
        number >= self.queue.epoch || pending.is_ok()
    }

    /// The number of wait descriptors that the unit has completed. No status word has changed while
    /// this number has not.
    pub fn completed_waits(&self) -> u64 {
        self.queue.completed
    }

    /// Stops fetching after `count` more descriptors, until [`Self::resume`]; `None` for never. The
    /// caller can then act between two descriptors.
    pub fn pause_after(&mut self, count: Option<u64>) {
        let count = count.unwrap_or(u64::MAX);
        (self.queue.to_pause, self.queue.pause_after) = (count, count);
    }

    /// Ends a pause, and returns the number of descriptors after which it began. Call
    /// [`Self::resume`] then.
    pub fn take_pause(&mut self) -> Option<u64> {
        let paused = (self.queue.to_pause == 0).then_some(self.queue.pause_after);
        if paused.is_some() {
            self.pause_after(None);
        }
        paused
    }

    /// The number of descriptors fetched since [`Self::pause_after`], which is to be called next.
    pub fn fetched(&self) -> u64 {
        self.queue.pause_after - self.queue.to_pause
    }

    /// Fetches on after a pause.
    pub fn resume(&mut self, memory: &Memory, now: Instant) {
        self.run_queue(memory, now);
    }

    #[cold]
    fn announce_fetched(&mut self, raw: u128, descriptor: &Descriptor, now: Instant) {
        self.note_descriptor(descriptor, self.queue.epoch);
        self.tracer.emit(now, || Event::DescriptorFetched {
            unit: self.role(),
            descriptor_type: descriptor::kind_of(raw),
            slot: self.queue.slot(&self.registers),
        });
    }

    /// The descriptors that are legal in the table mode at the last SRTP.
    pub(super) fn decode_rules(&self) -> DecodeRules {
        let (cap, ecap) = (self.registers.cap(), self.registers.ecap());
        DecodeRules {
            scalable: self.mode == TableMode::Scalable,
            device_tlb: ecap.device_tlb(),
            throttle: ecap.device_tlb_throttle(),
            interrupt_remapping: ecap.interrupt_remapping(),
            max_handle_mask: ecap.max_handle_mask(),
            page_requests: ecap.page_requests(),
            page_request_drain: ecap.page_request_drain(),
            page_selective: cap.page_selective(),
            max_address_mask: cap.max_address_mask(),
            honor_hint: self.config.honor_hint,
        }
    }

    // Inlined although a second caller exists: a call costs a quarter of a descriptor.
    #[inline(always)]
    fn execute(&mut self, descriptor: Descriptor, memory: &Memory, now: Instant) {
        match descriptor {
            Descriptor::ContextCache(scope) => self.translator.invalidate_contexts(scope),
            Descriptor::Iotlb(scope) => self.translator.invalidate_iotlb(scope),
            Descriptor::IotlbLeaves(scope) => self.translator.invalidate_leaves(scope),
            Descriptor::PasidCache(scope) => self.translator.invalidate_pasids(scope),
            Descriptor::InterruptEntryCache(scope) => self.interrupts.invalidate(scope),
            Descriptor::PageGroupResponse(response) => self.respond(response, now),
            Descriptor::DeviceTlb(invalidate) => {
                self.send_or_defer(invalidate, self.queue.epoch, now);
                if self.config.ite_loses == IteLoses::All {
                    self.queue.stops |= BEHIND;
                }
            }
            Descriptor::Wait(wait) => {
                let epoch = self.queue.epoch;
                self.queue.epoch += 1;
                if self.queue.waits.is_empty() && self.queue.outstanding.is_empty() {
                    self.translator.drain();
                    self.complete(&wait, epoch, memory, now);
                } else {
                    self.queue.pend(wait, epoch, self.config.ordering);
                    self.complete_waits(memory, now);
                }
            }
        }
    }

    /// Sends the request of a Device-TLB invalidation, which belongs to `epoch`.
    fn send_or_defer(&mut self, invalidate: DeviceTlbInvalidate, epoch: u64, now: Instant) {
        let DeviceTlbInvalidate { function, throttled, max_pending, .. } = invalidate;
        let free = self.queue.outstanding.free_itag(function, throttled, max_pending);
        let Some(itag) = free else {
            self.queue.deferred = Some((invalidate, epoch));
            return;
        };
        let DeviceTlbInvalidate { pasid, global, range, .. } = invalidate;
        let expires = self.config.ict.expires(now);
        self.queue.outstanding.add((function, throttled), itag, now, expires, epoch);
        let request = InvalidateRequest { destination: function, itag, pasid, global, range };
        self.outputs.push_back(Output::Invalidate(request));
        let unit = self.role();
        self.tracer.emit(now, || Event::InvalidateRequested { unit, function, itag });
    }

    fn complete_waits(&mut self, memory: &Memory, now: Instant) {
        let mut drained = false;
        while let Some(pending) = self.queue.take_completed(self.config.ordering) {
            if !drained {
                // Requests that still use an older translation end before software sees the
                // completion.
                self.translator.drain();
                drained = true;
            }
            self.complete(&pending.wait, pending.epoch, memory, now);
        }
    }

    fn complete(&mut self, wait: &Wait, number: u64, memory: &Memory, now: Instant) {
        self.queue.completed += 1;
        if let Some((address, data)) = wait.status {
            // A status address outside memory is undefined (VT-d 6.5.2.9). Here the write is lost,
            // as a posted write that nothing claims, and the wait completes.
            // One look-up and one store cost half of a general write.
            let slot = GuestMemoryBackend::get_slice(memory, GuestAddress::from(address), 4).ok();
            let word = slot.as_ref().and_then(|slot| slot.get_atomic_ref::<AtomicU32>(0).ok());
            if let Some(word) = word {
                word.store(data.to_le(), std::sync::atomic::Ordering::SeqCst);
            }
        }
        if wait.interrupt {
            self.announce_wait();
        }
        if self.is_watched {
            self.announce_completed(wait, number, now);
        }
    }

    #[cold]
    fn announce_completed(&mut self, wait: &Wait, number: u64, now: Instant) {
        self.note(Observation::Completed { wait: number });
        self.tracer.emit(now, || Event::WaitCompleted {
            unit: self.role(),
            status_address: wait.status.map(|(address, _)| address),
        });
    }
}
