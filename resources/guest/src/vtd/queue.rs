//! The ring of the invalidation queue, and the owners of its slots.
//!
//! Each of the 256 slots has a state word. A batch takes consecutive slots, the last one for a wait
//! descriptor whose status write goes to the *state word of its own slot*: the unit itself turns
//! `IN_USE` into `DONE`. Slots return to the ring in order, when the oldest has been freed.

use core::sync::atomic::Ordering;

use crate::machine::memory::Pages;
use crate::machine::sync::SpinLock;
use crate::vtd::descriptor::Descriptor;
use crate::vtd::registers as reg;
use crate::vtd::submit::TimeoutPolicy;
use crate::vtd::unit::Unit;

/// Slots in the ring, in either width.
pub const SLOTS: usize = 256;

/// The slot is free.
pub const FREE: u64 = 0;
/// The slot was submitted, and is not known to be done.
pub const IN_USE: u64 = 1;
/// The unit has completed the slot: the status data of its wait descriptor.
pub const DONE: u64 = 2;
/// The unit had fetched the slot when an ITE came, and will never complete it.
pub const ABORT: u64 = 3;

/// Width of the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 128 bits, the form of legacy mode.
    Narrow,
    /// 256 bits, required in scalable mode.
    Wide,
}

impl Width {
    /// Bytes of a descriptor, as a power of two.
    pub fn shift(self) -> u32 {
        match self {
            Self::Narrow => 4,
            Self::Wide => 5,
        }
    }
}

/// An invalidation queue.
pub struct Queue {
    /// The flush that ends as timed out at an ITE.
    pub timeout_policy: TimeoutPolicy,
    pub(super) unit: Unit,
    pub(super) slots: SpinLock<Slots>,
    ring: Pages,
    states: Pages,
    width: Width,
}

/// The slots in use, guarded by the lock.
pub struct Slots {
    /// The next slot to hand out.
    pub(super) next: usize,
    /// The oldest slot in use.
    oldest: usize,
    /// Number of free slots.
    pub(super) free: usize,
}

/// The slots of one batch: its descriptors, then the wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    pub(super) descriptors: &'a [Descriptor],
    pub(super) first: usize,
    pub(super) wait: usize,
}

impl Queue {
    /// A queue for `unit`, which must be turned on by [`Unit::enable_queue`].
    pub fn new(unit: Unit, width: Width) -> Self {
        let pages = if width == Width::Wide { 2 } else { 1 };
        Self {
            timeout_policy: TimeoutPolicy::Finder,
            unit,
            slots: SpinLock::new(Slots { next: 0, oldest: 0, free: SLOTS }),
            ring: Pages::new(pages),
            states: Pages::one(),
            width,
        }
    }

    /// The value of IQA.
    pub fn address_register(&self) -> u64 {
        match self.width {
            Width::Narrow => self.ring.address(),
            Width::Wide => self.ring.address() | reg::IQA_WIDE | 1,
        }
    }

    /// Writes descriptors and their wait into free slots. The caller has checked that there are
    /// enough.
    pub(super) fn fill<'a>(&self, slots: &mut Slots, descriptors: &'a [Descriptor]) -> Batch<'a> {
        let first = slots.next;
        for (index, &descriptor) in descriptors.iter().enumerate() {
            self.put((first + index) % SLOTS, descriptor);
        }
        let wait = (first + descriptors.len()) % SLOTS;
        self.put(wait, self.wait_for(wait));
        slots.next = (wait + 1) % SLOTS;
        slots.free -= descriptors.len() + 1;
        Batch { descriptors, first, wait }
    }

    /// The wait descriptor that belongs in slot `slot`.
    pub(super) fn wait_for(&self, slot: usize) -> Descriptor {
        let word = self.states.address() + 8 * slot as u64;
        Descriptor::wait(word, DONE as u32)
    }

    /// Frees the slots of a batch. Slots return to the ring in order, so later ones that are free
    /// return, too.
    pub(super) fn release(&self, slots: &mut Slots, batch: Batch<'_>) {
        let mut slot = batch.first;
        loop {
            self.set_state(slot, FREE);
            if slot == batch.wait {
                break;
            }
            slot = (slot + 1) % SLOTS;
        }
        while slots.free < SLOTS && self.state(slots.oldest) == FREE {
            slots.oldest = (slots.oldest + 1) % SLOTS;
            slots.free += 1;
        }
    }

    /// Writes the queue's tail.
    pub(super) fn ring_doorbell(&self, slots: &Slots) {
        let tail = (slots.next as u32) << self.width.shift();
        self.unit.registers().write32(reg::IQT, tail);
    }

    /// The slot that the unit's head register points to.
    pub(super) fn head(&self) -> usize {
        self.slot_of(reg::IQH)
    }

    /// The slot that the tail register points to.
    pub(super) fn tail(&self) -> usize {
        self.slot_of(reg::IQT)
    }

    fn slot_of(&self, register: u64) -> usize {
        (self.unit.registers().read64(register) >> self.width.shift()) as usize % SLOTS
    }

    /// State of a slot.
    pub(super) fn state(&self, slot: usize) -> u64 {
        self.states.read(slot)
    }

    /// Changes `IN_USE` to `ABORT`; false in any other state. The unit may write `DONE` at the same
    /// time, which is never overwritten.
    pub(super) fn abort(&self, slot: usize) -> bool {
        let word = self.states.word(slot);
        if word.load(Ordering::Acquire) != IN_USE {
            return false;
        }
        word.compare_exchange(IN_USE, ABORT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether a slot holds a wait descriptor.
    pub(super) fn is_wait(&self, slot: usize) -> bool {
        Descriptor::is_wait(self.ring.read(slot * self.words()))
    }

    /// Replaces a descriptor that the unit refused.
    pub(super) fn replace(&self, slot: usize, descriptor: Descriptor) {
        self.write(slot, descriptor);
    }

    fn put(&self, slot: usize, descriptor: Descriptor) {
        self.set_state(slot, IN_USE);
        self.write(slot, descriptor);
    }

    fn set_state(&self, slot: usize, state: u64) {
        self.states.write(slot, state);
    }

    /// The upper half of a 256-bit descriptor stays 0, as in a fresh page.
    fn write(&self, slot: usize, descriptor: Descriptor) {
        let word = slot * self.words();
        self.ring.write(word, descriptor.low);
        self.ring.write(word + 1, descriptor.high);
    }

    fn words(&self) -> usize {
        (1 << self.width.shift()) / 8
    }
}
