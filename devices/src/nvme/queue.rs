//! Submission and completion queues: rings in guest memory (`NVMe 4.1`).
//!
//! ```text
//!   submission:  the host moves the tail (doorbell), the controller the head (SQHD in completions)
//!   completion:  the controller moves the tail (phase tags), the host the head (doorbell)
//! ```

use super::spec::{COMMAND_SIZE, COMPLETION_SIZE};

/// A ring of `size` entries from `base` on.
#[derive(Debug, Clone, Copy)]
struct Ring {
    base: u64,
    size: u16,
    head: u16,
    tail: u16,
}

impl Ring {
    fn new(base: u64, size: u16) -> Self {
        Self { base, size, head: 0, tail: 0 }
    }

    /// Entries from `from` to `to`.
    fn distance(&self, from: u16, to: u16) -> u16 {
        if to >= from { to - from } else { self.size - from + to }
    }

    fn next(&self, position: u16) -> u16 {
        if position + 1 < self.size { position + 1 } else { 0 }
    }
}

/// A submission queue.
#[derive(Debug)]
pub(super) struct SubmissionQueue {
    ring: Ring,
    /// The queue of its completions.
    pub(super) completion_queue: u16,
}

impl SubmissionQueue {
    /// An empty queue of `size` entries, 2 or more.
    pub(super) fn new(base: u64, size: u16, completion_queue: u16) -> Self {
        Self { ring: Ring::new(base, size), completion_queue }
    }

    pub(super) fn head(&self) -> u16 {
        self.ring.head
    }

    /// Carries out a write to the tail doorbell. Returns `false` if the value is out of range.
    pub(super) fn set_tail(&mut self, value: u32) -> bool {
        let tail = u16::try_from(value).ok().filter(|tail| *tail < self.ring.size);
        self.ring.tail = tail.unwrap_or(self.ring.tail);
        tail.is_some()
    }

    /// The address of the next command, if there is one.
    pub(super) fn next(&self) -> Option<u64> {
        let Ring { base, head, tail, .. } = self.ring;
        (head != tail).then(|| base.wrapping_add(u64::from(head) * COMMAND_SIZE))
    }

    /// Moves the head past the command at [`Self::next`].
    pub(super) fn advance(&mut self) {
        self.ring.head = self.ring.next(self.ring.head);
    }
}

/// A completion queue. An entry is reserved when a command is fetched, so a completion queue that
/// the host does not empty blocks its own commands only.
#[derive(Debug)]
pub(super) struct CompletionQueue {
    ring: Ring,
    phase: bool,
    /// Entries that are reserved for commands in flight.
    reserved: u16,
    /// The interrupt vector, `None` if interrupts are disabled.
    pub(super) vector: Option<u16>,
}

impl CompletionQueue {
    /// An empty queue of `size` entries, 2 or more.
    pub(super) fn new(base: u64, size: u16, vector: Option<u16>) -> Self {
        Self { ring: Ring::new(base, size), phase: true, reserved: 0, vector }
    }

    /// Carries out a write to the head doorbell. Returns `false` if the value is out of range.
    pub(super) fn set_head(&mut self, value: u32) -> bool {
        let ring = &mut self.ring;
        let head = u16::try_from(value)
            .ok()
            .filter(|head| *head < ring.size)
            .filter(|head| ring.distance(ring.head, *head) <= ring.distance(ring.head, ring.tail));
        ring.head = head.unwrap_or(ring.head);
        head.is_some()
    }

    /// Reserves an entry. Returns `false` if none is free.
    pub(super) fn reserve(&mut self) -> bool {
        let used = self.ring.distance(self.ring.head, self.ring.tail) + self.reserved;
        let fits = used + 1 < self.ring.size;
        self.reserved += u16::from(fits);
        fits
    }

    /// Gives a reserved entry back.
    pub(super) fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Takes a reserved entry. Returns its address and phase tag.
    pub(super) fn take_slot(&mut self) -> (u64, bool) {
        self.release();
        let Ring { base, tail, .. } = self.ring;
        let slot = (base.wrapping_add(u64::from(tail) * COMPLETION_SIZE), self.phase);
        self.ring.tail = self.ring.next(tail);
        self.phase ^= self.ring.tail == 0;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doorbells_take_only_what_can_be() {
        let mut submission = SubmissionQueue::new(0, 4, 0);
        assert!(submission.set_tail(3));
        assert!(!submission.set_tail(4) && !submission.set_tail(0x1_0001));
        let fetched = std::iter::from_fn(|| {
            let at = submission.next()?;
            submission.advance();
            Some(at)
        });
        assert_eq!(fetched.collect::<Vec<_>>(), [0, 64, 128]);
        let mut completion = CompletionQueue::new(0, 4, None);
        assert!(!completion.set_head(1), "nothing has been completed");
        assert!(completion.reserve());
        completion.take_slot();
        assert!(!completion.set_head(2) && completion.set_head(1));
    }

    proptest! {
        /// Against a list of what the host has not taken yet.
        #[test]
        fn completions_never_overwrite_what_the_host_has_not_taken(
            size in 2_u16..9, steps in prop::collection::vec(0..3, 0..200),
        ) {
            let mut queue = CompletionQueue::new(0x1000, size, None);
            let (mut reserved, mut filled, mut head, mut turn) = (0, Vec::new(), 0_u16, 0_u64);
            for step in steps {
                match step {
                    0 => {
                        let fits = reserved + filled.len() + 1 < usize::from(size);
                        prop_assert_eq!(queue.reserve(), fits);
                        reserved += usize::from(fits);
                    }
                    1 if reserved > 0 => {
                        reserved -= 1;
                        let (at, phase) = queue.take_slot();
                        prop_assert!(!filled.contains(&at));
                        prop_assert_eq!(at, 0x1000 + turn % u64::from(size) * 16);
                        prop_assert_eq!(phase, (turn / u64::from(size)).is_multiple_of(2));
                        filled.push(at);
                        turn += 1;
                    }
                    2 if !filled.is_empty() => {
                        filled.remove(0);
                        head = (head + 1) % size;
                        prop_assert!(queue.set_head(head.into()));
                    }
                    _ => {}
                }
            }
        }
    }
}
