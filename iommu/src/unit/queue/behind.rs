//! A unit whose Invalidation Time-out Error loses what stands behind the request
//! (`ite_loses = "all"`).
//!
//! While a request is outstanding, the unit fetches and checks descriptors, but keeps invalidations
//! in a list. It executes them, in order, when no request is outstanding any more. ITE drops them.
//! A Device-TLB invalidation is sent at once if only other requests stand in front of it.

use super::BEHIND;
use crate::Memory;
use crate::spec::descriptor::Descriptor;
use crate::time::Instant;
use crate::unit::Unit;

/// The most invalidations in the list. The unit stops fetching while there are as many.
pub(super) const LIMIT: usize = 1024;

impl Unit {
    /// Keeps a descriptor that was fetched behind an outstanding request. Returns false if the list
    /// is full, so that the unit must stop fetching.
    #[cold]
    pub(super) fn keep_behind(&mut self, descriptor: Descriptor, now: Instant) -> bool {
        let epoch = self.queue.epoch;
        match descriptor {
            Descriptor::Wait(wait) => {
                self.queue.epoch += 1;
                self.queue.pend(wait, epoch, self.config.ordering);
            }
            Descriptor::DeviceTlb(invalidate) if self.queue.behind.is_empty() => {
                self.send_or_defer(invalidate, epoch, now);
            }
            _ => self.queue.behind.push_back((descriptor, epoch)),
        }
        self.queue.behind.len() < LIMIT
    }

    /// A request has ended: executes what stood behind it, up to the next request that is
    /// outstanding.
    pub(super) fn execute_behind(&mut self, memory: &Memory, now: Instant) {
        while self.queue.stops & BEHIND != 0 && self.queue.deferred.is_none() {
            let alone = self.queue.outstanding.is_empty();
            match self.queue.behind.front() {
                None if alone => self.queue.stops &= !BEHIND,
                None => return,
                Some((Descriptor::DeviceTlb(invalidate), epoch)) => {
                    let (invalidate, epoch) = (*invalidate, *epoch);
                    self.queue.behind.pop_front();
                    self.send_or_defer(invalidate, epoch, now);
                }
                Some((descriptor, _)) if alone => {
                    let descriptor = *descriptor;
                    self.queue.behind.pop_front();
                    self.execute(descriptor, memory, now);
                }
                Some(_) => return,
            }
        }
    }

    /// ITE: drops what stands behind the request.
    pub(super) fn lose_behind(&mut self) {
        self.queue.behind.clear();
        if self.queue.outstanding.is_empty() {
            self.queue.stops &= !BEHIND;
        }
    }
}
