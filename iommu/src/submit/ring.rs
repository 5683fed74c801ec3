//! The driver's side of the ring: where the next descriptors go, and when a slot is free again.
//!
//! A slot is free after the unit has fetched it and no waiter needs it. As in Linux slots are taken
//! back oldest first: a waiter that never ends thus keeps all later slots in use.

use std::collections::VecDeque;

use vm_memory::{Bytes, GuestAddress};

use super::Ticket;
use crate::Memory;
use crate::ids::Gpa;

/// The slots of one submission.
#[derive(Debug, Clone, Copy)]
struct Span {
    ticket: Ticket,
    attempt: u32,
    slots: u32,
    released: bool,
}

/// A ring of 256 slots, as in Linux.
#[derive(Debug)]
pub(super) struct Ring {
    base: Gpa,
    /// Bytes of a slot: 16, or 32 in a ring of 256-bit descriptors.
    slot_bytes: u32,
    /// The next slot to write: IQT.
    tail: u32,
    spans: VecDeque<Span>,
    used: u32,
}

impl Ring {
    /// The number of slots.
    pub(super) const ENTRIES: u32 = 256;

    pub(super) fn new(base: Gpa, slot_bytes: u32) -> Self {
        Self { base, slot_bytes, tail: 0, spans: VecDeque::new(), used: 0 }
    }

    /// IQT in bytes, as in the register.
    pub(super) fn tail_bytes(&self) -> u32 {
        self.tail * self.slot_bytes
    }

    /// The slot that is `after` slots behind the tail.
    pub(super) fn slot(&self, after: u32) -> u32 {
        (self.tail + after) % Self::ENTRIES
    }

    /// Whether `slots` descriptors fit, of which there are less than [`Self::ENTRIES`]. One slot
    /// always stays free.
    pub(super) fn has_room(&self, slots: u32) -> bool {
        self.used + slots < Self::ENTRIES
    }

    /// Writes a submission. The unit does not see it before IQT is written.
    pub(super) fn push(
        &mut self,
        ticket: Ticket,
        attempt: u32,
        descriptors: &[u128],
        memory: &Memory,
    ) {
        for descriptor in descriptors {
            let address = self.base.0 + u64::from(self.tail_bytes());
            // The ring lies in the driver's own memory, so that the write cannot fail. The upper
            // half of a 256-bit slot stays zero.
            let _ = memory.write_obj(descriptor.to_le(), GuestAddress(address));
            self.tail = self.slot(1);
        }
        let slots = descriptors.len() as u32;
        self.used += slots;
        self.spans.push_back(Span { ticket, attempt, slots, released: false });
    }

    /// The waiter of this submission needs its slots no longer.
    pub(super) fn release(&mut self, ticket: Ticket, attempt: u32) {
        let mine = |span: &&mut Span| span.ticket == ticket && span.attempt == attempt;
        if let Some(span) = self.spans.iter_mut().find(mine) {
            span.released = true;
        }
    }

    /// Takes back slots, oldest first. The unit's head is at `head` bytes.
    pub(super) fn reclaim(&mut self, head: u32) {
        let unfetched = self.unfetched(head);
        while let Some(span) = self.spans.front() {
            if !span.released || self.used - span.slots < unfetched {
                break;
            }
            self.used -= span.slots;
            self.spans.pop_front();
        }
    }

    /// Whether the unit has fetched this submission. The unit's head is at `head` bytes.
    pub(super) fn is_fetched(&self, ticket: Ticket, attempt: u32, head: u32) -> bool {
        let mine = |span: &&Span| span.ticket == ticket && span.attempt == attempt;
        let behind: u32 =
            self.spans.iter().rev().take_while(|span| !mine(span)).map(|span| span.slots).sum();
        behind >= self.unfetched(head)
    }

    /// The slot of a head or tail in bytes.
    pub(super) fn slot_at(&self, bytes: u32) -> u32 {
        bytes / self.slot_bytes % Self::ENTRIES
    }

    fn unfetched(&self, head: u32) -> u32 {
        let head = self.slot_at(head);
        (self.tail + Self::ENTRIES - head) % Self::ENTRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No slot is overwritten that the unit has not fetched or that a waiter needs, in whatever
        /// order submissions end and the head moves.
        #[test]
        fn a_slot_in_use_is_never_overwritten(steps in proptest::collection::vec(0_u8..4, 1..800)) {
            let memory = Memory::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
            let mut ring = Ring::new(Gpa(0), 16);
            let mut head = 0;
            let mut owner = vec![None; Ring::ENTRIES as usize];
            let mut live = VecDeque::new();
            let mut next = 0;
            for step in steps {
                match step {
                    0 | 1 => {
                        ring.reclaim(head * 16);
                        if ring.has_room(2) {
                            let ticket = Ticket(next);
                            next += 1;
                            for slot in [ring.slot(0), ring.slot(1)] {
                                let previous: Option<u64> = owner[slot as usize].replace(ticket.0);
                                prop_assert!(previous.is_none_or(|old| !live.contains(&old)));
                            }
                            ring.push(ticket, 1, &[0, 0], &memory);
                            live.push_back(ticket.0);
                            prop_assert_ne!(ring.tail, head, "the ring looks empty");
                        }
                    }
                    2 => {
                        if head != ring.tail {
                            head = (head + 1) % Ring::ENTRIES;
                        }
                    }
                    _ => {
                        if let Some(ticket) = live.pop_front() {
                            ring.release(Ticket(ticket), 1);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_released_slot_waits_for_the_head_and_for_older_ones() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        let mut ring = Ring::new(Gpa(0), 16);
        ring.push(Ticket(0), 1, &[0, 0], &memory);
        ring.push(Ticket(1), 1, &[0, 0], &memory);
        ring.release(Ticket(1), 1);
        ring.reclaim(4 * 16);
        assert_eq!(ring.used, 4, "the older one is still in use");
        ring.release(Ticket(0), 1);
        ring.reclaim(2 * 16);
        assert_eq!(ring.used, 2, "the younger one is not fetched");
        ring.reclaim(4 * 16);
        assert_eq!(ring.used, 0);
    }
}
