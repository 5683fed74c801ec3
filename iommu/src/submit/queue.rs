//! The driver's side of the invalidation queue: the ring, the status words, and which waits are polled.

use super::Policy;
use super::back_pressure::BackPressure;
use super::flush::{Flush, Limits};
use super::hardware::Hardware;
use super::ring::Ring;
use super::status::{StatusWords, Token, WordsView};
use super::waiter::{Stage, Waiter};
use crate::Memory;
use crate::ids::{Bdf, Gpa};
use crate::spec::descriptor::WaitDescriptor;
use crate::spec::offset;
use crate::time::Instant;

/// The most descriptors of one submission: IOTLB, Device-TLBs, wait.
const MAX_SLOTS: usize = Flush::MAX + 2;
/// The fewest: one invalidation, and the wait.
const MIN_SLOTS: u32 = 2;

/// Where a queue lies in memory, and which descriptors its unit takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLayout {
    pub(super) ring: Gpa,
    /// 16, or 32 for a ring of 256-bit descriptors.
    pub(super) slot_bytes: u32,
    /// Status words, one for each slot.
    pub(super) status: Gpa,
    /// log2 of the pages that one IOTLB invalidation can name; `None` if it can name none.
    pub(super) max_mask: Option<u8>,
}

/// The driver's side of the invalidation queue.
#[derive(Debug)]
pub(super) struct SubmissionQueue {
    ring: Ring,
    status: StatusWords,
    pub(super) pressure: BackPressure,
    limits: Limits,
    has_fenced_waits: bool,
    /// Waiters in [`Stage::Polling`].
    polling: usize,
    /// Wait descriptors that were put in the ring.
    waits: u64,
    /// Waits that the unit had completed when status words were read last.
    completed: u64,
}

impl SubmissionQueue {
    pub(super) fn new(policy: &Policy, layout: QueueLayout) -> Self {
        Self {
            ring: Ring::new(layout.ring, layout.slot_bytes),
            status: StatusWords::new(policy.completion, layout.status),
            pressure: BackPressure::new(policy),
            limits: Limits { max_mask: layout.max_mask, max_pending: 0 },
            has_fenced_waits: policy.fenced_waits,
            polling: 0,
            waits: 0,
            completed: 0,
        }
    }

    /// Whether wait descriptors have FN set from now on.
    pub(super) fn set_fenced_waits(&mut self, fenced: bool) {
        self.has_fenced_waits = fenced;
    }

    /// The most requests that the unit has pending in a function from now on, 1 to 32.
    pub(super) fn set_queue_depth(&mut self, depth: u8) {
        self.limits.max_pending = depth % 32;
    }

    /// The number of waiters that poll.
    pub(super) fn polling(&self) -> usize {
        self.polling
    }

    /// Takes back the slots that the unit has fetched and no waiter needs. Returns whether a small
    /// submission fits then.
    pub(super) fn make_room(&mut self, hw: &Hardware<'_>) -> bool {
        self.ring.reclaim(hw.read(offset::IQH));
        self.ring.has_room(MIN_SLOTS)
    }

    /// Writes the descriptors of `waiter`, which polls from now on. The unit does not see them before
    /// [`Self::ring_doorbell`]. Returns `false` if they do not fit, or no status word is free.
    pub(super) fn push(&mut self, waiter: &mut Waiter, memory: &Memory) -> bool {
        let mut descriptors = [0; MAX_SLOTS];
        let count = waiter.descriptors(self.limits, &mut descriptors);
        let slots = count as u32 + 1;
        if !self.ring.has_room(slots) {
            return false;
        }
        let wait_slot = self.ring.slot(slots - 1);
        let Some(token) = self.status.take(wait_slot, memory) else {
            return false;
        };
        waiter.attempt += 1;
        (waiter.stage, waiter.wait_slot, waiter.wait) =
            (Stage::Polling(token), wait_slot, self.waits);
        self.polling += 1;
        self.waits += 1;
        self.pressure.enter(waiter);
        let wait = WaitDescriptor::new()
            .with_status_write(true)
            .with_fence(self.has_fenced_waits)
            .with_status_data(token.data)
            .with_status_dword(self.status.address(token).0 >> 2);
        descriptors[count] = wait.into_bits();
        self.ring.push(waiter.ticket, waiter.attempt, &descriptors[..=count], memory);
        true
    }

    /// Writes IQT.
    pub(super) fn ring_doorbell(&self, hw: &mut Hardware<'_>, now: Instant) {
        hw.write(offset::IQT, self.ring.tail_bytes(), now);
    }

    /// Whether the unit has completed waits since the last call.
    pub(super) fn has_news(&mut self, hw: &Hardware<'_>) -> bool {
        let completed = hw.unit.completed_waits();
        completed != std::mem::replace(&mut self.completed, completed)
    }

    /// All status words, to look at many of them without looking each up in memory.
    pub(super) fn words<'a>(&self, memory: &'a Memory) -> WordsView<'a> {
        self.status.words(memory)
    }

    /// Whether the unit has written what `token` waits for.
    pub(super) fn is_done(&self, token: Token, words: &WordsView<'_>) -> bool {
        self.status.is_done(token, words)
    }

    /// `waiter` has seen its status write.
    pub(super) fn complete(&mut self, waiter: &Waiter) {
        let Stage::Polling(token) = waiter.stage else { return };
        self.polling -= 1;
        self.status.release(token);
        self.ring.release(waiter.ticket, waiter.attempt);
        self.pressure.complete(waiter);
    }

    /// `waiter` gives up its attempt. The unit may still hold the descriptors.
    pub(super) fn withdraw(&mut self, waiter: &mut Waiter) {
        let Stage::Polling(token) = waiter.stage else { return };
        self.polling -= 1;
        self.ring.release(waiter.ticket, waiter.attempt);
        if waiter.is_aborted {
            self.status.release(token);
            self.pressure.abort(waiter);
        } else {
            let can_recall = self.status.abandon(token);
            self.pressure.give_up(waiter, token, can_recall);
        }
        waiter.stage = Stage::Queued;
        waiter.is_aborted = false;
    }

    /// Whether the unit, its head at `head` bytes, has fetched all descriptors of `waiter`.
    pub(super) fn is_fetched(&self, waiter: &Waiter, head: u32) -> bool {
        waiter.is_polling() && self.ring.is_fetched(waiter.ticket, waiter.attempt, head)
    }

    /// Looks which of the status words that were given up the unit has written meanwhile.
    pub(super) fn recall(&mut self, memory: &Memory) {
        if self.pressure.is_on() {
            self.status.reclaim(memory);
            let Self { status, pressure, .. } = self;
            pressure.recall(|token| status.is_pending(token, memory));
        }
    }

    /// The slot of a head or tail in bytes, as in the register.
    pub(super) fn slot_at(&self, bytes: u32) -> u32 {
        self.ring.slot_at(bytes)
    }

    /// The unit has dropped all waits that it held, abandoned ones too.
    /// `function` is the one that the unit names in ITE, if it names one.
    pub(super) fn forget_abandoned(&mut self, function: Option<Bdf>) {
        self.status.forget_leaked();
        self.pressure.abort_all(function);
    }
}
