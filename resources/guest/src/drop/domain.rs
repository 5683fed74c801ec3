//! The lock of a domain. Linux holds `domain->cache_lock` over the whole of an invalidation.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::SeqCst};

use crate::machine::{apic, cpu, interrupts};

/// More waiters than the machine has processors.
const WAITERS: usize = 8;

/// A ticket lock whose waiters sleep. The host may have fewer processors than the guest, and the
/// processors that hold locks are those that have to run. Taken with interrupts off.
pub struct DomainLock {
    next: AtomicU32,
    serving: AtomicU32,
    /// The APIC id of the waiter with each ticket.
    sleepers: [AtomicU8; WAITERS],
}

impl DomainLock {
    /// An open lock.
    pub const fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
            sleepers: [const { AtomicU8::new(0) }; WAITERS],
        }
    }

    /// Sleeps until it has its turn.
    pub fn lock(&self) -> Guard<'_> {
        let ticket = self.next.fetch_add(1, SeqCst);
        if self.serving.load(SeqCst) != ticket {
            // Either this sees the release, or the release sees this id.
            self.sleepers[ticket as usize % WAITERS].store(apic::id(), SeqCst);
            while self.serving.load(SeqCst) != ticket {
                cpu::sleep_until_interrupt();
            }
        }
        Guard(self)
    }
}

/// The lock is held while this lives.
pub struct Guard<'a>(&'a DomainLock);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let next = self.0.serving.fetch_add(1, SeqCst).wrapping_add(1);
        if self.0.next.load(SeqCst) != next {
            let sleeper = self.0.sleepers[next as usize % WAITERS].load(SeqCst);
            apic::send(sleeper, interrupts::WAKE);
        }
    }
}
